package proxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// leakPatience is how long an answer may take where nothing is spoiled.
const leakPatience = 90 * time.Second

// leakLine is one connection without a driver's manners, which remembers everything that it was told.
type leakLine struct {
	front      *pgproto3.Frontend
	conn       net.Conn
	pid        uint32
	secret     []byte
	parameters map[string]string
	notified   []string // channel and payload, in the order in which they came
	status     byte
	patience   time.Duration
}

func dialLeak(ctx context.Context, url string, startup map[string]string, patience time.Duration) (*leakLine, error) {
	cfg, err := pgconn.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	for name, value := range startup {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	h, err := conn.Hijack()
	if err != nil {
		return nil, err
	}
	return &leakLine{
		front: h.Frontend, conn: h.Conn, pid: h.PID, secret: h.SecretKey, parameters: h.ParameterStatuses, status: h.TxStatus,
		patience: patience,
	}, nil
}

// send writes messages at once.
func (l *leakLine) send(messages ...pgproto3.FrontendMessage) error {
	for _, m := range messages {
		l.front.Send(m)
	}
	return l.front.Flush()
}

// exchange writes messages and reads until as many ReadyForQuery have come as they ask for. It returns what came between
// as text; parameters and notifications, which have no place of their own in it, are kept apart.
func (l *leakLine) exchange(messages ...pgproto3.FrontendMessage) ([]string, error) {
	if err := l.conn.SetDeadline(time.Now().Add(l.patience)); err != nil {
		return nil, err
	}
	if err := l.send(messages...); err != nil {
		return nil, err
	}
	return l.collect(turnsOf(messages))
}

// turnsOf counts the ReadyForQuery that messages ask for.
func turnsOf(messages []pgproto3.FrontendMessage) (n int) {
	for _, m := range messages {
		switch m.(type) {
		case *pgproto3.Query, *pgproto3.Sync, *pgproto3.FunctionCall:
			n++
		}
	}
	return n
}

func (l *leakLine) collect(turns int) (said []string, err error) {
	for turns > 0 {
		m, err := l.front.Receive()
		if err != nil {
			return said, fmt.Errorf("receive after %q: %w", said, err)
		}
		text := l.take(m)
		if text != "" {
			said = append(said, text)
		}
		if _, ok := m.(*pgproto3.ReadyForQuery); ok {
			turns--
		}
	}
	return said, nil
}

// await reads while nothing is owed, until ok holds; all that may come is asynchronous.
func (l *leakLine) await(ok func() bool) error {
	if err := l.conn.SetDeadline(time.Now().Add(l.patience)); err != nil {
		return err
	}
	for !ok() {
		m, err := l.front.Receive()
		if err != nil {
			return fmt.Errorf("waiting: %w", err)
		}
		if text := l.take(m); text != "" {
			return fmt.Errorf("unasked: %s", text)
		}
	}
	return nil
}

// take notes a message, or returns it as text.
func (l *leakLine) take(m pgproto3.BackendMessage) string {
	switch m := m.(type) {
	case *pgproto3.ParameterStatus:
		l.parameters[m.Name] = m.Value
		return ""
	case *pgproto3.NotificationResponse:
		l.notified = append(l.notified, m.Channel+" "+m.Payload)
		return ""
	case *pgproto3.ReadyForQuery:
		l.status = m.TxStatus
		return "ready " + string(m.TxStatus)
	case *pgproto3.NoticeResponse:
		return trouble("notice", (*pgproto3.ErrorResponse)(m))
	case *pgproto3.ErrorResponse:
		return trouble("error", m)
	case *pgproto3.CommandComplete:
		return "complete " + string(m.CommandTag)
	case *pgproto3.DataRow:
		var b strings.Builder
		b.WriteString("row")
		for _, v := range m.Values {
			fmt.Fprintf(&b, " %q", v)
			if v == nil {
				b.WriteString("(null)")
			}
		}
		return b.String()
	case *pgproto3.RowDescription:
		var b strings.Builder
		b.WriteString("columns")
		for _, f := range m.Fields {
			fmt.Fprintf(&b, " %s:%d:%d", f.Name, f.DataTypeOID, f.Format)
		}
		return b.String()
	case *pgproto3.CopyData:
		return fmt.Sprintf("copied %q", m.Data)
	case *pgproto3.ParameterDescription:
		return fmt.Sprintf("parameters %v", m.ParameterOIDs)
	default:
		return fmt.Sprintf("%T", m)
	}
}

func trouble(kind string, e *pgproto3.ErrorResponse) string {
	return fmt.Sprintf("%s %s %s %q %q %q", kind, e.Severity, e.Code, e.Message, e.Detail, e.Hint)
}

// cancel sends a CancelRequest and returns when it has been dealt with.
func (l *leakLine) cancel(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, l.conn.RemoteAddr().Network(), l.conn.RemoteAddr().String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	message, err := (&pgproto3.CancelRequest{ProcessID: l.pid, SecretKey: l.secret}).Encode(nil)
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(l.patience)); err != nil {
		return err
	}
	if _, err := conn.Write(message); err != nil {
		return err
	}
	var one [1]byte
	_, _ = conn.Read(one[:]) // its end, or a reset: either way it is over
	return nil
}
