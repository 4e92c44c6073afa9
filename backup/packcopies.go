package backup

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/repo"
)

// packCopies are the notes of packs that this host has written to an encrypted repository, which it may not be able to
// read, for as long as no manifest names the packs. They are in the state directory, packs/<backup id>/<number>, and end
// with the checksum of the pack's key, a newline, and the notes. The zero value has none.
type packCopies struct{ dir string }

func (t *taker) packCopies() packCopies {
	state := t.repo.StateDir()
	if state == "" || !t.repo.Encrypted() {
		return packCopies{}
	}
	return packCopies{dir: state}
}

func (c packCopies) path(key string) string { return filepath.Join(c.dir, filepath.FromSlash(key)) }

func copySum(key string, notes []byte) []byte {
	sum := repo.HashOf(append([]byte(key+"\n"), notes...))
	return sum[:]
}

// write keeps the notes of a pack, before it is committed. What is not there whole after a loss of power is not used.
func (c packCopies) write(key string, notes []byte) error {
	if c.dir == "" {
		return nil
	}
	path := c.path(key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return durable.WriteUnsynced(path, 0o600, func(w io.Writer) error {
		_, err := w.Write(append(notes[:len(notes):len(notes)], copySum(key, notes)...))
		return err
	})
}

// read returns the notes of a pack, or errNoCopy.
func (c packCopies) read(key string) ([]byte, error) {
	if c.dir == "" {
		return nil, errNoCopy
	}
	f, err := os.Open(c.path(key))
	if err != nil {
		return nil, errNoCopy
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, repo.MaxNotes+1<<10))
	n := len(b) - len(repo.Hash{})
	if err != nil || n < 0 || !bytes.Equal(b[n:], copySum(key, b[:n])) {
		return nil, errNoCopy
	}
	return b[:n], nil
}

// backups returns the backups, in ascending order, of whose packs notes are kept; false where none are.
func (c packCopies) backups() (ids []ID, kept bool) {
	if c.dir == "" {
		return nil, false
	}
	entries, err := os.ReadDir(filepath.Join(c.dir, "packs"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	for _, e := range entries {
		ids = append(ids, ID(e.Name()))
	}
	return ids, true
}

// forgetPack removes the notes of a pack, and nothing that is not there.
func (c packCopies) forgetPack(key string) error {
	if c.dir == "" {
		return nil
	}
	if err := os.Remove(c.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	_ = os.Remove(filepath.Dir(c.path(key))) // with the last
	return nil
}

// forget removes the notes of a backup's packs.
func (c packCopies) forget(id ID) error {
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(c.dir, "packs", string(id)))
}

// forgetAll removes what is known of packs of any backup.
func (c packCopies) forgetAll() error {
	if c.dir == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(c.dir, "packs"))
}
