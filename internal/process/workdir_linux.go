package process

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// WorkDir returns the working directory of a process, by its path and as a file to compare with others. An error means
// that it cannot be told from here.
func WorkDir(pid int) (path string, info os.FileInfo, err error) {
	link := fmt.Sprintf("/proc/%d/cwd", pid)
	if path, err = os.Readlink(link); err != nil {
		return "", nil, err
	}
	info, err = os.Stat(link)
	return path, info, err
}

// WorksIn returns the id of a process of one of these names that works in a directory, or 0. Processes of containers are
// seen from their host, be their ids within the container what they may; those of other users by root alone.
func WorksIn(dir os.FileInfo, names ...string) int {
	all, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return 0
	}
	for _, path := range all {
		name, err := os.ReadFile(path)
		if err != nil || !slices.Contains(names, strings.TrimSpace(string(name))) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			continue
		}
		if _, there, err := WorkDir(pid); err == nil && os.SameFile(dir, there) {
			return pid
		}
	}
	return 0
}
