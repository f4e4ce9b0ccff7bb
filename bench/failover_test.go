package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const pgBin = "/usr/lib/postgresql/15/bin"

// standIn is a cluster of one ordinary PostgreSQL without any proxy: enough to see whether the measurement is right.
type standIn struct {
	t       *testing.T
	dir     string // of the demo
	data    string
	port    int
	api     string
	cred    *syscall.Credential
	wg      sync.WaitGroup
	restart func(ctx context.Context) bool // asked after PostgreSQL has ended by itself

	mu  sync.Mutex
	cmd *exec.Cmd
}

func newStandIn(t *testing.T) *standIn {
	t.Helper()
	_, err := os.Stat(filepath.Join(pgBin, "postgres"))
	if _, pgbenchErr := exec.LookPath("pgbench"); err != nil || pgbenchErr != nil {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" {
			t.Fatal("no PostgreSQL or no pgbench")
		}
		t.Skip("SKIPPED: no PostgreSQL or no pgbench on this machine")
	}
	dir, err := os.MkdirTemp("", "walgate-bench-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &standIn{t: t, dir: dir, data: filepath.Join(dir, "data")}
	if os.Geteuid() == 0 {
		who, err := user.Lookup("postgres")
		if err != nil {
			t.Skip("SKIPPED: running as root, and there is no user postgres")
		}
		uid, _ := strconv.Atoi(who.Uid)
		gid, _ := strconv.Atoi(who.Gid)
		s.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := errors.Join(os.Chown(dir, uid, gid), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	initdb := exec.Command(filepath.Join(pgBin, "initdb"), "-D", s.data, "-U", "postgres", "-A", "trust", "-N")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	return s
}

// run keeps PostgreSQL running as long as restart says so.
func (s *standIn) run(ctx context.Context) {
	for {
		cmd := exec.Command(filepath.Join(pgBin, "postgres"), "-D", s.data, "-p", strconv.Itoa(s.port), "-k", s.dir, "-c", "fsync=off",
			"-c", "listen_addresses=127.0.0.1", "-c", "logging_collector=off")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.cred}
		if err := cmd.Start(); err != nil {
			s.t.Error(err)
			return
		}
		s.mu.Lock()
		s.cmd = cmd
		s.writeDemo(cmd.Process.Pid)
		s.mu.Unlock()
		_ = cmd.Wait()
		if ctx.Err() != nil || s.restart == nil || !s.restart(ctx) {
			return
		}
	}
}

func (s *standIn) writeDemo(pid int) {
	addr := fmt.Sprintf("127.0.0.1:%d", s.port)
	content, err := json.Marshal(Demo{User: "postgres", Database: "postgres", Sidecar: Endpoint{Addr: addr, API: s.api},
		Nodes: []Node{{Name: "node1", PostmasterPID: pid, Postgres: addr, DataDir: s.data}}})
	name := filepath.Join(s.dir, "demo.json")
	if err = errors.Join(err, os.WriteFile(name+".new", content, 0o600), os.Rename(name+".new", name)); err != nil {
		s.t.Error(err)
	}
}

// start serves an API that says that all is well, and PostgreSQL.
func (s *standIn) start() {
	s.t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"epoch":1,"primary":"node1","open":true,"members":[{"name":"node1","role":"primary","state":"running"}]}`))
	})
	mux.HandleFunc("POST /v1/switchover", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, `{"error":"no candidate"}`, http.StatusConflict)
	})
	server := httptest.NewServer(mux)
	ctx, cancel := context.WithCancel(context.Background())
	s.api = server.URL
	s.wg.Go(func() { s.run(ctx) })
	s.t.Cleanup(func() {
		cancel()
		s.mu.Lock()
		if s.cmd != nil {
			_ = s.cmd.Process.Signal(syscall.SIGINT)
		}
		s.mu.Unlock()
		s.wg.Wait()
		server.Close()
	})
	s.waitAnswer()
}

func (s *standIn) waitAnswer() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	for {
		demo, err := LoadDemo(s.dir)
		if err == nil {
			var conn *pgx.Conn
			if conn, err = pgx.Connect(ctx, demo.url(demo.Sidecar.Addr, time.Second)); err == nil {
				closeConn(conn)
				return
			}
		}
		if pause(ctx, 50*time.Millisecond) != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *standIn) config(fault Fault) Config {
	cfg := DefaultConfig()
	cfg.Dir, cfg.Fault, cfg.Runs, cfg.Out = s.dir, fault, 1, filepath.Join(s.t.TempDir(), "out")
	cfg.Warmup, cfg.Tail, cfg.FreezeFor, cfg.Limit = time.Second, 2*time.Second, 1200*time.Millisecond, 20*time.Second
	cfg.PgbenchClients, cfg.Writers, cfg.IdleSessions = 2, 2, 2
	return cfg
}

// A PostgreSQL that stands still for 1.2 s: that is the outage, and nothing is lost.
func TestFreezeIsMeasured(t *testing.T) {
	s := newStandIn(t)
	s.start()
	report, err := Failover(t.Context(), s.config(FaultFreezePostgres))
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Passed(); err != nil {
		t.Error(err)
	}
	run := report.Runs[0]
	if run.OutageMS < 1100 || run.OutageMS > 3500 || run.Pgbench.OutageMS < 1100 || run.WaitedMS < 1000 {
		t.Errorf("outage %v ms, pgbench's %v ms, longest statement %v ms; want about 1200", run.OutageMS, run.Pgbench.OutageMS, run.WaitedMS)
	}
	if run.Acknowledged < 100 || run.Pgbench.Commits < 10 || len(run.Errors) != 0 || run.WritersBroken != 0 || run.DirectLate == 0 {
		t.Errorf("got %+v", run)
	}
}

// A postmaster that is killed and started again: connections break, and the measurement says so.
func TestKillIsMeasured(t *testing.T) {
	s := newStandIn(t)
	s.restart = func(ctx context.Context) bool { return pause(ctx, 500*time.Millisecond) == nil }
	s.start()
	cfg := s.config(FaultKillPostmaster)
	cfg.Tail = 5 * time.Second
	report, err := Failover(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	run := report.Runs[0]
	if run.OutageMS < 400 || run.MissingCount != 0 || run.DuplicateCount != 0 || len(run.Contradicted) != 0 || run.WritersBroken < 2 || run.IdleBroken != 2 {
		t.Errorf("got %+v", run)
	}
	if err := report.Passed(); err == nil || !strings.Contains(err.Error(), "2 of 2 idle sessions") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"kill-postmaster.json", "kill-postmaster.html"} {
		if st, err := os.Stat(filepath.Join(cfg.Out, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A fault that cannot be injected is the run's problem, and the load still ends.
func TestRefusedSwitchover(t *testing.T) {
	s := newStandIn(t)
	s.start()
	cfg := s.config(FaultSwitchover)
	cfg.PgbenchClients = 0
	report, err := Failover(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Passed(); err == nil || !strings.Contains(err.Error(), "no candidate") {
		t.Errorf("got %v", err)
	}
}

// A pid that has come to mean another program is not signalled.
func TestWrongProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	if err := killPostmaster(Node{PostmasterPID: cmd.Process.Pid}); err == nil {
		t.Error("a sleep was killed for a postmaster")
	}
	for _, pid := range []int{-1, 0, 1} {
		if _, err := openProcess(pid, "systemd", "init", "sh", "bash"); err == nil {
			t.Errorf("process %d was opened", pid)
		}
	}
	p, err := openProcess(cmd.Process.Pid, "sleep")
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if err := p.signal(syscall.SIGKILL); err != nil {
		t.Errorf("signalling what has ended: %v", err)
	}
}
