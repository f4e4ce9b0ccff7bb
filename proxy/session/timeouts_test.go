package session

import (
	"testing"
	"time"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
)

// after lets time pass and sends a Tick, as drivers do.
func (r *rig) after(d time.Duration) string {
	r.now = r.now.Add(d)
	r.gate.Set(replication.Grant{Epoch: r.view.Load().Epoch, Deadline: r.now.Add(time.Hour)})
	r.handle(&Event{Kind: Tick})
	return r.told()
}

func TestQueryTimeout(t *testing.T) {
	limits := Timeouts{Query: 10 * time.Second, CancelGrace: 5 * time.Second}
	t.Run("cancelled", func(t *testing.T) {
		r := newRig(t)
		r.limit(limits)
		r.hold = true
		r.query("select pg_sleep(100)")
		r.expect("in time", r.after(9*time.Second), "")
		r.expect("late", r.after(time.Second), "")
		if r.cancels != 1 {
			t.Errorf("%d cancels, want 1", r.cancels)
		}
		r.expect("cancelled", r.scripted(failure("57014"), ready('I')), "E(57014) Z(I)")
		r.hold = false
		r.expect("goes on", r.query("select 1"), "T D(select 1) C(SELECT 1) Z(I)")
	})
	t.Run("the next statement has its own time", func(t *testing.T) {
		r := newRig(t)
		r.limit(limits)
		r.query("begin")
		r.after(time.Minute)
		r.hold = true
		r.query("select 1")
		r.after(9 * time.Second)
		r.scripted(tag("SELECT 1"), ready('T'))
		r.query("select 2")
		r.after(9 * time.Second)
		if r.cancels != 0 {
			t.Errorf("%d cancels, want 0", r.cancels)
		}
	})
	t.Run("the server does not answer", func(t *testing.T) {
		r := newRig(t)
		r.limit(limits)
		r.hold = true
		r.query("select 1")
		r.after(10 * time.Second)
		r.expect("grace", r.after(5*time.Second), "E(57014) Z(I)")
		r.expectTrail("need read", "attach standby", "discard")
		r.backlog, r.hold = nil, false
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
		r.hold = true
		r.query("insert 2")
		r.after(10 * time.Second)
		r.expect("may be done", r.after(5*time.Second), "E(08007) Z(I)")
	})
	t.Run("a COMMIT is let be", func(t *testing.T) {
		r := newRig(t)
		r.limit(limits)
		r.query("begin")
		r.query("insert 1")
		r.hold = true
		r.query("commit")
		r.expect("waits", r.after(time.Hour)+r.after(time.Hour), "")
		if r.cancels != 0 {
			t.Errorf("%d cancels, want 0", r.cancels)
		}
	})
}

func TestTransactionTimeouts(t *testing.T) {
	tests := []struct {
		name     string
		limits   Timeouts
		sql      []string
		pause    time.Duration
		told     string
		discards bool
	}{
		{"transaction", Timeouts{Transaction: time.Minute}, []string{"begin", "insert 1"}, time.Minute, "E(25P04)", true},
		{"no transaction", Timeouts{Transaction: time.Minute}, []string{"insert 1"}, time.Hour, "", false},
		{"idle in transaction", Timeouts{IdleInTransaction: time.Minute}, []string{"begin"}, time.Minute, "E(25P03)", true},
		{"idle in failed transaction", Timeouts{IdleInTransaction: time.Minute}, []string{"begin", "select fail"}, time.Minute,
			"E(25P03)", true},
		{"not idle for long", Timeouts{IdleInTransaction: time.Minute}, []string{"begin"}, 59 * time.Second, "", false},
		{"idle", Timeouts{ClientIdle: time.Minute}, []string{"select 1"}, time.Minute, "E(57P05)", false},
		{"idle and pinned", Timeouts{ClientIdle: time.Minute}, []string{"listen x"}, time.Minute, "E(57P05)", true},
		{"idle in a transaction only", Timeouts{ClientIdle: time.Minute}, []string{"begin"}, time.Hour, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.limit(test.limits)
			for _, sql := range test.sql {
				r.query(sql)
			}
			r.trail = nil
			r.expect("told", r.after(test.pause), test.told)
			if r.closed != (test.told != "") {
				t.Errorf("closed: %v", r.closed)
			}
			if discards := len(r.trail) > 0; discards != test.discards {
				t.Errorf("trail %v", r.trail)
			}
		})
	}
}

func TestQueryWait(t *testing.T) {
	r := newRig(t)
	r.limit(Timeouts{QueryWait: 2 * time.Minute, QueryWaitNotify: 5 * time.Second})
	r.refuse = true
	r.query("insert 1")
	r.expect("soon", r.after(4*time.Second), "")
	r.expect("notice", r.after(time.Second), "N(00000)")
	r.expect("once", r.after(20*time.Second), "")
	r.now = r.now.Add(10 * time.Second)
	r.handle(&Event{Kind: Deadline}) // hold_timeout is not meant for this
	r.expect("longer than hold_timeout", r.told(), "")
	r.expect("in vain", r.after(2*time.Minute), "E(53300) Z(I)")
	r.need, r.refuse = nil, false
	r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")

	// While there is no primary, it is hold_timeout that counts.
	r = newRig(t)
	r.limit(Timeouts{QueryWait: 10 * time.Second})
	view := *r.view.Load()
	view.Open = false
	r.setView(view)
	r.query("insert 1")
	r.expect("held", r.after(20*time.Second), "")
	r.now = r.now.Add(10 * time.Second)
	r.handle(&Event{Kind: Deadline})
	r.expect("hold_timeout", r.told(), "E(57P03) Z(I)")
}

// Nothing follows a cancel to the server before its signal can't come any more.
func TestCommitWaitsForCancel(t *testing.T) {
	r := newRig(t)
	r.slowCancel = true
	r.query("begin")
	r.hold = true
	r.query("select 1")
	r.handle(&Event{Kind: CancelRequested})
	r.expect("answered all the same", r.scripted(tag("SELECT 1"), ready('T')), "C(SELECT 1) Z(T)")
	r.hold, r.backlog = false, nil
	r.expect("waits", r.query("commit"), "")
	r.handle(&Event{Kind: CancelDone})
	r.expect("goes on", r.told(), "C(COMMIT) Z(I)")

	r.slowCancel, r.trail = true, nil
	r.query("begin")
	r.hold = true
	r.query("select 1")
	r.handle(&Event{Kind: CancelRequested})
	r.scripted(tag("SELECT 1"), ready('T'))
	r.hold, r.backlog = false, nil
	r.query("commit")
	r.now = r.now.Add(cancelTime)
	r.gate.Set(replication.Grant{Epoch: 1, Deadline: r.now.Add(time.Hour)})
	r.handle(&Event{Kind: Deadline})
	r.expect("never heard of", r.told(), "E(40001) Z(I)")
}

func TestSessionPooling(t *testing.T) {
	start := func(t *testing.T) *rig {
		r := newRig(t)
		r.cfg.ResetQuery = "DISCARD ALL"
		r.s.mode = PoolSession
		r.query("set work_mem = '1MB'")
		r.query("listen x")
		r.query("select 1")
		r.expectTrail("need write", "attach primary")
		return r
	}
	terminate := wire.AppendEmpty(nil, 'X')
	t.Run("leaves cleanly", func(t *testing.T) {
		r := start(t)
		r.send(terminate)
		r.expectTrail("release")
		pg := r.servers[r.idle[0]]
		if last := pg.Log[len(pg.Log)-1]; last != "DISCARD ALL" || pg.SettingsText() != "" {
			t.Errorf("last statement %q, settings %q", last, pg.SettingsText())
		}
		if f := r.idle[0]; f.settings != nil || len(f.statements.byName) != 0 {
			t.Errorf("facts %+v", f)
		}
	})
	t.Run("the reset fails", func(t *testing.T) {
		r := start(t)
		r.cfg.ResetQuery = "select fail"
		r.send(terminate)
		r.expectTrail("discard")
	})
	t.Run("the reset leaves a pin", func(t *testing.T) {
		r := start(t)
		r.cfg.ResetQuery = "RESET ALL"
		r.send(terminate)
		r.expectTrail("discard")
	})
	t.Run("in a transaction", func(t *testing.T) {
		r := start(t)
		r.query("begin")
		r.send(terminate)
		r.expectTrail("discard")
	})
	t.Run("without a word", func(t *testing.T) {
		r := start(t)
		r.handle(&Event{Kind: Closed, Side: Client})
		r.expectTrail("discard")
	})
}

func TestStatementPooling(t *testing.T) {
	begin := func(r *rig) {
		r.s.mode = PoolStatement
	}
	tests := []struct {
		name string
		send func(r *rig) string
		want string
	}{
		{"begin", func(r *rig) string { return r.query("begin") }, "E(0A000) Z(I)"},
		{"start", func(r *rig) string { return r.query("start transaction read only") }, "E(0A000) Z(I)"},
		{"among others", func(r *rig) string { return r.query("select 1; begin; select 2; commit") }, "E(0A000) Z(I)"},
		{"pipelined", func(r *rig) string {
			return r.send(append(wire.AppendQuery(nil, "insert 1"), wire.AppendQuery(nil, "begin")...))
		}, "C(INSERT) Z(I) E(0A000) Z(I)"},
		{"extended", func(r *rig) string { return r.send(wiretest.Extended("", "begin")) }, "E(0A000) Z(I)"},
		{"named", func(r *rig) string { return r.send(wiretest.Extended("a", "begin")) }, "E(0A000) Z(I)"},
		{"a group is one unit", func(r *rig) string { return r.send(wiretest.Extended("", "insert 1")) }, "1 2 n C(INSERT) Z(I)"},
		{"others go on", func(r *rig) string { return r.query("insert 1; insert 2") }, "C(INSERT) C(INSERT) Z(I)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			begin(r)
			r.expect("told", test.send(r), test.want)
			r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
			if r.srv != nil {
				t.Error("the server is kept")
			}
		})
	}
	t.Run("hidden", func(t *testing.T) {
		r := newRig(t)
		begin(r)
		r.hold = true
		r.query("call opens()")
		r.expect("told", r.scripted(tag("CALL"), ready('T')), "C(CALL) E(0A000)")
		r.expectTrail("need write", "attach primary", "discard")
	})
}
