package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

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

// TestTakeoverLimits: a paused proxy is not taken over from, and what a takeover leaves behind ends at the limit.
func TestTakeoverLimits(t *testing.T) {
	d := StartDemo(t, 1)
	g := newGate(t, d)
	g.drain = "4s"
	g.configure(t, "info")
	first := g.run(t)
	g.holder(t)
	await(t, sqlLimit, "the proxy to know its cluster", func(ctx context.Context) error {
		var one int
		return askOnce(ctx, g.dsn(), "select 1", &one)
	})
	f := g.facts
	f.Database = "walgate"
	console := dial(t, dsn(f, g.addr())+"&default_query_exec_mode=simple_protocol")
	client := dial(t, g.dsn())
	do(t, client, "create table limits (n int)")
	do(t, console, "PAUSE "+g.facts.Database)
	refused := exec.CommandContext(t.Context(), binary, "proxy", "--config", g.config(), "--takeover")
	out, err := refused.CombinedOutput()
	if refused.ProcessState.ExitCode() != 7 || !strings.Contains(string(out), "paused") {
		t.Errorf("takeover from a paused proxy: %v\n%s", err, out)
	}
	do(t, console, "RESUME "+g.facts.Database)
	do(t, client, "insert into limits values (1)")
	if p := g.holder(t); p.pid != first.pid {
		t.Fatalf("process %d holds the takeover socket, want %d", p.pid, first.pid)
	}

	open := dial(t, g.dsn())
	do(t, open, "begin")
	do(t, open, "insert into limits values (2)")
	g.run(t, "--takeover")
	second := g.holder(t, first)
	do(t, client, "insert into limits values (3)")
	gone(t, first)
	for name, conn := range map[string]*pgx.Conn{"idle": client, "open": open} {
		if _, err := conn.Exec(t.Context(), "select 1"); sqlstate(err) != "57P01" && !conn.IsClosed() {
			t.Errorf("the %s session behind the limit: %v", name, err)
		}
	}
	fresh := dial(t, g.dsn())
	if got := ask[string](t, fresh, "select string_agg(n::text, ' ' order by n) from limits"); got != "1 3" {
		t.Errorf("rows %s, want 1 3", got)
	}
	second.signal(syscall.SIGTERM)
	gone(t, second)
}
