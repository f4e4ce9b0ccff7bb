package session

import (
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
)

// TestReadOnlyTransactionIsMoved: what means nothing on a standby takes a read only transaction to the primary, or is
// refused.
func TestReadOnlyTransactionIsMoved(t *testing.T) {
	const lock = "select pg_advisory_xact_lock(1)"
	locked := "T D(" + lock + ") C(SELECT 1) Z(T)"
	simple := func(sql string) []byte { return wire.AppendQuery(nil, sql) }
	tests := []struct {
		name   string
		before []string
		frames []byte
		want   string
		moved  bool
	}{
		{"first", []string{"begin read only"}, simple(lock), locked, true},
		{"behind reads", []string{"begin read only", "select 1", "show work_mem"}, simple(lock), locked, true},
		{"by Parse", []string{"begin read only"}, wiretest.Extended("", lock), "1 2 " + locked, true},
		{"with settings", []string{"set work_mem = '1MB'", "begin read only"}, simple(lock), locked, true},
		{"LISTEN", []string{"begin read only"}, simple("listen a"), "C(LISTEN) Z(T)", true},
		{"one snapshot", []string{"begin isolation level repeatable read read only", "select 1"}, simple(lock), "E(0A000) Z(E)", false},
		{"one snapshot, not taken", []string{"begin isolation level repeatable read read only"}, simple(lock), locked, true},
		{"cursor", []string{"begin read only", "declare c cursor for select 1"}, simple(lock), "E(0A000) Z(E)", false},
		{"savepoint", []string{"begin read only", "savepoint a"}, simple(lock), "E(0A000) Z(E)", false},
		{"SET LOCAL", []string{"begin read only", "set local work_mem = '1MB'"}, simple(lock), "E(0A000) Z(E)", false},
		{"failed", []string{"begin read only", "select fail"}, simple(lock), "E(0A000) Z(E)", false},
		{"in the middle of a group", []string{"begin read only"},
			append(wiretest.Encode(&pgproto3.Parse{Query: "select 1"}), wiretest.Extended("", lock)...), "1 E(0A000) Z(E)", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			for _, sql := range test.before {
				r.query(sql)
			}
			if r.srv == nil || r.srv.Role != replication.RoleStandby {
				t.Fatal("not on the standby")
			}
			r.expect("answer", r.send(test.frames), test.want)
			if moved := r.srv.Role == replication.RolePrimary; moved != test.moved {
				t.Errorf("moved: %v, want %v", moved, test.moved)
			}
			if test.moved {
				pg := r.servers[r.srv]
				if pg.Log[len(pg.Log)-2] != test.before[0] && pg.Log[len(pg.Log)-2] != "begin read only" {
					t.Errorf("the primary ran %q", pg.Log)
				}
				if test.name == "with settings" {
					r.expect("settings", pg.SettingsText(), "work_mem=1MB")
				}
				r.expect("goes on", r.query("select 2"), "T D(select 2) C(SELECT 1) Z(T)")
			}
			want := "C(COMMIT) Z(I)"
			if !test.moved {
				want = "C(ROLLBACK) Z(I)"
			}
			r.expect("ends", r.query("commit"), want)
			r.query("unlisten *")
			if r.srv != nil {
				t.Error("server kept")
			}
		})
	}
	t.Run("pipelined behind BEGIN", func(t *testing.T) {
		r := newRig(t)
		r.expect("both", r.send(append(simple("begin read only"), simple(lock)...)), "C(BEGIN) Z(T) "+locked)
	})
	t.Run("no primary in time", func(t *testing.T) {
		r := newRig(t)
		r.query("begin read only")
		r.refuse = true
		r.query(lock)
		r.now = r.armAt
		r.handle(&Event{Kind: Deadline})
		r.expect("told", r.told(), "E(57P03) Z(E)")
		r.refuse = false
		r.expect("failed", r.query("select 1"), "E(25P02) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
		r.expect("goes on", r.query("select 1"), "T D(select 1) C(SELECT 1) Z(I)")
	})
	t.Run("the primary dies", func(t *testing.T) {
		r := newRig(t)
		r.query("begin read only")
		r.hold = true
		r.query(lock)
		r.hold = false
		r.die()
		r.expect("told", r.told(), "E(40001) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
	})
	t.Run("cancelled while it waits", func(t *testing.T) {
		r := newRig(t)
		r.query("begin read only")
		r.refuse = true
		r.send(wiretest.Extended("", lock))
		r.handle(&Event{Kind: CancelRequested})
		r.expect("told", r.told(), "E(57014) Z(E)")
		r.refuse = false
		r.expect("ends", r.query("commit"), "C(ROLLBACK) Z(I)")
	})
}
