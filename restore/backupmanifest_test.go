package restore_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// TestVerifyBackup has the stock pg_verifybackup check what was restored, on every major version: an incremental backup,
// with tablespaces, a pg_wal and configuration that are not where they were, and databases left out or not.
func TestVerifyBackup(t *testing.T) {
	t.Parallel()
	someMajors(t, func(t *testing.T, major int) {
		conf := archiving()
		conf["recovery_target_name"] = "from an earlier recovery" // so that postgresql.conf is changed
		distro := major == pgtest.DistroMajor(t)                  // for which there is a pg_waldump
		c := pgtest.New(t, &pgtest.Options{Major: major, Distro: distro, Conf: conf, SegmentSize: 1 << 20})
		c.Exec(t, `create database other`)
		for _, name := range []string{"inside", "moved"} {
			c.Exec(t, fmt.Sprintf(`create tablespace %s location '%s'`, name, ownDir(t, pgtest.Dir(t), name)),
				fmt.Sprintf(`create table in_%[1]s tablespace %[1]s as select i, md5(i::text) as text from generate_series(1, 5000) i`, name))
		}
		c.Exec(t, `create table t as select i, md5(i::text) as text from generate_series(1, 30000) i`, `create index on t (i)`)
		r := newRepo(t, false)
		_, err := backup.Take(t.Context(), r, source(t, c), nil)
		require.NoError(t, err)
		c.Exec(t, `update t set text = 'new' where i % 1000 = 0`, `delete from t where i > 29000`, `vacuum t`)
		_, err = backup.Take(t.Context(), r, source(t, c), &backup.Options{Type: backup.Incremental})
		require.NoError(t, err)
		pushAll(t, c, r)
		for _, only := range [][]string{nil, {"postgres"}} {
			p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
			require.NoError(t, err)
			dir := filepath.Join(pgtest.Dir(t), "data")
			o := &restore.Options{
				Tablespaces: map[string]string{"moved": filepath.Join(pgtest.Dir(t), "moved")}, TablespacesInPlace: true,
				WALDirectory: filepath.Join(pgtest.Dir(t), "wal"), Databases: only,
			}
			_, err = p.Run(t.Context(), r, dir, o)
			require.NoError(t, err)
			args := []string{"--exit-on-error", "--manifest-path=" + oldManifest(t, dir, major, c), dir}
			if !distro {
				args = append(args, "--no-parse-wal")
			}
			pgtest.Own(t, dir)
			pgtest.Run(t, pgtest.DistroBin(t, "pg_verifybackup"), args...)
			path := filepath.Join(dir, pgtest.Value[string](t, c, `select pg_relation_filepath('t')`))
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			b[len(b)/2] ^= 1
			require.NoError(t, os.WriteFile(path, b, 0o600))
			out, err := pgtest.Command(t, pgtest.DistroBin(t, "pg_verifybackup"), args...).CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(out), "checksum mismatch for file")

			// What a restore over it finds right counts as what it writes does.
			o.Delta = true
			again, err := p.Run(t.Context(), r, dir, o)
			require.NoError(t, err)
			require.Greater(t, again.ReusedBytes, again.RestoredBytes)
			oldManifest(t, dir, major, c)
			pgtest.Own(t, dir)
			if major < 17 {
				pgtest.Run(t, pgtest.DistroBin(t, "pg_verifybackup"), args...)
			}
		}
	})
}

// oldManifest returns the path of the backup_manifest, or, from 17 on, of one that says the same in the version before, which
// the distribution's program reads.
func oldManifest(t *testing.T, dir string, major int, c *pgtest.Cluster) string {
	t.Helper()
	path := filepath.Join(dir, "backup_manifest")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NotRegexp(t, `"Size": \d+ }`, string(b), "every file has its checksum")
	if major < 17 {
		require.True(t, bytes.HasPrefix(b, []byte("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\"")))
		return path
	}
	head := fmt.Sprintf("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %s,\n",
		pgtest.Value[string](t, c, `select system_identifier::text from pg_control_system()`))
	rest, ok := strings.CutPrefix(string(b), head)
	require.True(t, ok, "%.200s", b)
	text, sum, _ := strings.Cut(rest, `"Manifest-Checksum"`)
	require.Equal(t, fmt.Sprintf(": \"%x\"}\n", sha256.Sum256([]byte(head+text))), sum)
	text = "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n" + text
	text = fmt.Sprintf("%s\"Manifest-Checksum\": \"%x\"}\n", text, sha256.Sum256([]byte(text)))
	path = filepath.Join(pgtest.Dir(t), "backup_manifest")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	pgtest.Own(t, filepath.Dir(path))
	return path
}
