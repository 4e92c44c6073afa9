//go:build !race

package main

// buildFlags build the program under test as the tests themselves are built.
var buildFlags []string
