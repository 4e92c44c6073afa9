package backup

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// Source is a cluster that can be backed up. [Directory] and [SQL] make one.
type Source interface {
	// Begin starts a backup on the server. Nothing stays behind on it once the Session is closed.
	Begin(ctx context.Context, o BeginOptions) (Session, error)
}

// BeginOptions tell a Source how to start a backup.
type BeginOptions struct {
	Label  string // shows in backup_label
	Spread bool   // spread the checkpoint at the start over time, rather than have it at once
}

// Session is a backup in progress on a server. Its methods may be called concurrently, but for Stop and Close.
type Session interface {
	// Start tells what is known since the backup was begun.
	Start() Start

	// Files yields the directories and files that belong in the backup, pg_control aside, in no particular order.
	Files(ctx context.Context) iter.Seq2[Entry, error]

	// Open opens a file by its path below the data directory; also a segment, pg_wal/NAME. A file that has vanished is
	// an error matching fs.ErrNotExist.
	Open(ctx context.Context, path string) (Content, error)

	// Stop ends the backup on the server and reads what has to come last.
	Stop(ctx context.Context) (Stop, error)

	// Close releases the session. Before Stop it ends the backup on the server without a result.
	Close() error
}

// Summarizer is a Session of a server that keeps summaries of its WAL (summarize_wal, since PostgreSQL 17).
type Summarizer interface {
	// Summaries tells which blocks are changed by the records of a timeline between two positions. Where the summaries
	// do not cover all of that, it fails.
	Summaries(ctx context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error)
}

// Content is an open file of a Source, safe for concurrent use. One that has vanished since it was opened may fail with an
// error matching fs.ErrNotExist, unless it is a relation's, which ends where it was read up to.
type Content interface {
	io.ReaderAt
	io.Closer
}

// RangeReader is a Content that reads several ranges at a time, for one that is far away.
type RangeReader interface {
	// ReadRanges reads ranges, which ascend and do not overlap, one behind the other into p, which has room for all. It
	// returns how many bytes it has read of each: fewer than asked for where the file ends.
	ReadRanges(p []byte, ranges []Range) ([]int, error)
}

// Range is a part of a file.
type Range struct {
	Offset int64
	Length int
}

// Entry is a directory or a file of a cluster.
type Entry struct {
	Path string // slash-separated, below the data directory
	Dir  bool
	Size int64 // of a file, in bytes, when it was listed; it may have any other when it is read
}

// Start is what is known once a backup has begun.
type Start struct {
	SystemID       uint64
	PGVersion      int // server_version_num
	Timeline       wal.Timeline
	LSN            wal.LSN
	Time           time.Time // by the server's clock
	PageSize       uint32    // in bytes
	RelSegPages    uint32    // pages in a file of a relation
	WALSegmentSize uint32    // in bytes
	Checksums      bool      // pages have checksums
	Tablespaces    []Tablespace
}

// Stop is what the end of a backup adds.
type Stop struct {
	LSN           wal.LSN
	Time          time.Time // by the server's clock
	Label         string    // content for backup_label
	TablespaceMap string    // content for tablespace_map
	Control       []byte    // content of pg_control, read after every other file
}
