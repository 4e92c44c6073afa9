package drill

import (
	"fmt"
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

// own gives trees to the account. A directory goes after all that is in it: whoever has one may put a link to elsewhere in
// the place of what would be given away next.
func (a *account) own(trees ...string) error {
	if !a.switched {
		return nil
	}
	for _, tree := range trees {
		if err := upwards(tree, func(path string) error { return os.Lchown(path, a.uid, a.gid) }); err != nil {
			return fmt.Errorf("give the directory to user %s: %w", a.name, err)
		}
	}
	return nil
}

// upwards calls do for all that is in a tree, and for a directory after all that is in it.
func upwards(tree string, do func(path string) error) error {
	info, err := os.Lstat(tree)
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := os.ReadDir(tree)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := upwards(filepath.Join(tree, e.Name()), do); err != nil {
				return err
			}
		}
	}
	return do(tree)
}
