package pgfile

import (
	"errors"
	"strconv"
	"strings"
)

// LockPath is where a server's lock file is in its data directory.
const LockPath = "postmaster.pid"

// ErrLockFile means that a lock file does not say who wrote it, as while a server begins. No server starts on it either.
var ErrLockFile = errors.New("postmaster.pid is empty, or malformed")

// LockFile is what postmaster.pid tells (pidfile.h).
type LockFile struct {
	PID     int    // of the server; of a single-user one as well
	DataDir string // as the server calls it; may be empty

	// The server's System V shared memory, which outlives it for as long as one of its processes does; 0 when it has none.
	ShmKey, ShmID uint64
}

// ParseLockFile parses the content of postmaster.pid.
func ParseLockFile(b []byte) (LockFile, error) {
	const dataDirLine, shmLine = 1, 6 // from 0
	lines := strings.Split(string(b), "\n")
	pid, err := strconv.ParseInt(strings.TrimSpace(lines[0]), 10, 32)
	if err != nil || pid == 0 {
		return LockFile{}, ErrLockFile
	}
	if pid < 0 {
		pid = -pid // a single-user server
	}
	l := LockFile{PID: int(pid)}
	if len(lines) > dataDirLine {
		l.DataDir = lines[dataDirLine]
	}
	if len(lines) > shmLine {
		if f := strings.Fields(lines[shmLine]); len(f) == 2 {
			key, err1 := strconv.ParseUint(f[0], 10, 64)
			id, err2 := strconv.ParseUint(f[1], 10, 64)
			if err1 == nil && err2 == nil {
				l.ShmKey, l.ShmID = key, id
			}
		}
	}
	return l, nil
}
