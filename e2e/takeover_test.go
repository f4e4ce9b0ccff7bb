package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// takeoverLimit bounds one takeover: the new process must see a beat, on a busy machine and with -race.
const takeoverLimit = 60 * time.Second

// gate is a proxy of a demo that is none of the demo's own processes, so that a test may replace it.
type gate struct {
	d      *Demo
	facts  facts
	dir    string // configuration, log, sockets
	port   int
	api    string
	reaped sync.WaitGroup
}

// newGate writes the configuration of a proxy that listens on TCP and on a unix socket.
func newGate(t *testing.T, d *Demo) *gate {
	t.Helper()
	g := &gate{d: d, facts: d.facts(t), dir: filepath.Join(d.Dir, "gate"), port: d.Port + 70, api: "http://127.0.0.1:" + strconv.Itoa(d.Port+71)}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	node := d.Port + 41
	content := fmt.Sprintf(`
cluster: {name: demo, secret_file: %s}
store: {endpoints: ["http://127.0.0.1:%d"]}
proxy:
  id: gate
  listen: "127.0.0.1:%d"
  listeners: [{network: unix, listen: "%s:%d", target: auto}]
  takeover: {socket: %s}
api: {listen: "127.0.0.1:%d"}
`, filepath.Join(d.Dir, "secret"), node, g.port, g.dir, g.port, g.socket(), d.Port+71)
	if err := os.WriteFile(g.config(), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.reaped.Wait)
	return g
}

func (g *gate) config() string { return filepath.Join(g.dir, "gate.yaml") }
func (g *gate) socket() string { return filepath.Join(g.dir, "takeover.sock") }
func (g *gate) addr() string   { return net.JoinHostPort("127.0.0.1", strconv.Itoa(g.port)) }
func (g *gate) dsn() string    { return dsn(g.facts, g.addr()) }

// run starts a process of the gate.
func (g *gate) run(t *testing.T, args ...string) process {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(g.dir, "gate.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	cmd := exec.Command(binary, append([]string{"proxy", "--config", g.config()}, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, g.dir
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a proxy: %v", err)
	}
	g.reaped.Go(func() { _ = cmd.Wait() }) // the log tells how it ended
	p, ok := readProcess(cmd.Process.Pid)
	if !ok {
		t.Fatalf("the proxy has ended:\n%s", logTails(g.dir, 20))
	}
	t.Cleanup(p.kill)
	return p
}

// holder awaits that the process with the takeover socket is another than those before.
func (g *gate) holder(t *testing.T, before ...process) process {
	t.Helper()
	var p process
	await(t, takeoverLimit, "a process at the takeover socket", func(context.Context) error {
		pid, err := peerOf(g.socket())
		if err != nil {
			return err
		}
		if slices.ContainsFunc(before, func(b process) bool { return b.pid == pid }) {
			return fmt.Errorf("process %d holds it still", pid)
		}
		var ok bool
		if p, ok = readProcess(pid); !ok {
			return fmt.Errorf("process %d has ended", pid)
		}
		return nil
	})
	return p
}

// peerOf is the process that listens at the path.
func peerOf(path string) (pid int, err error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var asked error
	err = raw.Control(func(fd uintptr) {
		var credential *syscall.Ucred
		if credential, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); asked == nil {
			pid = int(credential.Pid)
		}
	})
	return pid, errors.Join(err, asked)
}

// gone awaits the end of a process.
func gone(t *testing.T, p process) {
	t.Helper()
	await(t, takeoverLimit, "the end of "+p.String(), func(context.Context) error {
		if p.alive() {
			return errors.New("it lives")
		}
		return nil
	})
}

// load is a pgbench that runs until it is ended.
type load struct {
	cmd    *exec.Cmd
	name   string
	output string
	ended  chan struct{}
}

// loadSeconds bounds a load that nobody ends.
const loadSeconds = "240"

// startLoad starts pgbench against the gate.
func (g *gate) startLoad(t *testing.T, name, host string, env []string, args ...string) *load {
	t.Helper()
	path, err := postgresBinary("pgbench")
	if err != nil {
		t.Skip("SKIPPED: " + err.Error())
	}
	l := &load{name: name, output: filepath.Join(g.dir, name+".log"), ended: make(chan struct{})}
	out, err := os.Create(l.output)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }() // the process has its own copy
	l.cmd = exec.Command(path, append([]string{"-n", "-T", loadSeconds, "-P", "1"}, args...)...)
	l.cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+strconv.Itoa(g.port), "PGUSER="+g.facts.User,
		"PGPASSWORD="+g.facts.Password, "PGDATABASE="+g.facts.Database, "PGSSLMODE=disable")
	l.cmd.Env = append(l.cmd.Env, env...)
	l.cmd.Stdout, l.cmd.Stderr = out, out
	if err := l.cmd.Start(); err != nil {
		t.Fatalf("start pgbench: %v", err)
	}
	g.reaped.Go(func() {
		_ = l.cmd.Wait() // end looks at what it wrote
		close(l.ended)
	})
	t.Cleanup(func() { _ = l.cmd.Process.Kill() }) // it may have ended
	return l
}

var progress = regexp.MustCompile(`(?m)^progress: .* ([0-9.]+) tps`)

// advances awaits that the load carries out transactions from now on.
func (l *load) advances(t *testing.T) {
	t.Helper()
	seconds := func() (busy int, all string) {
		content, err := os.ReadFile(l.output)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range progress.FindAllStringSubmatch(string(content), -1) {
			if tps, _ := strconv.ParseFloat(m[1], 64); tps > 0 {
				busy++
			}
		}
		return busy, string(content)
	}
	before, _ := seconds()
	await(t, sqlLimit, "transactions of "+l.name, func(context.Context) error {
		if busy, all := seconds(); busy < before+2 { // the first may tell of a second that had begun
			return fmt.Errorf("%d seconds with transactions, %d before:\n%s", busy, before, all)
		}
		return nil
	})
}

// end ends the load and fails the test if anything but progress was told, or if it had not gone on to the end.
func (l *load) end(t *testing.T) {
	t.Helper()
	select {
	case <-l.ended:
		t.Errorf("load %s has ended by itself", l.name)
	default:
	}
	_ = l.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	<-l.ended
	content, err := os.ReadFile(l.output)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		harmless := strings.HasPrefix(line, "pgbench (") || strings.HasPrefix(line, "progress: ")
		if failed := strings.Contains(line, " failed") && !strings.Contains(line, " 0 failed"); !harmless || failed {
			t.Errorf("load %s: %s", l.name, line)
		}
	}
}

// TestTakeover replaces a proxy three times under load: nobody sees an error, sessions that are in the middle of something
// go on in the process that has them, cancel requests find them, and in the end only the newest process is there.
func TestTakeover(t *testing.T) {
	d := StartDemo(t, 1)
	client(t, d, "pgbench", "-i", "-s", "1", "-q")
	g := newGate(t, d)
	first := g.run(t)
	if p := g.holder(t); p.pid != first.pid {
		t.Fatalf("process %d holds the takeover socket, want %d", p.pid, first.pid)
	}
	var loads []*load
	for _, l := range []struct {
		name, host string
		args       []string
	}{
		{"reconnecting-reads", "127.0.0.1", []string{"-S", "-C", "-c", "16"}},
		{"reconnecting-writes", g.dir, []string{"-N", "-C", "-M", "prepared", "-c", "16"}},
		{"reads", "127.0.0.1", []string{"-S", "-M", "prepared", "-c", "16"}},
		{"writes", "127.0.0.1", []string{"-N", "-c", "16"}},
	} {
		loads = append(loads, g.startLoad(t, l.name, l.host, nil, l.args...))
	}
	for _, l := range loads {
		l.advances(t)
	}
	h := g.holdSessions(t)

	all := []process{first}
	for i := range 3 {
		started := time.Now()
		if i == 1 { // as systemd's unit does
			all[len(all)-1].signal(syscall.SIGUSR2)
		} else {
			g.run(t, "--takeover")
		}
		all = append(all, g.holder(t, all...))
		t.Logf("takeover %d: %s", i+1, time.Since(started).Round(time.Millisecond))
		for _, l := range loads {
			l.advances(t)
		}
		h.check(t)
		g.registered(t, first)
	}
	for _, p := range all[1 : len(all)-1] { // they had clients that reconnect, and never hold the first one's way back
		gone(t, p)
	}
	h.check(t)
	if !first.alive() {
		t.Errorf("%s has ended before its sessions", first)
	}
	h.end(t)
	for _, l := range loads {
		l.end(t)
	}
	gone(t, first)
	last := len(all) - 1
	g.registered(t)
	all[last].signal(syscall.SIGTERM)
	gone(t, all[last])
	for _, path := range []string{g.socket(), filepath.Join(g.dir, ".s.PGSQL."+strconv.Itoa(g.port))} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// registered awaits that the newest process bears the proxy's name, and each of the old ones a name of its own.
func (g *gate) registered(t *testing.T, old ...process) {
	t.Helper()
	want := []string{"gate"}
	for _, p := range old {
		want = append(want, "gate."+strconv.Itoa(p.pid))
	}
	await(t, healLimit, fmt.Sprintf("registrations of %v", want), func(ctx context.Context) error {
		c, err := clusterAt(ctx, g.api)
		if err != nil {
			return err
		}
		got := map[string]int{}
		for _, p := range c.Proxies {
			if strings.HasPrefix(p.ID, "gate") {
				got[p.ID] = p.Sessions
			}
		}
		for _, id := range want {
			if got[id] == 0 && (id != "gate" || len(old) > 0) {
				return fmt.Errorf("no sessions of %s: %v", id, got)
			}
		}
		if _, ok := got["gate"]; !ok || len(old) == 0 && len(got) > 1 {
			return fmt.Errorf("registered: %v", got)
		}
		return nil
	})
}

// held are sessions of the first process that are in the middle of something.
type held struct {
	listener, transaction *pgx.Conn
	notifier              string // where to reach the newest process
	ticks                 int
}

func (g *gate) holdSessions(t *testing.T) *held {
	t.Helper()
	h := &held{listener: dial(t, g.dsn()), transaction: dial(t, g.dsn()), notifier: g.dsn()}
	do(t, h.listener, "listen news")
	do(t, h.transaction, "create table kept (n int)")
	do(t, h.transaction, "begin")
	return h
}

// check uses them, and cancels a statement of another session of the first process through the newest one.
func (h *held) check(t *testing.T) {
	t.Helper()
	h.ticks++
	do(t, h.transaction, "insert into kept values ($1)", h.ticks)
	notifier := dial(t, h.notifier)
	do(t, notifier, fmt.Sprintf("notify news, '%d'", h.ticks))
	ctx, cancel := context.WithTimeout(t.Context(), sqlLimit)
	defer cancel()
	n, err := h.listener.WaitForNotification(ctx)
	if err != nil || n.Payload != strconv.Itoa(h.ticks) {
		t.Fatalf("notification %+v, %v; want %d", n, err, h.ticks)
	}
	failed := make(chan error, 1)
	go func() { // ends with the statement
		_, err := h.listener.Exec(ctx, "select pg_sleep(1000)")
		failed <- err
	}()
	await(t, sqlLimit, "the statement to run", func(ctx context.Context) error {
		if ask[int](t, notifier, "select count(*)::int from pg_stat_activity where query = 'select pg_sleep(1000)' and state = 'active'") != 1 {
			return errors.New("it does not")
		}
		return nil
	})
	if err := h.listener.PgConn().CancelRequest(ctx); err != nil {
		t.Fatalf("cancel: %v", err)
	}
	if err := <-failed; sqlstate(err) != "57014" {
		t.Fatalf("the statement that was cancelled: %v", err)
	}
	closeConn(notifier)
}

// end ends them, and sees that nothing of the transaction was lost.
func (h *held) end(t *testing.T) {
	t.Helper()
	do(t, h.transaction, "commit")
	if n := ask[int](t, h.transaction, "select count(*)::int from kept"); n != h.ticks {
		t.Errorf("%d rows of the transaction, want %d", n, h.ticks)
	}
	for _, conn := range []*pgx.Conn{h.listener, h.transaction} {
		if err := conn.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}
