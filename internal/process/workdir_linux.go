package process

import (
	"fmt"
	"os"
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
