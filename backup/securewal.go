package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pgcairn/pgcairn/wal"
)

// MissingWALError means that a segment which a backup needs is neither archived nor left on the server.
type MissingWALError struct {
	Segment string
}

func (e *MissingWALError) Error() string {
	return fmt.Sprintf("backup: segment %s, which the backup needs, is not archived and gone from the server: "+
		"archive WAL to this repository, or let the backup's role create replication slots, or raise wal_keep_size", e.Segment)
}

// secureWAL returns nil once the repository holds every segment that the backup needs to become consistent. What an
// archiver has not brought is pushed from the server. On a primary its stop of the backup has completed the last of them.
func (t *taker) secureWAL(ctx context.Context, s Session) error {
	m := &t.manifest
	last := m.LastSegment()
	if m.Timeline > 1 {
		if err := t.pushHistory(ctx, s); err != nil {
			return err
		}
	}
	for seg := m.FirstSegment(); seg.Number <= last.Number; seg = seg.Next() {
		name, err := wal.ParseName(seg.Name())
		if err != nil {
			return err
		}
		if s.Start().Standby {
			err = t.await(ctx, s, name, seg)
		} else {
			err = t.secure(ctx, s, name, int64(seg.Size))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// secure makes sure of one segment.
func (t *taker) secure(ctx context.Context, s Session, n wal.Name, size int64) error {
	content, err := s.Open(ctx, "pg_wal/"+n.String())
	if errors.Is(err, fs.ErrNotExist) {
		// Archived and recycled, unless it is lost.
		have, err := t.archive.Has(ctx, n)
		if err == nil && !have {
			err = &MissingWALError{Segment: n.String()}
		}
		return err
	}
	if err != nil {
		return fmt.Errorf("backup: read segment: %w", err)
	}
	defer content.Close()
	err = t.archive.PushContent(ctx, n, content, size)
	refused := (*wal.SegmentError)(nil)
	gone := errors.Is(err, fs.ErrNotExist) // a source that does not keep files open notices only now
	if !gone && !errors.As(err, &refused) {
		return err
	}
	// It may have been archived and recycled between opening and reading.
	have, herr := t.archive.Has(ctx, n)
	switch {
	case herr == nil && have:
		return nil
	case gone && herr == nil:
		return &MissingWALError{Segment: n.String()}
	case gone:
		return herr
	}
	return err
}

// pushHistory archives the history of the backup's timeline, without which recovery could not find the way to it.
func (t *taker) pushHistory(ctx context.Context, s Session) error {
	n, err := wal.ParseName(t.manifest.Timeline.HistoryName())
	if err != nil {
		return err
	}
	content, err := s.Open(ctx, "pg_wal/"+n.String())
	if errors.Is(err, fs.ErrNotExist) {
		return nil // archived long ago
	}
	if err != nil {
		return fmt.Errorf("backup: read history: %w", err)
	}
	defer content.Close()
	size, err := contentSize(content)
	if err != nil {
		return fmt.Errorf("backup: read history: %w", err)
	}
	return t.archive.PushContent(ctx, n, content, size)
}

// contentSize measures a small file.
func contentSize(c Content) (int64, error) {
	return io.Copy(io.Discard, io.NewSectionReader(c, 0, 1<<20))
}
