package pool

import (
	"context"
	"net"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// Stream is a replication connection to a server: it serves one client, and no Set knows it.
type Stream struct {
	Conn       net.Conn
	Address    Address
	Facts      *session.ServerFacts
	Parameters []session.Parameter // reported at login
	dialer     Dialer
}

// StreamRequest says to whom a Stream leads, and as whom.
type StreamRequest struct {
	Node    replication.NodeID
	Address Address
	Role    replication.Role
	Epoch   replication.Epoch // 0: a standby
	User    string
	Secret  auth.Secret
	Startup []string // names and values of the other startup parameters
}

// Stream dials and logs in; ctx bounds all of it. A *LoginError is what PostgreSQL said.
func (d Dialer) Stream(ctx context.Context, req StreamRequest) (*Stream, error) {
	startup := wire.AppendStartup(nil, wire.Protocol30, append([]string{"user", req.User}, req.Startup...)...)
	var l *login
	var err error
	for _, encrypted := range d.attempts(req.Address) {
		l, err = d.attempt(ctx, req.Address, encrypted, func(l *login) error { return l.stream(startup, req) })
		if err == nil || !again(err) {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	facts := session.NewServerFacts(0, req.Node, req.Role, req.Epoch, l.parameters, 0)
	facts.ProcessID, facts.Secret = l.processID, l.secret
	return &Stream{Conn: l.conn, Address: req.Address, Facts: facts, Parameters: l.parameters, dialer: d}, nil
}

// stream logs in to a walsender, which is asked nothing more: what it reports of its role must do.
func (l *login) stream(startup []byte, req StreamRequest) error {
	if err := l.begin(startup, req.User, req.Secret); err != nil {
		return err
	}
	for _, p := range l.parameters {
		if p.Name == "in_hot_standby" && (p.Value == "on") != (req.Role == replication.RoleStandby) {
			return errRole
		}
	}
	return nil
}

// Cancel sends a CancelRequest for what the server does, over TLS if the connection is. ctx bounds it.
func (s *Stream) Cancel(ctx context.Context) error {
	return s.dialer.Cancel(ctx, s.Address, s.Conn, s.Facts.ProcessID, s.Facts.Secret)
}
