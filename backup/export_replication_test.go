package backup

import (
	"context"
	"io"

	"github.com/pgcairn/pgcairn/wal"
)

// ReplicationSession is a session of [Replication], for tests.
type ReplicationSession = replicationSession

// CopySegment reads a segment.
func (s *replicationSession) CopySegment(ctx context.Context, seg wal.Segment, w io.Writer) error {
	c, err := s.Open(ctx, "pg_wal/"+seg.Name())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = io.Copy(w, io.NewSectionReader(c, 0, int64(seg.Size)))
	return err
}
