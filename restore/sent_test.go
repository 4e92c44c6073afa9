package restore_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
)

// replicatorOf makes a role that may replicate and nothing else, and returns the connection string of one.
func replicatorOf(t *testing.T, c *pgtest.Cluster) string {
	t.Helper()
	c.Exec(t, "create role replicator replication login")
	return strings.Replace(c.DSN("postgres"), "user=postgres", "user=replicator", 1)
}

// replicationSource is a cluster that sends its files, to a role that may replicate and do nothing else.
func replicationSource(t *testing.T, c *pgtest.Cluster) backup.Source {
	t.Helper()
	s, err := backup.Replication(replicatorOf(t, c), nil)
	require.NoError(t, err)
	return s
}

// TestServerVerifies has the server's own tool compare what is restored with what the server has sent.
func TestServerVerifies(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Major: pgtest.DistroMajor(t), Conf: archiving()})
	c.Exec(t, `create table plain as select i, md5(i::text) from generate_series(1, 50000) i`)
	sent := replicationSource(t, c)
	r := newRepo(t, true)
	m, err := backup.Take(t.Context(), r, sent, nil)
	require.NoError(t, err)
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	dir := filepath.Join(pgtest.Dir(t), "data")
	_, err = p.Run(t.Context(), r, dir, nil)
	require.NoError(t, err)

	text, err := backup.ServerManifest(t.Context(), r, m.ID)
	require.NoError(t, err)
	defer text.Close()
	b, err := io.ReadAll(text)
	require.NoError(t, err)
	name := filepath.Join(pgtest.Dir(t), "manifest")
	require.NoError(t, os.WriteFile(name, b, 0o600))
	pgtest.Own(t, dir)
	pgtest.Own(t, name)
	pgtest.Run(t, pgtest.DistroBin(t, "pg_verifybackup"), "--no-parse-wal", "--manifest-path="+name, dir)
}

// TestSentByRoleAlone takes backups of all kinds as a role that may replicate and do nothing else, of a cluster with a
// tablespace and a torn page, and restores them.
func TestSentByRoleAlone(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		conf := archiving()
		conf["autovacuum"] = "off"
		if major >= 17 {
			conf["summarize_wal"] = "on"
		}
		c := pgtest.New(t, &pgtest.Options{Major: major, Conf: conf})
		space := pgtest.Dir(t)
		c.Exec(t, `create tablespace aside location '`+space+`'`,
			`create table far tablespace aside as select i, md5(i::text) as pad from generate_series(1, 30000) i`)
		sent := replicationSource(t, c)
		r := newRepo(t, true)
		var last *backup.Manifest
		for i, kind := range []backup.Type{backup.Auto, backup.Auto, backup.Auto, backup.Differential} {
			c.Exec(t, `update far set pad = pad || '!' where i % 3000 = 7`)
			m, err := backup.Take(t.Context(), r, sent, &backup.Options{Type: kind})
			require.NoError(t, err)
			require.Zero(t, m.BadPages)
			require.Equal(t, "aside", m.Tablespaces[0].Name)
			require.Equal(t, kind == backup.Auto && i == 0, m.Type == backup.Full)
			switch {
			case i == 0:
			case major >= 17:
				require.Equal(t, backup.BySummary, m.Method, m.Reason)
				require.Less(t, m.ReadBytes, m.ClusterBytes/2)
			default:
				require.Equal(t, backup.ByIndex, m.Method, m.Reason)
			}
			last = m
			if i%2 == 0 {
				continue
			}
			want := pgtest.Checksums(t, c)
			restored := recovered(t, r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID}, &restore.Options{
				Tablespaces: map[string]string{"aside": filepath.Join(pgtest.Dir(t), "aside")},
			}, nil)
			require.Equal(t, want, pgtest.Checksums(t, restored))
			pgtest.Amcheck(t, restored)
			restored.Stop(t)
		}
		require.NotEmpty(t, last.Catalog.Relations)
	})
}

// TestSendingEnds ends backups that a server sends before they are whole. Nothing is committed, and the server is left
// as it was.
func TestSendingEnds(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, &pgtest.Options{Conf: archiving()})
	c.Exec(t, `create table plain as select i, md5(i::text) from generate_series(1, 100000) i`)
	sent := replicationSource(t, c)
	r := newRepo(t, true)
	for name, end := range map[string]func(cancel func()){
		"cancelled": func(cancel func()) { cancel() },
		"terminated": func(func()) {
			c.Exec(t, `select pg_terminate_backend(pid) from pg_stat_activity where backend_type = 'walsender'`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := false
			_, err := backup.Take(ctx, r, sent, &backup.Options{Rate: 2 << 20, Progress: func(p backup.Progress) {
				if p.Phase == "read" && p.ReadBytes > 1<<20 && !ended {
					ended = true
					end(cancel)
				}
			}})
			require.Error(t, err)
			require.True(t, ended)
			if ctx.Err() != nil {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				var lost *backup.SessionLostError
				require.ErrorAs(t, err, &lost)
			}
			for info, err := range r.Store().List(t.Context(), "") {
				require.NoError(t, err)
				require.NotRegexp(t, "^(backups|packs|server-manifests)/", info.Key)
			}
			require.Eventually(t, func() bool {
				return pgtest.Value[int64](t, c, `select count(*) from pg_stat_activity where backend_type = 'walsender'`) == 0
			}, time.Minute, 10*time.Millisecond)
		})
	}
}
