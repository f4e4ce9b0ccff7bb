package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestLifecycle takes one demo through everything that people do with it, and loses no acknowledged row on the way.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	d := StartDemo(t, 3)
	d.awaitHealthy(t)
	d.checkPids(t)
	ws := startWriters(t, d, 2)

	t.Run("a second demo beside it", func(t *testing.T) {
		single := StartDemo(t, 1)
		single.awaitHealthy(t)
		conn := dial(t, single.endpoint(t))
		do(t, conn, "create table alone (n int)")
		do(t, conn, "insert into alone values (1)")
		if n := ask[int](t, conn, "select n from alone"); n != 1 {
			t.Errorf("the single node says %d", n)
		}
		do(t, conn, "checkpoint")
		before := single.cluster(t).Epoch
		single.killPostmaster(t, "node1")
		single.awaitOpen(t, before)
		if n := ask[int](t, conn, "select n from alone"); n != 1 {
			t.Errorf("after a crash the single node says %d", n)
		}
		if out := command(t.Context(), verbLimit, "demo", "--detach", "--dir", single.Dir); out.code != 7 {
			t.Errorf("a demo that runs already, started again: %s; want exit code 7", out)
		}
	})
	t.Run("stop and start a standby", func(t *testing.T) {
		c := d.cluster(t)
		name := c.Members[0].Name
		if name == c.primary() {
			name = c.Members[1].Name
		}
		d.stop(t, name)
		if left := named(d.postgresOf(d.node(t, name).DataDir)); left != nil {
			t.Errorf("after demo stop %s: %v", name, left)
		}
		conn := dial(t, d.endpoint(t))
		do(t, conn, "create table while_away (n int)")
		if after := d.cluster(t); after.Epoch != c.Epoch {
			t.Errorf("stopping a standby changed the epoch from %d to %d", c.Epoch, after.Epoch)
		}
		d.start(t, name)
		d.awaitHealthy(t)
	})
	t.Run("stop and start the primary", func(t *testing.T) {
		c := d.cluster(t)
		d.stop(t, c.primary())
		after := d.awaitOpen(t, c.Epoch)
		if after.primary() == c.primary() {
			t.Errorf("the primary is still %s", after.primary())
		}
		d.start(t, c.primary())
		d.awaitHealthy(t)
	})
	if n := ws.errors(); n > 0 {
		t.Errorf("%d errors reached clients while nodes were stopped and started:\n%s", n, ws.errorTexts())
	}
	t.Run("stop and start everything", func(t *testing.T) {
		ws.end()
		d.stop(t)
		if left := named(processesBelow(d.Dir)); left != nil {
			t.Errorf("after demo stop: %v", left)
		}
		d.start(t)
		d.awaitHealthy(t)
		ws.verify(t, d)
	})
	t.Run("kill everything", func(t *testing.T) { testKillEverything(t, d) })
}

// checkPids compares demo.json with /proc.
func (d *Demo) checkPids(t *testing.T) {
	t.Helper()
	for _, n := range d.facts(t).Nodes {
		agent, guard, postmaster := d.agentOf(t, n.Name), d.guardOf(t, n.Name), d.postmasterOf(t, n.Name)
		if postmaster.parent != guard.pid {
			t.Errorf("%s: the parent of the postmaster is %d, not the guard %d", n.Name, postmaster.parent, guard.pid)
		}
		if n.PostmasterPID != postmaster.pid || agent.pid == guard.pid {
			t.Errorf("%s: demo.json says agent %d, guard %d, postmaster %d; the pid file says %d", n.Name, n.PID, n.GuardPID,
				n.PostmasterPID, postmaster.pid)
		}
	}
}

// testKillEverything kills every process of a demo under load and starts its nodes in another order.
func testKillEverything(t *testing.T, d *Demo) {
	d.awaitHealthy(t)
	conn := dial(t, d.endpoint(t))
	do(t, conn, "drop table acked")
	ws := startWriters(t, d, 4)
	await(t, sqlLimit, "writes", func(ctx context.Context) error {
		var n int
		if err := conn.QueryRow(ctx, "select count(*) from acked").Scan(&n); err != nil || n < 500 {
			return fmt.Errorf("%d rows, %w", n, err)
		}
		return nil
	})
	d.checkPids(t) // what is killed below is the demo's
	f := d.facts(t)
	hit(t, syscall.SIGKILL, func() []process { return processesBelow(d.Dir) }, always)
	for _, n := range f.Nodes {
		if left := named(d.postgresOf(n.DataDir)); left != nil {
			t.Fatalf("still there: %v", left)
		}
	}
	var starts sync.WaitGroup
	order := slices.Clone(f.Nodes)
	slices.Reverse(order)
	started := time.Now()
	outcomes := make([]outcome, len(order))
	for i, n := range order {
		// Each returns when its node is well, which takes a majority, so they run side by side.
		starts.Go(func() {
			outcomes[i] = command(t.Context(), startLimit, "demo", "start", "--dir", d.Dir, n.Name)
		})
		await(t, healLimit, "the agent of "+n.Name, func(context.Context) error {
			if _, ok := readProcess(d.node(t, n.Name).PID); !ok {
				return errors.New("it does not run")
			}
			return nil
		})
	}
	starts.Wait()
	for i, o := range outcomes {
		if o.err != nil {
			t.Errorf("demo start %s: %v\n%s", order[i].Name, o.err, o)
		}
	}
	d.start(t) // and the sidecar, if nobody started it
	d.awaitHealthy(t)
	t.Logf("all well %s after everything was killed", time.Since(started).Round(time.Millisecond))
	ws.end()
	ws.verify(t, d)
}

// TestForeground runs a demo that is not detached: Ctrl-C stops it, and its data is there at the next start.
func TestForeground(t *testing.T) {
	t.Parallel()
	requireCluster(t)
	d := StartDemo(t, 1)
	conn := dial(t, d.endpoint(t))
	do(t, conn, "create table kept (n int)")
	d.stop(t)
	cmd := exec.Command(binary, "demo", "--dir", d.Dir)
	cmd.Env = os.Environ()
	b := startProcess(t, cmd)
	await(t, startLimit, "the demo in the foreground", func(ctx context.Context) error {
		if b.running() == nil {
			return fmt.Errorf("it has ended:\n%s", b.output)
		}
		if !strings.Contains(b.output.String(), "Ctrl-C") {
			return fmt.Errorf("it says:\n%s", b.output)
		}
		return nil
	})
	d.awaitHealthy(t)
	again := dial(t, d.endpoint(t))
	if n := ask[int](t, again, "select count(*) from kept"); n != 0 {
		t.Errorf("the table has %d rows", n)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatalf("interrupt: %v", err)
	}
	await(t, verbLimit, "the end of the demo", func(context.Context) error { return b.running() })
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d after Ctrl-C:\n%s", code, b.output)
	}
	if left := named(processesBelow(d.Dir)); left != nil {
		t.Errorf("after Ctrl-C: %v", left)
	}
}
