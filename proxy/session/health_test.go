package session

import (
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

func TestHealth(t *testing.T) {
	const second = replication.Instant(time.Second)
	type step struct {
		at   replication.Instant // in seconds
		what string              // fails, well, restored
		want replication.Instant // ejected until, in seconds
	}
	tests := []struct {
		name  string
		after int
		steps []step
	}{
		{"in a row", 3, []step{{1, "fails", 0}, {2, "fails", 0}, {3, "fails", 13}}},
		{"not in a row", 3, []step{{1, "fails", 0}, {2, "fails", 0}, {3, "well", 0}, {4, "fails", 0}, {5, "fails", 0}, {6, "fails", 16}}},
		{"never", 0, []step{{1, "fails", 0}, {2, "fails", 0}}},
		{"at the same time", 1, []step{{1, "fails", 11}, {2, "fails", 11}, {3, "fails", 11}}},
		{"again at once", 3, []step{{1, "fails", 0}, {1, "fails", 0}, {1, "fails", 11}, {12, "fails", 32}, {33, "fails", 73}}},
		{"at most so long", 1, []step{{0, "fails", 10}, {10, "fails", 30}, {30, "fails", 70}, {70, "fails", 150}, {150, "fails", 310},
			{310, "fails", 470}, {470, "fails", 630}}},
		{"well behind it", 2, []step{{1, "fails", 0}, {1, "fails", 11}, {12, "well", 11}, {13, "fails", 11}, {14, "fails", 24}}},
		{"what was under way", 2, []step{{1, "fails", 0}, {1, "fails", 11}, {2, "well", 11}, {12, "fails", 32}}},
		{"restored", 1, []step{{1, "fails", 11}, {3, "restored", 3}, {4, "fails", 14}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := &Health{After: test.after, For: 10 * time.Second}
			for i, s := range test.steps {
				switch s.what {
				case "fails":
					h.Failed(s.at * second)
				case "well":
					h.Well(s.at * second)
				default:
					h.Restore(s.at * second)
				}
				if got := h.EjectedUntil(); got != s.want*second {
					t.Errorf("step %d, %s at %d: ejected until %v, want %d", i, s.what, s.at, got/second, s.want)
				}
			}
		})
	}
	var none *Health
	none.Failed(1)
	none.Well(1)
}

// TestIllness holds which ends of turns on a standby count against it.
func TestIllness(t *testing.T) {
	told := func(severity, code string) []byte {
		m := &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code}
		if severity == "ERROR" {
			return encoded(m, &pgproto3.ReadyForQuery{TxStatus: 'I'})
		}
		return encoded(m)
	}
	tests := []struct {
		name   string
		answer []byte // nil: the connection dies
		ill    bool
	}{
		{"dies", nil, true}, {"is terminated", told("FATAL", "57P01"), true}, {"crashes", told("FATAL", "57P02"), true},
		{"no memory", told("ERROR", "53200"), true}, {"disk full", told("ERROR", "53100"), true}, {"damage", told("ERROR", "XX001"), true},
		{"internal error", told("ERROR", "XX000"), true}, {"a disk that can't be read", told("ERROR", "58030"), true},
		{"a limit of the statement's", told("ERROR", "53400"), false}, {"the client's own error", told("ERROR", "22012"), false},
		{"cancelled", told("ERROR", "57014"), false}, {"a conflict with recovery", told("ERROR", "40001"), false},
		{"a conflict that ends the connection", told("FATAL", "40001"), false}, {"a write", told("ERROR", "25006"), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			m := metered(r)
			m.Health = &Health{After: 1, For: time.Second}
			r.hold = true
			r.deliver(Client, wire.AppendQuery(nil, "select 1"))
			r.hold, r.backlog = false, nil
			if test.answer == nil {
				r.die()
			} else {
				r.fromServer(test.answer)
			}
			if got := m.Health.Ejections() == 1; got != test.ill {
				t.Errorf("counts: %v, want %v", got, test.ill)
			}
			r.told()
			r.expect("the session goes on", r.query("select 2"), "T D(select 2) C(SELECT 1) Z(I)")
		})
	}
	t.Run("on the primary", func(t *testing.T) {
		r := newRig(t)
		m := metered(r)
		m.Health = &Health{After: 1, For: time.Second}
		r.hold = true
		r.deliver(Client, wire.AppendQuery(nil, "update a"))
		r.hold, r.backlog = false, nil
		r.die()
		if m.Health.Ejections() != 0 {
			t.Error("the primary was ejected")
		}
	})
	t.Run("successes between", func(t *testing.T) {
		r := newRig(t)
		m := metered(r)
		m.Health = &Health{After: 2, For: time.Second}
		for range 3 {
			r.hold = true
			r.deliver(Client, wire.AppendQuery(nil, "select 1"))
			r.hold, r.backlog = false, nil
			r.fromServer(told("ERROR", "53200"))
			r.query("select 1")
		}
		if n := m.Health.Ejections(); n != 0 {
			t.Errorf("ejected %d times", n)
		}
	})
}
