package repotest_test

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

func TestFaultyWithoutFaultsIsAStore(t *testing.T) {
	repotest.TestStore(t, func(*testing.T) repo.Store { return repotest.Faulty(repotest.Mem(nil)) })
}

var errBoom = errors.New("boom")

func read(s repo.Store, key string, off, n int64) (string, error) {
	body, err := s.Open(context.Background(), key, off, n)
	if err != nil {
		return "", err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	return string(got), err
}

func keys(s repo.Store, prefix string) (keys []string, err error) {
	for info, err := range s.List(context.Background(), prefix) {
		if err != nil {
			return keys, err
		}
		keys = append(keys, info.Key)
	}
	return keys, nil
}

func stat(s repo.Store, key string) error {
	_, err := s.Stat(context.Background(), key)
	return err
}

func TestFail(t *testing.T) {
	tests := []struct {
		op    repotest.Operation
		call  func(s repo.Store) error
		after func(mem repo.Store) error // nil when FailAfter has let the call do its work
	}{
		{repotest.OpCreate, func(s repo.Store) error { return write(s, "new", "x") }, func(mem repo.Store) error {
			return want(stat(mem, "new"), fs.ErrNotExist)
		}},
		{repotest.OpWrite, func(s repo.Store) error { return write(s, "new", "x") }, func(mem repo.Store) error {
			return want(stat(mem, "new"), fs.ErrNotExist)
		}},
		{repotest.OpCommit, func(s repo.Store) error { return write(s, "new", "x") }, func(mem repo.Store) error {
			return stat(mem, "new")
		}},
		{repotest.OpOpen, func(s repo.Store) error { _, err := read(s, "old", 0, -1); return err }, nil},
		{repotest.OpRead, func(s repo.Store) error { _, err := read(s, "old", 0, -1); return err }, nil},
		{repotest.OpStat, func(s repo.Store) error { return stat(s, "old") }, nil},
		{repotest.OpList, func(s repo.Store) error { _, err := keys(s, ""); return err }, nil},
		{repotest.OpDelete, func(s repo.Store) error { return s.Delete(context.Background(), "old") }, func(mem repo.Store) error {
			return want(stat(mem, "old"), fs.ErrNotExist)
		}},
	}
	for _, tt := range tests {
		t.Run(string(tt.op), func(t *testing.T) {
			for _, err := range []error{nil, errBoom} {
				expect := err
				if err == nil {
					expect = repotest.ErrInjected
				}
				mem := repotest.Mem(nil)
				require.NoError(t, write(mem, "old", "x"))
				s := repotest.Faulty(mem, repotest.Fault{Op: tt.op, Do: repotest.Fail(err)})
				require.ErrorIs(t, tt.call(s), expect)
				assert.Equal(t, 1, s.Struck())
				all, _ := keys(mem, "")
				assert.Equal(t, []string{"old"}, all, "nothing was done")

				s = repotest.Faulty(mem, repotest.Fault{Op: tt.op, Do: repotest.FailAfter(err)})
				require.ErrorIs(t, tt.call(s), expect)
				if tt.after != nil {
					require.NoError(t, tt.after(mem))
				}
			}
		})
	}
}

// want returns nil when err is what was expected.
func want(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return errors.Join(errors.New("another error was expected"), err)
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repotest.Faulty(repotest.Mem(nil), repotest.Fault{Op: repotest.OpCommit, Do: repotest.Stall()})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		w, err := s.Create(ctx, "a")
		require.NoError(t, err)
		_, err = w.Commit()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, time.Hour, time.Since(start))
		require.NoError(t, w.Close())
	})
}

func TestBodies(t *testing.T) {
	tests := []struct {
		name   string
		do     []repotest.Effect
		off, n int64
		want   string
		err    error
	}{
		{"cut", []repotest.Effect{repotest.Cut(4)}, 0, -1, "0123", io.ErrUnexpectedEOF},
		{"cut a range", []repotest.Effect{repotest.Cut(2)}, 3, 4, "34", io.ErrUnexpectedEOF},
		{"cut at once", []repotest.Effect{repotest.Cut(0)}, 0, -1, "", io.ErrUnexpectedEOF},
		{"cut after the last byte", []repotest.Effect{repotest.Cut(10)}, 0, -1, "0123456789", io.ErrUnexpectedEOF},
		{"cut behind the end", []repotest.Effect{repotest.Cut(11)}, 0, -1, "0123456789", nil},
		{"truncate", []repotest.Effect{repotest.Truncate(4)}, 0, -1, "0123", nil},
		{"truncate, and read what is left", []repotest.Effect{repotest.Truncate(4)}, 1, 2, "12", nil},
		{"truncate, and read what is gone", []repotest.Effect{repotest.Truncate(4)}, 6, -1, "", nil},
		{"flip", []repotest.Effect{repotest.Flip(4)}, 0, -1, "0123556789", nil},
		{"flip in a range", []repotest.Effect{repotest.Flip(4)}, 3, 3, "355", nil},
		{"flip before a range", []repotest.Effect{repotest.Flip(4)}, 5, -1, "56789", nil},
		{"flip after a range", []repotest.Effect{repotest.Flip(4)}, 0, 4, "0123", nil},
		{"flip two, then cut", []repotest.Effect{repotest.Flip(0), repotest.Flip(2), repotest.Cut(3)}, 0, -1, "113", io.ErrUnexpectedEOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mem := repotest.Mem(nil)
			require.NoError(t, write(mem, "a", "0123456789"))
			var faults []repotest.Fault
			for _, do := range tt.do {
				faults = append(faults, repotest.Fault{Op: repotest.OpOpen, Do: do})
			}
			got, err := read(repotest.Faulty(mem, faults...), "a", tt.off, tt.n)
			require.ErrorIs(t, err, tt.err)
			assert.Equal(t, tt.want, got)
			got, err = read(mem, "a", 0, -1)
			require.NoError(t, err)
			assert.Equal(t, "0123456789", got, "the object itself is unharmed")
		})
	}
}

func TestCutWrite(t *testing.T) {
	mem := repotest.Mem(nil)
	s := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpWrite, Nth: 2, Do: repotest.Cut(2)})
	w, err := s.Create(t.Context(), "a")
	require.NoError(t, err)
	n, err := w.Write([]byte("0123"))
	require.NoError(t, err)
	assert.Equal(t, 4, n)
	n, err = w.Write([]byte("4567"))
	require.ErrorIs(t, err, repotest.ErrInjected)
	assert.Equal(t, 2, n)
	require.NoError(t, w.Close())
	require.ErrorIs(t, stat(mem, "a"), fs.ErrNotExist)
}

func TestCutList(t *testing.T) {
	mem := repotest.Mem(nil)
	for _, key := range []string{"a", "b", "c"} {
		require.NoError(t, write(mem, key, ""))
	}
	s := repotest.Faulty(mem, repotest.Fault{Op: repotest.OpList, Do: repotest.Cut(2)})
	got, err := keys(s, "")
	require.ErrorIs(t, err, repotest.ErrInjected)
	assert.Equal(t, []string{"a", "b"}, got)
	_, err = keys(s, "c")
	require.NoError(t, err)
}

func TestFaultSelectsCalls(t *testing.T) {
	tests := []struct {
		name  string
		fault repotest.Fault
		want  []bool // which of the calls below fail
	}{
		{"all", repotest.Fault{}, []bool{true, true, true, true, true}},
		{"of a kind", repotest.Fault{Op: repotest.OpStat}, []bool{true, true, false, true, false}},
		{"of a key", repotest.Fault{Key: "packs/a"}, []bool{true, false, true, false, false}},
		{"of a pattern", repotest.Fault{Key: "packs/*"}, []bool{true, true, true, false, false}},
		{"third of any", repotest.Fault{Nth: 3}, []bool{false, false, true, false, false}},
		{"second of a pattern", repotest.Fault{Key: "packs/*", Nth: 2}, []bool{false, true, false, false, false}},
		{"third of a kind", repotest.Fault{Op: repotest.OpStat, Nth: 3}, []bool{false, false, false, true, false}},
		{"pattern that is none", repotest.Fault{Key: "["}, []bool{true, true, true, true, true}},
		{"effect for other calls", repotest.Fault{Op: repotest.OpDelete, Do: repotest.Cut(1)}, []bool{false, false, true, false, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := repotest.Faulty(repotest.Mem(nil), tt.fault)
			ctx := t.Context()
			errs := []error{
				stat(s, "packs/a"), stat(s, "packs/b"), s.Delete(ctx, "packs/a"), stat(s, "packs/sub/a"), s.Delete(ctx, "other"),
			}
			for i, err := range errs {
				assert.Equal(t, tt.want[i], err != nil && !errors.Is(err, fs.ErrNotExist), "call %d: %v", i, err)
			}
			assert.Equal(t, []repotest.Call{
				{Op: "stat", Key: "packs/a"},
				{Op: "stat", Key: "packs/b"},
				{Op: "delete", Key: "packs/a"},
				{Op: "stat", Key: "packs/sub/a"},
				{Op: "delete", Key: "other"},
			}, s.Calls())
		})
	}
}

// The loop that Faulty's documentation shows.
func TestFaultAtEveryCall(t *testing.T) {
	work := func(s repo.Store) error {
		if err := write(s, "a", "x"); err != nil {
			return err
		}
		if _, err := read(s, "a", 0, -1); err != nil {
			return err
		}
		if err := stat(s, "a"); err != nil {
			return err
		}
		if _, err := keys(s, ""); err != nil {
			return err
		}
		return s.Delete(context.Background(), "a")
	}
	n := 1
	for ; ; n++ {
		s := repotest.Faulty(repotest.Mem(nil), repotest.Fault{Nth: n})
		err := work(s)
		if s.Struck() == 0 {
			require.NoError(t, err)
			require.Len(t, s.Calls(), n-1)
			break
		}
		require.ErrorIs(t, err, repotest.ErrInjected)
		require.Len(t, s.Calls(), n)
	}
	assert.Equal(t, 10, n) // create, write, commit, open, read and its EOF, stat, list, delete: 9
}
