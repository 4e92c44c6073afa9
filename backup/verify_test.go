package backup_test

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
	"github.com/stretchr/testify/require"
	"github.com/zeebo/xxh3"
)

// museum is a repository with an object of every kind.
type museum struct {
	store  repo.Store
	cipher repo.Cipher
	now    func() time.Time
	c      *backuptest.Cluster
	end    wal.LSN            // of all WAL, in a segment of which there are pieces
	all    []*backup.Manifest // in order; the last two are of timeline 2
}

// newMuseum fills a repository: backups of every type, codec and source, WAL of two timelines, and what lies about besides.
func newMuseum(t *testing.T, encrypted bool) *museum {
	t.Helper()
	g := &museum{store: repotest.Mem(nil), c: backuptest.New(&backuptest.Options{Logged: true})}
	g.now = g.c.Now
	if encrypted {
		g.cipher, _ = newCipher(t)
	}
	r, err := repo.Init(t.Context(), g.store, &repo.Options{Cipher: g.cipher, Now: g.now, StateDir: t.TempDir()})
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	lived := func() {
		g.c.Write("base/5/16384", backuptest.Pages(0, 6, uint64(g.c.LSN()), fmt.Sprint("a table ", g.c.LSN())))
		g.c.Commit()
		g.c.Switch(3)
		g.c.Commit()
		require.NoError(t, g.c.Archive(t.Context(), a))
	}
	take := func(s backup.Source, o backup.Options) {
		m, err := backup.Take(t.Context(), r, s, &o)
		require.NoError(t, err)
		g.all = append(g.all, m)
		lived()
	}
	lived() // of which no backup knows
	take(g.c, backup.Options{Compression: repo.ZstdBetter})
	take(g.c, backup.Options{Type: backup.Differential, Compression: repo.S2})
	take(g.c, backup.Options{Type: backup.Incremental, Compression: repo.Uncompressed})
	take(newStreamed(g.c), backup.Options{Compression: repo.Zstd})
	g.c.Promote()
	take(g.c, backup.Options{})
	take(g.c, backup.Options{Type: backup.Incremental})

	// What a receiver, an old primary, and one who looked, have left.
	g.c.Switch(1)
	last := wal.SegmentAt(g.c.Timeline(), g.c.LSN(), wal.MinSegmentSize)
	content := waltest.Segment(last, g.c.System().ID, 18)
	putPiece(t, r, g.c.System().ID, last, content, 0, 40_000)
	putPiece(t, r, g.c.System().ID, last, content, 40_000, 90_000)
	g.end = last.Start() + 90_000
	require.NoError(t, g.c.Archive(t.Context(), a))
	for _, name := range []string{last.Next().Name() + ".partial"} {
		n, err := wal.ParseName(name)
		require.NoError(t, err)
		content := waltest.Segment(last.Next(), g.c.System().ID, 18)
		require.NoError(t, a.PushContent(t.Context(), n, bytes.NewReader(content), int64(len(content))))
	}
	_, err = r.Put(t.Context(), fmt.Sprintf("indexes/%d/%s", g.c.System().ID, last.Name()[:22]), nil, func(w io.Writer) error {
		_, err := w.Write([]byte{1, 0}) // a roll-up of nothing
		return err
	})
	require.NoError(t, err)
	require.NoError(t, backup.WriteReceipt(t.Context(), r, &backup.Receipt{Kind: backup.ReceiptDrill, OK: true}))
	require.NoError(t, backup.Pin(t.Context(), r, g.all[0].ID))
	for _, prefix := range []string{"backups/", "packs/", "wal/", "indexes/", "pieces/", "server-manifests/", "systems/", "receipts/", "pins/", "leases/"} {
		require.NotEmpty(t, keys(t, g.store, prefix), prefix)
	}
	return g
}

func putPiece(t *testing.T, r *repo.Repo, system uint64, s wal.Segment, content []byte, from, to int) {
	t.Helper()
	sum := xxh3.Hash128(content[from:to]).Bytes()
	label := sha256.Sum256(sum[:])
	o := &repo.PutOptions{Label: func() ([]byte, error) { return label[:], nil }}
	_, err := r.Put(t.Context(), fmt.Sprintf("pieces/%d/%s/%08x-%08x", system, s.Name(), from, to), o, func(w io.Writer) error {
		_, err := w.Write(content[from:to])
		return err
	})
	require.NoError(t, err)
}

// open opens the repository in a store, as a host that reads all.
func (g *museum) open(t *testing.T, s repo.Store) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), s, &repo.Options{Cipher: g.cipher, Now: g.now})
	require.NoError(t, err)
	return r
}

// bothWays runs a test with a repository that is encrypted and one that is not.
func bothWays(t *testing.T, test func(t *testing.T, g *museum)) {
	t.Helper()
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprint("encrypted ", encrypted), func(t *testing.T) {
			t.Parallel()
			test(t, newMuseum(t, encrypted))
		})
	}
}

// verify requires that there is an answer.
func verify(t *testing.T, r *repo.Repo, o *backup.VerifyOptions) *backup.Report {
	t.Helper()
	report, err := backup.Verify(t.Context(), r, o)
	require.NoError(t, err)
	return report
}

var all = &backup.VerifyOptions{ReadData: true}

// What is sound is found to be so, once; then only what is new, or due, is read.
func TestVerifyReadsOnce(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, g *museum) {
		r := g.open(t, g.store)
		report := verify(t, r, nil)
		require.True(t, report.OK(), report)
		require.Zero(t, report.ReadObjects, "no content was asked for")
		require.Equal(t, len(g.all), report.Backups)

		report = verify(t, r, all)
		require.True(t, report.OK(), report)
		n := len(keys(t, g.store, "packs/")) + len(keys(t, g.store, "wal/")) + len(keys(t, g.store, "pieces/")) +
			len(keys(t, g.store, "indexes/")) + len(keys(t, g.store, "server-manifests/"))
		require.Equal(t, n, report.ReadObjects)
		last, err := backup.LastReceipt(t.Context(), r, backup.ReceiptVerify)
		require.NoError(t, err)
		require.True(t, last.OK && last.Whole && last.ReadData)
		require.Equal(t, report.ReadBytes, last.Bytes)

		report = verify(t, r, all)
		require.Zero(t, report.ReadObjects, "the second run reads nothing")
		require.Equal(t, n, report.SkippedObjects)

		m, err := backup.Take(t.Context(), r, g.c, &backup.Options{Type: backup.Incremental})
		require.NoError(t, err)
		report = verify(t, r, all)
		require.True(t, report.OK(), report)
		require.Positive(t, report.ReadObjects)
		require.Less(t, report.ReadObjects, 8, "what is new")
		require.Equal(t, n, report.SkippedObjects)
		require.Len(t, keys(t, g.store, "checked/"), 1)

		for _, o := range []*backup.VerifyOptions{{ReadData: true, MaxAge: -1}, {ReadData: true, MaxAge: time.Second}} {
			again := verify(t, r, o)
			require.Equal(t, report.ReadObjects+n, again.ReadObjects, "it is due again")
		}

		report = verify(t, r, &backup.VerifyOptions{ReadData: true, MaxAge: -1, Backups: []backup.ID{m.ID}})
		require.True(t, report.OK(), report)
		require.Equal(t, 1, report.Backups)
		require.GreaterOrEqual(t, report.ReadObjects, m.Packs+1)
		require.Less(t, report.ReadObjects, n/2)
		_, err = backup.Verify(t.Context(), r, &backup.VerifyOptions{Backups: []backup.ID{"20000101T000000Z-000000"}})
		require.True(t, isNotExist(err))
	})
}

// What is larger than the sample has its turn as well.
func TestVerifySampleSmallerThanAnObject(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	r := g.open(t, g.store)
	n := verify(t, r, &backup.VerifyOptions{ReadData: true, NoReceipt: true}).ReadObjects
	for i := range n {
		report := verify(t, r, &backup.VerifyOptions{ReadData: true, Sample: 1, Random: rand.New(rand.NewPCG(2, uint64(i)))})
		require.True(t, report.OK(), report)
		require.Equal(t, 1, report.ReadObjects)
		require.Equal(t, n-i-1, report.LeftObjects)
	}
	require.Zero(t, verify(t, r, all).ReadObjects)
}

// To verify one backup does not have the others read again.
func TestVerifyOfOneKeepsWhatIsKnownOfOthers(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	r := g.open(t, g.store)
	require.True(t, verify(t, r, all).OK())
	one := verify(t, r, &backup.VerifyOptions{Backups: []backup.ID{g.all[len(g.all)-1].ID}, ReadData: true, MaxAge: -1})
	require.True(t, one.OK(), one)
	require.Positive(t, one.ReadObjects)
	require.Zero(t, verify(t, r, all).ReadObjects)
}

// What a clock has taken down that was ahead, by more than clocks differ, is read again, and taken down anew.
func TestVerifyReadsAgainWhatWasReadInTheFuture(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	for _, ahead := range []time.Duration{10 * 365 * 24 * time.Hour, time.Hour} {
		forget(t, g)
		r, err := repo.Open(t.Context(), g.store, &repo.Options{Now: func() time.Time { return g.now().Add(ahead) }})
		require.NoError(t, err)
		n := verify(t, r, all).ReadObjects
		require.Positive(t, n)
		require.Equal(t, n, verify(t, g.open(t, g.store), all).ReadObjects, "it is read again")
		report := verify(t, g.open(t, g.store), all)
		require.Equal(t, n, report.SkippedObjects)
		require.False(t, report.SkippedSince.After(g.now()), "what was ahead is not kept")
		require.Len(t, keys(t, g.store, "checked/"), 1)
	}
	forget(t, g)
	r, err := repo.Open(t.Context(), g.store, &repo.Options{Now: func() time.Time { return g.now().Add(20 * time.Second) }})
	require.NoError(t, err)
	verify(t, r, all)
	require.Zero(t, verify(t, g.open(t, g.store), all).ReadObjects, "clocks differ a little")
}

// A sample is as large as it may be, of chance, and in the end all is read.
func TestVerifySample(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	r := g.open(t, g.store)
	read, runs := 0, 0
	for {
		report := verify(t, r, &backup.VerifyOptions{ReadData: true, Sample: 50_000, Random: rand.New(rand.NewPCG(1, uint64(runs)))})
		require.True(t, report.OK(), report)
		if report.ReadObjects > 1 {
			require.LessOrEqual(t, report.ReadBytes, int64(50_000))
		}
		last, err := backup.LastReceipt(t.Context(), r, backup.ReceiptVerify)
		require.NoError(t, err)
		require.Equal(t, report.LeftObjects, last.Left, "who asks for the receipt is told as well")
		read += report.ReadObjects
		require.Equal(t, read-report.ReadObjects, report.SkippedObjects)
		if runs++; report.LeftObjects == 0 {
			break
		}
		require.Less(t, runs, 1000)
	}
	require.Greater(t, runs, 1)
	require.Equal(t, verify(t, r, all).SkippedObjects, read)
}

// A run that is ended goes on where it was, as does one that left nothing but its checkpoints.
func TestVerifyGoesOn(t *testing.T) {
	t.Parallel()
	for name, kills := range map[string]bool{"fails": false, "is killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newMuseum(t, true)
			n := len(keys(t, g.store, "wal/")) / 2
			down := repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Nth: n}
			faults := []repotest.Fault{down}
			if kills { // nothing can be written after that either
				faults = append(faults, repotest.Fault{Op: repotest.OpCreate, Key: "checked/*", Nth: 4})
			}
			s := repotest.Faulty(g.store, faults...)
			report, err := backup.Verify(t.Context(), g.open(t, s), &backup.VerifyOptions{ReadData: true, Jobs: 1, CheckpointEvery: time.Second})
			require.ErrorIs(t, err, repotest.ErrInjected)
			require.Empty(t, report.Problems)
			require.Positive(t, report.ReadObjects)
			_, err = backup.LastReceipt(t.Context(), g.open(t, g.store), backup.ReceiptVerify)
			require.True(t, isNotExist(err), "a run that has not ended leaves no receipt")
			next := verify(t, g.open(t, g.store), all)
			require.True(t, next.OK(), next)
			if kills {
				require.Positive(t, next.SkippedObjects)
			} else {
				require.Equal(t, report.ReadObjects, next.SkippedObjects)
			}
			require.Len(t, keys(t, g.store, "checked/"), 1, "one stream is left")
			require.Zero(t, verify(t, g.open(t, g.store), all).ReadObjects)
		})
	}
}

// What a run has found wrong is not taken for right after it, though it has failed.
func TestVerifyRemembersWhatItFound(t *testing.T) {
	t.Parallel()
	for name, faults := range map[string][]repotest.Fault{
		"fails":     {{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Nth: 5}},
		"ends well": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newMuseum(t, false)
			require.True(t, verify(t, g.open(t, g.store), all).OK())
			pack := g.all[0].PackList[0].Key
			b := storedBytes(t, g.store, pack)
			b[len(b)/2] ^= 1
			replace(t, g.store, pack, b)
			s := repotest.Faulty(g.store, faults...)
			report, err := backup.Verify(t.Context(), g.open(t, s), &backup.VerifyOptions{ReadData: true, MaxAge: -1, Jobs: 1})
			require.Equal(t, len(faults) > 0, err != nil)
			require.Len(t, report.Problems, 1)
			last, err := backup.LastReceipt(t.Context(), g.open(t, g.store), backup.ReceiptVerify)
			require.NoError(t, err)
			require.False(t, last.OK)
			require.Equal(t, 1, last.Problems)
			require.Contains(t, last.Problem, pack)
			require.Equal(t, len(faults) == 0, last.Whole, "a run that has failed is not about all")
			next := verify(t, g.open(t, g.store), all)
			require.False(t, next.OK(), "it is read again")
			require.Less(t, next.ReadObjects, len(keys(t, g.store, "wal/")), "and not all else")
		})
	}
}

// A host that can only write looks at what it can, and says so; it keeps others from reading nothing.
func TestVerifyBlind(t *testing.T) {
	t.Parallel()
	mem, c := repotest.Mem(nil), backuptest.New(&backuptest.Options{Logged: true})
	reads, writes := newCipher(t)
	state := t.TempDir()
	host, err := repo.Init(t.Context(), mem, &repo.Options{Cipher: writes, Now: c.Now, StateDir: state})
	require.NoError(t, err)
	for range 2 {
		_, err := backup.Take(t.Context(), host, c, nil)
		require.NoError(t, err)
	}
	report := verify(t, host, all)
	require.True(t, report.OK(), report)
	require.Contains(t, strings.Join(report.Notes, "\n"), "no identity")
	require.True(t, report.Whole && !report.ReadData, "it knows all backups, and can read no content")
	require.Zero(t, report.ReadBytes, "labels are no content")
	require.Empty(t, keys(t, mem, "checked/"))
	reader, err := repo.Open(t.Context(), mem, &repo.Options{Cipher: reads, Now: c.Now})
	require.NoError(t, err)
	require.Positive(t, verify(t, reader, all).ReadObjects)

	pack := keys(t, mem, "packs/")[0]
	whole := storedBytes(t, mem, pack)
	replace(t, mem, pack, whole[:len(whole)-1])
	report = verify(t, host, nil)
	require.Len(t, report.Problems, 1, report)
	require.Equal(t, pack, report.Problems[0].Key)
	require.Len(t, report.Problems[0].Backups, 1)

	// Without what the host remembers there is less to say, and nothing is made up.
	stranger, err := repo.Open(t.Context(), mem, &repo.Options{Cipher: writes, Now: c.Now})
	require.NoError(t, err)
	report = verify(t, stranger, all)
	require.True(t, report.OK(), report)
	require.Contains(t, strings.Join(report.Notes, "\n"), "no copies of the manifests of 2 backups")
	require.False(t, report.Whole || report.ReadData)
	last, err := backup.LastReceipt(t.Context(), stranger, backup.ReceiptVerify)
	require.NoError(t, err)
	require.True(t, last.OK)
	require.False(t, last.Whole || last.ReadData || last.Bytes > 0, "%+v", last)
	require.Empty(t, last.Backups)
}

// What is missing, or cut off, is found, and what that costs is what cannot be restored in truth.
func TestVerifyFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, g *museum) {
		wals := keys(t, g.store, "wal/")
		some := slices.Concat(keys(t, g.store, "keys/"), keys(t, g.store, "packs/")[:4], keys(t, g.store, "systems/"), wals[:6], wals[len(wals)-4:])
		for i, key := range some {
			b := storedBytes(t, g.store, key)
			cut := []int{-1, 0, len(b) - 1}[i%3]
			if cut < 0 {
				require.NoError(t, g.store.Delete(t.Context(), key))
			} else {
				replace(t, g.store, key, b[:cut])
			}
			report := verify(t, g.open(t, g.store), &backup.VerifyOptions{ReadData: true, NoReceipt: true})
			found := slices.ContainsFunc(report.Problems, func(p backup.Problem) bool { return p.Key == key })
			lost := g.lost(t)
			require.Equal(t, lost, report.Lost.Backups, "%s, %d\n%s", key, cut, report)
			if !found {
				require.Equal(t, -1, cut, "%s\n%s", key, report)
				require.Empty(t, lost)
				require.Empty(t, report.Lost.Spans)
			}
			replace(t, g.store, key, b)
		}
	})
}

// lost tells which backups cannot be restored, by trying: their packs, and the WAL that makes them consistent.
func (g *museum) lost(t *testing.T) []backup.ID {
	t.Helper()
	var lost []backup.ID
	for _, m := range g.all {
		if g.tryOut(t, m) != nil {
			lost = append(lost, m.ID)
		}
	}
	return lost
}

func (g *museum) tryOut(t *testing.T, m *backup.Manifest) error {
	r, err := repo.Open(t.Context(), g.store, &repo.Options{Cipher: g.cipher, Now: g.now})
	if err != nil {
		return err
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return err
	}
	loaded, err := backup.Load(t.Context(), r, m.ID)
	if err != nil {
		return err
	}
	for _, p := range loaded.PackList {
		if err := r.ReadFrames(t.Context(), p.Pack, p.Needs, func(int, []byte) error { return nil }); err != nil {
			return err
		}
	}
	for s := m.FirstSegment(); s.Number <= m.LastSegment().Number; s = s.Next() {
		if err := a.Read(t.Context(), s.Name(), io.Discard); err != nil {
			return err
		}
	}
	return nil
}

// Without its history nobody knows how to get to a timeline: what of it no backup of its own leads to is lost.
func TestVerifyFindsAMissingHistory(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	const key = "wal/7000000000000000001/00000002.history"
	require.NoError(t, g.store.Delete(t.Context(), key))
	report := verify(t, g.open(t, g.store), nil)
	require.Len(t, report.Problems, 1, report)
	require.Equal(t, key, report.Problems[0].Key)
	require.Empty(t, report.Lost.Backups)
	require.Len(t, report.Lost.Spans, 1, report)
	require.Equal(t, wal.Timeline(2), report.Lost.Spans[0].Timeline)
	require.Equal(t, g.all[4].StopLSN, report.Lost.Spans[0].ToLSN, "from there on, its own backup leads on")
}

// Records of which nothing but work hangs are read as well: a pin and a lease that are damaged are told, and cost no backup.
func TestVerifyReadsPinsAndLeases(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	for _, prefix := range []string{"pins/", "leases/"} {
		for _, key := range keys(t, g.store, prefix) {
			b := storedBytes(t, g.store, key)
			flipBit(t, g.store, key, len(b)/2)
			report := verify(t, g.open(t, g.store), nil)
			require.Len(t, report.Problems, 1, report)
			require.Equal(t, key, report.Problems[0].Key)
			require.Empty(t, report.Lost.Backups)
			require.Empty(t, report.Lost.Spans)
			replace(t, g.store, key, b)
		}
	}
	r := g.open(t, g.store)
	gone := "pins/20000101T000000Z-000000/0000000" // of a backup that was dropped
	require.NoError(t, r.CreateRecord(t.Context(), gone+"1", map[string]any{"pinned": true}))
	require.NoError(t, r.CreateRecord(t.Context(), gone+"2", map[string]any{"pinned": false}))
	require.True(t, verify(t, r, nil).OK())
	require.NoError(t, r.CreateRecord(t.Context(), "pins/what", map[string]any{"pinned": true}))
	report := verify(t, r, nil)
	require.Len(t, report.Problems, 1, report)
	require.Equal(t, "pins/what", report.Problems[0].Key)
}

// A pinned backup is not dropped: without its manifest it is lost.
func TestVerifyMissesAPinnedBackup(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	first := g.all[0].ID
	manifest := storedBytes(t, g.store, "backups/"+string(first))
	require.NoError(t, g.store.Delete(t.Context(), "backups/"+string(first)))
	r := g.open(t, g.store)
	report := verify(t, r, nil)
	require.Len(t, report.Problems, 1, report)
	require.Equal(t, "backups/"+string(first), report.Problems[0].Key)
	require.ErrorContains(t, report.Problems[0].Err, "pinned")
	require.Equal(t, []backup.ID{first}, report.Problems[0].Backups)
	require.Equal(t, []backup.ID{first}, report.Lost.Backups)
	require.True(t, verify(t, r, &backup.VerifyOptions{Backups: []backup.ID{g.all[1].ID}}).OK(), "which is about another one")

	// Where its pin cannot be read, that is what is told.
	pin := keys(t, g.store, "pins/")[0]
	b := storedBytes(t, g.store, pin)
	flipBit(t, g.store, pin, len(b)/2)
	report = verify(t, r, nil)
	require.Len(t, report.Problems, 1, report)
	require.Equal(t, pin, report.Problems[0].Key)
	replace(t, g.store, pin, b)

	// One that comes, as by a copy, while the records are read is not missing.
	s := hooked{g.store, func(key string) {
		if _, err := g.store.Stat(t.Context(), "backups/"+string(first)); key == pin && err != nil {
			write(t, g.store, "backups/"+string(first), manifest)
		}
	}}
	require.True(t, verify(t, g.open(t, s), nil).OK())
	require.NoError(t, g.store.Delete(t.Context(), "backups/"+string(first)))

	require.NoError(t, backup.Unpin(t.Context(), r, first))
	require.True(t, verify(t, r, nil).OK(), "it is given up")
}

// What retention leaves out between backups is told, and is no problem to whoever says so.
func TestVerifyKeepWAL(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	gone := g.all[0].LastSegment().Next()
	for s := gone; s.Number < g.all[1].FirstSegment().Number; s = s.Next() {
		require.NoError(t, g.store.Delete(t.Context(), "wal/7000000000000000001/00000001/00000000000000/"+s.Name()))
	}
	r := g.open(t, g.store)
	report := verify(t, r, nil)
	require.Len(t, report.Problems, 1, report)
	require.Contains(t, report.Problems[0].Key, gone.Name())
	require.Empty(t, report.Lost.Backups)
	span := report.Lost.Spans[0]
	require.Equal(t, gone.Start(), span.FromLSN)
	require.Equal(t, g.all[1].StopLSN, span.ToLSN, "the next backup's end is within reach again")
	require.Equal(t, []backup.ID{g.all[0].ID}, span.Ends())
	require.False(t, span.FromTime.Before(g.all[0].StoppedAt))
	require.Equal(t, g.all[1].StoppedAt, span.ToTime)
	require.Contains(t, report.String(), "recovery ends there from "+string(g.all[0].ID))

	report = verify(t, r, &backup.VerifyOptions{KeepWAL: time.Second})
	require.True(t, report.OK(), report)
	require.Len(t, report.Gaps, 1)
	require.Equal(t, gone, report.Gaps[0].First)
	require.False(t, verify(t, r, &backup.VerifyOptions{KeepWAL: time.Hour}).OK(), "it is too young to be missing")
}

// Nor does it become one once the backup is dropped behind which it was left out.
func TestVerifyKeepWALWhenABackupIsDropped(t *testing.T) {
	t.Parallel()
	g := newMuseum(t, false)
	now := g.now()
	keep := &backup.VerifyOptions{KeepWAL: now.Sub(g.all[2].StoppedAt) + 1, NoReceipt: true}
	for s := g.all[0].LastSegment().Next(); s.Number < g.all[1].FirstSegment().Number; s = s.Next() {
		require.NoError(t, g.store.Delete(t.Context(), "wal/7000000000000000001/00000001/00000000000000/"+s.Name()))
	}
	r, err := repo.Open(t.Context(), g.store, &repo.Options{Now: func() time.Time { return now }})
	require.NoError(t, err)
	report := verify(t, r, keep)
	require.True(t, report.OK(), report)
	require.NoError(t, g.store.Delete(t.Context(), "backups/"+string(g.all[1].ID)))
	report = verify(t, r, keep)
	require.True(t, report.OK(), report)
	require.Len(t, report.Gaps, 1)

	// With no backup behind it, it is what recovery from the one before it reads.
	for _, m := range g.all[2:] {
		require.NoError(t, g.store.Delete(t.Context(), "backups/"+string(m.ID)))
	}
	require.False(t, verify(t, r, keep).OK())
}

var flips = flag.Int("flips", 60, "how many bits TestBitRot flips")

// TestBitRot flips bits, one at a time, in objects of every kind. Each is found, under the object's key, and what it is
// said to cost is what cannot be restored, or recovered to, in truth. What nobody needs is told to cost nothing.
func TestBitRot(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, g *museum) {
		verify(t, g.open(t, g.store), all) // there are streams checked/ then
		kinds := []string{"pgcairn.json", "keys/", "systems/", "backups/", "packs/", "server-manifests/", "wal/", "indexes/", "pieces/", "receipts/", "checked/", "pins/", "leases/"}
		random := rand.New(rand.NewPCG(6, uint64(len(keys(t, g.store, "keys/")))))
		sound := g.ends(t)
		found := map[string]int{}
		for range *flips / 2 {
			kind := kinds[random.IntN(len(kinds))]
			there := keys(t, g.store, kind)
			if len(there) == 0 {
				continue // keys, where nothing is encrypted
			}
			key := there[random.IntN(len(there))]
			b := storedBytes(t, g.store, key)
			at := random.IntN(8 * len(b))
			wrong := bytes.Clone(b)
			wrong[at/8] ^= 1 << (at % 8)
			replace(t, g.store, key, wrong)
			what := fmt.Sprintf("bit %d of byte %d of %d of %s", at%8, at/8, len(b), key)
			r, err := repo.Open(t.Context(), g.store, &repo.Options{Cipher: g.cipher, Now: g.now})
			if key == "pgcairn.json" {
				require.Error(t, err, what) // before anything is looked at
				r = g.opened(t, key, b)
			} else {
				require.NoError(t, err, what)
			}
			report := verify(t, r, &backup.VerifyOptions{ReadData: true, MaxAge: -1, NoReceipt: true})
			if strings.HasPrefix(key, "checked/") {
				report = verify(t, r, &backup.VerifyOptions{ReadData: true, NoReceipt: true})
			}
			require.Len(t, report.Problems, 1, "%s\n%s", what, report)
			p := report.Problems[0]
			require.Equal(t, key, p.Key, "%s\n%s", what, report)
			require.Equal(t, g.lost(t), p.Backups, "%s\n%s", what, report)
			require.Equal(t, p.Backups, report.Lost.Backups, what)
			if found[kind]++; kind == "wal/" {
				g.requireSpans(t, sound, g.ends(t), p, what)
			}
			replace(t, g.store, key, b)
		}
		t.Log(found)
	})
}

// opened opens the repository with a marker that is right, and lets it go wrong after that.
func (g *museum) opened(t *testing.T, key string, right []byte) *repo.Repo {
	t.Helper()
	wrong := storedBytes(t, g.store, key)
	replace(t, g.store, key, right)
	r := g.open(t, g.store)
	replace(t, g.store, key, wrong)
	return r
}

// ends tells, of each backup, up to where its own timeline can be recovered, by reading the WAL as a recovery does.
func (g *museum) ends(t *testing.T) map[backup.ID]wal.LSN {
	t.Helper()
	r := g.open(t, g.store)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	ends := map[backup.ID]wal.LSN{}
	for _, m := range g.all {
		s := m.FirstSegment()
		for a.Read(t.Context(), s.Name(), io.Discard) == nil {
			s = s.Next()
		}
		ends[m.ID] = min(s.Start(), g.end)
	}
	return ends
}

// requireSpans requires that what is told to be lost is no more and no less than what recovery along a backup's own timeline
// does not come to any more.
func (g *museum) requireSpans(t *testing.T, sound, now map[backup.ID]wal.LSN, p backup.Problem, what string) {
	t.Helper()
	reach := func(ends map[backup.ID]wal.LSN, timeline wal.Timeline, at wal.LSN) bool {
		return slices.ContainsFunc(g.all, func(m *backup.Manifest) bool {
			return m.Timeline == timeline && m.StopLSN <= at && at < ends[m.ID]
		})
	}
	for _, timeline := range []wal.Timeline{1, 2} {
		for at := wal.LSN(wal.MinSegmentSize); at < 64*wal.MinSegmentSize; at += wal.MinSegmentSize / 4 {
			told := slices.ContainsFunc(p.Spans, func(s backup.Span) bool { return s.Timeline == timeline && s.FromLSN <= at && at < s.ToLSN })
			if told {
				require.False(t, reach(now, timeline, at), "%s: %s on %d is told to be lost", what, at, timeline)
			} else if reach(sound, timeline, at) && !reach(now, timeline, at) {
				require.True(t, told, "%s: %s on %d is lost", what, at, timeline)
			}
		}
	}
}
