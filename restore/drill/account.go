package drill

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// account is the user of the operating system that the server runs as.
type account struct {
	name     string
	uid, gid int
	switched bool // it is another than the one who drills
}

// findAccount returns the account of a user's name or number; by default the one who drills, unless that is root.
func findAccount(name string) (*account, error) {
	self := os.Geteuid()
	if name == "" {
		if self == 0 {
			return nil, &UserError{Reason: "PostgreSQL does not run as root: say which user the server is to run as"}
		}
		return &account{uid: self, gid: os.Getegid()}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return nil, &UserError{User: name, Reason: "there is no such user"}
		}
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, &UserError{User: name, Reason: "it has no number"}
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, &UserError{User: name, Reason: "its group has no number"}
	}
	switch {
	case uid == 0:
		return nil, &UserError{User: name, Reason: "PostgreSQL does not run as root: choose another user"}
	case uid != self && self != 0:
		return nil, &UserError{User: name, Reason: "only root can run the server as another user"}
	}
	return &account{name: name, uid: uid, gid: gid, switched: uid != self}, nil
}

// own gives trees to the account.
func (a *account) own(trees ...string) error {
	if !a.switched {
		return nil
	}
	for _, tree := range trees {
		err := filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, a.uid, a.gid)
		})
		if err != nil {
			return fmt.Errorf("give the directory to user %s: %w", a.name, err)
		}
	}
	return nil
}
