package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// TestMain lets the test's executable be a guard, and an agent that can be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			if err := RunGuard(context.Background(), os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "agent":
			agentProcess(os.Args[2], os.Args[3], os.Args[4])
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// agentProcess attaches to an instance, arms the guard once, reports, and waits to be killed.
func agentProcess(dir, port, wait string) {
	limit, err := time.ParseDuration(wait)
	if err != nil {
		panic(err)
	}
	cfg := configAt(dir, "n1")
	if _, err := fmt.Sscan(port, &cfg.Port); err != nil {
		panic(err)
	}
	i, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	ctx := context.Background()
	if err := i.Start(ctx, StartOptions{}); err != nil {
		panic(err)
	}
	if err := i.Arm(ctx, Deadline{Epoch: 7, Nonce: "helper", At: boottime.Now().Add(limit)}); err != nil {
		panic(err)
	}
	fmt.Println("armed")
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	<-c
}

func configAt(dir string, node replication.NodeID) Config {
	return Config{
		Cluster: "test", Node: node,
		DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"),
		LogFile: filepath.Join(dir, "state", "postgres.log"), ListenAddresses: "127.0.0.1",
		Secret: NewSecret("test", []byte("0123456789abcdef0123456789abcdef")), SuperuserPassword: "super's secret",
		Parameters: map[string]string{"shared_buffers": "16MB", "max_connections": "30"}, Members: 3, MaxSlotWAL: 1 << 30, LogBytes: 1 << 20,
		ProbeTimeout: time.Second, StopGrace: 2 * time.Second, GuardLinger: 300 * time.Millisecond,
		GuardCommand: []string{os.Args[0], "guard"},
	}
}

// requirePostgres skips, loudly, without server binaries.
func requirePostgres(t *testing.T) {
	t.Helper()
	if _, err := findBinaries(t.Context(), "", 0); err != nil {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" {
			t.Fatal(err)
		}
		t.Skipf("SKIPPED, needs a PostgreSQL server: %v", err)
	}
}

// tempDir is short enough for sockets and can be entered by the owner of the data directory.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "wgpg")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// newInstance makes an instance in a directory of its own, and ends everything of it with the test.
func newInstance(t *testing.T, node replication.NodeID) *Instance {
	t.Helper()
	requirePostgres(t)
	cfg := configAt(tempDir(t), node)
	cfg.Port = freePort(t)
	return open(t, cfg)
}

func open(t *testing.T, cfg Config) *Instance {
	t.Helper()
	i, err := New(cfg, slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", cfg.Node))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := i.KillWhole(ctx); err != nil {
			t.Errorf("clean up: %v", err)
		}
		if c := i.attached(); c != nil {
			if err := i.QuitGuard(ctx); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
		i.Close()
		if left, _ := guard.Find(cfg.DataDir); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if t.Failed() {
			for _, name := range []string{"postgres.log", "guard.log"} {
				content, _ := os.ReadFile(i.statePath(name))
				lines := strings.Split(string(content), "\n")
				t.Logf("%s of %s:\n%s", name, cfg.Node, strings.Join(lines[max(0, len(lines)-40):], "\n"))
			}
		}
	})
	return i
}

func (i *Instance) upstream() Upstream {
	return Upstream{Node: i.cfg.Node, Host: "127.0.0.1", Port: i.cfg.Port}
}

// primary makes a promoted instance with its roles.
func newPrimary(t *testing.T, node replication.NodeID) *Instance {
	t.Helper()
	i := newInstance(t, node)
	ctx := limit(t, time.Minute)
	must(t, i.Initdb(ctx))
	must(t, i.Start(ctx, StartOptions{}))
	if _, err := i.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	must(t, i.EnsureRoles(ctx))
	return i
}

func limit(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sql runs statements as the superuser of people.
func (i *Instance) sql(t *testing.T, text string) string {
	t.Helper()
	conn := i.session(t)
	defer func() { _ = conn.Close(context.Background()) }()
	results, err := conn.Exec(limit(t, 30*time.Second), text).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	last := results[len(results)-1]
	if len(last.Rows) == 0 || len(last.Rows[0]) == 0 {
		return ""
	}
	return string(last.Rows[0][0])
}

func (i *Instance) session(t *testing.T) *pgconn.PgConn {
	t.Helper()
	conn, err := dial(limit(t, 10*time.Second), target{
		host: "127.0.0.1", port: i.cfg.Port, role: Superuser, password: i.cfg.SuperuserPassword,
	})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// eventually waits for a condition that nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := limit(t, 30*time.Second)
	for !ok() {
		if err := pause(ctx); err != nil {
			t.Fatalf("%s: not in 30 s", what)
		}
	}
}

// streams waits until the standby streams from the primary and has all its WAL.
func streams(t *testing.T, standby, primary *Instance) Facts {
	t.Helper()
	var f Facts
	eventually(t, fmt.Sprintf("%s streams from %s", standby.cfg.Node, primary.cfg.Node), func() bool {
		p, err := primary.Status(t.Context())
		if err != nil {
			return false
		}
		f, err = standby.Status(t.Context())
		return err == nil && f.Receiver != nil && f.Receiver.Status == "streaming" && f.Receiver.Timeline == p.Timeline &&
			f.Replayed >= p.Flush
	})
	return f
}
