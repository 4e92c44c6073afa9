package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/pgcairn/pgcairn/internal/objerr"
	"github.com/zeebo/xxh3"
)

// sealer writes one object: head, frames, tail, through the cipher into the store. The tail ends with a checksum over
// every byte before it.
type sealer struct {
	ctx      context.Context
	store    Store
	key      string
	labelled bool
	dst      Writer
	stored   *written       // what dst was given
	out      io.Writer      // the cipher, or stored
	enc      io.WriteCloser // the cipher, or nil
	sum      *xxh3.Hasher128
	total    int64 // bytes of plaintext written
	err      error // that a write failed with; then nothing can be committed
}

// seal starts an object and writes its head.
func (r *Repo) seal(ctx context.Context, key string, label []byte) (*sealer, error) {
	s, err := r.begin(ctx, key, label)
	if err != nil {
		return nil, err
	}
	if err := s.write(head{key: key, label: label}.frame()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// begin starts an object with nothing in it; label is that of the head that is to be written first.
func (r *Repo) begin(ctx context.Context, key string, label []byte) (*sealer, error) {
	if len(label) > maxLabel {
		return nil, fmt.Errorf("repo: a label of %d bytes, at most %d are allowed", len(label), maxLabel)
	}
	var d dataKey
	if r.keys != nil {
		var err error
		if d, err = r.keys.writeKey(ctx); err != nil {
			return nil, err
		}
	}
	dst, err := r.store.Create(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("repo: create %s: %w", key, err)
	}
	stored := &written{w: dst, sum: xxh3.New128()}
	s := &sealer{ctx: ctx, store: r.store, key: key, labelled: label != nil, dst: dst, stored: stored, out: stored, sum: xxh3.New128()}
	if r.keys != nil {
		f := front{id: d.ID, label: label}.bytes(key)
		if s.enc, err = r.keys.cipher.Encrypt(stored, d.Public, f); err != nil {
			return nil, errors.Join(fmt.Errorf("repo: encrypt %s: %w", key, err), dst.Close())
		}
		s.out = s.enc
	}
	return s, nil
}

func (s *sealer) write(b []byte) error {
	if s.err != nil {
		return s.err
	}
	_, _ = s.sum.Write(b)
	s.total += int64(len(b))
	if _, err := s.out.Write(b); err != nil {
		s.err = fmt.Errorf("repo: write %s: %w", s.key, err)
	}
	return s.err
}

// end writes a skippable frame of data and the sum of every byte before that.
func (s *sealer) end(magic uint32, data []byte) error {
	if err := s.write(append(appendSkippable(nil, magic, len(data)+sumSize), data...)); err != nil {
		return err
	}
	return s.write(s.sum.Sum(nil))
}

// commit commits what ends with a sum.
func (s *sealer) commit() (Info, error) {
	if s.enc != nil {
		if err := s.enc.Close(); err != nil {
			return Info{}, fmt.Errorf("repo: encrypt %s: %w", s.key, err)
		}
	}
	info, err := s.dst.Commit()
	if errors.Is(err, fs.ErrExist) && !s.labelled {
		info, err = s.compare(err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("repo: commit %s: %w", s.key, err)
	}
	return info, nil
}

// compare returns taken, the answer that the object exists, unless what is there is what this sealer has written, to the
// last byte: then a store has repeated a request whose answer was lost. It takes no key, since encryption makes the
// bytes of no other object the same. Whoever gives a label can tell with less, and for content that others may have
// written too.
func (s *sealer) compare(taken error) (Info, error) {
	body, err := s.store.Open(s.ctx, s.key, 0, -1)
	if err != nil {
		return Info{}, errors.Join(taken, objerr.Failed(s.ctx, "compare", s.key, err))
	}
	defer body.Close()
	there := &written{w: io.Discard, sum: xxh3.New128()}
	if _, err := io.Copy(there, body); err != nil {
		return Info{}, errors.Join(taken, objerr.Failed(s.ctx, "compare", s.key, err))
	}
	if there.n != s.stored.n || there.sum.Sum128() != s.stored.sum.Sum128() {
		return Info{}, taken
	}
	return Info{Key: s.key, Size: s.stored.n}, nil
}

func (s *sealer) Close() error { return s.dst.Close() }

// written sums up what it passes on.
type written struct {
	w   io.Writer
	n   int64
	sum *xxh3.Hasher128
}

func (w *written) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.n += int64(n)
	_, _ = w.sum.Write(p[:n])
	return n, err
}

// unsealer reads the plaintext of one object and keeps the sum of it.
type unsealer struct {
	key    string
	cancel context.CancelFunc
	body   io.ReadCloser
	watch  *watch
	sum    *tailSum
	head   head
}

// unseal opens the first n bytes of an object, all of it when n < 0, and reads its head. A missing object matches
// fs.ErrNotExist; nothing else does.
func (r *Repo) unseal(ctx context.Context, key string, n int64) (*unsealer, error) {
	return r.unsealBy(ctx, key, n, func(plain io.Reader) io.Reader { return plain })
}

// unsealBy is unseal where the plaintext passes by somebody, all of it and in order, before it is looked at.
func (r *Repo) unsealBy(ctx context.Context, key string, n int64, by func(io.Reader) io.Reader) (*unsealer, error) {
	ctx, cancel := context.WithCancel(ctx)
	body, err := r.store.Open(ctx, key, 0, n)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("repo: open %s: %w", key, err)
	}
	u := &unsealer{key: key, cancel: cancel, body: body, watch: &watch{r: body}}
	if err := u.begin(ctx, r.keys, by); err != nil {
		_ = u.Close()
		return nil, err
	}
	return u, nil
}

func (u *unsealer) begin(ctx context.Context, keys *keyring, by func(io.Reader) io.Reader) error {
	plain := io.Reader(u.watch)
	var f front
	if keys != nil {
		first, err := io.ReadAll(io.LimitReader(u.watch, frontSize))
		if err != nil {
			return u.fail(err)
		}
		if f, err = readFront(keys.cipher, u.key, first); err != nil {
			return u.fail(err)
		}
		secret, err := keys.secret(ctx, f.id)
		if err != nil {
			return fmt.Errorf("repo: open %s: %w", u.key, err)
		}
		if plain, err = keys.cipher.Decrypt(io.MultiReader(bytes.NewReader(first), u.watch), secret); err != nil {
			return u.fail(err)
		}
	}
	u.sum = newTailSum(by(plain))
	var err error
	if u.head, err = readHead(u.sum, u.key); err != nil {
		return u.fail(err)
	}
	if keys != nil && !bytes.Equal(f.label, u.head.label) {
		return corrupt(u.key, "its label in the clear is another")
	}
	return nil
}

// finish reads what is left and checks that the object ends with its sum.
func (u *unsealer) finish() error {
	if _, err := io.Copy(io.Discard, u.sum); err != nil {
		return u.fail(err)
	}
	if !u.sum.ok() {
		return corrupt(u.key, "checksum mismatch")
	}
	return nil
}

// fail tells a failure to read from bytes that are wrong.
func (u *unsealer) fail(err error) error {
	if failed := u.watch.failed(); failed != nil {
		return fmt.Errorf("repo: read %s: %w", u.key, failed)
	}
	return corrupt(u.key, "%w", err)
}

// Close releases the object; a read that goes on meanwhile fails.
func (u *unsealer) Close() error {
	u.cancel()
	return u.body.Close()
}

// watch remembers the first error of reading the store, so that it is not taken for corruption. A decoder may read
// ahead while its reader already asks.
type watch struct {
	r io.Reader

	mu  sync.Mutex
	err error
}

func (w *watch) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

func (w *watch) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *watch) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.note(err)
	}
	return n, err
}

// tailSum sums up all it passes on but the last sumSize bytes, which it keeps to compare.
type tailSum struct {
	r    io.Reader
	sum  *xxh3.Hasher128
	last []byte // at most sumSize bytes that are not in sum yet
}

func newTailSum(r io.Reader) *tailSum {
	return &tailSum{r: r, sum: xxh3.New128(), last: make([]byte, 0, 2*sumSize)}
}

func (t *tailSum) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	b := p[:n]
	if n >= sumSize {
		_, _ = t.sum.Write(t.last)
		_, _ = t.sum.Write(b[:n-sumSize])
		t.last = append(t.last[:0], b[n-sumSize:]...)
	} else {
		t.last = append(t.last, b...)
		if over := len(t.last) - sumSize; over > 0 {
			_, _ = t.sum.Write(t.last[:over])
			t.last = append(t.last[:0], t.last[over:]...)
		}
	}
	return n, err
}

func (t *tailSum) ok() bool { return bytes.Equal(t.sum.Sum(nil), t.last) }
