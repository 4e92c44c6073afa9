package wal

import (
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"
)

// marks remember, on this host, which files were archived before archive_command was called for them. A mark is a small
// file named as the segment. It counts only together with the file: whoever finds one sees that the file is in the state
// in which it was archived or, where that does not tell, computes the digest of its content. A mark that is damaged, of
// another repository, or of another file with other content says nothing.
//
// Marks are written without syncing and read without locking: what a crash or a race can leave of one has not its sum.
// The zero marks remember nothing.
type marks struct {
	dir  string
	repo string // id of the repository
}

// mark is the content of such a file.
type mark struct {
	Repository string `json:"repository"`
	Name       string `json:"name"`
	System     uint64 `json:"system,omitempty,string"` // of the data directory, where the file does not tell
	Digest     string `json:"digest"`                  // hexadecimal
	State      string `json:"state,omitempty"`
	Sum        string `json:"sum"` // hexadecimal, of the others
}

// seal computes the sum.
func (m mark) seal() string {
	return strconv.FormatUint(xxh3.HashString(strings.Join([]string{m.Repository, m.Name, strconv.FormatUint(m.System, 10), m.Digest, m.State}, "\n")), 16)
}

// maxMark bounds a mark in bytes.
const maxMark = 1 << 10

func marksIn(state, repo string) marks {
	if state == "" {
		return marks{}
	}
	return marks{dir: filepath.Join(state, "pushed"), repo: repo}
}

func (m marks) path(name string) string { return filepath.Join(m.dir, name) }

// holds tells whether a mark says that just this content is durable under this name.
func (m marks) holds(f *walFile) bool {
	have, ok := m.read(f.name.String())
	if !ok || have.Repository != m.repo || have.Name != f.name.String() || have.Sum != have.seal() {
		return false
	}
	if have.System != noteOf(f) {
		return false
	}
	if have.State != "" && have.State == f.state() {
		return true
	}
	d, err := digestOf(f.content)
	return err == nil && have.Digest == hex.EncodeToString(d[:])
}

func (m marks) read(name string) (mark, bool) {
	if m.dir == "" {
		return mark{}, false
	}
	f, err := os.Open(m.path(name))
	if err != nil {
		return mark{}, false
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMark+1))
	var have mark
	if err != nil || len(b) > maxMark || json.Unmarshal(b, &have) != nil {
		return mark{}, false
	}
	return have, true
}

// write makes a mark for content that is durable, and was in a file of that state, which may be unknown. Failing to costs
// time later, and nothing else.
func (m marks) write(f *walFile, d digest, state string) error {
	if m.dir == "" {
		return nil
	}
	name := f.name.String()
	made := mark{Repository: m.repo, Name: name, System: noteOf(f), Digest: hex.EncodeToString(d[:]), State: state}
	made.Sum = made.seal()
	b, err := json.Marshal(made)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(m.dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(m.path(name), b, 0o600)
}

// noteOf is of which cluster a file is whose content does not tell; that of another may be the same.
func noteOf(f *walFile) uint64 {
	if !f.name.note() {
		return 0
	}
	return f.systemID()
}

// remove drops the mark of a file that PostgreSQL has been told about.
func (m marks) remove(n Name) {
	if m.dir != "" {
		_ = os.Remove(m.path(n.String()))
	}
}

// sweep drops the marks of files for which PostgreSQL will not call again: those that status, an archive_status
// directory, has no .ready file for. Two clusters that share a directory drop each other's, which costs them time.
func (m marks) sweep(status string) {
	if m.dir == "" {
		return
	}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		_, err := ParseName(name)
		if err == nil {
			if _, err := os.Lstat(filepath.Join(status, name+readySuffix)); !os.IsNotExist(err) {
				continue
			}
		}
		_ = os.Remove(m.path(name))
	}
}
