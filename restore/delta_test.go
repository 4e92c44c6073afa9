package restore_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// MiB is 1,048,576 bytes.
const MiB = 1 << 20

// noise returns n bytes that do not shrink and depend on nothing but n and seed.
func noise(n int, seed uint64) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// largeFiles are those of a cluster of 12 MiB that do not shrink, and some small ones.
func largeFiles() fstest.MapFS {
	files := fstest.MapFS{
		"PG_VERSION": {Data: []byte("18\n")}, "global/1262": {Data: noise(8192, 99)}, "pg_xact/0000": {Data: make([]byte, 8192)},
		"base/5/empty": {}, "pg_tblspc/16385/PG_18_202600000/5/16400": {Data: noise(MiB, 98)},
	}
	for i := range 10 {
		b := noise(MiB, uint64(i))
		for page := 0; page < len(b); page += 8192 {
			copy(b[page:], "\x00\x00\x00\x00\x01\x00\x00\x00") // an LSN of before the backup
		}
		files[fmt.Sprintf("base/5/%d", 20000+i)] = &fstest.MapFile{Data: b}
	}
	// Pages 1 and 3, and the last 200, are zero.
	holes := append(append(append(noise(8192, 50), make([]byte, 8192)...), noise(8192, 51)...), make([]byte, 8192)...)
	holes = append(append(holes, noise(MiB-4*8192, 52)...), make([]byte, 200*8192)...)
	files["base/5/30000"] = &fstest.MapFile{Data: holes}
	return files
}

// place is a data directory with a tablespace.
type place struct{ data, fast string }

func newPlace(t *testing.T) place {
	t.Helper()
	base := t.TempDir()
	return place{filepath.Join(base, "data"), filepath.Join(base, "fast")}
}

func (p place) options(o restore.Options) *restore.Options {
	o.Tablespaces = map[string]string{"fast": p.fast}
	return &o
}

// tree lists both directories.
func (p place) tree(t *testing.T) []string {
	t.Helper()
	return append(tree(t, p.data), tree(t, p.fast)...)
}

// newLarge takes a backup of a cluster of some size. Its store tells how many bytes of packs and WAL were read.
func newLarge(t *testing.T, encrypted bool) (f *fake, read *atomic.Int64) {
	t.Helper()
	f = newFake(t, encrypted, &backuptest.Options{Files: largeFiles(), NoChecksums: true, Tablespaces: spaces[:1]})
	read = &atomic.Int64{}
	r, err := f.open(t, repo.Observe(f.store, func(o repo.Op) {
		if kindOf(o.Key) == "packs" || kindOf(o.Key) == "wal" {
			read.Add(o.Bytes)
		}
	}))
	require.NoError(t, err)
	f.repo = r
	return f, read
}

// run restores to a place and returns what that took.
func (f *fake) run(t *testing.T, p place, o restore.Options) (*restore.Result, error) {
	t.Helper()
	return f.plan(t).Run(t.Context(), f.repo, p.data, p.options(o))
}

// started changes what PostgreSQL changes once it was started on what was restored.
func (p place) started(t *testing.T, f *fake) {
	t.Helper()
	write(t, filepath.Join(p.data, "postmaster.opts"), "postgres -D data")
	write(t, filepath.Join(p.data, "backup_label.old"), f.m.Label)
	write(t, filepath.Join(p.data, "pg_wal/000000020000000000000005"), "WAL of its own")
	write(t, filepath.Join(p.data, "pg_wal/archive_status/000000020000000000000005.ready"), "")
	write(t, filepath.Join(p.data, "pg_stat_tmp/global.stat"), "x")
	for _, name := range []string{"backup_label", "recovery.signal"} {
		require.NoError(t, os.Remove(filepath.Join(p.data, name)))
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
}

// overwrite writes bytes in a file.
func overwrite(t *testing.T, path string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// A delta restore makes of what is there what a restore to an empty directory makes, and fetches what differs.
func TestDelta(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(t *testing.T, f *fake, p place)
		reads  int // MiB of packs and WAL, at most
	}{
		{"nothing", func(*testing.T, *fake, place) {}, 0},
		{"a server was started", func(t *testing.T, f *fake, p place) { p.started(t, f) }, 0},
		{"one page", func(t *testing.T, _ *fake, p place) {
			overwrite(t, filepath.Join(p.data, "base/5/20003"), 5*8192, noise(8192, 77))
		}, 1},
		{"one byte in a tablespace", func(t *testing.T, _ *fake, p place) {
			overwrite(t, filepath.Join(p.fast, "PG_18_202600000/5/16400"), MiB-1, []byte{0})
		}, 1},
		{"what is to be zero", func(t *testing.T, _ *fake, p place) {
			for _, block := range []int64{1, 3, 128, 200, 327} {
				overwrite(t, filepath.Join(p.data, "base/5/30000"), block*8192, noise(8192, 77))
			}
			overwrite(t, filepath.Join(p.data, "pg_xact/0000"), 100, []byte("x"))
			write(t, filepath.Join(p.data, "base/5/empty"), "not empty")
		}, 1},
		{"files added", func(t *testing.T, _ *fake, p place) {
			write(t, filepath.Join(p.data, "base/5/40000"), "x")
			write(t, filepath.Join(p.data, "base/6/40000"), "x")
			write(t, filepath.Join(p.data, "backup_manifest"), "{}")
			write(t, filepath.Join(p.data, "standby.signal"), "")
			write(t, filepath.Join(p.data, "pg_tblspc/16386/PG_18_202600000/5/1"), "in place")
			write(t, filepath.Join(p.data, "base/5/pgsql_tmp/x/y"), "x")
			write(t, filepath.Join(p.fast, "PG_18_202600000/6/1"), "x")
			write(t, filepath.Join(p.fast, "stray"), "x")
			require.NoError(t, syscall.Mkfifo(filepath.Join(p.data, "base/5/fifo"), 0o644))
		}, 0},
		{"files removed", func(t *testing.T, _ *fake, p place) {
			for _, name := range []string{"base/5/20000", "base/5/20001", "base/5/empty", "pg_xact", "pg_wal", "PG_VERSION.not"} {
				require.NoError(t, os.RemoveAll(filepath.Join(p.data, name)))
			}
		}, 4}, // and 2 segments
		{"a file is a directory, and the reverse", func(t *testing.T, _ *fake, p place) {
			for _, name := range []string{"base/5/20000", "pg_xact"} {
				require.NoError(t, os.RemoveAll(filepath.Join(p.data, name)))
			}
			write(t, filepath.Join(p.data, "base/5/20000/x"), "x")
			write(t, filepath.Join(p.data, "pg_xact"), "x")
		}, 2},
		{"half of the files truncated", func(t *testing.T, _ *fake, p place) {
			for i := range 5 {
				require.NoError(t, os.Truncate(filepath.Join(p.data, fmt.Sprintf("base/5/%d", 20000+2*i)), int64(i*8192)))
			}
		}, 12},
		{"files longer", func(t *testing.T, _ *fake, p place) {
			for _, name := range []string{"base/5/20000", "base/5/empty", "pg_xact/0000"} {
				require.NoError(t, os.Truncate(filepath.Join(p.data, name), 5<<20))
				overwrite(t, filepath.Join(p.data, name), 5<<20-1, []byte("x"))
			}
		}, 0},
		{"open to others", func(t *testing.T, _ *fake, p place) {
			require.NoError(t, os.Chmod(p.data, 0o750))
			require.NoError(t, os.Chmod(filepath.Join(p.data, "base"), 0o755))
			require.NoError(t, os.Chmod(filepath.Join(p.data, "base/5/20000"), 0o644))
			require.NoError(t, os.Chmod(filepath.Join(p.fast, "PG_18_202600000"), 0o755))
		}, 0},
	}
	for _, encrypted := range []bool{false, true} {
		f, read := newLarge(t, encrypted)
		fresh := newPlace(t)
		_, err := f.run(t, fresh, restore.Options{})
		require.NoError(t, err)
		want := fresh.tree(t)
		p := newPlace(t)
		_, err = f.run(t, p, restore.Options{Delta: true}) // into an empty one as well
		require.NoError(t, err)
		requireSame(t, want, p.tree(t))
		for _, tt := range tests {
			tt.change(t, f, p)
			read.Store(0)
			result, err := f.run(t, p, restore.Options{Delta: true, Jobs: 2})
			require.NoError(t, err, tt.name)
			requireSame(t, want, p.tree(t), tt.name)
			most := int64(tt.reads)*MiB + MiB/2
			if encrypted && tt.reads > 0 {
				most += MiB / 4
			}
			require.LessOrEqual(t, read.Load(), most, tt.name)
			total := int64(0)
			for _, file := range f.m.FileList {
				total += file.Data
			}
			require.Equal(t, total, result.ReusedBytes+result.RestoredBytes, tt.name)
			if tt.reads == 0 {
				require.Less(t, result.RestoredBytes, int64(MiB)/2, tt.name)
			}
		}
	}
}

// requireSame is require.Equal for trees, which are large.
func requireSame(t *testing.T, want, got []string, msg ...any) {
	t.Helper()
	short := func(all []string) []string {
		lines := make([]string, len(all))
		for i, line := range all {
			name, content, _ := strings.Cut(line, "rw-------")
			lines[i] = name
			if content != "" {
				lines[i] += " " + repo.HashOf([]byte(content)).String()
			}
		}
		return lines
	}
	require.Equal(t, short(want), short(got), msg...)
}

// What is there may be of another moment, and of another timeline.
func TestDeltaToOtherBackups(t *testing.T) {
	t.Parallel()
	f, read := newLarge(t, false)
	first := f.m.ID
	f.c.Write("base/5/20003", noise(MiB+8192, 70))
	f.c.Remove("base/5/20004")
	f.c.Write("base/5/50000", noise(100, 71))
	f.c.Promote()
	m, err := backup.Take(t.Context(), f.repo, f.c, &backup.Options{Type: backup.Incremental, Jobs: 1})
	require.NoError(t, err)
	f.c.Write("base/5/20005", noise(MiB/2, 72))
	f.c.Switch(1)
	require.NoError(t, f.archive(t))
	last, err := backup.Take(t.Context(), f.repo, f.c, &backup.Options{Type: backup.Full, Jobs: 1})
	require.NoError(t, err)

	p := newPlace(t)
	for i, id := range []backup.ID{first, m.ID, first, last.ID, m.ID, last.ID, first} {
		plan, err := restore.Prepare(t.Context(), f.repo, restore.Immediate(), &restore.PlanOptions{Backup: id})
		require.NoError(t, err)
		fresh := newPlace(t)
		_, err = plan.Run(t.Context(), f.repo, fresh.data, fresh.options(restore.Options{}))
		require.NoError(t, err)
		read.Store(0)
		_, err = plan.Run(t.Context(), f.repo, p.data, p.options(restore.Options{Delta: true}))
		require.NoError(t, err)
		requireSame(t, fresh.tree(t), p.tree(t), i)
		if i > 0 {
			require.Less(t, read.Load(), int64(7*MiB), i)
		}
	}
}

// A restore that was cut short is gone on with: what it has done is not fetched again.
func TestRestoreGoesOn(t *testing.T) {
	t.Parallel()
	for _, delta := range []bool{false, true} {
		f, _ := newLarge(t, false)
		f.requireGoesOnInSteps(t, delta)
	}
}

// requireGoesOnInSteps cuts restores short when some more was read, and demands that they come to an end.
func (f *fake) requireGoesOnInSteps(t *testing.T, delta bool) {
	t.Helper()
	fresh := newPlace(t)
	whole, err := f.run(t, fresh, restore.Options{})
	require.NoError(t, err)
	p := newPlace(t)
	if delta {
		_, err := f.run(t, p, restore.Options{})
		require.NoError(t, err)
		for i := range 10 {
			overwrite(t, filepath.Join(p.data, fmt.Sprintf("base/5/%d", 20000+i)), 0, []byte("changed"))
		}
	}
	tries := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		var seen atomic.Int64
		r, err := f.open(t, cutting{f.store, func(n int) {
			if seen.Add(int64(n)) > 3*MiB {
				cancel()
			}
		}})
		require.NoError(t, err)
		result, err := f.plan(t).Run(ctx, r, p.data, p.options(restore.Options{Jobs: 1, Delta: delta}))
		cancel()
		if err == nil {
			require.Positive(t, result.ReusedBytes)
			require.Equal(t, whole.RestoredBytes, result.RestoredBytes+result.ReusedBytes)
			break
		}
		require.ErrorIs(t, err, context.Canceled)
		requireNoCluster(t, p.data)
		tries++
		require.Less(t, tries, 10)
	}
	require.Greater(t, tries, 2)
	requireSame(t, fresh.tree(t), p.tree(t))
}

// That holds as well for frames of which the backup needs no more than a part.
func TestRestoreOfPartsGoesOn(t *testing.T) {
	t.Parallel()
	f, _ := newLarge(t, false)
	for i := range 10 {
		path := fmt.Sprintf("base/5/%d", 20000+i)
		b, err := f.c.Read(path)
		require.NoError(t, err)
		f.c.Write(path, append(noise(8192, 90), b[8192:]...))
	}
	compare := backup.Options{Type: backup.Incremental, Method: backup.ByLSN, Jobs: 1}
	m, err := backup.Take(t.Context(), f.repo, f.c, &compare)
	require.NoError(t, err)
	parts := 0
	for _, p := range m.PackList {
		for _, pieces := range p.Pieces {
			if slices.ContainsFunc(pieces, func(c backup.Piece) bool { return c.File == backup.NoFile }) {
				parts++
			}
		}
	}
	require.Greater(t, parts, 5)
	f.requireGoesOnInSteps(t, false)
}

// cutting is a store that tells of every read of a pack.
type cutting struct {
	repo.Store
	read func(n int)
}

func (c cutting) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	body, err := c.Store.Open(ctx, key, off, n)
	if err != nil || kindOf(key) != "packs" {
		return body, err
	}
	return cuttingBody{body, c.read}, nil
}

type cuttingBody struct {
	io.ReadCloser
	read func(n int)
}

func (b cuttingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.read(n)
	return n, err
}
