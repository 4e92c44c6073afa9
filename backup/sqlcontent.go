package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/pgcairn/pgcairn/internal/pgfile"
)

const (
	// readPiece is how many bytes of a file the server reads at a time. A result has several of them, which come while
	// the server reads the next. Larger pieces take it several times the CPU, since memory for each is new.
	readPiece = 64 << 10
	// A query asks for so many pieces, and so many bytes, at most.
	maxPieces    = 4096
	maxReadBytes = 8 << 20
)

const (
	readStatement = "pgcairn_read"
	readQuery     = `select pg_read_binary_file($1, r.off, r.len, true)
		from unnest($2::bigint[], $3::bigint[]) with ordinality r(off, len, n) order by r.n`
)

// errMissing means that there is no such file. A file that has none of the bytes asked for is there.
var errMissing = errors.New("no such file")

// read reads pieces of a file, each of readPiece bytes at most, one behind the other into p. It returns how many bytes it
// has read: less than all where the file ends.
func (s *sqlSession) read(ctx context.Context, path string, p []byte, pieces []Range) (n int, err error) {
	for len(pieces) > 0 {
		batch := oneQuery(pieces)
		done, missing, end := 0, false, false
		err := s.readers.query(ctx, func(ctx context.Context, conn *pgx.Conn) (further bool, err error) {
			rows := conn.PgConn().ExecPrepared(ctx, readStatement, readArguments(path, batch[done:]), nil, []int16{pgx.BinaryFormatCode})
			for rows.NextRow() {
				got := rows.Values()[0]
				switch {
				case missing || end: // it has come back, or grown, between two pieces: that is in the WAL
				case done == len(batch) || len(got) > batch[done].Length:
					_, _ = rows.Close()
					return further, errors.New("the server sent more than it was asked for")
				case got == nil:
					missing = true
				default:
					n += copy(p[n:], got)
					end = len(got) < batch[done].Length
					done, further = done+1, true
				}
			}
			_, err = rows.Close()
			if missing || end || done == len(batch) {
				return further, nil // all that was asked for
			}
			if err == nil {
				err = fmt.Errorf("%d pieces of %d", done, len(batch))
			}
			return further, err
		})
		switch {
		case err != nil:
			return n, err
		case missing:
			return n, errMissing
		case end:
			return n, nil
		}
		pieces = pieces[len(batch):]
	}
	return n, nil
}

// oneQuery returns as many of the first pieces as one query asks for.
func oneQuery(pieces []Range) []Range {
	bytes := 0
	for i, p := range pieces {
		if bytes += p.Length; i == maxPieces || i > 0 && bytes > maxReadBytes {
			return pieces[:i]
		}
	}
	return pieces
}

// readArguments are those of readQuery: arrays in PostgreSQL's text format.
func readArguments(path string, pieces []Range) [][]byte {
	offsets, lengths := []byte{'{'}, []byte{'{'}
	for i, p := range pieces {
		if i > 0 {
			offsets, lengths = append(offsets, ','), append(lengths, ',')
		}
		offsets = strconv.AppendInt(offsets, p.Offset, 10)
		lengths = strconv.AppendInt(lengths, int64(p.Length), 10)
	}
	return [][]byte{[]byte(path), append(offsets, '}'), append(lengths, '}')}
}

// cut cuts a range into pieces.
func cut(pieces []Range, r Range) []Range {
	for r.Length > readPiece {
		pieces = append(pieces, Range{Offset: r.Offset, Length: readPiece})
		r.Offset, r.Length = r.Offset+readPiece, r.Length-readPiece
	}
	if r.Length > 0 {
		pieces = append(pieces, r)
	}
	return pieces
}

// Open reads the begin of the file along with finding out whether it is there. So a small file takes one query, and is
// read at one moment.
func (s *sqlSession) Open(ctx context.Context, path string) (Content, error) {
	head := make([]byte, readPiece)
	n, err := s.read(ctx, path, head, []Range{{Length: readPiece}})
	if errors.Is(err, errMissing) {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	return &sqlContent{session: s, ctx: ctx, path: path, head: head[:n], whole: n < readPiece}, nil
}

// sqlContent is a file that is read by SQL.
type sqlContent struct {
	session *sqlSession
	ctx     context.Context //nolint:containedctx // of Open
	path    string

	mu    sync.Mutex
	head  []byte // read by Open, and not asked for yet: who asks for the same bytes again wants to know them anew
	at    int64  // offset of head
	whole bool   // the file ends with head
}

// ReadAt implements io.ReaderAt.
func (c *sqlContent) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 { // which the server counts from the file's end
		return 0, errors.New("negative offset")
	}
	n, ended := c.readHead(p, off)
	if n == len(p) {
		return n, nil
	}
	if ended {
		return n, io.EOF
	}
	m, err := c.session.read(c.ctx, c.path, p[n:], cut(nil, Range{Offset: off + int64(n), Length: len(p) - n}))
	n += m
	if errors.Is(err, errMissing) {
		return n, c.vanished()
	}
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// readHead reads what Open has read already.
func (c *sqlContent) readHead(p []byte, off int64) (n int, ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if off != c.at {
		return 0, false
	}
	n = copy(p, c.head)
	c.head, c.at = c.head[n:], c.at+int64(n)
	return n, c.whole && len(c.head) == 0
}

// vanished is what reading fails with when the file has gone since it was opened. A relation's has come to its end: the
// server truncates it before it removes it, and recovery does the same.
func (c *sqlContent) vanished() error {
	if _, ok := pgfile.ParseRelation(c.path); ok {
		return io.EOF
	}
	return &fs.PathError{Op: "read", Path: c.path, Err: fs.ErrNotExist}
}

// ReadRanges implements RangeReader.
func (c *sqlContent) ReadRanges(p []byte, ranges []Range) ([]int, error) {
	var pieces []Range
	var bytes int64
	for i, r := range ranges {
		if r.Offset < 0 || r.Length < 0 || i > 0 && r.Offset < ranges[i-1].Offset+int64(ranges[i-1].Length) {
			return nil, errors.New("ranges do not ascend")
		}
		pieces = cut(pieces, r)
		bytes += int64(r.Length)
	}
	if bytes > int64(len(p)) {
		return nil, fmt.Errorf("ranges of %d bytes, room for %d", bytes, len(p))
	}
	n, err := c.session.read(c.ctx, c.path, p, pieces)
	// Ranges ascend, and nothing was read behind the file's end.
	got := make([]int, len(ranges))
	for i, r := range ranges {
		got[i] = min(n, r.Length)
		n -= got[i]
	}
	if errors.Is(err, errMissing) {
		if err = c.vanished(); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return got, err
}

// Close implements io.Closer.
func (c *sqlContent) Close() error { return nil }
