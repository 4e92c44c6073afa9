package backup

import (
	"context"
	"io"

	"github.com/pgcairn/pgcairn/wal"
)

// What backups by replication are made of, for tests.
type (
	ReplicationOptions = replicationOptions
	ReplicationSession = replicationSession
)

// BeginReplication begins a backup by replication.
func BeginReplication(ctx context.Context, conn string, r *ReplicationOptions, o BeginOptions, manifest io.Writer) (*ReplicationSession, error) {
	source, err := newReplication(conn, r)
	if err != nil {
		return nil, err
	}
	return source.begin(ctx, o, manifest)
}

// CopySegment copies a segment.
func (s *replicationSession) CopySegment(ctx context.Context, seg wal.Segment, w io.Writer) error {
	return s.copySegment(ctx, seg, w)
}
