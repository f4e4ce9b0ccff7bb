package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
)

// conversation is one client of the console. It belongs to one goroutine.
type conversation struct {
	console *Console
	conn    net.Conn
	log     *slog.Logger
	user    string
	admin   bool
	cancels <-chan struct{}
	ended   <-chan struct{} // closed when the client has gone
	out     []byte
	status  byte // as a driver expects it after BEGIN; nothing depends on it
	skip    bool // up to Sync, after an error

	statements map[string]*prepared
	portals    map[string]*portal
}

// handle answers one message; false ends the connection.
func (s *conversation) handle(ctx context.Context, m message) bool {
	switch {
	case m.typ == 'X':
		return false
	case m.typ == 0:
		s.fail(severityFatal, refusal("54000", "the message is too long for the console", ""))
		s.flush()
		return false
	case s.skip && m.typ != 'S':
		return true
	}
	switch m.typ {
	case 'Q':
		s.query(ctx, m.body)
		return s.flush()
	case 'S':
		s.skip = false
		clear(s.portals) // they end with the transaction
		s.out = wire.AppendReadyForQuery(s.out, s.status)
		return s.flush()
	case 'H':
		return s.flush()
	case 'd', 'c', 'f': // ignored outside a copy, as PostgreSQL does
		return true
	}
	if err := s.extended(ctx, m); err != nil {
		if errors.Is(err, errUnknownMessage) {
			s.fail(severityFatal, refusal("08P01", fmt.Sprintf("invalid frontend message type %d", m.typ), ""))
			s.flush()
			return false
		}
		s.fail(severityError, err)
		s.skip = true
		return s.flush()
	}
	return true
}

const (
	severityError  = "ERROR"
	severityFatal  = "FATAL"
	severityNotice = "NOTICE"
)

// query answers a simple query: its commands one after the other, up to the first error.
func (s *conversation) query(ctx context.Context, body []byte) {
	defer func() { s.out = wire.AppendReadyForQuery(s.out, s.status) }()
	text, err := wire.ParseString(body)
	if err != nil {
		s.fail(severityError, refusal("08P01", "malformed query message", ""))
		return
	}
	list, err := Parse(string(text))
	if err != nil {
		s.fail(severityError, err)
		return
	}
	if len(list) == 0 {
		s.out = wire.AppendEmpty(s.out, 'I')
	}
	for _, c := range list {
		t, err := s.run(ctx, c)
		if err != nil {
			s.fail(severityError, err)
			return
		}
		if t != nil {
			s.out = appendRowDescription(s.out, t.columns, nil)
			for _, row := range t.rows {
				s.row(t, row, nil)
			}
		}
		s.out = wire.AppendCommandComplete(s.out, c.tag())
	}
}

// chunk is how much is collected before it is written, in bytes.
const chunk = 64 << 10

// row adds a row to what is written.
func (s *conversation) row(t *table, row []any, formats []format) {
	s.out = appendDataRow(s.out, t.columns, row, formats)
	if len(s.out) > chunk {
		s.flush() // a client that is gone will be noticed at the end
	}
}

// run carries out one command; the table is nil when it answers with its tag alone.
func (s *conversation) run(ctx context.Context, c Command) (*table, error) {
	switch c.Verb {
	case accepted:
		s.follow(c.Name)
		return nil, nil
	case one:
		t := &table{columns: columns("i", "?column?")}
		n, err := strconv.ParseInt(c.Value, 10, 32)
		t.add(n)
		return t, err // the parser has seen that it is a number
	case Show:
		return s.show(c.Name)
	}
	if !s.admin {
		return nil, refusal("42501", fmt.Sprintf("role %q may only use SHOW", s.user), "proxy.admin.users lists who may do more.")
	}
	s.log.Info("console command", "command", c.tag(), "name", c.Name, "id", c.ID)
	notice, err := s.do(ctx, c)
	if err != nil {
		return nil, err
	}
	if notice != "" {
		s.out = wire.AppendNoticeResponse(s.out, wire.ErrorFields{Severity: severityNotice, Code: "00000", Message: notice})
	}
	return nil, nil
}

// follow keeps the transaction status that a driver expects.
func (s *conversation) follow(tag string) {
	switch tag {
	case "BEGIN", "START TRANSACTION":
		s.status = wire.StatusInTransaction
	case "COMMIT", "ROLLBACK":
		s.status = wire.StatusIdle
	}
}

var (
	errCanceled = errors.New("canceled")
	errGone     = errors.New("client has gone")
)

// do carries out a command of the proxy; a CancelRequest, or the client's end, stops it.
func (s *conversation) do(ctx context.Context, c Command) (string, error) {
	if !c.blocks() {
		return s.console.proxy.Do(ctx, c)
	}
	select {
	case <-s.cancels: // meant for something that is over
	default:
	}
	s.flush() // what came before should not wait
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var notice string
	done := make(chan error, 1)
	go func() { // ends with Do, for which the loop below waits
		var err error
		notice, err = s.console.proxy.Do(ctx, c)
		done <- err
	}()
	ended, cancels := s.ended, s.cancels
	for {
		select {
		case err := <-done:
			if err != nil && errors.Is(context.Cause(ctx), errCanceled) {
				return "", refusal("57014", "canceling statement due to user request", "")
			}
			return notice, err
		case <-cancels:
			cancel(errCanceled)
			cancels = nil
		case <-ended:
			cancel(errGone)
			ended = nil
		}
	}
}

// show fills the table of a SHOW.
func (s *conversation) show(name string) (*table, error) {
	if name == "help" {
		s.out = wire.AppendNoticeResponse(s.out, wire.ErrorFields{
			Severity: severityNotice, Code: "00000", Message: "Console usage", Detail: "\n" + helpText,
		})
		return nil, nil
	}
	list, ok := s.columnsOf(name)
	if !ok {
		return nil, &SyntaxError{Message: fmt.Sprintf("there is no SHOW %s", strings.ToUpper(clip(name))), Unknown: true}
	}
	t := &table{columns: list}
	if v, ok := views[name]; !ok {
		t.add(s.parameter(name))
	} else if v.fill != nil {
		v.fill(s.console, s.console.proxy.Snapshot(), t)
	}
	return t, nil
}

// columnsOf are the columns of a SHOW, of the console or of a parameter.
func (s *conversation) columnsOf(name string) ([]column, bool) {
	if v, ok := views[name]; ok {
		return v.columns, true
	}
	if s.parameter(name) == "" {
		return nil, false
	}
	return []column{{name, typeText}}, true
}

// parameter is what SHOW of a run-time parameter answers; empty for what is not known.
func (s *conversation) parameter(name string) string {
	switch name {
	case "transaction_read_only", "in_hot_standby", "default_transaction_read_only":
		return "off"
	case "transaction_isolation":
		return "read committed"
	}
	for _, p := range s.console.cfg.Parameters {
		if strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

func refusal(sqlstate, message, hint string) *Refusal {
	return &Refusal{session.Failure{SQLSTATE: sqlstate, Message: message, Hint: hint}}
}

// fail tells an error.
func (s *conversation) fail(severity string, err error) {
	e := wire.ErrorFields{Severity: severity, Code: "XX000", Message: err.Error()}
	var syntax *SyntaxError
	var refused *Refusal
	switch {
	case errors.As(err, &syntax):
		e.Code = "42601"
		e.Hint = "SHOW HELP lists the commands."
		if syntax.Unknown {
			e.Hint = "The console understands:\n" + helpText
		}
	case errors.As(err, &refused):
		e.Code, e.Message, e.Detail, e.Hint = refused.SQLSTATE, refused.Message, refused.Detail, refused.Hint
	}
	s.out = wire.AppendErrorResponse(s.out, e)
}

// flush writes what has been answered; false means that the client is gone.
func (s *conversation) flush() bool {
	if len(s.out) == 0 {
		return true
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.console.cfg.WriteTimeout)) // an error shows in the write
	_, err := s.conn.Write(s.out)
	if cap(s.out) > 2*chunk {
		s.out = nil
	}
	s.out = s.out[:0]
	return err == nil
}

func cString(b []byte) (text string, rest []byte, ok bool) {
	before, rest, ok := bytes.Cut(b, []byte{0})
	return string(before), rest, ok
}
