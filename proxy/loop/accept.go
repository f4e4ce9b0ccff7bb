package loop

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// acceptor is a loop's share of a listening socket.
type acceptor struct {
	socket
	loop  *loop
	entry *Entry
	// within returns a context for what a login must wait for.
	within func(left time.Duration) (context.Context, context.CancelFunc)
	until  replication.Instant // no connection is accepted before; 0: there is no such wait
}

// How many connections are accepted before the loop looks after others, and how long a loop that is out of descriptors
// accepts nothing: whoever waits in the backlog is served once some are free.
const (
	acceptBatch = 16
	acceptPause = 50 * time.Millisecond
)

// Serve accepts the clients of a listener on all loops until ctx ends; the end of logins interrupts what logins wait for.
// The listener's own descriptor is left alone, and the caller must not accept with it meanwhile. After an error no loop
// accepts any more; clients whom one has let in stay.
func (d *Driver) Serve(ctx, logins context.Context, listener net.Listener, entry *Entry) error {
	sc, ok := listener.(syscall.Conn)
	if !ok {
		return fmt.Errorf("a %T can't be served by a loop", listener)
	}
	within := func(left time.Duration) (context.Context, context.CancelFunc) {
		return context.WithTimeout(logins, left)
	}
	acceptors := make([]*acceptor, 0, len(d.loops))
	for _, l := range d.loops {
		fd, err := duplicate(sc)
		if err != nil {
			for _, made := range acceptors { // none is watched yet
				_ = unix.Close(made.fd) // the first error is the one that tells
			}
			return fmt.Errorf("share the listener: %w", err)
		}
		acceptors = append(acceptors, &acceptor{socket: socket{fd: fd}, loop: l, entry: entry, within: within})
	}
	failed := make(chan error, len(acceptors))
	for _, a := range acceptors {
		a.loop.post(func() { failed <- a.loop.watch(&a.socket, a, a.events0()) })
	}
	var err error
	for range acceptors {
		if e := <-failed; e != nil {
			err = fmt.Errorf("watch the listener: %w", e)
		}
	}
	if err == nil {
		<-ctx.Done()
	}
	stopped := make(chan struct{}, len(acceptors))
	for _, a := range acceptors {
		a.loop.post(func() {
			a.loop.forget(&a.socket, false) // others have the same socket: closing ours would leave it watched
			a.loop.shut(&a.socket)
			stopped <- struct{}{}
		})
	}
	for range acceptors {
		<-stopped
	}
	return err
}

// events0 is what a listening socket is watched for: one loop at a time is woken for a connection.
func (a *acceptor) events0() uint32 {
	if len(a.loop.driver.loops) > 1 {
		return unix.EPOLLIN | unix.EPOLLEXCLUSIVE
	}
	return unix.EPOLLIN
}

// ready implements handler.
func (a *acceptor) ready(uint32) {
	for range acceptBatch {
		fd, from, err := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch err {
		case nil:
			a.accept(fd, from)
			continue
		case unix.EAGAIN:
		case unix.EINTR, unix.ECONNABORTED:
			continue
		default:
			a.loop.driver.log.Error("connection not accepted", "error", err)
			a.until = a.loop.now.Add(acceptPause)
			a.loop.forget(&a.socket, false) // level-triggered: it would be told again at once
			a.loop.retired = append(a.loop.retired, a)
		}
		return
	}
}

// reinstate watches listening sockets again.
func (l *loop) reinstate() {
	waiting := l.retired[:0]
	for _, a := range l.retired {
		switch {
		case a.fd < 0:
		case a.until > l.now || l.watch(&a.socket, a, a.events0()) != nil:
			waiting = append(waiting, a)
		}
	}
	clear(l.retired[len(waiting):])
	l.retired = waiting
}

// accept begins to serve a connection.
func (a *acceptor) accept(fd int, from unix.Sockaddr) {
	l := a.loop
	remote := address(from)
	id, refusal := l.driver.hooks.Enter(remote.Addr())
	if refusal != nil {
		// The client's own startup packet is still unread, so the message may be lost to a reset; it must not cost us a
		// wait to do better.
		_, _ = writeOnce(fd, refusal)
		_ = unix.Close(fd)
		return
	}
	c := &client{
		socket: socket{fd: fd}, id: id, loop: l, entry: a.entry, session: session.New(a.entry.Session),
		login: &entrance{within: a.within}, remote: remote, stage: stageStartup,
	}
	c.cutter.Frontend = true
	l.clients[id] = c
	if a.entry.Encryption() == Required {
		c.pass(nil)
		return
	}
	if balanced(a.entry, c.remote) {
		c.stage = stagePreamble
	}
	if err := l.watch(&c.socket, c, readable); err != nil {
		l.driver.log.Error("client connection can't be watched", "error", err)
		c.finish()
		return
	}
	l.timers.arm(c, l.now.Add(l.driver.cfg.LoginTimeout))
}

func address(from unix.Sockaddr) netip.AddrPort {
	switch from := from.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(from.Addr), uint16(from.Port))
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(from.Addr)
		if from.ZoneId != 0 {
			addr = addr.WithZone(fmt.Sprint(from.ZoneId))
		}
		return netip.AddrPortFrom(addr.Unmap(), uint16(from.Port))
	}
	return netip.AddrPort{}
}

// balanced reports whether the address is a load balancer's.
func balanced(e *Entry, remote netip.AddrPort) bool {
	for _, p := range e.ProxyFrom {
		if p.Contains(remote.Addr().Unmap()) {
			return true
		}
	}
	return false
}
