package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/pgcairn/pgcairn/internal/objerr"
)

// CopyOptions are the options of [CopyObject] and [CopyPack]. A nil *CopyOptions, and the zero value of each field, is
// its default.
type CopyOptions struct {
	// Check, when set, is given the object that is being copied by CopyObject, and may read it, to judge its content. What
	// it fails with, the copy fails with; what it leaves unread is read all the same. It does not close the object.
	Check func(*Object) error

	// Pass, when set, is called each time that bytes were read, with their number, before compression is undone: up to
	// 256 KiB. It may wait, which bounds the rate. What it fails with, the copy fails with. It is called by one goroutine
	// at a time, which need not be the caller's.
	Pass func(n int) error

	// Turn, when set, is called when all of the object was read and is right, before it is committed. It may wait: so
	// objects that are copied beside each other are committed in an order. What it fails with, the copy fails with.
	Turn func() error
}

// CopyObject copies an object that [Repo.Put] has written to another repository, under the same key and with the same
// label and notes. It is encrypted to the data key of the other one; unencrypted, the bytes are the same. Each byte is
// checked on the way, and each frame decompressed: nothing is visible in the other repository before all of it was right.
//
// An object that is missing here is an error matching fs.ErrNotExist, and no other error is. One that is damaged here is
// a *[CorruptError]. A key that is taken there is an error matching fs.ErrExist, as with [Repo.Put]. The Info is of the
// copy.
//
// It takes up to 2 MiB of memory for each processor, and what the other store takes to write.
func CopyObject(ctx context.Context, from, to *Repo, key string, o *CopyOptions) (Info, error) {
	return duplicate(ctx, from, to, key, o, func(u *unsealer, check func(*Object) error) error {
		obj := &Object{u: u, frames: newUnframer(u.sum, from.dec)}
		defer obj.Close()
		if check != nil {
			if err := check(obj); err != nil {
				return err
			}
		}
		for {
			if _, err := obj.Next(); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}

// CopyPack is CopyObject of a pack: one that is not what p says is a *[CorruptError]. The Pack that it returns is p with
// the size of the copy.
func CopyPack(ctx context.Context, from, to *Repo, p Pack, o *CopyOptions) (Pack, error) {
	if err := p.checkToRead(); err != nil {
		return Pack{}, err
	}
	info, err := duplicate(ctx, from, to, p.Key, o, func(u *unsealer, _ func(*Object) error) error {
		defer u.Close()
		return from.readPack(u, p, func(int) bool { return true }, func(int, []byte) error { return nil })
	})
	if err != nil {
		return Pack{}, err
	}
	p.Size = info.Size
	return p, nil
}

// CopyRecord copies a record as it is, after its checksum was checked. One that is there and is the same is success,
// another one is an error matching fs.ErrExist.
func CopyRecord(ctx context.Context, from, to *Repo, key string) error {
	b, err := readSmall(ctx, from.store, key, maxRecord)
	if err != nil {
		return err
	}
	if err := OpenRecord(key, b, &struct{}{}); err != nil {
		return err
	}
	err = writeSmall(ctx, to.store, key, b)
	if !errors.Is(err, fs.ErrExist) {
		return elsewhere(ctx, key, err)
	}
	have, rerr := readSmall(ctx, to.store, key, maxRecord)
	switch {
	case rerr != nil:
		return elsewhere(ctx, key, rerr)
	case !bytes.Equal(have, b):
		return err
	}
	return nil
}

// duplicate copies an object, which read reads to its end, checks and closes.
func duplicate(
	ctx context.Context, from, to *Repo, key string, o *CopyOptions, read func(*unsealer, func(*Object) error) error,
) (Info, error) {
	if o == nil {
		o = &CopyOptions{}
	}
	t := &tee{pass: o.Pass}
	defer func() {
		if t.dst != nil {
			_ = t.dst.Close()
		}
	}()
	u, err := from.unsealBy(ctx, key, -1, t.by)
	if err != nil {
		return Info{}, firstOf(t.err, err)
	}
	if err := t.begin(ctx, to, key, u.head.label); err != nil {
		_ = u.Close()
		return Info{}, err
	}
	if err := read(u, o.Check); err != nil {
		return Info{}, firstOf(t.err, err)
	}
	if o.Turn != nil {
		if err := o.Turn(); err != nil {
			return Info{}, err
		}
	}
	info, err := t.dst.commit()
	return info, elsewhere(ctx, key, err)
}

// firstOf returns the first error, the cause of the second, or else the second.
func firstOf(cause, err error) error {
	if cause != nil {
		return cause
	}
	return err
}

// elsewhere is an error of the repository that is copied to. That something is missing there says nothing of what is to
// be copied.
func elsewhere(ctx context.Context, key string, err error) error {
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	return fmt.Errorf("repo: copy: %w", objerr.Failed(ctx, "write", key, err))
}

// tee hands on the plaintext of an object that is being read to the one that is being written.
type tee struct {
	r    io.Reader
	pass func(int) error
	dst  *sealer
	held []byte // read before there was dst: the head
	err  error  // of pass or dst, which is none of the object that is read
}

func (t *tee) by(plain io.Reader) io.Reader {
	t.r = plain
	return t
}

// Read implements io.Reader.
func (t *tee) Read(p []byte) (int, error) {
	if t.err != nil {
		return 0, t.err
	}
	n, err := t.r.Read(p)
	if n > 0 && t.pass != nil {
		t.err = t.pass(n)
	}
	switch {
	case t.err != nil:
	case t.dst == nil:
		t.held = append(t.held, p[:n]...)
	default:
		t.write(p[:n])
	}
	if t.err != nil {
		return 0, t.err
	}
	return n, err
}

// begin starts the object that is written, with what was read so far.
func (t *tee) begin(ctx context.Context, to *Repo, key string, label []byte) error {
	// An empty label and none look the same. By none, a commit whose answer was lost is found to be this one's.
	if len(label) == 0 {
		label = nil
	}
	dst, err := to.begin(ctx, key, label)
	if err != nil {
		return elsewhere(ctx, key, err)
	}
	t.dst = dst
	t.write(t.held)
	t.held = nil
	return t.err
}

func (t *tee) write(b []byte) {
	if err := t.dst.write(b); err != nil {
		t.err = elsewhere(t.dst.ctx, t.dst.key, err)
	}
}
