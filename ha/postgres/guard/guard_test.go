package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/walgate/walgate/replication/boottime"
)

// TestMain lets the test's executable be a guard.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "guard" {
		if err := Run(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// stubborn is a postmaster that ignores polite signals and leaves an orphan in a session of its own.
const stubborn = `trap '' TERM INT QUIT HUP; setsid sh -c 'trap "" TERM INT QUIT; echo $$ > "$0/orphan.new"; mv "$0/orphan.new" "$0/orphan"; while :; do sleep 100; done' "$1" & ` +
	`while :; do sleep 100; done`

func spawn(t *testing.T) (*Client, string) {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := Spawn(ctx, SpawnOptions{
		Command: []string{os.Args[0], "guard"}, Socket: filepath.Join(dir, "g"), Lock: filepath.Join(dir, "lock"),
		Linger: 200 * time.Millisecond, LogFile: filepath.Join(dir, "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWatch(c.PID(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = c.Kill(ctx, "the test ends")
		c.Close()
		select {
		case <-w.Done(): // its linger ends it
		case <-ctx.Done():
			t.Error("the guard does not leave")
			_ = syscall.Kill(c.PID(), syscall.SIGKILL)
		}
		w.Close()
	})
	return c, dir
}

// start runs the stubborn postmaster and returns the pid of its orphan-to-be.
func start(t *testing.T, c *Client, dir string) int {
	t.Helper()
	err := c.Start(t.Context(), Spec{
		Path: "/bin/sh", Args: []string{"sh", "-c", stubborn, "sh", dir}, Env: []string{"PATH=/usr/bin:/bin"}, Dir: "/",
		LogFile: filepath.Join(dir, "postmaster.log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		content, err := os.ReadFile(filepath.Join(dir, "orphan"))
		if err == nil {
			var pid int
			if _, err := fmt.Sscan(string(content), &pid); err != nil {
				t.Fatal(err)
			}
			return pid
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the postmaster's child did not come up")
		}
	}
}

// proof waits for the guard's word that nothing is left.
func proof(t *testing.T, c *Client, before uint64) State {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case s, ok := <-c.News():
			if !ok {
				t.Fatal("the guard left")
			}
			if s.Proofs > before {
				return s
			}
		case <-limit:
			t.Fatalf("no proof of death: %+v", c.State())
		}
	}
}

func gone(pid int) bool {
	p, err := ReadProcess(pid)
	return err != nil || p.State == 'Z'
}

func TestKillReachesOtherSessions(t *testing.T) {
	c, dir := spawn(t)
	orphan := start(t, c, dir)
	if err := c.Start(t.Context(), Spec{}); !errors.Is(err, ErrOccupied) {
		t.Errorf("a second postmaster: %v", err)
	}
	if err := c.Quit(t.Context()); !errors.Is(err, ErrOccupied) {
		t.Errorf("quit beside a postmaster: %v", err)
	}
	if err := c.Kill(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	if s := c.State(); s.Postmaster != 0 || s.Remaining || s.Proofs != 1 || !gone(orphan) {
		t.Errorf("after the kill: %+v, orphan gone: %t", s, gone(orphan))
	}
	if err := c.Signal(t.Context(), syscall.SIGHUP); !errors.Is(err, ErrIdle) {
		t.Errorf("signal to nobody: %v", err)
	}
}

func TestPostmasterEnds(t *testing.T) {
	c, dir := spawn(t)
	orphan := start(t, c, dir)
	if err := syscall.Kill(c.State().Postmaster, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := proof(t, c, 0); !gone(orphan) || s.LastExit != "killed by signal killed" {
		t.Errorf("state %+v, orphan gone: %t", s, gone(orphan))
	}
}

func TestDeadline(t *testing.T) {
	c, dir := spawn(t)
	orphan := start(t, c, dir)
	later := boottime.Now().Add(time.Hour)
	if err := c.Arm(t.Context(), Deadline{}); !errors.Is(err, ErrRequest) {
		t.Errorf("armed without a deadline: %v", err)
	}
	for _, step := range []struct {
		d    Deadline
		want error
	}{
		{Deadline{Epoch: 5, Nonce: "a", At: later}, nil},
		{Deadline{Epoch: 4, Nonce: "b", At: later}, ErrStale},
		{Deadline{Epoch: 6, Nonce: "b", At: later}, nil},
	} {
		if err := c.Arm(t.Context(), step.d); !errors.Is(err, step.want) {
			t.Errorf("arm %+v: %v, want %v", step.d, err, step.want)
		}
	}
	if err := c.Disarm(t.Context(), "paused"); err != nil {
		t.Fatal(err)
	}
	if err := c.Arm(t.Context(), Deadline{Epoch: 5, Nonce: "a", At: later}); !errors.Is(err, ErrStale) {
		t.Errorf("an earlier epoch after disarm: %v", err)
	}
	// A deadline that has passed kills at once.
	if err := c.Arm(t.Context(), Deadline{Epoch: 6, Nonce: "b", At: boottime.Now() - 1}); !errors.Is(err, ErrPassed) {
		t.Errorf("a passed deadline: %v", err)
	}
	if s := proof(t, c, 0); !gone(orphan) || s.Deadline.Armed() || s.LastKill != "the deadline passed" {
		t.Errorf("state %+v, orphan gone: %t", s, gone(orphan))
	}
	// Without an instance it kills nothing, the next one least of all.
	if err := c.Arm(t.Context(), Deadline{Epoch: 6, Nonce: "b", At: boottime.Now() - 1}); !errors.Is(err, ErrPassed) {
		t.Errorf("a passed deadline without an instance: %v", err)
	}
	start(t, c, dir)
	if s, err := c.Refresh(t.Context()); err != nil || s.Deadline.Armed() || !s.Remaining {
		t.Errorf("state of the next instance: %+v, %v", s, err)
	}
}

func TestNewestAgentCounts(t *testing.T) {
	c, dir := spawn(t)
	start(t, c, dir)
	second, err := Dial(t.Context(), filepath.Join(dir, "g"))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	d := Deadline{Epoch: 1, Nonce: "x", At: boottime.Now().Add(time.Hour)}
	if err := second.Arm(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := c.Arm(t.Context(), d); !errors.Is(err, ErrStale) {
		t.Errorf("the older agent armed: %v", err)
	}
	if err := c.Kill(t.Context(), "anyone may fence"); err != nil {
		t.Errorf("the older agent could not kill: %v", err)
	}
}

func TestGuardSurvivesSignals(t *testing.T) {
	c, dir := spawn(t)
	start(t, c, dir)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT} {
		if err := syscall.Kill(c.PID(), sig); err != nil {
			t.Fatal(err)
		}
	}
	if s, err := c.Refresh(t.Context()); err != nil || s.Postmaster == 0 {
		t.Errorf("after signals: %+v, %v", s, err)
	}
}

func TestOnlyOneGuard(t *testing.T) {
	_, dir := spawn(t)
	err := Run(t.Context(), []string{"--socket", filepath.Join(dir, "h"), "--lock", filepath.Join(dir, "lock"), "--linger", "1s"})
	if err == nil {
		t.Error("a second guard stood")
	}
	if _, err := Dial(t.Context(), filepath.Join(dir, "h")); !errors.Is(err, ErrNoGuard) {
		t.Errorf("dial where nobody listens: %v", err)
	}
	if err := Run(t.Context(), nil); err == nil {
		t.Error("a guard without arguments stood")
	}
}

func TestWatchTellsOfTheDead(t *testing.T) {
	w, err := NewWatch(1<<22-1, 0) // above every pid_max that is in use
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	select {
	case <-w.Done():
	case <-time.After(10 * time.Second):
		t.Error("a process that is not there lives")
	}
	self, err := NewWatch(os.Getpid(), 12345) // another start time: another process
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	select {
	case <-self.Done():
	case <-time.After(10 * time.Second):
		t.Error("a number that was reused counts as the old process")
	}
}
