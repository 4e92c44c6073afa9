package backup

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/pgcairn/pgcairn/internal/durable"
	"github.com/pgcairn/pgcairn/repo"
)

// copies are the manifests that this host has written to an encrypted repository, which it may not be able to read. They
// are in the state directory, backups/<id>, compressed; what is damaged of them is not used. The zero value has none.
type copies struct{ dir string }

func (t *taker) copies() copies { return copiesOf(t.repo) }

func copiesOf(r *repo.Repo) copies {
	state := r.StateDir()
	if state == "" || !r.Encrypted() {
		return copies{}
	}
	return copies{dir: filepath.Join(state, "backups")}
}

var errNoCopy = errors.New("backup: no copy is kept")

func (c copies) read(id ID) (m *Manifest, err error) {
	err = c.open(id, func(r io.Reader) error {
		m, err = decodeManifest(r, id)
		return err
	})
	return m, err
}

// summary reads the first line only.
func (c copies) summary(id ID) (s *Summary, err error) {
	err = c.open(id, func(r io.Reader) error {
		s, err = decodeHead(bufio.NewReader(r), id)
		return err
	})
	return s, err
}

func (c copies) open(id ID, read func(io.Reader) error) error {
	if c.dir == "" {
		return errNoCopy
	}
	f, err := os.Open(filepath.Join(c.dir, string(id)))
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	return read(z)
}

// write keeps a manifest, and forgets those of backups that are gone.
func (c copies) write(m *Manifest, there []ID) error {
	if c.dir == "" {
		return nil
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	err := durable.WriteFile(filepath.Join(c.dir, string(m.ID)), 0o600, func(w io.Writer) error {
		z := gzip.NewWriter(w)
		return errors.Join(m.encode(z, m.ID.manifestKey()), z.Close())
	})
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(c.dir)
	for _, e := range entries {
		if id := ID(e.Name()); id != m.ID && !slices.Contains(there, id) {
			err = errors.Join(err, os.Remove(filepath.Join(c.dir, e.Name())))
		}
	}
	return err
}

// keepCopy keeps the manifest of the backup that was taken. Failing to costs a full backup later, and nothing else.
func (t *taker) keepCopy(ctx context.Context, there []ID) {
	if err := t.copies().write(&t.manifest, there); err != nil {
		t.log.WarnContext(ctx, "cannot keep the manifest for the next backup to build on", "error", err)
	}
}
