package netdriver

import (
	"net"
	"syscall"
)

// peerUID returns the user id of the process that connected to a unix socket (SO_PEERCRED); -1 when it is not known.
func peerUID(conn net.Conn) int {
	raw := rawOf(conn)
	if raw == nil {
		return -1
	}
	uid := -1
	err := raw.Control(func(fd uintptr) {
		if c, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			uid = int(c.Uid)
		}
	})
	if err != nil {
		return -1
	}
	return uid
}
