//go:build race

package main

// buildFlags build the program under test as the tests themselves are built.
var buildFlags = []string{"-race"}

// programEnv spares each run the second that the race detector sleeps at its end.
var programEnv = []string{"GORACE=atexit_sleep_ms=0"}
