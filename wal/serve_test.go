package wal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// served is a Serve that runs.
type served struct {
	wal.Client
	stop func()       // has it end
	wait func() error // returns what it returned
}

// serve runs Serve until the test ends.
func serve(t testing.TB, a *wal.Archive, o *wal.ServeOptions) served {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "wal") // a socket's path is short
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := served{Client: wal.Client{Socket: filepath.Join(dir, "s")}}
	l, err := net.Listen("unix", s.Socket)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var result error
	done := make(chan struct{})
	go func() {
		defer close(done)
		result = wal.Serve(ctx, l, a, o)
	}()
	s.stop = cancel
	s.wait = func() error {
		<-done
		return result
	}
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return s
}

func TestServe(t *testing.T) {
	for _, kind := range kinds {
		store := repotest.Mem(nil)
		a := openArchive(t, store, options(t, kind))
		s := serve(t, a, nil)
		dir := t.TempDir()
		for n := range uint64(3) {
			path := place(t, dir, segment(n+1).Name(), noisy(segment(n+1)))
			require.NoError(t, s.Push(t.Context(), path))
			require.NoError(t, s.Push(t.Context(), path), "again")
			requireHeld(t, a, segment(n+1).Name(), noisy(segment(n+1)))
			dst := filepath.Join(t.TempDir(), "RECOVERYXLOG")
			require.NoError(t, s.Fetch(t.Context(), segment(n+1).Name(), dst))
			got, err := os.ReadFile(dst)
			require.NoError(t, err)
			require.True(t, bytes.Equal(noisy(segment(n+1)), got))
			requireOnly(t, filepath.Dir(dst), "RECOVERYXLOG")
			info, err := os.Stat(dst)
			require.NoError(t, err)
			require.Equal(t, fs.FileMode(0o600), info.Mode())
		}
		s.stop()
		require.NoError(t, s.wait())
		require.NoFileExists(t, s.Socket)
	}
}

// TestServedErrors: what a caller may act on comes through, and only the archive says that a file is not there.
func TestServedErrors(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	s := serve(t, a, nil)
	dir := t.TempDir()
	dst := filepath.Join(t.TempDir(), "x")
	pushed := func(name string, b []byte) error { return s.Push(t.Context(), place(t, dir, name, b)) }

	require.ErrorIs(t, s.Fetch(t.Context(), segment(1).Name(), dst), fs.ErrNotExist, "an empty archive")
	require.NoError(t, pushed(segment(1).Name(), content(segment(1))))
	err := s.Fetch(t.Context(), segment(2).Name(), dst)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.EqualError(t, err, a.Read(t.Context(), segment(2).Name(), io.Discard).Error())

	var conflict *wal.ConflictError
	require.ErrorAs(t, pushed(segment(1).Name(), noisy(segment(1))), &conflict)
	require.Equal(t, &wal.ConflictError{Name: segment(1).Name(), Archived: digest(content(segment(1))), Offered: digest(noisy(segment(1)))}, conflict)
	var foreign *wal.ForeignError
	require.ErrorAs(t, pushed(segment(2).Name(), waltest.Segment(segment(2), 11, 18)), &foreign)
	require.Equal(t, &wal.ForeignError{Name: segment(2).Name(), Got: 11, Want: systemID}, foreign)
	var refused *wal.SegmentError
	require.ErrorAs(t, pushed(segment(3).Name(), nil), &refused)
	require.EqualError(t, refused, push(t, a, segment(3).Name(), nil).Error())
	var name *wal.NameError
	require.ErrorAs(t, s.Push(t.Context(), place(t, dir, "junk", nil)), &name)
	require.ErrorAs(t, s.Fetch(t.Context(), "../x", dst), &name)
	require.ErrorIs(t, s.Push(t.Context(), filepath.Join(dir, segment(9).Name())), fs.ErrNotExist, "of the file to push")

	flipped := repotest.Faulty(store, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Do: repotest.Flip(200)})
	var corrupt *repo.CorruptError
	requireNoAnswerOf(t, serve(t, openArchive(t, flipped, nil), nil), &corrupt)
	var remote *wal.ServerError
	for _, e := range []error{nil, context.DeadlineExceeded, fs.ErrPermission} {
		failing := repotest.Faulty(store, repotest.Fault{Op: repotest.OpOpen, Key: "wal/*/*/*/*", Do: repotest.Fail(e)})
		requireNoAnswerOf(t, serve(t, openArchive(t, failing, nil), nil), &remote)
	}

	// Where it cannot be put, nobody asked the archive, or nobody listens: no answer.
	for _, bad := range []string{filepath.Join(dir, "no", "x"), dir, "/dev/null/x", ""} {
		requireNoAnswer(t, s.Fetch(t.Context(), segment(1).Name(), bad), bad)
	}
	s.stop()
	require.NoError(t, s.wait())
	for _, socket := range []string{s.Socket, filepath.Join(dir, "no", "s"), "", dir, strings.Repeat("x", 200), place(t, dir, "file", nil)} {
		gone := wal.Client{Socket: socket}
		requireNoAnswer(t, gone.Fetch(t.Context(), segment(2).Name(), dst), socket)
		requireNoAnswer(t, gone.Push(t.Context(), filepath.Join(dir, segment(1).Name())), socket)
	}
	require.NoFileExists(t, dst)
	requireOnly(t, filepath.Dir(dst))
}

func requireNoAnswerOf[E error](t testing.TB, s served, target *E) {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "x")
	err := s.Fetch(t.Context(), segment(1).Name(), dst)
	requireNoAnswer(t, err)
	require.ErrorAs(t, err, target)
	requireOnly(t, filepath.Dir(dst))
}

// TestServeClearsABacklog of the data directory it was given, and of no other.
func TestServeClearsABacklog(t *testing.T) {
	p, state := backlog(t, 1, 21), t.TempDir()
	store := repotest.Faulty(repotest.Mem(nil))
	a := remembering(t, store, state)
	s := serve(t, a, &wal.ServeOptions{PGData: p.pgdata, Ready: &wal.ReadyOptions{Files: 100}})
	require.NoError(t, s.Push(t.Context(), p.path(segment(1).Name())))
	require.Len(t, marked(t, state), 19)
	before := len(store.Calls())
	for n := uint64(2); n < 21; n++ {
		require.NoError(t, s.Push(t.Context(), p.path(segment(n).Name())))
	}
	require.Len(t, store.Calls(), before)
	require.Empty(t, marked(t, state))

	other := backlog(t, 31, 33)
	require.NoError(t, s.Push(t.Context(), other.path(segment(31).Name())))
	has, err := a.Has(t.Context(), parseName(t, segment(32).Name()))
	require.NoError(t, err)
	require.False(t, has, "the server reads nothing that it was not told to")
}

// TestServeStops: requests under way get their time and not more, and nothing goes on.
func TestServeStops(t *testing.T) {
	for name, grace := range map[string]time.Duration{"in time": time.Minute, "too late": 10 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			before := runtime.NumGoroutine()
			mem := repotest.Mem(nil)
			require.NoError(t, openArchive(t, mem, nil).Claim(t.Context(), "me", cluster))
			gate := &gatedStore{Store: mem, begun: make(chan struct{}, 10), open: make(chan struct{})}
			s := serve(t, openArchive(t, gate, nil), &wal.ServeOptions{Grace: grace})
			path := place(t, t.TempDir(), segment(1).Name(), content(segment(1)))
			idle, err := net.Dial("unix", s.Socket)
			require.NoError(t, err)
			result := make(chan error, 1)
			go func() { result <- s.Push(context.Background(), path) }()
			<-gate.begun
			s.stop()
			_, err = io.Copy(io.Discard, idle)
			require.NoError(t, err, "one that has asked for nothing is sent away at once")
			require.NoError(t, idle.Close())
			if grace == time.Minute {
				close(gate.open)
				require.NoError(t, <-result)
				requireHeld(t, openArchive(t, mem, nil), segment(1).Name(), content(segment(1)))
			} else {
				err := <-result
				require.ErrorContains(t, err, "stopping")
				requireNoAnswer(t, err)
				require.Empty(t, objects(t, mem, "wal/"))
			}
			require.NoError(t, s.wait())
			requireGoroutines(t, before)
		})
	}
}

// requireGoroutines waits for goroutines that have just ended to be counted no more.
func requireGoroutines(t testing.TB, n int) {
	t.Helper()
	for range 200 {
		if runtime.NumGoroutine() <= n {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	buf := make([]byte, 1<<20)
	t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), n, buf[:runtime.Stack(buf, true)])
}

// gatedStore waits with every commit.
type gatedStore struct {
	repo.Store
	begun chan struct{}
	open  chan struct{}
}

func (s *gatedStore) Create(ctx context.Context, key string) (repo.Writer, error) {
	w, err := s.Store.Create(ctx, key)
	return &gatedWriter{w, ctx, s}, err
}

type gatedWriter struct {
	repo.Writer
	ctx context.Context
	s   *gatedStore
}

func (w *gatedWriter) Commit() (repo.Info, error) {
	w.s.begun <- struct{}{}
	select {
	case <-w.s.open:
		return w.Writer.Commit()
	case <-w.ctx.Done():
		return repo.Info{}, w.ctx.Err()
	}
}

// TestServeGivesUpWithTheClient: who has gone is not worked for, and a deadline says what it is.
func TestServeGivesUpWithTheClient(t *testing.T) {
	mem := repotest.Mem(nil)
	require.NoError(t, openArchive(t, mem, nil).Claim(t.Context(), "me", cluster))
	gate := &gatedStore{Store: mem, begun: make(chan struct{}, 10), open: make(chan struct{})}
	s := serve(t, openArchive(t, gate, nil), &wal.ServeOptions{Clients: 1, Grace: time.Hour})
	path := place(t, t.TempDir(), segment(1).Name(), content(segment(1)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := s.Push(ctx, path)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorContains(t, err, s.Socket)
	close(gate.open)
	require.NoError(t, s.Push(t.Context(), path), "the only place is free again")
}

func TestServeManyClients(t *testing.T) {
	store := repotest.Mem(nil)
	a := openArchive(t, store, nil)
	s := serve(t, a, &wal.ServeOptions{Clients: 3})
	dir := t.TempDir()
	var wg sync.WaitGroup
	for n := range uint64(24) {
		path := place(t, dir, segment(n+1).Name(), content(segment(n+1)))
		wg.Go(func() {
			dst := filepath.Join(dir, fmt.Sprint("fetched", n))
			if err := errors.Join(s.Push(t.Context(), path), s.Fetch(t.Context(), segment(n+1).Name(), dst)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Len(t, objects(t, store, "wal/"), 24)
}

// TestServeHostileClients: whatever a client sends, the server answers with an error or not at all, harms nothing, and
// serves the next.
func TestServeHostileClients(t *testing.T) {
	a := openArchive(t, repotest.Mem(nil), nil)
	require.NoError(t, push(t, a, segment(1).Name(), content(segment(1))))
	s := serve(t, a, nil)
	dir := t.TempDir()
	fetch := `{"version":1,"do":"fetch","name":"` + segment(1).Name() + `"}` + "\n"
	full := place(t, dir, "full", []byte("precious"))
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	null := func(flag int) *os.File { return openTest(t, os.DevNull, flag) }
	for what, c := range map[string]struct {
		line  string
		files []*os.File
	}{
		"nothing":                     {line: ""},
		"no file":                     {line: fetch},
		"two files":                   {line: fetch, files: []*os.File{null(os.O_RDWR), null(os.O_RDWR)}},
		"many files":                  {line: fetch, files: slicesOf(100, null(os.O_RDWR))},
		"a device":                    {line: fetch, files: []*os.File{null(os.O_RDWR)}},
		"a pipe":                      {line: fetch, files: []*os.File{openTest(t, fifo, os.O_RDWR)}},
		"a directory":                 {line: fetch, files: []*os.File{openTest(t, dir, os.O_RDONLY)}},
		"a file that is not empty":    {line: fetch, files: []*os.File{openTest(t, full, os.O_RDWR)}},
		"a file open for reading":     {line: fetch, files: []*os.File{openTest(t, place(t, dir, "empty", nil), os.O_RDONLY)}},
		"a push of a pipe":            {line: strings.Replace(fetch, "fetch", "push", 1), files: []*os.File{openTest(t, fifo, os.O_RDWR)}},
		"a push of a directory":       {line: strings.Replace(fetch, "fetch", "push", 1), files: []*os.File{openTest(t, dir, os.O_RDONLY)}},
		"a push of nothing to read":   {line: strings.Replace(fetch, "fetch", "push", 1), files: []*os.File{openTest(t, full, os.O_WRONLY)}},
		"another version":             {line: strings.Replace(fetch, ":1", ":2", 1), files: []*os.File{null(os.O_RDWR)}},
		"another wish":                {line: strings.Replace(fetch, "fetch", "delete", 1), files: []*os.File{null(os.O_RDWR)}},
		"a path":                      {line: strings.Replace(fetch, "0000", "../0000", 1), files: []*os.File{null(os.O_RDWR)}},
		"no JSON":                     {line: "GET / HTTP/1.0\n", files: []*os.File{null(os.O_RDWR)}},
		"two lines":                   {line: fetch + fetch, files: []*os.File{null(os.O_RDWR)}},
		"a line without an end":       {line: strings.Repeat(" ", 100_000), files: []*os.File{null(os.O_RDWR)}},
		"half a line":                 {line: fetch[:20], files: []*os.File{null(os.O_RDWR)}},
		"numbers where there are not": {line: `{"version":1,"do":7,"name":[]}` + "\n", files: []*os.File{null(os.O_RDWR)}},
	} {
		t.Run(what, func(t *testing.T) {
			conn, err := net.Dial("unix", s.Socket)
			require.NoError(t, err)
			defer conn.Close()
			var fds []int
			for _, f := range c.files {
				fds = append(fds, int(f.Fd()))
			}
			if c.line != "" {
				var oob []byte
				if len(fds) > 0 {
					oob = syscall.UnixRights(fds...)
				}
				_, _, err = conn.(*net.UnixConn).WriteMsgUnix([]byte(c.line), oob, nil)
			}
			_ = conn.(*net.UnixConn).CloseWrite()
			b, readErr := io.ReadAll(conn)
			if err == nil && readErr == nil && len(b) > 0 {
				_, err := wal.ParseAnswer("fetch", b)
				requireNoAnswer(t, err)
			}
		})
	}
	b, err := os.ReadFile(full)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))
	dst := filepath.Join(dir, "fetched")
	require.NoError(t, s.Fetch(t.Context(), segment(1).Name(), dst))
}

func openTest(t testing.TB, path string, flag int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flag, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func slicesOf[E any](n int, e E) []E {
	s := make([]E, n)
	for i := range s {
		s[i] = e
	}
	return s
}

// TestClientOfAServerThatLies: only a whole answer that says so is success, or that a file is missing.
func TestClientOfAServerThatLies(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "wal")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	require.NoError(t, err)
	defer l.Close()
	var says atomic.Value
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, says.Load().(string))
			_ = conn.Close()
		}
	}()
	c := wal.Client{Socket: filepath.Join(dir, "s")}
	path := place(t, dir, segment(1).Name(), content(segment(1)))
	for _, lie := range []string{
		"", "\n", "{}\n", "null\n", `{"version":1}` + "\n", `{"ok":true}` + "\n", `{"version":2,"ok":true}` + "\n", `{"version":1,"ok":true,"error":{}}` + "\n",
		`{"version":1,"ok":true}`, `{"version":1,"ok":true,"size":-1}` + "\n", `{"version":1,"ok":false}` + "\n",
		`{"version":1,"error":{"kind":"conflict","archived":"00"}}` + "\n", strings.Repeat(" ", 100_000) + "\n", `{"version":1,"error":{"kind":"other","text":"file does not exist"}}` + "\n",
	} {
		says.Store(lie)
		requireNoAnswer(t, c.Push(t.Context(), path), lie)
		requireNoAnswer(t, c.Fetch(t.Context(), segment(1).Name(), filepath.Join(dir, "x")), lie)
	}
	says.Store(`{"version":1,"ok":true,"size":1048576}` + "\n")
	requireNoAnswer(t, c.Fetch(t.Context(), segment(1).Name(), filepath.Join(dir, "x")), "nothing has come")
	// Of the server's files it takes none but the one that it asks for, in whole.
	right := segment(1).Name() + "-" + strings.Repeat("00", 32)
	for name, size := range map[string]int{
		"pg_control": 4, right: 5, segment(2).Name() + "-" + strings.Repeat("00", 32): 4, right + ".pgcairn-tmp": 4, segment(1).Name() + "-x": 4,
	} {
		precious := place(t, t.TempDir(), name, []byte("text"))
		says.Store(fmt.Sprintf(`{"version":1,"ok":true,"size":%d,"path":%q}`+"\n", size, precious))
		requireNoAnswer(t, c.Fetch(t.Context(), segment(1).Name(), filepath.Join(dir, "x")), name)
		require.FileExists(t, precious)
	}
	says.Store(`{"version":1,"error":{"kind":"missing","text":"gone"}}` + "\n")
	requireNoAnswer(t, c.Push(t.Context(), path), "no answer to a push")
	requireOnly(t, dir, "s", segment(1).Name())
}

func TestServeOnAnotherListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	require.ErrorContains(t, wal.Serve(t.Context(), l, openArchive(t, repotest.Mem(nil), nil), nil), "Unix socket")
	u, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	require.NoError(t, err)
	require.NoError(t, u.Close())
	require.ErrorIs(t, wal.Serve(t.Context(), u, openArchive(t, repotest.Mem(nil), nil), nil), net.ErrClosed)
}
