package wal

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// maxNote bounds a .backup file in bytes.
const maxNote = 64 << 10

// readSize is how many bytes of a segment are read at a time.
const readSize = 256 << 10

// Push archives a file of pg_wal: a segment, a .partial, .history or .backup file. It returns nil only when the file is
// durable in the repository. A file that is there already with the same content is success; with other content it is a
// *[ConflictError], also where the repository is encrypted and this host cannot read it.
//
// Refused are names that are none of an archive's (*[NameError]), files of another cluster (*[ForeignError]) and
// files that are not what their name says (*[SegmentError]). So is a segment that is not complete where the archive holds
// it in part ([Partial]), unless its timeline was left in it: a standby with archive_mode = always pushes the part that it
// was given.
//
// Of what [Archive.PushReady] has archived already the store is not asked, and the file is read at most once.
func (a *Archive) Push(ctx context.Context, path string) error {
	f, err := openFile(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if a.marks.holds(f) {
		a.marks.remove(f.name)
		return nil
	}
	_, err = a.pushFile(ctx, f)
	return err
}

// pushFile archives an open file, whatever is remembered of it.
func (a *Archive) pushFile(ctx context.Context, f *walFile) (digest, error) {
	told := f.system
	if f.name.note() {
		// These do not tell which cluster they are of; the data directory they lie in does.
		if c, _, err := pgfile.ReadControl(f.pgdata); err == nil && f.pgdata != "" {
			if err := a.Claim(ctx, f.name.String(), System{ID: c.SystemID, SegmentSize: c.WALSegmentSize}); err != nil {
				return digest{}, err
			}
			told = cmp.Or(told, c.SystemID)
		}
	}
	return a.put(ctx, offer{name: f.name, content: f.content, told: told, pgdata: f.pgdata})
}

// PushContent is [Archive.Push] of a file that is not on this host's file system. content has size bytes; it is read
// more than once, concurrently. A .history or .backup file does not tell which cluster it is of, so where the repository
// has belonged to several it takes an archive that was told ([Options]), else it is an *[AmbiguousError].
func (a *Archive) PushContent(ctx context.Context, n Name, content io.ReaderAt, size int64) error {
	_, err := a.put(ctx, offer{name: n, content: io.NewSectionReader(content, 0, size)})
	return err
}

// offer is content that is to be archived.
type offer struct {
	name    Name
	content *io.SectionReader
	told    uint64  // system identifier that a note is of, or 0
	pgdata  string  // directory that it lies in the pg_wal of; it may be none
	digest  *digest // that the content must have, where it is known
	held    bool    // by another archive, just so
}

// put archives content. The digest that it returns beside a nil error is that of what is durable now.
func (a *Archive) put(ctx context.Context, o offer) (digest, error) {
	n, f := o.name, o.content
	sys, err := a.admit(ctx, n, f, o.told)
	if err != nil {
		return digest{}, err
	}
	key := sys.key(n)
	changed := func() error { return &SegmentError{Name: n.String(), Err: errors.New("it changed while it was read")} }
	// PostgreSQL may recycle a segment that it takes for archived, at any time. It overwrites the first page first: what
	// was read while that is still there was the segment.
	still := func() error {
		if n.note() {
			return nil
		}
		front := make([]byte, headerSize)
		if _, err := io.ReadFull(whole(f), front); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return changed()
		} else if err != nil {
			return err
		}
		if h, err := parseHeader(front); err != nil || h.check(n) != nil || h.SystemID != sys.ID {
			return changed()
		}
		return nil
	}
	// The digest stands before the content in the object, so it takes a pass of its own over the file.
	sum := sync.OnceValues(func() (digest, error) {
		d, err := digestOf(f)
		if err == nil && o.digest != nil && d != *o.digest {
			err = changed()
		}
		if err == nil {
			err = still()
		}
		return d, err
	})
	label := func() ([]byte, error) {
		d, err := sum()
		return d[:], err
	}
	options := &repo.PutOptions{Label: label}
	h := xxh3.New128()
	seen := io.Writer(h)
	durable, complete := func() {}, func() error { return nil }
	if n.Kind == KindSegment || n.Kind == KindPartial {
		s, err := n.Segment(sys.SegmentSize)
		if err != nil {
			return digest{}, err // admitted, so never
		}
		x := newIndexer(s)
		var index []byte
		options.Notes = func() (_ []byte, err error) {
			index, err = x.notes()
			return index, err
		}
		seen = io.MultiWriter(h, x)
		if n.Kind == KindSegment {
			durable = func() { a.keepIndex(ctx, sys, s, index) }
		}
		if n.Kind == KindSegment && !o.held {
			tail := &lastByte{}
			seen = io.MultiWriter(h, x, tail)
			complete = func() error {
				if !x.scan.endsIn(s.Start() + LSN(tail.used)) {
					return nil // it is damaged, and will not become better
				}
				return a.refuseUnfinished(ctx, sys, s, o, x.scan.first.PageSize, tail.used)
			}
		}
	}
	_, err = a.repo.Put(ctx, key, options, func(w io.Writer) error {
		size, err := io.Copy(w, io.TeeReader(whole(f), seen))
		if err != nil {
			return err
		}
		d, err := sum()
		if err != nil {
			return err
		}
		if size != f.Size() || d != seal(h) {
			return changed()
		}
		if err := still(); err != nil {
			return err
		}
		return complete()
	})
	taken := errors.Is(err, fs.ErrExist)
	if err != nil && !taken {
		return digest{}, fmt.Errorf("wal: push %s: %w", n, err)
	}
	d, err := sum()
	if err != nil {
		return digest{}, fmt.Errorf("wal: push %s: %w", n, err)
	}
	if taken {
		return d, a.compare(ctx, key, n, d)
	}
	durable()
	return d, nil
}

// compare tells whether the archive holds the same content under key.
func (a *Archive) compare(ctx context.Context, key string, n Name, d digest) error {
	have, err := a.repo.Label(ctx, key)
	if err != nil {
		return fmt.Errorf("wal: compare %s with the archive: %w", n, err)
	}
	if len(have) != len(d) {
		return &repo.CorruptError{Key: key, Err: errors.New("no digest in its head")}
	}
	if !bytes.Equal(have, d[:]) {
		return &ConflictError{Name: n.String(), Archived: digest(have), Offered: d}
	}
	return nil
}

// admit checks that a file is what its name says and of this repository's cluster.
func (a *Archive) admit(ctx context.Context, n Name, f *io.SectionReader, told uint64) (System, error) {
	refuse := func(err error) (System, error) { return System{}, &SegmentError{Name: n.String(), Err: err} }
	if n.note() {
		if err := checkNote(n, f); err != nil {
			return refuse(err)
		}
		return a.admitNote(ctx, n, told)
	}
	h, err := ReadHeader(whole(f))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return refuse(fmt.Errorf("only %d bytes", f.Size()))
	}
	if err == nil {
		err = h.check(n)
	}
	if err != nil {
		return refuse(err)
	}
	if f.Size() != int64(h.SegmentSize) {
		return refuse(fmt.Errorf("%d bytes, want %d", f.Size(), h.SegmentSize))
	}
	sys := System{ID: h.SystemID, SegmentSize: h.SegmentSize}
	return sys, a.Claim(ctx, n.String(), sys)
}

// admitNote checks that a file is of the repository's cluster which does not tell whose it is.
func (a *Archive) admitNote(ctx context.Context, n Name, told uint64) (System, error) {
	if err := a.agree(n.String(), told); err != nil {
		return System{}, err
	}
	records, err := a.owners(ctx, false)
	if errors.Is(err, fs.ErrNotExist) {
		return System{}, fmt.Errorf("wal: %s does not tell which cluster it is of, and the repository belongs to none yet: push a segment first", n)
	}
	if err != nil {
		return System{}, err
	}
	id := cmp.Or(told, a.want)
	if id == 0 {
		return records[len(records)-1], unambiguous(n, records)
	}
	if records[len(records)-1].ID != id {
		if records, err = a.owners(ctx, true); err != nil { // it may have been upgraded since that was asked
			return System{}, err
		}
	}
	if records[len(records)-1].ID != id {
		return System{}, foreign(n.String(), id, records)
	}
	return records[len(records)-1], nil
}

// checkNote checks a .history or .backup file, which have no header.
func checkNote(n Name, f *io.SectionReader) error {
	text, err := io.ReadAll(io.LimitReader(whole(f), maxHistory+1))
	if err != nil {
		return err
	}
	if n.Kind == KindHistory {
		if n.Timeline == 1 {
			return errors.New("the first timeline has no history")
		}
		_, err = ParseHistory(n.Timeline, text)
		return err
	}
	if len(text) > maxNote || !bytes.HasPrefix(text, []byte("START WAL LOCATION: ")) {
		return errors.New("not the notes on a base backup")
	}
	return nil
}

// digest tells the contents of files apart: the SHA-256 of the XXH3-128 of the content. XXH3 keeps up with memory, but
// what it gives away of the content of an encrypted repository could be worked back; SHA-256 of that cannot.
type digest [sha256.Size]byte

func digestOf(f *io.SectionReader) (digest, error) {
	h := xxh3.New128()
	if _, err := io.CopyBuffer(h, whole(f), make([]byte, readSize)); err != nil {
		return digest{}, err
	}
	return seal(h), nil
}

func seal(h *xxh3.Hasher128) digest { return sha256.Sum256(h.Sum(nil)) }

// whole reads content from its start, independently of others who do.
func whole(f *io.SectionReader) io.Reader { return io.NewSectionReader(f, 0, f.Size()) }
