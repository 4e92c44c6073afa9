//go:build race

package wal_test

// raceDetector takes several times the memory of what it watches.
const raceDetector = true
