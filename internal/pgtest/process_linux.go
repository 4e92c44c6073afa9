package pgtest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// endWithParent makes the kernel end a server (immediate shutdown) whose tests have died without cleaning up.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }

// descendants returns the processes that pid has started, and theirs.
func descendants(pid int) []int {
	children := make(map[int][]int)
	all, _ := filepath.Glob("/proc/[0-9]*") // fails only for a bad pattern
	for _, dir := range all {
		if child, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			if _, parent, ok := procStat(child); ok {
				children[parent] = append(children[parent], child)
			}
		}
	}
	family := append([]int(nil), children[pid]...)
	for i := 0; i < len(family); i++ {
		family = append(family, children[family[i]]...)
	}
	return family
}

// alive reports whether a process runs; one that has ended and was not waited for does not.
func alive(pid int) bool {
	state, _, ok := procStat(pid)
	return ok && state != 'Z' && state != 'X'
}

// procStat reads a process's state and parent from /proc/pid/stat: "pid (name) state parent ...", see proc(5).
func procStat(pid int) (state byte, parent int, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	rest := b[bytes.LastIndexByte(b, ')')+1:] // a name may hold anything
	n, err := fmt.Sscanf(string(rest), " %c %d", &state, &parent)
	return state, parent, err == nil && n == 2
}
