package pool

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/walgate/walgate/proxy/secure"
)

// Line describes a connection, for SHOW CLIENTS and SHOW SERVERS.
type Line struct {
	// Local is the address of walgate's own end: a host, or "unix", and a port.
	Local     string
	LocalPort int
	// ProcessID is that of the program at the other end of a unix socket; 0 if it is not known.
	ProcessID int
	TLS       string // version and cipher suite; empty: clear text
	// Replication is none, physical or logical.
	Replication string
}

// NewLine describes a connection by the address of walgate's end and what was agreed upon (nil: no TLS).
func NewLine(local net.Addr, state *tls.ConnectionState) Line {
	l := Line{Replication: "none"}
	switch a := local.(type) {
	case *net.TCPAddr:
		l.Local, l.LocalPort = a.AddrPort().Addr().Unmap().String(), a.Port
	case *net.UnixAddr:
		l.Local, l.LocalPort = "unix", socketPort(a.Name)
	}
	if state != nil {
		l.TLS = strings.Replace(tls.VersionName(state.Version), "TLS 1.", "TLSv1.", 1) + "/" + tls.CipherSuiteName(state.CipherSuite)
	}
	return l
}

func lineOf(conn net.Conn) Line {
	if c, ok := conn.(*secure.Conn); ok {
		state := c.ConnectionState()
		return NewLine(conn.LocalAddr(), &state)
	}
	return NewLine(conn.LocalAddr(), nil)
}

// socketPort is the port in the name of a unix socket of PostgreSQL (.s.PGSQL.5432); 0 if there is none.
func socketPort(path string) int {
	port, err := strconv.Atoi(strings.TrimPrefix(filepath.Ext(path), "."))
	if err != nil {
		return 0
	}
	return port
}
