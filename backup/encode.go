package backup

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/pgcairn/pgcairn/repo"
)

// A manifest is lines of JSON: a summary first, which has a checksum of its own so that it can be read alone; then
// lines with one member each, named by what it holds; last a line that counts them.

// manifestHead is the first line.
type manifestHead struct {
	Manifest int `json:"pgcairn_manifest"` // version of the manifest's layout
	Summary
}

// manifestVersion is the newest layout described in repo/FORMAT.md. The first has no frames that are needed in part.
const manifestVersion = 2

// version is that of the oldest layout that can tell what the manifest does.
func (m *Manifest) version() int {
	if m.Catalog != nil {
		return 2
	}
	for i := range m.PackList {
		for _, pieces := range m.PackList[i].Pieces {
			if len(pieces) == 0 || slices.ContainsFunc(pieces, func(p Piece) bool { return p.File == NoFile }) {
				return 2
			}
		}
	}
	return 1
}

// manifestLine is each further line; one member is set.
type manifestLine struct {
	Label         *string     `json:"backup_label,omitempty"`
	TablespaceMap *string     `json:"tablespace_map,omitempty"`
	Control       []byte      `json:"pg_control,omitempty"` // base64
	Tablespace    *Tablespace `json:"tablespace,omitempty"`
	Directory     *string     `json:"directory,omitempty"`
	File          *File       `json:"file,omitempty"`
	Bad           *BadPage    `json:"bad_page,omitempty"`
	Catalog       *Catalog    `json:"catalog,omitempty"`
	Database      *Database   `json:"database,omitempty"`
	Relation      *Relation   `json:"relation,omitempty"`
	Pack          *packLine   `json:"pack,omitempty"`
	End           *endLine    `json:"end,omitempty"`
}

type packLine struct {
	Key    string      `json:"key"`
	Size   int64       `json:"size"`
	Frames []frameLine `json:"frames"`
}

type frameLine struct {
	repo.Frame
	Pieces pieceList `json:"pieces,omitempty"`
}

type endLine struct {
	Tablespaces int `json:"tablespaces"`
	Directories int `json:"directories"`
	Files       int `json:"files"`
	BadPages    int `json:"bad_pages"`
	Databases   int `json:"databases,omitempty"`
	Relations   int `json:"relations,omitempty"`
	Packs       int `json:"packs"`
}

// store writes the manifest, which commits the backup.
func (m *Manifest) store(ctx context.Context, r *repo.Repo) error {
	key := m.ID.manifestKey()
	_, err := r.Put(ctx, key, nil, func(w io.Writer) error { return m.encode(w, key) })
	if err != nil {
		return fmt.Errorf("backup: commit %s: %w", m.ID, err)
	}
	return nil
}

func (m *Manifest) encode(w io.Writer, key string) error {
	head, err := repo.SealRecord(key, manifestHead{Manifest: m.version(), Summary: m.Summary})
	if err != nil {
		return err
	}
	return m.encodeAfter(w, head)
}

// encodeAfter writes a first line that there is already, and the rest.
func (m *Manifest) encodeAfter(w io.Writer, head []byte) (err error) {
	if _, err := w.Write(head); err != nil {
		return err
	}
	// The summary is a frame of its own, so that a catalogue reads no more than that.
	if f, ok := w.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	buf := bufio.NewWriterSize(w, 64<<10)
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	put := func(l manifestLine) {
		if err != nil {
			return
		}
		line.Reset()
		if err = enc.Encode(l); err != nil {
			return
		}
		if line.Len() > maxLine {
			err = fmt.Errorf("a line of %d bytes, at most %d can be read again", line.Len(), maxLine)
			return
		}
		_, err = buf.Write(line.Bytes())
	}
	put(manifestLine{Label: &m.Label})
	put(manifestLine{TablespaceMap: &m.TablespaceMap})
	put(manifestLine{Control: m.Control})
	for i := range m.Tablespaces {
		put(manifestLine{Tablespace: &m.Tablespaces[i]})
	}
	for i := range m.Directories {
		put(manifestLine{Directory: &m.Directories[i]})
	}
	for i := range m.FileList {
		put(manifestLine{File: &m.FileList[i]})
	}
	for i := range m.BadPageList {
		put(manifestLine{Bad: &m.BadPageList[i]})
	}
	if c := m.Catalog; c != nil {
		put(manifestLine{Catalog: c})
		for i := range c.Databases {
			put(manifestLine{Database: &c.Databases[i]})
		}
		for i := range c.Relations {
			put(manifestLine{Relation: &c.Relations[i]})
		}
	}
	for i := range m.PackList {
		put(manifestLine{Pack: m.PackList[i].line()})
	}
	end := m.counts()
	put(manifestLine{End: &end})
	if err != nil {
		return err
	}
	return buf.Flush()
}

// counts is what the last line says.
func (m *Manifest) counts() endLine {
	l := endLine{
		Tablespaces: len(m.Tablespaces), Directories: len(m.Directories), Files: len(m.FileList), BadPages: len(m.BadPageList), Packs: len(m.PackList),
	}
	if c := m.Catalog; c != nil {
		l.Databases, l.Relations = len(c.Databases), len(c.Relations)
	}
	return l
}

func (p *PackPieces) line() *packLine {
	l := &packLine{Key: p.Key, Size: p.Size}
	for i, f := range p.Frames {
		l.Frames = append(l.Frames, frameLine{Frame: f, Pieces: p.Pieces[i]})
	}
	return l
}
