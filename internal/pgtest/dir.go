package pgtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// maxTempDir keeps the path of a socket below the 107 bytes that Linux allows (104 on macOS).
const maxTempDir = 60

// Dir returns a new directory that belongs to the user that servers run as and is removed after the test. Unlike
// t.TempDir it can be reached by that user, and its path is short enough for a socket.
func Dir(t testing.TB) string {
	t.Helper()
	a := mustAccount(t)
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(base) > maxTempDir || closedAncestor(base, a) != "" {
			continue
		}
		dir, err := os.MkdirTemp(base, "pgtest")
		if err != nil {
			t.Fatalf("pgtest: %v", err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Errorf("pgtest: %v", err)
			}
		})
		Own(t, dir)
		return dir
	}
	t.Fatalf("pgtest: user %d can reach no temporary directory; set TMPDIR to a short path that he can search", a.uid)
	return ""
}

// Copy copies a directory with all that is in it, the data directory of a stopped cluster for one, to a new place
// below a directory of its own. Symbolic links are copied as links.
func Copy(t testing.TB, dir string) string {
	t.Helper()
	dst := filepath.Join(Dir(t), "copy")
	Run(t, "cp", "-a", dir, dst)
	return dst
}

// Own gives a directory tree to the user that servers run as, and opens the way to it: directories above it, as far as
// they lie below the temporary directory, are made searchable. What symbolic links in pg_tblspc and pg_wal point to goes
// along. It changes no modes in the tree, since a wrong mode is something for a test to find.
func Own(t testing.TB, dir string) {
	t.Helper()
	a := mustAccount(t)
	if !a.switched {
		return
	}
	for _, tree := range append(linkedTrees(dir), dir) {
		if err := chownTree(tree, a); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
		if err := openWay(filepath.Dir(tree), a); err != nil {
			t.Fatalf("pgtest: %v", err)
		}
	}
}

// linkedTrees returns the directories outside a data directory that belong to it: tablespaces and pg_wal.
func linkedTrees(pgdata string) []string {
	var trees []string
	links, _ := filepath.Glob(filepath.Join(pgdata, "pg_tblspc", "*")) // fails only for a bad pattern
	for _, link := range append(links, filepath.Join(pgdata, "pg_wal")) {
		if info, err := os.Lstat(link); err != nil || info.Mode().Type() != fs.ModeSymlink {
			continue
		}
		if tree, err := filepath.EvalSymlinks(link); err == nil {
			trees = append(trees, tree)
		}
	}
	return trees
}

func chownTree(tree string, a account) error {
	return filepath.WalkDir(tree, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(a.uid), int(a.gid))
	})
}

// openWay lets everybody search the directories from dir upwards that lie below the temporary directory.
func openWay(dir string, a account) error {
	for closed := closedAncestor(dir, a); closed != ""; closed = closedAncestor(dir, a) {
		if below, err := filepath.Rel(os.TempDir(), closed); err != nil || below == "." || !filepath.IsLocal(below) {
			return fmt.Errorf("user %d, who runs the servers, cannot search %s on the way to %s", a.uid, closed, dir)
		}
		info, err := os.Stat(closed)
		if err != nil {
			return err
		}
		if err := os.Chmod(closed, info.Mode().Perm()|0o111); err != nil {
			return err
		}
	}
	return nil
}

// closedAncestor returns the topmost directory on the way to dir, dir included, that a cannot search, or "".
func closedAncestor(dir string, a account) string {
	if !a.switched {
		return ""
	}
	if parent := filepath.Dir(dir); parent != dir {
		if closed := closedAncestor(parent, a); closed != "" {
			return closed
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return dir
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if info.Mode()&0o001 != 0 || ok && stat.Uid == a.uid && info.Mode()&0o100 != 0 {
		return ""
	}
	return dir
}
