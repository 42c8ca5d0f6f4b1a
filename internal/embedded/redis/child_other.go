//go:build !linux

package redis

import "syscall"

// childAttributes cannot tie the child to its parent here.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
