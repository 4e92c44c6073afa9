package restore_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/stretchr/testify/require"
)

// newChain takes three incremental backups of a cluster of some size, between which some pages of each file are written:
// no frame of the full one is needed as a whole. Its store tells how many bytes of packs were read, by how many requests.
func newChain(t *testing.T, encrypted bool) (f *fake, read, requests *atomic.Int64) {
	t.Helper()
	f, _ = newLarge(t, encrypted)
	for n := range 3 {
		for i := range 10 {
			path := fmt.Sprintf("base/5/%d", 20000+i)
			b, err := f.c.Read(path)
			require.NoError(t, err)
			b = slices.Clone(b)
			for _, page := range []int{10*n + i, 100} {
				copy(b[page*8192:], noise(8192, uint64(100+10*n+i)))
				binary.LittleEndian.PutUint32(b[page*8192:], uint32(f.c.LSN()>>32))
				binary.LittleEndian.PutUint32(b[page*8192+4:], uint32(f.c.LSN()))
			}
			f.c.Write(path, b)
		}
		var err error
		f.m, err = backup.Take(t.Context(), f.repo, f.c, &backup.Options{Type: backup.Incremental, Method: backup.ByLSN, Jobs: 1})
		require.NoError(t, err)
	}
	read, requests = &atomic.Int64{}, &atomic.Int64{}
	r, err := f.open(t, repo.Observe(f.store, func(o repo.Op) {
		if kindOf(o.Key) == "packs" && o.Name == "open" {
			read.Add(o.Bytes)
			requests.Add(1)
		}
	}))
	require.NoError(t, err)
	f.repo = r
	return f, read, requests
}

// packsInPart returns the packs with frames that are needed in part, and how many of these there are.
func packsInPart(m *backup.Manifest) (packs []*backup.PackPieces, frames int) {
	for i := range m.PackList {
		p := &m.PackList[i]
		n := 0
		for _, pieces := range p.Pieces {
			if len(pieces) > 0 && slices.ContainsFunc(pieces, func(c backup.Piece) bool { return c.File == backup.NoFile }) {
				n++
			}
		}
		if frames += n; n > 0 {
			packs = append(packs, p)
		}
	}
	return packs, frames
}

// Of frames that are needed in part, a delta restore fetches those in which something differs that is needed.
func TestDeltaOfParts(t *testing.T) {
	t.Parallel()
	page := func(p place, file, page int) {
		overwrite(t, filepath.Join(p.data, fmt.Sprintf("base/5/%d", 20000+file)), int64(page)*8192+4000, []byte("changed"))
	}
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted %t", encrypted), func(t *testing.T) {
			t.Parallel()
			f, read, requests := newChain(t, encrypted)
			packs, parts := packsInPart(f.m)
			require.GreaterOrEqual(t, parts, 10)
			fresh := newPlace(t)
			_, err := f.run(t, fresh, restore.Options{})
			require.NoError(t, err)
			require.LessOrEqual(t, int(requests.Load()), 3*len(f.m.PackList), "nobody asks for hashes where nothing is there")
			p := newPlace(t)
			_, err = f.run(t, p, restore.Options{})
			require.NoError(t, err)
			want := fresh.tree(t)

			for _, tt := range []struct {
				name   string
				change func()
				reads  int // MiB of packs, besides hashes
			}{
				{"nothing", func() {}, 0},
				{"one page", func() { page(p, 3, 50) }, 1},
				{"a page that is needed of the last", func() { page(p, 3, 100) }, 1},
				{"the last page of a frame, and the first", func() { page(p, 3, 127); page(p, 4, 0) }, 3},
				{"one page in a hundred", func() {
					for i := range 13 {
						page(p, i%3, 10*i)
					}
				}, 4},
				{"a file", func() { require.NoError(t, os.Remove(filepath.Join(p.data, "base/5/20005"))) }, 3},
			} {
				tt.change()
				read.Store(0)
				requests.Store(0)
				result, err := f.run(t, p, restore.Options{Delta: true, Jobs: 2})
				require.NoError(t, err, tt.name)
				requireSame(t, want, p.tree(t), tt.name)
				total := int64(0)
				for _, file := range f.m.FileList {
					total += file.Data
				}
				require.Equal(t, total, result.ReusedBytes+result.RestoredBytes, tt.name)
				hashes := 0
				for _, pack := range packs {
					hashes += 8 + 8*128*len(pack.Frames) + 16
				}
				if encrypted {
					hashes += 300_000 * len(packs)
				}
				require.LessOrEqual(t, read.Load(), int64(tt.reads*MiB+hashes), tt.name)
				if tt.reads > 0 {
					continue
				}
				require.Zero(t, result.RestoredBytes, tt.name)
				if encrypted {
					require.LessOrEqual(t, int(requests.Load()), 2*len(packs), tt.name)
				} else {
					require.Equal(t, len(packs), int(requests.Load()), tt.name)
				}
			}
		})
	}
}

// What a pack tells of parts of its frames is checked when it is read.
func TestDeltaOfDamagedParts(t *testing.T) {
	t.Parallel()
	f, _, _ := newChain(t, false)
	p := newPlace(t)
	_, err := f.run(t, p, restore.Options{})
	require.NoError(t, err)
	packs, _ := packsInPart(f.m)
	key := packs[0].Key
	whole := content(t, f.store)[key]
	at := len(whole) - 8000 // in the hashes, of which a frame has 1 KiB; the notes are shorter
	flipped := slices.Clone(whole)
	flipped[at] ^= 1
	for _, damaged := range [][]byte{flipped, whole[:at]} {
		f.repo, err = f.open(t, doctored{f.store, map[string][]byte{key: damaged}})
		require.NoError(t, err)
		_, err = f.run(t, p, restore.Options{Delta: true})
		var corrupt *repo.CorruptError
		require.ErrorAs(t, err, &corrupt)
		require.Equal(t, key, corrupt.Key)
		requireNoAnswer(t, err)
		requireNoCluster(t, p.data)
	}
	f.repo, err = f.open(t, f.store)
	require.NoError(t, err)
	_, err = f.run(t, p, restore.Options{Delta: true})
	require.NoError(t, err)
}

// Packs that were written before there were hashes of stretches are as good, and their frames are fetched.
func TestDeltaOfEarlierPacks(t *testing.T) {
	t.Parallel()
	mine := filepath.Join(t.TempDir(), "repository")
	require.NoError(t, os.CopyFS(mine, os.DirFS("../backup/testdata/golden-layout2/plain")))
	store, err := repo.OpenDir(mine, nil)
	require.NoError(t, err)
	var requests atomic.Int64
	r, err := repo.Open(t.Context(), repo.Observe(store, func(o repo.Op) {
		if kindOf(o.Key) == "packs" && o.Name == "open" {
			requests.Add(1)
		}
	}), nil)
	require.NoError(t, err)
	plan, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	m, err := backup.Load(t.Context(), r, plan.Backup.ID)
	require.NoError(t, err)
	packs, _ := packsInPart(m)
	require.Len(t, packs, 1)
	fresh, p := newPlace(t), newPlace(t)
	for _, at := range []place{fresh, p} {
		_, err := plan.Run(t.Context(), r, at.data, at.options(restore.Options{}))
		require.NoError(t, err)
	}
	want := fresh.tree(t)
	for _, change := range []func(){func() {}, func() { overwrite(t, filepath.Join(p.data, "base/5/16390"), 100, []byte("changed")) }} {
		change()
		requests.Store(0)
		_, err := plan.Run(t.Context(), r, p.data, p.options(restore.Options{Delta: true}))
		require.NoError(t, err)
		requireSame(t, want, p.tree(t))
		require.LessOrEqual(t, requests.Load(), int64(2), "to find that there are none, and the frame")
	}
}

// What an earlier version left beside the mark is not of the backup.
func TestJournalOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	f := newFake(t, false, nil)
	dir := filepath.Join(t.TempDir(), "data")
	write(t, filepath.Join(dir, "pgcairn.restore"), "{}")
	write(t, filepath.Join(dir, "pgcairn.restore.frames"), "records")
	_, err := f.plan(t).Run(t.Context(), f.repo, dir, nil)
	require.NoError(t, err)
	require.NoFileExists(t, filepath.Join(dir, "pgcairn.restore.frames"))
}
