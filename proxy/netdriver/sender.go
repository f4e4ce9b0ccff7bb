package netdriver

import (
	"errors"
	"net"
	"syscall"

	"github.com/walgate/walgate/proxy/secure"
)

// sender is the write half of one connection. It is guarded by the mutex of the Client whose session writes to it; only
// the flusher's blocking write happens outside.
type sender struct {
	conn     net.Conn
	raw      syscall.RawConn // nil: every write is the flusher's
	tls      *secure.Conn    // what raw carries; nil: clear text
	ready    func(fd uintptr) bool
	out      []byte // argument of tryWrite
	n        int    // and its result
	pending  []byte // not yet written
	spare    []byte // the flusher's last chunk, for reuse
	behind   bool   // tls keeps encrypted bytes that go before pending
	flushing bool   // a flusher runs; everything goes behind pending
	full     bool   // Full has been said
	broken   bool   // nothing more can be written
}

func newSender(conn net.Conn) *sender {
	s := &sender{conn: conn, raw: rawOf(conn)}
	s.tls, _ = conn.(*secure.Conn)
	s.ready = s.tryWrite
	return s
}

// write sends b or keeps a copy of what could not be sent at once.
func (s *sender) write(b []byte) {
	if s.broken || len(b) == 0 {
		return
	}
	switch {
	case s.raw == nil || s.flushing || len(s.pending) > 0:
	case s.tls != nil:
		n, behind, err := s.tls.Send(b)
		s.behind, s.broken = behind, err != nil
		b = b[n:]
	default:
		s.out, s.n = b, 0
		if err := s.raw.Write(s.ready); err != nil {
			s.broken = true
		}
		s.out = nil
		b = b[s.n:]
	}
	if !s.broken {
		s.pending = append(s.pending, b...)
	}
}

// tryWrite writes what the kernel takes and never waits.
func (s *sender) tryWrite(fd uintptr) bool {
	for s.n < len(s.out) {
		n, err := syscall.Write(int(fd), s.out[s.n:])
		if n > 0 {
			s.n += n
			continue
		}
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN):
		default:
			s.broken = true
		}
		break
	}
	return true
}

// maxSpare bounds the memory that an idle sender keeps.
const maxSpare = 16 << 10

// left reports whether there is something for the flusher.
func (s *sender) left() bool { return len(s.pending) > 0 || s.behind }

// take hands the pending bytes to the flusher.
func (s *sender) take() []byte {
	chunk := s.pending
	s.pending = s.spare[:0]
	s.spare = nil
	s.behind = false
	return chunk
}

// rest ends flushing.
func (s *sender) rest() {
	s.flushing = false
	s.spare = nil
	if cap(s.pending) > maxSpare {
		s.pending = nil
	}
}
