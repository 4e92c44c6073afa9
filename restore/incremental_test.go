package restore_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// way is a source, and how it finds out what has changed.
type way struct {
	source backup.Source
	method backup.Method
}

// waysOf are all ways to back up a cluster.
func waysOf(t *testing.T, c *pgtest.Cluster, major int) []way {
	t.Helper()
	sql, err := backup.SQL(c.DSN("postgres"), nil)
	require.NoError(t, err)
	sent, err := backup.Replication(c.DSN("postgres"), nil)
	require.NoError(t, err)
	ways := []way{{sql, backup.ByIndex}}
	for _, s := range []backup.Source{source(t, c), sent} {
		ways = append(ways, way{s, backup.ByIndex}, way{s, backup.ByLSN}, way{s, backup.ByCompare})
		if major >= 17 {
			ways = append(ways, way{s, backup.BySummary})
		}
	}
	return ways
}

// TestIncrementals takes a full backup and, in every way, incrementals and differentials of a cluster that is changed
// in all kinds of ways between and during them. Each restores alone to what was there.
func TestIncrementals(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		conf := archiving()
		if major >= 17 {
			conf["summarize_wal"] = "on"
		}
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: conf, NoChecksums: major%2 == 0})
		r := newRepo(t, true)
		ways := waysOf(t, c, major)
		take := func(kind backup.Type, w way) *backup.Manifest {
			m, err := backup.Take(t.Context(), r, w.source, &backup.Options{Type: kind, Method: w.method})
			require.NoError(t, err)
			require.Zero(t, m.BadPages)
			return m
		}
		prepareChanges(t, c)
		full := take(backup.Full, way{source: ways[major%len(ways)].source})
		last := full
		for round, kind := range []backup.Type{backup.Incremental, backup.Differential, backup.Incremental} {
			load := pgtest.StartLoad(t, c, nil)
			change(t, c, round)
			for i, w := range ways {
				if (i+major)%3 != round { // each way once, in a round that is another one for the next major
					continue
				}
				last = take(kind, w)
				require.Equal(t, w.method, last.Method)
				if round == 0 && w.method == backup.ByIndex { // others also see hint bits that were set
					require.Less(t, last.StoredBytes, full.StoredBytes/2)
				}
				if (i+major/3)%2 == 0 {
					requireRecovers(t, r, last, major)
				}
			}
			load.Stop(t)
			// With nothing going on, what is restored is what was there.
			want := pgtest.Checksums(t, c)
			m := take(kind, way{source: source(t, c)})
			require.Equal(t, backup.ByIndex, m.Method, m.Reason)
			b := recovered(t, r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID}, nil, nil)
			require.Equal(t, want, pgtest.Checksums(t, b))
			requireVisible(t, b)
			pgtest.Amcheck(t, b)
			b.Stop(t)
			if major == pgtest.DistroMajor(t) {
				pgtest.PgChecksums(t, b.Data)
			}
		}
		require.NotEqual(t, full.ID, last.Parent)
		pushAll(t, c, r)
		require.Contains(t, droppedNames(t, r, 0), "public.added")
		want := pgtest.Checksums(t, c)
		c.Stop(t)
		b := recovered(t, r, restore.Latest(), nil, nil, nil)
		require.Equal(t, want, pgtest.Checksums(t, b))
	})
}

// droppedNames are the relations of a cluster that were dropped, by the names that backups know.
func droppedNames(t *testing.T, r *repo.Repo, systemID uint64) (all []string) {
	t.Helper()
	a, err := wal.NewArchive(r, &wal.Options{SystemID: systemID})
	require.NoError(t, err)
	namer, err := backup.NewNamer(t.Context(), r, &backup.NamerOptions{SystemID: systemID})
	require.NoError(t, err)
	for e, err := range a.Search(t.Context(), wal.Query{Kinds: []wal.EventKind{wal.EventDrop}}) {
		require.NoError(t, err)
		for _, dropped := range e.Relations {
			rel, ok, err := namer.Name(t.Context(), e.LSN, dropped)
			require.NoError(t, err)
			if ok {
				all = append(all, rel.Schema+"."+rel.Name)
			}
		}
	}
	return all
}

// requireRecovers restores a backup that was taken under load, and has the server look for damage.
func requireRecovers(t *testing.T, r *repo.Repo, m *backup.Manifest, major int) {
	t.Helper()
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID})
	require.NoError(t, err)
	dir := filepath.Join(pgtest.Dir(t), "data")
	_, err = p.Run(t.Context(), r, dir, nil)
	require.NoError(t, err)
	b := pgtest.Boot(t, dir, major, nil)
	requireVisible(t, b)
	pgtest.Amcheck(t, b)
	b.Stop(t)
}

// prepareChanges makes what change changes.
func prepareChanges(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t,
		`create table quiet as select i, repeat(md5(i::text), 30) as pad from generate_series(1, 30000) i`,
		`create table visible (id int primary key, pad text)`,
		`insert into visible select i, repeat('v', 500) from generate_series(1, 5000) i`,
		`create table shrinks as select i, repeat('s', 500) as pad from generate_series(1, 5000) i`,
		`create table clustered (id int primary key, pad text)`,
		`insert into clustered select i, md5(i::text) from generate_series(1, 5000) i`,
		`create unlogged table fleeting as select 1 as x`,
		`create database other`,
	)
	c.Exec(t, `vacuum`)
}

// change changes a cluster in a number of ways, other ones each round.
func change(t *testing.T, c *pgtest.Cluster, round int) {
	t.Helper()
	c.Exec(t, `update quiet set pad = pad || 'x' where i % 1000 = 0`)
	// Pages whose bits in the visibility map are cleared, which no record names a block for.
	c.Exec(t, `delete from visible where id % 200 = 7 + `+string(rune('0'+round)))
	switch round {
	case 0:
		c.Exec(t, `delete from shrinks where i > 100`, `vacuum shrinks`, `insert into shrinks select i, 'again' from generate_series(1, 20000) i`)
		c.Exec(t, `create database copied template other`)
		c.Exec(t, `create table added as select generate_series(1, 1000) as i`)
	case 1:
		c.Exec(t, `truncate shrinks`, `cluster clustered using clustered_pkey`, `vacuum full visible`, `alter table fleeting set logged`)
		c.Exec(t, `drop database other`)
		c.Exec(t, `create database other`)
	case 2:
		c.Exec(t, `drop table added`, `reindex table visible`, `create index on clustered (pad)`, `drop database copied`, `vacuum (freeze) quiet`)
	}
	c.Exec(t, `checkpoint`)
}

// requireVisible demands that index-only scans, which believe the visibility map, see what the tables have.
func requireVisible(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	conn := c.Connect(t)
	count := func(settings ...string) (n int64) {
		for _, s := range settings {
			_, err := conn.Exec(t.Context(), s)
			require.NoError(t, err)
		}
		require.NoError(t, conn.QueryRow(t.Context(), `select count(*) from visible where id > 0`).Scan(&n))
		return n
	}
	scanned := count(`set enable_indexonlyscan = off`, `set enable_indexscan = off`, `set enable_bitmapscan = off`)
	require.Equal(t, scanned, count(`reset all`, `set enable_seqscan = off`, `set enable_bitmapscan = off`))
}

// lying is a cluster whose server says that nothing has changed.
type lying struct{ backup.Source }

func (l lying) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	s, err := l.Source.Begin(ctx, o)
	if err != nil {
		return nil, err
	}
	return lyingSession{s, s.(backup.Lister)}, nil
}

type lyingSession struct {
	backup.Session
	backup.Lister
}

// Summaries implements backup.Summarizer.
func (lyingSession) Summaries(context.Context, wal.Timeline, wal.LSN, wal.LSN) (*wal.Blocks, error) {
	return &wal.Blocks{}, nil
}

// TestWrongChangesShow makes sure that what TestIncrementals and TestTorture compare would tell of a block that was left
// out.
func TestWrongChangesShow(t *testing.T) {
	t.Parallel()
	conf := archiving()
	conf["autovacuum"] = "off"
	c := pgtest.New(t, &pgtest.Options{Conf: conf})
	c.Exec(t, `create table plain as select i, 'old' as pad from generate_series(1, 10000) i`, `vacuum (freeze) plain`, `checkpoint`)
	r := newRepo(t, false)
	_, err := backup.Take(t.Context(), r, source(t, c), nil)
	require.NoError(t, err)
	c.Exec(t, `delete from plain where i = 5000`)
	want := pgtest.Checksums(t, c)
	for _, s := range []backup.Source{source(t, c), lying{source(t, c)}} {
		o := &backup.Options{Type: backup.Incremental}
		_, wrong := s.(lying)
		if wrong {
			o.Method = backup.BySummary
		}
		m, err := backup.Take(t.Context(), r, s, o)
		require.NoError(t, err)
		b := recovered(t, r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID}, nil, nil)
		if got := pgtest.Checksums(t, b); wrong {
			require.NotEqual(t, want, got)
		} else {
			require.Equal(t, want, got)
		}
		if !wrong {
			_, err = backup.Take(t.Context(), r, source(t, c), nil) // for the next to build on
			require.NoError(t, err)
			c.Exec(t, `delete from plain where i = 2`)
			want = pgtest.Checksums(t, c)
		}
		b.Stop(t)
	}
}
