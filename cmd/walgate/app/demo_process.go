package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/walgate/walgate/ha/api"
)

// start starts those of the names that do not run, and the sidecar, and waits until all of them are well.
func (d *Demo) start(ctx context.Context, names []string) error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return fmt.Errorf("%w: make --dir: %w", ErrMachine, err)
	}
	if err := traversable(d.dir); err != nil {
		return err
	}
	var children map[string]*child
	err := withLock(d.dir, "start.lock", func() (err error) { // two starts must not both start the sidecar
		children, err = d.spawnMissing(names)
		return err
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, demoStartLimit, fmt.Errorf("%w: the demo is not well after %s; see the *.log files below %s",
		context.DeadlineExceeded, demoStartLimit, d.dir))
	defer cancel()
	return d.awaitWell(ctx, names, children)
}

// spawnMissing starts those of the names that do not run, and the sidecar.
func (d *Demo) spawnMissing(names []string) (map[string]*child, error) {
	var missing []string
	for _, name := range names {
		facts, err := ReadNodeFacts(d.runDir(name))
		if err != nil {
			return nil, err
		}
		if facts.Agent.PID == 0 {
			missing = append(missing, name)
		}
	}
	if d.sidecarProcess().PID == 0 {
		missing = append(missing, "sidecar")
	}
	if err := d.checkPorts(missing); err != nil {
		return nil, err
	}
	fresh := !d.known
	if err := d.layout(); err != nil {
		return nil, err
	}
	if fresh {
		_, _ = fmt.Fprintf(d.out, "making a cluster of %d in %s\n", d.options.Nodes, d.dir)
		if d.options.Nodes == 2 {
			_, _ = fmt.Fprintln(d.out, "warning: with 2 nodes the store has no majority when one is lost, so there is no failover; use 3")
		}
	}
	children := map[string]*child{}
	for _, name := range missing {
		c, err := d.spawn(name)
		if err != nil {
			return nil, err
		}
		children[name] = c
	}
	return children, nil
}

// checkPorts refuses ports that others hold, naming all of them.
func (d *Demo) checkPorts(parts []string) error {
	var inUse error
	for _, part := range parts {
		facts, err := ReadNodeFacts(d.runDir(part))
		if err != nil {
			return err
		}
		for address, purpose := range d.ports(part) {
			if facts.Postmaster.PID != 0 && strings.HasSuffix(purpose, "PostgreSQL") {
				continue // its own, under the guard, which the new agent takes over
			}
			inUse = errors.Join(inUse, CheckPort(address, purpose))
		}
	}
	if inUse != nil {
		return fmt.Errorf("%w\nuse another --port; a demo takes a block of 100", inUse)
	}
	return nil
}

// child is a process that this one has started.
type child struct {
	process Process
	log     string
	exited  chan struct{} // closed when it has ended
}

// spawn starts one part of the demo in a session of its own, so that a Ctrl-C in this terminal does not reach it.
func (d *Demo) spawn(name string) (*child, error) {
	c := &child{log: filepath.Join(d.dir, name, "walgate.log"), exited: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMachine, err)
	}
	defer func() { _ = log.Close() }() // the child has its own copy
	args := []string{"node", "--config", d.configPath(name), "--demo", d.dir}
	if name == "sidecar" {
		args = []string{"proxy", "--config", d.configPath(name)}
	}
	command := exec.Command(d.executable, args...) //nolint:gosec // this executable
	command.Dir, command.Stdout, command.Stderr = "/", log, log
	command.Env = withoutOurs(os.Environ())
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c.process = FindProcess(command.Process.Pid)
	d.reaped.Go(func() { // ends with the child
		_ = command.Wait() // how it ended stands in its log
		close(c.exited)
	})
	if name == "sidecar" {
		return c, writeJSONFile(filepath.Join(d.dir, name, "process.json"), c.process, 0o644)
	}
	facts, err := ReadNodeFacts(d.runDir(name))
	if err != nil {
		return c, err
	}
	facts.Agent = c.process
	return c, WriteNodeFacts(d.runDir(name), facts)
}

// withoutOurs keeps variables that would override the demo's configuration from its processes.
func withoutOurs(environ []string) []string {
	var kept []string
	for _, assignment := range environ {
		if !strings.HasPrefix(assignment, environmentPrefix) {
			kept = append(kept, assignment)
		}
	}
	return kept
}

// lastWords are the last lines of a log.
func lastWords(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(content), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
}

// awaitWell waits until the named members run or stream, the primary takes writes and the sidecar knows it; and shows
// what they do meanwhile.
func (d *Demo) awaitWell(ctx context.Context, names []string, children map[string]*child) error {
	shown := map[string]string{}
	ticker := time.NewTicker(demoPoll)
	defer ticker.Stop()
	for {
		for name, c := range children {
			select {
			case <-c.exited:
				return fmt.Errorf("%w: %s ended while starting; the end of %s:\n%s", ErrMachine, name, c.log, lastWords(c.log))
			default:
			}
		}
		if cluster, ok := d.cluster(ctx); ok {
			show(d.out, cluster, shown)
			if well(cluster, names) && d.sidecarWell(ctx) {
				_, err := d.refreshFacts()
				return err
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func well(c api.Cluster, names []string) bool {
	if c.PrimaryName() == "" || !c.Open || c.StoreError != "" {
		return false
	}
	for _, name := range names {
		if m, ok := c.Member(name); !ok || !m.Healthy() {
			return false
		}
	}
	return true
}

// sidecarWell reports whether the sidecar sees the same primary, so that a client may connect now.
func (d *Demo) sidecarWell(ctx context.Context) bool {
	c, ok := d.ask(ctx, "http://"+d.address(offsetSidecarAPI))
	return ok && c.PrimaryName() != "" && c.Open && c.StoreError == "" && CheckPort(d.address(0), "") != nil
}

// show prints members whose state has changed.
func show(out io.Writer, c api.Cluster, shown map[string]string) {
	for _, m := range c.Members {
		text := m.State
		switch {
		case m.Healthy() && string(m.Name) == c.PrimaryName():
			text = "primary"
		case !m.Healthy() && m.Why != "":
			text += ": " + m.Why
		}
		if shown[string(m.Name)] != text {
			shown[string(m.Name)] = text
			_, _ = fmt.Fprintf(out, "  %s  %s\n", m.Name, text)
		}
	}
}

// cluster asks whoever answers first: the sidecar, then the nodes. One that knows of a record is preferred.
func (d *Demo) cluster(ctx context.Context) (best api.Cluster, ok bool) {
	for i := range d.options.Nodes + 1 {
		c, answered := d.ask(ctx, "http://"+d.address(offsetSidecarAPI+i))
		if answered && c.StoreError == "" && c.Version > 0 {
			return c, true
		}
		if answered && (!ok || len(c.Members) > len(best.Members)) {
			best, ok = c, true
		}
	}
	return best, ok
}

func (d *Demo) ask(ctx context.Context, url string) (api.Cluster, bool) {
	client, err := api.NewClient(url, "")
	if err != nil {
		return api.Cluster{}, false
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c, err := client.Cluster(ctx)
	return c, err == nil && c.Cluster == "demo"
}

// follow shows changes until ctx ends.
func (d *Demo) follow(ctx context.Context) {
	shown := map[string]string{}
	if c, ok := d.cluster(ctx); ok {
		show(io.Discard, c, shown)
	}
	ticker := time.NewTicker(5 * demoPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if c, ok := d.cluster(ctx); ok {
			show(d.out, c, shown)
		}
	}
}

func (d *Demo) anyAlive() bool {
	for _, name := range d.names() {
		if facts, err := ReadNodeFacts(d.runDir(name)); err == nil && facts.Agent.PID != 0 {
			return true
		}
	}
	return d.sidecarProcess().PID != 0
}

// stopNodes asks the nodes to stop in the given order: each when PostgreSQL of those before it is gone, so that the
// last one, the primary, still has the store's majority for its last word. Then it waits for all and ends what remains.
func (d *Demo) stopNodes(order []string, stop syscall.Signal) error {
	deadline := time.Now().Add(demoStopLimit)
	all := map[string]NodeFacts{}
	for i, name := range order {
		facts, err := ReadNodeFacts(d.runDir(name))
		if err != nil {
			return err
		}
		all[name] = facts
		if i == len(order)-1 {
			for _, before := range order[:i] {
				waitGone(time.Until(deadline)/2, all[before].Postmaster)
			}
		}
		if err := facts.Agent.Signal(stop); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", name, err)
		}
	}
	var failures error
	for _, name := range order {
		waitGone(time.Until(deadline), all[name].Agent)
		failures = errors.Join(failures, d.endRemains(name))
	}
	_, err := d.refreshFacts()
	return errors.Join(failures, err)
}

// endRemains ends what a node has left behind: an agent that does not stop, a postmaster without an agent, its guard.
func (d *Demo) endRemains(name string) error {
	const patience = 15 * time.Second
	facts, err := ReadNodeFacts(d.runDir(name))
	if err != nil {
		return err
	}
	for _, step := range []struct {
		process Process
		signal  syscall.Signal
	}{
		{facts.Agent, syscall.SIGKILL}, {facts.Postmaster, syscall.SIGINT}, {facts.Postmaster, syscall.SIGKILL}, {facts.Guard, syscall.SIGKILL},
	} {
		if step.process == facts.Guard && facts.Guard.PID != 0 && waitGone(patience, facts.Guard) {
			continue // without a postmaster it leaves by itself
		}
		if err := step.process.Signal(step.signal); err == nil {
			waitGone(patience, step.process)
		}
	}
	for _, p := range []Process{facts.Agent, facts.Postmaster, facts.Guard} {
		if p.Alive() {
			return fmt.Errorf("process %d of %s does not end", p.PID, name)
		}
	}
	return nil
}

// waitGone waits until the process has ended, at most as long as limit.
func waitGone(limit time.Duration, p Process) bool {
	deadline := time.Now().Add(limit)
	for p.Alive() {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(demoPoll / 10) // pidfd polling would save little here: a human waits
	}
	return true
}
