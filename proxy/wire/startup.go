package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// Request codes of startup packets, and the protocol versions served.
const (
	CodeCancel = 80877102
	CodeSSL    = 80877103
	CodeGSSENC = 80877104
	Protocol30 = 3 << 16
	Protocol32 = 3<<16 | 2
)

// StartupKind says what a startup packet asks for.
type StartupKind uint8

// The kinds of startup packet.
const (
	StartupMessage StartupKind = iota
	StartupSSL
	StartupGSSENC
	StartupCancel
)

// ErrStartup says that a startup packet is malformed.
var ErrStartup = errors.New("invalid startup packet layout")

// CutStartup takes a startup packet off buf: packet is what follows its length word, n how many bytes were used (0: it
// is not complete).
func CutStartup(buf []byte) (packet []byte, n int, err error) {
	if len(buf) < 4 {
		return nil, 0, nil
	}
	length := int64(binary.BigEndian.Uint32(buf))
	if length < MinStartup || length > MaxStartup {
		return nil, 0, &LengthError{Length: int64(int32(length))}
	}
	if int64(len(buf)) < length {
		return nil, 0, nil
	}
	return buf[4:length:length], int(length), nil
}

// ParseStartup tells what a packet of CutStartup is. Any code that is no request is a StartupMessage with that protocol
// version.
func ParseStartup(packet []byte) (kind StartupKind, code uint32) {
	if len(packet) < 4 {
		return StartupMessage, 0
	}
	code = binary.BigEndian.Uint32(packet)
	switch code {
	case CodeCancel:
		return StartupCancel, code
	case CodeSSL:
		return StartupSSL, code
	case CodeGSSENC:
		return StartupGSSENC, code
	default:
		return StartupMessage, code
	}
}

// ParseCancel reads a CancelRequest packet (after its length word): the process id and the secret, which points into
// packet.
func ParseCancel(packet []byte) (processID uint32, secret []byte, err error) {
	if len(packet) < 12 || len(packet) > 8+256 {
		return 0, nil, ErrStartup
	}
	return binary.BigEndian.Uint32(packet[4:]), packet[8:], nil
}

// StartupParameters calls yield for each parameter of a StartupMessage packet (after its length word) in order.
func StartupParameters(packet []byte, yield func(name, value []byte) bool) error {
	if len(packet) < 5 {
		return ErrStartup
	}
	rest := packet[4:]
	for {
		name, after, ok := cutZero(rest)
		if !ok {
			return ErrStartup
		}
		if len(name) == 0 {
			if len(after) != 0 {
				return ErrStartup
			}
			return nil
		}
		value, next, ok := cutZero(after)
		if !ok {
			return ErrStartup
		}
		if !yield(name, value) {
			return nil
		}
		rest = next
	}
}

// cutZero splits b after its first zero byte.
func cutZero(b []byte) (text, rest []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i < 0 {
		return nil, nil, false
	}
	return b[:i], b[i+1:], true
}
