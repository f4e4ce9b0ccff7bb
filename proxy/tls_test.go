package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/wire"
)

// tlsSetup is a setup with certificates from one authority on the client's leg.
type tlsSetup struct {
	*setup
	ca     *authority
	config secure.ClientConfig
	server secure.ServerConfig
}

func newTLSSetup(t *testing.T, mode secure.Mode, change func(*proxy.Config)) *tlsSetup {
	t.Helper()
	s := &tlsSetup{ca: newAuthority(t, t.TempDir(), "proxy")}
	files := s.ca.issue(t, "proxy", "proxy", "127.0.0.1", "localhost")
	if mode >= secure.VerifyCA {
		files.CAFile = s.ca.file("proxy-ca.crt")
	}
	s.config = secure.ClientConfig{Mode: mode, Files: files, MinVersion: tls.VersionTLS12}
	s.setup = newSetup(t, func(c *proxy.Config) {
		c.ClientTLS = s.config
		s.server = c.ServerTLS
		if change != nil {
			change(c)
		}
	})
	return s
}

// try logs in with the options and returns what is known about the connection.
func (s *tlsSetup) try(t *testing.T, options string) (*pgx.Conn, error) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=app password=secret dbname=app %s", s.port, options))
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(ctx) })
		if got := query[int](t, conn, "select 7"); got != 7 {
			t.Fatalf("select 7 = %d", got)
		}
	}
	return conn, err
}

func encrypted(conn *pgx.Conn) bool {
	_, ok := conn.PgConn().Conn().(*tls.Conn)
	return ok
}

func TestTLSModesTowardClients(t *testing.T) {
	s := newTLSSetup(t, secure.Disable, nil)
	own := s.ca.issue(t, "app", "app")
	other := s.ca.issue(t, "other", "other")
	verified := "sslmode=verify-full sslrootcert=" + s.ca.file("proxy-ca.crt")
	with := func(f secure.Files) string { return " sslcert=" + f.CertFile + " sslkey=" + f.KeyFile }
	for _, c := range []struct {
		mode                  secure.Mode
		clear, ask, certified string // SQLSTATE, "tls", "clear" or "no"
		stranger              string
	}{
		{secure.Disable, "clear", "no", "no", "no"},
		{secure.Allow, "clear", "tls", "tls", "tls"},
		{secure.Prefer, "clear", "tls", "tls", "tls"},
		{secure.Require, "28000", "tls", "tls", "tls"},
		{secure.VerifyCA, "28000", "no", "tls", "tls"},
		{secure.VerifyFull, "28000", "no", "tls", "28000"},
	} {
		t.Run(c.mode.String(), func(t *testing.T) {
			config := s.config
			config.Mode, config.Files.CAFile = c.mode, s.ca.file("proxy-ca.crt")
			if err := s.setup.server.ReloadTLS(config, s.server); err != nil {
				t.Fatal(err)
			}
			for _, try := range []struct{ name, options, want string }{
				{"clear text", "sslmode=disable", c.clear},
				{"verify-full", verified, c.ask},
				{"direct", verified + " sslnegotiation=direct", c.ask},
				{"own certificate", verified + with(own), c.certified},
				{"another's certificate", verified + with(other), c.stranger},
			} {
				conn, err := s.try(t, try.options)
				got := "clear"
				var pgErr *pgconn.PgError
				switch {
				case errors.As(err, &pgErr):
					got = pgErr.Code
				case err != nil:
					got = "no"
				case encrypted(conn):
					got = "tls"
				}
				if got != try.want {
					t.Errorf("%s: got %s (%v), want %s", try.name, got, err, try.want)
				}
			}
		})
	}
}

func TestTLSWithLibpq(t *testing.T) {
	s := newTLSSetup(t, secure.Require, nil)
	// libpq of this PostgreSQL asks for GSSAPI first where it can, then for TLS.
	cmd := s.pg.command("psql", "-XAtc", `\conninfo`, "-c", "select repeat('x', 100000)", fmt.Sprintf(
		"host=localhost hostaddr=127.0.0.1 port=%d user=app dbname=app sslmode=require", s.port))
	cmd.Env = append(os.Environ(), "PGPASSWORD=secret", "HOME="+s.pg.dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("protocol: TLSv1.3")) || len(out) < 100000 {
		t.Fatalf("psql: %v\n%.500s", err, out)
	}
	s.pgbench(t, "-i", "-q")
	s.pgbench(t, "-n", "-c", "4", "-t", "50")
}

// raw opens a connection past any driver.
func (s *tlsSetup) raw(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return conn
}

func startupRequest(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

const (
	codeSSL    = 80877103
	codeGSSENC = 80877104
)

func TestTLSRequestsThatAreAttacks(t *testing.T) {
	s := newTLSSetup(t, secure.Prefer, nil)
	t.Run("clear text behind the request", func(t *testing.T) {
		conn := s.raw(t)
		_, _ = conn.Write(append(startupRequest(codeSSL), wire.AppendStartup(nil, wire.Protocol30, "user", "app")...))
		answer, _ := io.ReadAll(conn)
		if !bytes.Contains(answer, []byte("C08P01\x00")) || answer[0] == 'S' {
			t.Errorf("got %q, want 08P01", answer)
		}
	})
	t.Run("direct TLS without ALPN", func(t *testing.T) {
		conn := tls.Client(s.raw(t), &tls.Config{InsecureSkipVerify: true})
		answer, _ := io.ReadAll(conn)
		if !bytes.Contains(answer, []byte("C08P01\x00")) || !bytes.Contains(answer, []byte("ALPN")) {
			t.Errorf("got %q, want 08P01", answer)
		}
	})
	t.Run("direct TLS with another ALPN", func(t *testing.T) {
		conn := tls.Client(s.raw(t), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err := conn.Handshake(); err == nil || !strings.Contains(err.Error(), "no application protocol") {
			t.Errorf("handshake: %v", err)
		}
	})
	t.Run("GSSAPI, then TLS, then again", func(t *testing.T) {
		conn := s.raw(t)
		for request, want := range map[uint32]byte{codeGSSENC: 'N'} {
			_, _ = conn.Write(startupRequest(request))
			var one [1]byte
			if _, err := io.ReadFull(conn, one[:]); err != nil || one[0] != want {
				t.Fatalf("got %q %v, want %q", one, err, want)
			}
		}
		_, _ = conn.Write(startupRequest(codeSSL))
		var one [1]byte
		if _, err := io.ReadFull(conn, one[:]); err != nil || one[0] != 'S' {
			t.Fatalf("got %q %v, want S", one, err)
		}
		inside := tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
		if _, err := inside.Write(startupRequest(codeSSL)); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(inside)
		if !bytes.Contains(answer, []byte("C0A000\x00")) {
			t.Errorf("got %q, want 0A000", answer)
		}
	})
	t.Run("too many requests", func(t *testing.T) {
		conn := s.raw(t)
		for range 20 {
			_, _ = conn.Write(startupRequest(codeGSSENC))
		}
		answer, _ := io.ReadAll(conn)
		if len(answer) > 5 {
			t.Errorf("%d requests were answered", len(answer))
		}
	})
	t.Run("TLS on a listener without it", func(t *testing.T) {
		if err := s.setup.server.ReloadTLS(secure.ClientConfig{MinVersion: tls.VersionTLS12}, s.server); err != nil {
			t.Fatal(err)
		}
		conn := s.raw(t)
		if err := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"postgresql"}}).Handshake(); err == nil {
			t.Error("there was a handshake")
		}
	})
}

func TestTLSReload(t *testing.T) {
	s := newTLSSetup(t, secure.Prefer, nil)
	serial := func(conn *pgx.Conn) int64 {
		return conn.PgConn().Conn().(*tls.Conn).ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	options := "sslmode=verify-full sslrootcert=" + s.ca.file("proxy-ca.crt")
	before, err := s.try(t, options)
	if err != nil {
		t.Fatal(err)
	}
	s.ca.issue(t, "proxy", "proxy", "127.0.0.1")
	if err := s.setup.server.ReloadTLS(s.config, s.server); err != nil {
		t.Fatal(err)
	}
	after, err := s.try(t, options)
	if err != nil || serial(after) != serial(before)+1 {
		t.Fatalf("after a reload: serial %d, before it %d, %v", serial(after), serial(before), err)
	}
	if err := os.WriteFile(s.config.Files.CertFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.setup.server.ReloadTLS(s.config, s.server); err == nil {
		t.Fatal("a broken certificate was taken")
	}
	if conn, err := s.try(t, options); err != nil || serial(conn) != serial(after) {
		t.Fatalf("after a broken reload: %v", err)
	}
	if got := query[int](t, before, "select 8"); got != 8 { // nobody was dropped
		t.Fatal(got)
	}
}

// TestTLSLargeAndSlow moves more than every buffer holds, toward a client that reads late, and back.
func TestTLSLargeAndSlow(t *testing.T) {
	s := newTLSSetup(t, secure.Require, nil)
	conn, err := s.try(t, "sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	mustExec(t, conn, "create temp table big (n int, text text)")
	const rows = 30000
	source := pgx.CopyFromSlice(rows, func(i int) ([]any, error) { return []any{i, strings.Repeat("y", 500)}, nil })
	if n, err := conn.CopyFrom(testContext(t), pgx.Identifier{"big"}, []string{"n", "text"}, source); err != nil || n != rows {
		t.Fatalf("copied %d, %v", n, err)
	}
	result, err := conn.Query(testContext(t), "select n, text from big order by n")
	if err != nil {
		t.Fatal(err)
	}
	defer result.Close()
	count := 0
	for result.Next() {
		var n int
		var text string
		if err := result.Scan(&n, &text); err != nil || n != count || len(text) != 500 {
			t.Fatalf("row %d: %d, %d bytes, %v", count, n, len(text), err)
		}
		if count%5000 == 0 {
			// The client's pause lets every buffer in between fill up.
			wait, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
			<-wait.Done()
			cancel()
		}
		count++
	}
	if result.Err() != nil || count != rows {
		t.Fatalf("%d rows, %v", count, result.Err())
	}
	// One statement larger than what is sent at once.
	if got := query[int](t, conn, "select length($1::text)", strings.Repeat("z", 3<<20)); got != 3<<20 {
		t.Fatalf("length %d", got)
	}
}

func TestTLSCancelAndShutdown(t *testing.T) {
	s := newTLSSetup(t, secure.Require, nil)
	conn, err := s.try(t, "sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(testContext(t), "select pg_sleep(60)")
		done <- err
	}()
	eventually(t, "the statement to run", func() bool { return s.setup.server.Pools()[0].Used == 1 })
	if err := conn.PgConn().CancelRequest(testContext(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-ctx.Done()
	var pgErr *pgconn.PgError
	if err := <-done; !errors.As(err, &pgErr) || pgErr.Code != "57014" {
		t.Fatalf("cancelled statement: %v", err)
	}
	s.stop()
	_, err = conn.Exec(testContext(t), "select 1")
	if !errors.As(err, &pgErr) || pgErr.Code != "57P01" {
		t.Fatalf("after the shutdown: %v", err)
	}
}

// TestTLSTowardPostgres tries the modes of the server's leg.
func TestTLSTowardPostgres(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.Loops = 0 }) // with loops TLS can't be switched on
	ca := newAuthority(t, t.TempDir(), "server")
	files := ca.issue(t, "server", "server", "127.0.0.1")
	elsewhere := newAuthority(t, t.TempDir(), "elsewhere")
	s.pg.enableTLS(t, files, ca.file("server-ca.crt"))
	good := secure.Files{CAFile: ca.file("server-ca.crt")}
	wrong := secure.Files{CAFile: elsewhere.file("elsewhere-ca.crt")}
	own := ca.issue(t, "client", "app")
	own.CAFile = good.CAFile
	const (
		both   = "host all all 127.0.0.1/32 scram-sha-256"
		only   = "hostssl all all 127.0.0.1/32 scram-sha-256"
		none   = "hostnossl all all 127.0.0.1/32 scram-sha-256"
		mutual = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca"
	)
	epoch := s.view.Load().Epoch
	for _, c := range []struct {
		mode  secure.Mode
		files secure.Files
		hba   string
		want  string // ssl as pg_stat_ssl shows it, or "no"
	}{
		{secure.Disable, good, both, "false"},
		{secure.Disable, good, only, "no"},
		{secure.Allow, secure.Files{}, both, "false"},
		{secure.Allow, secure.Files{}, only, "true"},
		{secure.Prefer, secure.Files{}, both, "true"},
		{secure.Prefer, secure.Files{}, none, "false"},
		{secure.Require, secure.Files{}, both, "true"},
		{secure.Require, secure.Files{}, none, "no"},
		{secure.Require, wrong, both, "no"},
		{secure.VerifyCA, good, both, "true"},
		{secure.VerifyCA, wrong, both, "no"},
		{secure.VerifyFull, good, both, "true"},
		{secure.VerifyFull, wrong, both, "no"},
		{secure.VerifyFull, good, mutual, "no"},
		{secure.VerifyFull, own, mutual, "true"},
	} {
		t.Run(c.mode.String()+" "+c.hba+" "+c.files.CAFile, func(t *testing.T) {
			// The proxy's own question for verifiers goes in clear text over a line of its own.
			s.pg.hba(t, "host postgres walgate_monitor 127.0.0.1/32 scram-sha-256", c.hba)
			err := s.server.ReloadTLS(testConfig().ClientTLS, secure.ServerConfig{Mode: c.mode, Files: c.files, MinVersion: tls.VersionTLS12})
			if err != nil {
				t.Fatal(err)
			}
			epoch++
			s.allow(epoch)
			s.view.Publish(s.writable(epoch)) // fences what is open
			eventually(t, "the new epoch", func() bool { return s.server.Report().Epoch == epoch })
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			got := "no"
			if conn, err := pgx.Connect(ctx, s.url("app", "secret", "app")); err == nil {
				defer func() { _ = conn.Close(context.Background()) }()
				var ssl bool
				if err := conn.QueryRow(ctx, "select ssl from pg_stat_ssl where pid = pg_backend_pid()").Scan(&ssl); err == nil {
					got = strconv.FormatBool(ssl)
				}
			}
			if got != c.want {
				t.Errorf("ssl %s, want %s", got, c.want)
			}
		})
	}
}

// TestTLSOnBothLegs runs traffic and a cancel with PostgreSQL that takes TLS only.
func TestTLSOnBothLegs(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "server")
	files := ca.issue(t, "server", "server", "127.0.0.1")
	s := newTLSSetup(t, secure.Require, func(c *proxy.Config) {
		c.ServerTLS = secure.ServerConfig{Mode: secure.VerifyFull, Files: secure.Files{CAFile: ca.file("server-ca.crt")}, MinVersion: tls.VersionTLS13}
	})
	s.pg.enableTLS(t, files, ca.file("server-ca.crt"))
	s.pg.hba(t, "host postgres walgate_monitor 127.0.0.1/32 scram-sha-256", "hostssl all all 127.0.0.1/32 scram-sha-256")
	s.pgbench(t, "-i", "-s", "1")
	s.pgbench(t, "-c", "8", "-t", "50", "-M", "prepared")
	conn, err := s.try(t, "sslmode=require")
	if err != nil {
		t.Fatal(err)
	}
	if got := query[int](t, conn, "select sum(length(repeat('x', 1000)||g))::int from generate_series(1, 20000) g"); got < 20000000 {
		t.Fatal(got)
	}
	rows, err := conn.Query(testContext(t), "select repeat('x', 1000) from generate_series(1, 20000) g")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		n++
	}
	if rows.Err() != nil || n != 20000 {
		t.Fatal(n, rows.Err())
	}
	ctx, cancel := context.WithTimeout(testContext(t), 500*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(testContext(t), "select pg_sleep(60)")
		done <- err
	}()
	<-ctx.Done()
	if err := conn.PgConn().CancelRequest(testContext(t)); err != nil {
		t.Fatal(err)
	}
	var pgErr *pgconn.PgError
	if err := <-done; !errors.As(err, &pgErr) || pgErr.Code != "57014" {
		t.Fatalf("cancelled statement: %v", err)
	}
}

// TestServerTLSRefusesClearText plays a server that slips bytes in behind its S (CVE-2021-23222).
func TestServerTLSRefusesClearText(t *testing.T) {
	leg, err := secure.NewServerLeg(secure.ServerConfig{Mode: secure.Require, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	for answer, want := range map[string]string{
		"S" + "R\x00\x00\x00\x08\x00\x00\x00\x00": "clear text", "N": "does not support", "E\x00": "answered", "": "EOF",
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 8))
			_, _ = conn.Write([]byte(answer))
			_ = conn.(*net.TCPConn).CloseWrite()
		}()
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := leg.Connect(testContext(t), conn, "127.0.0.1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("answer %q: %v, want %q", answer, err, want)
		}
		_ = conn.Close()
		_ = listener.Close()
	}
}

// enableTLS gives the server a certificate.
func (p *postgres) enableTLS(t *testing.T, files secure.Files, ca string) {
	t.Helper()
	for name, from := range map[string]string{"server.crt": files.CertFile, "server.key": files.KeyFile, "ca.crt": ca} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := p.data() + "/" + name
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if p.as != nil {
			if err := os.Chown(to, int(p.as.Uid), int(p.as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.exec(t, "alter system set ssl_ca_file = 'ca.crt'", "alter system set ssl = on", "select pg_reload_conf()")
	eventually(t, "TLS", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort(p.host, strconv.Itoa(p.port)))
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close() }()
		_, _ = conn.Write(startupRequest(codeSSL))
		var one [1]byte
		_, err = io.ReadFull(conn, one[:])
		return err == nil && one[0] == 'S'
	})
}

// hba replaces the lines for TCP.
func (p *postgres) hba(t *testing.T, lines ...string) {
	t.Helper()
	content := "local all all trust\nlocal replication all trust\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(p.data()+"/pg_hba.conf", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	p.exec(t, "select pg_reload_conf()")
	// A backend that starts now reads the new file once the postmaster has; ask it.
	eventually(t, "the new pg_hba.conf", func() bool {
		conn, err := pgx.Connect(testContext(t), p.direct("postgres"))
		if err != nil {
			return false
		}
		defer func() { _ = conn.Close(context.Background()) }()
		var fresh bool
		err = conn.QueryRow(testContext(t), "select pg_conf_load_time() >= (pg_stat_file('pg_hba.conf')).modification").Scan(&fresh)
		return err == nil && fresh
	})
}
