package secure

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync/atomic"
)

// ClientConfig is TLS toward applications.
type ClientConfig struct {
	Mode       Mode
	Files      Files // CAFile: client certificates must be signed by it
	MinVersion uint16
}

// Validate checks what can be known without the files.
func (c ClientConfig) Validate() error {
	switch {
	case c.Mode >= Require && c.Files.CertFile == "":
		return fmt.Errorf("mode %s needs a certificate", c.Mode)
	case c.Mode >= VerifyCA && c.Files.CAFile == "":
		return fmt.Errorf("mode %s needs the CA of the clients' certificates", c.Mode)
	}
	return checkVersion(c.MinVersion)
}

// ClientLeg accepts TLS from applications. It is safe for concurrent use.
type ClientLeg struct {
	current atomic.Pointer[clientState]
	working chan struct{} // a place for each handshake that computes
	// Done and Failed count the handshakes.
	Done, Failed atomic.Int64
}

// clientState is what the newest good files made.
type clientState struct {
	mode    Mode
	config  *tls.Config // nil: TLS is not offered
	binding []byte
}

// NewClientLeg reads the files.
func NewClientLeg(cfg ClientConfig) (*ClientLeg, error) {
	l := &ClientLeg{working: make(chan struct{}, runtime.GOMAXPROCS(0))}
	return l, l.Reload(cfg)
}

// Reload reads the files again. After an error everything is as before; connections that exist are not touched.
func (l *ClientLeg) Reload(cfg ClientConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	state := &clientState{mode: cfg.Mode}
	if cfg.Mode != Disable && cfg.Files.CertFile != "" {
		id, err := cfg.Files.read()
		if err != nil {
			return err
		}
		state.binding = id.binding
		// A new Config has new keys for session tickets: what an older CA has let in is not resumed.
		state.config = &tls.Config{
			MinVersion: cfg.MinVersion, Certificates: id.certificates, ClientCAs: id.roots, NextProtos: []string{Protocol},
			GetConfigForClient: l.enter,
		}
		switch {
		case cfg.Mode >= VerifyCA:
			state.config.ClientAuth = tls.RequireAndVerifyClientCert
		case id.roots != nil:
			state.config.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	l.current.Store(state)
	return nil
}

// Mode is the mode in force.
func (l *ClientLeg) Mode() Mode { return l.current.Load().mode }

// Offered reports whether a client in that mode (of its listener) can have TLS.
func (l *ClientLeg) Offered(mode Mode) bool { return mode != Disable && l.current.Load().config != nil }

// enter takes a place at work, which is given back when the handshake waits for the client again: a client that stalls
// keeps nobody from logging in.
func (l *ClientLeg) enter(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	select {
	case l.working <- struct{}{}:
	case <-hello.Context().Done():
		return nil, context.Cause(hello.Context())
	}
	hello.Conn.(*socket).place = func() { <-l.working }
	return nil, nil
}

// ErrNoProtocol refuses a client that began with TLS and did not say that it speaks PostgreSQL's protocol.
var ErrNoProtocol = errors.New("direct TLS needs the ALPN protocol postgresql")

// Accept makes the handshake with a client; prefix has been read already. ctx and the connection's deadlines bound it.
// The returned Conn can be written to even if the error is ErrNoProtocol; direct asks for that check.
func (l *ClientLeg) Accept(ctx context.Context, conn net.Conn, prefix []byte, direct bool) (*Conn, error) {
	state := l.current.Load()
	if state.config == nil {
		return nil, errors.New("TLS is not configured")
	}
	s := &socket{Conn: conn, prefix: prefix}
	c := &Conn{Conn: tls.Server(s, state.config), socket: s, Binding: state.binding}
	err := c.HandshakeContext(ctx)
	c.raw = s.settle()
	if err != nil {
		l.Failed.Add(1)
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	l.Done.Add(1)
	if direct && c.ConnectionState().NegotiatedProtocol != Protocol {
		return c, ErrNoProtocol
	}
	return c, nil
}
