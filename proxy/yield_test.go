package proxy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy"
)

// TestDrainHasALimit: behind a takeover clients stay, up to the limit of the drain. Then those without a transaction are
// told so and ended, those with one have the time of a shutdown to end it, and the proxy ends.
func TestDrainHasALimit(t *testing.T) {
	s := newSetup(t, func(c *proxy.Config) { c.TakeoverDrain, c.ShutdownGrace = 3*time.Second, 3*time.Second })
	line := func() *leakLine {
		t.Helper()
		l, err := dialLeak(testContext(t), s.url("app", "secret", "app"), nil, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.conn.Close() })
		return l
	}
	say := func(l *leakLine, sql string) string {
		t.Helper()
		said, err := l.exchange(&pgproto3.Query{String: sql})
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		return strings.Join(said, " | ")
	}
	// farewell is what the session is told before its connection ends.
	farewell := func(l *leakLine) (said []string) {
		t.Helper()
		if err := l.conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for {
			m, err := l.front.Receive()
			if err != nil {
				return said
			}
			said = append(said, l.take(m))
		}
	}
	idle, ends, stays := line(), line(), line()
	say(ends, "begin; create table kept (a int)")
	say(stays, "begin; create table lost (a int)")
	began := time.Now()
	s.server.Yield()
	if _, err := dialLeak(testContext(t), s.url("app", "secret", "app"), nil, time.Second); err == nil {
		t.Error("somebody new was let in")
	}
	if got := say(idle, "select 1"); !strings.Contains(got, `row "1"`) {
		t.Errorf("a session of before: %s", got)
	}
	const why = "error FATAL 57P01"
	if said := farewell(idle); len(said) != 1 || !strings.HasPrefix(said[0], why) || time.Since(began) < 3*time.Second {
		t.Errorf("the idle session is told %q after %s, want %s after 3s", said, time.Since(began), why)
	}
	if got := say(ends, "commit"); got != "complete COMMIT | ready I" {
		t.Errorf("COMMIT behind the limit: %s", got)
	}
	for name, l := range map[string]*leakLine{"committed": ends, "open": stays} {
		if said := farewell(l); len(said) != 1 || !strings.HasPrefix(said[0], why) {
			t.Errorf("the session whose transaction is %s is told %q, want %s", name, said, why)
		}
	}
	s.stop()
	eventually(t, "only what was committed", func() bool {
		return value(t, s.straight(t), "select concat(to_regclass('kept'), ' ', to_regclass('lost'))") == "kept "
	})
}

// straight is a connection to PostgreSQL itself.
func (s *setup) straight(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(testContext(t), s.pg.direct("app"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(testContext(t)) })
	return conn
}

// TestNoTakeoverInTheMiddle: what an administrator has begun on the console, a new process would know nothing of.
func TestNoTakeoverInTheMiddle(t *testing.T) {
	s := newSetupWith(t, nil, prometheus.NewRegistry(), func(d *proxy.Deps) { d.Stop = func() {} })
	client := s.connect(t)
	for _, c := range []struct{ begin, end, want string }{
		{"pause", "resume", "the proxy is paused; RESUME it first"}, {"pause app", "resume app", "the proxy is paused; RESUME it first"},
		{"kill", "resume", "the proxy is paused; RESUME it first"},
		{"disable app", "enable app", "a database is disabled; ENABLE it first"}, {"shutdown wait_for_clients", "", "the proxy is shutting down"},
	} {
		if why := s.server.Paused(); why != "" {
			t.Errorf("before %s: %s", c.begin, why)
		}
		if c.end == "" {
			client = s.connect(t) // for which that waits
		}
		s.console(t, c.begin)
		if why := s.server.Paused(); why != c.want {
			t.Errorf("%s: %q, want %q", c.begin, why, c.want)
		}
		if c.end != "" {
			s.console(t, c.end)
		}
	}
	_ = client.Close(testContext(t))
}
