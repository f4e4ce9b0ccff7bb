package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// binaries returns where PostgreSQL's server programs are, or skips the test.
func binaries(t *testing.T) string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" {
			t.Fatal("no PostgreSQL server binaries in /usr/lib/postgresql/*/bin")
		}
		t.Skip("NO POSTGRESQL: no server binaries in /usr/lib/postgresql/*/bin")
	}
	return filepath.Dir(found[len(found)-1])
}

// postgres is a server under test.
type postgres struct {
	t          *testing.T
	bin, dir   string
	port       int
	credential *syscall.Credential // PostgreSQL refuses root
	stopped    bool
}

func newServers(t *testing.T, n int) []*postgres {
	t.Helper()
	bin := binaries(t)
	root, err := os.MkdirTemp("/tmp", "walgate-monitor-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	var credential *syscall.Credential
	if os.Getuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(root, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	servers := make([]*postgres, n)
	for i := range servers {
		servers[i] = &postgres{t: t, bin: bin, dir: filepath.Join(root, fmt.Sprint("data", i)), port: freePort(t), credential: credential}
	}
	return servers
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

func (p *postgres) run(program string, args ...string) {
	p.t.Helper()
	cmd := exec.Command(filepath.Join(p.bin, program), args...)
	cmd.Dir = filepath.Dir(p.dir)
	if p.credential != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	}
	var out bytes.Buffer
	file, err := os.CreateTemp("/tmp", "walgate-monitor-out-") // a pipe would be held open by the postmaster
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = file.Close(); _ = os.Remove(file.Name()) }()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Run(); err != nil {
		_, _ = file.Seek(0, 0)
		_, _ = out.ReadFrom(file)
		p.t.Fatalf("%s %v: %v\n%s", program, args, err, out.String())
	}
}

func (p *postgres) start() {
	p.t.Helper()
	p.run("pg_ctl", "-D", p.dir, "-w", "-s", "-l", filepath.Join(filepath.Dir(p.dir), "log"), "-o",
		fmt.Sprintf("-p %d -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c wal_retrieve_retry_interval=100ms", p.port), "start")
	p.t.Cleanup(p.stop)
}

func (p *postgres) stop() {
	if !p.stopped {
		p.stopped = true
		p.run("pg_ctl", "-D", p.dir, "-w", "-s", "-m", "immediate", "stop")
	}
}

func (p *postgres) exec(sql string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable", p.port))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil {
		p.t.Fatalf("%s: %v", sql, err)
	}
}

func (p *postgres) member(name replication.NodeID) replication.Member {
	return replication.Member{Name: name, Host: "127.0.0.1", Port: p.port}
}

// TestPostgres follows a primary and its standby through writes, paused replay, a failover and the loss of a node.
func TestPostgres(t *testing.T) {
	servers := newServers(t, 2)
	one, two := servers[0], servers[1]
	one.run("initdb", "-D", one.dir, "-A", "trust", "-U", "postgres", "-N")
	one.start()
	one.exec("create role walgate_monitor login; grant pg_monitor to walgate_monitor; create table t (a int)")
	// A default that would break every question on a standby.
	one.exec("alter role walgate_monitor set default_transaction_isolation = 'serializable'")
	two.run("pg_basebackup", "-D", two.dir, "-R", "-c", "fast", "-d",
		fmt.Sprintf("host=127.0.0.1 port=%d user=postgres application_name=two", one.port))
	two.start()

	var views replication.Feed[replication.View]
	var boards replication.Feed[replication.StatusBoard]
	m, err := New(Config{User: "walgate_monitor", Password: func() (string, error) { return "", nil }, Database: "postgres",
		ConnectTimeout: 5 * time.Second, QueryTimeout: 5 * time.Second, ActivePeriod: 10 * time.Millisecond, HastyPeriod: 2 * time.Millisecond,
		IdlePeriod: 100 * time.Millisecond, ActiveFor: time.Second}, &views, &boards, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(context.Background()) // t.Context ends before Cleanup
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	over := errors.New("end of test")
	t.Cleanup(func() {
		cancel(over)
		if err := <-ended; !errors.Is(err, over) {
			t.Errorf("Run ended with %v", err)
		}
	})
	wait := func(what string, ok func(replication.StatusBoard) bool) replication.StatusBoard {
		t.Helper()
		limit, stop := context.WithTimeout(ctx, 30*time.Second)
		defer stop()
		board, err := boards.Wait(limit, func(b replication.StatusBoard) bool { m.Wake(); return ok(b) })
		if err != nil {
			t.Fatalf("%s: %v\nboard: %+v", what, err, board)
		}
		return board
	}

	view := replication.View{Epoch: 1, Primary: "one", Open: true, Timeline: 1,
		Members: []replication.Member{one.member("one"), two.member("two")}}
	views.Publish(view)
	board := wait("both answer", func(b replication.StatusBoard) bool {
		return b.Status("one").Role == replication.RolePrimary && b.Status("two").Streaming && b.Status("two").Lag == 0 &&
			b.Status("two").SyncState == "async"
	})
	two1 := board.Status("two")
	if two1.Role != replication.RoleStandby || two1.Timeline != 1 || two1.Incarnation == 0 ||
		two1.Upstream != fmt.Sprint("127.0.0.1:", one.port) || !two1.Replayed.Known() || !two1.Received.Known() {
		t.Errorf("standby: %+v", two1)
	}
	if one1 := board.Status("one"); one1.Timeline != 1 || !one1.Reachable || !one1.Received.Known() {
		t.Errorf("primary: %+v", one1)
	}

	two.exec("select pg_wal_replay_pause()")
	wait("replay pauses", func(replication.StatusBoard) bool { return true })
	one.exec("insert into t select generate_series(1, 1000)")
	wait("the standby lags", func(b replication.StatusBoard) bool { return b.Status("two").LagBytes > 0 && b.Status("two").Lag > 0 })
	two.exec("select pg_wal_replay_resume()")
	wait("the standby catches up", func(b replication.StatusBoard) bool {
		return b.Status("two").LagBytes == 0 && b.Status("two").Lag == 0 && b.Status("two").Replayed >= b.Primary.Flush
	})

	one.stop()
	wait("the primary is gone", func(b replication.StatusBoard) bool {
		return !b.Status("one").Reachable && !b.Status("two").Streaming && b.Status("two").Timeline == 1
	})
	two.exec("select pg_promote()")
	view.Epoch, view.Primary, view.Timeline = 2, "two", 2
	views.Publish(view)
	wait("the new primary speaks for its epoch", func(b replication.StatusBoard) bool {
		return b.Primary.Epoch == 2 && b.Primary.Flush > two1.Replayed && b.Status("two").Timeline == 2
	})
	view.Members = view.Members[1:]
	views.Publish(view)
	wait("a member leaves", func(b replication.StatusBoard) bool { return len(b.Nodes) == 1 })
}

// TestFrozenServer asks a server that accepts and then says nothing.
func TestFrozenServer(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	s := &server{cfg: Config{User: "u", Password: func() (string, error) { return "", nil }, Database: "d",
		ConnectTimeout: 50 * time.Millisecond, QueryTimeout: 50 * time.Millisecond},
		member: replication.Member{Name: "a", Host: "127.0.0.1", Port: silent.Addr().(*net.TCPAddr).Port}}
	started := time.Now()
	if _, err := s.ask(t.Context()); err == nil {
		t.Error("a silent server answered")
	}
	if took := time.Since(started); took > 10*time.Second {
		t.Errorf("gave up after %v", took)
	}
}

func TestConfig(t *testing.T) {
	good := Config{User: "u", Password: func() (string, error) { return "", nil }, Database: "d", ConnectTimeout: 1,
		QueryTimeout: 1, ActivePeriod: 1, HastyPeriod: 1, IdlePeriod: 1, ActiveFor: 1}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	bad := []func(*Config){func(c *Config) { c.User = "" }, func(c *Config) { c.Password = nil }, func(c *Config) { c.QueryTimeout = 0 },
		func(c *Config) { c.IdlePeriod = 0 }, func(c *Config) { c.HastyPeriod = 0 }, func(c *Config) { c.HastyPeriod = 2 }}
	for i, spoil := range bad {
		c := good
		spoil(&c)
		if c.validate() == nil {
			t.Errorf("case %d is accepted", i)
		}
	}
}

// Who stands still is answered soon, however long the other periods are, whether it says so before the pause or in it.
func TestHasten(t *testing.T) {
	cfg := Config{User: "u", Password: func() (string, error) { return "", nil }, Database: "d", ConnectTimeout: 1, QueryTimeout: 1,
		ActivePeriod: time.Hour, HastyPeriod: time.Minute, IdlePeriod: time.Hour, ActiveFor: time.Hour}
	var views replication.Feed[replication.View]
	var boards replication.Feed[replication.StatusBoard]
	for _, name := range []string{"before the pause", "in the pause"} {
		m, err := New(cfg, &views, &boards, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if name == "before the pause" {
			m.Hasten()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		over := make(chan struct{})
		go func() { // ends with ctx at the latest
			defer close(over)
			m.pause(ctx, boottime.Now().Add(-cfg.HastyPeriod)) // hastily, the next question is due
		}()
		for waiting := true; waiting; {
			select {
			case <-over:
				waiting = false
			default:
				if name == "in the pause" {
					m.Hasten()
				}
				runtime.Gosched()
			}
		}
		if ctx.Err() != nil {
			t.Errorf("%s: the pause did not end", name)
		}
		cancel()
	}
}
