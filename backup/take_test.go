package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/stretchr/testify/require"
)

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func TestTakeHoldsEveryByte(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files fstest.MapFS
	}{
		{"small cluster", nil},
		{"no files", fstest.MapFS{}},
		{"sizes around a page, a frame and a unit of work", fstest.MapFS{
			"a/1": {Data: noise(1)}, "a/2": {Data: noise(8191)}, "a/3": {Data: noise(8192)}, "a/4": {Data: noise(8193)},
			"a/5": {Data: noise(1<<20 - 1)}, "a/6": {Data: noise(1 << 20)}, "a/7": {Data: noise(1<<20 + 1)},
			"a/8": {Data: noise(8<<20 - 1)}, "a/9": {Data: noise(8<<20 + 1)}, "a/0": {},
		}},
		{"zero bytes in every place", fstest.MapFS{
			"z/all":    {Data: make([]byte, 100_000)},
			"z/begin":  {Data: append(make([]byte, 100_000), 1)},
			"z/end":    {Data: append([]byte{1}, make([]byte, 100_000)...)},
			"z/holes":  {Data: slices.Concat(noise(8192), make([]byte, 8192), noise(10), make([]byte, 30_000), noise(8192))},
			"z/within": {Data: slices.Concat(noise(4000), make([]byte, 3<<20), noise(4000))},
		}},
		{"names of every kind", fstest.MapFS{
			"a b": {Data: []byte("1")}, "a\nb": {Data: []byte("2")}, "a'b\"c": {Data: []byte("3")}, "ä/ö": {Data: []byte("4")},
			"a.b": {Data: []byte("5")}, "a/b": {Data: []byte("6")}, "a-b": {Data: []byte("7")}, "...": {Data: []byte("8")},
			"C:/x": {Data: []byte("9")}, strings.Repeat("n", 255): {Data: []byte("10")}, "\u2028": {Data: []byte("11")},
		}},
	}
	for _, tt := range tests {
		for _, jobs := range []int{1, 4} {
			t.Run(fmt.Sprintf("%s, %d jobs", tt.name, jobs), func(t *testing.T) {
				t.Parallel()
				o := &backuptest.Options{}
				if tt.files != nil {
					o.Files = tt.files
				}
				c := backuptest.New(o)
				all, _ := newCipher(t)
				if jobs == 1 {
					all = nil
				}
				r := newRepo(t, nil, all)
				m, err := backup.Take(t.Context(), r, c, &backup.Options{Jobs: jobs})
				require.NoError(t, err)
				require.Len(t, c.Files(), m.Files)
				require.Zero(t, m.BadPages)
				requireSound(t, r)
				require.NoError(t, c.Compare(run(t, r, nil)))
			})
		}
	}
}

func TestTakeDescribesTheBackup(t *testing.T) {
	t.Parallel()
	spaces := []backup.Tablespace{{OID: 16385, Name: "fast", Location: "/mnt/fast"}}
	c := backuptest.New(&backuptest.Options{SystemID: 42, PGVersion: 160003, Tablespaces: spaces})
	c.Switch(3)
	r := newRepo(t, nil, nil)
	labels := map[string]string{"job": "nightly", "": "<&>\x00"}
	m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Full, Labels: labels})
	require.NoError(t, err)

	var size, data int64
	for _, p := range c.Files() {
		b, err := c.Read(p)
		require.NoError(t, err)
		size += int64(len(b))
	}
	for _, f := range m.FileList {
		data += f.Data
	}
	require.Less(t, data, size, "zero pages take no space")
	var stored int64
	for _, k := range keys(t, r.Store(), "packs/"+string(m.ID)+"/") {
		info, err := r.Store().Stat(t.Context(), k)
		require.NoError(t, err)
		stored += info.Size
	}
	id, err := backup.ParseID(string(m.ID))
	require.NoError(t, err)
	begun, err := id.Time()
	require.NoError(t, err)
	require.Equal(t, 2026, begun.Year())
	require.Equal(t, backup.Summary{
		ID: id, Kind: "base", Type: backup.Full, SystemID: 42, PGVersion: 160003, Timeline: 1,
		StartLSN: m.StartLSN, StopLSN: m.StopLSN,
		StartedAt: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), StoppedAt: time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC),
		ClusterBytes: size, ReadBytes: size, StoredBytes: stored, Files: len(c.Files()), Labels: labels,
		Packs: len(m.PackList), PageSize: 8192, WALSegmentSize: wal.MinSegmentSize, DataChecksums: true,
	}, m.Summary)
	require.Equal(t, uint64(4), m.FirstSegment().Number)
	require.Equal(t, uint64(4), m.LastSegment().Number)
	require.Equal(t, spaces, m.Tablespaces)
	require.Contains(t, m.Label, "LABEL: pgcairn "+string(m.ID))
	require.Equal(t, "16385 /mnt/fast\n", m.TablespaceMap)
	loaded, err := backup.Load(t.Context(), r, m.ID)
	require.NoError(t, err)
	require.Equal(t, m, loaded)
}

// What changes between listing and reading a file, and while it is read, is harmless: recovery replays it.
func TestFilesChangeWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	const (
		rel  = "base/5/20000"
		conf = "postgresql.auto.conf"
		mb   = 1 << 20
	)
	tests := []struct {
		name   string
		path   string
		before []byte
		op     backuptest.Operation
		off    int64 // of the read at which it changes
		after  []byte
		gone   bool
		want   []byte // content in the backup; nil: it is not in it
	}{
		{"vanishes before it is opened", rel, noise(100_000), backuptest.OpOpen, 0, nil, true, nil},
		{"vanishes while it is read", rel, noise(3 * mb), backuptest.OpRead, mb, nil, true, noise(3 * mb)},
		{"shrinks to nothing before it is read", rel, noise(100_000), backuptest.OpOpen, 0, []byte{}, false, []byte{}},
		{"shrinks before it is read", rel, noise(100_000), backuptest.OpOpen, 0, noise(100_000)[:8192], false, noise(100_000)[:8192]},
		{"shrinks to part of a page", rel, noise(100_000), backuptest.OpOpen, 0, noise(100_000)[:8000], false, noise(100_000)[:8000]},
		{"shrinks to less than a unit of work", rel, noise(20 * mb), backuptest.OpOpen, 0, noise(20 * mb)[:mb], false, noise(20 * mb)[:mb]},
		{"shrinks behind the reader", rel, noise(20 * mb), backuptest.OpRead, 16 * mb, noise(20 * mb)[:mb], false, noise(20 * mb)[:16*mb]},
		{"a relation grows: the WAL has it", rel, noise(100_000)[:8192], backuptest.OpOpen, 0, noise(100_000), false, noise(100_000)[:8192]},
		{"an empty relation grows", rel, []byte{}, backuptest.OpOpen, 0, noise(100_000), false, []byte{}},
		{"a configuration file grows", conf, []byte("a = 1\n"), backuptest.OpOpen, 0, repeat("b = 2\n", 300_000), false, repeat("b = 2\n", 300_000)},
		{"an empty file grows", conf, []byte{}, backuptest.OpOpen, 0, []byte("a = 1\n"), false, []byte("a = 1\n")},
		{"a log grows on and on", "log/a.log", repeat("a line\n", 100), backuptest.OpOpen, 0, repeat("a line\n", 5*mb), false, repeat("a line\n", 700)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c *backuptest.Cluster
			var once sync.Once
			c = backuptest.New(&backuptest.Options{NoChecksums: true, Files: fstest.MapFS{tt.path: {Data: tt.before}}, Hook: func(call backuptest.Call) error {
				if call.Op == tt.op && call.Path == tt.path && call.Off >= tt.off {
					once.Do(func() {
						if tt.gone {
							c.Remove(tt.path)
						} else {
							c.Write(tt.path, tt.after)
						}
					})
				}
				return nil
			}})
			r := newRepo(t, nil, nil)
			m, err := backup.Take(t.Context(), r, c, &backup.Options{Jobs: 1})
			require.NoError(t, err)
			if tt.want == nil {
				require.Empty(t, m.FileList)
				return
			}
			require.Len(t, m.FileList, 1)
			if tt.path == "log/a.log" {
				// It is cut off somewhere after its listed size.
				require.Greater(t, m.FileList[0].Size, int64(len(tt.before)))
				require.Less(t, m.FileList[0].Size, int64(2*mb))
				return
			}
			require.Equal(t, int64(len(tt.want)), m.FileList[0].Size)
			if tt.path == rel {
				dir := run(t, r, nil)
				c.Write(rel, tt.want)
				require.NoError(t, c.Compare(dir))
			}
		})
	}
}

func TestPagesThatFailTheirChecksum(t *testing.T) {
	t.Parallel()
	const (
		rel   = "base/5/20000.1"
		block = 16 // the first of the second file
	)
	damaged := func(lsn uint64) []byte {
		b := backuptest.Pages(block, 4, lsn, "a table")
		b[2*8192+5000] ^= 1
		return b
	}
	good := backuptest.Pages(block, 4, 1<<10, "a table")
	bad := []backup.BadPage{{Path: rel, Block: block + 2}}
	unused := slices.Clone(good)
	clear(unused[2*8192 : 3*8192]) // a new page, but for
	unused[2*8192+9] = 1           // its checksum
	tests := []struct {
		name    string
		content []byte
		heals   int // at this read of the page; 0: never
		want    []backup.BadPage
	}{
		{"sound", good, 0, nil},
		{"damaged", damaged(1 << 10), 0, bad},
		{"damaged, with an LSN beyond the end of the backup", damaged(1 << 60), 0, bad},
		{"torn, changed during the backup: recovery replaces it", damaged(1<<20 + 100), 0, nil},
		{"torn, and whole when read again", damaged(1 << 10), 1, nil},
		{"torn, and whole at the last try", damaged(1 << 10), 3, nil},
		{"neither new nor used", unused, 0, bad},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var c *backuptest.Cluster
			var mu sync.Mutex
			reads := 0
			c = backuptest.New(&backuptest.Options{
				RelSegPages: block, Files: fstest.MapFS{rel: {Data: tt.content}, "base/5/20000": {Data: backuptest.Pages(0, block, 1, "a table")}},
				Hook: func(call backuptest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if call.Op == backuptest.OpRead && call.Path == rel {
						if reads == tt.heals && tt.heals > 0 {
							c.Write(rel, good)
						}
						reads++
					}
					return nil
				},
			})
			r := newRepo(t, nil, nil)
			m, err := backup.Take(t.Context(), r, c, nil)
			require.NoError(t, err)
			require.Equal(t, tt.want, m.BadPageList)
			require.Equal(t, len(tt.want), m.BadPages)
			all, err := backup.List(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, len(tt.want), all[0].BadPages)
			require.NoError(t, c.Compare(run(t, r, nil)), "bad pages are in the backup as they are")
		})
	}
}

// A page that is truncated away between its two reads is no bad page.
func TestTornPageThatIsTruncated(t *testing.T) {
	t.Parallel()
	const rel = "base/5/20000"
	content := backuptest.Pages(0, 2, 1, "a table")
	content[8192+100] ^= 1
	var c *backuptest.Cluster
	var mu sync.Mutex
	reads := 0
	c = backuptest.New(&backuptest.Options{Files: fstest.MapFS{rel: {Data: content}}, Hook: func(call backuptest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if call.Op == backuptest.OpRead && call.Path == rel {
			if reads++; reads == 2 {
				c.Write(rel, content[:8192])
			}
		}
		return nil
	}})
	m, err := backup.Take(t.Context(), newRepo(t, nil, nil), c, nil)
	require.NoError(t, err)
	require.Zero(t, m.BadPages)
}

// Without checksums, or in files that are no relations, there is nothing to check.
func TestPagesWithoutChecksums(t *testing.T) {
	t.Parallel()
	for _, o := range []*backuptest.Options{
		{NoChecksums: true, Files: fstest.MapFS{"base/5/20000": {Data: noise(8192)}}},
		{Files: fstest.MapFS{"pg_xact/0000": {Data: noise(8192)}, "base/5/20000": {Data: noise(8191)}}},
	} {
		m, err := backup.Take(t.Context(), newRepo(t, nil, nil), backuptest.New(o), nil)
		require.NoError(t, err)
		require.Zero(t, m.BadPages)
	}
}

// Where very many pages are bad, reading each again would take forever, and the log tells of the first.
func TestVeryManyBadPages(t *testing.T) {
	t.Parallel()
	const n = 2500
	var mu sync.Mutex
	reads := 0
	content := backuptest.Pages(7, n, 1, "pages of another place")
	c := backuptest.New(&backuptest.Options{Files: fstest.MapFS{"base/5/20000": {Data: content}}, Hook: func(call backuptest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		reads++
		return nil
	}})
	r := newRepo(t, nil, nil)
	var log bytes.Buffer
	m, err := backup.Take(t.Context(), r, c, &backup.Options{Jobs: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.Equal(t, n, m.BadPages)
	require.Equal(t, 100, strings.Count(log.String(), "a page does not match"))
	require.Contains(t, log.String(), "pages=2400")
	require.Equal(t, backup.BadPage{Path: "base/5/20000", Block: n - 1}, m.BadPageList[n-1])
	require.Less(t, reads, 3200)
	loaded, err := backup.Load(t.Context(), r, m.ID)
	require.NoError(t, err)
	require.Equal(t, m.BadPageList, loaded.BadPageList)
}

// Tiny files take more room in the manifest than in a pack.
func TestVeryManyTinyFiles(t *testing.T) {
	t.Parallel()
	const n = 70_000
	files := fstest.MapFS{}
	for i := range n {
		files[fmt.Sprintf("many/%02d/%05d-%x", i%10, i, noise(16 + i%3)[:8])] = &fstest.MapFile{Data: fmt.Appendf(nil, "%d", i)}
	}
	c := backuptest.New(&backuptest.Options{Files: files})
	r := newRepo(t, nil, nil)
	m, err := backup.Take(t.Context(), r, c, &backup.Options{Jobs: 1})
	require.NoError(t, err)
	require.Equal(t, n, m.Files)
	var frames, most int
	for _, p := range m.PackList {
		for _, pieces := range p.Pieces {
			frames, most = frames+1, max(most, len(pieces))
		}
	}
	require.Equal(t, 2, frames, "a frame is full when it has very many pieces")
	require.LessOrEqual(t, most, 1<<16)
	all := requireSound(t, r)
	require.Len(t, all, 1)
}

func TestTakeRefusesNamesThatNoManifestCanHold(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"base/a\\b", "base/a\xff", strings.Repeat("d/", 2100) + "f", "../x", "/x", "a//b", "backup_label/x"} {
		read := false
		c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
			read = read || call.Op == backuptest.OpRead
			return nil
		}})
		c.Write(name, []byte("x"))
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, c, nil)
		require.ErrorContains(t, err, fmt.Sprintf("path %q", name))
		require.False(t, read, "it is found out before anything is read")
		require.Empty(t, keys(t, r.Store(), "backups/"))
		require.Zero(t, c.Running())
	}
}

func TestTakeRefusesOptions(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		o    backup.Options
		want string
	}{
		{"type", backup.Options{Type: "partial"}, `unknown type "partial"`},
		{"method", backup.Options{Method: "guess"}, `unknown method "guess"`},
		{"labels", backup.Options{Labels: map[string]string{"a": strings.Repeat("x", 5000)}}, "labels of 5001 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, nil, nil)
			had := keys(t, r.Store(), "")
			_, err := backup.Take(t.Context(), r, backuptest.New(nil), &tt.o)
			require.ErrorContains(t, err, tt.want)
			require.Equal(t, had, keys(t, r.Store(), ""))
		})
	}
}

// The longest labels there may be still leave a summary that can be listed.
func TestLongestLabels(t *testing.T) {
	t.Parallel()
	r := newRepo(t, nil, nil)
	labels := map[string]string{"<": strings.Repeat("<", 4095)}
	_, err := backup.Take(t.Context(), r, backuptest.New(nil), &backup.Options{Labels: labels})
	require.NoError(t, err)
	require.Equal(t, labels, requireSound(t, r)[0].Labels)
}

func TestTakeShowsProgress(t *testing.T) {
	t.Parallel()
	var phases []string
	var last backup.Progress
	done := false
	m, err := backup.Take(t.Context(), newRepo(t, nil, nil), backuptest.New(nil), &backup.Options{Progress: func(p backup.Progress) {
		require.False(t, done)
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		require.LessOrEqual(t, p.ReadBytes, p.Total)
		last = p
	}})
	done = true
	require.NoError(t, err)
	require.Equal(t, []string{"start", "stop", "wal", "commit"}, slices.DeleteFunc(phases, func(p string) bool { return p == "read" }))
	require.Equal(t, backup.Progress{Phase: "commit", ReadBytes: m.ReadBytes, Total: m.ReadBytes, Stored: m.StoredBytes, Files: m.Files}, last)
}

func TestTwoBackupsAtOnce(t *testing.T) {
	t.Parallel()
	r := newRepo(t, nil, nil)
	inside, leave := make(chan struct{}), make(chan struct{})
	first := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpFiles {
			close(inside)
			<-leave
		}
		return nil
	}})
	result := make(chan error)
	go func() {
		_, err := backup.Take(context.WithoutCancel(t.Context()), r, first, nil)
		result <- err
	}()
	<-inside
	second := backuptest.New(nil)
	_, err := backup.Take(t.Context(), r, second, nil)
	var held *repo.LeaseError
	require.ErrorAs(t, err, &held)
	require.Equal(t, "backup", held.Name)
	close(leave)
	require.NoError(t, <-result)
	require.Len(t, requireSound(t, r), 1)
	_, err = backup.Take(t.Context(), r, second, nil)
	require.NoError(t, err)
	require.Len(t, requireSound(t, r), 2)
}

// sourceCalls lists the calls that a backup makes on a cluster.
func sourceCalls(t *testing.T) int {
	t.Helper()
	n := 0
	var mu sync.Mutex
	c := backuptest.New(&backuptest.Options{Hook: func(backuptest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		n++
		return nil
	}})
	_, err := backup.Take(t.Context(), newRepo(t, nil, nil), c, &backup.Options{Jobs: 1})
	require.NoError(t, err)
	return n
}

// Whatever call on the source fails, or is the last before the caller gives up, the error says so, nothing is committed,
// the server is left alone, and the next backup succeeds.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("the server is on fire")
	total := sourceCalls(t)
	require.Greater(t, total, 30)
	for _, kind := range []string{"fail", "cancel"} {
		for n := 1; n <= total; n++ {
			ctx, cancel := context.WithCancel(t.Context())
			var mu sync.Mutex
			seen := 0
			var hit backuptest.Call
			c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
				mu.Lock()
				defer mu.Unlock()
				if seen++; seen != n {
					return nil
				}
				hit = call
				if kind == "cancel" {
					cancel()
					return nil
				}
				return broken
			}})
			r := newRepo(t, nil, nil)
			m, err := backup.Take(ctx, r, c, &backup.Options{Jobs: 1})
			cancel()
			want := broken
			if kind == "cancel" {
				want = context.Canceled
			}
			require.ErrorIs(t, err, want, "%s at call %d, %v", kind, n, hit)
			require.Nil(t, m)
			require.Zero(t, c.Running())
			require.Empty(t, requireSound(t, r))
			_, err = backup.Take(t.Context(), r, c, nil)
			require.NoError(t, err, "%s at call %d, %v", kind, n, hit)
		}
	}
}

// The lease must be known to be held at the moment of the commit.
func TestLeaseIsLost(t *testing.T) {
	t.Parallel()
	store := repotest.Mem(nil)
	r := newRepo(t, store, nil)
	c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op != backuptest.OpStop {
			return nil
		}
		// Another host, for which the lease has expired, takes it over.
		other, err := repo.Open(t.Context(), hoursOn{store}, &repo.Options{Now: func() time.Time { return time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC) }})
		if err != nil {
			return err
		}
		return other.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error { return nil })
	}})
	_, err := backup.Take(t.Context(), r, c, nil)
	require.ErrorIs(t, err, repo.ErrLeaseLost)
	require.Empty(t, keys(t, store, "backups/"))
	require.Zero(t, c.Running())
}

func TestRepositoryOfAnotherCluster(t *testing.T) {
	t.Parallel()
	r := newRepo(t, nil, nil)
	_, err := backup.Take(t.Context(), r, backuptest.New(&backuptest.Options{SystemID: 1}), nil)
	require.NoError(t, err)
	had := keys(t, r.Store(), "packs/")
	c := backuptest.New(&backuptest.Options{SystemID: 2})
	_, err = backup.Take(t.Context(), r, c, nil)
	var foreign *wal.ForeignError
	require.ErrorAs(t, err, &foreign)
	require.Equal(t, wal.ForeignError{Name: "the server", Got: 2, Want: 1}, *foreign)
	require.Equal(t, had, keys(t, r.Store(), "packs/"), "identities are compared before a byte is written")
	require.Zero(t, c.Running())

	_, err = backup.Take(t.Context(), r, backuptest.New(&backuptest.Options{SystemID: 1, SegmentSize: 2 << 20}), nil)
	require.ErrorContains(t, err, "segments of 2097152 bytes")
}

func TestWALThatTheBackupNeeds(t *testing.T) {
	t.Parallel()
	// Segments that are gone from the server by the time Take looks for them.
	gone := func(archive *wal.Archive) *backuptest.Cluster {
		var c *backuptest.Cluster
		c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
			if call.Op == backuptest.OpFiles {
				c.Switch(3)
			}
			if call.Op == backuptest.OpOpen && path.Dir(call.Path) == "pg_wal" {
				if archive != nil {
					if err := c.Archive(t.Context(), archive); err != nil {
						return err
					}
				}
				c.Recycle()
			}
			return nil
		}})
		return c
	}
	t.Run("is pushed", func(t *testing.T) {
		t.Parallel()
		var c *backuptest.Cluster
		c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
			if call.Op == backuptest.OpFiles {
				c.Switch(3)
			}
			return nil
		}})
		r := newRepo(t, nil, nil)
		m, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		require.Equal(t, uint64(1), m.FirstSegment().Number)
		require.Equal(t, uint64(4), m.LastSegment().Number)
		requireSound(t, r)
		require.Len(t, keys(t, r.Store(), "wal/"), 4)
	})
	t.Run("was archived and recycled", func(t *testing.T) {
		t.Parallel()
		r := newRepo(t, nil, nil)
		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		_, err = backup.Take(t.Context(), r, gone(a), nil)
		require.NoError(t, err)
		require.Len(t, requireSound(t, r), 1)
	})
	t.Run("is lost", func(t *testing.T) {
		t.Parallel()
		r := newRepo(t, nil, nil)
		_, err := backup.Take(t.Context(), r, gone(nil), nil)
		var missing *backup.MissingWALError
		require.ErrorAs(t, err, &missing)
		require.Equal(t, "000000010000000000000001", missing.Segment)
		require.ErrorContains(t, err, "wal_keep_size")
		require.Empty(t, keys(t, r.Store(), "backups/"))
	})
	t.Run("is archived with other content", func(t *testing.T) {
		t.Parallel()
		r := newRepo(t, nil, nil)
		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		twin := backuptest.New(&backuptest.Options{PGVersion: 170000})
		twin.Switch(1)
		require.NoError(t, twin.Archive(t.Context(), a))
		_, err = backup.Take(t.Context(), r, backuptest.New(nil), nil)
		var conflict *wal.ConflictError
		require.ErrorAs(t, err, &conflict)
		require.Empty(t, keys(t, r.Store(), "backups/"))
	})
	t.Run("has a history", func(t *testing.T) {
		t.Parallel()
		c := backuptest.New(nil)
		c.Switch(2)
		require.Equal(t, wal.Timeline(2), c.Promote())
		r := newRepo(t, nil, nil)
		m, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		require.Equal(t, wal.Timeline(2), m.Timeline)
		require.Contains(t, keys(t, r.Store(), "wal/"), fmt.Sprintf("wal/%d/00000002.history", c.System().ID))
		require.NoError(t, c.Compare(run(t, r, nil)))
	})
}

func TestListAndLoad(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	r := newRepo(t, nil, nil)
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	require.Empty(t, all)
	require.NotNil(t, all)
	var want []backup.ID
	for range 3 {
		m, err := backup.Take(t.Context(), r, c, nil)
		require.NoError(t, err)
		want = append(want, m.ID)
	}
	all = requireSound(t, r)
	var got []backup.ID
	for _, s := range all {
		got = append(got, s.ID)
	}
	require.Equal(t, want, got, "oldest first")

	_, err = backup.Load(t.Context(), r, "20260101T000000Z-abcdef")
	require.ErrorContains(t, err, "20260101T000000Z-abcdef")
	require.True(t, isNotExist(err))
	for _, id := range []backup.ID{"", "../../pgcairn.json", "20260101T000000Z", "20260101T000000Z-ABCDEF", "20261301T000000Z-abcdef"} {
		_, err = backup.Load(t.Context(), r, id)
		require.ErrorContains(t, err, "is not the ID of a backup")
		require.False(t, isNotExist(err))
	}
}

// What is no backup in the place of backups is reported, and hides no other.
func TestListReportsWhatIsNoBackup(t *testing.T) {
	t.Parallel()
	r := newRepo(t, nil, nil)
	m, err := backup.Take(t.Context(), r, backuptest.New(nil), nil)
	require.NoError(t, err)
	w, err := r.Store().Create(t.Context(), "backups/README")
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
	all, err := backup.List(t.Context(), r)
	require.Len(t, all, 1)
	require.Equal(t, m.ID, all[0].ID)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, "backups/README", corrupt.Key)

	p, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	require.Contains(t, strings.Join(p.Warnings, "\n"), "backups/README")
}
