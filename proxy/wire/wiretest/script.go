package wiretest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/jackc/pgproto3/v2"
)

// Encode makes the bytes of a client's messages.
func Encode(messages ...pgproto3.FrontendMessage) (b []byte) {
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			panic(err) // the test's own message
		}
	}
	return b
}

// Extended makes Parse, Bind, Describe portal, Execute and Sync for a statement; empty text leaves Parse out.
func Extended(name, text string) []byte {
	var b []byte
	if text != "" {
		b = Encode(&pgproto3.Parse{Name: name, Query: text})
	}
	return append(b, Encode(&pgproto3.Bind{PreparedStatement: name}, &pgproto3.Describe{ObjectType: 'P'},
		&pgproto3.Execute{}, &pgproto3.Sync{})...)
}

// Describe prints a server's bytes in short, one word per message: "1", "2", "T", "D(text)", "C(tag)", "Z(I)",
// "E(code)", "N(code)", "S(name=value)".
func Describe(b []byte) string {
	var words []string
	for len(b) > 0 {
		if len(b) < 5 {
			words = append(words, fmt.Sprintf("torn(%d)", len(b)))
			break
		}
		n := 1 + int(binary.BigEndian.Uint32(b[1:]))
		if n > len(b) || n < 5 {
			words = append(words, fmt.Sprintf("torn(%c)", b[0]))
			break
		}
		words = append(words, describeOne(b[0], b[5:n]))
		b = b[n:]
	}
	return strings.Join(words, " ")
}

func describeOne(typ byte, body []byte) string {
	switch typ {
	case 'D':
		var m pgproto3.DataRow
		if m.Decode(body) == nil && len(m.Values) == 1 {
			return "D(" + string(m.Values[0]) + ")"
		}
	case 'C':
		var m pgproto3.CommandComplete
		if m.Decode(body) == nil {
			return "C(" + string(m.CommandTag) + ")"
		}
	case 'Z':
		return "Z(" + string(body) + ")"
	case 'E':
		var m pgproto3.ErrorResponse
		if m.Decode(body) == nil {
			return "E(" + m.Code + ")"
		}
	case 'N':
		var m pgproto3.NoticeResponse
		if m.Decode(body) == nil {
			return "N(" + m.Code + ")"
		}
	case 'S':
		var m pgproto3.ParameterStatus
		if m.Decode(body) == nil {
			return "S(" + m.Name + "=" + m.Value + ")"
		}
	}
	return string(typ)
}
