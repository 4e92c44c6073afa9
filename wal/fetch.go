package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/zeebo/xxh3"
)

// Fetch brings a file of the archive to dst: it is written beside dst, checked, synced and renamed. An error matches
// fs.ErrNotExist only when the archive has answered that it does not hold the file; to PostgreSQL that means the end
// of the WAL, so no other failure is ever reported as that. Content that is not what was pushed is a
// *[repo.CorruptError].
//
// A segment at the end of the archive that [Archive.Receive] has not completed yet is brought with what there is of it,
// and zeros after that. Asked for again later, it may hold more: it must not be kept for another time.
func (a *Archive) Fetch(ctx context.Context, name, dst string) error {
	f, err := a.openAny(ctx, name)
	if err != nil {
		return err
	}
	defer f.obj.Close()
	if err := durable.WriteFile(dst, 0o600, f.copyTo); err != nil {
		return notMissing(fmt.Errorf("wal: fetch %s: %w", name, err))
	}
	return nil
}

// Read writes a file of the archive to w. Errors are as with [Archive.Fetch]; after one, what w has got is worthless.
func (a *Archive) Read(ctx context.Context, name string, w io.Writer) error {
	f, err := a.openAny(ctx, name)
	if err != nil {
		return err
	}
	defer f.obj.Close()
	if err := f.copyTo(w); err != nil {
		return notMissing(fmt.Errorf("wal: fetch %s: %w", name, err))
	}
	return nil
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

func (a *Archive) open(ctx context.Context, name string) (*archived, error) {
	n, err := ParseName(name)
	if err != nil {
		return nil, err
	}
	sys, err := a.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("wal: %s is not in the archive, which holds nothing yet: %w", n, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
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
	if n.Kind == KindHistory || n.Kind == KindBackup {
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
	if n.Kind == KindHistory || n.Kind == KindBackup {
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
