package repo

import (
	"path/filepath"
	"strings"
)

// StateDir is the directory of this host that belongs to this repository: a folder of [Options.StateDir] with the
// repository's id for its name, or empty when none was given. It need not exist yet; who makes it lets nobody but its
// owner in (mode 0700), since what is in it is trusted.
//
// A copy of a repository has the same id, and so shares it.
func (r *Repo) StateDir() string { return stateDir(r.state, r.marker.ID) }

func stateDir(dir, id string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, id)
}

// validID tells whether a repository's id can name a folder. Whoever can write to the store could plant another.
func validID(id string) bool {
	return id != "" && id != "." && id != ".." && !strings.ContainsAny(id, "/\\\x00") && len(id) <= 128
}
