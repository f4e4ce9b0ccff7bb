package proxy_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/wire/wiretest"
)

// Clients that do everything as slowly as they can are cut at the end of the login's time, whatever it is they do.
func TestSlowLogins(t *testing.T) {
	s := newTLSSetup(t, secure.Allow, func(c *proxy.Config) { c.LoginTimeout = 2 * time.Second })
	hello := append([]byte{0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3}, make([]byte, 200)...)
	password := append(startupPacket("app"), saslInitial()...)
	for name, said := range map[string][]byte{
		"nothing": nil, "a startup packet": startupPacket("app"), "a TLS handshake": hello,
		"a password": password, "a message before its time": append(startupPacket("app"), encoded(&pgproto3.Query{String: "select 1"})...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("tcp", s.addr())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			from := len(said) - min(len(said), 20) // the last bytes come one by one, and the very last one never
			if _, err := conn.Write(said[:from]); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go trickle(conn, said[from:max(from, len(said)-1)], done)
			// However loaded the machine is, the end comes; without the limit it never would.
			_ = conn.SetReadDeadline(time.Now().Add(leakPatience))
			if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
				t.Error("the proxy goes on waiting")
			}
			close(done)
		})
	}
}

// trickle writes a byte at a time until done.
func trickle(conn net.Conn, said []byte, done <-chan struct{}) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range said {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		if _, err := conn.Write(said[i : i+1]); err != nil {
			return
		}
	}
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func (s *setup) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Clients that have logged in and then stop in the middle of something keep no server connection for ever.
func TestSlowSessions(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.Timeouts.Message, c.Timeouts.ClientRead = time.Second, time.Second
	})
	mustExec(t, s.connect(t), "create table slow (v text)")
	used := func() (n int) {
		for _, p := range s.server.Pools() {
			n += p.Used
		}
		return n
	}
	for name, said := range map[string][]byte{
		"half a large query":     append([]byte{'Q', 0, 4, 0, 0}, make([]byte, 100_000)...),
		"half of copy data":      append(encoded(&pgproto3.Query{String: "copy slow from stdin"}), append([]byte{'d', 0, 4, 0, 0}, make([]byte, 100_000)...)...),
		"answers are not taken":  encoded(&pgproto3.Query{String: "select repeat('x', 1000) from generate_series(1, 1000000)"}),
		"half a header":          {'Q', 0, 0},
		"header of a huge query": {'Q', 0x3f, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			raw := s.raw(t)
			if _, err := raw.conn.Write(said); err != nil {
				t.Fatal(err)
			}
			eventually(t, "its server connection to be free", func() bool { return used() == 0 })
			if len(said) < 5000 && name != "answers are not taken" {
				return // it keeps nothing but its own connection
			}
			eventually(t, "the client to be disconnected", func() bool { return len(s.server.Sessions()) <= 1 })
		})
	}
}

// Strangers who never log in take only a part of the places, and each address only its own; nobody who has logged in
// notices.
func TestLoginLimits(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.MaxClients, c.MaxLogins, c.MaxAddressLogins = 100, 3, 2
		c.LoginTimeout = time.Minute
	})
	conn := s.connect(t)
	from := func(address string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		c, err := dialer.DialContext(testContext(t), "tcp", s.addr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	// refused reads why a connection is not let in; it is told at once.
	refused := func(c net.Conn, key string) {
		t.Helper()
		_ = c.SetReadDeadline(time.Now().Add(leakPatience))
		told, err := io.ReadAll(c)
		if text := wiretest.Describe(told); err != nil || text != "E(53300)" || !strings.Contains(string(told), key) {
			t.Errorf("told %q, %v; want 53300 that names %s", told, err, key)
		}
	}
	entered := func(n int) {
		t.Helper()
		eventually(t, "connections to be let in", func() bool { return len(s.server.Sessions()) == n })
	}
	first := from("127.0.0.2")
	from("127.0.0.2")
	entered(3)
	refused(from("127.0.0.2"), "proxy.limits.address_logins")
	from("127.0.0.3")
	entered(4)
	refused(from("127.0.0.4"), "proxy.limits.logins")
	mustExec(t, conn, "select 1")
	_ = first.Close()
	entered(3)
	mustExec(t, s.connect(t), "select 1") // there is room for a login again, and it takes none of it for long
	entered(4)
	mustExec(t, s.connect(t), "select 1")
}
