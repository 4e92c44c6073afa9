//go:build !unix

package drill

import "syscall"

// attributes changes nothing here.
func attributes(*account) *syscall.SysProcAttr { return nil }
