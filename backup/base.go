package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// chooseBase returns the backup that the difference is to be taken to. Where there is none, or none that would do, the
// backup has to be a full one, and reason says why; where a full one was asked for, it is empty unless it would have
// been one in any case since the cluster was upgraded.
func (t *taker) chooseBase(ctx context.Context, start Start, ids []ID) (base *Manifest, reason string, err error) {
	if reason, err := t.afterUpgrade(ctx, start, ids); err != nil || reason != "" || t.options.Type == Full {
		return nil, reason, err
	}
	passed := "" // over, and why
	for _, id := range slices.Backward(ids) {
		if t.options.Type == Differential {
			full, err := t.isFull(ctx, id)
			if err := ctx.Err(); err != nil {
				return nil, "", err
			}
			if err != nil && passed == "" {
				passed = fmt.Sprintf(", and the manifest of %s cannot be read here: %v", id, err)
			}
			if !full {
				continue
			}
		}
		base, err := t.loadBase(ctx, id)
		if ctx.Err() != nil {
			return nil, "", err
		}
		if errors.Is(err, fs.ErrNotExist) { // deleted since it was listed
			continue
		}
		if err != nil {
			// An older one would do as well, but for what it costs. That this one cannot be read is worth a full one.
			return nil, fmt.Sprintf("the manifest of %s cannot be read here: %v", id, err), nil
		}
		if why := unlike(base, start); why != "" {
			return nil, fmt.Sprintf("it cannot build on %s: %s", id, why), nil
		}
		return base, "", nil
	}
	if t.options.Type == Differential {
		return nil, "there is no full backup to build on" + passed, nil
	}
	return nil, "there is no backup to build on", nil
}

func (t *taker) isFull(ctx context.Context, id ID) (bool, error) {
	s, err := t.summary(ctx, id)
	return err == nil && s.Type == Full, err
}

// summary loads the head of a manifest, from this host where it has a copy.
func (t *taker) summary(ctx context.Context, id ID) (*Summary, error) {
	if s, err := t.copies().summary(id); err == nil {
		return s, nil
	}
	return loadSummary(ctx, t.repo, id)
}

// loadBase loads a manifest, from this host where it has a copy.
func (t *taker) loadBase(ctx context.Context, id ID) (*Manifest, error) {
	if m, err := t.copies().read(id); err == nil {
		return m, nil
	}
	return Load(ctx, t.repo, id)
}

// unlike tells why a difference to a backup would mean nothing. Empty is that it would.
//
// What is taken from the base is as it was at some time of the base's, with all changes from before its start; and none
// that are from before this backup's start are missing, since what has changed in between is not taken. So it is what
// this backup could have read itself, if recovery comes to where the base ended before it calls the cluster consistent.
// On a primary the backup begins there or later, at a checkpoint of its own. A standby makes no checkpoints: the latest
// one that it has replayed may be that which the base began with, so there it counts where the backup ends.
func unlike(base *Manifest, start Start) string {
	control, err := pgfile.ParseControl(base.Control)
	switch {
	case err != nil:
		return err.Error()
	case base.SystemID != start.SystemID:
		return becameAnother(base.SystemID, base.PGVersion, start)
	case base.PGVersion/10000 != start.PGVersion/10000:
		return fmt.Sprintf("it is of PostgreSQL %d", base.PGVersion/10000)
	case base.Timeline != start.Timeline:
		return fmt.Sprintf("it is of timeline %d, and the server is on %d", base.Timeline, start.Timeline)
	case start.Standby && start.LSN < base.StartLSN:
		return fmt.Sprintf("it begins at %s, and the latest restartpoint of the standby is at %s", base.StartLSN, start.LSN)
	case start.Standby && max(start.LSN, start.Reached) < base.StopLSN:
		return fmt.Sprintf("it ends at %s, and the standby has replayed up to %s only", base.StopLSN, max(start.LSN, start.Reached))
	case !start.Standby && start.LSN < base.StopLSN:
		return fmt.Sprintf("it ends at %s, and the server is at %s only: their histories differ", base.StopLSN, start.LSN)
	case base.PageSize != start.PageSize, control.RelSegPages != start.RelSegPages:
		return "its pages or files have other sizes"
	case base.DataChecksums != start.Checksums:
		return fmt.Sprintf("data checksums have been turned %s since", map[bool]string{true: "on", false: "off"}[start.Checksums])
	}
	return ""
}
