package process

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Self names this process.
func Self() ID {
	id := ID{PID: os.Getpid()}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return id
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return id
	}
	id.Host = strings.TrimSpace(string(boot)) + " " + ns
	id.Start, _ = startOf(id.PID)
	return id
}

// startOf returns the start time of a process in clock ticks since boot, or "" when there is no such process. A zombie
// counts as none.
func startOf(pid int) (string, error) { return startIn("/proc", pid) }

func startIn(proc string, pid int) (string, error) {
	if pid <= 0 {
		return "", errors.New("not the id of a process")
	}
	b, err := os.ReadFile(fmt.Sprintf("%s/%d/stat", proc, pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		// A /proc mounted with hidepid does not show the processes of other users.
		if errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			return "", nil
		}
		return "", fmt.Errorf("process %d is hidden", pid)
	}
	if err != nil {
		return "", err
	}
	// The second field, a name in parentheses, may contain anything; state is the third and start time the 22nd.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return "", errors.New("malformed /proc/PID/stat")
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 20 {
		return "", errors.New("malformed /proc/PID/stat")
	}
	if f[0] == "Z" || f[0] == "X" {
		return "", nil
	}
	return f[19], nil
}
