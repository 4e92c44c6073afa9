//go:build race

package pgtest

// RaceDetector tells whether the tests were built with the race detector.
const RaceDetector = true
