package backup

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/wal"
)

// maxPagesTold is how many bad pages the log names. The manifest has all.
const maxPagesTold = 100

// judgePages drops pages from the list of bad ones that recovery makes anew. What is changed during a backup may have
// been read while it was written, and the WAL has an image of it, since a backup turns full_page_writes on. What is left
// is told.
func (t *taker) judgePages(ctx context.Context, s Session) error {
	m := &t.manifest
	if m.BadPages > 0 && len(t.collector.suspects) > 0 {
		anew, err := t.madeAnew(ctx, s)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			t.log.InfoContext(ctx, "whether recovery makes bad pages anew is not known for all of them", "reason", err)
		}
		m.BadPageList = slices.DeleteFunc(m.BadPageList, func(b BadPage) bool { return anew[b] })
		m.BadPages = len(m.BadPageList)
	}
	told := 0
	for p := range m.Damage() {
		if told == maxPagesTold {
			t.log.WarnContext(ctx, "more pages do not match their checksums", "pages", m.BadPages-told)
			break
		}
		told++
		t.log.WarnContext(ctx, "a page does not match its checksum", "path", p.Path, "block", p.Block,
			"relation", strings.TrimPrefix(p.Schema+"."+p.Relation, "."), "database", p.Database)
	}
	return nil
}

// madeAnew tells which suspects the WAL of the backup makes anew, as far as it can be read.
func (t *taker) madeAnew(ctx context.Context, s Session) (map[BadPage]bool, error) {
	type block struct {
		wal.File
		number uint32
	}
	open := map[block]BadPage{}
	for _, p := range t.collector.suspects {
		if r, ok := pgfile.ParseRelation(p.Path); ok {
			open[block{fileOf(r), p.Block}] = p.BadPage
		}
	}
	anew := map[BadPage]bool{}
	m := &t.manifest
	content := &serverWAL{ctx: ctx, session: s, next: m.FirstSegment(), last: m.LastSegment()}
	defer content.close()
	for r, err := range wal.Records(content, nil) {
		if errors.Is(err, wal.ErrEndOfWAL) || err == nil && r.LSN >= m.StopLSN || len(open) == 0 {
			break
		}
		if err != nil {
			return anew, err
		}
		for _, b := range r.Blocks {
			at := block{wal.File{Relation: b.Relation, Fork: b.Fork}, b.Block}
			if p, ok := open[at]; ok && r.LSN >= m.StartLSN && (b.Image || b.WillInit) {
				anew[p] = true
				delete(open, at)
			}
		}
	}
	return anew, nil
}

// serverWAL reads segments that the server has, one behind the other.
type serverWAL struct {
	ctx        context.Context //nolint:containedctx // of one call
	session    Session
	next, last wal.Segment
	content    Content // nil when none is open
	rest       io.Reader
}

func (w *serverWAL) Read(p []byte) (int, error) {
	for {
		if w.content == nil {
			if w.next.Number > w.last.Number {
				return 0, io.EOF
			}
			c, err := w.session.Open(w.ctx, "pg_wal/"+w.next.Name())
			if err != nil {
				return 0, err
			}
			w.content, w.rest = c, wholeSegment(c, w.next)
		}
		n, err := w.rest.Read(p)
		if n > 0 || !errors.Is(err, io.EOF) {
			return n, err
		}
		w.close()
		w.next = w.next.Next()
	}
}

func (w *serverWAL) close() {
	if w.content != nil {
		_ = w.content.Close()
		w.content = nil
	}
}

// fileOf is the file of a relation as the WAL names it.
func fileOf(r pgfile.Relation) wal.File {
	f := wal.File{Relation: wal.Relation{Tablespace: r.Tablespace, Database: r.Database, Number: r.Number}}
	for f.Fork < wal.InitFork && f.Fork.String() != r.Fork {
		f.Fork++
	}
	return f
}
