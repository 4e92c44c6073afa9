package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/durable"
)

// extent is a part of a file, by its index in the manifest, from an offset to before another.
type extent struct {
	file     int
	from, to int64
}

// holes returns the parts of files that no piece covers, which are zero, in the order of the files.
func holes(m *backup.Manifest) []extent {
	var covered []extent
	for _, p := range m.PackList {
		for _, pieces := range p.Pieces {
			for _, c := range pieces {
				if c.File == backup.NoFile || m.FileList[c.File].Data == m.FileList[c.File].Size {
					continue
				}
				// Pieces that follow each other, as most do, are kept as one.
				if n := len(covered); n > 0 && covered[n-1].file == c.File && covered[n-1].to == c.Offset {
					covered[n-1].to += int64(c.Length)
				} else {
					covered = append(covered, extent{c.File, c.Offset, c.Offset + int64(c.Length)})
				}
			}
		}
	}
	slices.SortFunc(covered, func(a, b extent) int { return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.from, b.from)) })
	var all []extent
	for i, f := range m.FileList {
		if f.Data == f.Size {
			continue
		}
		at := int64(0)
		for ; len(covered) > 0 && covered[0].file == i; covered = covered[1:] {
			if covered[0].from > at {
				all = append(all, extent{i, at, covered[0].from})
			}
			at = covered[0].to
		}
		if at < f.Size {
			all = append(all, extent{i, at, f.Size})
		}
	}
	return all
}

// byFile yields the extents of each file.
func byFile(all []extent) iter.Seq[[]extent] {
	return func(yield func([]extent) bool) {
		for len(all) > 0 {
			n := slices.IndexFunc(all, func(e extent) bool { return e.file != all[0].file })
			if n < 0 {
				n = len(all)
			}
			if !yield(all[:n]) {
				return
			}
			all = all[n:]
		}
	}
}

// clearHoles makes parts of a file that was there before zero.
func (d *destination) clearHoles(ctx context.Context, parts []extent) error {
	root, name := d.locate(d.manifest.FileList[parts[0].file].Path)
	f, err := root.OpenFile(name, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it is made of nothing but zeros
	}
	if err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	for _, p := range parts {
		if err = ctx.Err(); err == nil {
			err = durable.Zero(f, p.from, p.to-p.from)
		}
		if err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return nil
}
