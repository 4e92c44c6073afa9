package backup_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// change changes pages of a relation, which it makes or makes longer where need be.
func change(t *testing.T, c *backuptest.Cluster, relation string, m *backup.Manifest, first, n int, text string) {
	t.Helper()
	have, err := c.Read(relation)
	if !isNotExist(err) {
		require.NoError(t, err)
	}
	if end := (first + n) * 8192; len(have) < end {
		have = append(have, make([]byte, end-len(have))...)
	}
	copy(have[first*8192:], backuptest.Pages(uint32(first), n, uint64(m.StopLSN)+8, text))
	c.Write(relation, have)
}

// rawOf is how many bytes a backup's own packs hold of relations.
func rawOf(m *backup.Manifest) (sum int) {
	for _, p := range m.PackList {
		if !strings.Contains(p.Key, string(m.ID)) {
			continue
		}
		for _, pieces := range p.Pieces {
			for _, piece := range pieces {
				if piece.File != backup.NoFile && strings.HasPrefix(m.FileList[piece.File].Path, "base/5/3") {
					sum += piece.Length
				}
			}
		}
	}
	return sum
}

// A difference stores nothing of what a killed one has stored already and the files still hold, whichever way it finds
// what has changed. What has changed since is stored, and what the base has is not taken from elsewhere.
func TestTakeOverByDifferences(t *testing.T) {
	t.Parallel()
	all, only := newCipher(t)
	for _, tt := range []struct {
		kind   backup.Type
		method backup.Method
		logged bool
		cipher repo.Cipher
	}{
		{backup.Incremental, backup.ByIndex, true, nil},
		{backup.Differential, backup.ByIndex, true, only},
		{backup.Incremental, backup.BySummary, true, all},
		{backup.Differential, backup.ByCompare, false, nil},
		{backup.Incremental, backup.ByLSN, false, only},
	} {
		t.Run(fmt.Sprint(tt.kind, " by ", tt.method), func(t *testing.T) {
			t.Parallel()
			h, c := newHost(t, tt.cipher), backuptest.New(&backuptest.Options{Logged: tt.logged})
			reader := h
			if tt.cipher != nil {
				reader = &host{store: h.store, o: h.o}
				reader.o.Cipher = all
			}
			o := &backup.Options{Type: tt.kind, Method: tt.method, Jobs: 1}
			c.Write("base/5/30000", backuptest.Pages(0, 600, 8, "large"))
			c.Write("base/5/30009", backuptest.Pages(0, 10, 8, "quiet"))
			base := h.take(t, c, nil)
			if tt.kind == backup.Differential { // which is not built on
				change(t, c, "base/5/30008", base, 0, 10, "between")
				h.take(t, c, &backup.Options{Type: backup.Incremental, Method: tt.method})
			}
			change(t, c, "base/5/30000", base, 200, 256, "changed")
			change(t, c, "base/5/30001", base, 0, 400, "made")
			c.Write("pg_xact/0000", repeat("changed", 1<<16))
			left := h.leave(t, c, o)
			require.NotEmpty(t, left)

			change(t, c, "base/5/30001", base, 200, 1, "changed since")
			change(t, c, "base/5/30002", base, 0, 3, "made since")
			log, text := logTo()
			o.Logger = log
			m := h.take(t, c, o)
			require.Equal(t, tt.kind, m.Type)
			require.Equal(t, tt.method, m.Method)
			require.Equal(t, base.ID, m.Parent)
			require.Subset(t, packsOf(m), left)
			require.Positive(t, m.ReusedBytes)
			require.Contains(t, text.String(), fmt.Sprintf(`msg="taken over from killed backups" bytes=%d`, m.ReusedBytes))
			// One frame does not fit any more, which holds 1 MiB at most, and of a table three pages.
			require.LessOrEqual(t, rawOf(m), 1<<20+3*8192)
			require.GreaterOrEqual(t, rawOf(m), 4*8192)
			requireSound(t, reader.open(t, h.store))
			requireRestores(t, reader.open(t, h.store), m, c)
			orphans := reader.orphans(t)
			for _, key := range left {
				require.NotContains(t, orphans, key)
			}

			// They are another's from now on.
			full := h.take(t, c, nil)
			require.Zero(t, full.ReusedBytes)
			requireRestores(t, reader.open(t, h.store), full, c)
		})
	}
}

// Of what has changed again nothing is taken over, nor of packs that are gone.
func TestTakeOverByDifferencesWhatStillFits(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		since func(t *testing.T, h *host, c *backuptest.Cluster, base *backup.Manifest, left []string)
		fits  bool
	}{
		"all changed again": {func(t *testing.T, _ *host, c *backuptest.Cluster, base *backup.Manifest, _ []string) {
			change(t, c, "base/5/30001", base, 0, 300, "again")
		}, false},
		"each frame has changed": {func(t *testing.T, _ *host, c *backuptest.Cluster, base *backup.Manifest, _ []string) {
			for _, n := range []int{0, 100, 200, 299} {
				change(t, c, "base/5/30001", base, n, 1, "again")
			}
		}, false},
		"removed": {func(_ *testing.T, _ *host, c *backuptest.Cluster, _ *backup.Manifest, _ []string) {
			c.Remove("base/5/30001")
		}, false},
		"truncated": {func(_ *testing.T, _ *host, c *backuptest.Cluster, _ *backup.Manifest, _ []string) {
			c.Write("base/5/30001", nil)
		}, false},
		"packs are deleted": {func(t *testing.T, h *host, _ *backuptest.Cluster, _ *backup.Manifest, left []string) {
			for _, key := range left {
				require.NoError(t, h.store.Delete(t.Context(), key))
			}
		}, false},
		"some of them are": {func(t *testing.T, h *host, _ *backuptest.Cluster, _ *backup.Manifest, left []string) {
			require.NoError(t, h.store.Delete(t.Context(), left[0]))
		}, true},
	} {
		for _, logged := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", logged), func(t *testing.T) {
				t.Parallel()
				h, c := newHost(t, nil), backuptest.New(&backuptest.Options{Logged: logged})
				base := h.take(t, c, nil)
				o := &backup.Options{Type: backup.Incremental, Jobs: 1}
				change(t, c, "base/5/30001", base, 0, 300, "made")
				left := h.leave(t, c, o)
				change(t, c, "base/5/30002", base, 0, 300, "made")
				left = append(left, h.leave(t, c, o)...)
				require.GreaterOrEqual(t, len(left), 2)
				if !tt.fits {
					c.Remove("base/5/30002")
				}
				tt.since(t, h, c, base, left)
				m := h.take(t, c, o)
				requireRestores(t, h.open(t, h.store), m, c)
				requireSound(t, h.open(t, h.store))
				if tt.fits {
					require.Positive(t, m.ReusedBytes)
					require.Contains(t, packsOf(m), left[1])
					return
				}
				for _, p := range m.PackList {
					for _, pieces := range p.Pieces {
						for _, piece := range pieces {
							taken := slices.Contains(left, p.Key) && piece.File != backup.NoFile
							require.False(t, taken && m.FileList[piece.File].Path == "base/5/30001", "%v of %s", piece, p.Key)
						}
					}
				}
			})
		}
	}
}

// A difference leaves to the next full backup what a killed full one has left: little of it is of use, and all of it would
// have to be kept.
func TestTakeOverByDifferencesLeavesFullOnes(t *testing.T) {
	t.Parallel()
	for _, logged := range []bool{false, true} {
		h, c := newHost(t, nil), backuptest.New(&backuptest.Options{Logged: logged})
		c.Write("base/5/30000", backuptest.Pages(0, 1000, 8, "large"))
		base := h.take(t, c, nil)
		change(t, c, "base/5/30000", base, 300, 300, "changed")
		left := h.leave(t, c, &backup.Options{Jobs: 1})
		m := h.take(t, c, &backup.Options{Type: backup.Incremental})
		require.Zero(t, m.ReusedBytes)
		requireRestores(t, h.open(t, h.store), m, c)
		full := h.take(t, c, nil)
		require.Positive(t, full.ReusedBytes)
		require.Equal(t, left, packsOf(full))
	}
}

// A host with a state directory, of an encrypted repository, knows without asking that it has left nothing; another asks
// a few times.
func TestTakeOverByDifferencesAsksLittle(t *testing.T) {
	t.Parallel()
	all, only := newCipher(t)
	for name, cipher := range map[string]repo.Cipher{"plain": nil, "encrypted": all, "write-only": only} {
		h, c := newHost(t, cipher), backuptest.New(nil)
		h.take(t, c, nil)
		s := repotest.Faulty(h.store)
		_, err := backup.Take(t.Context(), h.open(t, s), c, &backup.Options{Type: backup.Incremental})
		require.NoError(t, err)
		asked := 0
		for _, call := range s.Calls() {
			if call.Op == repotest.OpList && strings.HasPrefix(call.Key, "packs/") {
				asked++
			}
		}
		if cipher == nil {
			require.NotZero(t, asked, name)
			require.LessOrEqual(t, asked, 10, name)
		} else {
			require.Zero(t, asked, name)
		}
	}
}

// Many differences are killed, at any moment and with changes between them: each that is taken restores to what was there.
func TestTakeOverByDifferencesManyTimes(t *testing.T) {
	t.Parallel()
	for _, method := range []backup.Method{"", backup.ByLSN, backup.ByCompare} {
		for _, sent := range []bool{false, true} {
			t.Run(fmt.Sprint(method, " ", sent), func(t *testing.T) {
				t.Parallel()
				h := newHost(t, nil)
				c := backuptest.New(&backuptest.Options{RelSegPages: 64, Logged: method != backup.ByLSN})
				from := newStreamed(c)
				random := rand.New(rand.NewPCG(8, 8))
				source := func() backup.Source {
					if sent && random.IntN(3) > 0 {
						return from
					}
					return c
				}
				lsn, reused := uint64(h.take(t, c, nil).StopLSN), int64(0)
				for i := range 30 {
					for range 4 {
						lsn += 100
						step(t, c, random, lsn)
					}
					o := &backup.Options{
						Type:   []backup.Type{backup.Incremental, backup.Differential, backup.Auto}[random.IntN(3)],
						Method: method, Jobs: 1 + random.IntN(3),
					}
					if i%3 != 2 {
						for _, key := range h.leave(t, source(), o) { // some were not stored yet
							if random.IntN(4) == 0 {
								require.NoError(t, h.store.Delete(t.Context(), key))
							}
						}
						continue
					}
					m := h.take(t, source(), o)
					require.NotEqual(t, backup.Full, m.Type)
					lsn = max(lsn, uint64(m.StopLSN))
					reused += m.ReusedBytes
					requireRestores(t, h.open(t, h.store), m, c)
					orphans := h.orphans(t)
					if i%2 == 0 {
						for _, key := range orphans { // as retention would
							require.NoError(t, h.store.Delete(t.Context(), key))
						}
					}
					requireSound(t, h.open(t, h.store))
				}
				if !sent { // of what is sent, only large files are compared
					require.Positive(t, reused)
				}
			})
		}
	}
}

// Of what a server sends, all of it or the difference, large parts of files are taken over as well.
func TestSentTakesOverByDifferences(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name           string
		method         backup.Method
		logged, differ bool
	}{
		{"by index", backup.ByIndex, true, false},
		{"by comparing", backup.ByCompare, false, false},
		{"sent as differences", backup.BySummary, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, c := newHost(t, nil), backuptest.New(&backuptest.Options{Logged: tt.logged})
			const relation = "base/5/23000"
			c.Write(relation, backuptest.Pages(0, 600, 8, "large"))
			from := newStreamed(c)
			if tt.differ {
				from.was = map[backup.ID]map[string][]byte{}
			}
			base := h.take(t, from, nil)
			from.took(t, base.ID)
			change(t, c, relation, base, 128, 384, "changed")
			change(t, c, relation, base, 600, 512, "grown")
			have, err := c.Read(relation)
			require.NoError(t, err)
			have[700*8192+5000] ^= 1 // a bad page
			c.Write(relation, have)
			o := &backup.Options{Type: backup.Incremental, Method: tt.method, Jobs: 1}
			require.NotEmpty(t, h.leave(t, from, o))
			change(t, c, relation, base, 1111, 1, "changed since")

			m := h.take(t, from, o)
			require.Equal(t, tt.method, m.Method)
			require.Positive(t, m.ReusedBytes)
			if tt.method != backup.ByCompare { // of whose frames and the base's few end at the same page
				require.Greater(t, m.ReusedBytes, m.StoredBytes)
			}
			require.Equal(t, []backup.BadPage{{Path: relation, Block: 700}}, m.BadPageList)
			requireSound(t, h.open(t, h.store))
			requireRestores(t, h.open(t, h.store), m, c)
		})
	}
}

// What was taken over and is deleted before the backup is committed is missed then.
func TestTakeOverByDifferencesOfWhatIsDeletedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHost(t, nil)
	var left []string
	c := backuptest.New(&backuptest.Options{Logged: true, Hook: func(call backuptest.Call) error {
		if call.Op == backuptest.OpStop && len(left) > 0 {
			return h.store.Delete(t.Context(), left[len(left)-1])
		}
		return nil
	}})
	base := h.take(t, c, nil)
	change(t, c, "base/5/30001", base, 0, 30, "made")
	o := &backup.Options{Type: backup.Incremental, Jobs: 1}
	left = h.leave(t, c, o)
	_, err := backup.Take(t.Context(), h.open(t, h.store), c, o)
	require.ErrorContains(t, err, left[len(left)-1])
	requireNoAnswer(t, err)
	require.Len(t, keys(t, h.store, "backups/"), 1)
	left = nil
	requireRestores(t, h.open(t, h.store), h.take(t, c, o), c)
}

// A host that has taken over packs has no more use for what it remembers of them.
func TestTakeOverByDifferencesForgets(t *testing.T) {
	t.Parallel()
	_, only := newCipher(t)
	h, c := newHost(t, only), backuptest.New(&backuptest.Options{Logged: true})
	base := h.take(t, c, nil)
	change(t, c, "base/5/30001", base, 0, 30, "made")
	o := &backup.Options{Type: backup.Incremental, Jobs: 1}
	h.leave(t, c, o)
	require.Positive(t, h.take(t, c, o).ReusedBytes)
	remembered, err := filepath.Glob(filepath.Join(h.o.StateDir, "*", "packs", "*"))
	require.NoError(t, err)
	require.Empty(t, remembered)

	// Another host does not know of what this one has left.
	change(t, c, "base/5/30001", base, 0, 30, "again")
	left := h.leave(t, c, o)
	require.NoError(t, os.RemoveAll(filepath.Join(h.o.StateDir, h.open(t, h.store).ID(), "packs")))
	m := h.take(t, c, o)
	require.Zero(t, m.ReusedBytes)
	require.Subset(t, keys(t, h.store, "packs/"), left)
}

// A file that is no relation, and becomes shorter while the backup runs, is not put together from what was read before and
// after: no WAL would set it right.
func TestTakeOverByDifferencesOfFilesThatShrink(t *testing.T) {
	t.Parallel()
	const name = "pg_hba.conf"
	var c *backuptest.Cluster
	opened, shrinks := 0, false
	c = backuptest.New(&backuptest.Options{Hook: func(call backuptest.Call) error {
		if shrinks && call.Op == backuptest.OpOpen && call.Path == name {
			if opened++; opened == 2 {
				c.Write(name, []byte("# short\n"))
			}
		}
		return nil
	}})
	h := newHost(t, nil)
	c.Write(name, repeat("# before\n", 3000))
	base := h.take(t, c, nil)
	change(t, c, "base/5/30001", base, 0, 30, "made")
	o := &backup.Options{Type: backup.Incremental, Jobs: 1}
	h.leave(t, c, o)
	was := repeat("# later\n", 3000)
	c.Write(name, was)
	shrinks = true
	m := h.take(t, c, o)
	shrinks = false
	require.Positive(t, m.ReusedBytes)
	require.Equal(t, 2, opened, "it is read to its end")
	c.Write(name, was) // as it was at first
	requireRestores(t, h.open(t, h.store), m, c)
}

// Pages that fail their checksum are found once each, whether they are stored or taken over, or the base's.
func TestTakeOverByDifferencesBadPages(t *testing.T) {
	t.Parallel()
	h, c := newHost(t, nil), backuptest.New(&backuptest.Options{Logged: true})
	damage := func(path string, block int) {
		b := backuptest.Pages(0, 10, 1<<10, "damaged")
		b[block*8192+5000] ^= 1
		c.Write(path, b)
	}
	damage("base/5/30000", 2)
	damage("base/5/30001", 3)
	h.take(t, c, nil)
	damage("base/5/30001", 4)
	damage("base/5/30002", 5)
	o := &backup.Options{Type: backup.Incremental, Jobs: 1}
	h.leave(t, c, o)
	m := h.take(t, c, o)
	want := []backup.BadPage{{Path: "base/5/30000", Block: 2}, {Path: "base/5/30001", Block: 4}, {Path: "base/5/30002", Block: 5}}
	require.Equal(t, want, m.BadPageList)
	require.Positive(t, m.ReusedBytes)
	require.Zero(t, rawOf(m))
	requireRestores(t, h.open(t, h.store), m, c)
}

// Whatever call on the store for packs fails, the difference fails, or it is as good without what it could not look at.
func TestTakeOverByDifferencesWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	prepared, c := newHost(t, nil), backuptest.New(nil)
	base := prepared.take(t, c, nil)
	change(t, c, "base/5/30001", base, 0, 30, "made")
	o := &backup.Options{Type: backup.Incremental, Jobs: 1}
	prepared.leave(t, c, o)
	change(t, c, "base/5/30002", base, 0, 30, "made")
	for _, key := range []string{"packs/*", "packs/*/*"} { // lists, and packs
		for n, struck := 1, true; struck; n++ {
			h := prepared.copy(t)
			s := repotest.Faulty(h.store, repotest.Fault{Key: key, Nth: n, Do: repotest.Fail(nil)})
			m, err := backup.Take(t.Context(), h.open(t, s), c, o)
			require.Zero(t, c.Running())
			switch struck = s.Struck() > 0; {
			case !struck:
				require.NoError(t, err)
				require.Positive(t, m.ReusedBytes)
				require.Greater(t, n, 2, key)
			case err != nil:
				requireNoAnswer(t, err)
				require.ErrorIs(t, err, repotest.ErrInjected)
				m = h.take(t, c, o)
			}
			requireSound(t, h.open(t, h.store))
			requireRestores(t, h.open(t, h.store), m, c)
		}
	}
}
