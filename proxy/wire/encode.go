package wire

import (
	"encoding/binary"
	"strconv"
)

// Every Append function adds one message to dst and returns it, as append does. None allocates when dst has room.

// Transaction status bytes of ReadyForQuery.
const (
	StatusIdle          = 'I'
	StatusInTransaction = 'T'
	StatusFailed        = 'E'
)

// begin starts a message; end fills in its length.
func begin(dst []byte, typ byte) ([]byte, int) {
	dst = append(dst, typ, 0, 0, 0, 0)
	return dst, len(dst) - 4
}

func end(dst []byte, at int) []byte {
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at))
	return dst
}

func appendString(dst []byte, s string) []byte { return append(append(dst, s...), 0) }

// ErrorFields are the fields of an ErrorResponse or NoticeResponse that walgate knows; empty ones are absent.
type ErrorFields struct {
	Severity, Code, Message, Detail, Hint, Routine string
}

// AppendErrorResponse says an error.
func AppendErrorResponse(dst []byte, e ErrorFields) []byte { return appendFields(dst, 'E', e) }

// AppendNoticeResponse says a notice.
func AppendNoticeResponse(dst []byte, e ErrorFields) []byte { return appendFields(dst, 'N', e) }

func appendFields(dst []byte, typ byte, e ErrorFields) []byte {
	dst, at := begin(dst, typ)
	dst = appendString(append(dst, 'S'), e.Severity)
	dst = appendString(append(dst, 'V'), e.Severity)
	dst = appendString(append(dst, 'C'), e.Code)
	dst = appendString(append(dst, 'M'), e.Message)
	if e.Detail != "" {
		dst = appendString(append(dst, 'D'), e.Detail)
	}
	if e.Hint != "" {
		dst = appendString(append(dst, 'H'), e.Hint)
	}
	if e.Routine != "" {
		dst = appendString(append(dst, 'R'), e.Routine)
	}
	return end(append(dst, 0), at)
}

// AppendChanged is an ErrorResponse or NoticeResponse with the fields of another, as change makes them; nil leaves a field
// out.
func AppendChanged(dst []byte, typ byte, body []byte, change func(field byte, text []byte) []byte) []byte {
	dst, at := begin(dst, typ)
	Fields(body, func(field byte, text []byte) {
		if text = change(field, text); text != nil {
			dst = append(append(append(dst, field), text...), 0)
		}
	})
	return end(append(dst, 0), at)
}

// AppendParameterStatus tells a parameter's value.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, at := begin(dst, 'S')
	return end(appendString(appendString(dst, name), value), at)
}

// AppendBackendKeyData tells the key of a session.
func AppendBackendKeyData(dst []byte, processID uint32, secret []byte) []byte {
	dst, at := begin(dst, 'K')
	dst = binary.BigEndian.AppendUint32(dst, processID)
	return end(append(dst, secret...), at)
}

// AppendReadyForQuery ends a turn.
func AppendReadyForQuery(dst []byte, status byte) []byte {
	return append(dst, 'Z', 0, 0, 0, 5, status)
}

// AppendAuthenticationOk ends a login conversation.
func AppendAuthenticationOk(dst []byte) []byte {
	return append(dst, 'R', 0, 0, 0, 8, 0, 0, 0, 0)
}

// AppendAuthentication asks for a step of authentication: code is the int32 of the message, data what follows it.
func AppendAuthentication(dst []byte, code uint32, data []byte) []byte {
	dst, at := begin(dst, 'R')
	dst = binary.BigEndian.AppendUint32(dst, code)
	return end(append(dst, data...), at)
}

// AppendPassword is a client's answer of type 'p' (password, SASL response).
func AppendPassword(dst, data []byte) []byte {
	dst, at := begin(dst, 'p')
	return end(append(dst, data...), at)
}

// AppendSASLInitialResponse is a client's first SASL answer.
func AppendSASLInitialResponse(dst []byte, mechanism string, data []byte) []byte {
	dst, at := begin(dst, 'p')
	dst = appendString(dst, mechanism)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)))
	return end(append(dst, data...), at)
}

// AppendCommandComplete ends a statement.
func AppendCommandComplete(dst []byte, tag string) []byte {
	dst, at := begin(dst, 'C')
	return end(appendString(dst, tag), at)
}

// AppendNegotiateProtocolVersion tells the newest version served and the options that are not known.
func AppendNegotiateProtocolVersion(dst []byte, version uint32, unknown []string) []byte {
	dst, at := begin(dst, 'v')
	dst = binary.BigEndian.AppendUint32(dst, version)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(unknown)))
	for _, name := range unknown {
		dst = appendString(dst, name)
	}
	return end(dst, at)
}

// AppendCopyFail appends CopyFail.
func AppendCopyFail(dst []byte, why string) []byte {
	dst, at := begin(dst, 'f')
	return end(appendString(dst, why), at)
}

// AppendEmpty adds a message without body: Sync 'S', Flush 'H', Terminate 'X', ParseComplete '1', and so on.
func AppendEmpty(dst []byte, typ byte) []byte { return append(dst, typ, 0, 0, 0, 4) }

// AppendQuery is a simple query.
func AppendQuery(dst []byte, sql string) []byte {
	dst, at := begin(dst, 'Q')
	return end(appendString(dst, sql), at)
}

// AppendParse prepares a statement; types is the raw list (int16 count, int32 each) as the client sent it.
func AppendParse(dst []byte, name, sql string, types []byte) []byte {
	dst, at := begin(dst, 'P')
	dst = appendString(appendString(dst, name), sql)
	return end(append(dst, types...), at)
}

// AppendDescribe asks for the shape of a statement ('S') or portal ('P').
func AppendDescribe(dst []byte, kind byte, name string) []byte {
	dst, at := begin(dst, 'D')
	return end(appendString(append(dst, kind), name), at)
}

// AppendClose closes a statement ('S') or portal ('P').
func AppendClose(dst []byte, kind byte, name string) []byte {
	dst, at := begin(dst, 'C')
	return end(appendString(append(dst, kind), name), at)
}

// AppendExecute runs a portal; rows limits what it returns, 0 does not.
func AppendExecute(dst []byte, portal string, rows uint32) []byte {
	dst, at := begin(dst, 'E')
	return end(binary.BigEndian.AppendUint32(appendString(dst, portal), rows), at)
}

// AppendBindHeader is the beginning of a Bind message with other names: rest is how many bytes of the client's body
// follow the two names.
func AppendBindHeader(dst []byte, portal, statement string, rest int64) []byte {
	length := 4 + int64(len(portal)) + 1 + int64(len(statement)) + 1 + rest
	dst = append(dst, 'B')
	dst = binary.BigEndian.AppendUint32(dst, uint32(length))
	return appendString(appendString(dst, portal), statement)
}

// AppendStartup is a StartupMessage; pairs are names and values by turns.
func AppendStartup(dst []byte, version uint32, pairs ...string) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, version)
	for _, s := range pairs {
		dst = appendString(dst, s)
	}
	return end(append(dst, 0), at)
}

// AppendCancelRequest is a CancelRequest packet.
func AppendCancelRequest(dst []byte, processID uint32, secret []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, CodeCancel)
	dst = binary.BigEndian.AppendUint32(dst, processID)
	return end(append(dst, secret...), at)
}

// AppendCommandTag writes "VERB n" into dst without a message around it.
func AppendCommandTag(dst []byte, verb string, n int64) []byte {
	return strconv.AppendInt(append(append(dst, verb...), ' '), n, 10)
}

// BeginQuery starts a simple query whose text is appended next; EndQuery completes it.
func BeginQuery(dst []byte) (_ []byte, at int) { return begin(dst, 'Q') }

// EndQuery ends the text and fills in the length.
func EndQuery(dst []byte, at int) []byte { return end(append(dst, 0), at) }

// AppendTextColumns appends a RowDescription of columns of type text, all in the given format.
func AppendTextColumns(dst []byte, names []string, format byte) []byte {
	const typeText = 25
	dst, at := begin(dst, 'T')
	dst = append(dst, byte(len(names)>>8), byte(len(names)))
	for _, name := range names {
		dst = appendString(dst, name)
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, 0, typeText, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, format)
	}
	return end(dst, at)
}

// AppendTextRow appends a DataRow of texts.
func AppendTextRow(dst []byte, values []string) []byte {
	dst, at := begin(dst, 'D')
	dst = append(dst, byte(len(values)>>8), byte(len(values)))
	for _, value := range values {
		n := len(value)
		dst = append(append(dst, byte(n>>24), byte(n>>16), byte(n>>8), byte(n)), value...)
	}
	return end(dst, at)
}
