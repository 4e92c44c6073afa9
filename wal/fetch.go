package wal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// Fetch brings a file of the archive to dst: it is written beside dst, checked, synced and renamed. An error matches
// fs.ErrNotExist only when the archive has answered that it does not hold the file; to PostgreSQL that means the end
// of the WAL, so no other failure is ever reported as that. Content that is not what was pushed is a
// *[repo.CorruptError].
//
// Files of several clusters may have the same name in a repository that was upgraded (see [Archive.Upgrade]). The
// archive brings those of the cluster of [Options]. By default that is the cluster in whose pg_wal dst lies, as its
// pg_control tells; and where that does not tell, the one cluster that the repository has belonged to. If there were
// several it is an *[AmbiguousError], and a *[ForeignError] if they are none of the destination's.
//
// A segment at the end of the archive that [Archive.Receive] has not completed yet is brought with what there is of it,
// and zeros after that. Asked for again later, it may hold more: it must not be kept for another time.
func (a *Archive) Fetch(ctx context.Context, name, dst string) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	sys, err := a.systemFor(ctx, n, systemAt(dst))
	if err != nil {
		return err
	}
	f, err := a.openAny(ctx, sys, n)
	if err != nil {
		return err
	}
	defer f.obj.Close()
	if err := durable.WriteFile(dst, 0o600, f.copyTo); err != nil {
		return notMissing(fmt.Errorf("wal: fetch %s: %w", name, err))
	}
	return nil
}

// Read writes a file of the archive to w: of the cluster of [Options], or else of the one that the repository belongs
// to. Errors are as with [Archive.Fetch]; after one, what w has got is worthless.
func (a *Archive) Read(ctx context.Context, name string, w io.Writer) error {
	n, err := ParseName(name)
	if err != nil {
		return err
	}
	sys, err := a.System(ctx)
	if err != nil {
		return noneYet(n, err)
	}
	return a.read(ctx, sys, n, w)
}

func (a *Archive) read(ctx context.Context, sys System, n Name, w io.Writer) error {
	f, err := a.openAny(ctx, sys, n)
	if err != nil {
		return err
	}
	defer f.obj.Close()
	if err := f.copyTo(w); err != nil {
		return notMissing(fmt.Errorf("wal: fetch %s: %w", n, err))
	}
	return nil
}

// noneYet says of a file that it is not in an archive that nobody has claimed.
func noneYet(n Name, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("wal: %s is not in the archive, which holds nothing yet: %w", n, fs.ErrNotExist)
	}
	return err
}

// systemAt is the system identifier of the cluster in whose pg_wal a path lies; 0 is that it cannot be told.
func systemAt(path string) uint64 {
	return systemIn(filepath.Dir(filepath.Dir(path)))
}

func systemIn(pgdata string) uint64 {
	if pgdata == "" {
		return 0
	}
	c, _, err := pgfile.ReadControl(pgdata)
	if err != nil {
		return 0
	}
	return c.SystemID
}

// systemFor decides of which cluster a file is meant. told is the system identifier that the destination has, or 0.
func (a *Archive) systemFor(ctx context.Context, n Name, told uint64) (System, error) {
	if err := a.agree(whereTo(n), told); err != nil {
		return System{}, err
	}
	if a.want != 0 || told != 0 {
		sys, err := a.systemOf(ctx, whereTo(n), cmp.Or(a.want, told))
		return sys, noneYet(n, err)
	}
	all, err := a.owners(ctx, true)
	if err != nil {
		return System{}, noneYet(n, err)
	}
	return all[len(all)-1], unambiguous(n, all)
}

// agree checks that where a file goes to, or comes from, is none of another cluster than the archive.
func (a *Archive) agree(name string, told uint64) error {
	if a.want != 0 && told != 0 && a.want != told {
		return &ForeignError{Name: name, Got: told, Want: a.want}
	}
	return nil
}

// whereTo is what an error names.
func whereTo(n Name) string { return "the destination of " + n.String() }

// unambiguous is an *[AmbiguousError] unless the records are all of one cluster.
func unambiguous(n Name, records []System) error {
	all := distinct(records)
	if len(all) == 1 {
		return nil
	}
	var ids []uint64
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return &AmbiguousError{Name: n.String(), Systems: ids}
}

// archived is an open file of the archive.
type archived struct {
	name   Name
	system System
	obj    interface {
		Next() ([]byte, error)
		Label() []byte
		Close() error
	}
}

func (a *Archive) open(ctx context.Context, sys System, n Name) (*archived, error) {
	obj, err := a.repo.OpenObject(ctx, sys.key(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("wal: %s is not in the archive: %w", n, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("wal: fetch %s: %w", n, err)
	}
	return &archived{name: n, system: sys, obj: obj}, nil
}

// copyTo copies the content and checks that it is what was pushed, and what its name says.
func (f *archived) copyTo(w io.Writer) error {
	n, sys := f.name, f.system
	wrong := func(format string, args ...any) error {
		return &repo.CorruptError{Key: sys.key(n), Err: fmt.Errorf(format, args...)}
	}
	var first headBuffer
	limit := int64(sys.SegmentSize)
	if n.note() {
		limit = maxHistory
	}
	var got int64
	sum := xxh3.New128()
	for {
		b, err := f.obj.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if got += int64(len(b)); got > limit {
			return wrong("more than %d bytes", limit)
		}
		first.keep(b)
		_, _ = sum.Write(b)
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	if d := seal(sum); !bytes.Equal(d[:], f.obj.Label()) {
		return wrong("its content is not that of its label")
	}
	if n.note() {
		return nil
	}
	h, err := ReadHeader(bytes.NewReader(first.b))
	if err != nil {
		return wrong("%v", err)
	}
	if err := h.check(n); err != nil {
		return wrong("%v", err)
	}
	if h.SystemID != sys.ID || got != int64(h.SegmentSize) {
		return wrong("a segment of system identifier %d, %d bytes", h.SystemID, got)
	}
	return nil
}

// headBuffer keeps the first bytes of a file.
type headBuffer struct{ b []byte }

func (h *headBuffer) keep(p []byte) {
	if k := headerSize - len(h.b); k > 0 {
		h.b = append(h.b, p[:min(k, len(p))]...)
	}
}

// notMissing hides fs.ErrNotExist in an error of another meaning, such as a missing target directory.
func notMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errors.New(err.Error())
	}
	return err
}
