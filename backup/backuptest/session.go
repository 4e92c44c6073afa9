package backuptest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/wal"
	"github.com/pgcairn/pgcairn/wal/waltest"
)

// Begin implements backup.Source.
func (c *Cluster) Begin(ctx context.Context, o backup.BeginOptions) (backup.Session, error) {
	if err := c.ask(ctx, Call{Op: OpBegin}); err != nil {
		return nil, err
	}
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	// A server begins a segment for a backup, as RequestXLogSwitch of do_pg_backup_start does, unless it has just begun one.
	if c.room() < 1<<10 || c.log != nil && c.at != c.segment(c.last[c.timeline]).Start()+firstRecord {
		c.nextSegment()
	}
	start, _ := c.append(waltest.Noop("a backup begins"))
	c.running++
	s := &session{c: c, timeline: c.timeline, start: backup.Start{
		SystemID: c.options.SystemID, PGVersion: c.options.PGVersion, Timeline: c.timeline, LSN: start, Time: now,
		PageSize: pageSize, RelSegPages: c.options.RelSegPages, WALSegmentSize: c.options.SegmentSize,
		Checksums: !c.options.NoChecksums, Tablespaces: slices.Clone(c.options.Tablespaces),
	}}
	s.label = fmt.Sprintf("START WAL LOCATION: %s (file %s)\nCHECKPOINT LOCATION: %s\nBACKUP METHOD: streamed\n"+
		"BACKUP FROM: primary\nSTART TIME: %s\nLABEL: %s\nSTART TIMELINE: %d\n", start,
		wal.SegmentAt(c.timeline, start, c.options.SegmentSize), start+56, now.UTC().Format("2006-01-02 15:04:05 MST"),
		o.Label, c.timeline)
	return s, nil
}

// ask has the hook decide about a call.
func (c *Cluster) ask(ctx context.Context, call Call) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.options.Hook != nil {
		return c.options.Hook(call)
	}
	return nil
}

// session is a backup in progress.
type session struct {
	c        *Cluster
	start    backup.Start
	timeline wal.Timeline
	label    string
	stopped  bool
	closed   atomic.Bool
}

func (s *session) Start() backup.Start { return s.start }

func (s *session) Files(ctx context.Context) iter.Seq2[backup.Entry, error] {
	return func(yield func(backup.Entry, error) bool) {
		if err := s.ask(ctx, Call{Op: OpFiles}); err != nil {
			yield(backup.Entry{}, err)
			return
		}
		for _, e := range s.c.entries() {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (s *session) ask(ctx context.Context, call Call) error {
	if s.closed.Load() {
		return errClosed
	}
	return s.c.ask(ctx, call)
}

// entries returns all directories and files, in the order of their paths.
func (c *Cluster) entries() []backup.Entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	dirs := map[string]bool{}
	for _, d := range directories() {
		dirs[d] = true
	}
	for _, t := range c.options.Tablespaces {
		dirs[fmt.Sprintf("pg_tblspc/%d", t.OID)] = true
	}
	var all []backup.Entry
	for p, f := range c.files {
		all = append(all, backup.Entry{Path: p, Size: int64(len(f.data))})
		for _, d := range parents(p) {
			dirs[d] = true
		}
	}
	for d := range dirs {
		all = append(all, backup.Entry{Path: d, Dir: true})
	}
	slices.SortFunc(all, func(a, b backup.Entry) int { return strings.Compare(a.Path, b.Path) })
	return all
}

func (s *session) Open(ctx context.Context, p string) (backup.Content, error) {
	if err := s.ask(ctx, Call{Op: OpOpen, Path: p}); err != nil {
		return nil, err
	}
	if name, ok := strings.CutPrefix(p, "pg_wal/"); ok {
		b, err := s.c.walFile(name)
		if err != nil {
			return nil, err
		}
		return &content{s: s, path: p, file: &file{data: b}}, nil
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	f := s.c.files[p]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
	}
	return &content{s: s, path: p, file: f}, nil
}

// Catalog implements backup.Cataloger.
func (s *session) Catalog(ctx context.Context) (*backup.Catalog, error) {
	if err := s.ask(ctx, Call{Op: OpCatalog}); err != nil {
		return nil, err
	}
	c := s.c.options.Catalog
	if c == nil {
		return nil, nil //nolint:nilnil // no names are no error
	}
	// A manifest keeps it.
	return &backup.Catalog{
		Version: c.Version, Settings: maps.Clone(c.Settings), Databases: slices.Clone(c.Databases), Relations: slices.Clone(c.Relations),
	}, nil
}

// content is an open file.
type content struct {
	s    *session
	path string
	file *file
}

func (f *content) ReadAt(b []byte, off int64) (int, error) {
	if err := f.s.ask(context.Background(), Call{Op: OpRead, Path: f.path, Off: off}); err != nil {
		return 0, err
	}
	f.s.c.mu.Lock()
	defer f.s.c.mu.Unlock()
	if off >= int64(len(f.file.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.file.data[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *content) Close() error { return nil }

func (s *session) Stop(ctx context.Context) (backup.Stop, error) {
	if err := s.ask(ctx, Call{Op: OpStop}); err != nil {
		return backup.Stop{}, err
	}
	now := s.c.Now()
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.end()
	_, stop := s.c.append(waltest.Noop("a backup ends"))
	s.c.nextSegment()
	return backup.Stop{
		LSN: stop, Time: now, Label: s.label, TablespaceMap: s.tablespaceMap(), Control: s.c.control(s.timeline, s.start.LSN, now),
	}, nil
}

// tablespaceMap is the content of tablespace_map.
func (s *session) tablespaceMap() string {
	var b strings.Builder
	for _, t := range s.start.Tablespaces {
		fmt.Fprintf(&b, "%d %s\n", t.OID, t.Location)
	}
	return b.String()
}

// end counts the backup off, once.
func (s *session) end() {
	if !s.stopped {
		s.stopped = true
		s.c.running--
	}
}

func (s *session) Close() error {
	s.closed.Store(true)
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.end()
	return nil
}

// control returns the content of pg_control.
func (c *Cluster) control(t wal.Timeline, redo wal.LSN, now time.Time) []byte {
	return controlFile(controlData{
		systemID: c.options.SystemID, major: c.options.PGVersion / 10000, timeline: uint32(t), redo: uint64(redo), at: now.Unix(),
		relSegPages: c.options.RelSegPages, segmentSize: c.options.SegmentSize, checksums: !c.options.NoChecksums,
	})
}
