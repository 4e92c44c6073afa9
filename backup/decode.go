package backup

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/pgcairn/pgcairn/internal/pgfile"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Bounds on what a manifest may say, far above what real clusters reach.
const (
	maxHeadLine = 64 << 10 // bytes of the summary
	maxLine     = 64 << 20 // bytes of any line; the longest is a pack full of frames of small files
	maxFiles    = 50_000_000
	maxFileSize = 1 << 46 // bytes
)

// errLine means that a line is not one of a manifest's.
var errLine = errors.New("malformed line")

// decodeHead reads a manifest's first line.
func decodeHead(r *bufio.Reader, id ID) (*Summary, error) {
	key := id.manifestKey()
	line, err := readLine(r, maxHeadLine)
	if errors.Is(err, io.EOF) || errors.Is(err, errLine) {
		return nil, &repo.CorruptError{Key: key, Err: errors.New("it has no summary")}
	}
	if err != nil {
		return nil, err
	}
	// A line of another layout need not be sealed as this one's; its version comes first.
	var v struct {
		Manifest int `json:"pgcairn_manifest"`
	}
	if json.Unmarshal(line, &v) == nil && v.Manifest > manifestVersion {
		return nil, &repo.FormatError{Format: v.Manifest, Supported: manifestVersion}
	}
	var h manifestHead
	if err := repo.OpenRecord(key, line, &h); err != nil {
		return nil, err
	}
	s := &h.Summary
	if h.Manifest != manifestVersion || s.ID != id || s.Timeline == 0 || s.StopLSN < s.StartLSN || s.StartLSN == 0 ||
		!wal.ValidSegmentSize(s.WALSegmentSize) {
		return nil, &repo.CorruptError{Key: key, Err: errors.New("malformed summary")}
	}
	return s, nil
}

// decodeManifest reads a whole manifest and checks that it is sound: nothing it says can lead a restore out of its
// directory, and every byte of every file has exactly one source.
func decodeManifest(r io.Reader, id ID) (*Manifest, error) {
	br := bufio.NewReaderSize(r, 64<<10)
	s, err := decodeHead(br, id)
	if err != nil {
		return nil, err
	}
	m := &Manifest{Summary: *s}
	ended := false
	for {
		line, err := readLine(br, maxLine)
		if errors.Is(err, io.EOF) {
			break
		}
		if errors.Is(err, errLine) {
			return nil, m.malformed("%v", err)
		}
		if err != nil {
			return nil, err
		}
		if ended {
			return nil, m.malformed("content after its end")
		}
		var l manifestLine
		if err := json.Unmarshal(line, &l); err != nil {
			return nil, m.malformed("%v", err)
		}
		if ended, err = m.add(l); err != nil {
			return nil, err
		}
	}
	if !ended {
		return nil, m.malformed("it has no end")
	}
	if err := m.check(); err != nil {
		return nil, m.malformed("%v", err)
	}
	return m, nil
}

// add takes a line in; end says that it is the last.
func (m *Manifest) add(l manifestLine) (end bool, err error) {
	switch {
	case l.Label != nil:
		m.Label = *l.Label
	case l.TablespaceMap != nil:
		m.TablespaceMap = *l.TablespaceMap
	case l.Control != nil:
		m.Control = l.Control
	case l.Tablespace != nil:
		m.Tablespaces = append(m.Tablespaces, *l.Tablespace)
	case l.Directory != nil:
		m.Directories = append(m.Directories, *l.Directory)
	case l.File != nil:
		m.FileList = append(m.FileList, *l.File)
	case l.Bad != nil:
		m.BadPageList = append(m.BadPageList, *l.Bad)
	case l.Pack != nil:
		p := PackPieces{Pack: repo.Pack{Key: l.Pack.Key, Size: l.Pack.Size}}
		for _, f := range l.Pack.Frames {
			p.Frames = append(p.Frames, f.Frame)
			p.Pieces = append(p.Pieces, f.Pieces)
		}
		m.PackList = append(m.PackList, p)
	case l.End != nil:
		e := *l.End
		if e.Tablespaces != len(m.Tablespaces) || e.Directories != len(m.Directories) || e.Files != len(m.FileList) || e.BadPages != len(m.BadPageList) || e.Packs != len(m.PackList) {
			return false, m.malformed("its end counts otherwise")
		}
		return true, nil
	default:
		return false, m.malformed("a line of unknown content")
	}
	if len(m.FileList) > maxFiles || len(m.Directories) > maxFiles {
		return false, m.malformed("more than %d files", maxFiles)
	}
	return false, nil
}

func (m *Manifest) malformed(format string, args ...any) error {
	return &repo.CorruptError{Key: m.ID.manifestKey(), Err: fmt.Errorf(format, args...)}
}

// check tells what a manifest says that cannot be.
func (m *Manifest) check() error {
	if len(m.Control) == 0 || m.Label == "" {
		return errors.New("pg_control or the backup label is missing")
	}
	if m.Files != len(m.FileList) || m.Packs != len(m.PackList) || m.BadPages != len(m.BadPageList) {
		return errors.New("the summary counts otherwise")
	}
	for i, t := range m.Tablespaces {
		if t.OID == 0 || i > 0 && t.OID <= m.Tablespaces[i-1].OID {
			return errors.New("tablespaces are out of order")
		}
	}
	for _, d := range m.Directories {
		if err := m.checkPath(d); err != nil {
			return err
		}
	}
	for i, f := range m.FileList {
		if err := m.checkPath(f.Path); err != nil {
			return err
		}
		if i > 0 && f.Path <= m.FileList[i-1].Path {
			return fmt.Errorf("files %q and %q are out of order", m.FileList[i-1].Path, f.Path)
		}
		if f.Size < 0 || f.Size > maxFileSize || f.Data < 0 || f.Data > f.Size {
			return fmt.Errorf("file %q of %d bytes", f.Path, f.Size)
		}
	}
	return m.checkPieces()
}

// checkPath allows only what can lie in a data directory, and below pg_tblspc only known tablespaces.
func (m *Manifest) checkPath(p string) error {
	// path.Clean leaves a local, clean path as it is.
	if p == "" || p != path.Clean(p) || path.IsAbs(p) || p == "." || p == ".." || strings.HasPrefix(p, "../") ||
		strings.ContainsAny(p, "\\\x00") || len(p) > 4096 {
		return fmt.Errorf("path %q is not one of a data directory", p)
	}
	if p == pgfile.ControlPath || pgfile.FileExcluded(p) {
		return fmt.Errorf("path %q does not belong in a backup", p)
	}
	if dir, _, _ := strings.Cut(p, "/"); dir == "pg_wal" && p != "pg_wal" {
		return fmt.Errorf("path %q does not belong in a backup", p)
	}
	return nil
}

// checkPieces checks that the pieces of each file lie in it, do not overlap, and are as many bytes as it says.
func (m *Manifest) checkPieces() error {
	type span struct{ off, end int64 }
	spans := make([][]span, len(m.FileList))
	for _, p := range m.PackList {
		if err := p.Check(); err != nil {
			return fmt.Errorf("pack %q: %w", p.Key, err)
		}
		for i, pieces := range p.Pieces {
			raw := 0
			for _, c := range pieces {
				if c.File >= len(m.FileList) {
					return fmt.Errorf("a piece of file %d, there are %d", c.File, len(m.FileList))
				}
				if c.Length <= 0 || c.Offset < 0 || c.Offset > math.MaxInt64-int64(c.Length) ||
					c.Offset+int64(c.Length) > m.FileList[c.File].Size {
					return fmt.Errorf("a piece outside of file %q", m.FileList[c.File].Path)
				}
				raw += c.Length
				// Runs that follow each other, as most do, are kept as one.
				s := spans[c.File]
				if n := len(s); n > 0 && s[n-1].end == c.Offset {
					s[n-1].end += int64(c.Length)
				} else {
					spans[c.File] = append(s, span{c.Offset, c.Offset + int64(c.Length)})
				}
			}
			if raw != p.Frames[i].Raw {
				return fmt.Errorf("pack %q, frame %d: %d bytes of pieces, want %d", p.Key, i, raw, p.Frames[i].Raw)
			}
		}
	}
	for i, s := range spans {
		slices.SortFunc(s, func(a, b span) int { return cmp.Compare(a.off, b.off) })
		sum, end := int64(0), int64(0)
		for _, c := range s {
			if c.off < end {
				return fmt.Errorf("two sources for bytes of file %q", m.FileList[i].Path)
			}
			sum, end = sum+c.end-c.off, c.end
		}
		if sum != m.FileList[i].Data {
			return fmt.Errorf("pieces of file %q have %d bytes, want %d", m.FileList[i].Path, sum, m.FileList[i].Data)
		}
	}
	return nil
}

// readLine reads a line of at most limit bytes, its newline included.
func readLine(r *bufio.Reader, limit int) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > limit {
			return nil, fmt.Errorf("%w: more than %d bytes", errLine, limit)
		}
		if err == nil && line == nil {
			return part, nil
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) > 0:
			return nil, fmt.Errorf("%w: it has no end", errLine)
		default:
			return nil, err
		}
	}
}
