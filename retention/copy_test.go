package retention_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/retention"
)

// creating is a store that is asked before an object is begun.
type creating struct {
	repo.Store

	before func(key string)
}

func (h *creating) Create(ctx context.Context, key string) (repo.Writer, error) {
	h.before(key)
	return h.Store.Create(ctx, key)
}

// A copy that is suspended, just before its manifest, until a retention has taken over and decided which WAL goes, leaves no
// backup that cannot be restored.
func TestApplyBesideASuspendedCopy(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	from := w.r(t)
	there := repotest.Mem(&repotest.MemOptions{Now: w.now})
	_, err := backup.Copy(t.Context(), from, w.open(t, there), nil)
	require.NoError(t, err)
	_, _, err = w.expire(t, there, retention.Policy{KeepLast: 1})
	require.NoError(t, err)
	suspended, resume, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	to := w.open(t, &creating{there, func(key string) {
		if key == "backups/"+string(all[2]) {
			close(suspended)
			<-resume
		}
	}})
	var copied error
	go func() {
		defer close(ended)
		_, copied = backup.Copy(t.Context(), from, to, &backup.CopyOptions{Backups: []backup.ID{all[2]}})
	}()
	<-suspended
	w.clock.add(10 * time.Minute) // the lease has expired
	goOn := sync.OnceFunc(func() { close(resume) })
	_, result, err := w.expire(t, &hooked{Store: there, before: func(_, key string) {
		if strings.HasPrefix(key, "wal/") {
			goOn()
			<-ended
		}
	}}, retention.Policy{KeepLast: 1})
	goOn()
	<-ended
	require.NoError(t, err)
	require.NotEmpty(t, result.Deleted)
	require.ErrorIs(t, copied, repo.ErrLeaseLost)
	report, err := backup.Verify(t.Context(), w.open(t, there), nil)
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	require.Equal(t, 1, report.Backups)
}

// A backup that is listed only after it was decided which WAL goes keeps all of it for this time.
func TestApplyLeavesWALToABackupThatHasCome(t *testing.T) {
	t.Parallel()
	w, all := fourBackups(t)
	r, err := w.store.Open(t.Context(), "backups/"+string(all[2]), 0, -1)
	require.NoError(t, err)
	manifest, err := io.ReadAll(r)
	require.NoError(t, err)
	before := content(t, w.store)
	_, result, err := w.expire(t, &hooked{Store: w.store, before: func(_, key string) {
		if key != backup.DroppedKey(all[2]) {
			return
		}
		out, err := w.store.Create(t.Context(), "backups/"+string(all[2]))
		require.NoError(t, err)
		_, err = out.Write(manifest)
		require.NoError(t, err)
		_, err = out.Commit()
		require.NoError(t, err)
	}}, retention.Policy{KeepLast: 1})
	require.NoError(t, err)
	require.Contains(t, result.Postponed, string(all[2]))
	after := content(t, w.store)
	for _, key := range before {
		if strings.HasPrefix(key, "wal/") {
			require.Contains(t, after, key)
		}
	}
}

// What a policy leaves is no problem to whoever verifies by its KeepWAL: not on the day after either, when the backup is
// dropped behind which WAL was left out.
func TestVerifyByAPolicysKeepWAL(t *testing.T) {
	t.Parallel()
	w := newRepository(1)
	policy := retention.Policy{KeepLast: 2, KeepWAL: 36 * time.Hour}
	gaps := 0
	for day := range 8 {
		w.cluster.Commit()
		m, err := backup.Take(t.Context(), w.r(t), w.cluster, &backup.Options{Jobs: 1})
		require.NoError(t, err)
		if day == 0 {
			require.NoError(t, backup.Pin(t.Context(), w.r(t), m.ID))
		}
		for _, when := range []time.Duration{time.Hour, 22 * time.Hour} {
			w.cluster.Commit()
			w.cluster.Switch(2)
			w.archive(t)
			w.clock.add(when)
			_, _, err := w.expire(t, w.store, policy)
			require.NoError(t, err)
			report, err := backup.Verify(t.Context(), w.r(t), &backup.VerifyOptions{KeepWAL: policy.KeepWAL})
			require.NoError(t, err)
			require.True(t, report.OK(), "day %d, %s after the backup\n%s", day, when, report)
			gaps += len(report.Gaps)
		}
		w.clock.add(time.Hour)
	}
	require.Positive(t, gaps)
}
