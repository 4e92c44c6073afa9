package backup

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/wal"
)

// Bounds on lines, far above what real clusters reach.
const (
	maxHeadLine = 64 << 10 // bytes of the summary
	maxLine     = 64 << 20 // bytes of any line; the longest is a pack full of frames of small files
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
	if h.Manifest < 1 || s.ID != id || s.Timeline == 0 || s.StopLSN < s.StartLSN || s.StartLSN == 0 ||
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
	m := &Manifest{Summary: *s, FileList: make([]File, 0, max(0, min(s.Files, 1<<20)))}
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
	if err := m.checkWhole(); err != nil {
		return nil, m.malformed("%w", err)
	}
	return m, nil
}

// add takes a line in; end says that it is the last.
func (m *Manifest) add(l manifestLine) (end bool, err error) {
	switch {
	case l.Label != nil && m.Label == "":
		m.Label = *l.Label
	case l.TablespaceMap != nil && m.TablespaceMap == "":
		m.TablespaceMap = *l.TablespaceMap
	case l.Control != nil && m.Control == nil:
		m.Control = l.Control
	case l.Tablespace != nil:
		m.Tablespaces = append(m.Tablespaces, *l.Tablespace)
		err = m.checkTablespace(len(m.Tablespaces) - 1)
	case l.Directory != nil:
		m.Directories = append(m.Directories, *l.Directory)
		err = m.checkDirectory(len(m.Directories) - 1)
	case l.File != nil:
		m.FileList = append(m.FileList, *l.File)
		err = m.checkFile(len(m.FileList) - 1)
	case l.Bad != nil:
		m.BadPageList = append(m.BadPageList, *l.Bad)
		err = m.checkBadPage(len(m.BadPageList) - 1)
	case l.Catalog != nil && m.Catalog == nil:
		m.Catalog = l.Catalog
	case l.Database != nil && m.Catalog != nil:
		m.Catalog.Databases = append(m.Catalog.Databases, *l.Database)
		err = m.checkDatabase(len(m.Catalog.Databases) - 1)
	case l.Relation != nil && m.Catalog != nil:
		m.Catalog.Relations = append(m.Catalog.Relations, *l.Relation)
		err = m.checkRelation(len(m.Catalog.Relations) - 1)
	case l.Pack != nil:
		p := PackPieces{Pack: repo.Pack{Key: l.Pack.Key, Size: l.Pack.Size}}
		for _, f := range l.Pack.Frames {
			p.Frames = append(p.Frames, f.Frame)
			p.Pieces = append(p.Pieces, f.Pieces)
		}
		m.PackList = append(m.PackList, p)
		err = m.checkPack(len(m.PackList) - 1)
	case l.End != nil:
		if *l.End != m.counts() {
			return false, m.malformed("its end counts otherwise")
		}
		return true, nil
	default:
		return false, m.malformed("a line of unknown content, or twice the same")
	}
	if err != nil {
		return false, m.malformed("%w", err)
	}
	return false, nil
}

func (m *Manifest) malformed(format string, args ...any) error {
	return &repo.CorruptError{Key: m.ID.manifestKey(), Err: fmt.Errorf(format, args...)}
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
