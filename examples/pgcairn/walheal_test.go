package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A hole that is too old to be owed is told of, and brought when --max-age is raised.
func TestHealTellsOfOldHoles(t *testing.T) {
	h := newHost(t)
	second := filepath.Join(h.dir, "second")
	both := h.reader().with("PGCAIRN_REPOS="+h.repo+" "+second, "PGCAIRN_RECIPIENTS="+h.recipient)
	both.ok(t, "init")
	for n := uint64(1); n < 5; n++ {
		path := filepath.Join(h.dir, writeSegment(t, h.dir, n, 7))
		h.writer().ok(t, "wal", "push", path)
		if n == 1 || n == 4 {
			h.writer().ok(t, "wal", "push", "--repo", second, path)
		}
	}
	out := both.ok(t, "wal", "heal", "--max-age", "1ns")
	require.Contains(t, out, second+": 0 of 0 files brought\n"+second+": 2 segments after its first are lacking and older than --max-age")
	repos := both.json(t, "wal", "heal", "--max-age", "1ns")["repositories"].([]any)
	require.EqualValues(t, 0, repos[0].(map[string]any)["too_old"])
	require.EqualValues(t, 2, repos[1].(map[string]any)["too_old"])
	out = both.ok(t, "wal", "heal")
	require.Contains(t, out, second+": 2 of 2 files brought\n")
	require.NotContains(t, out, "lacking")
}
