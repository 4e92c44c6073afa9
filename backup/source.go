package backup

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// Source is a cluster that can be backed up. [Directory], [SQL] and [Replication] make one.
type Source interface {
	// Begin starts a backup on the server. Nothing stays behind on it once the Session is closed.
	Begin(ctx context.Context, o BeginOptions) (Session, error)
}

// BeginOptions tell a Source how to start a backup.
type BeginOptions struct {
	Label  string // shows in backup_label
	Spread bool   // spread the checkpoint at the start over time, rather than have it at once
}

// Session is a backup in progress on a server. It is a [Lister] or a [Streamer] besides. Its methods may be called
// concurrently, but for Stop and Close.
type Session interface {
	// Start tells what is known since the backup was begun.
	Start() Start

	// Open opens a file by its path below the data directory: any that a Lister lists, and the segments and histories
	// that the server has, as pg_wal/NAME. A file that has vanished is an error matching fs.ErrNotExist. A segment that
	// is not complete may end where the server's WAL does.
	Open(ctx context.Context, path string) (Content, error)

	// Stop ends the backup on the server and reads what has to come last.
	Stop(ctx context.Context) (Stop, error)

	// Close releases the session. Before Stop it ends the backup on the server without a result.
	Close() error
}

// Lister is a Session whose files can be read in any order, and several at a time.
type Lister interface {
	// Files yields the directories and files that belong in the backup, pg_control aside, in no particular order.
	Files(ctx context.Context) iter.Seq2[Entry, error]
}

// Streamer is a Session whose server sends the files, in an order of its own. One goroutine at a time uses its methods;
// Stop comes after Next has returned io.EOF.
type Streamer interface {
	// Send has the server begin the backup. Before, Start tells where the server is; afterwards, where the backup begins.
	// When there is a base, a server that can sends what has changed since.
	Send(ctx context.Context, base *Manifest) (Sending, error)

	// Next returns the next directory or file that belongs in the backup, and io.EOF when all have been sent.
	Next(ctx context.Context) (Sent, error)

	// Read reads the content of the file that Next has returned last, up to io.EOF.
	Read(p []byte) (int, error)
}

// Sending tells what a Streamer's server sends.
type Sending struct {
	Difference bool   // to the base
	Reason     string // why it is not the difference to a base that was given
	Total      int64  // bytes that are to come, about
}

// Sent is a directory or a file that a Streamer's server sends. In place of a relation's file there may be only parts of
// it: then the base has it too, and the rest of it is as it is there up to Same, and zero from there on.
type Sent struct {
	Entry
	Part   bool
	Ranges []Range // the parts, which ascend and do not touch; they are sent one behind the other
	Same   int64   // in bytes
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
	Standby        bool      // the server is a standby
	Reached        wal.LSN   // of a standby: the backup will not end before it
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
