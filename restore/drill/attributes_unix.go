//go:build unix

package drill

import "syscall"

// attributes are those of a program that runs as an account. A signal to the group of the one who drills, such as an
// interrupt at the terminal, is not for it.
func attributes(a *account) *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if a.switched {
		attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attr
}
