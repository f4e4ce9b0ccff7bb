package admin

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/walgate/walgate/proxy/wire"
)

// prepared is a statement of the extended protocol: at most one command, and no parameters.
type prepared struct {
	command Command
	empty   bool
}

// portal is a prepared statement with the formats of its answer. Its rows are there once it has run.
type portal struct {
	statement *prepared
	formats   []format
	ran       bool
	table     *table
	next      int // of the rows
}

var (
	errUnknownMessage = errors.New("unknown message")
	errMalformed      = refusal("08P01", "malformed message", "")
)

// extended answers a message of the extended protocol.
func (s *conversation) extended(ctx context.Context, m message) error {
	switch m.typ {
	case 'P':
		return s.parse(m.body)
	case 'B':
		return s.bind(m.body)
	case 'D':
		return s.describe(m.body)
	case 'E':
		return s.execute(ctx, m.body)
	case 'C':
		return s.close(m.body)
	default:
		return errUnknownMessage
	}
}

func (s *conversation) parse(body []byte) error {
	name, rest, ok := cString(body)
	text, _, ok2 := cString(rest)
	switch {
	case !ok || !ok2:
		return errMalformed
	case name != "" && s.statements[name] != nil:
		return refusal("42P05", "prepared statement \""+clip(name)+"\" already exists", "")
	case len(s.statements) >= maxPrepared && s.statements[name] == nil:
		return refusal("54000", "too many prepared statements for the console", "")
	}
	list, err := Parse(text)
	if err != nil {
		return err
	}
	p := &prepared{empty: len(list) == 0}
	switch {
	case len(list) > 1:
		return refusal("42601", "cannot insert multiple commands into a prepared statement", "")
	case !p.empty:
		p.command = list[0]
		if c := p.command; c.Verb == Show && c.Name != "help" {
			if _, ok := s.columnsOf(c.Name); !ok {
				_, err := s.show(c.Name)
				return err
			}
		}
	}
	s.statements[name] = p
	s.out = wire.AppendEmpty(s.out, '1')
	return nil
}

func (s *conversation) bind(body []byte) error {
	portalName, rest, ok := cString(body)
	name, rest, ok2 := cString(rest)
	if !ok || !ok2 {
		return errMalformed
	}
	p := s.statements[name]
	if p == nil {
		return refusal("26000", "prepared statement \""+clip(name)+"\" does not exist", "")
	}
	_, rest, ok = words(rest) // formats of parameters
	if !ok || len(rest) < 2 {
		return errMalformed
	}
	if binary.BigEndian.Uint16(rest) != 0 {
		return refusal("08P01", "the console's commands take no parameters", "Write the values into the command.")
	}
	formats, _, ok := words(rest[2:])
	if !ok {
		return errMalformed
	}
	for _, f := range formats {
		if f > formatBinary {
			return refusal("22023", "unsupported format code", "")
		}
	}
	if len(s.portals) >= maxPrepared && s.portals[portalName] == nil {
		return refusal("54000", "too many portals for the console", "")
	}
	s.portals[portalName] = &portal{statement: p, formats: formats}
	s.out = wire.AppendEmpty(s.out, '2')
	return nil
}

// words reads a list of int16 with its length before it.
func words(b []byte) (list []format, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) < 2*n {
		return nil, nil, false
	}
	for i := range n {
		list = append(list, format(binary.BigEndian.Uint16(b[2*i:])))
	}
	return list, b[2*n:], true
}

// columns are those that the statement will answer with; none for a command without rows.
func (s *conversation) columns(p *prepared) []column {
	switch {
	case p.empty:
		return nil
	case p.command.Verb == one:
		return columns("i", "?column?")
	case p.command.Verb == Show:
		list, _ := s.columnsOf(p.command.Name)
		return list
	default:
		return nil
	}
}

func (s *conversation) describe(body []byte) error {
	if len(body) == 0 {
		return errMalformed
	}
	name, _, ok := cString(body[1:])
	if !ok {
		return errMalformed
	}
	var p *prepared
	var formats []format
	switch body[0] {
	case 'S':
		if p = s.statements[name]; p == nil {
			return refusal("26000", "prepared statement \""+clip(name)+"\" does not exist", "")
		}
		s.out = append(s.out, 't', 0, 0, 0, 6, 0, 0)
	case 'P':
		at := s.portals[name]
		if at == nil {
			return refusal("34000", "portal \""+clip(name)+"\" does not exist", "")
		}
		p, formats = at.statement, at.formats
	default:
		return errMalformed
	}
	if list := s.columns(p); list != nil {
		s.out = appendRowDescription(s.out, list, formats)
	} else {
		s.out = wire.AppendEmpty(s.out, 'n')
	}
	return nil
}

func (s *conversation) execute(ctx context.Context, body []byte) error {
	name, rest, ok := cString(body)
	if !ok || len(rest) != 4 {
		return errMalformed
	}
	p := s.portals[name]
	if p == nil {
		return refusal("34000", "portal \""+clip(name)+"\" does not exist", "")
	}
	if p.statement.empty {
		s.out = wire.AppendEmpty(s.out, 'I')
		return nil
	}
	if !p.ran {
		t, err := s.run(ctx, p.statement.command)
		if err != nil {
			return err
		}
		p.ran, p.table = true, t
	}
	if p.table != nil {
		limit := int(int32(binary.BigEndian.Uint32(rest)))
		for sent := 0; p.next < len(p.table.rows); sent++ {
			if limit > 0 && sent == limit {
				s.out = wire.AppendEmpty(s.out, 's')
				return nil
			}
			s.row(p.table, p.table.rows[p.next], p.formats)
			p.next++
		}
	}
	s.out = wire.AppendCommandComplete(s.out, p.statement.command.tag())
	return nil
}

func (s *conversation) close(body []byte) error {
	if len(body) == 0 {
		return errMalformed
	}
	name, _, ok := cString(body[1:])
	switch {
	case !ok:
		return errMalformed
	case body[0] == 'S':
		delete(s.statements, name)
	case body[0] == 'P':
		delete(s.portals, name)
	default:
		return errMalformed
	}
	s.out = wire.AppendEmpty(s.out, '3')
	return nil
}
