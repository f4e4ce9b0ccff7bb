package proxy_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/router"
)

// TestConsoleTellsOfConnections: SHOW CLIENTS tells where and how a client is connected, whichever driver serves it.
func TestConsoleTellsOfConnections(t *testing.T) {
	dir, err := os.MkdirTemp("", "wg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := newTLSSetup(t, secure.Allow, func(c *proxy.Config) {
		c.Listeners = append(c.Listeners, proxy.Listener{Network: "unix", Address: dir + ":6432", Mode: 0o777, Target: router.TargetAuto})
	})
	ctx := testContext(t)
	admin := s.pgxConsole(t, "postgres", "super")
	tcp := "127.0.0.1 " + strconv.Itoa(s.port)
	for _, c := range []struct{ name, options, local, tls, replication string }{
		{"clear text", "sslmode=disable", tcp, "", "none"},
		{"TLS", "sslmode=require", tcp, "TLSv1.3/TLS_", "none"},
		{"physical", "sslmode=disable replication=on user=postgres password=super", tcp, "", "physical"},
		{"logical", "sslmode=disable replication=database user=postgres password=super", tcp, "", "logical"},
		{"unix socket", "sslmode=disable host=" + dir + " port=6432", "unix 6432", "", "none"},
	} {
		config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=app password=secret dbname=app application_name=seen %s", s.port, c.options))
		if err != nil {
			t.Fatal(err)
		}
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var local, localPort, pid, tls, replication string
		found := 0
		rows, err := admin.Query(ctx, "show clients", pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		names := rows.FieldDescriptions()
		for rows.Next() {
			row := map[string]string{}
			for i, v := range rows.RawValues() {
				row[names[i].Name] = string(v)
			}
			if row["addr"] != "unix" && row["port"] != strconv.Itoa(localPortOf(conn)) || (row["addr"] == "unix") != (c.name == "unix socket") {
				continue
			}
			found++
			local, localPort, pid, tls, replication = row["local_addr"], row["local_port"], row["remote_pid"], row["tls"], row["replication"]
		}
		if rows.Err() != nil || found != 1 {
			t.Fatalf("%s: %d rows, %v", c.name, found, rows.Err())
		}
		wantPID := "0"
		if c.name == "unix socket" {
			wantPID = strconv.Itoa(os.Getpid())
		}
		if local+" "+localPort != c.local || pid != wantPID || replication != c.replication || !strings.HasPrefix(tls, c.tls) || (tls == "") != (c.tls == "") {
			t.Errorf("%s: local %s %s, pid %s, tls %q, replication %s; want %s, pid %s, %q, %s", c.name, local, localPort, pid, tls, replication,
				c.local, wantPID, c.tls, c.replication)
		}
		_ = conn.Close(ctx)
	}
}

// localPortOf is the port of the client's end; 0 for a unix socket.
func localPortOf(conn *pgx.Conn) int {
	if at, ok := conn.PgConn().Conn().LocalAddr().(*net.TCPAddr); ok {
		return at.Port
	}
	return 0
}

// TestTune: limits that change concern whoever is there already.
func TestTune(t *testing.T) {
	s := newSetup(t, nil)
	conn := s.connect(t)
	mustExec(t, conn, "select 1")
	cfg := testConfig()
	limits := cfg.Tunable()
	limits.Timeouts.Query = 1500 * time.Millisecond
	limits.MaxClients = 1
	if err := s.server.Tune(limits); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(testContext(t), "select pg_sleep(60)"); sqlstate(err) != "57014" {
		t.Errorf("a statement that takes long: %v", err)
	}
	if _, err := pgx.Connect(testContext(t), s.url("app", "secret", "app")); sqlstate(err) != "53300" {
		t.Errorf("one client too many: %v", err)
	}
	limits.MaxClients = 0
	if err := s.server.Tune(limits); err == nil {
		t.Error("no clients at all")
	}
	limits.MaxClients = 2
	if err := s.server.Tune(limits); err != nil {
		t.Fatal(err)
	}
	s.connect(t)
}

// TestShutdownThatWaits: nobody new is let in, and the process ends when clients, or servers, are no longer in use.
func TestShutdownThatWaits(t *testing.T) {
	for _, mode := range []string{"wait_for_clients", "wait_for_servers"} {
		t.Run(mode, func(t *testing.T) {
			stopped := make(chan struct{})
			s := newSetupWith(t, nil, prometheus.NewRegistry(), func(d *proxy.Deps) { d.Stop = func() { close(stopped) } })
			client := s.connect(t)
			admin := s.pgxConsole(t, "postgres", "super")
			mustExec(t, client, "begin")
			mustExec(t, client, "select 1")
			mustExec(t, admin, "shutdown "+mode)
			s.refusedBy(t, admin, "shutdown "+mode, "55000")
			eventually(t, "nothing to listen", func() bool {
				conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", s.port))
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
			select {
			case <-stopped:
				t.Fatal("stopped with a transaction open")
			default:
			}
			mustExec(t, client, "commit")
			if mode == "wait_for_clients" {
				mustExec(t, client, "select 1")
				_ = client.Close(testContext(t))
			}
			select {
			case <-stopped:
			case <-testContext(t).Done():
				t.Error("not stopped")
			}
		})
	}
}

// TestConsoleHearsWhatCameEarly: what a client sends behind its StartupMessage, without waiting for the end of a login
// that asks nothing, is answered.
func TestConsoleHearsWhatCameEarly(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) {
		c.Sources = []proxy.Source{proxy.SourceFile, proxy.SourceCluster}
		c.Access = access(t, "host all postgres all trust", `"postgres" "super"`)
	})
	conn, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", s.port))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	b, err := (&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{
		"user": "postgres", "database": "walgate"}}).Encode(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{"show version", "show state"} {
		if b, err = (&pgproto3.Query{String: sql}).Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	b = append(b, 'Q') // and a torn one
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
	front := pgproto3.NewFrontend(conn, conn)
	ready := func(n int) (tags string) {
		for n > 0 {
			m, err := front.Receive()
			if err != nil {
				t.Fatalf("after %q: %v", tags, err)
			}
			switch m := m.(type) {
			case *pgproto3.CommandComplete:
				tags += string(m.CommandTag) + " "
			case *pgproto3.ErrorResponse:
				t.Fatal(m.Message)
			case *pgproto3.ReadyForQuery:
				n--
			}
		}
		return tags
	}
	if got := ready(3); got != "SHOW SHOW " {
		t.Errorf("answered %q", got)
	}
	const text = "show lists\x00"
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(4+len(text))), text...)); err != nil {
		t.Fatal(err)
	}
	if got := ready(1); got != "SHOW " {
		t.Errorf("the torn one is answered %q", got)
	}
}
