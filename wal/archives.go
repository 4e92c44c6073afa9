package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Member is one of the archives of [Archives].
type Member struct {
	// Name says in errors and logs which one it is, such as where its repository is. No credentials belong in it.
	Name string

	// Open opens the archive, and is called again until it succeeds: that the one repository is out of reach is no reason
	// not to use the other. What is opened is kept. Its error is never taken for an answer that a file is missing. Where
	// the archive is open already, Open returns it.
	Open func(ctx context.Context) (*Archive, error)
}

// ArchivesOptions are the options of [NewArchives]. A nil *ArchivesOptions, and the zero value of each field, is its
// default.
type ArchivesOptions struct {
	// Patience is how long one archive is waited for, while something is read, before the next is asked beside it. The
	// default is 5 seconds. It is not waited for where an archive has answered.
	Patience time.Duration

	// Durable is how many of the archives a file has to be durable in before a push of it succeeds. The default is all.
	// With fewer, a loss of those that have it while others lag loses it, so [Archives.Heal] should be called now and then.
	Durable int

	// Lag is for how long a push waits for the others, once the file is durable in enough of them. Then they are left to
	// lag. The default is 5 seconds; a negative one is not to wait.
	Lag time.Duration

	// Logger is told of archives that fail while another serves. The default discards.
	Logger *slog.Logger
}

// Archives are the WAL archives that one cluster has in several repositories, in the order in which they are asked. It is
// safe for concurrent use.
//
// An archive that hangs, and does not come back even when its context ends (a network file system without its server),
// is left behind after a moment: the call returns without it, and Close waits for it. With stores that keep what
// [repo.Store] promises, nothing outlives a call.
type Archives struct {
	members  []*member
	patience time.Duration
	durable  int
	lag      time.Duration
	log      *slog.Logger
	left     sync.WaitGroup // calls on members, those that were left behind among them
}

// NewArchives joins archives. Nothing is opened yet.
func NewArchives(members []Member, o *ArchivesOptions) (*Archives, error) {
	if len(members) == 0 {
		return nil, errors.New("wal: no archive given")
	}
	if o == nil {
		o = &ArchivesOptions{}
	}
	s := &Archives{patience: o.Patience, durable: o.Durable, lag: o.Lag, log: o.Logger}
	if s.durable < 0 || s.durable > len(members) {
		return nil, fmt.Errorf("wal: to be durable in %d of %d archives makes no sense", s.durable, len(members))
	}
	if s.durable == 0 {
		s.durable = len(members)
	}
	if s.lag == 0 {
		s.lag = 5 * time.Second
	}
	if s.patience <= 0 {
		s.patience = 5 * time.Second
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	for i, m := range members {
		if m.Open == nil {
			return nil, fmt.Errorf("wal: archive %d of %d cannot be opened: no Open given", i+1, len(members))
		}
		if m.Name == "" {
			m.Name = fmt.Sprintf("repository %d", i+1)
		}
		s.members = append(s.members, &member{Member: m, opening: make(chan struct{}, 1)})
	}
	return s, nil
}

// Close waits for calls that were left behind. It need not be called by a process that ends.
func (s *Archives) Close() error {
	s.left.Wait()
	return nil
}

// member is a Member, and what is known of it.
type member struct {
	Member
	opening chan struct{} // whoever has put something in may use what is below; waiting for it can be given up
	archive *Archive      // nil before it is open

	mu    sync.Mutex
	spare int // for so many questions more, the others are asked first: it has failed, or kept somebody waiting
}

// open opens the archive, or returns the one that is open.
func (m *member) open(ctx context.Context) (*Archive, error) {
	select {
	case m.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-m.opening }()
	if m.archive == nil {
		a, err := m.Open(ctx)
		if err == nil && a == nil {
			err = errors.New("wal: no archive")
		}
		if err != nil {
			return nil, &outage{err}
		}
		m.archive = a
	}
	return m.archive, nil
}

// together is several errors in one line.
type together []error

func (e together) Error() string {
	var texts []string
	for _, err := range e {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (e together) Unwrap() []error { return e }

// errLags is what comes of an archive that was not waited for any longer.
var errLags = errors.New("wal: it lags behind, and was not waited for")

// outage is an error that says nothing about whether a file exists, whatever is inside.
type outage struct{ err error }

func (e *outage) Error() string { return e.err.Error() }

func (e *outage) Is(target error) bool { return target != fs.ErrNotExist && errors.Is(e.err, target) }

func (e *outage) As(target any) bool { return errors.As(e.err, target) }
