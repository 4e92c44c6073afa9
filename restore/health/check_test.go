package health_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore/health"
	"github.com/pgcairn/pgcairn/wal"
)

// rig is a cluster, its repository, and a clock that both have, and the store.
type rig struct {
	now     time.Time
	ahead   time.Duration // by how much the server's clock is
	cluster *backuptest.Cluster
	store   repo.Store
	repo    *repo.Repo
	archive *wal.Archive
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigOf(t, nil)
}

// newRigOf is a rig whose cluster has files, or those of every small cluster.
func newRigOf(t testing.TB, files fs.FS) *rig {
	t.Helper()
	g := &rig{now: time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)}
	clock := func() time.Time { return g.now }
	g.cluster = backuptest.New(&backuptest.Options{Files: files, Logged: true, Now: func() time.Time { return g.now.Add(g.ahead) }})
	g.store = repotest.Mem(&repotest.MemOptions{Now: clock})
	var err error
	g.repo, err = repo.Init(t.Context(), g.store, &repo.Options{Now: clock})
	require.NoError(t, err)
	g.archive, err = wal.NewArchive(g.repo, nil)
	require.NoError(t, err)
	return g
}

func (g *rig) take(t testing.TB, o *backup.Options) *backup.Manifest {
	t.Helper()
	m, err := backup.Take(t.Context(), g.repo, g.cluster, o)
	require.NoError(t, err)
	return m
}

// push archives a commit.
func (g *rig) push(t testing.TB) {
	t.Helper()
	g.cluster.Commit()
	g.cluster.Switch(1)
	require.NoError(t, g.cluster.Archive(t.Context(), g.archive))
}

func (g *rig) receipt(t testing.TB, kind backup.ReceiptKind, ok bool) {
	t.Helper()
	g.verified(t, backup.Receipt{Kind: kind, OK: ok, Whole: true})
}

// verified leaves a receipt of some scope.
func (g *rig) verified(t testing.TB, r backup.Receipt) {
	t.Helper()
	if r.Kind == "" {
		r.Kind = backup.ReceiptVerify
	}
	r.BeganAt, r.EndedAt = g.now, g.now
	if !r.OK {
		r.Problems, r.Problem = 2, "it burns"
	}
	require.NoError(t, backup.WriteReceipt(t.Context(), g.repo, &r))
}

func (g *rig) check(t testing.TB, o *health.Options) *health.Status {
	t.Helper()
	s, err := health.Check(t.Context(), g.repo, o)
	require.NoError(t, err)
	require.Equal(t, len(s.Problems) == 0, s.OK)
	return s
}

func kinds(s *health.Status) (all []health.Kind) {
	for _, p := range s.Problems {
		all = append(all, p.Kind)
	}
	return all
}

func TestCheck(t *testing.T) {
	g := newRig(t)
	g.take(t, nil)
	g.now = g.now.Add(time.Hour)
	g.push(t)
	last := g.take(t, &backup.Options{Type: backup.Incremental})
	g.receipt(t, backup.ReceiptVerify, true)
	g.now = g.now.Add(time.Hour)
	g.push(t)
	g.receipt(t, backup.ReceiptDrill, true)
	g.now = g.now.Add(time.Minute)

	var s *health.Status
	require.NoError(t, g.repo.WithLease(t.Context(), "backup", func(context.Context, *repo.Lease) error {
		s = g.check(t, &health.Options{MaxBackupAge: 2 * time.Hour, MaxWALLag: time.Minute, MaxVerifyAge: 2 * time.Hour})
		return nil
	}))
	require.True(t, s.OK, "%v", s.Problems)
	require.Equal(t, last.ID, s.NewestBackup.ID)
	require.InDelta(t, 3660, s.NewestBackup.AgeSeconds, 0)
	require.Equal(t, 2, s.Backups)
	require.InDelta(t, 60, *s.WAL.LagSeconds, 0)
	require.Empty(t, s.WAL.Gaps)
	require.Len(t, s.Windows, 1)
	require.Equal(t, wal.SegmentAt(1, g.cluster.LSN(), wal.MinSegmentSize).Start(), s.WAL.EndLSN)
	require.InDelta(t, 3660, s.LastVerify.AgeSeconds, 0)
	require.InDelta(t, 60, s.LastDrill.AgeSeconds, 0)
	require.Nil(t, s.Space, "of memory nobody tells")
	require.Len(t, s.Leases, 1)
	require.Equal(t, "backup", s.Leases[0].Name)

	// Sizes are those of the packs and the WAL there are.
	var packs, segments int64
	for info, err := range g.store.List(t.Context(), "") {
		require.NoError(t, err)
		switch {
		case strings.HasPrefix(info.Key, "packs/"):
			packs += info.Size
		case strings.HasPrefix(info.Key, "wal/"):
			segments += info.Size
		}
	}
	require.Equal(t, packs+segments, s.StoredBytes)
	require.Equal(t, packs, s.Growth.BackupBytes)
	require.InDelta(t, 7260, s.Growth.Seconds, 0)
	require.Positive(t, s.Growth.WALBytes)
	require.LessOrEqual(t, s.Growth.WALBytes, segments)

	b, err := json.Marshal(s)
	require.NoError(t, err)
	var doc struct {
		NewestBackup struct {
			ID         string  `json:"id"`
			AgeSeconds float64 `json:"age_seconds"`
		} `json:"newest_backup"`
		LastVerify struct {
			OK         bool    `json:"ok"`
			AgeSeconds float64 `json:"age_seconds"`
		} `json:"last_verify"`
	}
	require.NoError(t, json.Unmarshal(b, &doc))
	require.Equal(t, string(last.ID), doc.NewestBackup.ID)
	require.InDelta(t, 3660, doc.NewestBackup.AgeSeconds, 0)
	require.InDelta(t, 3660, doc.LastVerify.AgeSeconds, 0)
	require.True(t, doc.LastVerify.OK)
	require.NotContains(t, string(b), "null")
}

func TestThresholds(t *testing.T) {
	all := &health.Options{MaxBackupAge: time.Hour, MaxWALLag: time.Hour, MaxVerifyAge: time.Hour}
	for _, tt := range []struct {
		name    string
		make    func(t *testing.T, g *rig)
		options *health.Options
		want    []health.Kind
	}{
		{"nothing at all", func(*testing.T, *rig) {}, nil, []health.Kind{health.KindNoBackup}},
		{"nothing at all, strictly", func(*testing.T, *rig) {}, all, []health.Kind{health.KindWALLag, health.KindNoBackup, health.KindVerifyAge}},
		{"all is well", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.receipt(t, backup.ReceiptVerify, true)
			g.now = g.now.Add(time.Hour)
		}, all, nil},
		{"a second later", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.receipt(t, backup.ReceiptVerify, true)
			g.now = g.now.Add(time.Hour + time.Second)
		}, all, []health.Kind{health.KindWALLag, health.KindBackupAge, health.KindVerifyAge}},
		{"who asks for nothing is told of nothing", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.now = g.now.Add(1000 * time.Hour)
		}, nil, nil},
		{"a clock that was set back", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.receipt(t, backup.ReceiptVerify, true)
			g.now = g.now.Add(-time.Hour)
		}, all, nil},
		{"tests that failed", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.receipt(t, backup.ReceiptVerify, true)
			g.now = g.now.Add(time.Minute)
			g.receipt(t, backup.ReceiptVerify, false)
			g.receipt(t, backup.ReceiptDrill, false)
		}, all, []health.Kind{health.KindVerify, health.KindDrill}},
		{"tests that were done again", func(t *testing.T, g *rig) {
			g.take(t, nil)
			for _, ok := range []bool{false, true} {
				g.receipt(t, backup.ReceiptVerify, ok)
				g.receipt(t, backup.ReceiptDrill, ok)
				g.now = g.now.Add(time.Minute)
			}
		}, all, nil},
		{"WAL is missing behind the backup", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.push(t)
			gap := g.cluster.LSN()
			g.push(t)
			g.push(t)
			g.remove(t, wal.SegmentAt(1, gap, wal.MinSegmentSize).Name())
		}, nil, []health.Kind{health.KindWALGap}},
		{"WAL is missing before the newest backup", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.push(t)
			gap := g.cluster.LSN()
			g.push(t)
			g.push(t)
			g.take(t, nil)
			g.remove(t, wal.SegmentAt(1, gap, wal.MinSegmentSize).Name())
		}, nil, nil},
		{"WAL of the newest backup is missing", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.push(t)
			g.now = g.now.Add(2 * time.Hour)
			m := g.take(t, nil)
			g.push(t)
			g.remove(t, m.FirstSegment().Name())
		}, &health.Options{MaxBackupAge: time.Hour}, []health.Kind{health.KindBackup, health.KindBackupAge, health.KindWALGap}},
		{"a manifest is damaged", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.now = g.now.Add(time.Minute)
			g.truncate(t, "backups/"+string(g.take(t, nil).ID))
		}, nil, []health.Kind{health.KindBackup}},
		{"a lease is damaged", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.truncate(t, g.keys(t, "leases/")[0])
		}, nil, []health.Kind{health.KindDamage}},
		{"a promotion", func(t *testing.T, g *rig) {
			g.take(t, nil)
			g.push(t)
			g.cluster.Promote()
			g.push(t)
		}, all, []health.Kind{health.KindVerifyAge}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t)
			tt.make(t, g)
			s := g.check(t, tt.options)
			require.Equal(t, tt.want, kinds(s), "%v", s.Problems)
		})
	}
}

// Segments that are missing on either side of a promotion are gaps as well.
func TestGapsAroundAPromotion(t *testing.T) {
	g := newRig(t)
	g.take(t, nil)
	g.push(t)
	g.push(t)
	fork := wal.SegmentAt(1, g.cluster.LSN(), wal.MinSegmentSize)
	g.cluster.Promote()
	g.push(t)
	g.push(t)
	require.Empty(t, g.check(t, nil).WAL.Gaps)
	g.remove(t, fork.Prev().Name())
	g.remove(t, fork.On(2).Name())
	s := g.check(t, nil)
	require.Equal(t, []wal.Range{{First: fork.Prev(), Last: fork.Prev()}, {First: fork.On(2), Last: fork.On(2)}}, s.WAL.Gaps)
	require.Equal(t, []health.Kind{health.KindWALGap}, kinds(s))
}

// What a verification has found stays until one that is about as much, and as thorough, finds it no more; and only one of
// all, that left nothing for later, counts as one.
func TestVerifications(t *testing.T) {
	const a, b = backup.ID("20261121T101530Z-9f3c2a"), backup.ID("20261121T111530Z-9f3c2a")
	ok := func(r backup.Receipt) backup.Receipt {
		r.OK = true
		return r
	}
	structure, content := backup.Receipt{Whole: true}, backup.Receipt{Whole: true, ReadData: true}
	sample := backup.Receipt{Whole: true, ReadData: true, Left: 48}
	of := func(ids ...backup.ID) backup.Receipt { return backup.Receipt{Backups: ids, ReadData: true} }
	blind := backup.Receipt{} // of a host that knows no backup
	found, old := health.KindVerify, health.KindVerifyAge
	for _, tt := range []struct {
		name string
		runs []backup.Receipt // in order
		want []health.Kind
	}{
		{"rot, and its content was not read again", []backup.Receipt{content, ok(structure)}, []health.Kind{found}},
		{"rot, and another backup was read", []backup.Receipt{of(a), ok(of(b))}, []health.Kind{found, old}},
		{"rot, and this backup was read with another", []backup.Receipt{of(a), ok(of(a, b))}, []health.Kind{old}},
		{"rot, and less was read", []backup.Receipt{of(a, b), ok(of(a))}, []health.Kind{found, old}},
		{"rot, and a sample", []backup.Receipt{content, ok(sample)}, []health.Kind{found, old}},
		{"rot in a sample, and all was read", []backup.Receipt{sample, ok(content)}, nil},
		{"rot, and again, and none", []backup.Receipt{content, structure, of(a), ok(content)}, nil},
		{"something is missing, and all was read", []backup.Receipt{structure, ok(content)}, nil},
		{"one backup was read", []backup.Receipt{ok(of(a))}, []health.Kind{old}},
		{"a sample was read", []backup.Receipt{ok(sample)}, []health.Kind{old}},
		{"a host that cannot look finds nothing", []backup.Receipt{structure, ok(blind)}, []health.Kind{found, old}},
		{"a host that cannot look found something", []backup.Receipt{blind, ok(blind)}, []health.Kind{found, old}},
		{"a host that cannot look, and one that can", []backup.Receipt{blind, ok(structure)}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newRig(t)
			g.take(t, nil)
			for _, r := range tt.runs {
				g.verified(t, r)
				g.now = g.now.Add(time.Minute)
			}
			s := g.check(t, &health.Options{MaxVerifyAge: time.Hour})
			require.Equal(t, tt.want, kinds(s), "%v", s.Problems)
			require.Equal(t, tt.runs[len(tt.runs)-1].OK, s.LastVerify.OK, "the last is told")
		})
	}
}

// Whether content was read is asked by a threshold of its own.
func TestMaxReadAge(t *testing.T) {
	g := newRig(t)
	g.take(t, nil)
	ages := &health.Options{MaxVerifyAge: time.Hour, MaxReadAge: 24 * time.Hour}
	require.Equal(t, []health.Kind{health.KindVerifyAge}, kinds(g.check(t, ages)), "never")
	g.verified(t, backup.Receipt{OK: true, Whole: true})
	s := g.check(t, ages)
	require.Equal(t, []health.Kind{health.KindVerifyAge}, kinds(s))
	require.Contains(t, s.Problems[0].Text, "content")
	g.verified(t, backup.Receipt{OK: true, Whole: true, ReadData: true})
	require.True(t, g.check(t, ages).OK)
	g.now = g.now.Add(25 * time.Hour)
	g.verified(t, backup.Receipt{OK: true, Whole: true})
	s = g.check(t, ages)
	require.Equal(t, []health.Kind{health.KindVerifyAge}, kinds(s))
	require.Contains(t, s.Problems[0].Text, "all content was verified, and found right, 25h0m0s ago")
}

func (g *rig) keys(t testing.TB, prefix string) (keys []string) {
	t.Helper()
	for info, err := range g.store.List(t.Context(), prefix) {
		require.NoError(t, err)
		keys = append(keys, info.Key)
	}
	return keys
}

// remove deletes a segment.
func (g *rig) remove(t testing.TB, name string) {
	t.Helper()
	for _, key := range g.keys(t, "wal/") {
		if strings.HasSuffix(key, "/"+name) {
			require.NoError(t, g.store.Delete(t.Context(), key))
			return
		}
	}
	t.Fatal(name, " is not there")
}

// truncate leaves ten bytes of an object.
func (g *rig) truncate(t testing.TB, key string) {
	t.Helper()
	require.NoError(t, g.store.Delete(t.Context(), key))
	w, err := g.store.Create(t.Context(), key)
	require.NoError(t, err)
	defer w.Close()
	_, err = w.Write([]byte("0123456789"))
	require.NoError(t, err)
	_, err = w.Commit()
	require.NoError(t, err)
}

// What is of a time to come, by a clock that was wrong, is not new for ever.
func TestOfATimeToCome(t *testing.T) {
	g := newRig(t)
	g.ahead = 365 * 24 * time.Hour
	g.cluster.Commit()
	g.take(t, nil)
	g.push(t)
	g.ahead = 0
	day := 24 * time.Hour
	g.now = g.now.Add(300 * day)
	require.True(t, g.check(t, nil).OK)
	s := g.check(t, &health.Options{MaxBackupAge: day})
	require.Equal(t, []health.Kind{health.KindBackupAge}, kinds(s))
	require.Contains(t, s.Problems[0].Text, "a time to come")
	second := g.take(t, nil)
	s = g.check(t, &health.Options{MaxBackupAge: day})
	require.True(t, s.OK, "%v", s.Problems)
	require.Equal(t, second.ID, s.NewestBackup.ID)
	g.now = g.now.Add(2 * day)
	require.Equal(t, []health.Kind{health.KindBackupAge}, kinds(g.check(t, &health.Options{MaxBackupAge: day})))

	now := g.now
	g.now = now.Add(365 * day)
	g.receipt(t, backup.ReceiptVerify, true)
	g.now = now.Add(100 * day)
	require.Equal(t, []health.Kind{health.KindVerifyAge}, kinds(g.check(t, &health.Options{MaxVerifyAge: day})))
}

// An older backup that cannot be restored is a problem, too, whatever the newest can.
func TestOlderBackupLacksWAL(t *testing.T) {
	g := newRig(t)
	first := g.take(t, nil)
	g.push(t)
	g.push(t)
	g.take(t, nil)
	g.push(t)
	require.True(t, g.check(t, nil).OK)
	for info, err := range g.store.List(t.Context(), "wal/") {
		require.NoError(t, err)
		if strings.HasSuffix(info.Key, "/"+first.FirstSegment().Name()) {
			require.NoError(t, g.store.Delete(t.Context(), info.Key))
		}
	}
	s := g.check(t, nil)
	require.Equal(t, []health.Kind{health.KindBackup}, kinds(s))
	require.Contains(t, s.Problems[0].Text, string(first.ID))
}

// A backup whose parent was dropped needs what that has written, which counts.
func TestStoredBytesOfDroppedParents(t *testing.T) {
	g := newRig(t)
	full := g.take(t, nil)
	g.push(t)
	g.now = g.now.Add(time.Hour)
	g.take(t, &backup.Options{Type: backup.Incremental})
	g.push(t)
	want := g.check(t, nil).StoredBytes
	require.NoError(t, g.store.Delete(t.Context(), "backups/"+string(full.ID)))
	require.Equal(t, want, g.check(t, nil).StoredBytes)
}

// Of 300 backups each is read once, whatever else there is, and packs are not listed.
func TestRequests(t *testing.T) {
	g := newRigOf(t, fstest.MapFS{"PG_VERSION": {Data: []byte("18\n")}})
	const backups = 300
	for i := range backups {
		o := &backup.Options{Type: backup.Incremental}
		if i == 0 {
			o = nil
		}
		g.take(t, o)
		g.now = g.now.Add(time.Hour)
	}
	g.receipt(t, backup.ReceiptVerify, true)
	g.receipt(t, backup.ReceiptDrill, true)
	calls := map[string]int{}
	ops := make(chan repo.Op, 10*backups)
	r, err := repo.Open(t.Context(), repo.Observe(g.store, func(op repo.Op) { ops <- op }), &repo.Options{Now: func() time.Time { return g.now }})
	require.NoError(t, err)
	s, err := health.Check(t.Context(), r, nil)
	require.NoError(t, err)
	require.True(t, s.OK, "%v", s.Problems)
	require.Equal(t, backups, s.Backups)
	close(ops)
	for op := range ops {
		require.False(t, strings.HasPrefix(op.Key, "packs"), op.Key)
		require.Contains(t, []string{"list", "open", "stat"}, op.Name, "nothing is changed")
		name := op.Name
		if strings.HasPrefix(op.Key, "backups/") && op.Name == "open" {
			name = "manifest"
		}
		calls[name]++
	}
	require.Equal(t, backups, calls["manifest"])
	require.LessOrEqual(t, calls["list"], 10)
	require.LessOrEqual(t, calls["open"]+calls["stat"], 15, "%v", calls)
}

// A store that fails is an error, whichever call it is, and never a repository without backups, WAL or receipts.
func TestOutage(t *testing.T) {
	g := newRig(t)
	g.take(t, nil)
	g.push(t)
	g.receipt(t, backup.ReceiptVerify, true)
	want := g.check(t, nil)
	for name, effect := range map[string]repotest.Effect{"fails": repotest.Fail(nil), "breaks off": repotest.Cut(20), "of a list": repotest.Cut(0)} {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				fault := repotest.Fault{Nth: n, Do: effect}
				switch name {
				case "breaks off":
					fault.Op = repotest.OpOpen
				case "of a list":
					fault.Op = repotest.OpList
				}
				faulty := repotest.Faulty(g.store, fault)
				r, err := repo.Open(t.Context(), faulty, &repo.Options{Now: func() time.Time { return g.now }})
				var s *health.Status
				if err == nil {
					s, err = health.Check(t.Context(), r, nil)
				}
				if faulty.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 5)
					return
				}
				if err == nil { // as a list of nothing that breaks off after nothing
					require.Equal(t, want, s, "call %d of %v", n, faulty.Calls())
					continue
				}
				require.Nil(t, s)
				require.NotErrorIs(t, err, repo.ErrNoRepository)
			}
		})
	}
}

// A repository in a directory tells how much room is left.
func TestSpace(t *testing.T) {
	store, err := repo.OpenDir(t.TempDir(), nil)
	require.NoError(t, err)
	r, err := repo.Init(t.Context(), repo.Observe(store, func(repo.Op) {}), nil)
	require.NoError(t, err)
	s, err := health.Check(t.Context(), r, nil)
	require.NoError(t, err)
	require.NotNil(t, s.Space)
	require.Positive(t, s.Space.Free)
	require.GreaterOrEqual(t, s.Space.Total, s.Space.Free)
}

// A gate for CI and cron.
func ExampleCheck() {
	ctx := context.Background()
	c := backuptest.New(nil)
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{Now: c.Now})
	if err != nil {
		panic(err)
	}
	s, err := health.Check(ctx, r, &health.Options{MaxBackupAge: 26 * time.Hour})
	fmt.Println(s.OK, s.Problems[0].Text, err)
	if _, err := backup.Take(ctx, r, c, nil); err != nil {
		panic(err)
	}
	s, err = health.Check(ctx, r, &health.Options{MaxBackupAge: 26 * time.Hour})
	fmt.Println(s.OK, err)
	// Output:
	// false there is no backup that can be restored <nil>
	// true <nil>
}
