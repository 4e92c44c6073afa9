package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
)

// copySizes tells by their sizes, and so without a key, whether objects are whole that were copied earlier. Before
// encryption a copy has the same bytes: so its size follows from that of the original, but for the age headers, whose
// lengths depend on the kind of the data keys. By how much these differ is read where it is not known yet: of an object or
// two, however many there are.
type copySizes struct {
	from, to *repo.Repo

	mu    sync.Mutex
	known map[int64]bool // differences between the headers of an object and its copy
}

// check tells whether an object of size bytes can have a copy of so many bytes. One that is gone from the source
// matches fs.ErrNotExist.
func (s *copySizes) check(ctx context.Context, key string, size, copied int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.from.Encrypted() {
		size = agePayload(size)
	}
	stored := copied
	if !s.to.Encrypted() {
		copied = agePayload(copied)
	}
	if s.known[copied-size] {
		return nil
	}
	here, err := ageHeader(ctx, s.from, key)
	if err != nil {
		return err
	}
	there, err := ageHeader(ctx, s.to, key)
	var corrupt *repo.CorruptError
	switch {
	case errors.As(err, &corrupt), err == nil && copied-size != there-here:
		return &repo.CorruptError{Key: key, Err: &damagedThereError{fmt.Sprintf("it has %d bytes, and a copy has not", stored)}}
	case err != nil:
		return fmt.Errorf("in the repository to copy to: %v", err) //nolint:errorlint // its absence is no answer
	}
	if s.known == nil {
		s.known = map[int64]bool{}
	}
	s.known[there-here] = true
	return nil
}

// damagedThereError means that what is in place of a copy is none.
type damagedThereError struct{ why string }

func (e *damagedThereError) Error() string {
	return "in the repository to copy to " + e.why + ": delete it there, and copy again"
}

// agePayload is how many bytes age makes of n, without its header: a nonce, and a tag for every 64 KiB.
func agePayload(n int64) int64 {
	const nonce, tag, chunk = 16, 16, 64 << 10
	return nonce + n + tag*max(1, (n+chunk-1)/chunk)
}

// ageHeader reads how long the age header of an object is; it is 0 where nothing is encrypted.
func ageHeader(ctx context.Context, r *repo.Repo, key string) (int64, error) {
	if !r.Encrypted() {
		return 0, nil
	}
	const most = 8 << 10
	body, err := r.Store().Open(ctx, key, 0, most)
	if err != nil {
		return 0, fmt.Errorf("backup: copy: open %s: %w", key, err)
	}
	defer body.Close()
	front, err := io.ReadAll(body)
	if err != nil {
		return 0, fmt.Errorf("backup: copy: read %s: %w", key, err)
	}
	_, mac, found := bytes.Cut(front, []byte("\n--- "))
	_, payload, ended := bytes.Cut(mac, []byte("\n"))
	if !found || !ended {
		return 0, &repo.CorruptError{Key: key, Err: errors.New("it has no age header")}
	}
	return int64(len(front) - len(payload)), nil
}
