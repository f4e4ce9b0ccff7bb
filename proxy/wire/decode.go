package wire

import (
	"bytes"
	"encoding/binary"
)

// The functions below read bodies (what follows the 5-byte header). What they return points into the body.

// Fields reads the fields of an ErrorResponse or NoticeResponse; yield gets each field's type and text.
func Fields(body []byte, yield func(field byte, text []byte)) {
	for len(body) > 1 && body[0] != 0 {
		text, rest, ok := cutZero(body[1:])
		if !ok {
			yield(body[0], body[1:])
			return
		}
		yield(body[0], text)
		body = rest
	}
}

// Trouble is what matters in an ErrorResponse or NoticeResponse.
type Trouble struct {
	Severity []byte // not localised if the server says so (9.6 and later)
	Code     []byte
	Message  []byte
	Routine  []byte
}

// ParseTrouble reads an ErrorResponse or NoticeResponse.
func ParseTrouble(body []byte) (t Trouble) {
	for len(body) > 1 && body[0] != 0 {
		text, rest, ok := cutZero(body[1:])
		if !ok {
			return t
		}
		switch body[0] {
		case 'S':
			if t.Severity == nil {
				t.Severity = text
			}
		case 'V':
			t.Severity = text
		case 'C':
			t.Code = text
		case 'M':
			t.Message = text
		case 'R':
			t.Routine = text
		}
		body = rest
	}
	return t
}

// Fatal reports whether the server closes the connection after this error.
func (t Trouble) Fatal() bool {
	return string(t.Severity) == "FATAL" || string(t.Severity) == "PANIC"
}

// ParseParse reads a Parse body: types is the raw list (int16 count, int32 each).
func ParseParse(body []byte) (name, sql, types []byte, err error) {
	name, rest, ok := cutZero(body)
	if !ok {
		return nil, nil, nil, ErrShort
	}
	sql, types, ok = cutZero(rest)
	if !ok || len(types) < 2 || len(types) != 2+4*int(binary.BigEndian.Uint16(types)) {
		return nil, nil, nil, ErrShort
	}
	return name, sql, types, nil
}

// ParseBind reads the names of a Bind body; rest is what follows them.
func ParseBind(body []byte) (portal, statement, rest []byte, err error) {
	portal, after, ok := cutZero(body)
	if !ok {
		return nil, nil, nil, ErrShort
	}
	statement, rest, ok = cutZero(after)
	if !ok {
		return nil, nil, nil, ErrShort
	}
	return portal, statement, rest, nil
}

// ParseTarget reads the body of Describe or Close: kind is 'S' or 'P'.
func ParseTarget(body []byte) (kind byte, name []byte, err error) {
	if len(body) < 2 || body[len(body)-1] != 0 || bytes.IndexByte(body[1:], 0) != len(body)-2 {
		return 0, nil, ErrShort
	}
	return body[0], body[1 : len(body)-1], nil
}

// ParseExecute reads the portal's name of an Execute body.
func ParseExecute(body []byte) (portal []byte, rows uint32, err error) {
	portal, rest, ok := cutZero(body)
	if !ok || len(rest) != 4 {
		return nil, 0, ErrShort
	}
	return portal, binary.BigEndian.Uint32(rest), nil
}

// ParseString reads a body that is one zero-terminated text (Query, CommandComplete).
func ParseString(body []byte) (text []byte, err error) {
	i := bytes.IndexByte(body, 0)
	if i < 0 || i != len(body)-1 {
		return nil, ErrShort
	}
	return body[:i], nil
}

// ParseParameterStatus reads a ParameterStatus body.
func ParseParameterStatus(body []byte) (name, value []byte, err error) {
	name, rest, ok := cutZero(body)
	if !ok {
		return nil, nil, ErrShort
	}
	value, _, ok = cutZero(rest)
	if !ok {
		return nil, nil, ErrShort
	}
	return name, value, nil
}
