package wire

import "encoding/binary"

// Parameters is what follows the names in a Bind body. Its parts point into the body.
type Parameters struct {
	Head   []byte   // the formats, and how many values there are
	Values [][]byte // nil: NULL
	Tail   []byte   // the formats of the result

	formats []byte
}

// Binary reports whether the value at i is in binary format.
func (p *Parameters) Binary(i int) bool {
	switch len(p.formats) {
	case 0:
		return false
	case 2:
		i = 0
	}
	return 2*i+2 <= len(p.formats) && binary.BigEndian.Uint16(p.formats[2*i:]) == 1
}

// ParseParameters reads what follows the names in a Bind body.
func ParseParameters(rest []byte) (p Parameters, err error) {
	count := func(at int) int {
		if len(rest) < at+2 {
			return -1
		}
		return int(binary.BigEndian.Uint16(rest[at:]))
	}
	formats := count(0)
	at := 2 + 2*formats
	values := count(max(at, 0))
	if formats < 0 || values < 0 {
		return p, ErrShort
	}
	p.formats = rest[2:at]
	at += 2
	p.Head = rest[:at]
	for range values {
		if len(rest) < at+4 {
			return p, ErrShort
		}
		length := int(int32(binary.BigEndian.Uint32(rest[at:])))
		at += 4
		if length < 0 {
			p.Values = append(p.Values, nil)
			continue
		}
		if len(rest)-at < length {
			return p, ErrShort
		}
		p.Values = append(p.Values, rest[at:at+length:at+length])
		at += length
	}
	p.Tail = rest[at:]
	return p, nil
}

// AppendParameters is the inverse of ParseParameters.
func AppendParameters(dst []byte, p Parameters) []byte {
	dst = append(dst, p.Head...)
	for _, value := range p.Values {
		if value == nil {
			dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
	}
	return append(dst, p.Tail...)
}
