// Package house holds the tests of the rules of the house: which package may import which, and what library code never
// does. The linter states the same rules in .golangci.yml; a test here shows that it fails when one is broken.
package house
