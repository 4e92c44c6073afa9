package restore_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
)

// killedBackup starts a backup, kills it once it has stored n packs, and returns their keys and how many bytes they have.
func killedBackup(t *testing.T, j job, store repo.Store, n int) (packs []string, size int64) {
	t.Helper()
	list := func() (packs []string, size int64) {
		for info, err := range store.List(t.Context(), "packs/") {
			require.NoError(t, err)
			packs, size = append(packs, info.Key), size+info.Size
		}
		return packs, size
	}
	before, had := list()
	c := j.start(t)
	require.Eventually(t, func() bool {
		packs, _ := list()
		return len(packs) >= len(before)+n
	}, time.Minute, time.Millisecond)
	require.NoError(t, c.cmd.Process.Kill())
	require.Error(t, <-c.done, "it was killed")
	require.Empty(t, c.stderr.String())
	packs, size = list()
	return slices.DeleteFunc(packs, func(key string) bool { return slices.Contains(before, key) }), size - had
}

// A backup is killed in its midst, the next one, which takes over, as well; the third takes over from both, stores the
// rest and what has changed meanwhile, and restores to what was there. So does an incremental one, of what it would store.
func TestKilledBackupIsTakenOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		kind      backup.Type
		encrypted bool
	}{{backup.Full, false}, {backup.Full, true}, {backup.Incremental, false}, {backup.Incremental, true}} {
		encrypted := tt.encrypted
		t.Run(fmt.Sprintf("%s encrypted=%v", tt.kind, encrypted), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, &pgtest.Options{Conf: archiving()})
			j := job{Repo: t.TempDir(), Data: c.Data, Conn: c.DSN("postgres"), Type: tt.kind}
			store, err := repo.OpenDir(j.Repo, nil)
			require.NoError(t, err)
			reader := &repo.Options{}
			if encrypted {
				id, err := age.GenerateX25519Identity()
				require.NoError(t, err)
				j.Recipient, j.State = id.Recipient().String(), t.TempDir()
				reader.Cipher, err = crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
				require.NoError(t, err)
			}
			r, err := repo.Init(t.Context(), store, reader)
			require.NoError(t, err)
			backups := 1
			if tt.kind != backup.Full {
				j.start(t).wait(t) // a full one, to build on
				backups++
			}
			j.Rate = 40 << 20
			c.Exec(t, `create table quiet as select i, (select string_agg(md5(random()::text || i || k), '') from generate_series(1, 30) k) as pad
				from generate_series(1, 80000) i`, `create table busy as select i, md5(i::text) as pad from generate_series(1, 20000) i`,
				// Hint bits are set now, and not in between.
				`vacuum freeze quiet`, `vacuum freeze busy`, `checkpoint`)

			first, stored := killedBackup(t, j, store, 2)
			c.Exec(t, `update busy set pad = pad || 'x' where i % 7 = 0`, `checkpoint`)
			second, more := killedBackup(t, j, store, 1)
			stored += more
			c.Exec(t, `insert into busy select i, 'new' from generate_series(1, 1000) i`, `checkpoint`)
			want := pgtest.Checksums(t, c)
			orphans := 0
			for o, err := range backup.Orphans(t.Context(), r) {
				require.NoError(t, err)
				require.Contains(t, slices.Concat(first, second), o.Key)
				orphans++
			}
			require.Equal(t, len(first)+len(second), orphans)

			j.Rate = 0
			j.start(t).wait(t)
			all, err := backup.List(t.Context(), r)
			require.NoError(t, err)
			require.Len(t, all, backups)
			m, err := backup.Load(t.Context(), r, all[backups-1].ID)
			require.NoError(t, err)
			require.Equal(t, tt.kind, m.Type)
			require.Greater(t, m.ReusedBytes, stored*3/4, "of %d bytes that were stored", stored)
			require.Less(t, m.ReusedBytes, stored)
			named := map[string]bool{}
			for _, p := range m.PackList {
				named[p.Key] = true
			}
			for _, key := range slices.Concat(first[:1], second[:1]) {
				require.True(t, named[key], "%s is taken over", key)
			}
			t.Logf("%d bytes of killed backups, of these %d taken over; %d stored, %d of the cluster", stored, m.ReusedBytes, m.StoredBytes, m.ClusterBytes)

			c.Stop(t)
			for o, err := range backup.Orphans(t.Context(), r) { // as retention will
				require.NoError(t, err)
				require.NoError(t, store.Delete(t.Context(), o.Key))
			}
			requireWholePacks(t, r, m)
			b := recovered(t, r, restore.Latest(), nil, nil, nil)
			require.Equal(t, want, pgtest.Checksums(t, b))
			pgtest.Amcheck(t, b)
			b.Stop(t)
			if encrypted {
				kept, err := filepath.Glob(filepath.Join(j.State, "*", "packs", "*", "*"))
				require.NoError(t, err)
				for _, file := range kept { // it may have been killed before it had stored the pack
					key := "packs/" + filepath.Base(filepath.Dir(file)) + "/" + filepath.Base(file)
					require.False(t, named[key], "the host has forgotten what it has no more use for")
					require.NotEqual(t, backup.Full, tt.kind)
				}
			}
		})
	}
}

func requireWholePacks(t *testing.T, r *repo.Repo, m *backup.Manifest) {
	t.Helper()
	for _, p := range m.PackList {
		require.NoError(t, r.ReadPack(t.Context(), p.Pack, func(int, []byte) error { return nil }))
	}
}
