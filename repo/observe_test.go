package repo_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestObserveIsAStore(t *testing.T) {
	repotest.TestStore(t, func(*testing.T) repo.Store { return repo.Observe(repotest.Mem(nil), func(repo.Op) {}) })
}

func TestObserve(t *testing.T) {
	full := errors.New("disk full")
	begin := func(t *testing.T, s repo.Store, key string) repo.Writer {
		t.Helper()
		w, err := s.Create(t.Context(), key)
		require.NoError(t, err)
		return w
	}
	read := func(t *testing.T, s repo.Store, off, n int64) {
		t.Helper()
		body, err := s.Open(t.Context(), "there", off, n)
		require.NoError(t, err)
		_, _ = io.ReadAll(body)
		require.NoError(t, body.Close())
		_ = body.Close()
	}
	tests := []struct {
		name   string
		faults []repotest.Fault
		call   func(t *testing.T, s repo.Store)
		want   []repo.Op // Took is left out
	}{
		{"commit", nil, func(t *testing.T, s repo.Store) {
			require.NoError(t, writeObject(s, "a", "12345"))
		}, []repo.Op{{Name: "create", Key: "a", Bytes: 5}}},
		{"commit, then close twice", nil, func(t *testing.T, s repo.Store) {
			w := begin(t, s, "a")
			_, err := w.Commit()
			require.NoError(t, err)
			require.NoError(t, w.Close())
			require.NoError(t, w.Close())
		}, []repo.Op{{Name: "create", Key: "a"}}},
		{"commit of a taken key", nil, func(t *testing.T, s repo.Store) {
			require.ErrorIs(t, writeObject(s, "there", "123"), fs.ErrExist)
		}, []repo.Op{{Name: "create", Key: "there", Bytes: 3, Err: fs.ErrExist}}},
		{"abort", nil, func(t *testing.T, s repo.Store) {
			w := begin(t, s, "a")
			_, err := w.Write([]byte("12"))
			require.NoError(t, err)
			require.NoError(t, w.Close())
		}, []repo.Op{{Name: "create", Key: "a", Bytes: 2, Err: repo.ErrAborted}}},
		{"a write that fails", []repotest.Fault{{Op: repotest.OpWrite, Do: repotest.Fail(full)}}, func(t *testing.T, s repo.Store) {
			w := begin(t, s, "a")
			_, err := w.Write([]byte("12"))
			require.ErrorIs(t, err, full)
			require.NoError(t, w.Close())
		}, []repo.Op{{Name: "create", Key: "a", Err: full}}},
		{"a create that fails", []repotest.Fault{{Op: repotest.OpCreate, Do: repotest.Fail(full)}}, func(t *testing.T, s repo.Store) {
			require.ErrorIs(t, writeObject(s, "a", ""), full)
		}, []repo.Op{{Name: "create", Key: "a", Err: full}}},
		{"read", nil, func(t *testing.T, s repo.Store) {
			read(t, s, 3, 4)
		}, []repo.Op{{Name: "open", Key: "there", Bytes: 4}}},
		{"a read that breaks off", []repotest.Fault{{Op: repotest.OpOpen, Do: repotest.Cut(6)}}, func(t *testing.T, s repo.Store) {
			read(t, s, 0, -1)
		}, []repo.Op{{Name: "open", Key: "there", Bytes: 6, Err: io.ErrUnexpectedEOF}}},
		{"open of what is missing", nil, func(t *testing.T, s repo.Store) {
			_, err := s.Open(t.Context(), "none", 0, -1)
			require.ErrorIs(t, err, fs.ErrNotExist)
		}, []repo.Op{{Name: "open", Key: "none", Err: fs.ErrNotExist}}},
		{"stat and delete", nil, func(t *testing.T, s repo.Store) {
			_, err := s.Stat(t.Context(), "there")
			require.NoError(t, err)
			require.NoError(t, s.Delete(t.Context(), "there"))
			_, err = s.Stat(t.Context(), "there")
			require.ErrorIs(t, err, fs.ErrNotExist)
		}, []repo.Op{{Name: "stat", Key: "there"}, {Name: "delete", Key: "there"}, {Name: "stat", Key: "there", Err: fs.ErrNotExist}}},
		{"list", nil, func(t *testing.T, s repo.Store) {
			for info, err := range s.List(t.Context(), "th") {
				require.NoError(t, err)
				_, err = s.Stat(t.Context(), info.Key)
				require.NoError(t, err)
				break
			}
		}, []repo.Op{{Name: "stat", Key: "there"}, {Name: "list", Key: "th", Keys: 1}}},
		{"a list that fails", []repotest.Fault{{Op: repotest.OpList, Do: repotest.Fail(full)}}, func(t *testing.T, s repo.Store) {
			for _, err := range s.List(t.Context(), "") {
				require.ErrorIs(t, err, full)
			}
		}, []repo.Op{{Name: "list", Err: full}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := repotest.Mem(nil)
			require.NoError(t, writeObject(mem, "there", "0123456789"))
			var got []repo.Op
			tt.call(t, repo.Observe(repotest.Faulty(mem, tt.faults...), func(op repo.Op) { got = append(got, op) }))
			require.Len(t, got, len(tt.want))
			for i, want := range tt.want {
				if want.Err != nil {
					require.ErrorIs(t, got[i].Err, want.Err)
				} else {
					require.NoError(t, got[i].Err)
				}
				assert.GreaterOrEqual(t, got[i].Took, time.Duration(0))
				got[i].Took, got[i].Err, want.Err = 0, nil, nil
				assert.Equal(t, want, got[i])
			}
		})
	}
}

func TestObserveMeasuresTheWholeCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repo.Observe(repotest.Faulty(repotest.Mem(nil), repotest.Fault{Do: repotest.Stall()}), func(op repo.Op) {
			assert.Equal(t, time.Minute, op.Took)
			assert.ErrorIs(t, op.Err, context.DeadlineExceeded)
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := s.Stat(ctx, "a")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}
