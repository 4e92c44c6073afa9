package backup

import (
	"context"
	"fmt"

	"github.com/pgcairn/pgcairn/wal"
)

// claim makes sure that the repository belongs to the cluster, or comes to, where that was consented to.
func (t *taker) claim(ctx context.Context, start Start) (err error) {
	t.archive, err = wal.NewArchive(t.repo, &wal.Options{SystemID: start.SystemID, Logger: t.options.Logger})
	if err != nil {
		return err
	}
	sys := wal.System{ID: start.SystemID, SegmentSize: start.WALSegmentSize}
	if t.options.UpgradedFrom == 0 {
		return t.archive.Claim(ctx, "the server", sys)
	}
	t.upgraded, err = t.archive.Upgrade(ctx, "the server", sys, t.options.UpgradedFrom)
	return err
}

// afterUpgrade is the reason for a full backup that it is the first of another cluster than the one the repository
// belonged to before; empty, that it is not, or that it cannot be known here. The change may have been made long ago: a
// backup that was to follow it may have failed.
func (t *taker) afterUpgrade(ctx context.Context, start Start, ids []ID) (string, error) {
	all, err := t.archive.Systems(ctx)
	if err != nil || len(all) == 1 {
		return "", err
	}
	if len(ids) > 0 {
		newest, err := t.summary(ctx, ids[len(ids)-1])
		switch {
		case ctx.Err() != nil:
			return "", ctx.Err()
		case err == nil && newest.SystemID == start.SystemID:
			return "", nil
		case err == nil:
			return becameAnother(newest.SystemID, newest.PGVersion, start) + ", since backup " + string(newest.ID), nil
		}
	}
	if !t.upgraded {
		return "", nil
	}
	return becameAnother(all[len(all)-2].ID, 0, start), nil
}

// becameAnother says how a cluster differs from what it was. A version of 0 is not known.
func becameAnother(systemID uint64, version int, start Start) string {
	text := fmt.Sprintf("the system identifier has changed from %d to %d", systemID, start.SystemID)
	if version != 0 && version/10000 != start.PGVersion/10000 {
		text += fmt.Sprintf(", and PostgreSQL from %d to %d", version/10000, start.PGVersion/10000)
	}
	return text
}
