package wal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// Same tells whether content, of size bytes, is just that of an archived file, without fetching more of that than its
// digest. It is false where the archive does not hold the file whole.
func (a *Archive) Same(ctx context.Context, n Name, content io.ReaderAt, size int64) (bool, error) {
	sys, err := a.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	have, err := a.repo.Label(ctx, sys.key(n))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("wal: compare %s with the archive: %w", n, err)
	}
	d, err := digestOf(io.NewSectionReader(content, 0, size))
	if err != nil {
		return false, fmt.Errorf("wal: compare %s with the archive: %w", n, err)
	}
	return bytes.Equal(have, d[:]), nil
}
