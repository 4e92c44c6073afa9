package backup_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// host is one that backs up to a store.
type host struct {
	store repo.Store
	o     repo.Options
}

func newHost(t *testing.T, cipher repo.Cipher) *host {
	t.Helper()
	h := &host{store: repotest.Mem(nil), o: repo.Options{Cipher: cipher, Now: clock(), StateDir: t.TempDir()}}
	_, err := repo.Init(t.Context(), h.store, &h.o)
	require.NoError(t, err)
	return h
}

func (h *host) open(t *testing.T, s repo.Store) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), s, &h.o)
	require.NoError(t, err)
	return r
}

func (h *host) take(t *testing.T, c backup.Source, o *backup.Options) *backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), h.open(t, h.store), c, o)
	require.NoError(t, err)
	return m
}

// copy returns the host and the store as they are.
func (h *host) copy(t *testing.T) *host {
	t.Helper()
	c := &host{store: repotest.Mem(nil), o: h.o}
	for _, key := range keys(t, h.store, "") {
		write(t, c.store, key, read(t, h.store, key))
	}
	c.o.StateDir = filepath.Join(t.TempDir(), "state")
	require.NoError(t, os.CopyFS(c.o.StateDir, os.DirFS(h.o.StateDir)))
	return c
}

// leave has a backup fail so that it leaves what one leaves that is killed just before it commits, and returns the keys
// of its packs.
func (h *host) leave(t *testing.T, c backup.Source, o *backup.Options) []string {
	t.Helper()
	before := keys(t, h.store, "packs/")
	s := repotest.Faulty(h.store, repotest.Fault{Op: repotest.OpCreate, Key: "backups/*", Do: repotest.Fail(nil)})
	_, err := backup.Take(t.Context(), h.open(t, s), c, o)
	require.ErrorIs(t, err, repotest.ErrInjected)
	return slices.DeleteFunc(keys(t, h.store, "packs/"), func(key string) bool { return slices.Contains(before, key) })
}

func (h *host) orphans(t *testing.T) (all []string) {
	t.Helper()
	for o, err := range backup.Orphans(t.Context(), h.open(t, h.store)) {
		require.NoError(t, err)
		if o.Key == "server-manifests/"+string(o.Backup) {
			continue
		}
		require.Equal(t, "packs/"+string(o.Backup)+"/", o.Key[:len(o.Key)-8])
		info, err := h.store.Stat(t.Context(), o.Key)
		require.NoError(t, err)
		require.Equal(t, info.Size, o.Size)
		all = append(all, o.Key)
	}
	return all
}

// packsOf are the keys of the packs that a manifest names.
func packsOf(m *backup.Manifest) (all []string) {
	for _, p := range m.PackList {
		all = append(all, p.Key)
	}
	return all
}

// storedOf is how many bytes the frames of packs take.
func storedOf(packs []backup.PackPieces) (sum int64) {
	for _, p := range packs {
		for _, f := range p.Frames {
			sum += int64(f.Stored)
		}
	}
	return sum
}

// logTo returns a logger, and what it was told.
func logTo() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewTextHandler(&b, nil)), &b
}

// A full backup stores nothing of what a killed one has stored already, and is a full one in all else.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for _, compression := range []repo.Compression{repo.ZstdFastest, repo.S2} {
		t.Run(string(compression), func(t *testing.T) {
			t.Parallel()
			h, c := newHost(t, nil), backuptest.New(nil)
			c.Write("base/5/30000", backuptest.Pages(0, 1000, 1<<16, "large"))
			left := h.leave(t, c, &backup.Options{Compression: compression})
			require.NotEmpty(t, left)
			require.Equal(t, left, h.orphans(t))

			log, text := logTo()
			m := h.take(t, c, &backup.Options{Logger: log})
			require.Equal(t, backup.Full, m.Type)
			require.Empty(t, m.Parent)
			require.Empty(t, m.Method)
			require.Empty(t, m.Reason)
			require.Zero(t, m.StoredBytes)
			require.Equal(t, storedOf(m.PackList), m.ReusedBytes)
			require.Equal(t, left, packsOf(m))
			require.Equal(t, left, keys(t, h.store, "packs/"), "not one more")
			require.Equal(t, m.ClusterBytes, m.ReadBytes, "all is read")
			require.Empty(t, h.orphans(t))
			require.Contains(t, text.String(), fmt.Sprintf(`msg="taken over from killed backups" bytes=%d stored=0`, m.ReusedBytes))
			requireSound(t, h.open(t, h.store))
			requireRestores(t, h.open(t, h.store), m, c)

			// It is another's from now on: the next full backup is one by itself.
			next := h.take(t, c, nil)
			require.Zero(t, next.ReusedBytes)
			require.Positive(t, next.StoredBytes)
			for _, key := range packsOf(next) {
				require.NotContains(t, left, key)
			}
		})
	}
}

// A full backup that nobody wished for takes over as well; others have what they build on.
func TestTakeOverByType(t *testing.T) {
	t.Parallel()
	for _, kind := range []backup.Type{backup.Auto, backup.Incremental, backup.Differential} {
		h, c := newHost(t, nil), backuptest.New(nil)
		left := h.leave(t, c, nil)
		m := h.take(t, c, &backup.Options{Type: kind})
		require.Equal(t, backup.Full, m.Type)
		require.NotEmpty(t, m.Reason)
		require.Equal(t, left, packsOf(m))

		left = h.leave(t, c, nil)
		next := h.take(t, c, &backup.Options{Type: kind})
		require.Equal(t, m.ID, next.Parent)
		require.Zero(t, next.ReusedBytes)
		require.Equal(t, left, h.orphans(t))
		full := h.take(t, c, nil)
		require.Equal(t, left, packsOf(full), "what an incremental has left alone is there for the next full one")
	}
}

// IDs of one second are in no order: what was killed a moment ago may have the later one.
func TestTakeOverWithinASecond(t *testing.T) {
	t.Parallel()
	writes, _ := newCipher(t)
	for name, cipher := range map[string]repo.Cipher{"plain": nil, "encrypted": writes} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 12 { // either is the later one
				h, c := newHost(t, cipher), backuptest.New(nil)
				h.take(t, c, nil)
				at := h.o.Now().Add(time.Minute)
				h.o.Now = func() time.Time { return at }
				c.Write("base/5/30000", backuptest.Pages(0, 10, 1<<30, "new"))
				left := h.leave(t, c, &backup.Options{Type: backup.Incremental})
				m := h.take(t, c, &backup.Options{Type: backup.Incremental})
				require.Equal(t, backup.Incremental, m.Type)
				require.Positive(t, m.ReusedBytes)
				require.Subset(t, packsOf(m), left)
			}
		})
	}
}

// What the files hold no more is stored anew, and what they still hold is not.
func TestTakeOverWhatStillFits(t *testing.T) {
	t.Parallel()
	h, c := newHost(t, nil), backuptest.New(nil)
	for i := range 8 {
		c.Write(fmt.Sprintf("base/5/3000%d", i), backuptest.Pages(0, 128, 1<<16, fmt.Sprint("table ", i)))
	}
	left := h.leave(t, c, &backup.Options{Jobs: 1})
	require.Len(t, left, 1)
	have, err := c.Read("base/5/30001")
	require.NoError(t, err)
	copy(have[50*8192:], backuptest.Pages(50, 1, 1<<17, "changed"))
	c.Write("base/5/30001", have)
	c.Write("base/5/30002", have[:100*8192]) // other content, and shorter
	c.Remove("base/5/30003")
	have, err = c.Read("base/5/30004")
	require.NoError(t, err)
	c.Write("base/5/30004", append(have, backuptest.Pages(128, 1, 1<<17, "grown")...))
	c.Write("base/5/30008", backuptest.Pages(0, 128, 1<<17, "added"))

	m := h.take(t, c, nil)
	requireRestores(t, h.open(t, h.store), m, c)
	require.Positive(t, m.ReusedBytes)
	require.Positive(t, m.StoredBytes)
	require.NotContains(t, h.orphans(t), left[0], "some of it is needed")
	kept := map[string]int64{}
	for _, p := range m.PackList {
		if p.Key != left[0] {
			continue
		}
		for _, pieces := range p.Pieces {
			for _, piece := range pieces {
				if piece.File != backup.NoFile {
					kept[m.FileList[piece.File].Path] += int64(piece.Length)
				}
			}
		}
	}
	for path := range kept {
		require.NotContains(t, []string{"base/5/30001", "base/5/30002", "base/5/30003", "base/5/30008"}, path)
	}
	for _, path := range []string{"base/5/30000", "base/5/30005", "base/5/30006", "base/5/30007"} {
		require.Contains(t, kept, path)
	}
}

// Many backups are killed, at any moment and with changes between them: each that is taken restores to what was there.
func TestTakeOverManyTimes(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	c := backuptest.New(&backuptest.Options{RelSegPages: 64})
	random := rand.New(rand.NewPCG(7, 7))
	lsn, reused := uint64(1<<24), int64(0)
	for i := range 30 {
		for range 8 {
			lsn += 100
			step(t, c, random, lsn)
		}
		o := &backup.Options{Jobs: 1 + random.IntN(3)}
		if i%5 != 4 {
			left := h.leave(t, c, o)
			for _, key := range left { // some were not stored yet
				if random.IntN(4) == 0 {
					require.NoError(t, h.store.Delete(t.Context(), key))
				}
			}
			continue
		}
		m := h.take(t, c, o)
		reused += m.ReusedBytes
		requireRestores(t, h.open(t, h.store), m, c)
		orphans := h.orphans(t)
		for _, key := range keys(t, h.store, "packs/") {
			if slices.Contains(orphans, key) { // as retention would
				require.NoError(t, h.store.Delete(t.Context(), key))
			}
		}
		requireSound(t, h.open(t, h.store))
	}
	require.Positive(t, reused)
}

// Pages that fail their checksum are found as ever, once each, whether they are stored or taken over.
func TestTakeOverBadPages(t *testing.T) {
	t.Parallel()
	h, c := newHost(t, nil), backuptest.New(nil)
	damage := func(path string, block int) {
		b := backuptest.Pages(0, 10, 1<<10, "damaged")
		b[block*8192+5000] ^= 1
		c.Write(path, b)
	}
	damage("base/5/30000", 3)
	damage("base/5/30001", 4)
	h.leave(t, c, &backup.Options{Jobs: 1})
	m := h.take(t, c, nil)
	want := []backup.BadPage{{Path: "base/5/30000", Block: 3}, {Path: "base/5/30001", Block: 4}}
	require.Equal(t, want, m.BadPageList)
	require.Zero(t, m.StoredBytes)

	h.leave(t, c, &backup.Options{Jobs: 1})
	damage("base/5/30001", 5)
	m = h.take(t, c, nil)
	want[1].Block = 5
	require.Equal(t, want, m.BadPageList)
	require.Positive(t, m.StoredBytes)
	requireRestores(t, h.open(t, h.store), m, c)
}

// A page that is torn while it is compared is whole when it is read again, and so is taken over.
func TestTakeOverTornPage(t *testing.T) {
	t.Parallel()
	const rel = "base/5/30000"
	good := backuptest.Pages(0, 4, 1<<10, "a table")
	torn := bytes.Clone(good)
	torn[2*8192+5000] ^= 1
	reads := -1
	var c *backuptest.Cluster
	c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpRead && call.Path == rel && reads >= 0 {
			if reads == 1 {
				c.Write(rel, good)
			}
			reads++
		}
		return nil
	}})
	c.Write(rel, good)
	h := newHost(t, nil)
	h.leave(t, c, &backup.Options{Jobs: 1})
	c.Write(rel, torn)
	reads = 0
	m := h.take(t, c, &backup.Options{Jobs: 1})
	require.Greater(t, reads, 1)
	require.Zero(t, m.BadPages)
	require.Zero(t, m.StoredBytes)
	requireRestores(t, h.open(t, h.store), m, c)
}

// Packs that do not say what is in them, or wrongly, are passed over: the backup is as good without.
func TestTakeOverPassesOver(t *testing.T) {
	t.Parallel()
	rewrite := func(t *testing.T, h *host, key string, change func([]byte) []byte) {
		t.Helper()
		b := change(bytes.Clone(read(t, h.store, key)))
		require.NoError(t, h.store.Delete(t.Context(), key))
		write(t, h.store, key, b)
	}
	noted := func(t *testing.T, h *host, key string, notes []byte) {
		t.Helper()
		require.NoError(t, h.store.Delete(t.Context(), key))
		w, err := h.open(t, h.store).CreatePack(t.Context(), key, nil)
		require.NoError(t, err)
		defer w.Close()
		require.NoError(t, w.Append([]byte("frame")))
		_, err = w.CommitWithNotes(notes)
		require.NoError(t, err)
	}
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, h *host, key string)
		why   string
	}{
		"no notes":      {func(t *testing.T, h *host, key string) { noted(t, h, key, nil) }, "it does not say what is in it"},
		"garbage":       {func(t *testing.T, h *host, key string) { noted(t, h, key, []byte("\x01garbage")) }, "malformed notes"},
		"later version": {func(t *testing.T, h *host, key string) { noted(t, h, key, []byte{2}) }, "notes of version 2"},
		"flipped bit": {func(t *testing.T, h *host, key string) {
			rewrite(t, h, key, func(b []byte) []byte { b[len(b)-60] ^= 1; return b })
		}, "checksum mismatch"},
		"cut off": {func(t *testing.T, h *host, key string) {
			rewrite(t, h, key, func(b []byte) []byte { return b[:len(b)/2] })
		}, ""},
		"empty": {func(t *testing.T, h *host, key string) {
			rewrite(t, h, key, func([]byte) []byte { return nil })
		}, "too short"},
		"another's": {func(t *testing.T, h *host, key string) {
			rewrite(t, h, key, func([]byte) []byte { return read(t, h.store, keys(t, h.store, "packs/")[0]) })
		}, ""},
		"what is no pack": {func(t *testing.T, h *host, key string) {
			write(t, h.store, key+".old", nil)
			write(t, h.store, "packs/20260101T000000Z/00000001", nil)
			write(t, h.store, "packs/notes", nil)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, c := newHost(t, nil), backuptest.New(nil)
			left := h.leave(t, c, &backup.Options{Jobs: 1})
			c.Write("base/5/30000", backuptest.Pages(0, 10, 1<<16, "new"))
			spoilt := h.leave(t, c, &backup.Options{Jobs: 1})
			require.Len(t, spoilt, 1)
			tt.spoil(t, h, spoilt[0])
			log, text := logTo()
			m := h.take(t, c, &backup.Options{Logger: log})
			require.Contains(t, text.String(), tt.why)
			require.Contains(t, packsOf(m), left[0], "the others are taken over")
			require.Positive(t, m.ReusedBytes)
			requireRestores(t, h.open(t, h.store), m, c)
		})
	}
}

// read returns an object as it is stored, and write makes one.
func read(t *testing.T, s repo.Store, key string) []byte {
	t.Helper()
	body, err := s.Open(t.Context(), key, 0, -1)
	require.NoError(t, err)
	defer body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(body)
	require.NoError(t, err)
	return b.Bytes()
}

func write(t *testing.T, s repo.Store, key string, content []byte) {
	t.Helper()
	w, err := s.Create(t.Context(), key)
	require.NoError(t, err)
	defer w.Close()
	_, err = w.Write(content)
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
}

// A host that cannot read what it writes takes over by what it remembers of it.
func TestTakeOverOfAWriteOnlyHost(t *testing.T) {
	t.Parallel()
	all, only := newCipher(t)
	h, c := newHost(t, only), backuptest.New(nil)
	reader := h.o
	reader.Cipher = all
	remembered := func() (files []string) {
		found, err := filepath.Glob(filepath.Join(h.o.StateDir, "*", "packs", "*", "*"))
		require.NoError(t, err)
		return found
	}
	left := h.leave(t, c, nil)
	require.Len(t, remembered(), len(left))
	m := h.take(t, c, nil)
	require.Equal(t, left, packsOf(m))
	require.Zero(t, m.StoredBytes)
	require.Empty(t, remembered())
	r, err := repo.Open(t.Context(), h.store, &reader)
	require.NoError(t, err)
	requireRestores(t, r, m, c)

	// Another host knows nothing of it, nor does this one when it has forgotten.
	for _, name := range []string{"another host", "damaged", "forgotten"} {
		left := h.leave(t, c, nil)
		another := *h
		for _, f := range remembered() {
			switch name {
			case "another host":
				another.o.StateDir = t.TempDir()
			case "damaged":
				b, err := os.ReadFile(f)
				require.NoError(t, err)
				b[len(b)/2] ^= 1
				require.NoError(t, os.WriteFile(f, b, 0o600))
			case "forgotten":
				require.NoError(t, os.Remove(f))
			}
		}
		log, text := logTo()
		m := another.take(t, c, &backup.Options{Logger: log})
		require.Zero(t, m.ReusedBytes, name)
		if name != "another host" { // which does not even know whether the last backup was a full one
			require.Contains(t, text.String(), "packs that killed backups have left are passed over", name)
		}
		requireRestores(t, r, m, c)
		require.Subset(t, keys(t, h.store, "packs/"), left)
		require.NoError(t, h.store.Delete(t.Context(), "backups/"+string(m.ID)))
		for _, key := range left {
			require.NoError(t, h.store.Delete(t.Context(), key))
		}
	}
}

// An incremental backup of a write-only host forgets its own packs, and not those that a full one may take over.
func TestPackNotesAreForgotten(t *testing.T) {
	t.Parallel()
	_, only := newCipher(t)
	h, c := newHost(t, only), backuptest.New(nil)
	remembered := func() int {
		found, err := filepath.Glob(filepath.Join(h.o.StateDir, "*", "packs", "*", "*"))
		require.NoError(t, err)
		return len(found)
	}
	h.take(t, c, nil)
	require.Zero(t, remembered())
	left := h.leave(t, c, nil)
	c.Write("base/5/30000", backuptest.Pages(0, 10, 1<<30, "new"))
	h.take(t, c, &backup.Options{Type: backup.Incremental})
	require.Equal(t, len(left), remembered())

	// One that fails takes its packs with it, where it may delete.
	failing := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpStop {
			return repotest.ErrInjected
		}
		return nil
	}})
	failing.Write("base/5/30001", backuptest.Pages(0, 10, 1<<30, "another"))
	_, err := backup.Take(t.Context(), h.open(t, h.store), failing, nil)
	require.ErrorIs(t, err, repotest.ErrInjected)
	require.Equal(t, len(left), remembered())
	s := repotest.Faulty(h.store, repotest.Fault{Op: repotest.OpDelete, Key: "packs/*/*", Do: repotest.Fail(nil)})
	_, err = backup.Take(t.Context(), h.open(t, s), failing, nil)
	require.ErrorIs(t, err, repotest.ErrInjected)
	require.Greater(t, remembered(), len(left))
	require.Positive(t, h.take(t, c, nil).ReusedBytes)
	require.Zero(t, remembered())
}

// A host that cannot keep them takes its backup all the same, and says so once.
func TestPackNotesThatCannotBeKept(t *testing.T) {
	t.Parallel()
	_, only := newCipher(t)
	h, c := newHost(t, only), backuptest.New(nil)
	require.NoError(t, os.WriteFile(filepath.Join(h.o.StateDir, h.open(t, h.store).ID()), nil, 0o600))
	log, text := logTo()
	h.take(t, c, &backup.Options{Logger: log, Jobs: 4})
	require.Equal(t, 1, strings.Count(text.String(), "cannot keep what is in packs"))
}

// A pack that others can read than those who are to read the backup is not part of it.
func TestTakeOverFromOtherRecipients(t *testing.T) {
	t.Parallel()
	old, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	next, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	before, err := crypto.New([]age.Recipient{old.Recipient()}, nil)
	require.NoError(t, err)
	for name, from := range map[string][]age.Identity{"write-only": nil, "reads all": {old, next}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, c := newHost(t, before), backuptest.New(nil)
			left := h.leave(t, c, nil)
			h.o.Cipher, err = crypto.New([]age.Recipient{next.Recipient()}, from)
			require.NoError(t, err)
			log, text := logTo()
			m := h.take(t, c, &backup.Options{Logger: log})
			require.Zero(t, m.ReusedBytes)
			require.Contains(t, text.String(), "encrypted to another data key")
			require.Subset(t, keys(t, h.store, "packs/"), left)

			// Who can read it now reads all of it.
			reader, err := crypto.New(nil, []age.Identity{next})
			require.NoError(t, err)
			r, err := repo.Open(t.Context(), h.store, &repo.Options{Cipher: reader})
			require.NoError(t, err)
			requireRestores(t, r, m, c)
		})
	}
}

// A full backup shares nothing with another, also when that one's manifest is gone and only others tell of its packs.
func TestTakeOverLeavesWhatOthersNeed(t *testing.T) {
	t.Parallel()
	h, c := newHost(t, nil), backuptest.New(nil)
	left := h.leave(t, c, nil)
	full := h.take(t, c, nil)
	require.Equal(t, left, packsOf(full))
	c.Write("base/5/30000", backuptest.Pages(0, 10, 1<<30, "new"))
	incr := h.take(t, c, &backup.Options{Type: backup.Incremental})
	require.Equal(t, full.ID, incr.Parent)
	require.NoError(t, h.store.Delete(t.Context(), "backups/"+string(full.ID)))
	require.Empty(t, h.orphans(t), "the incremental names them")
	m := h.take(t, c, nil)
	require.Zero(t, m.ReusedBytes)
	for _, key := range packsOf(m) {
		require.NotContains(t, packsOf(incr), key)
	}
	require.NoError(t, h.store.Delete(t.Context(), "backups/"+string(incr.ID)))
	require.ElementsMatch(t, packsOf(incr), h.orphans(t))
	requireRestores(t, h.open(t, h.store), m, c)
}

// Whatever call on the store fails, the backup fails, or it is as good without what it could not look at.
func TestTakeOverWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	all, only := newCipher(t)
	for name, cipher := range map[string]repo.Cipher{"plain": nil, "encrypted": all, "write-only": only} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			prepared, c := newHost(t, cipher), backuptest.New(nil)
			prepared.take(t, c, nil)
			prepared.take(t, c, &backup.Options{Type: backup.Incremental})
			prepared.leave(t, c, &backup.Options{Jobs: 1})
			if name == "encrypted" { // it is read in the repository
				require.NoError(t, os.RemoveAll(filepath.Join(prepared.o.StateDir, prepared.open(t, prepared.store).ID(), "packs")))
			}
			c.Write("base/5/30000", backuptest.Pages(0, 10, 1<<30, "new"))
			// Where it is encrypted, what is of other objects fails as without.
			effects, pattern := map[string]repotest.Effect{"fails": repotest.Fail(nil)}, "packs/*/*"
			if cipher == nil {
				effects["answer is lost"], pattern = repotest.FailAfter(nil), ""
			}
			for effect, do := range effects {
				for n, struck := 1, true; struck; n++ {
					h := prepared.copy(t)
					s := repotest.Faulty(h.store, repotest.Fault{Key: pattern, Nth: n, Do: do})
					r, err := repo.Open(t.Context(), s, &h.o)
					if err == nil {
						_, err = backup.Take(t.Context(), r, c, &backup.Options{Jobs: 1})
						require.Zero(t, c.Running())
					}
					struck = s.Struck() > 0
					if !struck {
						require.NoError(t, err)
						require.Greater(t, n, 3)
					}
					if err != nil {
						requireNoAnswer(t, err)
						require.ErrorIs(t, err, repotest.ErrInjected, "%s %d", effect, n)
					}
					if cipher != nil {
						h.o.Cipher = all
					}
					requireSound(t, h.open(t, h.store))
					m := h.take(t, c, nil)
					if n%10 == 0 || !struck {
						requireRestores(t, h.open(t, h.store), m, c)
					}
				}
			}
		})
	}
}

// A manifest that cannot be read is no answer to what is an orphan.
func TestOrphansWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	h, c := newHost(t, nil), backuptest.New(nil)
	full := h.take(t, c, nil)
	left := h.leave(t, c, nil)
	list := func(s repo.Store) (all []string, err error) {
		r, err := repo.Open(t.Context(), s, &h.o)
		if err != nil {
			return nil, err
		}
		for o, err := range backup.Orphans(t.Context(), r) {
			if err != nil {
				return all, err
			}
			all = append(all, o.Key)
		}
		return all, nil
	}
	for n := 1; ; n++ {
		s := repotest.Faulty(h.store, repotest.Fault{Nth: n, Do: repotest.Fail(nil)})
		got, err := list(s)
		if s.Struck() == 0 {
			require.NoError(t, err)
			require.Equal(t, left, got)
			require.Greater(t, n, 4)
			break
		}
		require.ErrorIs(t, err, repotest.ErrInjected)
		requireNoAnswer(t, err)
		require.Subset(t, left, got)
	}
	key := "backups/" + string(full.ID)
	b := read(t, h.store, key)
	b[len(b)/2] ^= 1
	require.NoError(t, h.store.Delete(t.Context(), key))
	write(t, h.store, key, b)
	got, err := list(h.store)
	var corrupt *repo.CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Empty(t, got)
}

// BenchmarkTakeOver tells how many bytes a full backup stores after one that was killed half way, beside one by itself.
func BenchmarkTakeOver(b *testing.B) {
	for _, killed := range []bool{false, true} {
		b.Run(fmt.Sprintf("killed=%v", killed), func(b *testing.B) {
			var stored, reused int64
			for range b.N {
				s := repotest.Mem(nil)
				r, err := repo.Init(b.Context(), s, &repo.Options{Now: clock()})
				require.NoError(b, err)
				c := backuptest.New(nil)
				random := rand.NewChaCha8([32]byte{})
				for i := range 4 {
					content := make([]byte, 16<<20)
					_, _ = random.Read(content)
					c.Write(fmt.Sprintf("extra/%d", i), content)
				}
				if killed {
					faulty := repotest.Faulty(s, repotest.Fault{Op: repotest.OpDelete, Do: repotest.Fail(nil)},
						repotest.Fault{Op: repotest.OpCreate, Key: "packs/*/00000003", Do: repotest.Fail(nil)})
					broken, err := repo.Open(b.Context(), faulty, nil)
					require.NoError(b, err)
					_, err = backup.Take(context.Background(), broken, c, &backup.Options{Jobs: 1})
					require.Error(b, err)
				}
				m, err := backup.Take(b.Context(), r, c, &backup.Options{Jobs: 1})
				require.NoError(b, err)
				stored, reused = m.StoredBytes, m.ReusedBytes
			}
			b.ReportMetric(float64(stored), "stored-bytes")
			b.ReportMetric(float64(reused), "reused-bytes")
		})
	}
}

// A backup that has lost its lease, to one that has taken over its packs, deletes none of them.
func TestTakeOverFromOneThatStillRuns(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	var c *backuptest.Cluster
	var m *backup.Manifest
	begun := false
	c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op != backuptest.OpStop || begun {
			return nil
		}
		begun = true
		// Another host, for which the lease has expired.
		next := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
		r, err := repo.Open(t.Context(), hoursOn{h.store}, &repo.Options{Now: func() time.Time { return next }})
		if err == nil {
			m, err = backup.Take(t.Context(), r, c, nil)
		}
		return err
	}})
	_, err := backup.Take(t.Context(), h.open(t, h.store), c, nil)
	require.ErrorIs(t, err, repo.ErrLeaseLost)
	require.Positive(t, m.ReusedBytes)
	require.Zero(t, m.StoredBytes)
	require.Len(t, requireSound(t, h.open(t, h.store)), 1)
	requireRestores(t, h.open(t, h.store), m, c)
}

// What was taken over and is gone when the backup is to be committed, since somebody has deleted it without asking, is
// not missed only when it is restored.
func TestTakeOverOfWhatIsDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	var left []string
	c := backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpStop && len(left) > 0 {
			return h.store.Delete(t.Context(), left[0])
		}
		return nil
	}})
	left = h.leave(t, c, nil)
	_, err := backup.Take(t.Context(), h.open(t, h.store), c, nil)
	require.ErrorContains(t, err, left[0])
	requireNoAnswer(t, err)
	require.Empty(t, keys(t, h.store, "backups/"))
	left = nil
	m := h.take(t, c, nil)
	requireRestores(t, h.open(t, h.store), m, c)
}

// hoursOn is a store some hours on: what it is asked to create to know the time is that much later than what is there.
type hoursOn struct{ repo.Store }

func (s hoursOn) Stat(ctx context.Context, key string) (repo.Info, error) {
	info, err := s.Store.Stat(ctx, key)
	if strings.HasPrefix(key, "probe/") {
		info.ModTime = info.ModTime.Add(24 * time.Hour)
	}
	return info, err
}
