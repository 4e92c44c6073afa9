package backup

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/internal/pace"
	"github.com/pgcairn/pgcairn/internal/speed"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// copier is a copy in progress.
type copier struct {
	from, to *repo.Repo
	options  CopyOptions
	log      *slog.Logger
	pace     *pace.Pacer
	lease    *repo.Lease

	wal     *wal.Copier
	begins  []wal.CopyFrom // the WAL that is to be copied
	files   []wal.Stored   // of that, what is lacking
	done    int            // of files
	checked map[timelineOf]bool
	folders map[ID]map[string]int64 // sizes of the packs that the other repository has, by the backup in their keys
	sizes   copySizes
	keys    copyKeys

	mu       sync.Mutex              // of what is below
	problems map[string]*CopyProblem // by key
	skipped  []wal.Stored            // segments that were gone when they were to be copied

	read, total, objects, segments atomic.Int64
	gone                           atomic.Bool // are pieces that were to be copied
	now                            atomic.Pointer[copyPhase]
	speed                          speed.Meter
	result                         CopyResult
}

type copyPhase struct {
	name   string
	backup ID
}

type timelineOf struct {
	system uint64
	t      wal.Timeline
}

// watch has the work done, and shows progress meanwhile.
func (c *copier) watch(ctx context.Context, l *repo.Lease) error {
	c.lease = l
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := make(chan error, 1)
	c.progress()
	go func() { result <- c.run(ctx) }()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-result:
			c.progress()
			return err
		case <-tick.C:
			c.progress()
		}
	}
}

func (c *copier) progress() {
	if c.options.Progress == nil {
		return
	}
	now := c.now.Load()
	p := CopyProgress{Phase: now.name, Backup: now.backup, Bytes: c.read.Load(), Objects: int(c.objects.Load())}
	p.Total = max(p.Bytes, c.total.Load())
	p.Rate, p.Remaining = c.speed.Measure(c.from.Now(), p.Bytes, p.Total)
	c.options.Progress(p)
}

func (c *copier) finish() (*CopyResult, error) {
	r := &c.result
	r.Segments, r.Objects, r.Bytes = int(c.segments.Load()), int(c.objects.Load()), c.read.Load()
	for _, p := range c.problems {
		r.Problems = append(r.Problems, *p)
	}
	slices.SortFunc(r.Problems, func(a, b CopyProblem) int { return strings.Compare(a.Key, b.Key) })
	if len(r.Problems) > 0 {
		return r, &CopyError{Problems: r.Problems}
	}
	return r, nil
}

// run copies all that is to be copied, while retention at the source can see that the oldest of it is in use: so all WAL
// from there on stays, but what a policy gives up for backups that it keeps.
func (c *copier) run(ctx context.Context) error {
	ids, oldest, err := c.choose(ctx)
	if err != nil {
		return err
	}
	if oldest == "" {
		return c.copyAll(ctx, ids)
	}
	return Use(ctx, c.from, oldest, func(ctx context.Context) error { return c.copyAll(ctx, ids) })
}

func (c *copier) copyAll(ctx context.Context, ids []ID) error {
	if err := c.begin(ctx, ids); err != nil {
		return err
	}
	if err := c.listWAL(ctx); err != nil {
		return err
	}
	if err := c.wal.Claim(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		c.now.Store(&copyPhase{name: "backups", backup: id})
		if err := c.copyBackup(ctx, id); err != nil {
			return err
		}
	}
	c.now.Store(&copyPhase{name: "wal"})
	// What has come while backups were copied is the newest there is. And pieces go when their segment comes.
	again := c.objects.Load() > 0
	for range relistings {
		if again {
			if err := c.listWAL(ctx); err != nil {
				return err
			}
		}
		c.gone.Store(false)
		if err := c.copyWAL(ctx, len(c.files)); err != nil {
			return err
		}
		if again = c.gone.Load(); !again {
			break
		}
	}
	c.wal.Sweep(ctx)
	return c.holes()
}

// relistings bounds how often the WAL is listed because pieces of it went.
const relistings = 3

// choose returns the backups that are to be copied, oldest first, and the oldest of those that were asked for, copied
// already or not, that the source has.
func (c *copier) choose(ctx context.Context) (ids []ID, oldest ID, err error) {
	here, strange, err := manifestsOf(ctx, c.from)
	if err != nil {
		return nil, "", err
	}
	there, _, err := manifestsOf(ctx, c.to)
	if err != nil {
		return nil, "", err
	}
	c.keys.listed = there
	if len(c.options.Backups) == 0 {
		for _, err := range strange {
			if err := c.excuse("", err, ""); err != nil {
				return nil, "", err
			}
		}
	}
	wanted := here
	if len(c.options.Backups) > 0 {
		wanted = slices.Compact(slices.Sorted(slices.Values(c.options.Backups)))
	}
	for _, id := range wanted {
		_, has := slices.BinarySearch(there, id)
		_, have := slices.BinarySearch(here, id)
		if have && oldest == "" {
			oldest = id
		}
		switch {
		case has:
			c.result.Present = append(c.result.Present, id)
		case !have:
			return nil, "", fmt.Errorf("backup: copy: there is no backup %s: %w", id, fs.ErrNotExist)
		default:
			ids = append(ids, id)
		}
	}
	return ids, oldest, nil
}

// manifestsOf lists the backups of a repository, in ascending order, and what is among them that is none.
func manifestsOf(ctx context.Context, r *repo.Repo) (ids []ID, strange []error, err error) {
	for info, err := range r.Store().List(ctx, manifests) {
		if err != nil {
			return nil, nil, fmt.Errorf("backup: list backups: %w", err)
		}
		id, err := ParseID(strings.TrimPrefix(info.Key, manifests))
		if err != nil {
			strange = append(strange, &repo.CorruptError{Key: info.Key, Err: err})
			continue
		}
		ids = append(ids, id)
	}
	return ids, strange, nil
}
