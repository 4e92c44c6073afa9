package wal

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// ServeOptions are the options of [Serve]. A nil *ServeOptions, and the zero value of each field, is its default.
type ServeOptions struct {
	// Clients is how many requests are worked on at a time, 16 by default. Others wait.
	Clients int

	// PGData is the data directory of the cluster. With it, a push archives the ready files of its pg_wal besides, as
	// [Archive.PushReady] does. By default only the file asked for is archived. It also tells which cluster is meant
	// where a client does not (see [Archive.Fetch]).
	PGData string
	// Ready bounds that.
	Ready *ReadyOptions

	// Prefetch, unless nil, fetches what is asked for, and what follows. The caller closes it, after Serve has returned.
	Prefetch *Prefetcher

	// Grace is how long requests that are under way when ctx ends may still take, 10 seconds by default.
	Grace time.Duration
}

// requestTime is how long a client may take to make its request, or to take its answer.
const requestTime = 10 * time.Second

// past is a deadline that ends whatever waits.
var past = time.Unix(1, 0) //nolint:gochecknoglobals // a constant

// Serve archives and fetches for other processes of this host, each a [Client], until ctx ends. Then it closes the
// listener, lets requests that are under way end, and returns nil; nothing that it has started goes on. The listener is
// one of a Unix socket. Any other end is an error.
//
// Whoever can connect may archive WAL of the repository's cluster and read its archive, so the socket's permissions
// and those of its directory are the only guard: let nobody reach it but the user that PostgreSQL runs as, by
// a directory of mode 0700. That is all a client can do. It hands over open files and no paths: the server reads what
// the client could open for reading, writes into what the client could open for writing, and opens no file that a client
// names. Archived is only what [Archive.Push] would archive, and nothing that the archive holds is ever changed. A client
// can hold up the server with files on a file system that hangs.
func Serve(ctx context.Context, l net.Listener, a *Archive, o *ServeOptions) error {
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return fmt.Errorf("wal: serve on a %T: it takes a Unix socket", l)
	}
	if o == nil {
		o = &ServeOptions{}
	}
	s := &server{archive: a, o: o, slots: make(chan struct{}, 16)}
	if o.Clients > 0 {
		s.slots = make(chan struct{}, o.Clients)
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = unix.Close()
	})
	defer func() {
		if !stop() {
			<-closed
		}
	}()
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	err := s.accept(ctx, work, unix)
	_ = unix.Close()
	grace := o.Grace
	if grace <= 0 {
		grace = 10 * time.Second
	}
	defer time.AfterFunc(grace, giveUp).Stop()
	s.group.Wait()
	return err
}

// server is what the connections of one Serve have in common.
type server struct {
	archive *Archive
	o       *ServeOptions
	slots   chan struct{}
	group   sync.WaitGroup
	backlog sync.Mutex // held by the one that archives ahead
}

// Waits after a failure to accept, such as for want of descriptors, each twice the one before.
const (
	acceptWait  = 10 * time.Millisecond
	acceptTries = 10
)

func (s *server) accept(ctx, work context.Context, l *net.UnixListener) error {
	failed := 0
	for {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		conn, err := l.AcceptUnix()
		if err == nil {
			failed = 0
			s.group.Go(func() {
				defer func() { <-s.slots }()
				s.converse(ctx, work, conn)
			})
			continue
		}
		<-s.slots
		if ctx.Err() != nil {
			return nil //nolint:nilerr // closed for that
		}
		if failed++; failed == acceptTries || errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("wal: serve: %w", err)
		}
		s.archive.log.WarnContext(ctx, "cannot accept a connection", "error", err)
		select {
		case <-time.After(acceptWait << failed):
		case <-ctx.Done():
		}
	}
}
