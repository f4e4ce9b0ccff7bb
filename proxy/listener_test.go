package proxy_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/router"
)

func TestListeners(t *testing.T) {
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := newSetup(t, func(c *proxy.Config) {
		c.Listeners = append(c.Listeners,
			proxy.Listener{Network: "unix", Address: dir + ":6432", Mode: 0o777, Target: router.TargetAuto},
			proxy.Listener{Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetAuto,
				ProxyFrom: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}},
			proxy.Listener{Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetAuto,
				ProxyFrom: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
		if l, err := net.Listen("tcp", "[::1]:0"); err == nil { // there may be no IPv6 here
			_ = l.Close()
			c.Listeners = append(c.Listeners, proxy.Listener{Network: "tcp", Address: "[::1]:0", Target: router.TargetAuto})
		}
	})
	ctx := testContext(t)
	addrs, err := s.server.Addrs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	connect := func(host string, port int, preamble string) (*pgx.Conn, error) {
		config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=app password=secret dbname=app sslmode=disable", host, port))
		if err != nil {
			t.Fatal(err)
		}
		config.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil && preamble != "" {
				_, err = conn.Write([]byte(preamble))
			}
			return conn, err
		}
		conn, err := pgx.ConnectConfig(ctx, config)
		if err == nil {
			t.Cleanup(func() { _ = conn.Close(ctx) })
			query[int](t, conn, "select 1")
		}
		return conn, err
	}
	const v1, v2 = "PROXY TCP4 192.0.2.7 192.0.2.1 5555 5432\r\n", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x08\xc0\x00\x02\x01\x15\xb3\x15\x38"
	balanced, strict := addrs[2].(*net.TCPAddr).Port, addrs[3].(*net.TCPAddr).Port
	for _, c := range []struct {
		host     string
		port     int
		preamble string
		client   string // prefix; empty: refused
	}{
		{dir, 6432, "", "@"},
		{"127.0.0.1", balanced, v1, "192.0.2.7:5555"},
		{"127.0.0.1", balanced, v2, "192.0.2.8:5555"},
		{"127.0.0.1", balanced, "PROXY UNKNOWN\r\n", "127.0.0.1:"},
		{"127.0.0.1", balanced, "", ""},
		{"127.0.0.1", strict, v1, ""},
		{"127.0.0.1", strict, "", "127.0.0.1:"},
	} {
		conn, err := connect(c.host, c.port, c.preamble)
		if (err == nil) != (c.client != "") {
			t.Errorf("%s:%d with %q: %v", c.host, c.port, c.preamble, err)
			continue
		}
		if err != nil {
			continue
		}
		found := false
		for _, info := range s.server.Sessions() {
			found = found || info.ID == conn.PgConn().PID() && (strings.HasPrefix(info.Client, c.client) || c.client == "@")
		}
		if !found {
			t.Errorf("%s:%d with %q: no session of %s among %v", c.host, c.port, c.preamble, c.client, s.server.Sessions())
		}
		_ = conn.Close(ctx)
	}
	if len(addrs) > 4 {
		if _, err := connect("::1", addrs[4].(*net.TCPAddr).Port, ""); err != nil {
			t.Error(err)
		}
	}
	cmd := s.pg.command("psql", "-XAtc", "select 5", fmt.Sprintf("host=%s port=6432 user=app dbname=app", dir))
	cmd.Env = append(os.Environ(), "PGPASSWORD=secret", "HOME="+s.pg.dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "5" {
		t.Errorf("psql through the unix socket: %v %s", err, out)
	}
}
