package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/pgcairn/pgcairn/internal/pgwire"
)

// receiver is a Receive under way.
type receiver struct {
	archive *Archive
	options ReceiveOptions

	replication, ordinary func(context.Context) (*pgx.Conn, error) // open a connection

	ship     *shipper // once the server is known
	received LSN      // up to where what has come on this connection continues, or is the same as, what is in ship.cur
	heard    int      // messages
	segments int      // archived
	shown    ReceiveProgress
	missing  *Segment          // that the server did not have when it was asked last
	gap      bool              // go on where the server's WAL begins
	stored   map[Timeline]bool // histories that are archived
}

func (r *receiver) close() {
	if r.ship != nil {
		r.ship.close()
	}
}

// session receives over one connection until it fails or ctx ends.
func (r *receiver) session(ctx context.Context) error {
	conn, err := r.replication(ctx)
	if err != nil {
		return err
	}
	defer hangUp(ctx, conn)
	c := conn.PgConn()
	server, err := pgwire.Identify(ctx, c)
	if err != nil {
		return fmt.Errorf("wal: ask the server: %w", err)
	}
	if err := r.claim(ctx, c, server); err != nil {
		return err
	}
	restart, err := r.slot(ctx, c)
	if err != nil {
		return fmt.Errorf("wal: %w", err)
	}
	if r.ship.cur == nil {
		if err := r.begin(ctx, c, server, restart); err != nil {
			return err
		}
	}
	for {
		seg := r.ship.cur.segment
		if err := r.history(ctx, c, seg.Timeline); err != nil {
			return err
		}
		next, err := r.stream(ctx, c)
		if isRemoved(err) {
			err = r.removed(seg, err)
		}
		if err != nil {
			return err
		}
		if next == nil {
			return errors.New("wal: the server ended the stream")
		}
		if err := r.follow(ctx, c, *next); err != nil {
			return err
		}
	}
}

// claim makes sure that the server is of the cluster that the repository belongs to.
func (r *receiver) claim(ctx context.Context, c *pgconn.PgConn, server pgwire.System) error {
	size, err := pgwire.SegmentSize(ctx, c)
	if err != nil {
		return fmt.Errorf("wal: ask the server: %w", err)
	}
	sys := System{ID: server.ID, SegmentSize: size}
	if err := r.archive.Claim(ctx, "the server", sys); err != nil {
		return err
	}
	if r.ship == nil {
		// From now on of this cluster only, whatever becomes of the repository.
		if r.archive, err = r.archive.of(sys.ID); err != nil {
			return err
		}
		r.ship = newShipper(r.archive, sys, r.options.FlushEvery, r.options.FlushBytes)
		r.sweep(ctx, sys)
	}
	return nil
}

// sweep has pieces deleted whose segments are archived: those that a receiver left that was killed.
func (r *receiver) sweep(ctx context.Context, sys System) {
	pieces, err := r.archive.listPieces(ctx, sys, sys.piecesPrefix())
	if err != nil {
		return // it was an attempt
	}
	whole := map[Segment]bool{}
	for _, p := range pieces {
		archived, asked := whole[p.segment]
		if !asked {
			if n, err := ParseName(p.segment.Name()); err == nil {
				archived, err = r.archive.Has(ctx, n)
				whole[p.segment] = archived && err == nil
			}
		}
		if archived {
			r.ship.drop([]piece{p})
		}
	}
}

// begin decides where to begin, and makes the segment ready.
func (r *receiver) begin(ctx context.Context, c *pgconn.PgConn, server pgwire.System, restart LSN) error {
	h, err := r.wayOf(ctx, c, Timeline(server.Timeline))
	if err != nil {
		return err
	}
	held, err := r.archive.Coverage(ctx)
	if err != nil {
		return err
	}
	r.noteHistories(held)
	if r.gap {
		r.gap = false
		held = Coverage{}
	}
	return r.open(ctx, startAt(held, h, restart, LSN(server.Position), r.ship.system.SegmentSize))
}

// open makes a segment the current one, with what pieces hold of it where they can be read.
func (r *receiver) open(ctx context.Context, seg Segment) error {
	sys := r.ship.system
	all, err := r.archive.listPieces(ctx, sys, sys.segmentPieces(seg))
	if err != nil {
		return err
	}
	cur, err := r.newSpool(seg, nil)
	if err != nil {
		return err
	}
	if known := chain(all); len(known) > 0 {
		if err := r.load(ctx, cur, known); err != nil {
			r.archive.log.InfoContext(ctx, "pieces of the segment cannot be read, so it is received from its start", "segment", seg, "reason", err)
			cur.end = 0
		}
	}
	if old := r.ship.cur; old != nil {
		old.close()
	}
	r.ship.begin(cur, all)
	return nil
}

func (r *receiver) newSpool(seg Segment, reuse *spool) (*spool, error) {
	s, err := newSpool(seg, r.options.SpoolDir, reuse)
	if err != nil {
		return nil, &localError{err: err}
	}
	return s, nil
}

// load reads what pieces hold of a segment.
func (r *receiver) load(ctx context.Context, cur *spool, known []piece) error {
	p := newPieceReader(ctx, r.archive, r.ship.system, known)
	p.short = true
	defer p.Close()
	for {
		b, err := p.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(b) > cur.room() {
			return errors.New("they are longer than a segment")
		}
		if err := cur.append(b); err != nil {
			return err
		}
	}
}

// overlap is how many bytes that are known already are received again, to be compared.
const overlap = 64 << 10

// from is where to start streaming.
func (r *receiver) from() LSN {
	cur := r.ship.cur
	return cur.segment.Start() + LSN(cur.end-min(cur.end, overlap))&^8191
}

// take takes received bytes, which have to follow those before.
func (r *receiver) take(m pgwire.Message) error {
	at, b := LSN(m.Start), m.Data
	if at != r.received {
		return fmt.Errorf("wal: the server sent %s where %s was due", at, r.received)
	}
	for len(b) > 0 {
		cur := r.ship.cur
		n := min(len(b), cur.room())
		if r.received < cur.pos() {
			n = int(min(uint64(len(b)), uint64(cur.pos()-r.received)))
			if err := r.compare(b[:n]); err != nil {
				return err
			}
		} else if err := cur.append(b[:n]); err != nil {
			return &localError{err: err}
		}
		r.received += LSN(n)
		b = b[n:]
		err := r.ship.received(func(spare *spool) (*spool, error) { return r.newSpool(cur.segment.Next(), spare) })
		if err != nil {
			return err
		}
	}
	return nil
}

// compare compares what is received again with what is known.
func (r *receiver) compare(b []byte) error {
	cur := r.ship.cur
	have := make([]byte, len(b))
	if _, err := cur.ReadAt(have, int64(r.received-cur.segment.Start())); err != nil {
		return &localError{err: err}
	}
	if !bytes.Equal(have, b) {
		p := piece{segment: cur.segment, to: uint32(len(b))}
		archived, err1 := pieceDigest(p, bytes.NewReader(have))
		offered, err2 := pieceDigest(p, bytes.NewReader(b))
		return errors.Join(&ConflictError{Name: fmt.Sprintf("%s, before %s,", cur.segment, cur.pos()), Archived: archived, Offered: offered}, err1, err2)
	}
	return nil
}

// removed decides what it means that the server does not have the segment any more. It may have been archived by other
// hands and removed just now, so the archive is looked at again first.
func (r *receiver) removed(seg Segment, err error) error {
	again := r.missing != nil && *r.missing == seg
	r.missing = &seg
	r.ship.forget()
	if again && !r.options.AllowGap {
		return &RemovedError{Segment: seg, Err: err}
	}
	r.gap = again
	return err
}

// durable is the position that the server is told.
func (r *receiver) durable() LSN { return min(r.ship.durable, r.received) }
