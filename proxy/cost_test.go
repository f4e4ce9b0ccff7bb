package proxy_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/prometheus/client_golang/prometheus"
)

// The steady path of a turn allocates nothing in the proxy, in the simple and in the extended protocol.
func TestTurnsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are not those of the product under the race detector")
	}
	s := newSetup(t, nil)
	tests := []struct {
		name    string
		prepare []pgproto3.FrontendMessage
		turn    []pgproto3.FrontendMessage
	}{
		{"simple", nil, []pgproto3.FrontendMessage{&pgproto3.Query{String: "select 1"}}},
		{"prepared", []pgproto3.FrontendMessage{&pgproto3.Parse{Name: "p", Query: "select 1"}, &pgproto3.Sync{}},
			[]pgproto3.FrontendMessage{
				&pgproto3.Bind{PreparedStatement: "p"}, &pgproto3.Execute{}, &pgproto3.Sync{},
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conn := s.raw(t).conn
			buf := make([]byte, 4096)
			turn := func(message []byte) { oneTurn(t, conn, buf, message) }
			if tt.prepare != nil {
				turn(encode(t, tt.prepare))
			}
			message := encode(t, tt.turn)
			for range 200 {
				turn(message)
			}
			const turns = 5000
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range turns {
				turn(message)
			}
			runtime.ReadMemStats(&after)
			perTurn := float64(after.Mallocs-before.Mallocs) / turns
			t.Logf("%.2f allocations a turn", perTurn)
			if perTurn > 0.5 { // the rest of the process has some too
				t.Errorf("%.2f allocations a turn, want none", perTurn)
			}
		})
	}
}

// oneTurn writes a message and reads up to the end of its answer.
func oneTurn(t *testing.T, conn net.Conn, buf, message []byte) {
	t.Helper()
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	for err == nil && string(buf[n-6:n]) != "Z\x00\x00\x00\x05I" {
		var more int
		more, err = conn.Read(buf[n:])
		n += more
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A write costs as many read and write calls and allocations at session as at eventual: it only leaves a mark. Allocations
// are those of the whole process, with the test's own client and the monitor; so are calls on goroutines, where the
// kernel counts them. The loops count their own.
func TestSessionsWriteAtNoCost(t *testing.T) {
	if raceEnabled {
		t.Skip("allocations are not those of the product under the race detector")
	}
	registry := prometheus.NewRegistry()
	s := newSetupWith(t, nil, registry)
	count := func() int64 { return ownCalls(t) }
	if *loops > 0 {
		count = func() int64 { return loopCalls(t, registry) }
	}
	s.pg.exec(t, "grant pg_monitor to walgate_monitor")
	s.monitored(t)
	mustExec(t, s.connect(t), "create table w (n int)")
	mustExec(t, s.connect(t), "insert into w values (0)")
	const writes = 2000
	buf := make([]byte, 4096)
	message := encode(t, []pgproto3.FrontendMessage{&pgproto3.Query{String: "update w set n = 1"}})
	run := func(level string) (calls, allocations float64) {
		conn := s.raw(t).conn
		oneTurn(t, conn, buf, encode(t, []pgproto3.FrontendMessage{&pgproto3.Query{String: "set walgate.consistency = " + level}}))
		for range 200 {
			oneTurn(t, conn, buf, message)
		}
		var before, after runtime.MemStats
		began := count()
		runtime.ReadMemStats(&before)
		for range writes {
			oneTurn(t, conn, buf, message)
		}
		runtime.ReadMemStats(&after)
		return float64(count()-began) / writes, float64(after.Mallocs-before.Mallocs) / writes
	}
	eventual, _ := run("eventual")
	session, allocations := run("session")
	t.Logf("read and write calls for a write: %.2f at eventual, %.2f at session; %.2f allocations", eventual, session, allocations)
	if eventual < 4 {
		t.Errorf("%.2f calls: two reads and two writes are needed, so they are not counted here any more", eventual)
	}
	// What goes on in the background differs a little; one call more for each write would be 1.
	if session > eventual+0.3 {
		t.Errorf("a write at session takes %.2f calls, one at eventual %.2f", session, eventual)
	}
	if allocations > 0.5 {
		t.Errorf("%.2f allocations for a write at session", allocations)
	}
}

// loopCalls counts the read and write calls of the loops.
func loopCalls(t *testing.T, registry *prometheus.Registry) (calls int64) {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "walgate_proxy_system_calls_total" {
			continue
		}
		for _, m := range family.Metric {
			if name := m.Label[0].GetValue(); name == "read" || name == "write" {
				calls += int64(m.GetCounter().GetValue())
			}
		}
	}
	return calls
}

// ownCalls counts the read and write calls of this process.
func ownCalls(t *testing.T) (calls int64) {
	t.Helper()
	content, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip("SKIPPED: this system does not count calls: ", err)
	}
	for line := range strings.Lines(string(content)) {
		var n int64
		for _, name := range []string{"syscr: %d", "syscw: %d"} {
			if _, err := fmt.Sscanf(line, name, &n); err == nil {
				calls += n
			}
		}
	}
	return calls
}

func encode(t *testing.T, messages []pgproto3.FrontendMessage) []byte {
	t.Helper()
	var b []byte
	for _, m := range messages {
		var err error
		if b, err = m.Encode(b); err != nil {
			t.Fatal(err)
		}
	}
	return b
}
