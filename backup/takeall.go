package backup

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/repo"
)

// AllOptions are the options of [TakeAll]. A nil *AllOptions, and the zero value of each field, is its default.
type AllOptions struct {
	// Options are those of each backup. Progress is told of the first repository's.
	Options

	// Enough is in how many repositories the backup has to be for TakeAll to succeed. The default is all.
	Enough int

	// Patience is how long one repository may hold up the others: when they wait for it before the backup ends on the
	// server, it is dropped, and while files are read, nothing more is kept for it, so that it reads by itself. The default
	// is 5 minutes.
	Patience time.Duration
}

// Taken is the backup in one of several repositories.
type Taken struct {
	Manifest *Manifest
	Err      error // as with [Take]
}

// errDropped is that a repository held up the others.
var errDropped = errors.New("backup: this repository held up the others, and was dropped")

// TakeAll is [Take] into several repositories from one backup of the server. Each has its own lease, parent, plan and
// keys, and fails by itself: what it fails with is in its result, and the others finish.
//
// What they all need is read once for all: what one reads is kept for the others, up to 64 MiB, and the faster wait for the
// slower. Of differences, which are of what each lacks, that is what their parents have in common; they have it all when
// each repository has had the same backups. The WAL that a backup needs is read for each, pages are checked and frames
// compressed for each. A source that sends files in its own order ([Streamer]) can feed only one.
//
// The results are those of the repositories, in their order. The error is nil when there are enough backups.
func TakeAll(ctx context.Context, repos []*repo.Repo, s Source, o *AllOptions) ([]Taken, error) {
	if o == nil {
		o = &AllOptions{}
	}
	if len(repos) == 0 || o.Enough < 0 || o.Enough > len(repos) {
		return nil, fmt.Errorf("backup: %d of %d repositories make no sense", o.Enough, len(repos))
	}
	patience, enough := o.Patience, o.Enough
	if patience <= 0 {
		patience = 5 * time.Minute
	}
	if enough == 0 {
		enough = len(repos)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := newShared(ctx, s, patience, o.Type == "" || o.Type == Full)
	taken := make([]Taken, len(repos))
	var group sync.WaitGroup
	members := make([]*sharer, len(repos))
	for i := range repos {
		tctx, drop := context.WithCancelCause(ctx)
		defer drop(nil)
		members[i] = all.join(i, tctx, drop)
	}
	for i, r := range repos {
		m, options := members[i], o.Options
		if i > 0 {
			options.Progress = nil
		}
		group.Go(func() {
			defer all.leave(i)
			taken[i].Manifest, taken[i].Err = Take(m.ctx, r, m, &options)
			if err := taken[i].Err; err != nil && errors.Is(context.Cause(m.ctx), errDropped) {
				taken[i].Err = fmt.Errorf("%w: %w", errDropped, err)
			}
		})
	}
	group.Wait()
	good := 0
	var failed []error
	for i, t := range taken {
		if t.Err == nil {
			good++
		} else {
			failed = append(failed, fmt.Errorf("repository %d of %d: %w", i+1, len(taken), t.Err))
		}
	}
	if good < enough {
		return taken, errors.Join(failed...)
	}
	return taken, nil
}
