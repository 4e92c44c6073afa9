package backup

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds on what a manifest may say, far above what real clusters reach.
const (
	maxEntries  = 50_000_000 // of a kind
	maxFileSize = 1 << 46    // bytes
)

// check tells what a manifest says that cannot be: each entry, and what they say together.
func (m *Manifest) check() error {
	counts := m.counts()
	for _, list := range []struct {
		n     int
		check func(i int) error
	}{
		{counts.Databases, m.checkDatabase},
		{counts.Relations, m.checkRelation},
		{len(m.Tablespaces), m.checkTablespace},
		{len(m.Directories), m.checkDirectory},
		{len(m.FileList), m.checkFile},
		{len(m.BadPageList), m.checkBadPage},
		{len(m.PackList), m.checkPack},
	} {
		for i := range list.n {
			if err := list.check(i); err != nil {
				return err
			}
		}
	}
	return m.checkWhole()
}

// checkWhole tells what entries say together that cannot be.
func (m *Manifest) checkWhole() error {
	if len(m.Control) == 0 || m.Label == "" {
		return errors.New("pg_control or the backup label is missing")
	}
	if m.Files != len(m.FileList) || m.Packs != len(m.PackList) || m.BadPages != len(m.BadPageList) {
		return errors.New("the summary counts otherwise")
	}
	if err := m.checkTree(); err != nil {
		return err
	}
	return m.checkPieces()
}

// The entries of each list ascend, so that a manifest that repeats itself is found out before it has filled the memory.

func (m *Manifest) checkTablespace(i int) error {
	if t := m.Tablespaces[i]; t.OID == 0 || i > 0 && t.OID <= m.Tablespaces[i-1].OID {
		return errors.New("tablespaces are out of order")
	}
	return checkCount(i)
}

func (m *Manifest) checkDirectory(i int) error {
	d := m.Directories[i]
	if i > 0 && d <= m.Directories[i-1] {
		return fmt.Errorf("directories %q and %q are out of order", m.Directories[i-1], d)
	}
	return errors.Join(checkPath(d), checkCount(i))
}

func (m *Manifest) checkFile(i int) error {
	f := m.FileList[i]
	if i > 0 && f.Path <= m.FileList[i-1].Path {
		return fmt.Errorf("files %q and %q are out of order", m.FileList[i-1].Path, f.Path)
	}
	if f.Size < 0 || f.Size > maxFileSize || f.Data < 0 || f.Data > f.Size {
		return fmt.Errorf("file %q of %d bytes", f.Path, f.Size)
	}
	return errors.Join(checkPath(f.Path), checkCount(i))
}

func (m *Manifest) checkBadPage(i int) error {
	if i > 0 && compareBadPages(m.BadPageList[i-1], m.BadPageList[i]) >= 0 {
		return errors.New("bad pages are out of order")
	}
	return checkCount(i)
}

func (m *Manifest) checkDatabase(i int) error {
	if d := m.Catalog.Databases; i > 0 && d[i].OID <= d[i-1].OID {
		return errors.New("databases are out of order")
	}
	return checkCount(i)
}

func (m *Manifest) checkRelation(i int) error {
	if r := m.Catalog.Relations; i > 0 && compareRelations(r[i-1], r[i]) >= 0 {
		return errors.New("relations are out of order")
	}
	return checkCount(i)
}

func (m *Manifest) checkPack(i int) error {
	p := m.PackList[i]
	if i > 0 && p.Key <= m.PackList[i-1].Key {
		return fmt.Errorf("packs %q and %q are out of order", m.PackList[i-1].Key, p.Key)
	}
	if err := p.Check(); err != nil {
		return fmt.Errorf("pack %q: %w", p.Key, err)
	}
	return checkCount(i)
}

func checkCount(i int) error {
	if i >= maxEntries {
		return fmt.Errorf("more than %d entries of a kind", maxEntries)
	}
	return nil
}

// checkPath allows only what can lie in a data directory and belongs in a backup of it.
func checkPath(p string) error {
	// path.Clean leaves a local, clean path as it is; filepath.IsLocal knows the devices of this system.
	if p != path.Clean(p) || p == "." || !filepath.IsLocal(filepath.FromSlash(p)) || strings.ContainsAny(p, "\\\x00") || len(p) > 4096 {
		return fmt.Errorf("path %q is not one of a data directory", p)
	}
	if !utf8.ValidString(p) {
		return fmt.Errorf("path %q is not UTF-8", p)
	}
	for at := p; at != "."; at = path.Dir(at) {
		if excluded(at) || path.Dir(at) == "pg_wal" {
			return fmt.Errorf("path %q does not belong in a backup", p)
		}
	}
	return nil
}

// checkTree checks that no file is where a directory has to be.
func (m *Manifest) checkTree() error {
	seen := map[string]bool{".": true}
	check := func(dir string) error {
		for ; !seen[dir]; dir = path.Dir(dir) {
			seen[dir] = true
			if _, found := slices.BinarySearchFunc(m.FileList, dir, func(f File, p string) int { return cmp.Compare(f.Path, p) }); found {
				return fmt.Errorf("%q is both a file and a directory", dir)
			}
		}
		return nil
	}
	for _, dir := range []string{"global", "pg_wal", "pg_tblspc"} {
		if err := check(dir); err != nil {
			return err
		}
	}
	for _, t := range m.Tablespaces {
		if err := check(fmt.Sprintf("pg_tblspc/%d", t.OID)); err != nil {
			return err
		}
	}
	for _, dir := range m.Directories {
		if err := check(dir); err != nil {
			return err
		}
	}
	for _, f := range m.FileList {
		if err := check(path.Dir(f.Path)); err != nil {
			return err
		}
	}
	return nil
}

// checkPieces checks that the pieces of each file lie in it, do not overlap, and are as many bytes as it says.
func (m *Manifest) checkPieces() error {
	var all []piece
	for _, p := range m.PackList {
		for i, pieces := range p.Pieces {
			raw := 0
			for _, c := range pieces {
				if c.File == NoFile {
					raw += c.Length
					continue
				}
				if c.File >= len(m.FileList) {
					return fmt.Errorf("a piece of file %d, there are %d", c.File, len(m.FileList))
				}
				if c.Length <= 0 || c.Offset < 0 || c.Offset > math.MaxInt64-int64(c.Length) ||
					c.Offset+int64(c.Length) > m.FileList[c.File].Size {
					return fmt.Errorf("a piece outside of file %q", m.FileList[c.File].Path)
				}
				raw += c.Length
				// Runs that follow each other, as most do, are kept as one.
				if n := len(all); n > 0 && all[n-1].entry == c.File && all[n-1].to == c.Offset {
					all[n-1].to += int64(c.Length)
				} else {
					all = append(all, piece{c.File, extent{c.Offset, c.Offset + int64(c.Length)}})
				}
			}
			if raw != p.Frames[i].Raw && len(pieces) > 0 {
				return fmt.Errorf("pack %q, frame %d: %d bytes of pieces, want %d", p.Key, i, raw, p.Frames[i].Raw)
			}
		}
	}
	slices.SortFunc(all, comparePieces)
	for i, f := range m.FileList {
		sum, end := int64(0), int64(0)
		for ; len(all) > 0 && all[0].entry == i; all = all[1:] {
			if all[0].from < end {
				return fmt.Errorf("two sources for bytes of file %q", f.Path)
			}
			sum, end = sum+all[0].to-all[0].from, all[0].to
		}
		if sum != f.Data {
			return fmt.Errorf("pieces of file %q have %d bytes, want %d", f.Path, sum, f.Data)
		}
	}
	return nil
}
