package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/sockets"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
	"github.com/walgate/walgate/router"
)

// setup is a proxy in front of one PostgreSQL, which the view calls node1.
type setup struct {
	pg     *postgres
	server *proxy.Server
	view   *replication.Feed[replication.View]
	board  *replication.Feed[replication.StatusBoard]
	gate   *replication.Gate
	port   int
	stop   func()
	wake   atomic.Pointer[func()] // Deps.Wake, when somebody keeps the board fresh
	hasten atomic.Pointer[func()] // Deps.Hasten, as well
}

// loops chooses the driver of the clear-text connections: 0 is goroutines. go test ./proxy -loops 0
var loops = flag.Int("loops", 1, "epoll loops of the proxies under test; 0: goroutines")

func testConfig() proxy.Config {
	return proxy.Config{
		ID: "test", Version: "test", Admin: proxy.Admin{
			Databases: []string{"walgate", "pgbouncer"}, Users: []string{"postgres"}, StatsUsers: []string{"app"}, StatsPeriod: time.Minute,
		},
		Listeners: []proxy.Listener{{Network: "tcp", Address: "127.0.0.1:0", Target: router.TargetAuto}},
		PoolMax:   20, PoolIdleTimeout: time.Minute, PoolLifetime: time.Hour, ConnectTimeout: 5 * time.Second,
		PoolReserveTimeout: time.Minute, PoolCheckDelay: time.Second, MaxDials: 8, MaxCancels: 4, MaxQueuedCancels: 1000,
		TCP:            pool.TCP{KeepaliveIdle: 10 * time.Second, KeepaliveInterval: 3 * time.Second, KeepaliveCount: 3, UserTimeout: 20 * time.Second},
		ConnectBackoff: 20 * time.Millisecond, MaxPrepared: 100,
		MonitorUser: "walgate_monitor", MonitorPassword: "monitor", MonitorDatabase: "postgres",
		Sources: []proxy.Source{proxy.SourceCluster}, Access: proxy.Access{Policy: login.Policy{Rules: hba.Default()}},
		VerifierRefresh: time.Millisecond, MaxVerifiers: 1000, MaxConcurrentLog: 16, SCRAMIterations: 4096,
		Loops: *loops, MaxClients: 1000, LoginTimeout: 20 * time.Second, HoldTimeout: 20 * time.Second, MaxHeld: 500, MaxHeldBytes: 16 << 20,
		DrainLinger: time.Second, ShutdownGrace: 2 * time.Second, TakeoverDrain: time.Minute,
		Level: router.LevelSession, MaxLagBytes: 1 << 20, MaxLag: time.Second, MaxStatusAge: 5 * time.Second,
		CatalogRefresh: 10 * time.Second, Transactions: router.TransactionsAtBegin,
		ClientTLS:   secure.ClientConfig{MinVersion: tls.VersionTLS12},
		ServerTLS:   secure.ServerConfig{MinVersion: tls.VersionTLS12},
		GateRecheck: 10 * time.Millisecond, MaxCollected: 64 << 10, MaxHeldReply: 16 << 10, MaxSettings: 100,
		MaxClientPrepared: 10000, MetricPools: 1, ResetQuery: "DISCARD ALL", Timeouts: session.Timeouts{CancelGrace: 10 * time.Second},
	}
}

// newSetup starts both; change may alter the configuration.
func newSetup(t *testing.T, change func(*proxy.Config)) *setup {
	t.Helper()
	return newSetupWith(t, change, prometheus.NewRegistry())
}

func newSetupWith(t *testing.T, change func(*proxy.Config), registry *prometheus.Registry, more ...func(*proxy.Deps)) *setup {
	t.Helper()
	s := &setup{pg: startPostgres(t), gate: new(replication.Gate)}
	s.view, s.board = new(replication.Feed[replication.View]), new(replication.Feed[replication.StatusBoard])
	cfg := testConfig()
	if change != nil {
		change(&cfg)
	}
	if cfg.ServerTLS.Mode != secure.Disable {
		cfg.Loops = 0
	}
	level := slog.LevelWarn
	if os.Getenv("WALGATE_TEST_DEBUG") != "" {
		level = slog.LevelDebug
	}
	s.view.Publish(s.writable(1))
	s.allow(1)
	deps := proxy.Deps{
		View: s.view, Board: s.board, Gate: s.gate,
		Logger:   slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		Registry: registry, Sockets: &sockets.Set{},
		Wake: func() {
			if wake := s.wake.Load(); wake != nil {
				(*wake)()
			}
		},
		Hasten: func() {
			if hasten := s.hasten.Load(); hasten != nil {
				(*hasten)()
			}
		},
	}
	for _, add := range more {
		add(&deps)
	}
	var err error
	s.server, err = proxy.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.server.Run(ctx) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run did not return")
		}
	})
	t.Cleanup(s.stop)
	addrs, err := s.server.Addrs(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	s.port = addrs[0].(*net.TCPAddr).Port
	return s
}

// writable is the view in which node1 is the primary of the epoch; the version is ten times the epoch.
func (s *setup) writable(epoch replication.Epoch) replication.View {
	return replication.View{
		Cluster: "test", Version: uint64(epoch) * 10, Epoch: epoch, Primary: "node1", Timeline: 1, Open: true,
		Members: []replication.Member{{Name: "node1", Host: s.pg.host, Port: s.pg.port}},
	}
}

func (s *setup) allow(epoch replication.Epoch) {
	s.gate.Set(replication.Grant{Epoch: epoch, Deadline: boottime.Now().Add(time.Hour)})
}

func (s *setup) url(user, password, database string) string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable", s.port, user, password, database)
}

func (s *setup) connect(t *testing.T, options ...string) *pgx.Conn {
	t.Helper()
	url := s.url("app", "secret", "app")
	for _, o := range options {
		url += " " + o
	}
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	return conn
}

func mustExec(t *testing.T, conn *pgx.Conn, sql string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(testContext(t), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(testContext(t), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func sqlstate(err error) string {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.Code
	}
	return ""
}

func TestQueries(t *testing.T) {
	s := newSetup(t, nil)
	for _, mode := range []string{"simple_protocol", "exec", "cache_describe", "describe_exec", "cache_statement"} {
		t.Run(mode, func(t *testing.T) {
			conn := s.connect(t, "default_query_exec_mode="+mode)
			table := "t_" + mode
			mustExec(t, conn, "create table "+table+" (id int primary key, v text)")
			for i := range 20 {
				mustExec(t, conn, "insert into "+table+" values ($1, $2)", i, fmt.Sprint("v", i))
			}
			if n := query[int](t, conn, "select count(*)::int from "+table); n != 20 {
				t.Errorf("count = %d, want 20", n)
			}
			if v := query[string](t, conn, "select v from "+table+" where id = $1", 7); v != "v7" {
				t.Errorf("v = %q, want v7", v)
			}
			_, err := conn.Exec(testContext(t), "select 1/0")
			if sqlstate(err) != "22012" {
				t.Errorf("error = %v, want 22012", err)
			}
			tx, err := conn.Begin(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(testContext(t), "delete from "+table); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(testContext(t)); err != nil {
				t.Fatal(err)
			}
			if n := query[int](t, conn, "select count(*)::int from "+table); n != 20 {
				t.Errorf("count after rollback = %d, want 20", n)
			}
		})
	}
}

func TestLogin(t *testing.T) {
	s := newSetup(t, nil)
	s.pg.exec(t, "create role md5user login", "create role nologin password 'x'",
		`set password_encryption = 'md5'; alter role md5user password 'x'`)
	tests := []struct {
		name, user, password, database, want string
	}{
		{"good", "app", "secret", "app", ""},
		{"superuser", "postgres", "super", "postgres", ""},
		{"wrong password", "app", "wrong", "app", "28P01"},
		{"unknown role", "nobody", "secret", "app", "28P01"},
		{"role without login", "nologin", "x", "app", "28P01"},
		{"internal role", "walgate_monitor", "monitor", "postgres", "28000"},
		{"unknown database", "app", "secret", "nowhere", "3D000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn, err := pgx.Connect(testContext(t), s.url(tt.user, tt.password, tt.database))
			if err == nil {
				defer func() { _ = conn.Close(testContext(t)) }()
				if got := query[string](t, conn, "select current_user::text"); got != tt.user {
					t.Errorf("current_user = %q, want %q", got, tt.user)
				}
			}
			if got := sqlstate(err); got != tt.want || (err == nil) != (tt.want == "") {
				t.Errorf("error = %v, want SQLSTATE %q", err, tt.want)
			}
		})
	}
}

func TestPgbench(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.PoolMax = 5 })
	s.pgbench(t, "-i", "-s", "1", "-q")
	for _, mode := range []string{"simple", "extended", "prepared"} {
		t.Run(mode, func(t *testing.T) {
			clients := "16"
			if mode == "prepared" {
				// pgbench 15 blocks in PQprepare while other clients of its thread are in transactions: with fewer
				// servers than clients it would wait for itself.
				clients = "5"
			}
			t.Log(s.pgbench(t, "-n", "-M", mode, "-c", clients, "-j", "2", "-T", "3"))
			t.Log(s.pgbench(t, "-n", "-S", "-M", mode, "-c", "16", "-j", "2", "-T", "2"))
		})
	}
	if got := query[bool](t, s.connect(t), `select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history)
		and (select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history)`); !got {
		t.Error("balances do not add up")
	}
}
