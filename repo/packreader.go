package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// PackReader reads single frames of a pack, in any order, and of the pack no more than they take. It holds no request
// open and has nothing to close. It is safe for concurrent use. Of an encrypted pack it keeps up to 80 KiB.
type PackReader struct {
	repo  *Repo
	pack  Pack
	begin int64 // of the first frame, in the plaintext

	// Of an encrypted pack.
	secret string
	parts  []part // of the ciphertext: what it takes to begin decrypting
}

// OpenPack opens a pack to read single frames of it. Of an unencrypted pack this reads nothing; of an encrypted one two
// small ranges. A missing pack is an error matching fs.ErrNotExist, from here or from [PackReader.Frame], and no other
// error is; bytes that are not what was written are a *[CorruptError].
//
// Whoever needs most frames of a pack is better off with [Repo.ReadFrames], which makes one request.
func (r *Repo) OpenPack(ctx context.Context, p Pack) (*PackReader, error) {
	if err := p.checkToRead(); err != nil {
		return nil, err
	}
	o := &PackReader{repo: r, pack: p, begin: int64(len(head{key: p.Key}.frame()))}
	if r.keys == nil {
		return o, nil
	}
	if p.Size <= 0 {
		return nil, corrupt(p.Key, "a size of %d bytes", p.Size)
	}
	first, err := o.fetch(ctx, 0, min(frontSize, p.Size))
	if err != nil {
		return nil, err
	}
	f, err := readFront(r.keys.cipher, p.Key, first.b)
	if err != nil {
		return nil, corrupt(p.Key, "%w", err)
	}
	if o.secret, err = r.keys.secret(ctx, f.id); err != nil {
		return nil, fmt.Errorf("repo: open %s: %w", p.Key, err)
	}
	// What the cipher wants to see before it decrypts anything: with age, the last bytes.
	for have := o.known(first); ; {
		have.missing = span{}
		_, _, err := r.keys.cipher.DecryptAt(have, p.Size, o.secret)
		if err == nil {
			o.parts = have.parts
			return o, nil
		}
		if have.missing.n == 0 {
			return nil, corrupt(p.Key, "%w", err)
		}
		if err := o.add(ctx, have, have.missing); err != nil {
			return nil, err
		}
	}
}

// Frame reads a frame of the pack, by its index, with one request, and returns its raw bytes, which were checked. It uses
// the memory of buf, which may be nil, if that suffices.
func (o *PackReader) Frame(ctx context.Context, i int, buf []byte) ([]byte, error) {
	if i < 0 || i >= len(o.pack.Frames) {
		return nil, fmt.Errorf("repo: frame %d of %s, which has %d", i, o.pack.Key, len(o.pack.Frames))
	}
	at, f := o.begin, o.pack.Frames[i]
	for _, before := range o.pack.Frames[:i] {
		at += int64(before.Stored)
	}
	stored, err := o.read(ctx, at, int64(f.Stored))
	if err != nil {
		return nil, err
	}
	raw, err := o.repo.decode(f, stored, buf[:0])
	if err != nil {
		return nil, corrupt(o.pack.Key, "frame %d: %w", i, err)
	}
	return raw, nil
}

// read reads n bytes of the plaintext.
func (o *PackReader) read(ctx context.Context, at, n int64) ([]byte, error) {
	if o.repo.keys == nil {
		p, err := o.fetch(ctx, at, n)
		return p.b, err
	}
	have := o.known(o.parts...)
	plain, size, err := o.repo.keys.cipher.DecryptAt(have, o.pack.Size, o.secret)
	if err != nil {
		return nil, corrupt(o.pack.Key, "%w", err)
	}
	if at+n > size {
		return nil, corrupt(o.pack.Key, "it is shorter than its frames")
	}
	for b := make([]byte, n); ; {
		lack, err := have.lack(plain, b, at)
		if err == nil {
			return b, nil
		}
		if lack.n == 0 {
			return nil, corrupt(o.pack.Key, "%w", err)
		}
		// How far the ciphertext of the rest reaches, the cipher tells when it is asked for the last byte.
		end := lack.at + lack.n
		if last, err := have.lack(plain, make([]byte, 1), at+n-1); err != nil {
			end = max(end, last.at+last.n)
		} else {
			end = max(end, have.next(lack.at))
		}
		if err := o.add(ctx, have, span{lack.at, end - lack.at}); err != nil {
			return nil, err
		}
	}
}

// add reads a part of the ciphertext.
func (o *PackReader) add(ctx context.Context, to *known, s span) error {
	p, err := o.fetch(ctx, s.at, s.n)
	to.parts = append(to.parts, p)
	return err
}

// fetch reads n bytes of the object as it is stored.
func (o *PackReader) fetch(ctx context.Context, at, n int64) (part, error) {
	body, err := o.repo.store.Open(ctx, o.pack.Key, at, n)
	if err != nil {
		return part{}, fmt.Errorf("repo: open %s: %w", o.pack.Key, err)
	}
	defer body.Close()
	w, b := &watch{r: body}, make([]byte, n)
	if _, err := io.ReadFull(w, b); err != nil {
		if failed := w.failed(); failed != nil {
			return part{}, fmt.Errorf("repo: read %s: %w", o.pack.Key, failed)
		}
		return part{}, corrupt(o.pack.Key, "it ends before byte %d", at+n)
	}
	return part{at, b}, nil
}

// span is n bytes of an object from at on.
type span struct{ at, n int64 }

// known is an object of which some parts are there.
type known struct {
	size    int64
	parts   []part
	missing span // what was asked for last and is not there
}

func (o *PackReader) known(parts ...part) *known {
	return &known{size: o.pack.Size, parts: slices.Clone(parts)}
}

var errNotThere = errors.New("a part that was not read yet")

// ReadAt implements io.ReaderAt.
func (k *known) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= k.size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), k.size-off)
	for _, have := range k.parts {
		if have.at <= off && off+n <= have.at+int64(len(have.b)) {
			copy(p[:n], have.b[off-have.at:])
			if int(n) < len(p) {
				return int(n), io.EOF
			}
			return int(n), nil
		}
	}
	k.missing = span{off, n}
	return 0, errNotThere
}

// lack decrypts p. When that fails because a part is not there, it tells which.
func (k *known) lack(plain io.ReaderAt, p []byte, off int64) (span, error) {
	k.missing = span{}
	err := readFullAt(plain, p, off)
	return k.missing, err
}

// next is where the next part begins that is there.
func (k *known) next(off int64) int64 {
	next := off
	for _, have := range k.parts {
		if have.at > off && (next == off || have.at < next) {
			next = have.at
		}
	}
	return next
}
