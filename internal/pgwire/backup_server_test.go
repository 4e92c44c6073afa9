package pgwire_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// replicate connects for replication until the test ends.
func replicate(t *testing.T, dsn string) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), dsn+" replication=true")
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// member is a member with its content.
type member struct {
	pgwire.Member
	content []byte
}

// read reads a backup to its end. The members are by their paths below the data directory.
func read(t *testing.T, b *pgwire.Backup) map[string]member {
	t.Helper()
	all := map[string]member{}
	for {
		m, err := b.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		p := m.Name
		if oid := b.Tablespaces[m.Tablespace].OID; oid != 0 {
			p = fmt.Sprintf("pg_tblspc/%d/%s", oid, m.Name)
		}
		require.NotContains(t, all, p)
		content, err := io.ReadAll(b)
		require.NoError(t, err)
		all[p] = member{*m, content}
	}
}

// fill makes relations of every kind, tablespaces of both, and files that are hard to send.
func fill(t *testing.T, c *pgtest.Cluster) {
	t.Helper()
	c.Exec(t,
		"CREATE ROLE replicator REPLICATION LOGIN",
		"CREATE TABLESPACE away LOCATION '"+pgtest.Dir(t)+"'",
		"CREATE TABLE plain (id int PRIMARY KEY, note text)",
		"INSERT INTO plain SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 20000) i",
		"CREATE TABLE away TABLESPACE away AS SELECT * FROM plain",
		"CREATE UNLOGGED TABLE unlogged AS SELECT * FROM plain",
		"CREATE UNLOGGED TABLE unlogged_away TABLESPACE away AS SELECT * FROM plain",
		"VACUUM",
	)
	session := c.Connect(t)
	for _, sql := range []string{
		"SET allow_in_place_tablespaces = on", "CREATE TABLESPACE inside LOCATION ''", "CREATE TABLE inside TABLESPACE inside AS SELECT * FROM plain",
		"CREATE TEMP TABLE temporary AS SELECT * FROM plain", "CREATE TEMP TABLE temporary_away TABLESPACE away AS SELECT * FROM plain",
		"CHECKPOINT",
	} {
		_, err := session.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	deep := "mine/" + strings.Repeat("d", 45) + "/"
	for name, size := range map[string]int{
		"mine/empty": 0, "mine/one": 1, "mine/511": 511, "mine/512": 512, "mine/513": 513, "mine/32768": 32768, "mine/32769": 32769,
		"mine/ÄÖ ü\x01\\": 5, deep + strings.Repeat("n", 99-len(deep)): 700, // as long as a name may be
	} {
		p := filepath.Join(c.Data, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o700))
		require.NoError(t, os.WriteFile(p, []byte(strings.Repeat("tar ", size/4+1)[:size]), 0o640))
	}
	require.NoError(t, os.Symlink("/nowhere", filepath.Join(c.Data, "mine/link")))
	pgtest.Own(t, c.Data)
}

func quiet(major int) *pgtest.Options {
	return &pgtest.Options{Major: major, Conf: map[string]string{"autovacuum": "off", "max_wal_senders": "4"}}
}

// TestBaseBackup compares all that a server sends with its files.
func TestBaseBackup(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		ctx := t.Context()
		c := pgtest.New(t, quiet(major))
		fill(t, c)
		// The privilege to replicate is enough.
		conn := replicate(t, strings.Replace(c.DSN("postgres"), "user=postgres", "user=replicator", 1))
		for _, asked := range []bool{false, true} {
			var notices []string
			label := "it's a label: \\ü"
			b, err := pgwire.BaseBackup(ctx, conn, &pgwire.BackupOptions{
				Label: label, Fast: true, Progress: asked, TablespaceMap: asked, Manifest: asked, MaxRate: 1 << 20, VerifyChecksums: asked,
				Notice: func(n *pgconn.Notice) { notices = append(notices, n.Message) },
			})
			require.NoError(t, err)
			require.EqualValues(t, 1, pgtest.Value[int64](t, c, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'"))
			all := read(t, b)
			require.Equal(t, []string{`skipping special file "./mine/link"`}, slices.Compact(notices)) // twice when sizes are asked for

			text := string(all["backup_label"].content)
			require.Contains(t, text, fmt.Sprintf("START WAL LOCATION: %X/%X ", b.Start.LSN>>32, uint32(b.Start.LSN)))
			require.Contains(t, text, "LABEL: "+label+"\n")
			require.Contains(t, text, fmt.Sprintf("START TIMELINE: %d\n", b.Start.Timeline))
			require.Greater(t, b.End.LSN, b.Start.LSN)
			require.EqualValues(t, 1, b.End.Timeline)
			requireTablespaces(t, c, b, all, asked)
			requireManifest(t, asked, b, all)
			requireFiles(t, c, all, asked)
		}
		// The connection can be used on.
		_, err := pgwire.Identify(ctx, conn)
		require.NoError(t, err)
	})
}

// requireTablespaces requires that all tablespaces are there. With a map, servers before 16 leave out those in place.
func requireTablespaces(t *testing.T, c *pgtest.Cluster, b *pgwire.Backup, all map[string]member, asked bool) {
	t.Helper()
	away := pgtest.Value[uint32](t, c, "SELECT oid FROM pg_tablespace WHERE spcname = 'away'")
	inside := pgtest.Value[uint32](t, c, "SELECT oid FROM pg_tablespace WHERE spcname = 'inside'")
	location := pgtest.Value[string](t, c, "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'away'")
	want := []pgwire.Tablespace{{OID: away, Location: location}}
	if c.Major >= 16 {
		want = append(want, pgwire.Tablespace{OID: inside, Location: fmt.Sprintf("pg_tblspc/%d", inside)})
	}
	want = append(want, pgwire.Tablespace{})
	require.Len(t, b.Tablespaces, len(want))
	// The server tells them as it finds them in a directory; the cluster itself is last.
	slices.SortFunc(b.Tablespaces[:len(b.Tablespaces)-1], func(x, y pgwire.Tablespace) int { return cmp.Compare(x.OID, y.OID) })
	for i, s := range b.Tablespaces {
		require.Equal(t, asked, s.Size > 0, s)
		require.Equal(t, asked, s.Size != -1, s)
		want[i].Size = s.Size
	}
	require.Equal(t, want, b.Tablespaces)
	link, linked := all[fmt.Sprintf("pg_tblspc/%d", away)]
	require.Equal(t, !asked, linked)
	if linked {
		require.Equal(t, pgwire.Symlink, link.Type)
		require.Equal(t, location, link.Link)
	}
	spaces, mapped := all["tablespace_map"]
	require.Equal(t, asked, mapped)
	if mapped {
		require.Equal(t, fmt.Sprintf("%d %s\n", away, location), string(spaces.content))
	}
	file := pgtest.Value[string](t, c, "SELECT pg_relation_filepath('inside')")
	_, there := all[file]
	require.Equal(t, !asked || c.Major >= 16, there, file)
}

// requireManifest requires that the backup has the files that the server says it has.
func requireManifest(t *testing.T, asked bool, b *pgwire.Backup, all map[string]member) {
	t.Helper()
	m, ok := all["backup_manifest"]
	require.Equal(t, asked, ok)
	if !ok {
		return
	}
	var manifest struct {
		Files []struct {
			Path, EncodedPath string
			Size              int64
		}
		Ranges []struct {
			Timeline uint32
			Start    string `json:"Start-LSN"`
			End      string `json:"End-LSN"`
		} `json:"WAL-Ranges"`
	}
	// Paths that are not UTF-8 are encoded, under another name.
	require.NoError(t, json.Unmarshal(bytes.ReplaceAll(m.content, []byte("Encoded-Path"), []byte("EncodedPath")), &manifest))
	listed := map[string]int64{}
	for _, f := range manifest.Files {
		require.Empty(t, f.EncodedPath)
		listed[f.Path] = f.Size
	}
	sent := map[string]int64{}
	for p, m := range all {
		if m.Type == pgwire.File {
			sent[p] = m.Size
		}
	}
	require.Equal(t, listed, sent)
	require.Len(t, manifest.Ranges, 1)
	require.Equal(t, b.End.Timeline, manifest.Ranges[0].Timeline)
	require.Equal(t, fmt.Sprintf("%X/%X", b.Start.LSN>>32, uint32(b.Start.LSN)), manifest.Ranges[0].Start)
	require.Equal(t, fmt.Sprintf("%X/%X", b.End.LSN>>32, uint32(b.End.LSN)), manifest.Ranges[0].End)
}

// made are the members that the server makes for the backup.
var made = map[string]bool{"backup_label": true, "tablespace_map": true, "backup_manifest": true}

// requireFiles compares members with the files of a server that has nothing to do.
func requireFiles(t *testing.T, c *pgtest.Cluster, all map[string]member, mapped bool) {
	t.Helper()
	for p, m := range all {
		if made[p] || m.Type == pgwire.Symlink {
			continue
		}
		info, err := os.Lstat(filepath.Join(c.Data, p))
		require.NoError(t, err)
		require.Equal(t, info.Mode().Perm(), m.Mode, p)
		require.Equal(t, info.IsDir(), m.Type == pgwire.Directory, p)
		if info.IsDir() {
			continue
		}
		require.Len(t, m.content, int(m.Size), p)
		want, err := os.ReadFile(filepath.Join(c.Data, p))
		require.NoError(t, err)
		if !bytes.Equal(want, m.content) {
			require.Fail(t, "content differs", p)
		}
	}
	for _, table := range []string{"plain", "plain_pkey", "away"} {
		require.Contains(t, all, pgtest.Value[string](t, c, "SELECT pg_relation_filepath($1::text::regclass)", table))
	}
	for _, table := range []string{"unlogged", "unlogged_away"} {
		p := pgtest.Value[string](t, c, "SELECT pg_relation_filepath($1::text::regclass)", table)
		require.NotContains(t, all, p)
		require.Contains(t, all, p+"_init")
	}
	names, err := filepath.Glob(filepath.Join(c.Data, "mine", "*"))
	require.NoError(t, err)
	for _, name := range names {
		p := path.Join("mine", filepath.Base(name))
		_, there := all[p]
		require.Equal(t, p != "mine/link", there, p)
	}
	for p := range all {
		require.NotRegexp(t, `/t\d+_\d+`, p)
	}
	// The data directory's control file comes last of all.
	require.Contains(t, all, "global/pg_control")
}

// TestBaseBackupIsThatOfPgBasebackup compares members with the archives that pg_basebackup makes of the same server.
func TestBaseBackupIsThatOfPgBasebackup(t *testing.T) {
	t.Parallel()
	for _, major := range []int{13, 14, 15} { // it refuses servers that are newer than it
		t.Run(fmt.Sprintf("pg%d", major), func(t *testing.T) {
			t.Parallel()
			c := pgtest.New(t, quiet(major))
			fill(t, c)
			b, err := pgwire.BaseBackup(t.Context(), replicate(t, c.DSN("postgres")), &pgwire.BackupOptions{
				Label: "pg_basebackup base backup", Fast: true, TablespaceMap: true,
			})
			require.NoError(t, err)
			ours := read(t, b)
			dir := filepath.Join(pgtest.Dir(t), "tar")
			pgtest.Run(t, pgtest.DistroBin(t, "pg_basebackup"), "--pgdata="+dir, "--dbname="+c.DSN("postgres"), "--checkpoint=fast",
				"--format=tar", "--wal-method=none", "--no-manifest")
			theirs := map[string]member{}
			archives, err := filepath.Glob(filepath.Join(dir, "*.tar"))
			require.NoError(t, err)
			require.Len(t, archives, 2)
			for _, archive := range archives {
				prefix := ""
				if name := strings.TrimSuffix(filepath.Base(archive), ".tar"); name != "base" {
					_, err := strconv.Atoi(name)
					require.NoError(t, err)
					prefix = "pg_tblspc/" + name + "/"
				}
				readTar(t, archive, func(h *tar.Header, content []byte) {
					theirs[prefix+path.Clean(h.Name)] = member{pgwire.Member{Mode: h.FileInfo().Mode().Perm()}, content}
				})
			}
			for p, want := range theirs {
				got, ok := ours[p]
				require.True(t, ok, p)
				require.Equal(t, want.Mode, got.Mode, p)
				if p == "backup_label" || p == "global/pg_control" { // of another checkpoint
					require.Len(t, got.content, len(want.content))
				} else if !bytes.Equal(want.content, got.content) {
					require.Fail(t, "content differs", p)
				}
			}
			require.Len(t, ours, len(theirs))
		})
	}
}

func readTar(t *testing.T, name string, member func(h *tar.Header, content []byte)) {
	t.Helper()
	f, err := os.Open(name)
	require.NoError(t, err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
		content, err := io.ReadAll(r)
		require.NoError(t, err)
		member(h, content)
	}
}

// TestBaseBackupRefused: what the server refuses to begin leaves the connection usable.
func TestBaseBackupRefused(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, quiet(major))
		conn := replicate(t, c.DSN("postgres"))
		var refused *pgconn.PgError
		_, err := pgwire.BaseBackup(t.Context(), conn, &pgwire.BackupOptions{MaxRate: 31})
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "22003", refused.Code)
		err = pgwire.UploadManifest(t.Context(), conn, strings.NewReader("no manifest"))
		_, err2 := pgwire.BaseBackup(t.Context(), conn, &pgwire.BackupOptions{Incremental: true})
		if major < 17 {
			require.ErrorIs(t, err, errors.ErrUnsupported)
			require.ErrorIs(t, err2, errors.ErrUnsupported)
		} else {
			require.ErrorAs(t, err, &refused)
			require.ErrorAs(t, err2, &refused)
			require.Equal(t, "55000", refused.Code, "no manifest was uploaded")
			err = pgwire.UploadManifest(t.Context(), conn, io.MultiReader(strings.NewReader("{"), &failing{fs.ErrPermission}))
			require.ErrorIs(t, err, fs.ErrPermission)
		}
		b, err := pgwire.BaseBackup(t.Context(), conn, &pgwire.BackupOptions{Fast: true})
		require.NoError(t, err)
		require.NotEmpty(t, read(t, b))
	})
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// TestBaseBackupVerifies: pages that do not match are found only at the very end, when the server has told where the
// backup ends.
func TestBaseBackupVerifies(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, quiet(major))
		c.Exec(t, "CREATE TABLE plain AS SELECT * FROM generate_series(1, 1000) i", "CHECKPOINT")
		p := filepath.Join(c.Data, pgtest.Value[string](t, c, "SELECT pg_relation_filepath('plain')"))
		f, err := os.OpenFile(p, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("damage"), 8192+4000)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		b, err := pgwire.BaseBackup(t.Context(), replicate(t, c.DSN("postgres")), &pgwire.BackupOptions{Fast: true})
		require.NoError(t, err)
		read(t, b)
		conn := replicate(t, c.DSN("postgres"))
		b, err = pgwire.BaseBackup(t.Context(), conn, &pgwire.BackupOptions{Fast: true, VerifyChecksums: true})
		require.NoError(t, err)
		for err == nil {
			_, err = b.Next()
		}
		var failed *pgconn.PgError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, "XX001", failed.Code)
		require.NotErrorIs(t, err, io.EOF)
		require.True(t, conn.IsClosed())
	})
}
