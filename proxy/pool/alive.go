package pool

import (
	"net"
	"syscall"
)

// seemsAlive looks, without waiting, whether the kernel knows that the peer has ended the connection. A driver that
// reads the connection learns the same a little later; this is for the moment in between, and for drivers that do not
// read idle connections. What it can't know (a peer that has vanished) is found by the TCP timeouts.
func seemsAlive(conn net.Conn) bool {
	if encrypted, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = encrypted.NetConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	alive := true
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case n > 0:
			alive = one[0] != 'E' // an idle server that reports an error is about to leave
		case err == nil: // end of file
			alive = false
		default:
			alive = err == syscall.EAGAIN || err == syscall.EINTR
		}
	})
	return alive && err == nil
}
