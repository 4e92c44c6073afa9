package backup

import (
	"context"
	"errors"
	"iter"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/wal"
)

// shared is one backup on a server that several repositories take.
type shared struct {
	ctx      context.Context //nolint:containedctx // of the backup on the server, which no repository's end cancels
	source   Source
	patience time.Duration

	begin   sync.Once
	session Session
	err     error

	list    sync.Once
	entries []Entry
	listErr error

	catalog    sync.Once
	names      *Catalog
	catalogErr error

	blocks *blockCache
	ranged atomic.Bool // contents are RangeReaders

	mu      sync.Mutex
	members map[int]*sharer      // that have not come to their end
	files   map[string]*openFile // that are open
	opened  map[string][]int     // and were, and who is to have them for open as well, once
	reading sync.RWMutex         // held for writing while the server's session stops
	stopper sync.Once
	ready   chan struct{} // closed when all that are left want to stop
	stop    Stop
	stopErr error
}

func newShared(ctx context.Context, s Source, patience time.Duration, whole bool) *shared {
	return &shared{
		ctx: ctx, source: s, patience: patience, blocks: newBlockCache(ctx, patience, whole),
		members: map[int]*sharer{}, files: map[string]*openFile{}, opened: map[string][]int{}, ready: make(chan struct{}),
	}
}

// join makes a member. drop cancels ctx, which is that of its backup.
func (a *shared) join(number int, ctx context.Context, drop context.CancelCauseFunc) *sharer { //nolint:revive // ctx belongs to drop
	m := &sharer{all: a, number: number, ctx: ctx, drop: drop}
	a.members[number] = m
	a.blocks.join(number)
	return m
}

// leave is the end of a member, whatever it was.
func (a *shared) leave(number int) {
	a.blocks.leave(number)
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.members, number)
	a.check()
	if len(a.members) == 0 && a.session != nil {
		_ = a.session.Close()
	}
}

// check tells those that want to stop when nobody else reads any more. a.mu is held.
func (a *shared) check() {
	for _, m := range a.members {
		if !m.stopping {
			return
		}
	}
	select {
	case <-a.ready:
	default:
		close(a.ready)
	}
}

// dropOthers drops those that do not want to stop yet.
func (a *shared) dropOthers() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for number, m := range a.members {
		if !m.stopping {
			m.drop(errDropped)
			delete(a.members, number)
		}
	}
	a.check()
}

// dropped tells whether a member is, or has come to its end.
func (a *shared) dropped(number int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, there := a.members[number]
	return !there
}

// sharer is what one repository's backup sees of the server. It is a Source, and the Session that it begins.
type sharer struct {
	all      *shared
	number   int
	ctx      context.Context //nolint:containedctx // of its backup
	drop     context.CancelCauseFunc
	stopping bool // all.mu is held
}

// Begin implements Source.
func (m *sharer) Begin(_ context.Context, o BeginOptions) (Session, error) {
	a := m.all
	if a.dropped(m.number) {
		return nil, errDropped
	}
	a.begin.Do(func() {
		session, err := a.source.Begin(a.ctx, o)
		if err == nil {
			if _, ok := session.(Lister); !ok {
				err = errors.Join(errors.New("backup: the server sends files in its own order, which can feed one repository only: use another source"), session.Close())
				session = nil
			}
		}
		a.mu.Lock()
		a.session, a.err = session, err
		a.mu.Unlock()
	})
	if a.err != nil {
		return nil, a.err
	}
	return m, nil
}

// Start implements Session.
func (m *sharer) Start() Start { return m.all.session.Start() }

// Files implements Lister. The server is asked once.
func (m *sharer) Files(context.Context) iter.Seq2[Entry, error] {
	a := m.all
	a.list.Do(func() {
		lister, _ := a.session.(Lister) // as Begin has seen
		for e, err := range lister.Files(a.ctx) {
			if err != nil {
				a.listErr = err
				return
			}
			a.entries = append(a.entries, e)
		}
	})
	return func(yield func(Entry, error) bool) {
		for _, e := range a.entries {
			if !yield(e, nil) {
				return
			}
		}
		if a.listErr != nil {
			yield(Entry{}, a.listErr)
		}
	}
}

// Catalog implements Cataloger. The server is asked once.
func (m *sharer) Catalog(context.Context) (*Catalog, error) {
	a := m.all
	a.catalog.Do(func() {
		if s, ok := a.session.(Cataloger); ok {
			a.names, a.catalogErr = s.Catalog(a.ctx)
		}
	})
	return a.names, a.catalogErr
}

// Summaries implements Summarizer.
func (m *sharer) Summaries(_ context.Context, t wal.Timeline, from, to wal.LSN) (*wal.Blocks, error) {
	if s, ok := m.all.session.(Summarizer); ok {
		return s.Summaries(m.all.ctx, t, from, to) // whose end closes the connection that holds the backup for all
	}
	return nil, errors.New("backup: the server keeps no summaries of its WAL")
}

// Replayed implements Replayer. Where the server is, is not known of one that does not replay.
func (m *sharer) Replayed(context.Context) (Replay, error) {
	if s, ok := m.all.session.(Replayer); ok {
		return s.Replayed(m.all.ctx) // as with Summaries
	}
	return Replay{LSN: math.MaxUint64}, nil
}

// connections implements connected.
func (m *sharer) connections() int { return connections(m.all.session) }

// Open implements Session.
func (m *sharer) Open(_ context.Context, path string) (Content, error) {
	c := &sharedContent{m: m, path: path}
	if !m.all.wasOpen(path, m) {
		if err := c.open(); err != nil {
			return nil, err
		}
	}
	if m.all.ranged.Load() {
		return sharedRanges{c}, nil
	}
	return c, nil
}

// Stop implements Session: once all want to stop, or have kept the others waiting for too long.
func (m *sharer) Stop(ctx context.Context) (Stop, error) {
	a := m.all
	a.mu.Lock()
	m.stopping = true
	a.check()
	a.mu.Unlock()
	a.blocks.leave(m.number) // what it reads from here on, it reads anew
	late := time.NewTimer(a.patience)
	defer late.Stop()
	select {
	case <-a.ready:
	case <-late.C:
		a.dropOthers()
	case <-ctx.Done():
		return Stop{}, ctx.Err()
	}
	a.stopper.Do(func() {
		a.reading.Lock()
		defer a.reading.Unlock()
		a.stop, a.stopErr = a.session.Stop(a.ctx)
	})
	return a.stop, a.stopErr
}

// Close implements Session. The server's is closed when the last has come to its end.
func (m *sharer) Close() error { return nil }
