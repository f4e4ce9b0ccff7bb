package pool

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

func (t TCP) applyListener(l *net.TCPListener) {
	raw, err := l.SyscallConn()
	if err != nil {
		return // it is closed
	}
	seconds := func(d time.Duration) int { return int(max(d.Round(time.Second)/time.Second, 1)) }
	_ = raw.Control(func(fd uintptr) { // an error leaves the kernel's own value in force
		set := func(level, option, value int) { _ = unix.SetsockoptInt(int(fd), level, option, value) }
		set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(t.KeepaliveIdle))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(t.KeepaliveInterval))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, t.KeepaliveCount)
		if t.UserTimeout > 0 {
			set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(t.UserTimeout.Milliseconds()))
		}
	})
}

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
