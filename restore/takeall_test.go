package restore_test

import (
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// Two repositories are fed by one reading of a server, which goes on writing: a full backup, and two incremental ones with
// another in between that only one of them has. Each recovers to what the server has come to.
func TestTakeAll(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"directory", "sql"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			conf := archiving()
			conf["shared_preload_libraries"] = "pg_stat_statements"
			c := pgtest.New(t, &pgtest.Options{Major: pgtest.DistroMajor(t), Conf: conf})
			c.Exec(t, `create extension pg_stat_statements`)
			queries := func() int64 {
				return pgtest.Value[int64](t, c, `select coalesce(sum(calls), 0)::bigint from pg_stat_statements where query like '%pg_read_binary_file%'`)
			}
			s, err := backup.SQL(c.DSN("postgres"), nil)
			require.NoError(t, err)
			if how == "directory" {
				s = source(t, c)
			}
			repos := []*repo.Repo{newRepo(t, true), newRepo(t, false)}
			load := pgtest.StartLoad(t, c, nil)
			take := func(typ backup.Type, into ...*repo.Repo) int64 {
				begun := queries()
				taken, err := backup.TakeAll(t.Context(), into, s, &backup.AllOptions{Options: backup.Options{Type: typ}})
				require.NoError(t, err)
				for _, b := range taken {
					require.Equal(t, typ, b.Manifest.Type)
					require.Zero(t, b.Manifest.BadPages)
				}
				for _, r := range repos {
					pushAll(t, c, r)
				}
				return queries() - begun
			}
			once, twice := take(backup.Full, repos[0]), take(backup.Full, repos...)
			t.Logf("queries of a full backup into one repository: %d, into two: %d", once, twice)
			require.LessOrEqual(t, twice, once*5/4, "a second repository takes queries for the WAL that it needs, and next to none for files")
			t.Logf("queries of an incremental one into two: %d", take(backup.Incremental, repos...))
			t.Logf("into one: %d", take(backup.Incremental, repos[1]))
			take(backup.Incremental, repos...)
			require.Positive(t, load.Stop(t).Transactions)
			want := pgtest.Checksums(t, c)
			for _, r := range repos {
				pushAll(t, c, r)
			}
			c.Stop(t)
			for _, r := range repos {
				b := recovered(t, r, restore.Latest(), nil, nil, nil)
				require.Equal(t, want, pgtest.Checksums(t, b))
				pgtest.Amcheck(t, b)
				b.Stop(t)
				pgtest.PgChecksums(t, b.Data)
			}
		})
	}
}
