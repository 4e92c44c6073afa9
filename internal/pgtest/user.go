package pgtest

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// account is the user that servers run as.
type account struct {
	uid, gid uint32
	switched bool // it is another user than the one who runs the tests
}

// serverAccount is the current user, unless that is root: then postgres or, failing that, nobody.
var serverAccount = sync.OnceValues(func() (account, error) {
	if uid := os.Getuid(); uid != 0 {
		return account{uid: uint32(uid), gid: uint32(os.Getgid())}, nil //nolint:gosec // ids of this process
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return account{}, fmt.Errorf("user %s: %w", name, err)
		}
		return account{uid: uint32(uid), gid: uint32(gid), switched: true}, nil
	}
	return account{}, fmt.Errorf("tests run as root, and there is neither a user postgres nor nobody to run servers as")
})

func mustAccount(t testing.TB) account {
	t.Helper()
	a, err := serverAccount()
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	return a
}

// Command prepares a program to be run as the user that servers run as, in an environment without PG* variables.
func Command(t testing.TB, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	asServer(t, cmd)
	return cmd
}

// Run runs a program as the user that servers run as and returns what it printed; the test fails if the program does.
func Run(t testing.TB, program string, args ...string) string {
	t.Helper()
	out, err := Command(t, program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("pgtest: %s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func asServer(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.Dir = "/" // the working directory of the tests may be closed to that user
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"}
	if a := mustAccount(t); a.switched {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
	}
}
