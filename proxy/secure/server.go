package secure

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// ServerConfig is TLS toward PostgreSQL.
type ServerConfig struct {
	Mode       Mode
	Files      Files // CertFile: what PostgreSQL may ask for; CAFile: signs the servers' certificates
	MinVersion uint16
	Direct     bool // TLS begins at once (PostgreSQL 17), without a request
}

// Validate checks what can be known without the files.
func (c ServerConfig) Validate() error {
	switch {
	case c.Mode >= VerifyCA && c.Files.CAFile == "":
		return fmt.Errorf("mode %s needs the CA of the servers' certificates", c.Mode)
	case c.Direct && c.Mode < Require:
		return fmt.Errorf("direct negotiation needs mode require or stricter, not %s", c.Mode)
	}
	return checkVersion(c.MinVersion)
}

// ServerLeg makes TLS connections to PostgreSQL. It is safe for concurrent use.
type ServerLeg struct{ current atomic.Pointer[serverState] }

type serverState struct {
	mode   Mode
	direct bool
	config *tls.Config
}

// NewServerLeg reads the files.
func NewServerLeg(cfg ServerConfig) (*ServerLeg, error) {
	l := &ServerLeg{}
	return l, l.Reload(cfg)
}

// Reload reads the files again. After an error everything is as before; connections that exist are not touched.
func (l *ServerLeg) Reload(cfg ServerConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	id, err := cfg.Files.read()
	if err != nil {
		return err
	}
	config := &tls.Config{
		MinVersion: cfg.MinVersion, Certificates: id.certificates, RootCAs: id.roots, NextProtos: []string{Protocol},
		InsecureSkipVerify: cfg.Mode < VerifyFull, // as libpq; the next lines check as much as the mode says
	}
	// With a CA, require means verify-ca, as in libpq.
	if cfg.Mode == VerifyCA || cfg.Mode == Require && id.roots != nil {
		config.VerifyConnection = func(state tls.ConnectionState) error { return signed(state, id.roots) }
	}
	l.current.Store(&serverState{mode: cfg.Mode, direct: cfg.Direct, config: config})
	return nil
}

// signed checks the chain, without a name.
func signed(state tls.ConnectionState, roots *x509.CertPool) error {
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range state.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := state.PeerCertificates[0].Verify(options)
	return err
}

// Attempts lists, in order, with what to try: true is TLS. network is that of the address.
func (l *ServerLeg) Attempts(network string) []bool {
	mode := l.current.Load().mode
	switch {
	case network == "unix" || mode == Disable:
		return []bool{false}
	case mode == Allow:
		return []bool{false, true}
	case mode == Prefer:
		return []bool{true, false}
	}
	return []bool{true}
}

// ErrRefused says that the server has no TLS.
var ErrRefused = errors.New("the server does not support TLS")

// sslRequest asks a server for TLS.
var sslRequest = []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}

// Connect makes TLS out of a fresh connection to the server at host. The connection's deadlines bound it. After an error
// conn must be closed.
func (l *ServerLeg) Connect(ctx context.Context, conn net.Conn, host string) (*Conn, error) {
	state := l.current.Load()
	if !state.direct {
		if err := request(conn); err != nil {
			return nil, err
		}
	}
	config := state.config.Clone()
	config.ServerName = host
	s := &socket{Conn: conn}
	c := &Conn{Conn: tls.Client(s, config), socket: s}
	err := c.HandshakeContext(ctx)
	c.raw = s.settle()
	if err != nil {
		return nil, fmt.Errorf("TLS handshake with server: %w", err)
	}
	now := c.ConnectionState()
	if state.direct && now.NegotiatedProtocol != Protocol {
		return nil, fmt.Errorf("TLS handshake with server: %w", ErrNoProtocol)
	}
	c.Binding = binding(now.PeerCertificates[0])
	return c, nil
}

// request asks for TLS. What a server says in clear text beyond its one byte is not believed.
func request(conn net.Conn) error {
	if _, err := conn.Write(sslRequest); err != nil {
		return fmt.Errorf("request TLS: %w", err)
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return fmt.Errorf("request TLS: %w", err)
	}
	switch {
	case answer[0] == 'S' && Untimely(conn):
		return errors.New("request TLS: the server sent clear text after its answer")
	case answer[0] == 'S':
		return nil
	case answer[0] == 'N':
		return ErrRefused
	}
	return fmt.Errorf("request TLS: the server answered %q", answer[0])
}
