package s3test_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/backup/backuptest"
	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/bucket"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// atOnce is how many cases are tried beside each other. Each spends most of its time on the waits of the SDK, which
// repeats what has failed.
const atOnce = 64

// allFaults are all but None.
var allFaults = []s3test.Fault{
	s3test.Busy, s3test.Broken, s3test.Cut, s3test.Stall, s3test.CutAnswer, s3test.DoneBroken, s3test.DoneCut, s3test.DoneStalled,
}

func stalls(f s3test.Fault) bool { return f == s3test.Stall || f == s3test.DoneStalled }

// segment is what is pushed.
var segment = wal.Segment{Timeline: 1, Number: 1, Size: wal.MinSegmentSize}

// push pushes the segment as a process does, from opening the repository on.
func push(ctx context.Context, s repo.Store, c repo.Cipher, content []byte) error {
	r, err := repo.Open(ctx, s, &repo.Options{Cipher: c})
	if err != nil {
		return err
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return err
	}
	n, err := wal.ParseName(segment.Name())
	if err != nil {
		return err
	}
	return a.PushContent(ctx, n, bytes.NewReader(content), int64(len(content)))
}

// held tells whether the archive gives back the segment.
func held(ctx context.Context, s repo.Store, c repo.Cipher, content []byte) error {
	r, err := repo.Open(ctx, s, &repo.Options{Cipher: c})
	if err != nil {
		return err
	}
	a, err := wal.NewArchive(r, nil)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "s3test")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "segment")
	if err := a.Fetch(ctx, segment.Name(), path); err != nil {
		return err
	}
	got, err := os.ReadFile(path)
	if err == nil && !bytes.Equal(got, content) {
		err = errors.New("it has another content")
	}
	return err
}

// rooms makes repositories in one bucket, each in a folder of its own.
type rooms struct {
	endpoint string
	marker   []byte
	n        int
}

func newRooms(t *testing.T, endpoint string, c repo.Cipher) *rooms {
	t.Helper()
	s := openStore(t, endpoint, &bucket.Options{Prefix: "model"})
	_, err := repo.Init(t.Context(), s, &repo.Options{Cipher: c})
	require.NoError(t, err)
	return &rooms{endpoint: endpoint, marker: read(t, s, "pgcairn.json")}
}

// room is a new repository, the store it is in, and the same by way of a proxy.
type room struct {
	direct, by repo.Store
	proxy      *s3test.Proxy
}

func (r *rooms) room(t *testing.T) *room {
	t.Helper()
	r.n++
	o := &bucket.Options{Prefix: fmt.Sprintf("room%d", r.n)}
	proxy := s3test.NewProxy(t, r.endpoint)
	m := &room{direct: openStore(t, r.endpoint, o), by: openStore(t, proxy.Endpoint, o), proxy: proxy}
	require.NoError(t, write(t.Context(), m.direct, "pgcairn.json", r.marker))
	return m
}

// TestPush: whatever befalls a request, once or each time that it is repeated, nothing is acknowledged that is not
// there. What befalls one request is made up for by the SDK, and by the library where the answer was lost of what was
// done; a stall takes a deadline, and the error says so. Afterwards the next push succeeds, whatever came of the first.
func TestPush(t *testing.T) {
	t.Parallel()
	all, recipient := newCipher(t)
	rooms := newRooms(t, s3test.Start(t).Endpoint, recipient)
	content := waltest.Segment(segment, 7, 18)
	other := slices.Clone(content)
	other[9999]++

	model := rooms.room(t)
	require.NoError(t, push(t.Context(), model.by, recipient, content))
	requests := model.proxy.Requests()
	require.Less(t, len(requests), 10, "%v", requests)

	try := func(m *room, fault s3test.Fault, first, last int) error {
		nth := 0
		m.proxy.Script(func(s3test.Request) s3test.Fault {
			if nth++; nth >= first && nth <= last {
				return fault
			}
			return s3test.None
		})
		limit := 5 * time.Minute
		if stalls(fault) {
			limit = 3 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		err := push(ctx, m.by, recipient, content)
		m.proxy.Script(nil)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrExist), errors.Is(err, repo.ErrNoRepository):
			return fmt.Errorf("taken for an answer: %w", err)
		case err == nil:
			if err := held(t.Context(), m.direct, all, content); err != nil {
				return fmt.Errorf("acknowledged, but: %w", err)
			}
		case stalls(fault) && !errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("another error than that of its deadline: %w", err)
		case !stalls(fault) && first == last:
			return fmt.Errorf("not made up for: %w", err)
		default:
			if err := push(t.Context(), m.by, recipient, content); err != nil {
				return fmt.Errorf("the next one: %w", err)
			}
			if err := held(t.Context(), m.direct, all, content); err != nil {
				return fmt.Errorf("the next one was acknowledged, but: %w", err)
			}
		}
		var conflict *wal.ConflictError
		if err := push(t.Context(), m.direct, recipient, other); !errors.As(err, &conflict) {
			return fmt.Errorf("other content: %w", err)
		}
		return nil
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	start := func(fault s3test.Fault, first, last int) {
		m := rooms.room(t)
		g.Go(func() error {
			if err := try(m, fault, first, last); err != nil {
				return fmt.Errorf("%s, requests %d to %d of %v: %w", fault, first, last, requests, err)
			}
			return nil
		})
	}
	for i, request := range requests {
		faults := []s3test.Fault{s3test.Cut, s3test.CutAnswer, s3test.Stall}
		if request.Op == "PUT" {
			faults = allFaults
		}
		for _, fault := range faults {
			start(fault, i+1, i+1)
		}
	}
	for _, fault := range allFaults {
		start(fault, len(requests), 1<<30)
	}
	start(s3test.Busy, 1, 1<<30)
	start(s3test.Stall, 1, 1<<30)
	require.NoError(t, g.Wait())
}

// TestBackup: whatever answer is lost of what a backup has written, the backup succeeds, and can be read.
func TestBackup(t *testing.T) {
	t.Parallel()
	all, recipient := newCipher(t)
	rooms := newRooms(t, s3test.Start(t).Endpoint, recipient)
	try := func(m *room, fault s3test.Fault, nth int) error {
		puts := 0
		m.proxy.Script(func(r s3test.Request) s3test.Fault {
			if r.Op == "PUT" {
				if puts++; puts == nth {
					return fault
				}
			}
			return s3test.None
		})
		r, err := repo.Open(t.Context(), m.by, &repo.Options{Cipher: recipient})
		if err != nil {
			return err
		}
		taken, err := backup.Take(t.Context(), r, backuptest.New(nil), &backup.Options{Jobs: 1})
		if err != nil {
			return err
		}
		if r, err = repo.Open(t.Context(), m.direct, &repo.Options{Cipher: all}); err != nil {
			return err
		}
		loaded, err := backup.Load(t.Context(), r, taken.ID)
		if err != nil {
			return err
		}
		for _, p := range loaded.PackList {
			err = errors.Join(err, r.ReadPack(t.Context(), p.Pack, func(int, []byte) error { return nil }))
		}
		return err
	}
	model := rooms.room(t)
	require.NoError(t, try(model, s3test.None, 0))
	puts := slices.DeleteFunc(model.proxy.Requests(), func(r s3test.Request) bool { return r.Op != "PUT" })
	require.Greater(t, len(puts), 5)
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, put := range puts {
		fault := []s3test.Fault{s3test.DoneCut, s3test.DoneBroken}[i%2]
		m := rooms.room(t)
		g.Go(func() error {
			if err := try(m, fault, i+1); err != nil {
				return fmt.Errorf("%s, %v: %w", fault, put, err)
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
}

// TestReadsBreakOff: a body that breaks off is fetched again from there.
func TestReadsBreakOff(t *testing.T) {
	t.Parallel()
	proxy := s3test.NewProxy(t, s3test.Start(t).Endpoint)
	s := openStore(t, proxy.Endpoint, nil)
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	require.NoError(t, write(t.Context(), s, "a", data))
	left := 3
	proxy.Script(func(r s3test.Request) s3test.Fault {
		if left--; r.Op == "GET" && left >= 0 {
			return s3test.CutAnswer
		}
		return s3test.None
	})
	require.Equal(t, data, read(t, s, "a"))
	gets := slices.DeleteFunc(proxy.Requests(), func(r s3test.Request) bool { return r.Op != "GET" })
	require.Len(t, gets, 4)

	proxy.Script(func(s3test.Request) s3test.Fault { return s3test.CutAnswer })
	body, err := s.Open(t.Context(), "a", 0, -1)
	require.NoError(t, err)
	defer body.Close()
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NotErrorIs(t, err, fs.ErrNotExist)
}

// newCipher returns a cipher for a new key: one that can do all, and one that can only write.
func newCipher(t testing.TB) (all, write repo.Cipher) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	all, err = crypto.New([]age.Recipient{id.Recipient()}, []age.Identity{id})
	require.NoError(t, err)
	write, err = crypto.New([]age.Recipient{id.Recipient()}, nil)
	require.NoError(t, err)
	return all, write
}
