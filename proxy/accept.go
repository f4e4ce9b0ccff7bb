package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/walgate/walgate/proxy/netdriver"
	"github.com/walgate/walgate/proxy/wire"
)

// accept serves one listener until it is closed.
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
		s.clients.Go(func() { // ends with the connection
			defer s.sessions.leave(id)
			s.goroutines.Serve(ctx, conn, id, entry)
		})
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

// turnAway tells a client that there are too many, by the limit that key names. The client's own startup packet is still unread, so the message may
// be lost to a reset; it must not cost us a goroutine to do better.
func (s *Server) turnAway(conn net.Conn, key string) {
	s.metrics.failed([]byte("53300"))
	message := wire.AppendErrorResponse(nil, wire.ErrorFields{
		Severity: "FATAL", Code: "53300", Message: "sorry, too many clients already", Hint: "The limit is " + key + ".",
	})
	_ = conn.SetDeadline(time.Now().Add(time.Millisecond))
	_, _ = conn.Write(message) // into an empty socket buffer
	_ = conn.Close()
}
