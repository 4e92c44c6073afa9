package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

func TestRetryIsAStore(t *testing.T) {
	repotest.TestStore(t, func(*testing.T) repo.Store { return repo.Retry(repotest.Mem(nil), nil) })
}

func TestRetryIsAStoreWithFaults(t *testing.T) {
	repotest.TestStore(t, func(*testing.T) repo.Store {
		return repo.Retry(repotest.Faulty(repotest.Mem(nil), repotest.Fault{Op: repotest.OpRead, Nth: 1},
			repotest.Fault{Op: repotest.OpList, Nth: 1, Do: repotest.Cut(1)}), nil)
	})
}

// retryCalls are all calls that there are, on the objects "a" to "c", of 100 bytes each.
var retryCalls = []struct {
	name string
	op   repotest.Operation // whose failure is tried
	call func(ctx context.Context, s repo.Store) error
}{
	{"stat", repotest.OpStat, func(ctx context.Context, s repo.Store) error {
		info, err := s.Stat(ctx, "a")
		if err == nil && info.Size != 100 {
			err = fmt.Errorf("%d bytes", info.Size)
		}
		return err
	}},
	{"open", repotest.OpOpen, readHundred},
	{"read", repotest.OpRead, readHundred},
	{"list", repotest.OpList, func(ctx context.Context, s repo.Store) error {
		var keys string
		for info, err := range s.List(ctx, "") {
			if err != nil {
				return err
			}
			keys += info.Key
		}
		if keys != "abc" {
			return errors.New(keys)
		}
		return nil
	}},
	{"delete", repotest.OpDelete, func(ctx context.Context, s repo.Store) error { return s.Delete(ctx, "a") }},
	{"create", repotest.OpCreate, writeNew},
	{"commit", repotest.OpCommit, writeNew},
}

func readHundred(ctx context.Context, s repo.Store) error {
	body, err := s.Open(ctx, "a", 0, -1)
	if err != nil {
		return err
	}
	defer body.Close()
	got, err := io.ReadAll(body)
	if err == nil && !bytes.Equal(got, hundred) {
		err = errors.New("another content")
	}
	return err
}

func writeNew(ctx context.Context, s repo.Store) error {
	w, err := s.Create(ctx, "new")
	if err != nil {
		return err
	}
	defer w.Close()
	if _, err := w.Write(hundred); err != nil {
		return err
	}
	info, err := w.Commit()
	if err == nil && info.Size != 100 {
		err = fmt.Errorf("%d bytes", info.Size)
	}
	return err
}

var hundred = bytes.Repeat([]byte("0123456789"), 10)

// outage is a store with three objects in which an operation goes wrong from its first call to its last.
func outage(t *testing.T, op repotest.Operation, first, last int, do repotest.Effect) *repotest.FaultStore {
	t.Helper()
	mem := repotest.Mem(nil)
	for _, key := range []string{"a", "b", "c"} {
		require.NoError(t, writeObject(mem, key, string(hundred)))
	}
	var faults []repotest.Fault
	for n := first; n <= last; n++ {
		faults = append(faults, repotest.Fault{Op: op, Nth: n, Do: do})
	}
	return repotest.Faulty(mem, faults...)
}

// What fails a few times succeeds in the end, after waits that grow; what fails for ever ends within the time that was
// given, with the error of the store; and nothing is tried again that was answered.
func TestRetry(t *testing.T) {
	for _, tt := range retryCalls {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := outage(t, tt.op, 1, 5, repotest.Effect{})
				start := time.Now()
				require.NoError(t, tt.call(t.Context(), repo.Retry(s, nil)))
				require.Equal(t, 5, s.Struck())
				took := time.Since(start)
				require.GreaterOrEqual(t, took, 3100*time.Millisecond) // half of 0.2 + 0.4 + 0.8 + 1.6 + 3.2 s
				require.LessOrEqual(t, took, 6200*time.Millisecond)

				s = outage(t, tt.op, 1, 1000, repotest.Effect{})
				start = time.Now()
				err := tt.call(t.Context(), repo.Retry(s, &repo.RetryOptions{Time: time.Minute}))
				require.ErrorIs(t, err, repotest.ErrInjected)
				requireNoAnswer(t, err)
				require.InDelta(t, time.Minute, time.Since(start), float64(15*time.Second))
				require.Less(t, s.Struck(), 16)

				s = outage(t, tt.op, 1, 1000, repotest.Effect{})
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				start = time.Now()
				require.Error(t, tt.call(ctx, repo.Retry(s, nil)))
				require.Equal(t, 3*time.Second, time.Since(start), "the context ends the waits")

				for _, final := range []error{
					fs.ErrNotExist, fs.ErrExist, repo.ErrRefused, fs.ErrPermission, syscall.ENOSPC, &repo.KeyError{Key: "a"},
				} {
					s = outage(t, tt.op, 1, 1000, repotest.Fail(final))
					start = time.Now()
					require.Error(t, tt.call(t.Context(), repo.Retry(s, nil)))
					require.Zero(t, time.Since(start), final)
					require.Equal(t, 1, s.Struck(), final)
				}

				s = outage(t, tt.op, 1, 1, repotest.Effect{})
				require.ErrorIs(t, tt.call(t.Context(), repo.Retry(s, &repo.RetryOptions{Time: -1})), repotest.ErrInjected)
			})
		})
	}
}

// A store that does not answer is given up, and asked again; the error of one that never does is not that of a context.
func TestRetryStall(t *testing.T) {
	for _, tt := range retryCalls {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := outage(t, tt.op, 1, 2, repotest.Stall())
				start := time.Now()
				require.NoError(t, tt.call(t.Context(), repo.Retry(s, &repo.RetryOptions{Stall: 10 * time.Second})))
				require.Equal(t, 2, s.Struck())
				require.InDelta(t, 20*time.Second, time.Since(start), float64(time.Second))

				s = outage(t, tt.op, 1, 1000, repotest.Stall())
				start = time.Now()
				err := tt.call(t.Context(), repo.Retry(s, &repo.RetryOptions{Stall: 10 * time.Second}))
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				require.NotErrorIs(t, err, context.Canceled)
				require.NotErrorIs(t, err, context.DeadlineExceeded)
				requireNoAnswer(t, err)
				require.InDelta(t, 2*time.Minute, time.Since(start), float64(30*time.Second))

				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				start = time.Now()
				require.ErrorIs(t, tt.call(ctx, repo.Retry(s, nil)), context.Canceled)
				require.Equal(t, 3*time.Second, time.Since(start))
			})
		})
	}
}

// An answer that was lost of what was done is not told as success of the second attempt: the caller compares.
func TestRetryAfterALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := outage(t, repotest.OpCommit, 1, 1, repotest.FailAfter(nil))
		require.ErrorIs(t, writeNew(t.Context(), repo.Retry(s, nil)), fs.ErrExist)
		require.Equal(t, 1, s.Struck())
	})
}

// A body that breaks off is read on from that byte, and what it was a part of is never missing.
func TestRetryBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(s repo.Store, off, n int64) (string, error) {
			body, err := repo.Retry(s, nil).Open(t.Context(), "a", off, n)
			require.NoError(t, err)
			defer body.Close()
			got, err := io.ReadAll(body)
			return string(got), err
		}
		s := outage(t, repotest.OpOpen, 1, 3, repotest.Cut(7))
		got, err := read(s, 0, -1)
		require.NoError(t, err)
		require.Equal(t, string(hundred), got)
		require.Len(t, calls(s, repotest.OpOpen), 4)

		s = outage(t, repotest.OpOpen, 1, 3, repotest.Cut(7))
		got, err = read(s, 33, 50)
		require.NoError(t, err)
		require.Equal(t, string(hundred[33:83]), got)

		s = outage(t, repotest.OpOpen, 1, 1, repotest.Cut(50))
		got, err = read(s, 0, 50)
		require.NoError(t, err)
		require.Equal(t, string(hundred[:50]), got)
		require.Len(t, calls(s, repotest.OpOpen), 1, "nothing was lacking")

		s = outage(t, repotest.OpOpen, 1, 1, repotest.Cut(7))
		body, err := repo.Retry(s, nil).Open(t.Context(), "a", 0, -1)
		require.NoError(t, err)
		require.NoError(t, s.Delete(t.Context(), "a"))
		_, err = io.ReadAll(body)
		requireNoAnswer(t, err)
		_, again := body.Read(make([]byte, 1))
		require.Equal(t, err, again)
		require.NoError(t, body.Close())
		_, err = body.Read(make([]byte, 1))
		require.ErrorIs(t, err, fs.ErrClosed)
	})
}

// sized is a store whose bodies tell how large their objects are, from a list of sizes.
type sized struct {
	repo.Store

	sizes []int64
}

type sizedBody struct {
	io.ReadCloser

	size int64
}

func (b sizedBody) Size() int64 { return b.size }

func (s *sized) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	body, err := s.Store.Open(ctx, key, off, n)
	size := s.sizes[0]
	s.sizes = s.sizes[1:]
	return sizedBody{body, size}, err
}

// What follows a break is of the same object, or an error.
func TestRetryBodyOfAnotherObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for other, want := range map[int64]string{100: "", 101: "of 100 bytes and is of 101 now"} {
			s := &sized{outage(t, repotest.OpOpen, 1, 1, repotest.Cut(7)), []int64{100, other}}
			err := readHundred(t.Context(), repo.Retry(repo.Observe(s, func(repo.Op) {}), nil))
			if want == "" {
				require.NoError(t, err)
			} else {
				require.ErrorContains(t, err, want)
			}
		}
	})
}

// Whoever takes his time with what was read, listed or written loses nothing.
func TestRetryOfASlowCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := outage(t, repotest.OpRead, 2, 3, repotest.Effect{})
		s := repo.Retry(f, nil)
		body, err := s.Open(t.Context(), "a", 0, -1)
		require.NoError(t, err)
		var got []byte
		for buf := make([]byte, 10); err == nil; {
			var n int
			time.Sleep(time.Hour)
			n, err = body.Read(buf)
			got = append(got, buf[:n]...)
		}
		require.ErrorIs(t, err, io.EOF)
		require.Equal(t, hundred, got)
		n := 0
		for _, err := range s.List(t.Context(), "") {
			require.NoError(t, err)
			time.Sleep(time.Hour)
			n++
		}
		require.Equal(t, 3, n)
		w, err := s.Create(t.Context(), "new")
		require.NoError(t, err)
		time.Sleep(time.Hour)
		_, err = w.Write(hundred)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		_, err = w.Commit()
		require.NoError(t, err)
	})
}

// A large object may take longer than a small one.
func TestRetryTakesTheSizeIntoAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := repo.Retry(outage(t, repotest.OpCommit, 1, 1, repotest.Stall()), &repo.RetryOptions{Stall: time.Second})
		w, err := s.Create(t.Context(), "new")
		require.NoError(t, err)
		_, err = w.Write(make([]byte, 640<<10))
		require.NoError(t, err)
		start := time.Now()
		_, err = w.Commit()
		require.NoError(t, err)
		require.InDelta(t, 11*time.Second, time.Since(start), float64(time.Second))
	})
}

// uplink is a store behind a link of 64 KiB a second, which those that commit share.
type uplink struct {
	repo.Store

	link chan struct{} // holds the turn
	lost int           // how often an object was sent in vain
	dead bool          // the next commit stalls
}

type uplinkWriter struct {
	repo.Writer

	s   *uplink
	ctx context.Context
	n   int
}

func (s *uplink) Create(ctx context.Context, key string) (repo.Writer, error) {
	w, err := s.Store.Create(context.WithoutCancel(ctx), key)
	return &uplinkWriter{w, s, ctx, 0}, err
}

func (w *uplinkWriter) Write(p []byte) (int, error) {
	w.n += len(p)
	return w.Writer.Write(p)
}

func (w *uplinkWriter) Commit() (repo.Info, error) {
	if w.s.dead {
		w.s.dead = false
		<-w.ctx.Done()
		return repo.Info{}, w.ctx.Err()
	}
	for sent := 0; sent < w.n; sent += 16 << 10 {
		<-w.s.link
		time.Sleep(time.Second / 4)
		err := w.ctx.Err()
		if err != nil {
			w.s.lost++
		}
		w.s.link <- struct{}{}
		if err != nil {
			return repo.Info{}, err
		}
	}
	return w.Writer.Commit()
}

func (w *uplinkWriter) Again(ctx context.Context) bool {
	w.ctx = ctx
	return true
}

// A slow uplink that is alive is no failure, though several share it, or somebody else takes half of it.
func TestRetryOfASlowUplink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &uplink{Store: repotest.Mem(nil), link: make(chan struct{}, 1)}
		up.link <- struct{}{}
		s := repo.Retry(up, &repo.RetryOptions{Stall: 10 * time.Second, Time: 10 * time.Second})
		begin := func(s repo.Store, key string) repo.Writer {
			w, err := s.Create(t.Context(), key)
			require.NoError(t, err)
			_, err = w.Write(make([]byte, 1<<20))
			require.NoError(t, err)
			return w
		}
		commit := func(writers ...repo.Writer) {
			var wg sync.WaitGroup
			for _, w := range writers {
				wg.Go(func() {
					_, err := w.Commit()
					assert.NoError(t, err)
					assert.NoError(t, w.Close())
				})
			}
			wg.Wait()
		}
		commit(begin(s, "a"), begin(s, "b"), begin(s, "c"), begin(s, "d"))
		require.Zero(t, up.lost, "sent once")

		commit(begin(s, "e"), begin(up, "of another"), begin(up, "of a third"))
		require.Equal(t, 1, up.lost, "it has longer then")

		// What was written before, or given up, counts no more.
		require.NoError(t, begin(s, "f").Close())
		up.dead = true
		start := time.Now()
		commit(begin(s, "g"))
		require.InDelta(t, 42*time.Second, time.Since(start), float64(time.Second))
	})
}

// What was retried is counted by who looks under it, and not by who looks at it.
func TestRetryObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range retryCalls {
			var under, over []repo.Op
			note := func(ops *[]repo.Op) func(repo.Op) { return func(op repo.Op) { *ops = append(*ops, op) } }
			s := outage(t, tt.op, 1, 2, repotest.Effect{})
			require.NoError(t, tt.call(t.Context(), repo.Observe(repo.Retry(repo.Observe(s, note(&under)), nil), note(&over))))
			require.Len(t, under, 3, tt.name)
			require.Len(t, over, 1, tt.name)
			require.NoError(t, over[0].Err)
		}
	})
}

func calls(s *repotest.FaultStore, op repotest.Operation) (of []repotest.Call) {
	for _, c := range s.Calls() {
		if c.Op == op {
			of = append(of, c)
		}
	}
	return of
}
