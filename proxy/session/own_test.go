package session

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// What is answered here reaches no server: not as a setting either.
func TestOwnParameters(t *testing.T) {
	r := newRig(t)
	r.cfg.Defaults = Reads{Level: router.LevelBounded, MaxLag: 10e9, MaxLagBytes: 16 << 20, Fallback: router.FallbackPrimary}
	for _, c := range []struct{ sql, want string }{
		{"show walgate.target", "T D(auto) C(SHOW) Z(I)"},
		{"show walgate.consistency", "T D(bounded) C(SHOW) Z(I)"},
		{"show walgate.fallback", "T D(primary) C(SHOW) Z(I)"},
		{"show walgate.max_lag", "T D(10s, 16777216B) C(SHOW) Z(I)"},
		{"show walgate.tag", "T D() C(SHOW) Z(I)"},
		{"set walgate.target = 'replica'", "C(SET) Z(I)"},
		{"SHOW WALGATE.TARGET", "T D(replica) C(SHOW) Z(I)"},
		{"set walgate.consistency to strong", "C(SET) Z(I)"},
		{"set walgate.max_lag = '500ms'", "C(SET) Z(I)"},
		{"show walgate.max_lag", "T D(500ms, 16777216B) C(SHOW) Z(I)"},
		{"set walgate.max_lag = '10MB'", "C(SET) Z(I)"},
		{"show walgate.max_lag", "T D(10s, 10485760B) C(SHOW) Z(I)"},
		{"set walgate.max_lag = 0", "C(SET) Z(I)"},
		{"show walgate.max_lag", "T D(0) C(SHOW) Z(I)"},
		{"reset walgate.max_lag", "C(RESET) Z(I)"},
		{"show walgate.max_lag", "T D(10s, 16777216B) C(SHOW) Z(I)"},
		{"set walgate.fallback = error", "C(SET) Z(I)"},
		{"set walgate.fallback to default", "C(SET) Z(I)"},
		{"show walgate.fallback", "T D(primary) C(SHOW) Z(I)"},
		{"set walgate.target = 'moon'", "E(22023) Z(I)"},
		{"set walgate.max_lag = '10 parsecs'", "E(22023) Z(I)"},
		{"set walgate.max_lag = '-1s'", "E(22023) Z(I)"},
		{"set walgate.max_lag = ''", "E(22023) Z(I)"},
		{"set walgate.token = 'x'", "E(22023) Z(I)"},
		{"set walgate.token = '1-0/1000'", "C(SET) Z(I)"},
		{"set walgate.route = 'x'", "E(22023) Z(I)"},
		{"set walgate.token = default", "C(SET) Z(I)"},
	} {
		r.expect(c.sql, r.query(c.sql), c.want)
	}
	r.expectTrail()
	r.query("select 1")
	r.expectTrail("need read", "attach standby", "release") // no restore
	if n := r.need; n != nil {
		t.Errorf("need %+v", n)
	}
	if r.asked.Level != router.LevelStrong || r.asked.Target != router.TargetReplica {
		t.Errorf("need %+v", r.asked)
	}
	r.expect("discard", r.query("discard all"), "C(DISCARD ALL) Z(I)")
	r.expect("after", r.query("show walgate.target"), "T D(auto) C(SHOW) Z(I)")
}

func TestOwnParametersExtended(t *testing.T) {
	r := newRig(t)
	run := func(name, sql string) string {
		return r.send(wiretest.Encode(&pgproto3.Parse{Name: name, Query: sql}, &pgproto3.Describe{ObjectType: 'S', Name: name}, &pgproto3.Sync{})) + " / " +
			r.send(wiretest.Encode(&pgproto3.Bind{PreparedStatement: name, ResultFormatCodes: []int16{1}}, &pgproto3.Describe{ObjectType: 'P'},
				&pgproto3.Execute{}, &pgproto3.Sync{}))
	}
	r.expect("SET", run("a", "set walgate.consistency = 'strong'"), "1 t n Z(I) / 2 n C(SET) Z(I)")
	r.expect("SHOW", run("b", "show walgate.consistency"), "1 t T Z(I) / 2 T D(strong) C(SHOW) Z(I)")
	r.expect("SHOW, unnamed", run("", "show walgate.consistency"), "1 t T Z(I) / 2 T D(strong) C(SHOW) Z(I)")
	r.expect("a bad value", run("", "set walgate.target = 'x'"), "1 t n Z(I) / 2 n E(22023) Z(I)")
	again := wiretest.Encode(&pgproto3.Bind{PreparedStatement: "b"}, &pgproto3.Execute{}, &pgproto3.Sync{})
	r.query("set walgate.consistency = 'bounded'")
	r.expect("again, after a change", r.send(again), "2 D(bounded) C(SHOW) Z(I)")
	r.expectTrail()
	// Among others it keeps its place.
	mixed := wiretest.Encode(&pgproto3.Parse{Query: "set walgate.consistency = 'session'"}, &pgproto3.Bind{}, &pgproto3.Execute{},
		&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})
	if got := r.send(mixed); !strings.HasPrefix(got, "1 2 C(SET) 1 2 D(") {
		t.Errorf("mixed: %s", got)
	}
	if r.s.level() != router.LevelSession {
		t.Errorf("level %s", r.s.level())
	}
	r.expect("a name that is taken", r.send(wiretest.Encode(&pgproto3.Parse{Name: "a", Query: "show walgate.tag"}, &pgproto3.Sync{})), "E(42P05) Z(I)")
}

func TestOwnParametersInTransaction(t *testing.T) {
	r := newRig(t)
	r.query("begin")
	r.expect("SET", r.query("set walgate.consistency = 'strong'"), "C(SET) Z(T)")
	r.expect("a bad value", r.query("set walgate.token = 'x'"), "E(22023) Z(E)")
	r.query("rollback")
	if r.s.level() != router.LevelSession {
		t.Errorf("a rollback keeps level %s", r.s.level())
	}
	r.query("begin")
	r.expect("a token", r.query("set walgate.token = '1-0/1000'"), "C(SET) Z(T)")
	r.query("commit")
}

// The standby is chosen by its status: a connection that was opened later may belong to another life of it.
func TestYoungConnection(t *testing.T) {
	r := newRig(t)
	r.attachment.Proof, r.attachment.Status.AskedAt = true, 500
	young := r.newServer(replication.RoleStandby, "s")
	young.Opened = 501
	r.idle = append(r.idle, young)
	r.refuse = true
	r.query("select 1")
	if r.need == nil || r.need.Proven != "" {
		t.Fatalf("need %+v", r.need)
	}
	r.srv, r.need, r.idle = young, nil, nil
	r.handle(&Event{Kind: Attached, Attachment: Attachment{Server: young, Proof: true, Status: replication.Status{AskedAt: 500}}})
	if r.need == nil || r.need.Proven != "s" || r.need.ProvenAfter != 501 {
		t.Fatalf("need %+v", r.need)
	}
	r.expect("nothing is told", r.told(), "")
	r.srv, r.need = young, nil
	r.handle(&Event{Kind: Attached, Attachment: Attachment{Server: young, Proof: true, Status: replication.Status{AskedAt: 501}}})
	if got := r.told(); !strings.HasSuffix(got, "Z(I)") {
		t.Errorf("answer %q", got)
	}
	r.query("select 1")
	if r.need == nil || r.need.Proven != "" {
		t.Errorf("the next need: %+v", r.need)
	}
}

func TestLostWrites(t *testing.T) {
	for _, policy := range []LostWrites{LostNotice, LostError} {
		r := newRig(t)
		r.cfg.LostWrites = policy
		r.attachment.Lost = true
		got, want := r.query("select 1"), "N(01000)"
		if policy == LostError {
			want = "E(40001) Z(I)"
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("policy %d: %s", policy, got)
		}
		r.attachment.Lost = false
		if got := r.query("select 1"); strings.Contains(got, "N(") || strings.Contains(got, "E(") {
			t.Errorf("policy %d, then: %s", policy, got)
		}
		// The token of a write that is gone.
		r.setView(replication.View{Version: 2, Epoch: 2, Primary: "a", Open: true, ForkLSN: 0x100})
		got, want = r.query("set walgate.token = '1-0/101'"), "N(01000) C(SET) Z(I)"
		hint := r.query("/* walgate: token=1-0/101 */ select 1")
		if policy == LostError {
			want = "E(40001) Z(I)"
		}
		r.expect("a lost token", got, want)
		if !strings.HasPrefix(hint, want[:8]) {
			t.Errorf("policy %d, a lost token in a comment: %s", policy, hint)
		}
		r.expect("a token that survived", r.query("set walgate.token = '1-0/100'"), "C(SET) Z(I)")
		if got := r.query("/* walgate: token=nonsense */ select 1"); got != "E(22023) Z(I)" {
			t.Errorf("a malformed token in a comment: %s", got)
		}
	}
}

func TestTokenAtLogin(t *testing.T) {
	r := newRig(t, "walgate.token", "7-0/1000", "options", "-c walgate.max_lag=1s")
	r.query("select 1")
	if n := &r.asked; n.MaxLag != 1e9 || n.Kind != router.Read {
		t.Errorf("need %+v", n)
	}
	req := r.s.consistency.Require(router.LevelSession, r.now, r.view.Load(), &replication.StatusBoard{})
	if !req.PrimaryOnly || !strings.Contains(req.Why, "epoch") {
		t.Errorf("requirement %+v", req)
	}
	refused := newRig(t, "walgate.token", "x")
	if refused.auth != nil || !refused.closed {
		t.Error("a malformed token lets the client log in")
	}
}

// Whoever commits without waiting for the flush needs more than the flush position.
func TestAsyncCommits(t *testing.T) {
	board := replication.StatusBoard{Primary: replication.Sample{Epoch: 1, SentAt: 1 << 40, Flush: 100, Insert: 200}}
	cases := map[string]struct {
		do   []string
		want replication.LSN
	}{
		"default":        {[]string{"insert 1"}, 100},
		"SET":            {[]string{"set synchronous_commit = off", "insert 1"}, 200},
		"SET, then back": {[]string{"set synchronous_commit = off", "insert 1", "set synchronous_commit = on", "insert 1"}, 200},
		"SET LOCAL":      {[]string{"begin", "set local synchronous_commit to off", "insert 1", "commit"}, 200},
		"among others":   {[]string{"begin; set local synchronous_commit to off; insert 1; commit"}, 200},
	}
	for name, c := range cases {
		r := newRig(t)
		for _, sql := range c.do { // the same in the extended protocol
			if !strings.Contains(sql, ";") {
				r.send(wiretest.Encode(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}))
			}
		}
		if got := r.s.consistency.Require(router.LevelSession, r.now, r.view.Load(), &board); got.Token != c.want && name != "among others" {
			t.Errorf("%s, extended: requirement %+v, want token %d", name, got, c.want)
		}
		r = newRig(t)
		for _, sql := range c.do {
			r.query(sql)
		}
		if got := r.s.consistency.Require(router.LevelSession, r.now, r.view.Load(), &board); got.Token != c.want {
			t.Errorf("%s: requirement %+v, want token %d", name, got, c.want)
		}
	}
}

func TestReadsScopes(t *testing.T) {
	r := newRig(t)
	r.cfg.Defaults = Reads{Level: router.LevelBounded, MaxLag: 4, MaxLagBytes: 4, Fallback: router.FallbackPrimary, Wait: 9}
	r.s.rule = &Reads{Target: router.TargetReplica, Level: router.LevelSession, MaxLag: 3}
	r.cfg.Reads = Reads{Level: router.LevelStrong, Fallback: router.FallbackError}
	got, _ := r.s.reads()
	want := Reads{Target: router.TargetReplica, Level: router.LevelStrong, MaxLag: 3, MaxLagBytes: 4, Fallback: router.FallbackError, Wait: 9}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	r.query("set walgate.consistency = 'eventual'")
	r.query("set walgate.tag = 'analytics'")
	r.query("select 1")
	if n := r.asked; n.Level != router.LevelEventual || n.Tag != "analytics" || n.MaxLag != 3 || n.Wait != 9 {
		t.Errorf("need %+v", n)
	}
	r.query("/* walgate: tag=reports consistency=strong */ select 1")
	if n := r.asked; n.Level != router.LevelStrong || n.Tag != "reports" {
		t.Errorf("need %+v", n)
	}
	r.query("begin read only")
	if n := r.asked; n.Kind != router.Read {
		t.Errorf("a read-only block at eventual: %+v", n)
	}
	r.query("commit")
	r.query("set walgate.consistency = 'strong'")
	r.query("begin read only")
	if n := r.asked; n.Kind != router.Write {
		t.Errorf("a read-only block at strong: %+v", n)
	}
}

func TestShowRoute(t *testing.T) {
	r := newRig(t)
	columns, values := r.s.showOwn(ownRoute)
	if len(columns) != len(values) {
		t.Fatalf("%d columns, %d values", len(columns), len(values))
	}
	r.attachment = Attachment{Why: "because", Token: 0x1A, Status: replication.Status{Lag: 2e6, LagBytes: 77}}
	r.query("select 1")
	_, values = r.s.showOwn(ownRoute)
	if want := []string{"read", "s", "standby", "because", "session", "0/1A", "2.000", "77"}; !slices.Equal(values, want) {
		t.Errorf("got %q, want %q", values, want)
	}
	r.query("insert 1")
	if _, values = r.s.showOwn(ownRoute); values[0] != "write" || values[2] != "primary" || values[6] != "" {
		t.Errorf("got %q", values)
	}
	if got := r.query("show walgate.route"); !strings.HasPrefix(got, "T D") || !strings.HasSuffix(got, "C(SHOW) Z(I)") {
		t.Errorf("SHOW: %s", got)
	}
}
