package repo_test

import (
	"context"
	"io"
	"io/fs"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestInitIsIdempotent(t *testing.T) {
	bothModes(t, func(t *testing.T, g *rig) {
		before := storedKeys(t, g.store, "")
		assert.Equal(t, []string{"pgcairn.json"}, before, "the probe is gone")
		marker := storedBytes(t, g.store, "pgcairn.json")

		o := g.readOptions(t)
		for range 2 {
			r, err := repo.Init(t.Context(), g.store, o)
			require.NoError(t, err)
			assert.Equal(t, g.w.ID(), r.ID())
			assert.Equal(t, g.encrypted, r.Encrypted())
			assert.Equal(t, g.store, r.Store())
			assert.Equal(t, testTime, r.Now())
		}
		assert.Equal(t, before, storedKeys(t, g.store, ""))
		assert.Equal(t, marker, storedBytes(t, g.store, "pgcairn.json"))
	})
}

func TestInitRace(t *testing.T) {
	const racers = 16
	s := repotest.Mem(nil)
	var (
		repos [racers]*repo.Repo
		errs  [racers]error
		start = make(chan struct{})
		wg    sync.WaitGroup
	)
	for i := range racers {
		wg.Go(func() {
			<-start
			repos[i], errs[i] = repo.Init(t.Context(), s, nil)
		})
	}
	close(start)
	wg.Wait()
	for i := range racers {
		require.NoError(t, errs[i])
		require.Equal(t, repos[0].ID(), repos[i].ID())
	}
	assert.Equal(t, []string{"pgcairn.json"}, storedKeys(t, s, ""))
	other, err := repo.Init(t.Context(), repotest.Mem(nil), nil)
	require.NoError(t, err)
	assert.NotEqual(t, repos[0].ID(), other.ID())
}

// Of two that race with other wishes one wins, and the other is told.
func TestInitRaceForEncryption(t *testing.T) {
	s := repotest.Mem(nil)
	late := &meeting{Store: s, meet: func() {
		_, err := repo.Init(t.Context(), s, &repo.Options{Cipher: writeOnly(t)})
		require.NoError(t, err)
	}}
	_, err := repo.Init(t.Context(), late, nil)
	require.ErrorIs(t, err, repo.ErrEncrypted)
}

// meeting is a store on which something happens before the marker is created.
type meeting struct {
	repo.Store

	meet func()
}

func (s *meeting) Create(ctx context.Context, key string) (repo.Writer, error) {
	if key == "pgcairn.json" {
		s.meet()
	}
	return s.Store.Create(ctx, key)
}

// A repository whose marker is gone is not made anew: what it holds would be mixed with what comes.
func TestInitRefusesWhatHasLostItsMarker(t *testing.T) {
	s := repotest.Mem(nil)
	r, err := repo.Init(t.Context(), s, nil)
	require.NoError(t, err)
	_, err = r.Put(t.Context(), "wal/a", nil, func(w io.Writer) error { _, err := io.WriteString(w, "content"); return err })
	require.NoError(t, err)
	require.NoError(t, s.Delete(t.Context(), "pgcairn.json"))
	_, err = repo.Init(t.Context(), s, nil)
	var gone *repo.MarkerError
	require.ErrorAs(t, err, &gone)
	require.Equal(t, "wal/a", gone.Key)
	_, err = repo.Open(t.Context(), s, nil)
	require.ErrorIs(t, err, repo.ErrNoRepository)
	require.NoError(t, s.Delete(t.Context(), "wal/a"))
	_, err = repo.Init(t.Context(), s, nil)
	require.NoError(t, err)
}

func TestInitRefusesUnsafeStore(t *testing.T) {
	s := overwriting{repotest.Mem(nil)}
	_, err := repo.Init(t.Context(), s, nil)
	require.ErrorIs(t, err, repo.ErrUnsafeStore)
	assert.Empty(t, storedKeys(t, s, ""), "nothing is left")
}

func TestProbe(t *testing.T) {
	ctx := t.Context()
	s := repotest.Mem(nil)
	require.NoError(t, repo.Probe(ctx, s))
	require.NoError(t, repo.Probe(ctx, s))
	assert.Empty(t, storedKeys(t, s, ""))
	require.ErrorIs(t, repo.Probe(ctx, overwriting{s}), repo.ErrUnsafeStore)
	require.ErrorIs(t, repo.Probe(ctx, silent{s}), repo.ErrUnsafeStore)

	// Credentials that do not permit deleting will do.
	kept := repotest.Faulty(s, repotest.Fault{Op: repotest.OpDelete})
	require.NoError(t, repo.Probe(ctx, kept))
	assert.Len(t, storedKeys(t, s, "probe/"), 1)

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, repo.Probe(cancelled, s), context.Canceled)
}

// silent is a store that refuses a second create, and has replaced the object all the same.
type silent struct{ repo.Store }

func (s silent) Create(ctx context.Context, key string) (repo.Writer, error) {
	w, err := s.Store.Create(ctx, key)
	return &silentWriter{w, s, key, ctx}, err
}

type silentWriter struct {
	repo.Writer

	s   silent
	key string
	ctx context.Context //nolint:containedctx // a writer's own
}

func (w *silentWriter) Commit() (repo.Info, error) {
	_, taken := w.s.Stat(w.ctx, w.key)
	_ = w.s.Delete(w.ctx, w.key)
	info, err := w.Writer.Commit()
	if err == nil && taken == nil {
		err = fs.ErrExist
	}
	return info, err
}

// marker makes a marker of some format.
func marker(t *testing.T, format int, encryption string) []byte {
	t.Helper()
	b, err := repo.SealRecord("pgcairn.json", struct {
		Format     int    `json:"format"`
		ID         string `json:"id"`
		Encryption string `json:"encryption"`
	}{format, "ID", encryption})
	require.NoError(t, err)
	return b
}

func TestOpenFails(t *testing.T) {
	tests := []struct {
		name   string
		marker []byte // nil for none
		cipher repo.Cipher
		want   func(t *testing.T, err error)
	}{
		{"missing", nil, nil, func(t *testing.T, err error) {
			require.ErrorIs(t, err, repo.ErrNoRepository)
		}},
		{"newer", marker(t, 2, "none"), nil, func(t *testing.T, err error) {
			var format *repo.FormatError
			require.ErrorAs(t, err, &format)
			assert.Equal(t, repo.FormatError{Format: 2, Supported: 1}, *format)
			assert.Equal(t, "repository format 2 is unknown to this version of pgcairn, which knows format 1: use a newer version", err.Error())
		}},
		{"newer, of another shape", []byte(`{"format": 1000, "id": {"of": "another kind"}}`), nil, func(t *testing.T, err error) {
			var format *repo.FormatError
			require.ErrorAs(t, err, &format)
			assert.Equal(t, 1000, format.Format)
		}},
		{"older than the first", marker(t, 0, "none"), nil, func(t *testing.T, err error) {
			var format *repo.FormatError
			require.ErrorAs(t, err, &format)
		}},
		{"unknown encryption", marker(t, 1, "rot13"), nil, func(t *testing.T, err error) { requireCorrupt(t, err, "pgcairn.json") }},
		{"foreign", []byte(`{"version": "1"}`), nil, func(t *testing.T, err error) { requireCorrupt(t, err, "pgcairn.json") }},
		{"not JSON", []byte("hello"), nil, func(t *testing.T, err error) { requireCorrupt(t, err, "pgcairn.json") }},
		{"empty", []byte{}, nil, func(t *testing.T, err error) { requireCorrupt(t, err, "pgcairn.json") }},
		{"endless", make([]byte, 64<<10+1), nil, func(t *testing.T, err error) { requireCorrupt(t, err, "pgcairn.json") }},
		{"encrypted", marker(t, 1, "age"), nil, func(t *testing.T, err error) { require.ErrorIs(t, err, repo.ErrEncrypted) }},
		{"not encrypted", marker(t, 1, "none"), writeOnly(t), func(t *testing.T, err error) { require.ErrorIs(t, err, repo.ErrNotEncrypted) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := repotest.Mem(nil)
			if tt.marker != nil {
				storeBytes(t, s, "pgcairn.json", tt.marker)
			}
			_, err := repo.Open(t.Context(), s, &repo.Options{Cipher: tt.cipher})
			tt.want(t, err)
			requireNoAnswerAtAll(t, err)
			if tt.marker != nil {
				_, initErr := repo.Init(t.Context(), s, &repo.Options{Cipher: tt.cipher})
				require.EqualError(t, initErr, err.Error(), "Init does not make it better")
				require.Equal(t, []string{"pgcairn.json"}, storedKeys(t, s, ""), "and does not try")
			}
		})
	}
}
