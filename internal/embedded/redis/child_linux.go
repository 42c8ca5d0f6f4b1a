package redis

import "syscall"

// childAttributes makes the kernel kill the child when its parent is gone, and
// keeps an interrupt typed at a terminal from reaching it before the parent
// has ended what uses it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
