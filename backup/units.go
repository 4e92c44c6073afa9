package backup

import (
	"context"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// unitSize is how many bytes of files a worker takes at a time: much enough to read in sequence, little enough that
// the workers finish together.
const unitSize = 8 << 20

// maxPageSize is the largest page that a server can be built with, in bytes.
const maxPageSize = 32 << 10

// growth is how much further than its listed size a file that is no relation is read, since it may have been replaced
// by a larger one. What a relation has grown by is in the WAL.
const growth = 1 << 20

// units cuts the work into tasks: first what the WAL does not have by blocks, then relations. Where killed backups have
// left something, it is known first what has to be stored.
func (c *collector) units(ctx context.Context, tasks chan<- task) error {
	if c.diff.hasLeft() {
		if err := c.settle(ctx, tasks); err != nil {
			return err
		}
	}
	for _, isLogged := range []bool{false, true} {
		u := &unit{ctx: ctx, tasks: tasks, task: task{logged: isLogged}, room: unitSize}
		if err := u.frames(c, isLogged); err != nil {
			return err
		}
		for i, e := range c.entries {
			if _, ok := logged(e.Path); ok != isLogged {
				continue
			}
			for _, x := range c.work.read[i] {
				if err := u.file(i, e, x); err != nil {
					return err
				}
			}
		}
		if err := u.send(); err != nil {
			return err
		}
	}
	return nil
}

// settle has the frames of the base compared, and waits for that: pages of relations that differ are put off, since frames
// that were left may hold them.
func (c *collector) settle(ctx context.Context, tasks chan<- task) error {
	c.diff.later = map[int][]extent{}
	var pending atomic.Int64
	pending.Store(1) // this
	settled := make(chan struct{})
	done := func() {
		if pending.Add(-1) == 0 {
			close(settled)
		}
	}
	for _, isLogged := range []bool{false, true} {
		u := &unit{ctx: ctx, tasks: tasks, task: task{logged: isLogged}, room: unitSize}
		u.before = func(t *task) {
			pending.Add(1)
			t.release = done
		}
		if err := u.frames(c, isLogged); err != nil {
			return err
		}
		if err := u.send(); err != nil {
			return err
		}
	}
	done()
	select {
	case <-settled:
	case <-ctx.Done(): // when a worker has failed, too
		return ctx.Err()
	}
	c.diff.takeLeft(c.entries, &c.work)
	return nil
}

// frameLogged tells of which kind the files of a frame are, by the first that is there.
func (c *collector) frameLogged(pieces []Piece) bool {
	for _, p := range pieces {
		if k := c.diff.entryOf(p); k != gone {
			_, ok := logged(c.entries[k].Path)
			return ok
		}
	}
	return false
}

// unit gathers a task.
type unit struct {
	ctx    context.Context //nolint:containedctx // of one call
	tasks  chan<- task
	task   task
	room   int64       // bytes
	before func(*task) // when set, is called before a task is sent
}

// frames adds the frames that are to be compared of a kind.
func (u *unit) frames(c *collector, isLogged bool) error {
	for _, f := range c.work.compare {
		p := &c.diff.packs[f.pack]
		if c.frameLogged(p.Pieces[f.frame]) != isLogged {
			continue
		}
		u.task.frames = append(u.task.frames, f)
		if err := u.took(int64(p.Frames[f.frame].Raw)); err != nil {
			return err
		}
	}
	return nil
}

// file adds a part of a file.
func (u *unit) file(i int, e Entry, x extent) error {
	end := max(x.from, min(x.to, e.Size))
	extra := int64(0)
	if _, ok := pgfile.ParseRelation(e.Path); !ok && x.to == toEnd {
		extra = growth
	}
	if end+extra == x.from && x.from > 0 { // else an empty file is there all the same
		return nil
	}
	for off := x.from; ; {
		// Cut between pages, whatever their size.
		n := min((u.room+maxPageSize-1)/maxPageSize*maxPageSize, end-off)
		last := off+n == end
		s := span{file: i, off: off, n: n}
		if last {
			s.n += extra
		}
		u.task.spans = append(u.task.spans, s)
		off += n
		// A file costs an open besides its bytes.
		if err := u.took(n + 4096); err != nil {
			return err
		}
		if last {
			return nil
		}
	}
}

// took counts bytes of work, and sends the task when it is enough.
func (u *unit) took(n int64) error {
	if u.room -= n; u.room > 0 {
		return nil
	}
	return u.send()
}

func (u *unit) send() error {
	if len(u.task.spans)+len(u.task.frames) == 0 {
		return nil
	}
	if u.before != nil {
		u.before(&u.task)
	}
	select {
	case u.tasks <- u.task:
		u.task, u.room = task{logged: u.task.logged}, unitSize
		return nil
	case <-u.ctx.Done():
		return u.ctx.Err()
	}
}
