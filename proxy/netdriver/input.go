package netdriver

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/wire"
)

// input is the read half of one connection, owned by the goroutine that reads it. While nothing has arrived it holds no
// buffer.
type input struct {
	conn    net.Conn
	raw     syscall.RawConn // nil: no descriptor, read through conn
	tls     *secure.Conn    // what raw carries; nil: clear text
	buffers *sync.Pool
	buf     *[]byte // nil while parked
	start   int     // of what has not been cut
	end     int
	cutter  wire.Cutter
	ready   func(fd uintptr) bool // method value of tryRead, made once
	n       int                   // bytes that the last fill read
	err     error
}

func newInput(conn net.Conn, buffers *sync.Pool, frontend bool) *input {
	in := &input{conn: conn, raw: rawOf(conn), buffers: buffers}
	in.tls, _ = conn.(*secure.Conn)
	in.cutter.Frontend = frontend
	in.ready = in.tryRead
	return in
}

func rawOf(conn net.Conn) syscall.RawConn {
	if c, ok := conn.(*secure.Conn); ok {
		return c.RawConn()
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// fill waits until there is more to cut.
func (in *input) fill() error {
	switch {
	case in.start == in.end:
		in.park()
	case in.start > 0:
		in.end = copy(*in.buf, (*in.buf)[in.start:in.end])
		in.start = 0
	}
	if in.raw == nil {
		in.hold()
		var err error
		in.n, err = in.conn.Read((*in.buf)[in.end:])
		in.end += in.n
		if in.n > 0 {
			return nil
		}
		return err
	}
	in.n, in.err = 0, nil
	if err := in.raw.Read(in.ready); err != nil {
		return err
	}
	in.end += in.n
	return in.err
}

// preload puts b, which must fit in a buffer, before all that will be read.
func (in *input) preload(b []byte) {
	if len(b) > 0 {
		in.hold()
		in.start, in.n = 0, copy(*in.buf, b)
		in.end = in.n
	}
}

// tryRead reads once; false makes the runtime wait until the descriptor is readable. It must always read before it
// returns false: readiness is edge-triggered.
func (in *input) tryRead(fd uintptr) bool {
	in.hold()
	for {
		n, err := in.read(fd)
		switch {
		case err == nil && n > 0:
			in.n = n
		case err == nil:
			in.err = io.EOF
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, secure.ErrWouldBlock):
			if in.end == 0 {
				in.park()
			}
			return false
		default:
			in.err = err
		}
		return true
	}
}

func (in *input) read(fd uintptr) (int, error) {
	if in.tls != nil {
		return in.tls.Poll((*in.buf)[in.end:], fd)
	}
	return syscall.Read(int(fd), (*in.buf)[in.end:])
}

func (in *input) hold() {
	if in.buf == nil {
		in.buf = in.buffers.Get().(*[]byte)
	}
}

// park gives the (empty) buffer back.
func (in *input) park() {
	if in.buf != nil {
		in.buffers.Put(in.buf)
		in.buf = nil
	}
	in.start, in.end = 0, 0
}

// next cuts the next piece; ok is false when more must be read first.
func (in *input) next() (p wire.Piece, ok bool, err error) {
	if in.start == in.end {
		return wire.Piece{}, false, nil
	}
	buf := *in.buf
	p, n, err := in.cutter.Cut(buf[in.start:in.end], in.start == 0 && in.end == len(buf))
	in.start += n
	return p, n > 0, err
}

// drop forgets what has been read.
func (in *input) drop() { in.start = in.end }
