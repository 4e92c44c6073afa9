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
	_, same, err := a.same(ctx, n, io.NewSectionReader(content, 0, size))
	return same, err
}

// same is Same, which returns the digest as well.
func (a *Archive) same(ctx context.Context, n Name, content *io.SectionReader) (d digest, same bool, err error) {
	sys, err := a.System(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	if err != nil {
		return d, false, err
	}
	have, err := a.repo.Label(ctx, sys.key(n))
	if errors.Is(err, fs.ErrNotExist) {
		return d, false, nil
	}
	if err == nil {
		d, err = digestOf(content)
	}
	if err != nil {
		return d, false, fmt.Errorf("wal: compare %s with the archive: %w", n, err)
	}
	return d, bytes.Equal(have, d[:]), nil
}
