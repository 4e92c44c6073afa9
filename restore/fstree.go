package restore

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/pgcairn/pgcairn/backup"
	"github.com/pgcairn/pgcairn/internal/pgfile"
)

// fsTree finds names in a manifest. Its lists ascend by path, so that all that is below a directory stands together, and
// nothing has to be built for the files, which may be millions.
type fsTree struct {
	manifest *backup.Manifest
	dirs     []string  // those listed, and those that each data directory has
	texts    []*fsNode // files whose content stands in the manifest itself
}

// fsNode is a file or a directory. It is the fs.FileInfo of itself.
type fsNode struct {
	path string
	dir  bool
	size int64
	at   time.Time
	file int    // in the manifest's FileList, or -1
	text []byte // content, of one that is not there
}

func (n *fsNode) Name() string       { return path.Base(n.path) }
func (n *fsNode) Size() int64        { return n.size }
func (n *fsNode) ModTime() time.Time { return n.at }
func (n *fsNode) IsDir() bool        { return n.dir }
func (n *fsNode) Sys() any           { return nil }

// Mode is as a restore makes it, but that nothing can be written.
func (n *fsNode) Mode() fs.FileMode {
	if n.dir {
		return fs.ModeDir | 0o500
	}
	return 0o400
}

func newFSTree(m *backup.Manifest) fsTree {
	t := fsTree{manifest: m, dirs: slices.Concat(m.Directories, []string{"global", "pg_wal", "pg_wal/archive_status", "pg_tblspc"})}
	for _, space := range m.Tablespaces {
		t.dirs = append(t.dirs, fmt.Sprintf("pg_tblspc/%d", space.OID))
	}
	slices.Sort(t.dirs)
	t.text("backup_label", []byte(m.Label))
	t.text(pgfile.ControlPath, m.Control)
	if m.TablespaceMap != "" {
		t.text("tablespace_map", []byte(m.TablespaceMap))
	}
	return t
}

// text adds a file, in order. A manifest has none of its name.
func (t *fsTree) text(name string, content []byte) {
	t.texts = append(t.texts, &fsNode{path: name, size: int64(len(content)), at: t.manifest.StoppedAt, file: -1, text: content})
}

// find returns what has a name.
func (t *fsTree) find(name string) (*fsNode, error) {
	if !fs.ValidPath(name) {
		return nil, fs.ErrInvalid
	}
	for _, n := range t.texts {
		if n.path == name {
			return n, nil
		}
	}
	files := t.manifest.FileList
	if i, ok := slices.BinarySearchFunc(files, name, func(f backup.File, p string) int { return strings.Compare(f.Path, p) }); ok {
		return t.file(i), nil
	}
	_, listed := slices.BinarySearch(t.dirs, name)
	if name == "." || listed {
		return t.dir(name), nil
	}
	for _, l := range t.lists() {
		if i := l.search(name + "/"); i < l.n && strings.HasPrefix(l.path(i), name+"/") {
			return t.dir(name), nil
		}
	}
	return nil, fs.ErrNotExist
}

func (t *fsTree) file(i int) *fsNode {
	f := &t.manifest.FileList[i]
	return &fsNode{path: f.Path, size: f.Size, at: t.manifest.StoppedAt, file: i}
}

func (t *fsTree) dir(name string) *fsNode {
	return &fsNode{path: name, dir: true, at: t.manifest.StoppedAt, file: -1}
}

// fsList is one of the lists of a tree.
type fsList struct {
	n    int
	path func(i int) string
	node func(i int) *fsNode
}

func (t *fsTree) lists() []fsList {
	files := t.manifest.FileList
	return []fsList{
		{len(files), func(i int) string { return files[i].Path }, t.file},
		{len(t.dirs), func(i int) string { return t.dirs[i] }, func(i int) *fsNode { return t.dir(t.dirs[i]) }},
		{len(t.texts), func(i int) string { return t.texts[i].path }, func(i int) *fsNode { return t.texts[i] }},
	}
}

// search returns where a path stands, or would.
func (l fsList) search(p string) int {
	return sort.Search(l.n, func(i int) bool { return l.path(i) >= p })
}

// list returns what is in a directory, by name.
func (t *fsTree) list(dir string) []fs.DirEntry {
	prefix := dir + "/"
	if dir == "." {
		prefix = ""
	}
	var all []*fsNode
	for _, l := range t.lists() {
		for i := l.search(prefix); i < l.n; {
			rest, ok := strings.CutPrefix(l.path(i), prefix)
			if !ok {
				break
			}
			name, _, below := strings.Cut(rest, "/")
			if !below {
				all = append(all, l.node(i))
				i++
				continue
			}
			all = append(all, t.dir(prefix+name))
			i = l.search(prefix + name + "0") // the character after the slash: behind all that is below
		}
	}
	// A directory may be found in several ways.
	slices.SortFunc(all, func(a, b *fsNode) int { return strings.Compare(a.path, b.path) })
	all = slices.CompactFunc(all, func(a, b *fsNode) bool { return a.path == b.path })
	entries := make([]fs.DirEntry, len(all))
	for i, n := range all {
		entries[i] = fs.FileInfoToDirEntry(n)
	}
	return entries
}
