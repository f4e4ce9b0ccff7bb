package e2e

import (
	"context"
	"errors"
	"fmt"
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
	drain  string // limit of what a takeover leaves behind; empty: the default
	reaped sync.WaitGroup
}

// newGate writes the configuration of a proxy that listens on TCP and on a unix socket.
func newGate(t *testing.T, d *Demo) *gate {
	t.Helper()
	g := &gate{d: d, facts: d.facts(t), dir: filepath.Join(d.Dir, "gate"), port: d.Port + 70, api: "http://127.0.0.1:" + strconv.Itoa(d.Port+71)}
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	g.configure(t, "info")
	t.Cleanup(g.reaped.Wait)
	return g
}

// configure writes the configuration. The certificate is used once there is one.
func (g *gate) configure(t *testing.T, level string) {
	t.Helper()
	tls := ""
	if _, err := os.Stat(g.file("tls.crt")); err == nil {
		tls = fmt.Sprintf("tls: {cert_file: %s, key_file: %s}", g.file("tls.crt"), g.file("tls.key"))
	}
	drain := ""
	if g.drain != "" {
		drain = ", drain: " + g.drain
	}
	content := fmt.Sprintf(`
cluster: {name: demo, secret_file: %s}
store: {endpoints: ["http://127.0.0.1:%d"]}
proxy:
  id: gate
  listen: "127.0.0.1:%d"
  listeners: [{network: unix, listen: "%s:%d", target: auto}]
  takeover: {socket: %s%s}
  %s
api: {listen: "127.0.0.1:%d"}
log: {level: %s}
`, filepath.Join(g.d.Dir, "secret"), g.d.Port+41, g.port, g.dir, g.port, g.socket(), drain, tls, g.d.Port+71, level)
	if err := os.WriteFile(g.config(), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (g *gate) file(name string) string { return filepath.Join(g.dir, name) }
func (g *gate) config() string          { return g.file("gate.yaml") }
func (g *gate) socket() string          { return g.file("takeover.sock") }
func (g *gate) addr() string            { return net.JoinHostPort("127.0.0.1", strconv.Itoa(g.port)) }
func (g *gate) dsn() string             { return dsn(g.facts, g.addr()) }

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
