package proxy_test

import (
	"runtime"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
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
			turn := func(message []byte) {
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
