package loop

import (
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/pool"
)

// Lines calls yield for each session, with what is known of its client's connection.
func (d *Driver) Lines(yield func(id uint32, line pool.Line)) {
	var mu sync.Mutex
	all := map[uint32]pool.Line{}
	d.on(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		for id, c := range l.clients {
			all[id] = c.line()
		}
	})
	for id, line := range all {
		yield(id, line)
	}
}

func (c *client) line() pool.Line {
	l := pool.NewLine(localAddr(c.fd), nil) // TLS and replication are other drivers'
	if l.Local == "unix" {
		if cred, err := unix.GetsockoptUcred(c.fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			l.ProcessID = int(cred.Pid)
		}
	}
	return l
}

// localAddr is the address of our end; nil if it is not known.
func localAddr(fd int) net.Addr {
	at, err := unix.Getsockname(fd)
	if err != nil {
		return nil
	}
	switch at := at.(type) {
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Net: "unix", Name: at.Name}
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		return net.TCPAddrFromAddrPort(address(at))
	}
	return nil
}
