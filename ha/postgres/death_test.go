package postgres

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/ha/postgres/guard"
	"github.com/walgate/walgate/replication/boottime"
)

// busy makes a backend that commits in a loop and never looks at its client, and returns its pid.
func busy(t *testing.T, i *Instance) int {
	t.Helper()
	i.sql(t, `CREATE TABLE IF NOT EXISTS b (i int);
		CREATE OR REPLACE PROCEDURE spin() LANGUAGE plpgsql AS 'BEGIN LOOP INSERT INTO b VALUES (1); COMMIT; END LOOP; END'`)
	conn := i.session(t)
	pid := int(conn.PID())
	done := make(chan struct{})
	go func() { // ends when the backend is dead, before the test does
		defer close(done)
		_, _ = conn.Exec(context.Background(), "CALL spin()").ReadAll()
	}()
	t.Cleanup(func() { <-done })
	eventually(t, "the backend writes", func() bool { return i.sql(t, "SELECT count(*) > 100 FROM b") == "t" })
	return pid
}

func processes(t *testing.T, i *Instance) int {
	t.Helper()
	found, err := guard.Find(i.cfg.DataDir)
	must(t, err)
	return len(found)
}

// bootSmall makes a primary for a test that kills it.
func bootSmall(t *testing.T) *Instance {
	t.Helper()
	i := newInstance(t, "n1")
	ctx := limit(t, time.Minute)
	must(t, i.Initdb(ctx))
	must(t, i.Start(ctx, StartOptions{}))
	if _, err := i.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	return i
}

func TestKillWhole(t *testing.T) {
	i := bootSmall(t)
	ctx := limit(t, time.Minute)
	one, two := busy(t, i), busy(t, i)
	must(t, syscall.Kill(one, syscall.SIGSTOP))
	eventually(t, "a stopped process is seen", func() bool {
		s, err := i.Stuck()
		must(t, err)
		return s.Stopped == 1 && !s.Postmaster
	})
	must(t, i.KillWhole(ctx))
	if n := processes(t, i); n != 0 {
		t.Fatalf("%d processes are left", n)
	}
	for _, pid := range []int{one, two} {
		if p, err := guard.ReadProcess(pid); err == nil && p.Name == "postgres" {
			t.Errorf("backend %d lives: %+v", pid, p)
		}
	}
	if life := i.Processes().Load(); life.Postmaster != 0 {
		t.Errorf("news after the kill: %+v", life)
	}
	must(t, i.KillWhole(ctx)) // again
	must(t, i.Start(ctx, StartOptions{}))
}

// The postmaster alone is killed: backends that go on committing must not survive it.
func TestPostmasterDies(t *testing.T) {
	i := bootSmall(t)
	busy(t, i)
	before := i.Processes().Load()
	must(t, syscall.Kill(before.Postmaster, syscall.SIGKILL))
	ctx := limit(t, 20*time.Second)
	life, err := i.Processes().Wait(ctx, func(p Processes) bool { return p.Fenced > before.Fenced })
	if err != nil {
		t.Fatalf("no proof of death: %v, %+v", err, life)
	}
	if n := processes(t, i); n != 0 || life.Postmaster != 0 {
		t.Fatalf("%d processes are left, news %+v", n, life)
	}
}

func TestGuardKillsAtDeadline(t *testing.T) {
	i := bootSmall(t)
	busy(t, i)
	ctx := limit(t, time.Minute)
	at := boottime.Now().Add(time.Second)
	must(t, i.Arm(ctx, Deadline{Epoch: 3, Nonce: "a", At: at}))
	if err := i.Arm(ctx, Deadline{Epoch: 2, Nonce: "a", At: at}); !errors.Is(err, guard.ErrStale) {
		t.Errorf("armed for an earlier epoch: %v", err)
	}
	must(t, i.Arm(ctx, Deadline{Epoch: 3, Nonce: "a", At: at.Add(500 * time.Millisecond)})) // renewed
	before := i.Processes().Load()
	_, err := i.Processes().Wait(ctx, func(p Processes) bool { return p.Fenced > before.Fenced })
	must(t, err)
	if late := boottime.Now().Sub(at.Add(500 * time.Millisecond)); late < 0 || late > 2*time.Second {
		t.Errorf("killed %s after the deadline", late)
	}
	if n := processes(t, i); n != 0 {
		t.Fatalf("%d processes are left", n)
	}
}

// A guard that was stopped over its deadline kills when it goes on, and accepts no renewal that waited meanwhile.
func TestGuardStoppedOverDeadline(t *testing.T) {
	i := bootSmall(t)
	ctx := limit(t, time.Minute)
	at := boottime.Now().Add(400 * time.Millisecond)
	must(t, i.Arm(ctx, Deadline{Epoch: 3, Nonce: "a", At: at}))
	life := i.Processes().Load()
	must(t, syscall.Kill(life.Guard, syscall.SIGSTOP))
	eventually(t, "the deadline has passed", func() bool { return !boottime.Now().Before(at) })
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if err := i.Arm(short, Deadline{Epoch: 3, Nonce: "a", At: boottime.Now().Add(time.Hour)}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a stopped guard answered: %v", err)
	}
	must(t, syscall.Kill(life.Guard, syscall.SIGCONT))
	_, err := i.Processes().Wait(ctx, func(p Processes) bool { return p.Fenced > life.Fenced })
	must(t, err)
	if n := processes(t, i); n != 0 {
		t.Fatalf("%d processes are left", n)
	}
}

// KillWhole does not depend on a guard that is frozen.
func TestKillWholeWithStoppedGuard(t *testing.T) {
	i := bootSmall(t)
	busy(t, i)
	must(t, syscall.Kill(i.Processes().Load().Guard, syscall.SIGSTOP))
	must(t, i.KillWhole(limit(t, 20*time.Second)))
	if n := processes(t, i); n != 0 {
		t.Fatalf("%d processes are left", n)
	}
	_, err := i.Processes().Wait(limit(t, 20*time.Second), func(p Processes) bool { return p.Guard == 0 })
	must(t, err)
	must(t, i.Start(limit(t, time.Minute), StartOptions{}))
}

// The death of the guard is the end of the instance.
func TestGuardDies(t *testing.T) {
	i := bootSmall(t)
	backend := busy(t, i)
	must(t, syscall.Kill(backend, syscall.SIGSTOP)) // it would not even see the postmaster's SIGQUIT
	before := i.Processes().Load()
	must(t, syscall.Kill(before.Guard, syscall.SIGKILL))
	life, err := i.Processes().Wait(limit(t, 20*time.Second), func(p Processes) bool { return p.Fenced > before.Fenced })
	if err != nil {
		t.Fatalf("no proof of death: %v, %+v", err, life)
	}
	if n := processes(t, i); n != 0 || life.Guard != 0 || life.Postmaster != 0 {
		t.Fatalf("%d processes are left, news %+v", n, life)
	}
	must(t, i.Start(limit(t, time.Minute), StartOptions{}))
}

// An agent is killed: the guard keeps PostgreSQL until the deadline and kills it then. A new agent that comes in time
// attaches, and renews.
func TestAgentDies(t *testing.T) {
	for name, renew := range map[string]bool{"nobody comes": false, "a new agent comes in time": true} {
		t.Run(name, func(t *testing.T) {
			i := newInstance(t, "n1")
			ctx := limit(t, time.Minute)
			must(t, i.Initdb(ctx))
			limit := 4 * time.Second
			state, agent := startAgent(t, i, limit)
			must(t, agent.Process.Kill())
			_ = agent.Wait()
			if p, err := guard.ReadProcess(state.Postmaster); err != nil || p.StartTime != state.StartTime {
				t.Fatalf("PostgreSQL died with its agent: %v", err)
			}
			if renew {
				life, err := i.Attach(ctx)
				must(t, err)
				if life.Guard != state.Guard || life.Postmaster != state.Postmaster || life.Deadline.Epoch != 7 {
					t.Fatalf("attached to %+v, was %+v", life, state)
				}
				must(t, i.Arm(ctx, Deadline{Epoch: 7, Nonce: "new", At: boottime.Now().Add(time.Hour)}))
				must(t, i.Disarm(ctx, "paused"))
				must(t, i.Start(ctx, StartOptions{})) // running: nothing changes
				if _, err := i.Status(ctx); err != nil {
					t.Fatal(err)
				}
				if again := i.Processes().Load(); again.Postmaster != state.Postmaster {
					t.Fatalf("another postmaster: %+v", again)
				}
				return
			}
			w, err := guard.NewWatch(state.Guard, 0)
			must(t, err)
			defer w.Close()
			select {
			case <-w.Done(): // it kills, and leaves after its linger
			case <-ctx.Done():
				t.Fatal("the guard is still there")
			}
			if n := processes(t, i); n != 0 {
				t.Fatalf("%d processes are left", n)
			}
		})
	}
}

// startAgent runs an agent in a process of its own, which starts the instance and arms the guard once.
func startAgent(t *testing.T, i *Instance, limit time.Duration) (guard.State, *exec.Cmd) {
	t.Helper()
	agent := exec.Command(os.Args[0], "agent", i.cfg.DataDir[:len(i.cfg.DataDir)-len("/data")], strconv.Itoa(i.cfg.Port), limit.String())
	out, err := agent.StdoutPipe()
	must(t, err)
	agent.Stderr = t.Output()
	must(t, agent.Start())
	t.Cleanup(func() { _ = agent.Process.Kill() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "armed\n" {
		t.Fatalf("the agent said %q: %v", line, err)
	}
	c, err := guard.Dial(t.Context(), i.cfg.RunDir+"/guard.sock")
	must(t, err)
	defer c.Close()
	return c.State(), agent
}

// Processes that a dead guard left behind, of which no new agent is the ancestor, are found and killed.
func TestLeftoversOfNobody(t *testing.T) {
	i := newInstance(t, "n1")
	ctx := limit(t, time.Minute)
	must(t, i.Initdb(ctx))
	state, agent := startAgent(t, i, time.Hour)
	found, err := guard.Find(i.cfg.DataDir)
	must(t, err)
	for _, p := range found {
		if p.PID != state.Postmaster {
			must(t, syscall.Kill(p.PID, syscall.SIGSTOP)) // they cannot follow the postmaster's order to end
		}
	}
	must(t, agent.Process.Kill())
	_ = agent.Wait()
	must(t, unix.Kill(state.Guard, syscall.SIGKILL))
	eventually(t, "the guard is gone", func() bool {
		p, err := guard.ReadProcess(state.Guard)
		if err == nil && p.State == 'Z' && p.Parent == os.Getpid() {
			_, _ = unix.Wait4(state.Guard, nil, unix.WNOHANG, nil)
		}
		return err != nil || p.State == 'Z'
	})
	if err := i.Start(ctx, StartOptions{}); !errors.Is(err, ErrUnguarded) {
		t.Fatalf("started beside leftovers: %v", err)
	}
	must(t, i.KillWhole(ctx))
	must(t, i.Start(ctx, StartOptions{}))
}
