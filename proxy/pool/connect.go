package pool

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// maxLoginMessage bounds one message of a server during login, in bytes.
const maxLoginMessage = 64 << 10

// LoginError is an ErrorResponse with which a server refused a login.
type LoginError struct{ session.Failure }

// Error returns the server's words.
func (e *LoginError) Error() string { return e.Message + " (SQLSTATE " + e.SQLSTATE + ")" }

// Lasting reports whether the refusal is about this role or database, so that trying again would not help.
func (e *LoginError) Lasting() bool {
	switch {
	case strings.HasPrefix(e.SQLSTATE, "57P"), strings.HasPrefix(e.SQLSTATE, "53"), strings.HasPrefix(e.SQLSTATE, "08"),
		strings.HasPrefix(e.SQLSTATE, "XX"), strings.HasPrefix(e.SQLSTATE, "58"):
		return false
	}
	return true
}

// cannotProve is the answer of a server that asks for what walgate does not have. Trying again would not help.
func cannotProve(method string) error {
	return &LoginError{session.Failure{
		SQLSTATE: "28000", Message: "the server asks the proxy for an authentication method that it can't serve",
		Detail: "The method is " + method + "; walgate keeps no passwords of clients.",
		Hint: "Let pg_hba.conf of every node ask for scram-sha-256 from the addresses of the proxies. For roles that log in to " +
			"the proxy without a password (trust, cert, peer), put their password into the file of proxy.auth.user_file.",
	}}
}

// staleKeys is the answer to a session whose role got a new password that nobody has proved to know here. Server
// connections that are open already are still of use to it.
func staleKeys(user string) error {
	return &LoginError{session.Failure{
		SQLSTATE: codeInvalidPassword, Message: fmt.Sprintf("the password of user %q has changed", user),
		Detail: "A new server connection is needed, and the server does not take the password that was valid at login.",
		Hint:   "Connect again with the new password.",
	}}
}

// codeInvalidPassword is SQLSTATE invalid_password.
const codeInvalidPassword = "28P01"

// errRole says that a server is in recovery and should not be, or the other way round.
var errRole = errors.New("server is not in the role that the view gives it")

// login is the result of a conversation up to the first ReadyForQuery.
type login struct {
	conn       net.Conn
	parameters []session.Parameter
	processID  uint32
	secret     []byte
	defaults   session.Defaults
}

// Dialer makes the connections to PostgreSQL. It is safe for concurrent use.
type Dialer struct {
	TLS *secure.ServerLeg // nil: never
	TCP TCP
}

// dial connects once; encrypted asks for TLS.
func (d Dialer) dial(ctx context.Context, at Address, encrypted bool) (net.Conn, error) {
	var dialer net.Dialer
	network, address := at.network()
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	d.TCP.Apply(conn)
	if !encrypted {
		return conn, nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	safe, err := d.TLS.Connect(ctx, conn, at.Host)
	if err != nil {
		_ = conn.Close() // the first error is the one that tells
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, &tlsError{err}
	}
	return safe, nil
}

// tlsError says that a connection was made, but TLS was not.
type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

// attempts lists with what to try: true is TLS.
func (d Dialer) attempts(at Address) []bool {
	if d.TLS == nil {
		return []bool{false}
	}
	network, _ := at.network()
	return d.TLS.Attempts(network)
}

// again reports whether after this error the next kind of attempt is worth it: PostgreSQL has no line in pg_hba.conf
// for this kind of connection, or TLS could not be made.
func again(err error) bool {
	var refusal *LoginError
	var noTLS *tlsError
	return errors.As(err, &refusal) && refusal.SQLSTATE == "28000" || errors.As(err, &noTLS)
}

// connect dials and logs in; ctx bounds all of it.
func (d Dialer) connect(ctx context.Context, at Address, key Key, role replication.Role, secret auth.Secret) (l *login, err error) {
	for _, encrypted := range d.attempts(at) {
		if l, err = d.attempt(ctx, at, encrypted, func(l *login) error { return l.run(key, role, secret) }); err == nil || !again(err) {
			break
		}
	}
	return l, err
}

// attempt dials once and lets talk log in.
func (d Dialer) attempt(ctx context.Context, at Address, encrypted bool, talk func(l *login) error) (*login, error) {
	conn, err := d.dial(ctx, at, encrypted)
	if err != nil {
		return nil, err
	}
	l := &login{conn: conn}
	// The deadline covers silence, the end of ctx covers a change of view.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = talk(l)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // the first error is the one that tells
		return nil, err
	}
	return l, nil
}

func (a Address) network() (network, address string) {
	if strings.HasPrefix(a.Host, "/") {
		return "unix", filepath.Join(a.Host, ".s.PGSQL."+strconv.Itoa(a.Port))
	}
	return "tcp", net.JoinHostPort(a.Host, strconv.Itoa(a.Port))
}

func (l *login) run(key Key, role replication.Role, secret auth.Secret) error {
	startup := wire.AppendStartup(nil, wire.Protocol30, "user", key.User, "database", key.Database)
	if err := l.begin(startup, key.User, secret); err != nil {
		return err
	}
	return l.ask(role)
}

// begin goes from the StartupMessage to the first ReadyForQuery.
func (l *login) begin(startup []byte, user string, secret auth.Secret) error {
	if _, err := l.conn.Write(startup); err != nil {
		return fmt.Errorf("send startup: %w", err)
	}
	if err := l.authenticate(user, secret); err != nil {
		return err
	}
	return l.untilReady(nil)
}

// authenticate answers the server's requests until AuthenticationOk.
func (l *login) authenticate(user string, secret auth.Secret) error {
	var scram *auth.Client
	proved := false
	for {
		typ, body, err := l.read()
		if err != nil {
			return err
		}
		if typ != 'R' || len(body) < 4 {
			continue // NoticeResponse; read has dealt with ErrorResponse
		}
		code, data := binary.BigEndian.Uint32(body), body[4:]
		var answer []byte
		switch code {
		case pgproto3.AuthTypeOk:
			if scram != nil && !proved {
				return auth.ErrServerProof
			}
			return nil
		case pgproto3.AuthTypeCleartextPassword:
			if secret.Password == "" {
				return cannotProve("password")
			}
			answer = wire.AppendPassword(nil, append([]byte(secret.Password), 0))
		case pgproto3.AuthTypeMD5Password:
			hash := secret.MD5
			if secret.Password != "" {
				hash = auth.MD5Hash(user, secret.Password)
			}
			if hash == "" || len(data) != 4 {
				return cannotProve("md5 for a role whose password or md5 hash is not known")
			}
			answer = wire.AppendPassword(nil, append([]byte(auth.MD5Response(hash, [4]byte(data))), 0))
		case pgproto3.AuthTypeSASL:
			if scram != nil || !strings.Contains("\x00"+string(data), "\x00"+auth.Mechanism+"\x00") {
				return cannotProve("an unknown SASL mechanism")
			}
			if secret.Password == "" && len(secret.Keys) == 0 {
				return cannotProve("scram-sha-256 for a role that has not logged in with its password here")
			}
			scram = auth.NewClient(secret)
			answer = wire.AppendSASLInitialResponse(nil, auth.Mechanism, scram.First())
		case pgproto3.AuthTypeSASLContinue:
			if scram == nil {
				return auth.ErrMalformed
			}
			final, err := scram.Final(data)
			if errors.Is(err, auth.ErrStaleKeys) {
				return staleKeys(user)
			}
			if err != nil {
				return fmt.Errorf("answer SCRAM challenge: %w", err)
			}
			answer = wire.AppendPassword(nil, final)
		case pgproto3.AuthTypeSASLFinal:
			if scram == nil {
				return auth.ErrMalformed
			}
			if err := scram.Verify(data); err != nil {
				return fmt.Errorf("check server's proof: %w", err)
			}
			proved = true
			continue
		default:
			return cannotProve(fmt.Sprintf("number %d", code))
		}
		if _, err := l.conn.Write(answer); err != nil {
			return fmt.Errorf("send authentication: %w", err)
		}
	}
}

// untilReady reads up to ReadyForQuery, keeps parameters and key, and shows each DataRow to row.
func (l *login) untilReady(row func(body []byte)) error {
	for {
		typ, body, err := l.read()
		if err != nil {
			return err
		}
		switch typ {
		case 'Z':
			return nil
		case 'S':
			var status pgproto3.ParameterStatus
			if err := status.Decode(body); err != nil {
				return fmt.Errorf("read parameter status: %w", err)
			}
			l.observe(session.Parameter{Name: status.Name, Value: status.Value})
		case 'K':
			if len(body) < 8 {
				return wire.ErrShort
			}
			l.processID, l.secret = binary.BigEndian.Uint32(body), body[4:]
		case 'D':
			if row != nil {
				row(body)
			}
		}
	}
}

func (l *login) observe(p session.Parameter) {
	for i := range l.parameters {
		if l.parameters[i].Name == p.Name {
			l.parameters[i].Value = p.Value
			return
		}
	}
	l.parameters = append(l.parameters, p)
}

// loginQuestion asks for what a server does not report.
const loginQuestion = "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('synchronous_commit'), " +
	"pg_catalog.current_setting('client_min_messages'), pg_catalog.current_setting('default_transaction_isolation')"

// ask makes sure that the server is in recovery exactly if it should be, and notes the defaults of its role and database.
func (l *login) ask(role replication.Role) error {
	if _, err := l.conn.Write(wire.AppendQuery(nil, loginQuestion)); err != nil {
		return fmt.Errorf("ask for recovery: %w", err)
	}
	var row pgproto3.DataRow
	var malformed error
	err := l.untilReady(func(body []byte) { malformed = row.Decode(body) })
	if err == nil {
		err = malformed
	}
	if err == nil && len(row.Values) != 4 {
		err = wire.ErrShort
	}
	if err != nil {
		return fmt.Errorf("ask for recovery: %w", err)
	}
	if standby := string(row.Values[0]) == "t"; standby != (role == replication.RoleStandby) {
		return errRole
	}
	l.defaults = session.NewDefaults(string(row.Values[1]), string(row.Values[2]), string(row.Values[3]))
	return nil
}

// read returns the next message and nothing after it: whatever the server says later is the driver's. An ErrorResponse
// becomes a LoginError.
func (l *login) read() (typ byte, body []byte, err error) {
	var header [wire.HeaderLen]byte
	if _, err := io.ReadFull(l.conn, header[:]); err != nil {
		return 0, nil, fmt.Errorf("read from server: %w", err)
	}
	length := int64(binary.BigEndian.Uint32(header[1:])) - 4
	if length < 0 || length > maxLoginMessage {
		return 0, nil, &wire.LengthError{Type: header[0], Length: length + 4}
	}
	body = make([]byte, length)
	if _, err := io.ReadFull(l.conn, body); err != nil {
		return 0, nil, fmt.Errorf("read from server: %w", err)
	}
	if header[0] == 'E' {
		var e pgproto3.ErrorResponse
		if err := e.Decode(body); err != nil {
			return 0, nil, fmt.Errorf("read error response: %w", err)
		}
		return 0, nil, &LoginError{session.Failure{SQLSTATE: e.Code, Message: e.Message, Detail: e.Detail, Hint: e.Hint}}
	}
	return header[0], body, nil
}

// Cancel sends a CancelRequest for the server's current statement and waits until PostgreSQL has closed that
// connection, which it does after it has sent the signal. ctx bounds it. errNotSent means that PostgreSQL will never see
// the request.
func (s *Server) Cancel(ctx context.Context) error {
	return s.budget.set.cfg.Dialer.Cancel(ctx, s.Address, s.Conn, s.Facts.ProcessID, s.Facts.Secret)
}

// Cancel sends a CancelRequest for the server that conn is connected to, over TLS if conn is.
func (d Dialer) Cancel(ctx context.Context, at Address, connected net.Conn, processID uint32, secret []byte) error {
	_, encrypted := connected.(*secure.Conn)
	conn, err := d.dial(ctx, at, encrypted && d.TLS != nil)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	defer func() { _ = conn.Close() }() // nothing is lost with it
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write(wire.AppendCancelRequest(nil, processID, secret)); err != nil {
		return fmt.Errorf("send cancel: %w", err)
	}
	var one [1]byte
	if _, err := conn.Read(one[:]); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for cancel: %w", err)
	}
	return nil
}
