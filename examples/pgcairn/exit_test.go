package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestExitCodes(t *testing.T) {
	failed := errors.New("x")
	wrong := fmt.Errorf("y: %w", usage("x"))
	missing := fmt.Errorf("y: %w", &missingError{failed})
	for _, e := range []struct {
		args []string
		err  error
		code int
	}{
		{[]string{"list"}, nil, 0},
		{[]string{"list"}, failed, 1},
		{[]string{"list"}, wrong, 2},
		{[]string{"wal", "push", "x"}, wrong, 2},
		{[]string{"wal", "fetch", "x", "y"}, nil, 0},
		{[]string{"wal", "fetch", "x", "y"}, missing, 1},
		{[]string{"wal", "fetch", "x", "y"}, failed, 200},
		{[]string{"wal", "fetch", "x", "y"}, wrong, 200},
		{[]string{"--json", "wal", "--repo", "x", "fetch"}, wrong, 200},
		{[]string{"fetch", "wal"}, wrong, 2},
	} {
		require.Equal(t, e.code, newExits(e.args).code(e.err), "%s %v", e.args, e.err)
	}

	// What the parser says counts more than the guess.
	e := newExits([]string{"wal", "push", "fetch"})
	e.chose("wal push <path>")
	require.Equal(t, 1, e.code(failed))
}
