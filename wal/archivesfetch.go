package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/pgcairn/pgcairn/internal/durable"
	"golang.org/x/sync/errgroup"
)

// Fetch is [Archive.Fetch] from whichever archive has the file: the first that brings it, verified, wins. A copy that is
// damaged is as good as none, and the next archive is asked. One that takes longer than the options' Patience is no longer
// waited for alone.
//
// An error matches fs.ErrNotExist only when every archive has answered that it does not hold the file: when one of them
// cannot tell, nobody knows whether the WAL ends there. The error then has those of all that failed, to be matched with
// errors.As.
//
// A segment that an archive holds in part ([Partial]) is the end of the WAL only when no archive holds it whole. So it
// takes the answers of all, and is brought from where there is most of it.
//
// The archives have to be of one cluster, which a destination in the pg_wal of a data directory proves.
func (s *Archives) Fetch(ctx context.Context, name, dst string) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	f, err := s.bring(ctx, n, filepath.Dir(dst), systemAt(dst))
	if err != nil {
		return err
	}
	defer f.Close()
	err = durable.WriteFile(dst, 0o600, func(w io.Writer) error {
		_, err := io.Copy(w, f)
		return err
	})
	if err != nil {
		return notMissing(fmt.Errorf("wal: fetch %s: %w", name, err))
	}
	return nil
}

// Read is [Archive.Read] from whichever archive has the file, as with [Archives.Fetch]. Nothing is written to w before
// all of it is there and verified; meanwhile it is in a temporary file.
func (s *Archives) Read(ctx context.Context, name string, w io.Writer) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	f, err := s.bring(ctx, n, "", 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(w, f); err != nil {
		return notMissing(fmt.Errorf("wal: fetch %s: %w", n, err))
	}
	return nil
}

// Has tells whether any of the archives holds a file. It is false only when all have answered so.
func (s *Archives) Has(ctx context.Context, n Name) (bool, error) {
	_, err := askAny(ctx, s, "look for "+n.String(), func(ctx context.Context, a *Archive) (struct{}, error) {
		has, err := a.Has(ctx, n)
		if err == nil && !has {
			err = fs.ErrNotExist
		}
		return struct{}{}, err
	}, func(struct{}) {})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// bring fetches a file to a temporary one without a name in dir, at whose start it is left: nobody who comes late can
// write into what another has brought. told is the system identifier of the destination, or 0.
func (s *Archives) bring(ctx context.Context, n Name, dir string, told uint64) (*os.File, error) {
	q := &question{name: n, told: told}
	f, err := s.bringWhole(ctx, q, dir)
	if n.Kind != KindSegment || !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	m, sys, err := s.longest(ctx, q)
	if err != nil {
		return nil, err
	}
	if m == nil { // it may have become whole meanwhile
		return s.bringWhole(ctx, q, dir)
	}
	a, err := m.open(ctx)
	if err != nil {
		return nil, err
	}
	// Another has less of it, and would end recovery earlier.
	f, err = toTemp(dir, func(w io.Writer) error { return a.read(ctx, sys, n, w) })
	if err != nil {
		return nil, s.failed("fetch "+n.String(), []error{fmt.Errorf("%s: %w", m.Name, err)})
	}
	return f, nil
}

// bringWhole fetches a file that an archive holds whole.
func (s *Archives) bringWhole(ctx context.Context, q *question, dir string) (*os.File, error) {
	return askAny(ctx, s, "fetch "+q.name.String(), func(ctx context.Context, a *Archive) (*os.File, error) {
		sys, err := q.system(ctx, a)
		if err != nil {
			return nil, err
		}
		obj, err := a.open(ctx, sys, q.name)
		if err != nil {
			return nil, err
		}
		defer obj.obj.Close()
		f, err := toTemp(dir, obj.copyTo)
		if err != nil {
			return nil, notMissing(err)
		}
		return f, nil
	}, func(f *os.File) { _ = f.Close() })
}

// longest returns the archive that holds most of a segment which none holds whole; nil when none has any of it, when one
// has got it whole meanwhile, or when one holds a later segment, so that this one is a hole. All have to answer.
func (s *Archives) longest(ctx context.Context, q *question) (best *member, of System, err error) {
	held := make([]struct {
		reach uint32
		over  bool // it holds it whole, or a later one
		sys   System
	}, len(s.members))
	g, gctx := errgroup.WithContext(ctx)
	for i, m := range s.members {
		g.Go(func() error {
			err := func() error {
				a, err := m.open(gctx)
				if err != nil {
					return err
				}
				h := &held[i]
				if h.sys, err = q.system(gctx, a); err != nil {
					return err
				}
				seg, err := q.name.Segment(h.sys.SegmentSize)
				if err != nil {
					return err
				}
				pieces, err := a.listPieces(gctx, h.sys, h.sys.segmentPieces(seg))
				if err != nil {
					return err
				}
				h.reach = reach(chain(pieces))
				// After its pieces: once a segment is archived, they are deleted.
				if h.over, err = a.holds(gctx, h.sys, q.name); err != nil || h.over {
					return err
				}
				h.over, err = a.hasLater(gctx, h.sys, seg)
				return err
			}()
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // nobody has claimed it yet
				return fmt.Errorf("%s: %w", m.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, of, s.failed("fetch "+q.name.String(), []error{err})
	}
	most := uint32(0)
	for i, h := range held {
		if h.over {
			return nil, of, nil
		}
		if h.reach > most {
			best, of, most = s.members[i], h.sys, h.reach
		}
	}
	return best, of, nil
}

// question is a file that is asked for, of one cluster.
type question struct {
	name Name
	told uint64 // system identifier of the destination, or 0

	mu    sync.Mutex
	first uint64 // system identifier that the first archive that could tell belongs to, or 0
}

// system decides of which cluster an archive's file is meant: the same for all.
func (q *question) system(ctx context.Context, a *Archive) (System, error) {
	sys, err := a.systemFor(ctx, q.name, q.told)
	if err != nil {
		return sys, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.first == 0 {
		q.first = sys.ID
	}
	if sys.ID != q.first {
		return sys, &ForeignError{Name: whereTo(q.name), Got: q.first, Want: sys.ID}
	}
	return sys, nil
}

// toTemp writes a temporary file without a name, and leaves it at its start.
func toTemp(dir string, write func(io.Writer) error) (_ *os.File, err error) {
	f, err := os.CreateTemp(dir, "pgcairn-fetch-*")
	if err != nil {
		return nil, notMissing(err)
	}
	defer func() {
		if err != nil {
			_ = f.Close() // it has no name
		}
	}()
	if err := os.Remove(f.Name()); err != nil {
		return nil, notMissing(err)
	}
	if err := write(f); err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f, err
}
