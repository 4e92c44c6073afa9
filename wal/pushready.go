package wal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// ReadyOptions are the options of [Archive.PushReady] and [Archive.PushAsked]. A nil *ReadyOptions, and the zero value
// of each field, is its default.
type ReadyOptions struct {
	// Jobs is how many files are archived at a time, 8 by default. Each takes the memory of [repo.Repo.Put] and what
	// the store buffers: for segments of 16 MiB about 10 MiB, and 35 MiB where they do not compress.
	Jobs int

	// Files is how many neighbours one call archives at most, besides the file asked for. The default is 64, as many as
	// PostgreSQL plans ahead (NUM_FILES_PER_DIRECTORY_SCAN of pgarch.c).
	Files int

	// Time is after how long a call begins no further neighbour, 10 seconds by default: PostgreSQL waits for an
	// archive_command, also when it shuts down.
	Time time.Duration
}

func (o *ReadyOptions) limits(a *Archive) (l limits, files int) {
	if o == nil {
		o = &ReadyOptions{}
	}
	l, files = limits{jobs: o.Jobs, time: o.Time, now: a.repo.Now}, o.Files
	if l.jobs <= 0 {
		l.jobs = 8
	}
	if l.time <= 0 {
		l.time = 10 * time.Second
	}
	if files <= 0 {
		files = 64
	}
	return l, files
}

// Pushed tells what a call has archived.
type Pushed struct {
	// Files are those it has tried, in the order of PostgreSQL's need, the one asked for first.
	Files []PushedFile `json:"files"`
	// Left is how many files that were ready are left for later calls.
	Left int `json:"left"`
}

// PushedFile is what came of one file.
type PushedFile struct {
	Name string `json:"name"`
	// Remembered means that an earlier call archived just this content, and that the store was not asked again.
	Remembered bool `json:"remembered,omitempty"`
	// Err is nil when the file is durable in the repository; else it is as with [Archive.Push].
	Err error `json:"-"`
}

// PushReady archives the files that PostgreSQL has marked as ready in pg_wal/archive_status of a data directory: in its
// order of need (histories first, then by name, see pgarch.c), several at a time, as many as the options allow. It
// changes nothing in the data directory.
//
// What has become durable is remembered in the state directory (see [Options]), so that [Archive.Push] of that file
// returns at once when PostgreSQL calls for it: without reading it where the file system tells that it has not changed
// since, and else when its digest is the same. A mark is used once; those that PostgreSQL will not ask for
// are dropped by the next call.
//
// The error is that of the first file, in order of need, that could not be archived. Pushed is never nil, and has those
// of all; they are also logged. A file that is gone is no failure: PostgreSQL forgets about those too. After a failure
// that is not the file's own no other is begun.
func (a *Archive) PushReady(ctx context.Context, pgdata string, o *ReadyOptions) (*Pushed, error) {
	l, files := o.limits(a)
	p, err := a.pushNeighbours(ctx, pgdata, nil, l, files)
	if err != nil {
		return p, err
	}
	for _, f := range p.Files {
		if f.Err != nil && !errors.Is(f.Err, fs.ErrNotExist) {
			return p, f.Err
		}
	}
	if err := ctx.Err(); err != nil {
		return p, fmt.Errorf("wal: push what is ready: %w", err)
	}
	return p, nil
}

// PushAsked is [Archive.Push] for an archive_command, which hands over %p: it archives the file at path, and when that
// lies in a pg_wal with a backlog, the other ready files beside it, as [Archive.PushReady] does. So one call clears a
// backlog, and the next ones return at once.
//
// The file asked for decides the error; what happens to its neighbours is in Pushed, which is never nil, and logged.
func (a *Archive) PushAsked(ctx context.Context, path string, o *ReadyOptions) (*Pushed, error) {
	f, err := openFile(path)
	if err != nil {
		return &Pushed{Files: []PushedFile{{Name: filepath.Base(path), Err: err}}}, err
	}
	defer f.Close()
	pgdata, _ := dataDirectory(path)
	return a.pushAsked(ctx, f, pgdata, o)
}

// pushAsked archives an open file and, unless pgdata is empty, what is ready beside it.
func (a *Archive) pushAsked(ctx context.Context, f *walFile, pgdata string, o *ReadyOptions) (*Pushed, error) {
	if a.marks.holds(f) {
		a.marks.remove(f.name)
		return &Pushed{Files: []PushedFile{{Name: f.name.String(), Remembered: true}}}, nil
	}
	l, files := o.limits(a)
	if pgdata == "" {
		_, err := a.pushFile(ctx, f)
		return &Pushed{Files: []PushedFile{{Name: f.name.String(), Err: err}}}, err
	}
	return a.pushNeighbours(ctx, pgdata, f, l, files)
}

// pushNeighbours archives what is ready in pgdata, beside the file asked for, if there is one, whose error it returns.
func (a *Archive) pushNeighbours(ctx context.Context, pgdata string, asked *walFile, l limits, files int) (*Pushed, error) {
	p := &Pushed{}
	var first func(context.Context) error
	except := ""
	if asked != nil {
		except = asked.name.String()
		first = func(ctx context.Context) error {
			_, err := a.pushFile(ctx, asked)
			return err
		}
	}
	ready, total, err := readyFiles(pgdata, files, except)
	if err != nil {
		if asked == nil {
			return p, err
		}
		a.log.WarnContext(ctx, "cannot tell what else is to be archived", "error", err)
	}
	a.marks.sweep(statusDir(pgdata))
	if dir := aheadIn(a.state); dir != "" {
		aheadDir{dir: dir, now: a.repo.Now}.sweep() // a standby that was promoted has left it
	}
	tried := make([]PushedFile, len(ready))
	begun, err := beside(ctx, l, first, len(ready), func(ctx context.Context, i int) bool {
		tried[i] = a.pushNeighbour(ctx, pgdata, ready[i])
		return tried[i].Err == nil || ownFault(tried[i].Err)
	})
	if asked != nil {
		p.Files = append(p.Files, PushedFile{Name: except, Err: err})
	}
	p.Files = append(p.Files, tried[:begun]...)
	p.Left = total - begun
	return p, err
}

// pushNeighbour archives a file that nobody has asked for yet, and remembers it.
func (a *Archive) pushNeighbour(ctx context.Context, pgdata string, n Name) PushedFile {
	result := PushedFile{Name: n.String()}
	begun := a.repo.Now()
	f, err := openFile(filepath.Join(walDir(pgdata), n.String()))
	if err == nil {
		defer f.Close()
		if a.marks.holds(f) {
			result.Remembered = true
			return result
		}
		state := f.state()
		var d digest
		if d, err = a.pushFile(ctx, f); err == nil {
			if err := a.marks.write(f, d, f.unchanged(state, begun)); err != nil {
				a.log.WarnContext(ctx, "cannot remember what is archived: it will be compared with the archive", "file", n.String(), "error", err)
			}
			return result
		}
	}
	if ctx.Err() == nil {
		a.log.WarnContext(ctx, "cannot archive a file ahead", "file", n.String(), "error", err)
	}
	result.Err = err
	return result
}

// ownFault tells whether a file could not be archived for what it is, so that another may be.
func ownFault(err error) bool {
	var conflict *ConflictError
	var foreign *ForeignError
	var segment *SegmentError
	return errors.As(err, &conflict) || errors.As(err, &foreign) || errors.As(err, &segment) || errors.Is(err, fs.ErrNotExist)
}
