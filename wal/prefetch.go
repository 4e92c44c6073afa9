package wal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// PrefetchOptions are the options of [Archive.Prefetch]. A nil *PrefetchOptions, and the zero value of each field, is its
// default.
type PrefetchOptions struct {
	// Segments is how many segments are fetched ahead, 8 by default.
	Segments int

	// Bytes is how much the directory may hold, 512 MiB by default. Fewer segments are fetched ahead where they are large.
	Bytes int64

	// Jobs is how many are fetched at a time, 4 by default.
	Jobs int

	// Dir is a directory where they are kept, in a folder named by the repository's id; both are made when needed. It is
	// trusted, and not below a pg_wal. The default is the folder ahead of the archive's state directory (see [Options]).
	// A name on the file system of the pg_wal they go to saves copying them.
	Dir string

	// Batch is for a process that fetches one segment and ends: what is not there yet is fetched together with those that
	// follow, and Fetch waits for them all, so that the next processes find theirs. It waits no longer than 10 seconds
	// for the others, or twice as long as the one took.
	Batch bool
}

// Prefetcher fetches segments and, beside them, those that recovery will ask for next. Its methods may be called
// concurrently, but one recovery is what it is made for: several are served rightly, and slowly.
type Prefetcher struct {
	a     *Archive
	dir   aheadDir
	count uint64 // segments
	jobs  int
	batch bool

	ctx    context.Context // of everything that goes on beside calls
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	flights map[Segment]chan struct{} // being fetched ahead; closed at the end
	last    Segment                   // that was asked for
	system  System                    // that it is of
	stop    uint64                    // number of the segment that could not be fetched ahead since then
}

// Prefetch begins to fetch ahead: see [Prefetcher.Fetch]. Close ends it.
func (a *Archive) Prefetch(o *PrefetchOptions) (*Prefetcher, error) {
	if o == nil {
		o = &PrefetchOptions{}
	}
	dir := aheadIn(a.state)
	if o.Dir != "" {
		dir = filepath.Join(o.Dir, a.repo.ID())
	}
	if dir == "" {
		return nil, errors.New("wal: no directory to fetch ahead to: give one, or the repository a StateDir")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: fetch ahead: %w", err)
	}
	if slices.Contains(strings.Split(abs, string(filepath.Separator)), "pg_wal") {
		return nil, fmt.Errorf("wal: %s lies in a pg_wal, where PostgreSQL would find segments that it has not asked for", dir)
	}
	p := &Prefetcher{
		a: a, dir: aheadDir{dir: abs, bytes: o.Bytes, now: a.repo.Now}, count: uint64(max(0, o.Segments)), jobs: o.Jobs, batch: o.Batch,
		flights: map[Segment]chan struct{}{},
	}
	if p.count == 0 {
		p.count = 8
	}
	if p.jobs <= 0 {
		p.jobs = 4
	}
	if p.dir.bytes <= 0 {
		p.dir.bytes = 512 << 20
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p, nil
}

func aheadIn(state string) string {
	if state == "" {
		return ""
	}
	return filepath.Join(state, "ahead")
}

// Close ends what goes on, and removes what was fetched ahead, unless that is meant for other processes.
func (p *Prefetcher) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.group.Wait()
	if first && !p.batch {
		p.dir.clear()
	}
	return nil
}

// Fetch is [Archive.Fetch], from what was fetched ahead where it is there; then it is renamed to dst. After a segment,
// those that follow it on its timeline are fetched ahead, until one is not in the archive: that is never remembered, and
// neither is a failure, so whatever is not there when it is asked for is asked of the archive. Where recovery turns to
// another timeline, what lies ahead on the old one is dropped in time.
//
// Unlike [Archive.Fetch] it does not sync dst, but has it brought to disk meanwhile: PostgreSQL syncs what a
// restore_command has brought before it gives it a segment's name, and forgets it when it starts anew
// (RestoreArchivedFile and KeepFileRestoredFromArchive of xlogarchive.c).
func (p *Prefetcher) Fetch(ctx context.Context, name, dst string) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	return p.fetch(ctx, n, toPath(dst), systemAt(dst))
}

// fetch is Fetch. told is the system identifier of the destination, or 0.
func (p *Prefetcher) fetch(ctx context.Context, n Name, to destination, told uint64) error {
	if err := p.a.agree(whereTo(n), told); err != nil {
		return err
	}
	// Of what is there already the store is not asked, unless it takes that to know whose it has to be.
	var sys System
	id := cmp.Or(p.a.want, told)
	if id == 0 {
		var err error
		if sys, err = p.a.systemFor(ctx, n, 0); err != nil {
			return err
		}
		id = sys.ID
	}
	if n.Kind == KindSegment {
		done, err := p.fromAhead(ctx, n, to, id)
		if err != nil || done {
			return err
		}
	}
	if sys.ID == 0 {
		var err error
		if sys, err = p.a.systemFor(ctx, n, told); err != nil {
			return err
		}
	}
	f, err := p.a.openAny(ctx, sys, n)
	if err != nil {
		return err
	}
	defer f.obj.Close()
	copied := func(context.Context) error {
		if err := to.fill(f.copyTo); err != nil {
			return notMissing(fmt.Errorf("wal: fetch %s: %w", n, err))
		}
		return nil
	}
	if n.Kind != KindSegment {
		return copied(ctx)
	}
	seg, err := n.Segment(sys.SegmentSize)
	if err != nil {
		return err
	}
	if !p.batch {
		p.goOn(sys, seg)
		return copied(ctx)
	}
	l := limits{jobs: p.jobs + 1, time: 10 * time.Second, now: p.a.repo.Now}
	_, err = beside(ctx, l, copied, int(p.ahead(seg.Size)), func(ctx context.Context, i int) bool { //nolint:gosec // a small number
		next := seg
		next.Number += uint64(i) + 1
		return p.bring(ctx, sys, next)
	})
	return err
}

// fromAhead fetches what is, or is about to be, there already of a cluster.
func (p *Prefetcher) fromAhead(ctx context.Context, n Name, to destination, id uint64) (done bool, err error) {
	p.mu.Lock()
	closed := p.closed
	var flight chan struct{}
	if p.last.Size != 0 {
		if seg, err := n.Segment(p.last.Size); err == nil {
			flight = p.flights[seg]
			if seg.Timeline == p.last.Timeline && seg.Number > p.last.Number {
				p.last = seg // from here on nobody else brings it
			}
		}
	}
	p.mu.Unlock()
	if closed {
		return false, fmt.Errorf("wal: fetch %s: the prefetcher: %w", n, fs.ErrClosed)
	}
	if flight != nil {
		select {
		case <-flight:
		case <-ctx.Done():
			return false, fmt.Errorf("wal: fetch %s: %w", n, ctx.Err())
		}
	}
	f, ok := p.dir.find(n, id)
	if !ok {
		return false, nil
	}
	defer f.Close()
	err = to.take(f)
	if errors.Is(err, errTaken) {
		return false, nil
	}
	if err != nil {
		return false, notMissing(fmt.Errorf("wal: fetch %s: %w", n, err))
	}
	if !p.batch {
		p.goOn(f.system, f.segment)
	}
	return true, nil
}

// ahead is how many segments of that size are fetched ahead.
func (p *Prefetcher) ahead(size uint32) uint64 {
	return min(p.count, uint64(p.dir.bytes)/uint64(size)) //nolint:gosec // it is positive
}

// goOn fetches what follows a segment, beside the caller.
func (p *Prefetcher) goOn(sys System, seg Segment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.system, p.last, p.stop = sys, seg, seg.Number+p.ahead(seg.Size)+1
	for running := len(p.flights); running < p.jobs; running++ {
		next, flight, ok := p.begin()
		if !ok {
			return
		}
		p.group.Go(func() { p.work(sys, next, flight) })
	}
}

// work brings a segment, and then those that nobody else is bringing.
func (p *Prefetcher) work(sys System, seg Segment, flight chan struct{}) {
	for ok := true; ok; {
		goOn := p.bring(p.ctx, sys, seg)
		p.mu.Lock()
		close(flight)
		delete(p.flights, seg)
		if !goOn && seg.On(p.last.Timeline) == seg {
			p.stop = min(p.stop, seg.Number)
		}
		seg, flight, ok = p.begin()
		sys = p.system
		p.mu.Unlock()
	}
}

// begin chooses the next segment to bring. p.mu is held.
func (p *Prefetcher) begin() (seg Segment, flight chan struct{}, ok bool) {
	if p.closed {
		return seg, nil, false
	}
	there := p.dir.names()
	for seg = p.last.Next(); seg.Number < p.stop; seg = seg.Next() {
		n, err := ParseName(seg.Name())
		if err != nil || p.flights[seg] != nil || there[n.String()] {
			continue
		}
		flight = make(chan struct{})
		p.flights[seg] = flight
		return seg, flight, true
	}
	return seg, nil, false
}

// bring fetches a segment ahead. It returns false where there is no use to go on with the next.
func (p *Prefetcher) bring(ctx context.Context, sys System, seg Segment) bool {
	n, err := ParseName(seg.Name())
	if err != nil {
		return false // past the end of all WAL
	}
	if p.dir.names()[n.String()] {
		return true
	}
	f, err := p.a.open(ctx, sys, n) // and nothing that is not whole yet
	if err == nil {
		err = p.dir.put(f, int64(seg.Size))
		_ = f.obj.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil {
		p.a.log.WarnContext(ctx, "cannot fetch a segment ahead", "segment", seg.Name(), "error", err)
	}
	return err == nil
}
