package drill

import "syscall"

// endWithParent has the kernel shut the server down when the one who drills is killed.
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGQUIT }
