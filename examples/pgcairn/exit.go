package main

import (
	"errors"
	"slices"
	"strings"
)

// The exit codes. PostgreSQL takes any code of a restore_command up to 125 for "no such segment", and ends recovery.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitNoFetch = 200 // `wal fetch` failed, without an answer from the archive
)

// usageError is a wrong command line.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usage(text string) error { return &usageError{errors.New(text)} }

// missingError is the archive's answer that it does not hold a segment.
type missingError struct{ err error }

func (e *missingError) Error() string { return e.err.Error() }
func (e *missingError) Unwrap() error { return e.err }

// exits chooses exit codes.
type exits struct {
	fetch bool // the command is, or may be, `wal fetch`
}

// newExits guesses the command from arguments that have not been parsed, and may be wrong.
func newExits(args []string) *exits {
	wal := slices.Index(args, "wal")
	return &exits{fetch: wal >= 0 && slices.Contains(args[wal:], "fetch")}
}

// chose tells which command it was.
func (e *exits) chose(command string) { e.fetch = strings.HasPrefix(command, "wal fetch") }

func (e *exits) code(err error) int {
	var missing *missingError
	var wrong *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &missing):
		return exitFailed
	case e.fetch:
		return exitNoFetch
	case errors.As(err, &wrong):
		return exitUsage
	}
	return exitFailed
}
