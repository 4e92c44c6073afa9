//go:build race

package backup_test

// raceDetector takes several times the memory of what it watches.
const raceDetector = true
