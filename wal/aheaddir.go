package wal

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/internal/durable"
)

// aheadAge is how long a segment that was fetched ahead is kept: recovery that has not asked for it by then has ended.
const aheadAge = time.Hour

// aheadDir is a directory of segments that were fetched ahead, of one repository. A file is named as its segment and the
// digest of its content, and gets that name only when it is whole; so it needs no note beside it, and processes may share
// the directory without locks. The digest is compared once more before a file is used: a loss of power may have left it
// in part, since it is not synced.
type aheadDir struct {
	dir   string
	bytes int64 // that it may hold
	now   func() time.Time
}

// aheadFile is a segment in an aheadDir.
type aheadFile struct {
	path    string
	f       *os.File
	system  System
	segment Segment
}

// find opens a segment of a cluster that is there and right. What is there and wrong, or of another cluster, is removed.
func (d aheadDir) find(n Name, id uint64) (*aheadFile, bool) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, false
	}
	for _, e := range entries {
		sum, ok := strings.CutPrefix(e.Name(), n.String()+"-")
		var want digest
		if !ok || !parseDigest(sum, (*[32]byte)(&want)) {
			continue
		}
		path := filepath.Join(d.dir, e.Name())
		f, err := os.Open(path)
		if err != nil {
			continue // somebody has taken it
		}
		if sys, seg, ok := rightSegment(n, f, want); ok && sys.ID == id {
			return &aheadFile{path: path, f: f, system: sys, segment: seg}, true
		}
		_ = f.Close()
		_ = os.Remove(path)
	}
	return nil, false
}

// rightSegment returns which segment a file is, and of which cluster, unless it is another than its name tells.
func rightSegment(n Name, f *os.File, want digest) (sys System, seg Segment, ok bool) {
	w, err := opened(n, f, "")
	if err != nil {
		return sys, seg, false
	}
	h, err := ReadHeader(whole(w.content))
	if err != nil || h.check(n) != nil || w.content.Size() != int64(h.SegmentSize) {
		return sys, seg, false
	}
	got, err := digestOf(w.content)
	if err != nil || got != want {
		return sys, seg, false
	}
	seg, err = n.Segment(h.SegmentSize)
	return System{ID: h.SystemID, SegmentSize: h.SegmentSize}, seg, err == nil
}

// names returns which segments are there, right or wrong.
func (d aheadDir) names() map[string]bool {
	entries, _ := os.ReadDir(d.dir) // what cannot be listed is not there
	there := make(map[string]bool, len(entries))
	for _, e := range entries {
		if aheadName(e.Name()) {
			name, _, _ := strings.Cut(e.Name(), "-")
			there[name] = true
		}
	}
	return there
}

// aheadName tells whether that is the name of a whole file.
func aheadName(name string) bool {
	_, sum, ok := strings.Cut(name, "-")
	var d [32]byte
	return ok && parseDigest(sum, &d)
}

// put brings a segment of size bytes here.
func (d aheadDir) put(f *archived, size int64) error {
	label := f.obj.Label()
	if len(label) != len(digest{}) {
		return errors.New("wal: no digest in its head")
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if !d.makeRoom(size) {
		return fmt.Errorf("wal: there is no room in %s", d.dir)
	}
	path := filepath.Join(d.dir, f.name.String()+"-"+hex.EncodeToString(label))
	// It is not brought to disk before somebody has it: one that is copied then, and removed, need never get there.
	return durable.FillUnsynced(path, 0o600, func(w *os.File) error { return f.copyTo(w) }) // which compares the content with the label
}

// makeRoom removes what is old, and what is oldest until size bytes more may be there.
func (d aheadDir) makeRoom(size int64) bool {
	list := d.sweep()
	slices.SortFunc(list, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	var held int64
	for _, info := range list {
		held += info.Size()
	}
	for _, info := range list {
		if held+size <= d.bytes {
			break
		}
		if os.Remove(filepath.Join(d.dir, info.Name())) == nil {
			held -= info.Size()
		}
	}
	return held+size <= d.bytes
}

// sweep removes what recovery has left behind, and returns what whole files there are.
func (d aheadDir) sweep() (list []fs.FileInfo) {
	entries, _ := os.ReadDir(d.dir) // what cannot be listed is not there
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil:
		case d.now().Sub(info.ModTime()) > aheadAge:
			_ = os.Remove(filepath.Join(d.dir, e.Name()))
		case aheadName(e.Name()):
			list = append(list, info)
		}
	}
	return list
}

// clear removes every whole file.
func (d aheadDir) clear() {
	for _, info := range d.sweep() {
		_ = os.Remove(filepath.Join(d.dir, info.Name()))
	}
}

// Close closes the file.
func (f *aheadFile) Close() error { return f.f.Close() }
