package restore

import (
	"context"

	"github.com/pgcairn/pgcairn/wal"
)

// Log tells what archived WAL does. The methods are those of a [wal.Archive], for one cluster and its coverage.
type Log interface {
	// Replay tells what recovery does from a position on: see [wal.Archive.Replay].
	Replay(way []wal.Range, from wal.LSN, u wal.Until) (*wal.Replayed, error)

	// Matches tells what a name or an XID may stand for: see [wal.Archive.Matches]. The last segment may be held in part.
	Matches(way []wal.Range, u wal.Until) ([]wal.Event, error)
}

// archiveLog is the log that an archive has.
type archiveLog struct {
	ctx      context.Context //nolint:containedctx // as that of a request: a plan is made, and the log is gone
	archive  *wal.Archive
	coverage wal.Coverage
}

func (l *archiveLog) Replay(way []wal.Range, from wal.LSN, u wal.Until) (*wal.Replayed, error) {
	return l.archive.Replay(l.ctx, l.coverage, way, from, u)
}

func (l *archiveLog) Matches(way []wal.Range, u wal.Until) ([]wal.Event, error) {
	return l.archive.Matches(l.ctx, l.coverage, way, u)
}
