package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// freeze is how long a frozen node stays so: longer than ha.ttl (5 s), after which another node may take over.
const freeze = 9 * time.Second

// agentOf returns the agent of a node, checked: demo.json is only believed when the process is the binary under test.
func (d *Demo) agentOf(t testing.TB, name string) process {
	t.Helper()
	return d.ownProcess(t, name, "agent", d.node(t, name).PID)
}

// guardOf returns the guard of a node, checked.
func (d *Demo) guardOf(t testing.TB, name string) process {
	t.Helper()
	return d.ownProcess(t, name, "guard", d.node(t, name).GuardPID)
}

func (d *Demo) ownProcess(t testing.TB, name, what string, pid int) process {
	t.Helper()
	p, ok := readProcess(pid)
	if !ok {
		t.Fatalf("demo.json says that the %s of %s is process %d, which does not run", what, name, pid)
	}
	if p.exe != binary {
		t.Fatalf("demo.json says that the %s of %s is %s, and that is not %s", what, name, p, binary)
	}
	return p
}

// postmasterOf returns the postmaster of a node as its pid file tells, checked.
func (d *Demo) postmasterOf(t testing.TB, name string) process {
	t.Helper()
	dir := d.node(t, name).DataDir
	content, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	if err != nil {
		t.Fatalf("find postmaster of %s: %v", name, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(string(content), "\n", 2)[0]))
	if err != nil {
		t.Fatalf("find postmaster of %s: %v", name, err)
	}
	p, ok := readProcess(pid)
	if !ok || filepath.Base(p.exe) != "postgres" || p.cwd != dir {
		t.Fatalf("the pid file of %s names %d: %s", name, pid, p)
	}
	return p
}

// postgresOf lists every process of a node's PostgreSQL: they work in its data directory.
func (d *Demo) postgresOf(dataDir string) []process {
	var list []process
	for _, p := range processes() {
		if filepath.Base(p.exe) == "postgres" && p.cwd == dataDir {
			list = append(list, p)
		}
	}
	return list
}

// hit signals whatever list gives until nothing is left for which undone holds: new processes may come while it works.
func hit(t testing.TB, s syscall.Signal, list func() []process, undone func(process) bool) {
	t.Helper()
	await(t, 30*time.Second, "every process to get "+s.String(), func(context.Context) error {
		var left error
		for _, p := range list() {
			if undone(p) {
				p.signal(s)
				left = fmt.Errorf("not yet: %s", p)
			}
		}
		return left
	})
}

func always(process) bool { return true }

func running(p process) bool { return p.state != 'T' && p.state != 't' }

// nodeLister lists agent, guard and PostgreSQL of a node, as they are now; the first two as they were found.
func (d *Demo) nodeLister(t testing.TB, name string) func() []process {
	t.Helper()
	agent, guard, dataDir := d.agentOf(t, name), d.guardOf(t, name), d.node(t, name).DataDir
	return func() []process {
		list := d.postgresOf(dataDir)
		for _, old := range []process{guard, agent} {
			if now, ok := readProcess(old.pid); ok && now.start == old.start {
				list = append([]process{now}, list...)
			}
		}
		return list
	}
}

// killNode kills agent, guard and PostgreSQL of a node at once, as a loss of power would.
func (d *Demo) killNode(t testing.TB, name string) {
	t.Helper()
	hit(t, syscall.SIGKILL, d.nodeLister(t, name), always)
}

// killPostmaster kills that one process; its children are left to whoever looks after them.
func (d *Demo) killPostmaster(t testing.TB, name string) {
	t.Helper()
	d.postmasterOf(t, name).kill()
}

// freezeNode stops agent, guard and PostgreSQL of a node where they are, and returns what lets them go on.
func (d *Demo) freezeNode(t testing.TB, name string) (thaw func()) {
	t.Helper()
	return frozen(t, d.nodeLister(t, name))
}

// freezePostgres stops PostgreSQL of a node but neither its agent nor its guard.
func (d *Demo) freezePostgres(t testing.TB, name string) (thaw func()) {
	t.Helper()
	dataDir := d.node(t, name).DataDir
	victims := d.postgresOf(dataDir)
	for _, p := range victims {
		p.signal(syscall.SIGSTOP)
	}
	return func() {
		for _, p := range victims {
			p.signal(syscall.SIGCONT)
		}
	}
}

func frozen(t testing.TB, list func() []process) (thaw func()) {
	t.Helper()
	victims := list()
	thaw = func() {
		for _, p := range victims {
			p.signal(syscall.SIGCONT)
		}
	}
	t.Cleanup(thaw) // should the test fail before it thaws
	hit(t, syscall.SIGSTOP, func() []process { victims = list(); return victims }, running)
	return thaw
}

// awaitSince returns when d has passed since then.
func awaitSince(t testing.TB, then time.Time, d time.Duration) {
	t.Helper()
	await(t, d+time.Second, "time to pass", func(context.Context) error {
		if time.Since(then) < d {
			return errors.New("not yet")
		}
		return nil
	})
}
