package session

import (
	"strings"
	"testing"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// TestAsyncDefault: a default of the role or database makes commits asynchronous, as SET does.
func TestAsyncDefault(t *testing.T) {
	for _, test := range []struct {
		name     string
		defaults Defaults
		before   string
		async    bool
	}{
		{"flushed", NewDefaults("on", "notice", "read committed"), "", false},
		{"default", NewDefaults("off", "notice", "read committed"), "", true},
		{"default overruled", NewDefaults("off", "notice", "read committed"), "set synchronous_commit = on", false},
		{"local is flushed", NewDefaults("local", "notice", "read committed"), "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.defaults = test.defaults
			if test.before != "" {
				r.query(test.before)
				r.query("insert 0")
				r.s.consistency = router.Consistency{} // SET itself counts
			}
			r.query("insert 1")
			var want router.Consistency
			want.Touched(r.now, test.async)
			if r.s.consistency != want {
				t.Errorf("got %+v, want %+v", r.s.consistency, want)
			}
		})
	}
}

// TestHiddenWarnings: what may hide that a commit is not confirmed is known, wherever it was set.
func TestHiddenWarnings(t *testing.T) {
	tests := []struct {
		name     string
		defaults Defaults
		before   []string
		hidden   bool
	}{
		{"shown", Defaults{}, nil, false},
		{"setting", Defaults{}, []string{"set client_min_messages = error"}, true},
		{"default", NewDefaults("on", "error", "read committed"), nil, true},
		{"default overruled", NewDefaults("on", "error", "read committed"), []string{"set client_min_messages = warning"}, false},
		{"for the transaction", Defaults{}, []string{"begin", "set local client_min_messages = error"}, true},
		{"for a transaction that is over", Defaults{}, []string{"begin", "set local client_min_messages = error", "commit"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.defaults = test.defaults
			for _, sql := range test.before {
				r.query(sql)
			}
			r.hold = true
			r.query("call p()") // it may commit within
			r.backlog = nil     // the answer to settings is not of interest
			if r.s.preparing {
				r.fromServer(answer(tag("SELECT 1"), ready('I')))
			}
			if _, ok := r.s.CancelTarget(); ok == test.hidden {
				t.Errorf("may be cancelled: %v", ok)
			}
		})
	}
}

// TestRecall: currval and lastval answer for what the session did, or not at all.
func TestRecall(t *testing.T) {
	r := newRig(t)
	r.expect("alone", r.query("select lastval()"), "E(55000) Z(I)")
	r.expect("by Execute", r.send(wiretest.Extended("", "select currval('s')")), "1 2 T E(55000) Z(I)")
	r.query("begin")
	r.expect("in a transaction that has done nothing", r.query("select lastval()"), "E(55000) Z(E)")
	r.query("rollback")
	r.query("begin")
	r.query("insert 1")
	r.expect("behind INSERT", r.query("select lastval()"), "T D(select lastval()) C(SELECT 1) Z(T)")
	r.expect("and by Execute", r.send(wiretest.Extended("", "select currval('s')")), "1 2 T D(select currval('s')) C(SELECT 1) Z(T)")
	r.query("commit")
	r.expect("in another", r.query("select lastval()"), "E(55000) Z(I)")
	if got := r.query("insert 1; select lastval()"); !strings.HasPrefix(got, "C(INSERT)") {
		t.Errorf("in one string: %s", got)
	}
	r.expect("with nextval", r.query("select nextval('s'), currval('s')"), "T D(select nextval('s'), currval('s')) C(SELECT 1) Z(I)")
	r.query("listen x") // pins
	r.query("insert 1")
	r.expect("pinned", r.query("select lastval()"), "T D(select lastval()) C(SELECT 1) Z(I)")
	r = newRig(t)
	r.s.mode = PoolSession
	r.expect("session pooling", r.query("select lastval()"), "T D(select lastval()) C(SELECT 1) Z(I)")
}

// TestRecallAgain: behind nextval outside a transaction, what may advance sequences prefers the same server connection; once
// it had to run on another one, the value of the first may be old and is not told.
func TestRecallAgain(t *testing.T) {
	r := newRig(t)
	other := r.newServer(replication.RolePrimary, "a")
	r.query("select nextval('s')")
	first := r.idle[0]
	for _, sql := range []string{"insert 1", "select currval('s')"} {
		r.idle = []*ServerFacts{first, other}
		r.query(sql)
		if last := r.idle[len(r.idle)-1]; last != first {
			t.Errorf("%s ran on server connection %d, want %d", sql, last.ID, first.ID)
		}
	}
	r.expect("the value", r.query("select currval('s')"), "T D(select currval('s')) C(SELECT 1) Z(I)")
	r.idle = []*ServerFacts{other}
	r.query("select 1 for update")
	r.idle = []*ServerFacts{first, other}
	r.expect("behind a write elsewhere", r.query("select currval('s')"), "E(55000) Z(I)")
}

// TestRoleQuestion: the question by which drivers look for the primary is answered for the endpoint.
func TestRoleQuestion(t *testing.T) {
	needs := func(r *rig, b []byte) string {
		r.trail = nil
		r.send(b)
		return r.trail[0]
	}
	r := newRig(t)
	for sql, want := range map[string]string{
		"select pg_is_in_recovery()": "need write", "SELECT pg_catalog.pg_is_in_recovery() ;\n": "need write",
		"select pg_is_in_recovery() as standby": "need read", "select inet_server_port(), pg_is_in_recovery()": "need read",
		"/* walgate: target=replica */ select pg_is_in_recovery()": "need read",
	} {
		if got := needs(r, wire.AppendQuery(nil, sql)); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
		if got := needs(r, wiretest.Extended("", sql)); got != want {
			t.Errorf("%s, extended: %s, want %s", sql, got, want)
		}
	}
	r.query("set walgate.target = 'replica'")
	if got := needs(r, wire.AppendQuery(nil, "select pg_is_in_recovery()")); got != "need read" {
		t.Errorf("of a session for replicas: %s", got)
	}
}

// TestPingProvesStartup: a ping with an empty query fails if the startup parameters do.
func TestPingProvesStartup(t *testing.T) {
	r := newRig(t, "nonsense", "x")
	r.hold = true
	r.query(";")
	r.backlog, r.hold = nil, false
	r.expect("refused", r.scripted(failure("42704"), ready('I')), "E(42704)")
	if !r.closed {
		t.Error("goes on")
	}
	r = newRig(t, "application_name", "x")
	r.expect("first", r.query(";"), "I Z(I)")
	r.expectTrail("need read", "attach standby", "release")
	r.expect("then", r.query(";"), "I Z(I)")
	r.expectTrail()
}
