package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// facts is demo.json.
type facts struct {
	User     string      `json:"user"`
	Password string      `json:"password"`
	Database string      `json:"database"`
	Sidecar  sidecar     `json:"sidecar"`
	Nodes    []nodeFacts `json:"nodes"`
}

type sidecar struct {
	PID  int    `json:"pid"`
	Addr string `json:"addr"`
	API  string `json:"api"`
}

type nodeFacts struct {
	Name          string `json:"name"`
	PID           int    `json:"pid"` // of the agent
	GuardPID      int    `json:"guard_pid"`
	PostmasterPID int    `json:"postmaster_pid"`
	Proxy         string `json:"proxy"`
	Postgres      string `json:"postgres"`
	API           string `json:"api"`
	DataDir       string `json:"data_dir"`
}

// Demo is one running `walgate demo`. Its methods that take a test fail it.
type Demo struct {
	Dir  string
	Port int
	N    int // nodes
}

// StartDemo starts a detached demo on free ports and returns once every member streams. At the end of the test the demo
// is stopped, whatever of it is still there is killed and named as a failure, and its directory is removed.
func StartDemo(t *testing.T, nodes int, args ...string) *Demo {
	t.Helper()
	requireCluster(t)
	place, err := os.MkdirTemp(root, "d")
	if err != nil {
		t.Fatalf("make directory: %v", err)
	}
	if err := os.Chmod(place, 0o755); err != nil {
		t.Fatalf("open directory to user postgres: %v", err)
	}
	d := &Demo{Dir: filepath.Join(place, "demo"), Port: freeBlock(t), N: nodes}
	t.Cleanup(func() { d.end(t, place) })
	started := time.Now()
	all := append([]string{"demo", "--detach", "--dir", d.Dir, "--port", strconv.Itoa(d.Port), "--nodes", strconv.Itoa(nodes)}, args...)
	d.must(t, startLimit, all...)
	t.Logf("demo of %d nodes at port %d up in %s", nodes, d.Port, time.Since(started).Round(time.Millisecond))
	return d
}

// end stops the demo and removes it; on failure the logs come first.
func (d *Demo) end(t *testing.T, place string) {
	t.Helper()
	if t.Failed() {
		t.Logf("state of the cluster:\n%s", d.lastWords())
		t.Logf("logs:\n%s", logTails(d.Dir, 60))
	}
	for _, p := range processesBelow(place) {
		if p.state == 'T' {
			p.signal(syscall.SIGCONT) // frozen by a test that failed before it thawed them
		}
	}
	if _, err := os.Stat(filepath.Join(d.Dir, "demo.json")); err == nil {
		out := command(context.WithoutCancel(t.Context()), verbLimit, "demo", "stop", "--dir", d.Dir)
		if out.err != nil {
			t.Errorf("demo stop: %v\n%s", out.err, out)
		}
	}
	// The last processes are gone a moment after they were told to; what stays is a failure.
	err := awaitErr(context.WithoutCancel(t.Context()), 15*time.Second, "the end of all processes", func(context.Context) error {
		return named(processesBelow(place))
	})
	if err != nil {
		t.Errorf("after demo stop: %v", err)
		for _, p := range processesBelow(place) {
			p.kill()
		}
	}
	if dir := ownVariables["WALGATE_E2E_LOGS"]; dir != "" {
		file := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")+"."+strconv.Itoa(d.Port)+".log")
		if err := os.WriteFile(file, []byte(logTails(d.Dir, 1<<20)), 0o644); err != nil {
			t.Logf("keep logs: %v", err)
		}
	}
	if bad := alarming(d.Dir); bad != "" {
		t.Errorf("the logs tell of broken invariants:\n%s", bad)
	}
	if err := os.RemoveAll(place); err != nil {
		t.Errorf("remove %s: %v", place, err)
	}
}

// named is an error that lists processes; nil when there are none.
func named(list []process) error {
	if len(list) == 0 {
		return nil
	}
	texts := make([]string, 0, len(list))
	for _, p := range list {
		texts = append(texts, p.String())
	}
	return errors.New(strings.Join(texts, "\n"))
}

// alarming finds in the logs what must never be there.
func alarming(dir string) string {
	var found []string
	for line := range strings.Lines(logTails(dir, 1<<20)) {
		for _, word := range []string{"DATA RACE", "panic: ", "fatal error: ", "PANIC:  ", "level=ERROR msg=panic"} {
			// A PostgreSQL that is killed half way through may well PANIC in its log only about its own files.
			if strings.Contains(line, word) {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return strings.Join(found[:min(len(found), 20)], "\n")
}

func (d *Demo) lastWords() string {
	out := command(context.Background(), 20*time.Second, "demo", "status", "--dir", d.Dir)
	return out.String()
}

// facts reads demo.json.
func (d *Demo) facts(t testing.TB) facts {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(d.Dir, "demo.json"))
	if err != nil {
		t.Fatalf("read facts of the demo: %v", err)
	}
	var f facts
	if err := json.Unmarshal(content, &f); err != nil {
		t.Fatalf("read facts of the demo: %v\n%s", err, content)
	}
	return f
}

func (d *Demo) node(t testing.TB, name string) nodeFacts {
	t.Helper()
	for _, n := range d.facts(t).Nodes {
		if n.Name == name {
			return n
		}
	}
	t.Fatalf("demo.json knows no %s", name)
	return nodeFacts{}
}

// must runs a verb that has to succeed and returns its standard output.
func (d *Demo) must(t testing.TB, limit time.Duration, args ...string) string {
	t.Helper()
	out := command(t.Context(), limit, args...)
	if out.err != nil {
		t.Fatalf("walgate %s: %v\n%s", strings.Join(args, " "), out.err, out)
	}
	return out.stdout
}

// stop ends the demo, or one node of it; start is its opposite.
func (d *Demo) stop(t testing.TB, node ...string) {
	t.Helper()
	d.must(t, verbLimit, append([]string{"demo", "stop", "--dir", d.Dir}, node...)...)
}

func (d *Demo) start(t testing.TB, node ...string) {
	t.Helper()
	d.must(t, verbLimit, append([]string{"demo", "start", "--dir", d.Dir}, node...)...)
}

// outcome is how a command ended.
type outcome struct {
	stdout, stderr string
	code           int // -1: ended by a signal
	err            error
}

func (o outcome) String() string {
	return fmt.Sprintf("exit code %d\n%s%s", o.code, o.stdout, o.stderr)
}

// command runs the binary under test.
func command(ctx context.Context, limit time.Duration, args ...string) outcome {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	return finish(cmd)
}

// finish runs cmd to its end. Files and not pipes take the output, so that a process which goes on in the background
// with the same standard error does not hold the end back.
func finish(cmd *exec.Cmd) outcome {
	stdout, outErr := os.CreateTemp(root, "stdout")
	stderr, errErr := os.CreateTemp(root, "stderr")
	if err := errors.Join(outErr, errErr); err != nil {
		return outcome{code: -1, err: err}
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	o := outcome{err: cmd.Run()}
	o.stdout, o.stderr = contentOf(stdout), contentOf(stderr)
	o.code = cmd.ProcessState.ExitCode()
	return o
}

// contentOf reads what a process wrote to a temporary file, and removes it.
func contentOf(f *os.File) string {
	content, err := os.ReadFile(f.Name())
	if err != nil {
		content = []byte(err.Error())
	}
	_, _ = f.Close(), os.Remove(f.Name()) // root is removed anyway
	return string(bytes.TrimSpace(content)) + "\n"
}

// blocks hands out blocks of 100 ports that nobody listens on, each once.
var blocks struct {
	sync.Mutex
	given map[int]bool
}

func freeBlock(t testing.TB) int {
	t.Helper()
	blocks.Lock()
	defer blocks.Unlock()
	if blocks.given == nil {
		blocks.given = map[int]bool{}
	}
	for range 200 {
		base := 11000 + 100*rand.IntN(200) // below the range from which the kernel takes ports for connections
		if !blocks.given[base] && blockIsFree(base) {
			blocks.given[base] = true
			return base
		}
	}
	t.Fatal("no block of 100 free ports")
	return 0
}

func blockIsFree(base int) bool {
	for port := base; port < base+100; port++ {
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return false
		}
		_ = listener.Close()
	}
	return true
}
