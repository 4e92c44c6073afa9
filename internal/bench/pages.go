package main

import (
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// changedPages are those that an incremental backup cannot do without.
type changedPages struct {
	raw      int64 // in bytes
	together int64 // compressed by the MiB, wherever they lie
	runs     int64 // compressed in runs of pages that follow each other, of up to 1 MiB
}

const (
	pageSize = 8192
	runSize  = 1 << 20
)

// pagesSince finds the pages of all relations that were changed since a position, by the LSN in each, and compresses them.
// Those of a free space map have none: of one that has changed since the last call, all pages count.
func (b *bench) pagesSince(since uint64) (found changedPages, err error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return found, err
	}
	together, run := make([]byte, 0, runSize), make([]byte, 0, runSize)
	compress := func(pages []byte, size *int64) []byte {
		if len(pages) > 0 {
			*size += int64(len(enc.EncodeAll(pages, nil)))
		}
		return pages[:0]
	}
	page := make([]byte, pageSize)
	data := b.path("data")
	err = filepath.WalkDir(data, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(data, p)
		if err != nil {
			return err
		}
		rel, ok := pgfile.ParseRelation(filepath.ToSlash(name))
		if !ok || e.IsDir() {
			return nil
		}
		all := false
		if rel.Fork == "fsm" {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			sum := sha256.Sum256(content)
			all = b.maps[name] != sum
			b.maps[name] = sum
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer f.Close()
		for {
			_, err := io.ReadFull(f, page)
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				run = compress(run, &found.runs)
				return nil
			}
			if err != nil {
				return err
			}
			if !all && pgfile.PageLSN(page) < since {
				run = compress(run, &found.runs)
				continue
			}
			found.raw += pageSize
			if run = append(run, page...); len(run) == runSize {
				run = compress(run, &found.runs)
			}
			if together = append(together, page...); len(together) == runSize {
				together = compress(together, &found.together)
			}
		}
	})
	compress(together, &found.together)
	return found, err
}
