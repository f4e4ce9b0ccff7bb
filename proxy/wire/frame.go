package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Sizes of the protocol, in bytes.
const (
	HeaderLen     = 5         // type byte and length word
	MaxBody       = 1<<30 - 1 // PostgreSQL's MaxAllocSize: no message body is larger
	MaxSmallBody  = 10000     // PQ_SMALL_MESSAGE_LIMIT: Sync, Flush, Execute and others that are never large
	MinStartup    = 8         // a startup packet with its length word
	MaxStartup    = 10004     // PostgreSQL accepts length-4 up to 10000
	MinFirstChunk = 8 << 10   // the first chunk of a message that is cut holds at least this much
	MinReadBuffer = 16 << 10  // the smallest read buffer with which Cut keeps that promise
)

// LengthError says that a length word can't be right. The stream can't be followed past it.
type LengthError struct {
	Type   byte  // message type; 0 for a startup packet
	Length int64 // the length word
}

// Error describes the message.
func (e *LengthError) Error() string {
	if e.Type == 0 {
		return fmt.Sprintf("invalid length of startup packet: %d", e.Length)
	}
	return fmt.Sprintf("invalid length %d of message type %q", e.Length, e.Type)
}

// ErrShort says that a message ends before its content does.
var ErrShort = errors.New("message is shorter than its content")

// Piece is (a chunk of) one message, cut from a buffer. Bytes points into that buffer.
type Piece struct {
	Type        byte
	Length      int64  // of the body
	Bytes       []byte // on First with the 5-byte header
	First, Last bool
}

// Cutter cuts one direction of a connection into pieces. The zero Cutter is ready. It holds no buffer.
type Cutter struct {
	left int32 // bytes of the current message's body that have not been seen; no body has more than MaxBody
	size int32
	typ  byte
	// Frontend marks the client's direction, in which the small messages have a limit.
	Frontend bool
}

// InMessage reports whether a message has begun that is not complete.
func (c *Cutter) InMessage() bool { return c.left > 0 }

// Cut takes the next piece off buf; n is how many bytes it used. n is 0 when buf holds no whole message and full is
// false: keep the rest and read more. With full (buf is all the space there is) the beginning of a longer message is
// cut off as a chunk. Whatever remains of a message that was begun is cut at once, in chunks as they come.
func (c *Cutter) Cut(buf []byte, full bool) (p Piece, n int, err error) {
	if c.left > 0 {
		if len(buf) == 0 {
			return Piece{}, 0, nil
		}
		n = min(len(buf), int(c.left))
		c.left -= int32(n)
		return Piece{Type: c.typ, Length: int64(c.size), Bytes: buf[:n:len(buf)], Last: c.left == 0}, n, nil
	}
	if len(buf) < HeaderLen {
		return Piece{}, 0, nil
	}
	length := int64(binary.BigEndian.Uint32(buf[1:]))
	if length < 4 || length-4 > MaxBody || c.Frontend && length-4 > MaxSmallBody && smallFrontend(buf[0]) {
		return Piece{}, 0, &LengthError{Type: buf[0], Length: int64(int32(length))}
	}
	body := length - 4
	if total := HeaderLen + body; total <= int64(len(buf)) {
		return Piece{Type: buf[0], Length: body, Bytes: buf[:total:len(buf)], First: true, Last: true}, int(total), nil
	}
	if !full {
		return Piece{}, 0, nil
	}
	c.typ, c.size = buf[0], int32(body)
	c.left = int32(body - int64(len(buf)-HeaderLen))
	return Piece{Type: c.typ, Length: body, Bytes: buf, First: true}, len(buf), nil
}

// smallFrontend reports whether a client's message of this type is never large (src/backend/tcop/postgres.c,
// SocketBackend).
func smallFrontend(typ byte) bool {
	switch typ {
	case 'E', 'C', 'D', 'H', 'S', 'X', 'c':
		return true
	default:
		return false
	}
}
