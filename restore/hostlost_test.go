package restore_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
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

// slack is how long a request to the store may take on a busy machine.
const slack = 2 * time.Second

// TestHostLost kills a server under load with everything it has started and deletes its data, while its WAL is streamed
// to a repository and nothing else is archived. Recovery from the repository has lost the commits of at most FlushEvery
// and a request or, where commits wait for the receiver, none.
func TestHostLost(t *testing.T) {
	t.Parallel()
	const flushEvery = 300 * time.Millisecond
	for _, c := range []struct {
		name      string
		major     int
		encrypted bool
		conf      map[string]string
		options   wal.ReceiveOptions
	}{
		{name: "asynchronous", major: 17, options: wal.ReceiveOptions{FlushEvery: flushEvery}},
		{name: "asynchronous, encrypted", major: 14, encrypted: true, options: wal.ReceiveOptions{FlushEvery: flushEvery}},
		{
			name: "synchronous", major: 18, conf: map[string]string{"synchronous_standby_names": "cairn"},
			options: wal.ReceiveOptions{FlushEvery: -1, ApplicationName: "cairn"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conf := map[string]string{"synchronous_commit": "local"}
			server := pgtest.New(t, &pgtest.Options{Major: c.major, SegmentSize: wal.MinSegmentSize, Conf: conf})
			r := newRepo(t, c.encrypted)
			a, err := wal.NewArchive(r, nil)
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			o := c.options
			o.Slot, o.CreateSlot = "lost", true
			go func() { ended <- a.Receive(ctx, server.DSN("postgres"), &o) }()
			stop := sync.OnceFunc(func() {
				cancel()
				require.NoError(t, <-ended)
			})
			defer stop()
			_, err = backup.Take(t.Context(), r, source(t, server), nil)
			require.NoError(t, err)
			server.Exec(t, `create table beat (at timestamptz primary key, lsn pg_lsn)`)
			for name, value := range c.conf {
				server.Exec(t, "alter system set "+name+" = '"+value+"'",
					"alter system set synchronous_commit = 'on'", "select pg_reload_conf()")
			}
			load := pgtest.StartLoad(t, server, &pgtest.LoadOptions{MayBreak: true, Pause: time.Millisecond})
			beats := beat(t, server, 3*time.Second)
			server.Kill9(t)
			killed := time.Now()
			require.NoError(t, os.RemoveAll(server.Data))
			counts := load.Stop(t)
			require.Greater(t, counts.Transactions, int64(20))
			stop() // the receiver runs elsewhere and goes on; what it has received becomes durable

			p, err := restore.Prepare(t.Context(), reopened(t, r), restore.Latest(), nil)
			require.NoError(t, err)
			// The last commit is in pieces, unless the server has just switched, and can be asked for.
			named, err := restore.Prepare(t.Context(), reopened(t, r), restore.AtXID(uint64(p.LastCommit.XID)).Before(), &restore.PlanOptions{Undone: true})
			require.NoError(t, err)
			require.Equal(t, p.LastCommit, named.NextCommit)
			require.Equal(t, 1, named.Undone.Commits.Count)
			dir := filepath.Join(pgtest.Dir(t), "data")
			_, err = p.Run(t.Context(), r, dir, nil)
			require.NoError(t, err)
			b := pgtest.Boot(t, dir, 0, &pgtest.BootOptions{Conf: map[string]string{"synchronous_standby_names": ""}})
			last := pgtest.Value[time.Time](t, b, `select max(at) from beat`)
			have := pgtest.Value[int64](t, b, `select count(*) from beat`)
			t.Logf("%d of %d beats are there; the last is of %v before the end", have, len(beats), killed.Sub(last))
			for _, at := range beats {
				if c.conf != nil || killed.Sub(at) > flushEvery+slack {
					require.False(t, last.Before(at), "a commit confirmed at %v is lost, %v before the end", at, killed.Sub(at))
				}
			}
			if c.conf != nil {
				ids := pgtest.Value[[]int64](t, b, `select coalesce(array_agg(id), '{}') from pgtest_load`)
				require.Subset(t, ids, counts.Live, "a row that was confirmed is lost")
			}
			pgtest.Amcheck(t, b)
		})
	}
}

// beat commits for a while, and returns the times of what was confirmed.
func beat(t *testing.T, c *pgtest.Cluster, d time.Duration) (confirmed []time.Time) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(t.Context())
	for begun := time.Now(); time.Since(begun) < d; time.Sleep(5 * time.Millisecond) {
		var at time.Time
		require.NoError(t, conn.QueryRow(t.Context(), `insert into beat values (clock_timestamp(), pg_current_wal_lsn()) returning at`).Scan(&at))
		confirmed = append(confirmed, at)
	}
	return confirmed
}

// reopened is the repository as another host sees it.
func reopened(t *testing.T, r *repo.Repo) *repo.Repo {
	t.Helper()
	if r.Encrypted() {
		return r // newRepo keeps the key to itself
	}
	other, err := repo.Open(t.Context(), r.Store(), nil)
	require.NoError(t, err)
	return other
}
