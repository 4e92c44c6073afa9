package retention_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
)

var lives = flag.Int("lives", 3, "random lives of repositories that policies are applied to")

// repository is one with a cluster, which share a clock.
type repository struct {
	rng     *rand.Rand
	clock   clock
	store   repo.Store
	cluster *backuptest.Cluster
	was     map[backup.ID]map[string][]byte // what the cluster's files were when a backup was taken
	pinned  map[backup.ID]bool
}

func newRepository(seed uint64) *repository {
	w := &repository{
		rng: rand.New(rand.NewPCG(seed, 66)), //nolint:gosec // a fixed seed
		was: map[backup.ID]map[string][]byte{}, pinned: map[backup.ID]bool{},
	}
	w.clock.set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	w.store = repotest.Mem(&repotest.MemOptions{Now: w.now})
	w.cluster = backuptest.New(&backuptest.Options{Logged: true, Now: w.now, RelSegPages: 64})
	return w
}

// now goes on a little whenever it is asked.
func (w *repository) now() time.Time { return w.clock.add(10 * time.Millisecond) }

// open opens the repository, or one with these objects that is not to disturb the clock.
func (w *repository) open(t *testing.T, s repo.Store) *repo.Repo {
	t.Helper()
	r, err := repo.Init(t.Context(), s, &repo.Options{Now: w.clock.now})
	require.NoError(t, err)
	return r
}

func (w *repository) r(t *testing.T) *repo.Repo { t.Helper(); return w.open(t, w.store) }

func (w *repository) archive(t *testing.T) {
	t.Helper()
	a, err := wal.NewArchive(w.r(t), nil)
	require.NoError(t, err)
	require.NoError(t, w.cluster.Archive(t.Context(), a))
}

// lives on through something that happens to clusters and their backups.
func (w *repository) lives(t *testing.T) {
	t.Helper()
	w.clock.add(time.Duration(w.rng.IntN(40)) * time.Hour)
	for range w.rng.IntN(6) {
		file := fmt.Sprintf("base/5/%d", 16384+w.rng.IntN(5))
		w.cluster.Write(file, backuptest.Pages(0, 1+w.rng.IntN(20), uint64(w.cluster.LSN()), w.clock.now().String()))
		w.cluster.Commit()
	}
	switch k := w.rng.IntN(20); {
	case k < 4:
		w.cluster.Switch(1 + w.rng.IntN(3))
	case k == 4 && len(w.was) > 0: // else the history is of a cluster that nobody knows
		w.cluster.Promote()
	case k < 8:
		w.killed(t)
	case k < 10:
		w.pin(t)
	default:
		w.take(t)
	}
	w.archive(t)
}

func (w *repository) options() *backup.Options {
	kinds := []backup.Type{backup.Full, backup.Differential, backup.Incremental, backup.Incremental, backup.Auto}
	return &backup.Options{Type: kinds[w.rng.IntN(len(kinds))], Jobs: 1}
}

func (w *repository) take(t *testing.T) {
	t.Helper()
	was := map[string][]byte{}
	for _, name := range w.cluster.Files() {
		content, err := w.cluster.Read(name)
		require.NoError(t, err)
		was[name] = content
	}
	m, err := backup.Take(t.Context(), w.r(t), w.cluster, w.options())
	require.NoError(t, err)
	w.was[m.ID] = was
}

// killed is a backup that is, before it can commit.
func (w *repository) killed(t *testing.T) {
	t.Helper()
	dying := newMortal(w.store, 10+w.rng.IntN(40), "leases/")
	_, err := backup.Take(t.Context(), w.open(t, dying), w.cluster, w.options())
	if err == nil {
		all, err := backup.List(t.Context(), w.r(t))
		require.NoError(t, err)
		w.was[all[len(all)-1].ID] = nil // it was not killed after all; what it holds, others tell
	}
}

func (w *repository) pin(t *testing.T) {
	t.Helper()
	all, err := backup.List(t.Context(), w.r(t))
	require.NoError(t, err)
	if len(all) == 0 {
		return
	}
	id := all[w.rng.IntN(len(all))].ID
	if w.pinned[id] = !w.pinned[id]; w.pinned[id] {
		require.NoError(t, backup.Pin(t.Context(), w.r(t), id))
	} else {
		require.NoError(t, backup.Unpin(t.Context(), w.r(t), id))
	}
}

func (w *repository) policy() retention.Policy {
	some := func(n int) int { return max(0, w.rng.IntN(2*n)-n) }
	p := retention.Policy{KeepLast: some(4), KeepFull: some(3), KeepHourly: some(4), KeepDaily: some(5), KeepWeekly: some(3)}
	if p.KeepFull > 0 {
		p.KeepDifferential = some(3)
	}
	if w.rng.IntN(2) == 0 {
		p.Window = time.Duration(1+w.rng.IntN(200)) * time.Hour
	}
	if w.rng.IntN(3) == 0 {
		p.KeepWAL = p.Window + time.Duration(1+w.rng.IntN(200))*time.Hour
	}
	return p
}

// promised are instants within the window of a policy that can be recovered to.
func (w *repository) promised(t *testing.T, s repo.Store, p retention.Policy) []time.Time {
	t.Helper()
	var all []time.Time
	r := w.open(t, s)
	for range 6 {
		if p.Window > 0 {
			at := w.clock.now().Add(-time.Duration(w.rng.Int64N(int64(p.Window))))
			if _, err := restore.Prepare(t.Context(), r, restore.AtTime(at), nil); err == nil {
				all = append(all, at)
			}
		}
	}
	return all
}

// copied returns a store with the same objects, of the same age.
func (w *repository) copied(t *testing.T) repo.Store {
	t.Helper()
	at := time.Time{}
	to := repotest.Mem(&repotest.MemOptions{Now: func() time.Time {
		if at.IsZero() {
			return w.now()
		}
		return at
	}})
	for info, err := range w.store.List(t.Context(), "") {
		require.NoError(t, err)
		body, err := w.store.Open(t.Context(), info.Key, 0, -1)
		require.NoError(t, err)
		out, err := to.Create(t.Context(), info.Key)
		require.NoError(t, err)
		_, err = io.Copy(out, body)
		require.NoError(t, err)
		at = info.ModTime
		_, err = out.Commit()
		require.NoError(t, err)
	}
	at = time.Time{}
	return to
}

// expire makes a plan and applies it.
func (w *repository) expire(t *testing.T, s repo.Store, p retention.Policy) (*retention.Plan, *retention.Result, error) {
	t.Helper()
	r, err := repo.Init(t.Context(), s, &repo.Options{Now: w.clock.now})
	if err != nil {
		return nil, nil, err
	}
	plan, err := retention.NewPlan(t.Context(), r, p, nil)
	if err != nil {
		return nil, nil, err
	}
	result, err := plan.Apply(t.Context(), r)
	return plan, result, err
}

// content lists what is in a store but leases, which are never the same.
func content(t *testing.T, s repo.Store) []string {
	t.Helper()
	var keys []string
	for info, err := range s.List(t.Context(), "") {
		require.NoError(t, err)
		if !strings.HasPrefix(info.Key, "leases/") && !strings.HasPrefix(info.Key, "probe/") {
			keys = append(keys, info.Key)
		}
	}
	return keys
}

// unmarked is content without what says that a backup is being dropped.
func unmarked(keys []string) []string {
	return slices.DeleteFunc(keys, func(key string) bool { return strings.HasPrefix(key, "dropped/") })
}

// mortal is a store that is lost after so many calls, but for keys with a prefix.
type mortal struct {
	repo.Store

	left  atomic.Int64
	spare string
}

func newMortal(s repo.Store, left int, spare string) *mortal {
	m := &mortal{Store: s, spare: spare}
	m.left.Store(int64(left))
	return m
}

func (m *mortal) dead(key string) error {
	if m.spare != "" && strings.HasPrefix(key, m.spare) {
		return nil
	}
	if m.left.Add(-1) < 0 {
		return repotest.ErrInjected
	}
	return nil
}

func (m *mortal) Create(ctx context.Context, key string) (repo.Writer, error) {
	if err := m.dead(key); err != nil {
		return nil, err
	}
	return m.Store.Create(ctx, key)
}

func (m *mortal) Delete(ctx context.Context, key string) error {
	if err := m.dead(key); err != nil {
		return err
	}
	return m.Store.Delete(ctx, key)
}

func (m *mortal) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	if err := m.dead(key); err != nil {
		return nil, err
	}
	return m.Store.Open(ctx, key, off, n)
}

func (m *mortal) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	if err := m.dead(prefix); err != nil {
		return func(yield func(repo.Info, error) bool) { yield(repo.Info{}, err) }
	}
	return m.Store.List(ctx, prefix)
}

// A repository lives, and policies are applied to it: what is kept restores, what was promised can be reached, nothing else
// is there, twice is once, and killed is only later.
func TestApply(t *testing.T) {
	t.Parallel()
	for seed := range uint64(*lives) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newRepository(seed)
			for range 3 {
				for range 12 {
					w.lives(t)
				}
				w.check(t, w.policy())
			}
		})
	}
}

func (w *repository) check(t *testing.T, p retention.Policy) {
	t.Helper()
	before, promised := w.copied(t), w.promised(t, w.store, p)
	plan, result, err := w.expire(t, w.store, p)
	require.NoError(t, err, "%+v", p)
	require.Empty(t, result.Refused)
	require.Empty(t, result.Postponed)
	after := content(t, w.store)

	var kept []backup.ID
	for _, v := range plan.Keep {
		require.NotEmpty(t, v.Reasons)
		kept = append(kept, v.Backup)
	}
	w.requireRestores(t, kept)
	r := w.r(t)
	for _, at := range promised {
		_, err := restore.Prepare(t.Context(), r, restore.AtTime(at), nil)
		require.NoError(t, err, "%s was promised", at)
	}
	w.requireNothingElse(t, plan, kept)

	again, err := plan.Apply(t.Context(), r)
	require.NoError(t, err, "the same once more")
	require.Zero(t, again.FreedBytes)
	_, another, err := w.expire(t, w.store, p)
	require.NoError(t, err, "another one")
	require.Zero(t, another.FreedBytes, "%+v", another)
	require.Equal(t, after, content(t, w.store))

	// Killed, and run again when the grace is over, on a copy of what was there.
	at := w.clock.now()
	dying := newMortal(before, w.rng.IntN(400), "")
	_, _, _ = w.expire(t, dying, p)
	stillListed, err := backup.List(t.Context(), w.open(t, before))
	require.NoError(t, err)
	for _, b := range stillListed {
		requireWhole(t, w.open(t, before), b.ID)
	}
	w.clock.add(3 * time.Minute) // until the lease has expired
	_, _, err = w.expire(t, before, p)
	require.NoError(t, err)
	for _, key := range after {
		require.Contains(t, content(t, before), key, "after being killed")
	}
	for _, key := range content(t, before) { // nothing waits for the grace of what killed backups have left
		for _, folder := range []string{"backups/", "packs/", "server-manifests/", "dropped/"} {
			require.True(t, !strings.HasPrefix(key, folder) || slices.Contains(after, key), "%s after being killed", key)
		}
	}
	w.clock.add(25 * time.Hour)
	_, _, err = w.expire(t, before, retention.Policy{KeepWithin: 1000 * time.Hour * 1000})
	require.NoError(t, err)
	_, _, err = w.expire(t, w.store, retention.Policy{KeepWithin: 1000 * time.Hour * 1000})
	require.NoError(t, err)
	require.Equal(t, content(t, w.store), content(t, before))
	w.clock.set(at)
}

// requireRestores restores each backup, and compares it with what was there when it was taken.
func (w *repository) requireRestores(t *testing.T, ids []backup.ID) {
	t.Helper()
	r := w.r(t)
	all, err := backup.List(t.Context(), r)
	require.NoError(t, err)
	var listed []backup.ID
	for _, b := range all {
		listed = append(listed, b.ID)
	}
	slices.Sort(ids)
	require.Equal(t, ids, listed)
	for _, id := range ids {
		p, err := restore.Prepare(t.Context(), r, restore.Immediate(), &restore.PlanOptions{Backup: id})
		require.NoError(t, err)
		dir := filepath.Join(t.TempDir(), "data")
		_, err = p.Run(t.Context(), r, dir, nil)
		require.NoError(t, err)
		for name, was := range w.was[id] {
			if !strings.HasPrefix(name, "base/") {
				continue
			}
			got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
			require.NoError(t, err)
			require.True(t, bytes.Equal(was, got), "%s of %s", name, id)
		}
	}
}

// requireWhole checks that all that a backup needs is there.
func requireWhole(t *testing.T, r *repo.Repo, id backup.ID) {
	t.Helper()
	m, err := backup.Load(t.Context(), r, id)
	require.NoError(t, err)
	for _, p := range m.PackList {
		_, err := r.Store().Stat(t.Context(), p.Key)
		require.NoError(t, err)
	}
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	held, err := a.Coverage(t.Context())
	require.NoError(t, err)
	for s := m.FirstSegment(); s.Number <= m.LastSegment().Number; s = s.Next() {
		require.True(t, held.Holds(s), "%s of %s", s, id)
	}
}

// requireNothingElse checks that what is there is needed, or may be of a backup that was killed not long ago.
func (w *repository) requireNothingElse(t *testing.T, plan *retention.Plan, kept []backup.ID) {
	t.Helper()
	r, needed := w.r(t), map[string]bool{}
	for _, id := range kept {
		m, err := backup.Load(t.Context(), r, id)
		require.NoError(t, err)
		for _, p := range m.PackList {
			needed[p.Key] = true
		}
	}
	for info, err := range w.store.List(t.Context(), "packs/") {
		require.NoError(t, err)
		require.True(t, needed[info.Key] || info.ModTime.After(plan.At.Add(-24*time.Hour)), info.Key)
	}
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for s, err := range a.Stored(t.Context()) {
		require.NoError(t, err)
		in := slices.ContainsFunc(plan.WAL, func(span retention.Span) bool {
			return span.Has(w.cluster.System().ID, s.Segment) || span.Has(w.cluster.System().ID, s.Last())
		})
		require.True(t, in || s.Kind == wal.StoredHistory || !s.Read() && s.ModTime.After(plan.At.Add(-24*time.Hour)), s.Key)
	}
}

// What a plan does not know of, it does not touch.
func TestApplyIsStale(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, w *repository, all []backup.ID){
		"taken": func(t *testing.T, w *repository, _ []backup.ID) { t.Helper(); w.take(t) },
		"pinned": func(t *testing.T, w *repository, all []backup.ID) {
			t.Helper()
			require.NoError(t, backup.Pin(t.Context(), w.r(t), all[0]))
		},
		"deleted": func(t *testing.T, w *repository, all []backup.ID) {
			t.Helper()
			require.NoError(t, w.store.Delete(t.Context(), "backups/"+string(all[3])))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, all := fourBackups(t)
			r := w.r(t)
			plan, err := retention.NewPlan(t.Context(), r, retention.Policy{KeepLast: 1}, nil)
			require.NoError(t, err)
			change(t, w, all)
			there := content(t, w.store)
			_, err = plan.Apply(t.Context(), r)
			require.ErrorIs(t, err, retention.ErrStale)
			require.Equal(t, there, content(t, w.store))
		})
	}
}

// fourBackups is a repository of a full backup and three incremental ones, a day apart.
func fourBackups(t *testing.T) (*repository, []backup.ID) {
	t.Helper()
	w := newRepository(1)
	var all []backup.ID
	for i := range 4 {
		w.cluster.Write("base/5/16384", backuptest.Pages(0, 8, uint64(w.cluster.LSN()), fmt.Sprint("state ", i)))
		w.cluster.Commit()
		m, err := backup.Take(t.Context(), w.r(t), w.cluster, &backup.Options{Type: backup.Auto, Jobs: 1})
		require.NoError(t, err)
		w.was[m.ID] = map[string][]byte{}
		all = append(all, m.ID)
		w.cluster.Switch(2)
		w.archive(t)
		w.clock.add(24 * time.Hour)
	}
	return w, all
}

// While a backup is in use it stays, with its WAL; whoever began before it was dropped can go on.
func TestApplySparesUsers(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	r := w.r(t)
	err := backup.Use(t.Context(), r, all[1], func(ctx context.Context) error {
		plan, result, err := w.expire(t, w.store, retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Equal(t, []backup.ID{all[0], all[2]}, result.Dropped)
		require.Len(t, plan.Keep, 2)
		require.Contains(t, plan.Keep[0].Reasons[0], "in use by process")
		w.requireRestores(t, []backup.ID{all[1], all[3]})
		return nil
	})
	require.NoError(t, err)

	// Between the plan's listing of users and the deletion of the manifest.
	done, over := make(chan struct{}), make(chan struct{})
	begun := false
	between := &hooked{Store: w.store, before: func(op, key string) {
		if op != "delete" || key != "backups/"+string(all[1]) || begun {
			return
		}
		begun = true
		using := make(chan struct{})
		go func() {
			defer close(done)
			_ = backup.Use(t.Context(), r, all[1], func(ctx context.Context) error {
				_, err := backup.Load(ctx, r, all[1])
				close(using)
				<-over
				return err
			})
		}()
		<-using
	}}
	before := content(t, w.store)
	_, result, err := w.expire(t, between, retention.Policy{KeepLast: 1})
	require.NoError(t, err)
	require.Equal(t, []backup.ID{all[1]}, result.Dropped)
	require.Contains(t, result.Postponed, string(all[1]))
	require.Len(t, unmarked(content(t, w.store)), len(before)-1, "nothing but its manifest")
	_, result, err = w.expire(t, w.store, retention.Policy{KeepLast: 1})
	require.NoError(t, err)
	require.Contains(t, result.Postponed, string(all[1]), "the next run knows as well")
	require.Len(t, unmarked(content(t, w.store)), len(before)-1)
	close(over)
	<-done
	w.clock.add(48 * time.Hour)
	_, result, err = w.expire(t, w.store, retention.Policy{KeepLast: 1})
	require.NoError(t, err)
	require.Empty(t, result.Postponed)
	require.Positive(t, result.FreedBytes)
	require.Equal(t, content(t, w.store), unmarked(content(t, w.store)))
	w.requireRestores(t, []backup.ID{all[3]})
}

// What is in use keeps all WAL that recovery from it can read, however little of it the policy keeps.
func TestApplySparesWALOfUsers(t *testing.T) {
	t.Parallel()
	policy := retention.Policy{KeepLast: 10, KeepWAL: 30 * time.Hour}
	freed := func(id func(all []backup.ID) backup.ID) (bytes int64) {
		w, all := fourBackups(t)
		expire := func(context.Context) error {
			_, result, err := w.expire(t, w.store, policy)
			require.NoError(t, err)
			require.Empty(t, result.Postponed)
			bytes = result.FreedBytes
			return nil
		}
		if of := id(all); of != "" {
			require.NoError(t, backup.Use(t.Context(), w.r(t), of, expire))
			_, err := restore.Prepare(t.Context(), w.r(t), restore.Latest(), &restore.PlanOptions{Backup: of})
			require.NoError(t, err)
		} else {
			require.NoError(t, expire(t.Context()))
			_, err := restore.Prepare(t.Context(), w.r(t), restore.Latest(), &restore.PlanOptions{Backup: all[0]})
			require.Error(t, err)
		}
		return bytes
	}
	none := freed(func([]backup.ID) backup.ID { return "" })
	require.Positive(t, none)
	require.Less(t, freed(func(all []backup.ID) backup.ID { return all[0] }), none)
}

// A backup that lacks packs takes no one's place.
func TestPlanOfIncompleteBackups(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	require.NoError(t, w.store.Delete(t.Context(), "packs/"+string(all[3])+"/00000001"))
	plan, err := retention.NewPlan(t.Context(), w.r(t), retention.Policy{KeepLast: 1}, nil)
	require.NoError(t, err)
	require.Len(t, plan.Keep, 2)
	require.Equal(t, []backup.ID{all[2], all[3]}, []backup.ID{plan.Keep[0].Backup, plan.Keep[1].Backup})
	require.Contains(t, plan.Keep[1].Reasons[0], "1 packs are missing")
}

// By a clock that is ahead everything would be old.
func TestApplyByAWrongClock(t *testing.T) {
	t.Parallel()
	w, _ := fourBackups(t)
	ahead, err := repo.Open(t.Context(), w.store, &repo.Options{Now: func() time.Time { return w.clock.now().Add(60 * 24 * time.Hour) }})
	require.NoError(t, err)
	plan, err := retention.NewPlan(t.Context(), ahead, retention.Policy{KeepWithin: 30 * 24 * time.Hour}, nil)
	require.NoError(t, err)
	there := content(t, w.store)
	_, err = plan.Apply(t.Context(), ahead)
	var wrong *retention.ClockError
	require.ErrorAs(t, err, &wrong)
	require.WithinDuration(t, w.clock.now(), wrong.Store, time.Minute)
	_, err = plan.Apply(t.Context(), w.r(t))
	require.ErrorIs(t, err, retention.ErrStale)
	require.Equal(t, there, content(t, w.store))
}

// hooked is a store that does something before a call.
type hooked struct {
	repo.Store

	before func(op, key string)
}

func (h *hooked) Delete(ctx context.Context, key string) error {
	h.before("delete", key)
	return h.Store.Delete(ctx, key)
}

// A backup that is under way keeps a retention from beginning, and the other way round.
func TestApplyBesideABackup(t *testing.T) {
	t.Parallel()
	w, _ := fourBackups(t)
	var held *repo.LeaseError
	inside := &backuptest.Meanwhile{Source: w.cluster, Listing: func() {
		_, _, err := w.expire(t, w.store, retention.Policy{KeepLast: 1})
		require.ErrorAs(t, err, &held)
		require.Equal(t, backup.LeaseName, held.Name)
	}}
	_, err := backup.Take(t.Context(), w.r(t), inside, nil)
	require.NoError(t, err)
	require.NotNil(t, held)
}

// What may not be deleted is told, and what it needs stays.
func TestApplyRefused(t *testing.T) {
	t.Parallel()
	refused := func(key string) repotest.Fault {
		return repotest.Fault{Op: repotest.OpDelete, Key: key, Do: repotest.Fail(repo.ErrRefused)}
	}
	t.Run("a manifest", func(t *testing.T) {
		t.Parallel()
		w, all := fourBackups(t)
		_, result, err := w.expire(t, repotest.Faulty(w.store, refused("backups/"+string(all[1]))), retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Equal(t, []backup.ID{all[0], all[2]}, result.Dropped)
		require.Len(t, result.Refused, 1)
		require.Equal(t, "backups/"+string(all[1]), result.Refused[0].Key)
		w.requireRestores(t, []backup.ID{all[1], all[3]})
		r := w.r(t)
		for _, to := range []restore.Target{restore.Immediate(), restore.Latest()} {
			_, err := restore.Prepare(t.Context(), r, to, &restore.PlanOptions{Backup: all[1]})
			require.NoError(t, err)
		}
	})
	t.Run("to mark what is dropped", func(t *testing.T) {
		t.Parallel()
		w, all := fourBackups(t)
		noMarks := repotest.Fault{Op: repotest.OpCreate, Key: "dropped/*", Do: repotest.Fail(repo.ErrRefused)}
		_, result, err := w.expire(t, repotest.Faulty(w.store, noMarks), retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Equal(t, all[:3], result.Dropped)
		w.requireRestores(t, all[3:])
	})
	t.Run("everything", func(t *testing.T) {
		t.Parallel()
		w, all := fourBackups(t)
		there := content(t, w.store)
		plan, result, err := w.expire(t, repotest.Faulty(w.store, refused("*/*"), refused("*/*/*"), refused("*/*/*/*"), refused("*/*/*/*/*")),
			retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Empty(t, result.Dropped)
		asked := 0
		for _, refusal := range result.Refused {
			require.NotContains(t, refusal.Key, "packs/", "what they need is not asked for")
			if strings.HasPrefix(refusal.Key, "backups/") {
				asked++
			}
		}
		require.Len(t, plan.Drop, asked)
		require.Zero(t, result.FreedBytes)
		require.Equal(t, there, unmarked(content(t, w.store)))
		w.requireRestores(t, all)
	})
	t.Run("WAL", func(t *testing.T) {
		t.Parallel()
		w, all := fourBackups(t)
		_, result, err := w.expire(t, repotest.Faulty(w.store, refused("wal/*/*/*/*")), retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Equal(t, all[:3], result.Dropped)
		require.NotEmpty(t, result.Refused)
		_, again, err := w.expire(t, w.store, retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Empty(t, again.Refused)
		require.Positive(t, again.FreedBytes, "once it may")
		w.requireRestores(t, all[3:])
	})
}

// At every call of the store, with an error before or after the effect: whatever is listed is whole, and the next run does
// the rest.
func TestApplyWhenTheStoreFails(t *testing.T) {
	t.Parallel()
	for name, effect := range map[string]repotest.Effect{"before": repotest.Fail(nil), "after": repotest.FailAfter(nil)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, all := fourBackups(t)
			base, at := w.store, w.clock.now()
			for n := 1; ; n++ {
				w.store = base
				w.clock.set(at)
				w.store = w.copied(t)
				s := repotest.Faulty(w.store, repotest.Fault{Nth: n, Do: effect})
				_, _, err := w.expire(t, s, retention.Policy{KeepLast: 1})
				if s.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 40)
					return
				}
				if err != nil {
					require.ErrorIs(t, err, repotest.ErrInjected)
					require.NotErrorIs(t, err, fs.ErrNotExist)
				}
				left, err := backup.List(t.Context(), w.r(t))
				require.NoError(t, err)
				for _, b := range left {
					requireWhole(t, w.r(t), b.ID)
				}
				w.clock.add(48 * time.Hour)
				_, _, err = w.expire(t, w.store, retention.Policy{KeepLast: 1})
				require.NoError(t, err)
				w.requireRestores(t, all[3:])
				require.Len(t, slices.DeleteFunc(content(t, w.store), func(key string) bool { return !strings.HasPrefix(key, "backups/") }), 1)
			}
		})
	}
}

var rounds = flag.Int("rounds", 30, "rounds of two hosts that back up and expire at once")

// busy tells whether somebody else was at work.
func busy(err error) bool {
	var held *repo.LeaseError
	return errors.As(err, &held) || errors.Is(err, retention.ErrStale) || errors.Is(err, repo.ErrLeaseLost)
}

// untilFree tries again while somebody else is at work.
func untilFree(do func() error) (err error) {
	for range 20 {
		if err = do(); !busy(err) {
			break
		}
	}
	return err
}

// Two hosts back up and expire at once, their clocks an hour apart: no backup is lost that was reported, and none is broken.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	var at clock
	at.set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now := func() time.Time { return at.add(time.Millisecond) }
	store := repotest.Mem(&repotest.MemOptions{Now: now})
	cluster := backuptest.New(&backuptest.Options{Logged: true, Now: now})
	host := func(skew time.Duration) *repo.Repo {
		r, err := repo.Init(t.Context(), store, &repo.Options{Now: func() time.Time { return now().Add(skew) }})
		require.NoError(t, err)
		return r
	}
	hosts := []*repo.Repo{host(0), host(time.Hour)}
	policy := retention.Policy{KeepLast: 2}
	taken := map[backup.ID]bool{}
	counts := map[string]int{}
	for round := range *rounds {
		at.add(2 * time.Hour)
		cluster.Write("base/5/16384", backuptest.Pages(0, 8, uint64(cluster.LSN()), fmt.Sprint("round ", round)))
		cluster.Commit()
		type outcome struct {
			what string
			id   backup.ID
			err  error
		}
		outcomes := make(chan outcome)
		for i := range hosts {
			i = (i + round) % len(hosts) // so that none is always the first
			r := hosts[i]
			go func() {
				o := outcome{what: fmt.Sprint("backup ", i)}
				o.err = untilFree(func() error {
					m, err := backup.Take(t.Context(), r, cluster, &backup.Options{Type: backup.Auto, Jobs: 1})
					if err == nil {
						o.id = m.ID
					}
					return err
				})
				outcomes <- o
			}()
			go func() {
				outcomes <- outcome{what: fmt.Sprint("expire ", i), err: untilFree(func() error {
					plan, err := retention.NewPlan(t.Context(), r, policy, &retention.Options{OrphanGrace: time.Nanosecond})
					if err == nil {
						_, err = plan.Apply(t.Context(), r)
					}
					return err
				})}
			}()
		}
		for range 2 * len(hosts) {
			o := <-outcomes
			if o.err == nil {
				counts[o.what]++
				if o.id != "" {
					taken[o.id] = true
				}
				continue
			}
			var late *backup.ClockError
			require.True(t, errors.As(o.err, &late) || busy(o.err), "%s: %v", o.what, o.err)
		}
		all, err := backup.List(t.Context(), hosts[0])
		require.NoError(t, err)
		var listed []backup.ID
		for _, b := range all {
			listed = append(listed, b.ID)
			requireWhole(t, hosts[0], b.ID)
		}
		newest := slices.Sorted(maps.Keys(taken))
		for _, id := range newest[max(0, len(newest)-2):] {
			require.Contains(t, listed, id, "round %d", round)
		}
	}
	for _, what := range []string{"backup 0", "backup 1", "expire 0", "expire 1"} {
		require.Positive(t, counts[what], "%s of %v", what, counts)
	}
	t.Log(counts)
}
