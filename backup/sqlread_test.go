package backup_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// put makes a file in a cluster's data directory.
func put(t *testing.T, c *pgtest.Cluster, path string, content []byte) {
	t.Helper()
	name := filepath.Join(c.Data, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o700))
	require.NoError(t, os.WriteFile(name, content, 0o600))
	pgtest.Own(t, filepath.Dir(name))
}

// open opens a file for the test.
func open(t *testing.T, s backup.Session, path string) backup.Content {
	t.Helper()
	content, err := s.Open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { content.Close() })
	return content
}

// Whatever is read by ranges is what is read at an offset, and that is what is in the file.
func TestSQLReads(t *testing.T) {
	t.Parallel()
	pgtest.Each(t, func(t *testing.T, major int) {
		c := pgtest.New(t, &pgtest.Options{Major: major})
		sizes := []int{0, 1, 8191, 128<<10 - 1, 128 << 10, 128<<10 + 1, 1 << 20, 11<<20 + 12345}
		for i, size := range sizes {
			put(t, c, fmt.Sprintf("x/%d", i), noise(size))
		}
		session := begin(t, sqlSource(t, c.DSN("postgres"), nil))
		for i, size := range sizes {
			want := noise(size)
			path := fmt.Sprintf("x/%d", i)
			content := open(t, session, path)
			got, err := io.ReadAll(io.NewSectionReader(content, 0, 1<<40))
			require.NoError(t, err)
			require.Equal(t, want, got, path)
			if size < 10 {
				require.NoError(t, iotest.TestReader(io.NewSectionReader(content, 0, int64(size)), want))
			}
			random := rand.New(rand.NewPCG(uint64(size), 1))
			for range 3 {
				requireRanges(t, content, randomRanges(random, int64(size)+10_000, 10), want)
			}
		}
		content := open(t, session, "x/7")
		p, ranges := make([]byte, 10_000), []backup.Range{} // more ranges than one query asks for
		for i := range p {
			ranges = append(ranges, backup.Range{Offset: int64(i) * 1000, Length: 1})
		}
		_, err := content.(backup.RangeReader).ReadRanges(p, ranges)
		require.NoError(t, err)
		want := noise(11<<20 + 12345)
		for i, r := range ranges {
			require.Equal(t, want[r.Offset], p[i])
		}
		requireRanges(t, content, []backup.Range{{Length: 12 << 20}}, want)
		requireRanges(t, content, nil, nil)
	})
}

// randomRanges ascend and do not overlap, though they may touch.
func randomRanges(random *rand.Rand, size int64, n int) []backup.Range {
	var cuts []int64
	for range 2 * n {
		cuts = append(cuts, random.Int64N(size))
	}
	slices.Sort(cuts)
	var ranges []backup.Range
	for i := 0; i < len(cuts); i += 2 {
		ranges = append(ranges, backup.Range{Offset: cuts[i], Length: int(cuts[i+1] - cuts[i])})
	}
	return ranges
}

// requireRanges compares ReadRanges with ReadAt and with what is in the file.
func requireRanges(t *testing.T, content backup.Content, ranges []backup.Range, file []byte) {
	t.Helper()
	room := 0
	for _, r := range ranges {
		room += r.Length
	}
	p := make([]byte, room+100)
	got, err := content.(backup.RangeReader).ReadRanges(p, ranges)
	require.NoError(t, err)
	require.Len(t, got, len(ranges))
	at := 0
	for i, r := range ranges {
		part := file[min(r.Offset, int64(len(file))):min(r.Offset+int64(r.Length), int64(len(file)))]
		require.Equal(t, len(part), got[i], "%+v", r)
		require.Equal(t, part, p[at:at+got[i]], "%+v", r)
		one := make([]byte, r.Length)
		n, err := content.ReadAt(one, r.Offset)
		require.Equal(t, part, one[:n])
		if n < len(one) {
			require.Equal(t, io.EOF, err)
		} else {
			require.NoError(t, err)
		}
		at += got[i]
	}
	require.Equal(t, make([]byte, len(p)-at), p[at:], "nothing else is touched")
}

func TestSQLReadRefuses(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	put(t, c, "x/1", noise(100_000))
	content := open(t, begin(t, sqlSource(t, c.DSN("postgres"), nil)), "x/1").(backup.RangeReader)
	for text, ranges := range map[string][]backup.Range{
		"do not ascend":                   {{Offset: 10, Length: 10}, {Offset: 5, Length: 1}},
		"ranges do not ascend":            {{Offset: 10, Length: 10}, {Offset: 19, Length: 1}},
		"ascend":                          {{Offset: -1, Length: 10}},
		"ranges do not":                   {{Offset: 1, Length: -1}},
		"ranges of 101 bytes, room for 1": {{Offset: 0, Length: 100}, {Offset: 100, Length: 1}},
	} {
		_, err := content.ReadRanges(make([]byte, 100), ranges)
		require.ErrorContains(t, err, text)
	}
	_, err := content.(io.ReaderAt).ReadAt(make([]byte, 10), -10)
	require.ErrorContains(t, err, "negative offset")
}

// Contents are read by many at a time, with fewer connections than that.
func TestSQLReadsAtOnce(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, nil)
	want := noise(3 << 20)
	put(t, c, "x/1", want)
	p := newProxy(t, c, 0, 1<<20) // which drops connections now and then
	session := begin(t, backup.Impatient(sqlSource(t, p.dsn(), &backup.SQLOptions{Connections: 3})))
	content := open(t, session, "x/1")
	var group errgroup.Group
	for i := range 16 {
		group.Go(func() error {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			b := make([]byte, 300<<10)
			for range 10 {
				off := random.Int64N(int64(len(want)))
				n, err := content.ReadAt(b, off)
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				if !slices.Equal(b[:n], want[off:min(off+int64(len(b)), int64(len(want)))]) {
					return fmt.Errorf("bytes at %d differ", off)
				}
			}
			return nil
		})
	}
	require.NoError(t, group.Wait())
	require.Greater(t, p.connections(), 4)
}

// When all connections have dropped while nobody read, that counts as one failure.
func TestSQLIdleConnectionsDrop(t *testing.T) {
	t.Parallel()
	const many = 12 // more than may fail in a row
	c := pgtest.New(t, nil)
	p := newProxy(t, c, 0, 0)
	var together sync.WaitGroup // so that each opens a connection
	together.Add(1 + many)
	var connections atomic.Int64
	s := sqlSource(t, "", &backup.SQLOptions{Connections: many, Connect: func(ctx context.Context) (*pgx.Conn, error) {
		if n := connections.Add(1); n <= 1+many {
			together.Done()
			if n > 1 {
				together.Wait()
			}
		}
		return pgx.Connect(ctx, p.dsn())
	}})
	session := begin(t, backup.Impatient(s))
	var group errgroup.Group
	for range many {
		group.Go(func() error {
			_, err := session.Open(t.Context(), "PG_VERSION")
			return err
		})
	}
	require.NoError(t, group.Wait())
	p.cutReaders()
	open(t, session, "PG_VERSION")
	require.Equal(t, int64(1+many+1), connections.Load())
}

// What files do while they are read is what they may do with any source.
func TestSQLFilesChange(t *testing.T) {
	t.Parallel()
	const (
		relation = "base/5/4000000000"
		other    = "x/file"
		size     = 1 << 20
	)
	c := pgtest.New(t, nil)
	session := begin(t, sqlSource(t, c.DSN("postgres"), nil))
	remove := func(t *testing.T, path string) { require.NoError(t, os.Remove(filepath.Join(c.Data, path))) }
	gone := func(t *testing.T, path string) {
		_, err := session.Open(t.Context(), path)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.ErrorContains(t, err, path)
	}
	gone(t, relation)
	gone(t, "no/such/file")
	gone(t, "pg_wal/000000010000000000000000")

	for _, path := range []string{relation, other} {
		t.Run(path, func(t *testing.T) {
			t.Run("vanishes before it is opened", func(t *testing.T) {
				put(t, c, path, noise(size))
				remove(t, path)
				gone(t, path)
			})
			t.Run("is small, and vanishes", func(t *testing.T) {
				put(t, c, path, noise(50_000))
				content := open(t, session, path)
				remove(t, path)
				got, err := io.ReadAll(io.NewSectionReader(content, 0, size))
				require.NoError(t, err)
				require.Equal(t, noise(50_000), got, "it was read at once")
			})
			t.Run("vanishes", func(t *testing.T) {
				put(t, c, path, noise(size))
				content := open(t, session, path)
				_, err := content.ReadAt(make([]byte, size/2), 0)
				require.NoError(t, err)
				remove(t, path)
				n, err := content.ReadAt(make([]byte, size/2), size/2)
				require.Zero(t, n)
				got, rerr := content.(backup.RangeReader).ReadRanges(make([]byte, 20), []backup.Range{{Offset: 10, Length: 10}, {Offset: 30, Length: 10}})
				require.Equal(t, []int{0, 0}, got)
				if path == relation {
					require.Equal(t, io.EOF, err)
					require.NoError(t, rerr)
					return
				}
				require.ErrorIs(t, err, fs.ErrNotExist)
				require.NotErrorIs(t, err, io.EOF)
				require.ErrorIs(t, rerr, fs.ErrNotExist)
			})
			t.Run("shrinks", func(t *testing.T) {
				put(t, c, path, noise(size))
				content := open(t, session, path)
				require.NoError(t, os.Truncate(filepath.Join(c.Data, path), 300_000))
				got, err := io.ReadAll(io.NewSectionReader(content, 0, size))
				require.NoError(t, err)
				require.Equal(t, noise(size)[:300_000], got)
				require.NoError(t, os.Truncate(filepath.Join(c.Data, path), 0))
				n, err := content.ReadAt(make([]byte, 10), 10)
				require.Zero(t, n)
				require.Equal(t, io.EOF, err)
			})
			t.Run("grows", func(t *testing.T) {
				put(t, c, path, noise(size)[:size/2])
				content := open(t, session, path)
				put(t, c, path, noise(size))
				got, err := io.ReadAll(io.NewSectionReader(content, 0, 2*size))
				require.NoError(t, err)
				require.Equal(t, noise(size), got)
			})
			t.Run("is read again", func(t *testing.T) {
				put(t, c, path, noise(50_000))
				content := open(t, session, path)
				p := make([]byte, 8192)
				_, err := content.ReadAt(p, 0)
				require.NoError(t, err)
				put(t, c, path, make([]byte, 50_000))
				_, err = content.ReadAt(p, 0)
				require.NoError(t, err)
				require.Equal(t, make([]byte, 8192), p, "a page that was torn has to be seen whole")
			})
		})
	}
}

// What connections fail with says nothing about files, neither that one is not there nor that it ends.
func TestSQLOutageIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{fs.ErrNotExist, io.EOF} {
		err := fmt.Errorf("backup: read x: %w", backup.Outage(fmt.Errorf("%w: %w", cause, context.Canceled)))
		require.NotErrorIs(t, err, cause)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, cause.Error())
	}
	var lost *backup.SessionLostError
	require.ErrorAs(t, backup.Outage(&backup.SessionLostError{Err: io.EOF}), &lost)
}
