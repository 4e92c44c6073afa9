package restore_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
)

var torture = flag.Int("torture", 120, "steps of TestTorture on each server")

// TestTorture changes a cluster in a thousand ways (with -torture 1000) and takes a backup at random moments, each
// building on others. Each restores to what was there at that moment, and its WAL to what is there at the end.
func TestTorture(t *testing.T) {
	t.Parallel()
	majors := pgtest.Some(13, 15, 17, 18)
	if *torture > 500 {
		majors = pgtest.Majors()
	}
	for _, major := range majors {
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(uint64(major), 1))
			conf := archiving()
			conf["max_prepared_transactions"] = "10"
			conf["wal_log_hints"] = []string{"on", "off"}[major%2]
			conf["autovacuum"] = "off"
			if major == 17 {
				conf["summarize_wal"] = "on"
			}
			c := pgtest.New(t, &pgtest.Options{Major: major, Conf: conf, NoChecksums: major%3 == 0})
			r := newRepo(t, major%2 == 0)
			tr := &torturer{t: t, c: c, random: random}
			tr.prepare()
			ways := waysOf(t, c, major)
			take := func(kind backup.Type) *backup.Manifest {
				way := ways[random.IntN(len(ways))]
				m, err := backup.Take(t.Context(), r, way.source, &backup.Options{Type: kind})
				require.NoError(t, err)
				if kind != backup.Full {
					require.Contains(t, []backup.Method{backup.ByIndex, backup.BySummary}, m.Method, m.Reason)
				}
				return m
			}
			take(backup.Full)
			taken := 0
			var last *backup.Manifest
			for step := range *torture {
				tr.step()
				if random.IntN(20) > 0 && step < *torture-1 {
					continue
				}
				last = take([]backup.Type{backup.Incremental, backup.Differential, backup.Auto}[random.IntN(3)])
				if taken++; taken%3 == 1 || step == *torture-1 { // restoring takes longer than all else
					want := pgtest.Checksums(t, c)
					b := tr.restored(r, restore.Immediate(), last.ID)
					require.Equal(t, want, pgtest.Checksums(t, b), "after step %d of %d", step, *torture)
					pgtest.Amcheck(t, b)
					b.Stop(t)
				}
			}
			// More, without another backup.
			for range 20 {
				tr.step()
			}
			tr.finish()
			want := pgtest.Checksums(t, c)
			pushAll(t, c, r)
			c.Stop(t)
			require.Equal(t, want, pgtest.Checksums(t, tr.restored(r, restore.Latest(), "")))
		})
	}
}

// torturer changes a cluster.
type torturer struct {
	t        *testing.T
	c        *pgtest.Cluster
	random   *rand.Rand
	space    string // directory of the tablespace
	prepared int
}

func (tr *torturer) prepare() {
	tr.space = pgtest.Dir(tr.t)
	tr.c.Exec(tr.t, `create tablespace aside location '`+tr.space+`'`)
	for n := range 6 {
		tr.create(n)
	}
	tr.c.Exec(tr.t, `create table never_touched as select i, md5(i::text) from generate_series(1, 20000) i`)
}

// restored restores a backup, and boots it.
func (tr *torturer) restored(r *repo.Repo, target restore.Target, id backup.ID) *pgtest.Cluster {
	return recovered(tr.t, r, target, &restore.PlanOptions{Backup: id}, &restore.Options{
		Tablespaces: map[string]string{"aside": filepath.Join(pgtest.Dir(tr.t), "aside")},
	}, nil)
}

// try executes statements, any of which may be refused: a relation is not there, or a database in use.
func (tr *torturer) try(sql ...string) {
	tr.t.Helper()
	conn := tr.c.Connect(tr.t)
	defer conn.Close(tr.t.Context())
	// What a prepared transaction has locked stays locked.
	for _, s := range append([]string{`set lock_timeout = '100ms'`}, sql...) {
		_, err := conn.Exec(tr.t.Context(), s)
		var refused *pgconn.PgError
		if err != nil {
			require.ErrorAs(tr.t, err, &refused, s)
			require.NotContains(tr.t, []string{"XX000", "XX001", "XX002", "42601"}, refused.Code, "%s: %v", s, err)
		}
	}
}

func (tr *torturer) create(n int) {
	logged := []string{"", "", "unlogged"}[tr.random.IntN(3)]
	tr.try(fmt.Sprintf(`create %s table t%d (id bigint primary key, n int, pad text)`, logged, n),
		fmt.Sprintf(`create index on t%d using %s (n)`, n, []string{"btree", "hash", "brin"}[tr.random.IntN(3)]),
		fmt.Sprintf(`insert into t%d select i, i %% 100, repeat(md5(i::text), 5) from generate_series(1, %d) i`, n, 1+tr.random.IntN(3000)))
}

// step is one of many changes.
func (tr *torturer) step() {
	n := tr.random.IntN(6)
	rows := 1 + tr.random.IntN(2000)
	table := fmt.Sprintf("t%d", n)
	f := fmt.Sprintf
	switch tr.random.IntN(24) {
	case 0, 1:
		tr.try(`drop table ` + table)
		tr.create(n)
	case 2:
		tr.try(`drop table ` + table)
	case 3:
		tr.create(n)
	case 4:
		tr.try(`truncate ` + table)
	case 5, 6, 7:
		tr.try(f(`update %s set pad = pad || 'x', n = n + 1 where id %% %d = 0`, table, 1+tr.random.IntN(300)))
	case 8: // it shrinks, and grows again
		tr.try(f(`delete from %s where id > %d`, table, rows), `vacuum `+table,
			f(`insert into %s select i, 1, 'again' from generate_series(%d, %d) i`, table, rows+1, rows+500))
	case 9:
		tr.try(f(`insert into %s select i, 1, repeat('n', 300) from generate_series(100000 + %d, 100000 + 2 * %d) i`, table, rows, rows))
	case 10:
		tr.try(`vacuum full ` + table)
	case 11:
		tr.try(f(`cluster %s using %s_pkey`, table, table))
	case 12:
		tr.try(`reindex table ` + table)
	case 13:
		tr.try(f(`alter table %s set tablespace %s`, table, []string{"aside", "pg_default"}[tr.random.IntN(2)]))
	case 14:
		tr.try(f(`alter table %s set %s`, table, []string{"logged", "unlogged"}[tr.random.IntN(2)]))
	case 15:
		strategy := ""
		if tr.c.Major >= 15 {
			strategy = []string{" strategy file_copy", " strategy wal_log"}[tr.random.IntN(2)]
		}
		tr.try(f(`create database d%d template template0%s`, n, strategy))
	case 16:
		tr.try(f(`drop database d%d`, n))
	case 17:
		tr.try(f(`alter database d%d set tablespace %s`, n, []string{"aside", "pg_default"}[tr.random.IntN(2)]))
	case 18:
		tr.prepared++
		tr.try(`begin`, f(`insert into %s select i, 1, 'prepared' from generate_series(-%d, -%d) i`, table, 10*tr.prepared+9, 10*tr.prepared),
			f(`prepare transaction 'p%d'`, tr.prepared))
	case 19:
		tr.finish()
	case 20: // in a transaction that is undone, with subtransactions
		tr.try(`begin`, f(`create table undone%d as select generate_series(1, 1000)`, n), `savepoint s`, f(`truncate %s`, table),
			`rollback to s`, f(`delete from %s where id %% 3 = 0`, table), `rollback`)
	case 21:
		tr.try(`vacuum (freeze) ` + table)
	case 22:
		tr.try(`checkpoint`)
	case 23:
		if tr.random.IntN(3) == 0 {
			tr.c.Kill9(tr.t)
			tr.c.Start(tr.t)
		}
	}
}

// finish ends the transactions that are prepared.
func (tr *torturer) finish() {
	for n := range tr.prepared {
		tr.try(fmt.Sprintf(`%s prepared 'p%d'`, []string{"commit", "rollback"}[tr.random.IntN(2)], n+1))
	}
}
