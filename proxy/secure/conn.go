package secure

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Bounds of what is encrypted before the kernel takes it, in bytes.
const (
	sendChunk = 16 << 10  // what Send hands over at a time: one record
	maxBehind = 128 << 10 // more than that only a peer makes wait that asks for new keys again and again and never reads
)

// errBehind ends the connection of such a peer.
var errBehind = errors.New("the peer does not read what it asks for")

// ErrWouldBlock is Conn.Poll's answer when nothing can be read now.
var ErrWouldBlock net.Error = wouldBlock{}

type wouldBlock struct{}

func (wouldBlock) Error() string   { return "nothing to read yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true } // crypto/tls goes on after such an error

// Conn is a TLS connection whose handshake is done. One goroutine may read and one may write at a time; Close and the
// deadlines may be called from any.
type Conn struct {
	*tls.Conn
	socket *socket
	raw    syscall.RawConn // nil: not a descriptor
	// Binding is the hash of the server's certificate for SCRAM (tls-server-end-point, RFC 5929); nil when the
	// certificate's signature has none.
	Binding []byte
}

// RawConn is the descriptor below, for waiting until Poll may be called; nil when there is none.
func (c *Conn) RawConn() syscall.RawConn { return c.raw }

// NetConn is the socket below.
func (c *Conn) NetConn() net.Conn { return c.socket.Conn }

// Poll reads what has arrived, or returns ErrWouldBlock. It must run inside RawConn().Read, which keeps fd open, and
// waits for more when the function returns false.
func (c *Conn) Poll(b []byte, fd uintptr) (int, error) {
	c.socket.polled, c.socket.fd = true, int(fd)
	n, err := c.Conn.Read(b)
	c.socket.polled = false
	return n, err
}

// Send encrypts of b as much as the kernel takes at once; behind says that some of those n bytes are left for Flush.
func (c *Conn) Send(b []byte) (n int, behind bool, err error) {
	for n < len(b) && !behind {
		chunk := b[n:min(len(b), n+sendChunk)]
		if _, err := c.Conn.Write(chunk); err != nil {
			return n, false, err
		}
		n += len(chunk)
		behind = c.socket.behind()
	}
	return n, behind, nil
}

// Flush waits until everything that was sent is with the kernel.
func (c *Conn) Flush() error { return c.socket.flush() }

// Write sends b and waits until the kernel has taken it.
func (c *Conn) Write(b []byte) (int, error) {
	sent := 0
	for {
		n, _, err := c.Send(b[sent:])
		sent += n
		if err == nil {
			err = c.Flush()
		}
		if err != nil || sent == len(b) {
			return sent, err
		}
	}
}

// CloseWrite tells the peer that nothing follows. What Flush has still to write is lost.
func (c *Conn) CloseWrite() error {
	err := c.Conn.CloseWrite()
	if half, ok := c.socket.Conn.(interface{ CloseWrite() error }); ok {
		return errors.Join(err, half.CloseWrite())
	}
	return err
}

// SetDeadline implements net.Conn; like the next two it is that of the socket.
func (c *Conn) SetDeadline(t time.Time) error { return c.socket.Conn.SetDeadline(t) }

// SetReadDeadline implements net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.socket.Conn.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.socket.Conn.SetWriteDeadline(t) }

// socket is what crypto/tls reads from and writes to.
type socket struct {
	net.Conn
	prefix []byte // read before the connection
	polled bool   // Read does not block; only the reading goroutine looks at it
	fd     int    // while polled

	place func() // gives the place at work back; nil: none is held

	mu       sync.Mutex
	async    bool // the handshake is done: Write does not block
	raw      syscall.RawConn
	pending  []byte // encrypted, for flush
	flushing bool
	broken   error
}

// Read implements net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	s.leave() // whoever waits for the peer does not work
	if len(s.prefix) > 0 {
		n := copy(b, s.prefix)
		s.prefix = s.prefix[n:]
		return n, nil
	}
	if !s.polled {
		return s.Conn.Read(b)
	}
	for {
		n, err := syscall.Read(s.fd, b)
		switch {
		case err == nil && n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, ErrWouldBlock
		default:
			return 0, fmt.Errorf("read: %w", err)
		}
	}
}

// leave gives the place at work back.
func (s *socket) leave() {
	if s.place != nil {
		s.place()
		s.place = nil
	}
}

// Write implements net.Conn. After the handshake it never waits; crypto/tls calls it one at a time.
func (s *socket) Write(b []byte) (int, error) {
	s.mu.Lock()
	if !s.async {
		s.mu.Unlock()
		return s.Conn.Write(b)
	}
	defer s.mu.Unlock()
	if s.broken != nil {
		return 0, s.broken
	}
	sent := 0
	if len(s.pending) == 0 && !s.flushing && s.raw != nil {
		err := s.raw.Write(func(fd uintptr) bool {
			sent, s.broken = writeNow(int(fd), b)
			return true
		})
		if err != nil {
			s.broken = err
		}
		if s.broken != nil {
			return sent, s.broken
		}
	}
	if len(s.pending)+len(b)-sent > maxBehind {
		s.broken = errBehind
		return sent, s.broken
	}
	s.pending = append(s.pending, b[sent:]...)
	return len(b), nil
}

// writeNow writes what the kernel takes.
func writeNow(fd int, b []byte) (sent int, err error) {
	for sent < len(b) {
		n, err := syscall.Write(fd, b[sent:])
		sent += max(n, 0)
		switch {
		case err == nil, errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return sent, nil
		default:
			return sent, fmt.Errorf("write: %w", err)
		}
	}
	return sent, nil
}

func (s *socket) behind() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending) > 0
}

// flush is called by one goroutine at a time.
func (s *socket) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flushing = true
	for len(s.pending) > 0 && s.broken == nil {
		chunk := s.pending
		s.pending = nil
		s.mu.Unlock()
		_, err := s.Conn.Write(chunk)
		s.mu.Lock()
		if err != nil {
			s.broken = err
		}
	}
	s.flushing = false
	return s.broken
}

// SetWriteDeadline is crypto/tls's own wish for the time of its closing alert; nothing blocks there.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// settle ends the handshake's way of writing.
func (s *socket) settle() syscall.RawConn {
	s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.async = true
	if sc, ok := s.Conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			s.raw = raw
		}
	}
	return s.raw
}

// Untimely reports whether the peer has sent bytes that nobody asked for yet: before a handshake begins, they can only
// have been slipped in by somebody in between (CVE-2021-23214, CVE-2021-23222).
func Untimely(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		var one [1]byte
		n, _, _ = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && n > 0
}
