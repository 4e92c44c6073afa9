package retention_test

import (
	"context"
	"io/fs"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/restore"
	"github.com/pgcairn/pgcairn/retention"
	"github.com/pgcairn/pgcairn/wal"
)

// damage puts something else in the place of a manifest, and returns its key.
func (w *repository) damage(t *testing.T, id backup.ID) (key string) {
	t.Helper()
	key = "backups/" + string(id)
	require.NoError(t, w.store.Delete(t.Context(), key))
	object, err := w.store.Create(t.Context(), key)
	require.NoError(t, err)
	_, err = object.Write([]byte("no manifest"))
	require.NoError(t, err)
	_, err = object.Commit()
	require.NoError(t, err)
	return key
}

// A manifest that is damaged keeps everything, until somebody gives it up; and no other can be given up.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	key := w.damage(t, all[1])
	policy := retention.Policy{KeepLast: 2}
	_, err := retention.NewPlan(t.Context(), w.r(t), policy, nil)
	var unreadable *backup.UnreadableError
	require.ErrorAs(t, err, &unreadable)
	require.Equal(t, key, unreadable.Key)
	for _, id := range []backup.ID{all[0], "20000101T000000Z-000000"} {
		_, err = retention.NewPlan(t.Context(), w.r(t), policy, &retention.Options{GiveUp: []backup.ID{all[1], id}})
		require.ErrorContains(t, err, string(id)+" is not one whose manifest cannot be read")
	}
	require.NoError(t, backup.Use(t.Context(), w.r(t), all[1], func(context.Context) error {
		_, err := retention.NewPlan(t.Context(), w.r(t), policy, &retention.Options{GiveUp: all[1:2]})
		require.ErrorContains(t, err, "in use")
		return nil
	}))

	plan, err := retention.NewPlan(t.Context(), w.r(t), policy, &retention.Options{GiveUp: all[1:2]})
	require.NoError(t, err)
	require.Equal(t, all[1], plan.Drop[0].Backup)
	require.Contains(t, plan.Drop[0].Reasons[0], "given up: ")
	result, err := plan.Apply(t.Context(), w.r(t))
	require.NoError(t, err)
	require.Equal(t, []backup.ID{all[1], all[0]}, result.Dropped)
	plan, err = retention.NewPlan(t.Context(), w.r(t), policy, nil)
	require.NoError(t, err)
	require.Empty(t, plan.Drop)
	for _, v := range plan.Keep {
		requireWhole(t, w.r(t), v.Backup)
	}
}

// When an identity is lost, what it read is lost, and nothing else: what is taken for another one is listed, kept and
// restored, and what cannot be read goes when it is given up.
func TestGiveUpWhatAnotherIdentityReads(t *testing.T) {
	t.Parallel()
	var at clock
	at.set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now := func() time.Time { return at.add(10 * time.Millisecond) }
	store := repotest.Mem(&repotest.MemOptions{Now: now})
	cluster := backuptest.New(&backuptest.Options{Logged: true, Now: now})
	var ids []backup.ID
	var r *repo.Repo
	for range 2 { // identities, the first of which is lost
		identity, err := age.GenerateX25519Identity()
		require.NoError(t, err)
		cipher, err := crypto.New([]age.Recipient{identity.Recipient()}, []age.Identity{identity})
		require.NoError(t, err)
		r, err = repo.Init(t.Context(), store, &repo.Options{Now: now, Cipher: cipher})
		require.NoError(t, err)
		cluster.Write("base/5/16384", backuptest.Pages(0, 8, uint64(cluster.LSN()), "state"))
		cluster.Commit()
		m, err := backup.Take(t.Context(), r, cluster, &backup.Options{Type: backup.Full, Jobs: 1})
		require.NoError(t, err)
		ids = append(ids, m.ID)
		cluster.Switch(1)
		a, err := wal.NewArchive(r, nil)
		require.NoError(t, err)
		require.NoError(t, cluster.Archive(t.Context(), a))
		at.add(24 * time.Hour)
	}
	all, err := backup.List(t.Context(), r)
	require.Len(t, all, 1)
	require.Equal(t, ids[1], all[0].ID)
	unreadable := backup.Unreadable(err)
	require.Len(t, unreadable, 1)
	require.Equal(t, "backups/"+string(ids[0]), unreadable[0].Key)
	var closed *repo.DataKeyError
	require.ErrorAs(t, unreadable[0], &closed)

	plan, err := restore.Prepare(t.Context(), r, restore.Latest(), nil)
	require.NoError(t, err)
	require.Equal(t, ids[1], plan.Backup.ID)
	require.Contains(t, plan.Warnings[0], string(ids[0]))
	expire, err := retention.NewPlan(t.Context(), r, retention.Policy{}, nil)
	require.Nil(t, expire)
	require.ErrorAs(t, err, &closed)
	expire, err = retention.NewPlan(t.Context(), r, retention.Policy{}, &retention.Options{GiveUp: ids[:1]})
	require.NoError(t, err)
	_, err = expire.Apply(t.Context(), r)
	require.NoError(t, err)
	all, err = backup.List(t.Context(), r)
	require.NoError(t, err)
	require.Len(t, all, 1)
	requireWhole(t, r, ids[1])
}

// The manifest of a pinned backup is gone, though no retention may have dropped it: nothing is dropped until it is back,
// or the pin is taken away.
func TestPinnedIsGone(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	r := w.r(t)
	require.NoError(t, backup.Pin(t.Context(), r, all[0]))
	require.NoError(t, w.store.Delete(t.Context(), "backups/"+string(all[0])))
	listed, err := backup.List(t.Context(), r)
	require.Len(t, listed, 3)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, o := range []*retention.Options{nil, {GiveUp: all[:1]}} {
		_, err = retention.NewPlan(t.Context(), r, retention.Policy{KeepLast: 1}, o)
		var unreadable *backup.UnreadableError
		require.ErrorAs(t, err, &unreadable)
		require.Equal(t, "backups/"+string(all[0]), unreadable.Key)
	}
	require.NoError(t, backup.Unpin(t.Context(), r, all[0]))
	_, err = retention.NewPlan(t.Context(), r, retention.Policy{KeepLast: 1}, nil)
	require.NoError(t, err)
	require.ErrorIs(t, backup.Unpin(t.Context(), r, all[0]), fs.ErrNotExist)
	require.ErrorIs(t, backup.Pin(t.Context(), r, all[0]), fs.ErrNotExist)
}

// What a store does not let go keeps what it needs, and so does a pin.
func TestGiveUpWhatStays(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	require.NoError(t, backup.Pin(t.Context(), w.r(t), all[0]))
	w.damage(t, all[0])
	given := &retention.Options{GiveUp: all[:1]}
	_, err := retention.NewPlan(t.Context(), w.r(t), retention.Policy{KeepLast: 1}, given)
	require.ErrorContains(t, err, "unpin it first")
	require.NoError(t, backup.Unpin(t.Context(), w.r(t), all[0]))

	locked := repotest.Faulty(w.store, repotest.Fault{Op: repotest.OpDelete, Key: "backups/" + string(all[0]), Do: repotest.Fail(repo.ErrRefused)})
	there := func() (keys []string) {
		for _, prefix := range []string{"packs/", "wal/"} {
			for info, err := range w.store.List(t.Context(), prefix) {
				require.NoError(t, err)
				keys = append(keys, info.Key)
			}
		}
		return keys
	}
	before := there()
	for range 2 {
		r := w.open(t, locked)
		plan, err := retention.NewPlan(t.Context(), r, retention.Policy{KeepLast: 4}, given)
		require.NoError(t, err)
		result, err := plan.Apply(t.Context(), r)
		require.NoError(t, err)
		require.Contains(t, result.Postponed, "given up, and may not be deleted")
	}
	require.Equal(t, before, there())
}

// Of several records of a pin the last goes last: without it one before it would count.
func TestPinRecordsGoInOrder(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	creates := repotest.Faulty(w.store, repotest.Fault{Op: repotest.OpDelete, Key: "pins/*/*", Do: repotest.Fail(repo.ErrRefused)})
	require.NoError(t, backup.Pin(t.Context(), w.open(t, creates), all[0]))
	require.NoError(t, backup.Unpin(t.Context(), w.open(t, creates), all[0]))
	pins := func() (n int) {
		for range w.store.List(t.Context(), "pins/") {
			n++
		}
		return n
	}
	require.Equal(t, 2, pins())
	for _, left := range []int{1, 0} {
		w.clock.add(48 * time.Hour)
		_, _, err := w.expire(t, w.store, retention.Policy{KeepLast: 1})
		require.NoError(t, err)
		require.Equal(t, left, pins())
		_, err = backup.List(t.Context(), w.r(t))
		require.NoError(t, err)
	}
}

// A plan is for the repository that it is made of: a copy, of which something else is missing, is decided anew.
func TestApplyToAnother(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	copied := w.copied(t)
	require.NoError(t, copied.Delete(t.Context(), "packs/"+string(all[3])+"/00000001"))
	plan, err := retention.NewPlan(t.Context(), w.r(t), retention.Policy{KeepLast: 1}, nil)
	require.NoError(t, err)
	result, err := plan.Apply(t.Context(), w.open(t, copied))
	require.ErrorIs(t, err, retention.ErrStale)
	require.Empty(t, result.Dropped)
	for info := range w.store.List(t.Context(), backup.DroppedKey("")) {
		require.Fail(t, "a mark where nothing was dropped", info.Key)
	}
	result, err = plan.Apply(t.Context(), w.r(t)) // opened anew
	require.NoError(t, err)
	require.Len(t, result.Dropped, 3)
	_, err = (&retention.Plan{}).Apply(t.Context(), w.r(t))
	require.ErrorContains(t, err, "NewPlan")
}

// A server's clock was ahead once: what comes later is not dropped as soon as it is taken.
func TestBackupOfTheFuture(t *testing.T) {
	t.Parallel()
	var at clock
	at.set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	now := func() time.Time { return at.add(time.Millisecond) }
	ahead := time.Duration(0) // the server's
	cluster := backuptest.New(&backuptest.Options{Logged: true, Now: func() time.Time { return now().Add(ahead) }})
	r, err := repo.Init(t.Context(), repotest.Mem(&repotest.MemOptions{Now: now}), &repo.Options{Now: now})
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for day := range 6 {
		if ahead = 0; day == 1 {
			ahead = 60 * 24 * time.Hour
		}
		cluster.Commit()
		m, err := backup.Take(t.Context(), r, cluster, &backup.Options{Type: backup.Full, Jobs: 1})
		require.NoError(t, err)
		cluster.Switch(1)
		require.NoError(t, cluster.Archive(t.Context(), a))
		at.add(24 * time.Hour)
		plan, err := retention.NewPlan(t.Context(), r, retention.Policy{KeepLast: 1}, nil)
		require.NoError(t, err)
		_, err = plan.Apply(t.Context(), r)
		require.NoError(t, err)
		requireWhole(t, r, m.ID)
	}
}

// A host whose clock has jumped ahead is noticed, whether or not it has taken a backup by then.
func TestApplyAfterABackupByAWrongClock(t *testing.T) {
	t.Parallel()
	var at clock
	at.set(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	ahead := time.Duration(0) // the host's
	host := func() time.Time { return at.add(time.Millisecond).Add(ahead) }
	store := repotest.Mem(&repotest.MemOptions{Now: func() time.Time { return at.add(time.Millisecond) }})
	cluster := backuptest.New(&backuptest.Options{Logged: true, Now: host})
	r, err := repo.Init(t.Context(), store, &repo.Options{Now: host})
	require.NoError(t, err)
	a, err := wal.NewArchive(r, nil)
	require.NoError(t, err)
	for day := range 4 {
		at.add(24 * time.Hour)
		if day == 3 {
			ahead = 60 * 24 * time.Hour
		}
		cluster.Commit()
		_, err := backup.Take(t.Context(), r, cluster, &backup.Options{Type: backup.Full, Jobs: 1})
		require.NoError(t, err)
		cluster.Switch(1)
		require.NoError(t, cluster.Archive(t.Context(), a))
	}
	plan, err := retention.NewPlan(t.Context(), r, retention.Policy{KeepWithin: 14 * 24 * time.Hour}, nil)
	require.NoError(t, err)
	result, err := plan.Apply(t.Context(), r)
	var wrong *retention.ClockError
	require.ErrorAs(t, err, &wrong)
	require.Empty(t, result.Dropped)
}
