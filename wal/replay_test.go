package wal_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
)

var replays = flag.Int("replays", 30, "targets of TestReplayOfARealArchive on each timeline")

// told is what of a record matters to a recovery.
type told struct {
	lsn, end wal.LSN
	point    string
	outcome  wal.Outcome
	xid      uint32
	time     time.Time // zero: no transaction ends
}

// recordsOf reads all records of a way, one after the other.
func recordsOf(t *testing.T, a *wal.Archive, way []wal.Range) []told {
	t.Helper()
	var readers []io.Reader
	for _, r := range way {
		for s := r.First; s.Number <= r.Last.Number; s = s.Next() {
			readers = append(readers, bytes.NewReader(read(t, a, s.Name())))
		}
	}
	var all []told
	for r, err := range wal.Records(io.MultiReader(readers...), nil) {
		if errors.Is(err, wal.ErrEndOfWAL) {
			break
		}
		require.NoError(t, err)
		x := told{lsn: r.LSN, end: r.End}
		p, err := r.Payload()
		require.NoError(t, err)
		switch p := p.(type) {
		case *wal.RestorePoint:
			x.point = p.Name
		case *wal.Transaction:
			if p.Outcome != wal.Prepared {
				x.outcome, x.xid, x.time = p.Outcome, p.XID, p.Time
			}
		}
		all = append(all, x)
	}
	return all
}

// replayOf is what PostgreSQL does with records, told in the simplest way.
func replayOf(all []told, from wal.LSN, u wal.Until) (reached bool, to wal.LSN, last, next uint32) {
	to = from
	for _, x := range all {
		ends := !x.time.IsZero()
		commit := ends && x.outcome == wal.Committed
		switch {
		case x.lsn < from:
			continue
		case reached:
			if commit {
				return reached, to, last, x.xid
			}
			continue
		}
		stop := u.XID != 0 && ends && x.xid == u.XID || u.LSN != 0 && x.lsn >= u.LSN
		if u.Exclusive && stop || ends && !u.Time.IsZero() && (x.time.After(u.Time) || u.Exclusive && x.time.Equal(u.Time)) {
			reached, to = true, x.lsn
			if commit {
				return reached, to, last, x.xid
			}
			continue
		}
		if commit {
			last = x.xid
		}
		to = x.end
		reached = stop || u.Name != "" && x.point == u.Name || u.Consistent != 0 && x.end >= u.Consistent
	}
	return reached || u == wal.Until{}, to, last, 0
}

// targetsOf are targets of every kind, at records and beside them.
func targetsOf(rng *rand.Rand, all []told, n int) []wal.Until {
	targets := []wal.Until{{}, {Name: "nothing of that name"}, {XID: 2_000_000_000}, {LSN: all[len(all)-1].lsn + 1}, {Time: time.Now().Add(time.Hour)}}
	for range n {
		x := all[rng.IntN(len(all))]
		u := wal.Until{Exclusive: rng.IntN(2) == 0}
		switch kind := rng.IntN(6); {
		case kind == 0:
			u.LSN = x.lsn + wal.LSN(rng.IntN(3)) - 1
		case kind == 1:
			u.Consistent, u.Exclusive = x.end, false
		case x.point != "":
			u.Name, u.Exclusive = x.point, false
		case !x.time.IsZero() && kind < 4:
			u.XID = x.xid
		case !x.time.IsZero():
			u.Time = x.time.Add(time.Duration(rng.IntN(3)-1) * time.Microsecond)
		default:
			u.LSN = x.lsn
		}
		targets = append(targets, u)
	}
	for _, x := range all {
		if x.point != "" {
			targets = append(targets, wal.Until{Name: x.point})
		}
	}
	return targets
}

// requireReplays compares what the indexes tell with what all records do.
func requireReplays(t *testing.T, a *wal.Archive, tl wal.Timeline, n int) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a fixed seed
	c, err := a.Coverage(t.Context())
	require.NoError(t, err)
	way, ok := c.Way(tl)
	require.True(t, ok)
	all := recordsOf(t, a, way)
	require.NotEmpty(t, all)
	for _, u := range targetsOf(rng, all, n) {
		from := all[0].lsn
		if rng.IntN(2) == 0 {
			from = all[rng.IntN(len(all))].lsn
		}
		rest := slices.Clone(way)
		for len(rest) > 1 && rest[0].Last.End() <= from {
			rest = rest[1:]
		}
		if first := wal.SegmentAt(rest[0].First.Timeline, from, rest[0].First.Size); first.Number > rest[0].First.Number {
			rest[0].First = first
		}
		got, err := a.Replay(t.Context(), c, rest, from, u)
		require.NoError(t, err)
		reached, to, last, next := replayOf(all, from, u)
		require.Equal(t, reached, got.Reached, "%+v from %s", u, from)
		require.Equal(t, to, got.To, "%+v from %s", u, from)
		require.GreaterOrEqual(t, got.Read, got.To)
		requireCommit(t, last, got.Last, "last of %+v from %s", u, from)
		requireCommit(t, next, got.Next, "next of %+v from %s", u, from)
		require.NoError(t, got.Broken)
		commits, events, err := a.Following(t.Context(), c, way, to)
		require.NoError(t, err)
		want, points := 0, 0
		for _, x := range all {
			if x.lsn < to {
				continue
			}
			if !x.time.IsZero() && x.outcome == wal.Committed {
				want++
			}
			if x.point != "" {
				points++
			}
		}
		require.Equal(t, want, commits.Count, "after %s", to)
		for _, e := range events {
			require.GreaterOrEqual(t, e.LSN, to)
			if e.Kind == wal.EventRestorePoint {
				points--
			}
		}
		require.Zero(t, points, "after %s", to)
		if u.XID == 0 && u.Name == "" {
			continue
		}
		var lsnsOf []wal.LSN
		for _, x := range all {
			if !x.time.IsZero() && u.XID != 0 && x.xid == u.XID || u.Name != "" && x.point == u.Name {
				lsnsOf = append(lsnsOf, x.lsn)
			}
		}
		matches, err := a.Matches(t.Context(), c, way, u)
		require.NoError(t, err)
		var lsns []wal.LSN
		for _, e := range matches {
			lsns = append(lsns, e.LSN)
		}
		require.Equal(t, lsnsOf, lsns, "%+v", u)
	}
}

func requireCommit(t *testing.T, want uint32, got *wal.Event, format string, args ...any) {
	t.Helper()
	if want == 0 {
		require.Nil(t, got, append([]any{format}, args...)...)
		return
	}
	require.NotNil(t, got, append([]any{format}, args...)...)
	require.Equal(t, want, got.XID, append([]any{format}, args...)...)
	require.Equal(t, wal.EventCommit, got.Kind)
}

// TestReplayOfARealArchive: on three timelines, with transactions of every kind, and the last segment held in part.
func TestReplayOfARealArchive(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, pgtest.Newest()} {
		archived := pgtest.Dir(t)
		c := pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: wal.MinSegmentSize, Conf: map[string]string{
			"archive_mode": "on", "archive_command": "cp %p " + archived + "/%f", "autovacuum": "off", "wal_init_zero": "off",
			"max_prepared_transactions": "5",
		}})
		c.Exec(t, "CREATE TABLE t (x int)")
		work := func(n int) {
			conn := c.Connect(t)
			for i := range n {
				end := "COMMIT"
				if i%5 == 0 {
					end = "ROLLBACK"
				}
				for _, sql := range []string{"BEGIN", "INSERT INTO t SELECT generate_series(1, 200)", end} {
					_, err := conn.Exec(t.Context(), sql)
					require.NoError(t, err)
				}
				if i%20 == 0 {
					for _, sql := range []string{
						"BEGIN", "INSERT INTO t VALUES (1)", "PREPARE TRANSACTION 'p'", end + " PREPARED 'p'",
						"SELECT pg_create_restore_point('point')", "SELECT pg_logical_emit_message(false, 'p', repeat('long ', 50000))",
					} {
						_, err := conn.Exec(t.Context(), sql)
						require.NoError(t, err)
					}
				}
			}
			require.NoError(t, conn.Close(t.Context()))
		}
		work(200)
		c.Exec(t, "SELECT pg_create_restore_point('once')", "SELECT pg_switch_wal()", "SELECT pg_create_restore_point('point')")
		promote(t, c)
		work(100)
		promote(t, c)
		work(100)
		c.Exec(t, "SELECT pg_switch_wal()")
		work(3)
		c.Stop(t)

		a := openArchive(t, repotest.Mem(nil), nil)
		files, err := filepath.Glob(filepath.Join(archived, "*"))
		require.NoError(t, err)
		slices.SortFunc(files, func(x, y string) int { return strings.Compare(filepath.Base(x), filepath.Base(y)) })
		for _, f := range files {
			if _, err := wal.ParseName(filepath.Base(f)); err == nil {
				require.NoError(t, a.Push(t.Context(), f))
			}
		}
		cov, err := a.Coverage(t.Context())
		require.NoError(t, err)
		require.Len(t, cov.Timelines, 3)
		for _, tl := range cov.Timelines {
			requireReplays(t, a, tl.Timeline, *replays)
		}
	}
}

// TestReplayByOldIndexes: an index that does not tell which transactions ended rules nothing out.
func TestReplayByOldIndexes(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: map[string]string{"wal_keep_size": "1GB"}})
	c.Exec(t, "CREATE TABLE t (x int)", "SELECT pg_switch_wal()")
	content := liveWAL(t, c)
	for _, ix := range indexAll(t, content) {
		for _, u := range []wal.Until{{XID: 1}, {Time: time.Now().Add(time.Hour)}} {
			require.False(t, wal.MayEnd(u, ix))
			b, err := wal.WithoutEnds(ix).MarshalBinary()
			require.NoError(t, err)
			require.NotContains(t, string(b), "ends")
			var old wal.Index
			require.NoError(t, old.UnmarshalBinary(b))
			require.True(t, wal.MayEnd(u, &old), "it has to be looked at")
		}
	}
}

// TestReplayOfDamage: where records cannot be read although there is more WAL, recovery would end without a word.
func TestReplayOfDamage(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{SegmentSize: wal.MinSegmentSize, Conf: map[string]string{"wal_keep_size": "1GB", "autovacuum": "off"}})
	c.Exec(t, "CREATE TABLE t (x int)")
	for range 60 {
		c.Exec(t, "INSERT INTO t SELECT generate_series(1, 1000)")
	}
	c.Exec(t, "SELECT pg_switch_wal()")
	content := liveWAL(t, c)
	c.Stop(t)
	h, err := wal.ReadHeader(bytes.NewReader(content))
	require.NoError(t, err)
	segments := len(content) / wal.MinSegmentSize
	require.Greater(t, segments, 3)
	at := wal.MinSegmentSize*2 + wal.MinSegmentSize/2
	content[at] ^= 1
	a := openArchive(t, repotest.Mem(nil), nil)
	dir := pgtest.Dir(t)
	first := wal.SegmentAt(h.Timeline, h.Start, h.SegmentSize)
	for i, s := 0, first; i < segments; i, s = i+1, s.Next() {
		require.NoError(t, a.Push(t.Context(), place(t, dir, s.Name(), content[i*wal.MinSegmentSize:][:wal.MinSegmentSize])))
	}
	cov, err := a.Coverage(t.Context())
	require.NoError(t, err)
	way, ok := cov.Way(1)
	require.True(t, ok)
	for _, u := range []wal.Until{{}, {Time: time.Now().Add(time.Hour)}, {LSN: h.Start + wal.LSN(len(content)) - 100}} {
		got, err := a.Replay(t.Context(), cov, way, h.Start, u)
		require.NoError(t, err)
		require.False(t, got.Reached)
		var broken *wal.RecordError
		require.ErrorAs(t, got.Broken, &broken)
		require.InDelta(t, float64(broken.LSN), float64(got.To), 8) // one of them is aligned
		require.InDelta(t, float64(h.Start)+float64(at), float64(got.To), 8192)
		require.NotNil(t, got.Last)
		require.Less(t, got.Last.LSN, got.To)
	}
	got, err := a.Replay(t.Context(), cov, way, h.Start, wal.Until{LSN: h.Start + wal.MinSegmentSize})
	require.NoError(t, err)
	require.True(t, got.Reached, "it ends before the damage")
}
