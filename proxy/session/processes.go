package session

import (
	"encoding/binary"
	"strconv"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// The process id that a client is told at login is its session's, since server processes change under it. Where a client
// uses such an id, it means the server process that works for that session at the moment: the ids are replaced in
// statements that may name processes and in their parameters, and back in the notifications that clients get.

// MinProcessID is the least process id that a client is told. It is above those of processes (Linux gives none above
// 2^22), so that one can't be taken for the other.
const MinProcessID = 1<<22 + 1

// Processes relates the process ids that clients were told to the processes of servers. Its methods may be called from any
// goroutine and don't block.
type Processes interface {
	// ServerOf returns the process on the node that works for the client with this id; 0: none.
	ServerOf(node replication.NodeID, client uint32) (process uint32)
	// ClientOf returns the id of the client for which the process on the node works, or worked last; 0: it is not known.
	ClientOf(node replication.NodeID, process uint32) (client uint32)
}

// process returns the server process for which a client's number stands; 0: it is only a number.
func (s *Session) process(number uint64) uint32 {
	switch {
	case number < MinProcessID || number > 1<<31-1 || s.cfg.Processes == nil:
		return 0
	case number == uint64(s.id):
		return s.srv.ProcessID
	}
	return s.cfg.Processes.ServerOf(s.srv.Node, uint32(number))
}

// replaceProcesses gives the ids of clients in a text those of their servers. Literals count too: they may be arrays.
func (s *Session) replaceProcesses(text []byte) editor {
	e := editor{text: text}
	for i := 0; i < len(text); i++ {
		start := i
		for i < len(text) && '0' <= text[i] && text[i] <= '9' {
			i++
		}
		if i-start < minProcessDigits || i-start > maxProcessDigits || start > 0 && partOfWord(text[start-1]) ||
			i < len(text) && partOfWord(text[i]) {
			continue
		}
		number, _ := strconv.ParseUint(string(text[start:i]), 10, 64)
		if process := s.process(number); process != 0 {
			e.replace(start, i, strconv.FormatUint(uint64(process), 10))
		}
	}
	return e
}

// How many digits an id from MinProcessID to 2^31-1 has.
const minProcessDigits, maxProcessDigits = 7, 10

// partOfWord reports whether digits next to b belong to something else than an integer.
func partOfWord(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z' || b == '_' || b == '$' || b == '.' || b >= 0x80
}

// present returns the statement to run now for one that may name processes.
func (s *Session) present(st *statement) *statement {
	if st.large || st.sql || !st.verdict.Flags.Has(router.Processes) {
		return st
	}
	e := s.replaceProcesses([]byte(st.text))
	if !e.changed() {
		return st
	}
	b := *st.body
	b.text, b.unnamed.body = string(e.finish()), &b
	b.id = canonicalName(&b)
	if st.canonical == "" {
		return &b.unnamed
	}
	return &statement{name: st.name, canonical: b.id, body: &b}
}

// presentParameters gives the ids of clients in what follows the names in a Bind message those of their servers.
func (s *Session) presentParameters(rest []byte) []byte {
	p, err := wire.ParseParameters(rest)
	if err != nil {
		return rest
	}
	changed := false
	for i, value := range p.Values {
		switch {
		case value == nil:
		case !p.Binary(i):
			if e := s.replaceProcesses(value); e.changed() {
				p.Values[i], changed = e.finish(), true
			}
		case len(value) == 4:
			if process := s.process(uint64(binary.BigEndian.Uint32(value))); process != 0 {
				p.Values[i], changed = binary.BigEndian.AppendUint32(nil, process), true
			}
		}
	}
	if !changed {
		return rest
	}
	return wire.AppendParameters(nil, p)
}

// withSender names the client that has sent a notification, instead of its server.
func (s *Session) withSender(p wire.Piece) []byte {
	if !p.First || len(p.Bytes) < wire.HeaderLen+4 {
		return p.Bytes
	}
	process, client := binary.BigEndian.Uint32(p.Bytes[wire.HeaderLen:]), uint32(0)
	switch {
	case process == s.srv.ProcessID:
		client = s.id
	case s.cfg.Processes != nil:
		client = s.cfg.Processes.ClientOf(s.srv.Node, process)
	}
	if client == 0 {
		return p.Bytes
	}
	b := append([]byte(nil), p.Bytes...)
	binary.BigEndian.PutUint32(b[wire.HeaderLen:], client)
	return b
}

// rewriteProcesses is replaceProcesses for a query, or for what has become of it.
func (s *Session) rewriteProcesses(changed, text []byte, r *request) []byte {
	if changed != nil {
		text = changed
	}
	e := s.replaceProcesses(text)
	if !e.changed() {
		return changed
	}
	r.edits = append(r.edits, e.edits...)
	return e.finish()
}
