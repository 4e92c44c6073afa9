package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// TestWALSearch archives a real segment, with the recipient only, and finds what is in it, with the identity.
func TestWALSearch(t *testing.T) {
	content, err := os.ReadFile("../../wal/testdata/seed/records/pg18")
	require.NoError(t, err)
	header, err := wal.ReadHeader(bytes.NewReader(content))
	require.NoError(t, err)
	content = append(content, make([]byte, int(header.SegmentSize)-len(content))...)
	h := newHost(t)
	path := filepath.Join(pgtest.Dir(t), wal.SegmentAt(header.Timeline, header.Start, header.SegmentSize).Name())
	require.NoError(t, os.WriteFile(path, content, 0o644))
	h.writer().ok(t, "init")
	h.writer().ok(t, "wal", "push", path)

	search := func(args ...string) []any {
		return h.reader().json(t, append([]string{"wal", "search"}, args...)...)["events"].([]any)
	}
	all := search()
	require.NotEmpty(t, all)
	kinds := map[string]map[string]any{}
	last := wal.LSN(0)
	for _, e := range all {
		event := e.(map[string]any)
		at, err := wal.ParseLSN(event["lsn"].(string))
		require.NoError(t, err)
		require.GreaterOrEqual(t, at, last)
		last = at
		require.Contains(t, event, "end_lsn")
		require.InDelta(t, 1, event["timeline"], 0)
		kinds[event["kind"].(string)] = event
	}
	require.Len(t, kinds, 4)
	require.Equal(t, "before it all", kinds["restore-point"]["name"])
	require.NotZero(t, kinds["commit"]["xid"])
	at, err := time.Parse(time.RFC3339Nano, kinds["drop"]["time"].(string))
	require.NoError(t, err)
	relation := kinds["drop"]["relations"].([]any)[0].(map[string]any)
	require.Contains(t, relation, "database_oid")
	require.Contains(t, relation, "relfilenode")

	require.Len(t, search("--kind", "restore-point"), 1)
	require.Empty(t, search("--to", "2026-01-01 00:00:00+00"))
	require.NotEmpty(t, search("--from", at.Format(time.RFC3339Nano), "--to", at.Format(time.RFC3339Nano), "--kind", "drop", "--kind", "commit"))
	require.Contains(t, h.reader().ok(t, "wal", "search"), "before it all")

	// The list tells of when the WAL is to whoever can read it.
	ranges := func(as *host) map[string]any {
		timeline := as.json(t, "wal", "list")["timelines"].([]any)[0].(map[string]any)
		return timeline["ranges"].([]any)[0].(map[string]any)
	}
	first, err := time.Parse(time.RFC3339Nano, ranges(h.reader())["first_commit"].(string))
	require.NoError(t, err)
	require.False(t, first.After(at))
	require.NotContains(t, ranges(h.writer()), "first_commit")
	require.Contains(t, h.reader().ok(t, "wal", "list"), "commits from "+first.Format("2006-01-02T15:04"))

	h.reader().run(t, "wal", "search", "--kind", "checkpoint").requireFailure(t, 2, "--kind", "")
	h.reader().run(t, "wal", "search", "--from", "yesterday").requireFailure(t, 2, "yesterday", "")
	h.writer().run(t, "wal", "search").requireFailure(t, 1, h.recipient, "PGCAIRN_IDENTITY")
}
