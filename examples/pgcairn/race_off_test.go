//go:build !race

package main

// buildFlags build the program under test as the tests themselves are built.
var buildFlags []string

// programEnv is what each run of it needs for that.
var programEnv []string
