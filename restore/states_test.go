package restore_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

var states = flag.Int("states", 8, "targets of TestStates that are recovered on each server")

// commit is a state that a cluster once had.
type commit struct {
	n    int // the number that it adds to the table of that name
	xid  uint32
	time time.Time
	lsn  wal.LSN // of its record
	end  wal.LSN
}

// history is what a cluster did, commit by commit, as the server tells.
type history struct {
	cluster *pgtest.Cluster
	repo    *repo.Repo
	commits []commit
	aborted []uint32       // what ended between commits: the transaction that did so after the commit of that index
	after   []int          // index in commits
	points  map[string]int // restore points, by the commit before them
	backups []*backup.Manifest
	taken   []int // how many commits there were when each was begun
}

// newHistory has a server commit n times, among aborts, prepared and long transactions, switches and backups.
func newHistory(t *testing.T, major, n int) *history {
	t.Helper()
	conf := archiving()
	conf["max_prepared_transactions"], conf["track_commit_timestamp"] = "5", "on"
	h := &history{
		cluster: pgtest.New(t, &pgtest.Options{Major: major, SegmentSize: wal.MinSegmentSize, Conf: conf}), repo: newRepo(t, false), points: map[string]int{},
	}
	h.cluster.Exec(t, `create table numbers (n int)`)
	rng := rand.New(rand.NewPCG(7, uint64(major))) //nolint:gosec // a fixed seed
	conn := h.cluster.Connect(t)
	var long pgx.Tx // begun early, ended late
	var longXID uint32
	var xid uint32
	begin := func(ctx context.Context) pgx.Tx {
		tx, err := h.cluster.Connect(t).Begin(ctx)
		require.NoError(t, err)
		return tx
	}
	endLong := func() {
		require.NoError(t, long.Commit(t.Context()))
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), `select max(n) from numbers`).Scan(&n))
		h.commits = append(h.commits, commit{n: n, xid: longXID})
		long = nil
	}
	for i := range n {
		ctx := t.Context()
		if i == n/10 || i == n/3 || i == n*2/3 {
			h.taken = append(h.taken, len(h.commits))
			m, err := backup.Take(ctx, h.repo, source(t, h.cluster), nil)
			require.NoError(t, err)
			h.backups = append(h.backups, m)
		}
		add := func(q interface {
			QueryRow(context.Context, string, ...any) pgx.Row
		}, n int,
		) uint32 {
			var x string
			require.NoError(t, q.QueryRow(ctx, `insert into numbers values ($1) returning (txid_current() % 4294967296)::text`, n).Scan(&x))
			v, err := strconv.ParseUint(x, 10, 32)
			require.NoError(t, err)
			return uint32(v)
		}
		switch kind := rng.IntN(12); {
		case kind == 0:
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			h.aborted, h.after = append(h.aborted, add(tx, -i)), append(h.after, len(h.commits)-1)
			require.NoError(t, tx.Rollback(ctx))
		case kind == 1:
			name := "p" + strconv.Itoa(i)
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			xid = add(tx, i)
			_, err = tx.Exec(ctx, `prepare transaction '`+name+`'`)
			require.NoError(t, err)
			_, err = conn.Exec(ctx, `commit prepared '`+name+`'`)
			require.NoError(t, err)
			h.commits = append(h.commits, commit{n: i, xid: xid})
			continue
		case kind == 2 && long == nil:
			long = begin(ctx)
			longXID = add(long, 1000+i)
		case kind == 3 && long != nil:
			endLong()
		case kind == 4:
			name := "point " + strconv.Itoa(i)
			h.cluster.Exec(t, `select pg_create_restore_point('`+name+`')`)
			h.points[name] = len(h.commits)
		case kind == 5 && i%3 == 0:
			h.cluster.Exec(t, `select pg_switch_wal()`, `checkpoint`)
		case kind == 6:
			h.cluster.Exec(t, `select pg_logical_emit_message(false, 'long', repeat('x', 100000))`)
		}
		xid = add(conn, i)
		h.commits = append(h.commits, commit{n: i, xid: xid})
	}
	if long != nil { // else an abort would be what a time after the last commit ends at
		endLong()
	}
	for i := range h.commits {
		c := &h.commits[i]
		require.NoError(t, conn.QueryRow(t.Context(), `select pg_xact_commit_timestamp($1::text::xid)`, strconv.Itoa(int(c.xid))).Scan(&c.time))
	}
	pushAll(t, h.cluster, h.repo)
	h.cluster.Stop(t)
	a, err := wal.NewArchive(h.repo, nil)
	require.NoError(t, err)
	at := map[uint32]wal.Event{}
	for e, err := range a.Search(t.Context(), wal.Query{Kinds: []wal.EventKind{wal.EventCommit}}) {
		require.NoError(t, err)
		at[e.XID] = e
	}
	for i := range h.commits {
		c := &h.commits[i]
		c.lsn, c.end = at[c.xid].LSN, at[c.xid].End
		require.NotZero(t, c.lsn)
	}
	require.True(t, slices.IsSortedFunc(h.commits, func(a, b commit) int { return int(int64(a.lsn) - int64(b.lsn)) }))
	return h
}

// aim is a target, and how many commits are in when recovery has got there.
type aim struct {
	target  restore.Target
	options restore.PlanOptions
	in      int
}

// aims are targets of every kind, one of each for every commit that they can be at.
func (h *history) aims(t *testing.T) []aim {
	t.Helper()
	first := h.taken[0] + 1 // commits that may be told from what was before the first backup
	var all []aim
	for i, c := range h.commits[first:] {
		k := first + i
		all = append(all,
			aim{target: restore.AtXID(uint64(c.xid)), in: k + 1},
			aim{target: restore.AtXID(1<<32 + uint64(c.xid)).Before(), in: k},
			aim{target: restore.AtLSN(c.lsn), in: k + 1},
			aim{target: restore.AtLSN(c.lsn).Before(), in: k},
			aim{target: restore.AtTime(c.time.Add(-time.Microsecond)), in: k},
			aim{target: restore.AtTime(c.time).Before(), in: k},
		)
		if k+1 < len(h.commits) {
			all = append(all, aim{target: restore.AtTime(c.time), in: k + 1}, aim{target: restore.AtTime(c.time.Add(time.Microsecond)).Before(), in: k + 1})
		}
	}
	for i, xid := range h.aborted {
		if h.after[i] >= first {
			all = append(all, aim{target: restore.AtXID(uint64(xid)), in: h.after[i] + 1}, aim{target: restore.AtXID(uint64(xid)).Before(), in: h.after[i] + 1})
		}
	}
	for name, k := range h.points {
		if k > first {
			all = append(all, aim{target: restore.AtName(name), in: k})
		}
	}
	for i, b := range h.backups {
		all = append(all, aim{target: restore.Immediate(), options: restore.PlanOptions{Backup: b.ID}, in: h.taken[i]},
			aim{target: restore.Latest(), options: restore.PlanOptions{Backup: b.ID}, in: len(h.commits)})
	}
	slices.SortFunc(all, func(a, b aim) int { return int(int64(a.in) - int64(b.in)) }) // maps have no order
	return all
}

// requireNeighbours requires that a plan names the commits on both sides of its end.
func (h *history) requireNeighbours(t *testing.T, p *restore.Plan, a aim) {
	t.Helper()
	switch {
	case a.in > 0 && h.commits[a.in-1].lsn >= p.Backup.StartLSN:
		require.NotNil(t, p.LastCommit, "%s", p.Target)
		require.Equal(t, h.commits[a.in-1].xid, p.LastCommit.XID, "%s", p.Target)
		require.True(t, h.commits[a.in-1].time.Equal(p.LastCommit.Time))
	default:
		require.Nil(t, p.LastCommit, "%s", p.Target)
	}
	if a.in == len(h.commits) {
		require.Nil(t, p.NextCommit, "%s", p.Target)
		return
	}
	require.NotNil(t, p.NextCommit, "%s", p.Target)
	require.Equal(t, h.commits[a.in].xid, p.NextCommit.XID, "%s", p.Target)
	require.Equal(t, h.commits[a.in].lsn, p.NextCommit.LSN)
}

// numbers are those that a cluster is to have after some commits.
func (h *history) numbers(in int) []int32 {
	out := []int32{}
	for _, c := range h.commits[:in] {
		out = append(out, int32(c.n))
	}
	slices.Sort(out)
	return out
}

// TestStates: whatever the target, the plan names the last commit that will be in and the first that will not, and so it
// is; and where the plan says that a target cannot be reached, PostgreSQL does not get there.
func TestStates(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		h := newHistory(t, major, 300)
		all := h.aims(t)
		rng := rand.New(rand.NewPCG(1, uint64(major))) //nolint:gosec // a fixed seed
		for _, i := range rng.Perm(len(all))[:min(len(all), 400)] {
			o := all[i].options
			o.Undone = i%20 == 0
			p, err := restore.Prepare(t.Context(), h.repo, all[i].target, &o)
			require.NoError(t, err, "%s", all[i].target)
			require.Empty(t, p.Warnings)
			h.requireNeighbours(t, p, all[i])
			if o.Undone {
				require.Equal(t, len(h.commits)-all[i].in, p.Undone.Commits.Count, "%s", all[i].target)
				require.Empty(t, p.Undone.Events)
			}
		}
		const numbers = `select coalesce(array_agg(n order by n), '{}') from numbers`
		kinds := map[restore.Kind]int{}
		for _, i := range rng.Perm(len(all)) {
			a := all[i]
			if k := a.target.Kind; kinds[k] >= max(1, *states/6) && k != restore.KindTime || kinds[k] >= *states/2 {
				continue
			}
			kinds[a.target.Kind]++
			b := recovered(t, h.repo, a.target, &a.options, nil, nil)
			require.Equal(t, h.numbers(a.in), pgtest.Value[[]int32](t, b, numbers), "%s", a.target)
			b.StopImmediate(t)
		}
		require.Len(t, kinds, 6)

		if major != pgtest.Majors()[0] && major != pgtest.Newest() && !*soak {
			return
		}
		// PostgreSQL is the witness.
		last := h.commits[len(h.commits)-1]
		early := h.commits[h.taken[0]-2]
		oldest := restore.PlanOptions{Backup: h.backups[0].ID}
		for i, a := range []aim{
			{target: restore.AtTime(last.time)},
			{target: restore.AtTime(last.time.Add(time.Hour))},
			{target: restore.AtXID(uint64(last.xid) + 1000)},
			{target: restore.AtName("nothing of that name")},
			{target: restore.AtLSN(last.end + 1<<20)},
			{target: restore.AtXID(uint64(early.xid)), options: oldest},
			{target: restore.AtLSN(early.lsn), options: oldest},
			{target: restore.AtTime(early.time), options: oldest, in: h.taken[0] - 1},
			{target: restore.AtLSN(h.backups[0].StopLSN - 40).Before(), options: oldest},
		} {
			_, err := restore.Prepare(t.Context(), h.repo, a.target, &a.options)
			var unreachable *restore.UnreachableError
			require.ErrorAs(t, err, &unreachable, "%s", a.target)
			if i < 2 {
				require.Equal(t, restore.Latest(), *unreachable.Instead)
				require.True(t, last.time.Equal(unreachable.Before.Time))
				require.Contains(t, unreachable.Reason, fmt.Sprintf("its last commit is transaction %d", last.xid))
			}
			p, err := restore.Prepare(t.Context(), h.repo, restore.Latest(), &oldest)
			require.NoError(t, err)
			p.Target = a.target // as if it could be reached
			dir := filepath.Join(pgtest.Dir(t), "data")
			_, err = p.Run(t.Context(), h.repo, dir, nil)
			require.NoError(t, err)
			b, err := pgtest.TryBoot(t, dir, major, nil)
			if a.in > 0 {
				require.NoError(t, err, "it stops elsewhere")
				require.NotEqual(t, h.numbers(a.in), pgtest.Value[[]int32](t, b, numbers), "%s", a.target)
				continue
			}
			require.Error(t, err, "%s", a.target)
			require.Regexp(t, "recovery ended before configured recovery target was reached|before consistent recovery point", err.Error(), "%s", a.target)
		}
	})
}
