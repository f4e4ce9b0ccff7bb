package app_test

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/walgate/walgate/cmd/walgate/app"
)

// startSleeper starts a process that lives until it is signalled.
func startSleeper(t *testing.T) (*exec.Cmd, app.Process) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sleep", "600")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill() // it may be gone
		_ = command.Wait()
	})
	return command, app.FindProcess(command.Process.Pid)
}

func TestProcessIsNamedByItsStart(t *testing.T) {
	command, p := startSleeper(t)
	if !p.Alive() {
		t.Fatalf("%+v does not live", p)
	}
	another := app.Process{PID: p.PID, Start: p.Start + 1}
	if another.Alive() {
		t.Error("a process with another start time lives")
	}
	if err := another.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a process with another start time: %v", err)
	}
	if !p.Alive() {
		t.Fatal("it was killed under the name of another one")
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal: %v", err)
	}
	_ = command.Wait() // it was killed
	if p.Alive() {
		t.Error("it lives after its end")
	}
	if err := p.Signal(syscall.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after its end: %v", err)
	}
	if (app.Process{}).Alive() {
		t.Error("nobody lives")
	}
}

func TestZombieIsDead(t *testing.T) {
	command := exec.CommandContext(t.Context(), "sh", "-c", "echo; exec true")
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	p := app.FindProcess(command.Process.Pid)
	_, _ = bufio.NewReader(out).ReadString(0) // its end closes the pipe, a moment before it is a zombie
	for p.Alive() {
		_ = p // the kernel is turning it into one
	}
	_ = command.Wait()
}

func TestNodeFacts(t *testing.T) {
	dir := t.TempDir()
	if got, err := app.ReadNodeFacts(dir); err != nil || got != (app.NodeFacts{}) {
		t.Errorf("no file: %+v, %v", got, err)
	}
	command, p := startSleeper(t)
	self := app.FindProcess(os.Getpid())
	if err := app.WriteNodeFacts(dir, app.NodeFacts{Agent: self, Guard: app.Process{PID: self.PID, Start: 1}, Postmaster: p}); err != nil {
		t.Fatal(err)
	}
	got, err := app.ReadNodeFacts(dir)
	if diff := cmp.Diff(app.NodeFacts{Agent: self, Postmaster: p}, got); diff != "" || err != nil {
		t.Errorf("those that live (-want +got): %v\n%s", err, diff)
	}
	_ = command.Process.Kill()
	_ = command.Wait()
	if got, _ = app.ReadNodeFacts(dir); got.Postmaster.PID != 0 {
		t.Errorf("a dead postmaster is shown: %+v", got)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("files left: %v, %v", entries, err)
	}
}
