package backup_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/wal"
)

// restored restores one backup alone and compares it with the cluster.
func requireRestores(t *testing.T, r *repo.Repo, m *backup.Manifest, c *backuptest.Cluster) {
	t.Helper()
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), &restore.PlanOptions{Backup: m.ID})
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "data")
	_, err = p.Run(t.Context(), r, dir, nil)
	require.NoError(t, err)
	require.NoError(t, c.Compare(dir))
}

// Six hundred changes to files, with backups between them that build on each other: each restores to what was there.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                 string
		method, want         backup.Method
		logged, sent, differ bool // sent: by the server, which may send differences
	}{
		{"by index", "", backup.ByIndex, true, false, false},
		{"by summary", backup.BySummary, backup.BySummary, true, false, false},
		{"by lsn", backup.ByLSN, backup.ByLSN, false, false, false},
		{"by comparing", backup.ByCompare, backup.ByCompare, true, false, false},
		{"the WAL tells nothing", "", backup.ByCompare, false, false, false},
		{"sent, by index", "", backup.ByIndex, true, true, false},
		{"sent, by lsn", backup.ByLSN, backup.ByLSN, false, true, false},
		{"sent, by comparing", backup.ByCompare, backup.ByCompare, true, true, false},
		{"sent, the WAL tells nothing", "", backup.ByCompare, false, true, false},
		{"sent as differences", backup.BySummary, backup.BySummary, false, true, true},
		{"sent as differences now and then", "", "", true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := backuptest.New(&backuptest.Options{RelSegPages: 64, Logged: tt.logged})
			r := newRepo(t, nil, nil)
			random := rand.New(rand.NewPCG(4, 4))
			from := newStreamed(c)
			if tt.differ {
				from.was = map[backup.ID]map[string][]byte{}
			}
			take := func(kind backup.Type) *backup.Manifest {
				var source backup.Source = c
				if tt.sent && random.IntN(4) > 0 || tt.sent && tt.method == backup.BySummary {
					source = from // and now and then the other way
				}
				m, err := backup.Take(t.Context(), r, source, &backup.Options{Type: kind, Method: tt.method, Jobs: 1 + random.IntN(3)})
				require.NoError(t, err)
				requireRestores(t, r, m, c)
				from.took(t, m.ID)
				return m
			}
			full := take(backup.Auto)
			require.Equal(t, backup.Full, full.Type)
			require.NotEmpty(t, full.Reason)
			last := full
			lsn := uint64(last.StopLSN)
			for i := range 15 {
				for range 40 {
					lsn += 100
					step(t, c, random, lsn)
				}
				kind := []backup.Type{backup.Incremental, backup.Auto, backup.Differential}[i%3]
				m := take(kind)
				if tt.want != "" {
					require.Equal(t, tt.want, m.Method)
				}
				if kind == backup.Differential {
					require.Equal(t, full.ID, m.Parent)
				} else {
					require.Equal(t, last.ID, m.Parent)
				}
				last = m
				lsn = max(lsn, uint64(m.StopLSN))
			}
			// Of nothing that has changed, nothing is stored. By their LSNs pages may have changed after the last one began.
			// What is sent cannot be compared where a frame is of several files.
			if m := take(backup.Incremental); tt.method != backup.ByLSN && !tt.sent {
				require.Zero(t, m.StoredBytes)
			}
			requireSound(t, r)
		})
	}
}

// step changes a file of the cluster, as recovery from lsn on could not.
func step(t *testing.T, c *backuptest.Cluster, random *rand.Rand, lsn uint64) {
	t.Helper()
	relation := fmt.Sprintf("base/5/%d", 20000+random.IntN(12))
	have, err := c.Read(relation)
	exists := err == nil
	pages := len(have) / 8192
	text := fmt.Sprintf("at %d", lsn)
	switch random.IntN(9) {
	case 0: // made anew
		c.Write(relation, backuptest.Pages(0, random.IntN(20), lsn, text))
	case 1, 2, 3: // changed here and there
		for range min(pages, 3) {
			n := random.IntN(pages)
			copy(have[n*8192:], backuptest.Pages(uint32(n), 1, lsn, text))
		}
		if exists {
			c.Write(relation, have)
		}
	case 4: // grown
		c.Write(relation, append(have, backuptest.Pages(uint32(pages), 1+random.IntN(5), lsn, text)...))
	case 5: // grown by pages that are not used yet
		c.Write(relation, append(have, make([]byte, 8192*random.IntN(4))...))
	case 6: // cut off
		if pages > 0 {
			c.Write(relation, have[:8192*random.IntN(pages)])
		}
	case 7:
		if exists {
			c.Remove(relation)
		}
	case 8: // something else
		name := []string{"postgresql.conf", "pg_xact/0000", "base/5/20000_vm", "base/5/20001_fsm", "pg_multixact/offsets/0000", "extra/" + fmt.Sprint(random.IntN(5))}[random.IntN(6)]
		c.Write(name, []byte(strings.Repeat(text+"\n", random.IntN(2000))))
	}
}

// What has not changed is not stored again, however little of it there is in a frame.
func TestDifferenceStoresWhatHasChanged(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	c.Write("base/5/30000", backuptest.Pages(0, 1000, 1<<16, "large"))
	r := newRepo(t, nil, nil)
	full, err := backup.Take(t.Context(), r, c, nil)
	require.NoError(t, err)
	have, err := c.Read("base/5/30000")
	require.NoError(t, err)
	copy(have[500*8192:], backuptest.Pages(500, 1, uint64(full.StopLSN)+8, "changed"))
	c.Write("base/5/30000", have)
	stored := map[backup.Method]int64{}
	for _, method := range []backup.Method{backup.ByLSN, backup.ByCompare} {
		m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Differential, Method: method})
		require.NoError(t, err)
		requireRestores(t, r, m, c)
		raw := 0
		for _, p := range m.PackList {
			if strings.Contains(p.Key, string(m.ID)) {
				for _, f := range p.Frames {
					raw += f.Raw
				}
			}
		}
		stored[method] = int64(raw)
	}
	require.Equal(t, map[backup.Method]int64{backup.ByLSN: 8192, backup.ByCompare: stored[backup.ByCompare]}, stored)
	require.LessOrEqual(t, stored[backup.ByCompare], int64(1<<20))
}

// The newest backup needs no manifest but its own, and names the pack that is missing.
func TestDifferenceNeedsPacksOnly(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	c.Write("base/5/30000", backuptest.Pages(0, 300, 1<<24, "large"))
	store := repotest.Mem(nil)
	r := newRepo(t, store, nil)
	var all []*backup.Manifest
	for i := range 4 {
		m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: backup.Auto})
		require.NoError(t, err)
		all = append(all, m)
		c.Write(fmt.Sprintf("base/5/3100%d", i), backuptest.Pages(0, 2, uint64(m.StopLSN)+8, "new"))
		c.Remove("base/5/31000")
	}
	c.Remove("base/5/31003")
	last := all[3]
	for _, m := range all[:3] {
		require.NoError(t, store.Delete(t.Context(), "backups/"+string(m.ID)))
	}
	requireRestores(t, r, last, c)
	needed := map[string]bool{}
	for _, p := range last.PackList {
		needed[p.Key] = true
	}
	require.Greater(t, len(needed), 1)
	for _, key := range keys(t, store, "packs/") {
		if !needed[key] { // as retention would
			require.NoError(t, store.Delete(t.Context(), key))
		}
	}
	requireRestores(t, r, last, c)
	victim := slices.Sorted(maps.Keys(needed))[0]
	require.NoError(t, store.Delete(t.Context(), victim))
	p, err := restore.Prepare(t.Context(), r, restore.Immediate(), nil)
	require.NoError(t, err)
	_, err = p.Run(t.Context(), r, filepath.Join(t.TempDir(), "data"), nil)
	require.ErrorContains(t, err, victim)
}

// A difference that would mean nothing is a full backup, which says why.
func TestFullWhenForced(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before, after backuptest.Options
		change        func(t *testing.T, c *backuptest.Cluster)
		reason        string
	}{
		"a promotion":          {change: func(_ *testing.T, c *backuptest.Cluster) { c.Promote() }, reason: "timeline 1, and the server is on 2"},
		"checksums turned off": {after: backuptest.Options{NoChecksums: true}, reason: "data checksums have been turned off since"},
		"checksums turned on":  {before: backuptest.Options{NoChecksums: true}, reason: "data checksums have been turned on since"},
		"another major":        {before: backuptest.Options{PGVersion: 170004}, reason: "it is of PostgreSQL 17"},
		"other sizes":          {before: backuptest.Options{RelSegPages: 64}, reason: "other sizes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRepo(t, nil, nil)
			c := backuptest.New(&tt.before)
			_, err := backup.Take(t.Context(), r, c, nil)
			require.NoError(t, err)
			if tt.change != nil {
				tt.change(t, c)
			} else {
				c = backuptest.New(&tt.after)
				c.Switch(20)
			}
			for _, kind := range []backup.Type{backup.Auto, backup.Differential, backup.Incremental} {
				m, err := backup.Take(t.Context(), r, c, &backup.Options{Type: kind})
				require.NoError(t, err)
				require.Equal(t, backup.Full, m.Type)
				require.Contains(t, m.Reason, tt.reason)
				require.Empty(t, m.Parent)
				require.NoError(t, r.Store().Delete(t.Context(), "backups/"+string(m.ID)))
			}
		})
	}
}

// A standby may begin before the end of what it builds on, unless it lags behind that.
func TestWhatAStandbyBuildsOn(t *testing.T) {
	t.Parallel()
	c := backuptest.New(nil)
	base, err := backup.Take(t.Context(), newRepo(t, nil, nil), c, nil)
	require.NoError(t, err)
	session, err := c.Begin(t.Context(), backup.BeginOptions{})
	require.NoError(t, err)
	defer session.Close()
	for name, tt := range map[string]struct {
		standby        bool
		start, reached wal.LSN
		want           string
	}{
		"a primary behind it":             {false, base.StopLSN, 0, ""},
		"a primary in it":                 {false, base.StopLSN - 1, 0, "their histories differ"},
		"a standby behind it":             {true, base.StopLSN, base.StopLSN, ""},
		"the same restartpoint":           {true, base.StartLSN, base.StopLSN, ""},
		"a standby that has not come":     {true, base.StartLSN, base.StopLSN - 1, "the standby has replayed up to " + (base.StopLSN - 1).String() + " only"},
		"a restartpoint before its start": {true, base.StartLSN - 1, base.StopLSN, "the latest restartpoint of the standby is at " + (base.StartLSN - 1).String()},
	} {
		start := session.Start()
		start.Standby, start.LSN, start.Reached = tt.standby, tt.start, tt.reached
		got := backup.Unlike(base, start)
		if tt.want == "" {
			require.Empty(t, got, name)
		} else {
			require.Contains(t, got, tt.want, name)
		}
	}
}

// A host that cannot read what it writes builds on what it remembers of it, and another host cannot.
func TestDifferenceOfAWriteOnlyHost(t *testing.T) {
	t.Parallel()
	_, write := newCipher(t)
	store, now := repotest.Mem(nil), clock()
	host := func(state string) *repo.Repo {
		r, err := repo.Init(t.Context(), store, &repo.Options{Cipher: write, StateDir: state, Now: now})
		require.NoError(t, err)
		return r
	}
	c := backuptest.New(nil)
	state := t.TempDir()
	first, err := backup.Take(t.Context(), host(state), c, nil)
	require.NoError(t, err)
	second, err := backup.Take(t.Context(), host(state), c, &backup.Options{Type: backup.Auto})
	require.NoError(t, err)
	require.Equal(t, first.ID, second.Parent)
	require.Equal(t, backup.Incremental, second.Type)
	other, err := backup.Take(t.Context(), host(t.TempDir()), c, &backup.Options{Type: backup.Auto})
	require.NoError(t, err)
	require.Equal(t, backup.Full, other.Type)
	require.Contains(t, other.Reason, "cannot be read here")
	// What is deleted in the repository is forgotten here.
	require.NoError(t, store.Delete(t.Context(), "backups/"+string(first.ID)))
	_, err = backup.Take(t.Context(), host(state), c, nil)
	require.NoError(t, err)
	copies, err := filepath.Glob(filepath.Join(state, "*", "backups", "*"))
	require.NoError(t, err)
	require.Len(t, copies, 2)
}
