package loop

import (
	"golang.org/x/sys/unix"
)

// socket is one connection that a loop watches, with what could not be written to it yet.
type socket struct {
	fd      int
	events  uint32 // what it is watched for
	watched bool
	full    bool    // Full has been said
	broken  bool    // nothing more can be written
	pending *buffer // nil: none
}

// Reading and writing, in the words of epoll_ctl(2).
const (
	readable = unix.EPOLLIN
	writable = unix.EPOLLOUT
	over     = unix.EPOLLERR | unix.EPOLLHUP // reported whether or not it is asked for
)

// read reads once.
func (l *loop) read(fd int, b []byte) (int, unix.Errno) {
	l.calls.reads++
	return readOnce(fd, b)
}

// send writes b, or keeps a copy of what the kernel does not take at once.
func (l *loop) send(s *socket, b []byte) {
	if s.broken || len(b) == 0 {
		return
	}
	if s.pending != nil {
		s.pending.bytes = append(s.pending.bytes, b...)
		return
	}
	b = l.write(s, b)
	if len(b) == 0 || s.broken {
		return
	}
	s.pending = l.keep(b)
	l.want(s, s.events|writable)
}

// write writes what the kernel takes and returns the rest.
func (l *loop) write(s *socket, b []byte) []byte {
	for len(b) > 0 {
		l.calls.writes++
		n, err := writeOnce(s.fd, b)
		switch err {
		case 0:
			b = b[n:]
			if len(b) > 0 {
				continue // a partial write of a stream socket: the next one says whether it is full
			}
		case unix.EINTR:
			continue
		case unix.EAGAIN:
		default:
			s.broken = true
		}
		break
	}
	return b
}

// flush writes what is pending; it reports whether nothing is left.
func (l *loop) flush(s *socket) bool {
	if s.pending == nil {
		return true
	}
	all := s.pending.bytes
	rest := l.write(s, all)
	if len(rest) > 0 && !s.broken {
		s.pending.bytes = all[:copy(all, rest)]
		return false
	}
	l.drop(s)
	l.want(s, s.events&^writable)
	return true
}

// drop forgets what is pending.
func (l *loop) drop(s *socket) {
	l.recycle(s.pending)
	s.pending = nil
}
