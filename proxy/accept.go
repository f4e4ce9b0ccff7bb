package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/walgate/walgate/proxy/loop"
	"github.com/walgate/walgate/proxy/netdriver"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/wire"
)

// serve accepts the clients of one listener until ctx ends or it is closed.
func (s *Server) serve(ctx, logins context.Context, l net.Listener, entry *netdriver.Entry) {
	if s.loops == nil {
		s.accept(logins, l, entry)
		return
	}
	s.cfg.TCP.ApplyListener(l)
	if err := s.loops.Serve(ctx, logins, l, s.loopEntry(logins, entry)); err != nil {
		s.log.Error("listener not served by the loops", "listen", l.Addr().String(), "error", err)
		s.accept(logins, l, entry)
	}
}

// loopEntry is what the loops must know of a listener.
func (s *Server) loopEntry(logins context.Context, entry *netdriver.Entry) *loop.Entry {
	return &loop.Entry{
		Session: entry.Session, ProxyFrom: entry.ProxyFrom,
		Encryption: func() loop.Encryption {
			switch mode := entry.EncryptionMode(); {
			case mode >= secure.Require:
				return loop.Required
			case entry.TLS != nil && entry.TLS.Offered(mode):
				return loop.Offered
			}
			return loop.Clear
		},
		Pass: func(conn net.Conn, id uint32, early loop.Early) {
			s.sessions.pass(id, s.goroutines)
			s.spawn(logins, conn, id, entry, netdriver.Early(early))
		},
	}
}

// spawn serves a connection with goroutines.
func (s *Server) spawn(ctx context.Context, conn net.Conn, id uint32, entry *netdriver.Entry, early netdriver.Early) {
	s.clients.Go(func() { // ends with the connection
		defer s.sessions.leave(id)
		s.goroutines.Serve(ctx, conn, id, entry, early)
	})
}

// accept serves one listener with goroutines until it is closed.
func (s *Server) accept(ctx context.Context, l net.Listener, entry *netdriver.Entry) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of descriptors, most likely: whoever waits in the backlog is served once some are free.
			s.log.Error("connection not accepted", "error", err)
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		id, full := s.sessions.enter(s.goroutines, addressOf(conn))
		if full != "" {
			s.turnAway(conn, full)
			continue
		}
		s.cfg.TCP.Apply(conn)
		s.spawn(ctx, conn, id, entry, netdriver.Early{})
	}
}

// addressOf is the address that a connection comes from; the zero Addr for a unix socket.
func addressOf(conn net.Conn) netip.Addr {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap()
}

// enterLoop gives a client of the loops its process id, or says that there are too many.
func (s *Server) enterLoop(from netip.Addr) (id uint32, refusal []byte) {
	id, full := s.sessions.enter(s.loops, from)
	if full != "" {
		return 0, s.tooMany(full)
	}
	return id, nil
}

// turnAway tells a client that there are too many, by the limit that key names. The client's own startup packet is still
// unread, so the message may be lost to a reset; it must not cost us a goroutine to do better.
func (s *Server) turnAway(conn net.Conn, key string) {
	_ = conn.SetDeadline(time.Now().Add(time.Millisecond))
	_, _ = conn.Write(s.tooMany(key)) // into an empty socket buffer
	_ = conn.Close()
}

func (s *Server) tooMany(key string) []byte {
	s.metrics.failed([]byte("53300"))
	return wire.AppendErrorResponse(nil, wire.ErrorFields{
		Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already", Hint: "The limit is " + key + ".",
	})
}
