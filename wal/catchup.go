package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// catchUpReach is how many segments before the one asked for are looked at, which takes one list or two.
const catchUpReach = 256

// catchUp archives what PostgreSQL takes for archived, and this archive lacks, of the segments before the one at path, and
// of the histories of the timelines that these are on: it was out of reach when they came. A failure is logged: it will
// be tried again with the next segment.
//
// Only segments of the same timeline count: those of another may have come from an archive, and end in zeros.
func (a *Archive) catchUp(ctx context.Context, path string, l limits, files int) {
	pgdata, ok := dataDirectory(path)
	if !ok {
		return
	}
	owed, err := a.owed(ctx, pgdata, filepath.Base(path))
	if err != nil {
		if ctx.Err() == nil {
			a.log.WarnContext(ctx, "cannot tell what the archive lacks", "error", err)
		}
		return
	}
	_, _ = beside(ctx, l, nil, min(len(owed), files), func(ctx context.Context, i int) bool { // which has no error of its own
		return a.catchUpWith(ctx, pgdata, owed[i])
	})
}

// catchUpWith archives a file. One that is gone from pg_wal has to come from elsewhere, and holds up no other.
func (a *Archive) catchUpWith(ctx context.Context, pgdata string, n Name) bool {
	f, err := openFile(filepath.Join(walDir(pgdata), n.String()))
	if err == nil {
		defer f.Close()
		_, err = a.pushFile(ctx, f)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil && ctx.Err() == nil {
		a.log.WarnContext(ctx, "cannot archive what is owed", "file", n.String(), "error", err)
	}
	return err == nil
}

// owed returns the segments, before the one of that name and on its timeline, that PostgreSQL takes for archived and the
// archive lacks, ascending. Before them come the histories.
func (a *Archive) owed(ctx context.Context, pgdata, name string) ([]Name, error) {
	sys, err := a.System(ctx)
	if err != nil {
		return nil, err
	}
	seg, err := ParseSegment(name, sys.SegmentSize)
	if err != nil {
		return nil, nil // nothing comes before another file
	}
	entries, err := os.ReadDir(statusDir(pgdata))
	if err != nil {
		return nil, fmt.Errorf("wal: look for files to archive: %w", err)
	}
	owed, err := a.owedHistories(ctx, pgdata, sys, seg)
	if err != nil {
		return nil, err
	}
	held := map[string]bool{}   // keys; groups that were listed
	for _, e := range entries { // in order
		text, done := strings.CutSuffix(e.Name(), doneSuffix)
		s, err := ParseSegment(text, sys.SegmentSize)
		if !done || err != nil || s.Timeline != seg.Timeline || s.Number >= seg.Number || s.Number+catchUpReach < seg.Number {
			continue
		}
		n, err := ParseName(text)
		if err != nil {
			return nil, err
		}
		key := sys.key(n)
		group := key[:strings.LastIndexByte(key, '/')+1]
		if !held[group] {
			held[group] = true
			for info, err := range a.repo.Store().List(ctx, group) {
				if err != nil {
					return nil, fmt.Errorf("wal: list the archive: %w", err)
				}
				held[info.Key] = true
			}
		}
		if !held[key] {
			owed = append(owed, n)
		}
	}
	return owed, nil
}

// owedHistories returns the histories that PostgreSQL takes for archived and the archive lacks, of the timelines that
// began within reach of a segment on the way to it: of others the archive is not asked with every segment.
func (a *Archive) owedHistories(ctx context.Context, pgdata string, sys System, seg Segment) (owed []Name, err error) {
	if seg.Timeline == 1 {
		return nil, nil
	}
	h, err := historyIn(pgdata, seg.Timeline)
	if err != nil {
		return nil, nil //nolint:nilerr // what is not there cannot be brought
	}
	for _, f := range h.Forks {
		n, err := ParseName(h.At(f.At).HistoryName())
		if err != nil {
			return nil, err
		}
		if SegmentAt(n.Timeline, f.At, seg.Size).Number+catchUpReach < seg.Number {
			continue
		}
		if _, err := os.Stat(filepath.Join(statusDir(pgdata), n.String()+doneSuffix)); err != nil {
			continue // it has a push of its own
		}
		has, err := a.holds(ctx, sys, n)
		if err != nil {
			return nil, err
		}
		if !has {
			owed = append(owed, n)
		}
	}
	return owed, nil
}
