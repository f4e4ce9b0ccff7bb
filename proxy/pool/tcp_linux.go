package pool

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout bounds how long sent bytes may stay unacknowledged: without it a write to a peer that has vanished is
// repeated by the kernel for a quarter of an hour.
func setUserTimeout(conn *net.TCPConn, limit time.Duration) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it is closed; whoever uses it next will see that
	}
	_ = raw.Control(func(fd uintptr) { // an error leaves the kernel's own limit in force
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(limit.Milliseconds()))
	})
}
