package netdriver

import (
	"net"
	"syscall"
)

// peerOf returns the user id of the process that connected to a unix socket, and its own (SO_PEERCRED); -1 and 0 when they
// are not known.
func peerOf(conn net.Conn) (uid, pid int) {
	raw := rawOf(conn)
	if raw == nil {
		return -1, 0
	}
	uid = -1
	err := raw.Control(func(fd uintptr) {
		if c, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uid, pid = int(c.Uid), int(c.Pid)
		}
	})
	if err != nil {
		return -1, 0
	}
	return uid, pid
}
