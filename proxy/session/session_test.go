package session

import (
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
)

func TestSimpleQueries(t *testing.T) {
	r := newRig(t)
	r.expect("read", r.query("select 1"), "T D(select 1) C(SELECT 1) Z(I)")
	r.expectTrail("need read", "attach standby", "release")
	r.expect("write", r.query("insert into t values (1)"), "C(INSERT) Z(I)")
	r.expectTrail("need write", "attach primary", "release")
	r.expect("empty", r.query(" ; "), "I Z(I)")
	r.expect("error", r.query("update fail"), "E(22012) Z(I)")
	r.expect("begin", r.query("begin"), "C(BEGIN) Z(T)")
	r.expect("in tx", r.query("select 2"), "T D(select 2) C(SELECT 1) Z(T)")
	r.expect("fails", r.query("select fail"), "E(22012) Z(E)")
	r.expect("aborted", r.query("select 3"), "E(25P02) Z(E)")
	r.expect("commit", r.query("commit"), "C(ROLLBACK) Z(I)")
	r.expect("sync alone", r.send(wire.AppendEmpty(nil, 'S')), "Z(I)")
	r.trail = nil
	r.expect("read only tx", r.query("begin read only"), "C(BEGIN) Z(T)")
	r.expect("in it", r.query("select 4"), "T D(select 4) C(SELECT 1) Z(T)")
	r.expect("end", r.query("commit"), "C(COMMIT) Z(I)")
	r.expectTrail("need read", "attach standby", "release")
}

func TestExtended(t *testing.T) {
	r := newRig(t)
	r.expect("unnamed read", r.send(wiretest.Extended("", "select 1")), "1 2 T D(select 1) C(SELECT 1) Z(I)")
	r.expect("unnamed again", r.send(wiretest.Extended("", "")), "2 T D(select 1) C(SELECT 1) Z(I)")
	r.expect("named", r.send(wiretest.Extended("a", "select a")), "1 2 T D(select a) C(SELECT 1) Z(I)")
	r.expect("named again", r.send(wiretest.Extended("a", "")), "2 T D(select a) C(SELECT 1) Z(I)")
	r.expect("duplicate", r.send(wiretest.Extended("a", "select b")), "E(42P05) Z(I)")
	r.expect("after duplicate", r.send(wiretest.Extended("a", "")), "2 T D(select a) C(SELECT 1) Z(I)")
	r.expect("unknown", r.send(wiretest.Extended("nope", "")), "E(26000) Z(I)")
	r.expect("bad text", r.send(wiretest.Extended("bad", "syntax error")), "E(42601) Z(I)")
	r.expect("not installed", r.send(wiretest.Extended("bad", "select ok")), "1 2 T D(select ok) C(SELECT 1) Z(I)")
	r.expect("write", r.send(wiretest.Extended("w", "insert x")), "1 2 n C(INSERT) Z(I)")
	r.expect("close", r.send(wiretest.Encode(&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Sync{})), "3 Z(I)")
	r.expect("closed", r.send(wiretest.Extended("a", "")), "E(26000) Z(I)")
	r.expect("deallocate", r.query("deallocate w"), "C(DEALLOCATE) Z(I)")
	r.expect("deallocated", r.send(wiretest.Extended("w", "")), "E(26000) Z(I)")
	for _, name := range []string{"1", "2", "3", "4", "5", "6"} { // more than a server keeps
		r.send(wiretest.Extended(name, "select "+name))
	}
	for _, name := range []string{"1", "2", "3", "4", "5", "6"} {
		r.expect("evicted "+name, r.send(wiretest.Extended(name, "")), "2 T D(select "+name+") C(SELECT 1) Z(I)")
	}
}

// TestHintOfPrepared: what a prepared statement says of its place holds whenever it is executed.
func TestHintOfPrepared(t *testing.T) {
	r := newRig(t)
	r.send(wiretest.Encode(&pgproto3.Parse{Name: "a", Query: "/* walgate: target=primary */ select a"}, &pgproto3.Sync{}))
	r.trail = nil
	r.send(wiretest.Encode(&pgproto3.Bind{PreparedStatement: "a"}, &pgproto3.Execute{}, &pgproto3.Sync{}))
	r.expectTrail("need read", "attach primary", "release")
}

// TestUnnamedIsJudgedAnew: a read is one, whatever the unnamed statement was before.
func TestUnnamedIsJudgedAnew(t *testing.T) {
	r := newRig(t)
	r.send(wiretest.Extended("", "insert 1"))
	r.trail = nil
	r.send(wiretest.Extended("", "select 1"))
	r.expectTrail("need read", "attach standby", "release")
	r.send(wiretest.Extended("", "insert 1"))
	r.expectTrail("need write", "attach primary", "release")
}

// TestTurnWithoutRows: what is only parsed and described leaves no server behind.
func TestTurnWithoutRows(t *testing.T) {
	r := newRig(t)
	b := wiretest.Encode(&pgproto3.Parse{Name: "a", Query: "select a"}, &pgproto3.Describe{ObjectType: 'S', Name: "a"}, &pgproto3.Sync{})
	r.expect("prepared", r.send(b), "1 t T Z(I)")
	r.expectTrail("need read", "attach standby", "release")
}

func TestPipeline(t *testing.T) {
	r := newRig(t)
	var b []byte
	b = append(b, wiretest.Extended("p", "select p")...)
	b = append(b, wiretest.Extended("q", "insert q")...)
	b = append(b, wiretest.Extended("", "select fail")...)
	b = append(b, wiretest.Extended("p", "")...)
	b = append(b, wire.AppendQuery(nil, "select last")...)
	r.expect("pipeline", r.send(b), "1 2 T D(select p) C(SELECT 1) Z(I) 1 2 n C(INSERT) Z(I) "+
		"1 2 T E(22012) Z(I) 2 T D(select p) C(SELECT 1) Z(I) T D(select last) C(SELECT 1) Z(I)")
	if r.srv != nil {
		t.Error("server kept")
	}
}

func TestSettings(t *testing.T) {
	r := newRig(t, "application_name", "app", "options", "-c geqo=off")
	r.expect("set", r.query("set work_mem = '4MB'"), "C(SET) Z(I)")
	r.expect("elsewhere", r.query("insert 1"), "C(INSERT) Z(I)")
	pg := r.server(replication.RolePrimary)
	r.expect("carried", pg.SettingsText(), "application_name=app geqo=off work_mem=4MB")
	r.query("begin")
	r.query("set work_mem = '5MB'")
	r.query("rollback")
	r.expect("rolled back", r.query("insert 2"), "C(INSERT) Z(I)")
	r.expect("as before", pg.SettingsText(), "application_name=app geqo=off work_mem=4MB")
	r.expect("name", r.query("set application_name = 'other'"), "C(SET) S(application_name=other) Z(I)")
	r.expect("reset", r.query("reset application_name"), "C(RESET) S(application_name=app) Z(I)")
	r.query("insert 3")
	r.expect("reset to startup value", pg.SettingsText(), "application_name=app geqo=off work_mem=4MB")
	r.expect("discard", r.query("discard all"), "C(DISCARD ALL) Z(I)")
	r.query("insert 4")
	r.expect("after discard", pg.SettingsText(), "application_name=app geqo=off")
	r.expect("own", r.query("set walgate.target = 'primary'"), "C(SET) Z(I)")
	r.trail = nil
	r.query("select 1")
	r.expectTrail("need read", "attach primary", "release")
	r.expect("own, bad", r.query("set walgate.target = 'moon'"), "E(22023) Z(I)")
}

func TestCopy(t *testing.T) {
	r := newRig(t)
	data := wiretest.Encode(&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{})
	r.expect("begin", r.query("copy t from stdin"), "G")
	r.expect("data", r.send(data), "C(COPY 1) Z(I)")
	r.expect("out", r.query("copy t to stdout"), "H d c C(COPY) Z(I)")
	b := wiretest.Extended("", "copy t from stdin")
	r.expect("extended, one Sync too early", r.send(b), "1 2 n G")
	r.expect("data", r.send(append(data[:len(data):len(data)], wire.AppendEmpty(nil, 'S')...)), "C(COPY 1) Z(I)")
	r.expect("pipelined", r.send(append(append(b[:len(b):len(b)], data...), wire.AppendEmpty(nil, 'S')...)), "1 2 n G C(COPY 1) Z(I)")
	r.query("copy t from stdin")
	r.expect("fail", r.send(wiretest.Encode(&pgproto3.CopyFail{Message: "no"})), "E(57014) Z(I)")
	r.expect("stray", r.send(data), "")
	if r.srv != nil {
		t.Error("server kept")
	}
}

// TestCopyIntoNothing: a copy that fails while the server takes no more bytes leaves a client that is read.
func TestCopyIntoNothing(t *testing.T) {
	r := newRig(t)
	r.hold = true
	r.query("copy t from stdin")
	r.handle(&Event{Kind: Full, Side: Server})
	if !r.stopped[Client] {
		t.Fatal("reads on without end")
	}
	r.backlog, r.hold = nil, false
	r.expect("fails", r.scripted(failure("42P01"), ready('I')), "E(42P01) Z(I)")
	if r.stopped[Client] {
		t.Error("does not read the client")
	}
}

func TestHold(t *testing.T) {
	r := newRig(t)
	r.setView(replication.View{Version: 2, Epoch: 2, Primary: "b"})
	r.expect("held", r.query("insert 1"), "")
	if !r.s.Info().Held {
		t.Error("not held")
	}
	r.expect("behind", r.query("select 2"), "")
	r.now = r.armAt
	r.handle(&Event{Kind: Deadline})
	r.expect("timeout, then the next turn", r.told(), "E(57P03) Z(I) T D(select 2) C(SELECT 1) Z(I)")
	r.query("insert 3")
	r.setView(replication.View{Version: 3, Epoch: 2, Primary: "b", Open: true})
	r.grant()
	r.expect("released", r.told(), "C(INSERT) Z(I)")
	r.setView(replication.View{Version: 4, Epoch: 3, Primary: "b"})
	r.send(wiretest.Encode(&pgproto3.Parse{Query: "insert 4"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Flush{}))
	r.handle(&Event{Kind: CancelRequested})
	r.expect("cancelled", r.told(), "E(57014)")
	r.expect("Sync ends it", r.send(wire.AppendEmpty(nil, 'S')), "Z(I)")
	r.query("insert 5")
	r.send(wire.AppendEmpty(nil, 'X'))
	if !r.closed || r.need != nil {
		t.Error("not closed")
	}
}

func TestServerDeath(t *testing.T) {
	tests := []struct {
		name        string
		before      string
		outstanding []byte
		want, then  string
	}{
		{"idle in transaction", "begin", nil, "", "E(40001) Z(E)"},
		{"autocommit write", "", wire.AppendQuery(nil, "insert 1"), "E(08007) Z(I)", "T D(select 9) C(SELECT 1) Z(I)"},
		{"read runs again", "", wire.AppendQuery(nil, "select 1"), "T D(select 1) C(SELECT 1) Z(I)", "T D(select 9) C(SELECT 1) Z(I)"},
		{"in transaction", "begin", wire.AppendQuery(nil, "insert 1"), "E(40001) Z(E)", "E(25P02) Z(E)"},
		{"commit", "begin", wire.AppendQuery(nil, "commit"), "E(08007) Z(I)", "T D(select 9) C(SELECT 1) Z(I)"},
		{"rollback", "begin", wire.AppendQuery(nil, "rollback"), "C(ROLLBACK) Z(I)", "T D(select 9) C(SELECT 1) Z(I)"},
		{"extended write", "", wiretest.Extended("", "insert 1"), "E(08007) Z(I)", "T D(select 9) C(SELECT 1) Z(I)"},
		{"extended in transaction, no Sync", "begin", wiretest.Encode(&pgproto3.Parse{Query: "insert 1"}, &pgproto3.Flush{}),
			"E(40001)", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			if test.before != "" {
				r.query(test.before)
			}
			r.hold = true
			r.send(test.outstanding)
			r.hold = false
			r.die()
			r.expect("at death", r.told(), test.want)
			r.expect("next", r.query("select 9"), test.then)
			if test.then == "" {
				r.expect("sync", r.send(wire.AppendEmpty(nil, 'S')), "Z(E)")
			}
			if r.s.status == 'E' {
				r.expect("rollback", r.query("rollback"), "C(ROLLBACK) Z(I)")
				r.expect("goes on", r.query("insert 2"), "C(INSERT) Z(I)")
			}
		})
	}
}

// TestServerDismisses: FATAL says that what ran had no effect, and is told, unless it may have committed on its way.
func TestServerDismisses(t *testing.T) {
	fatal := func(severity string) []byte {
		return answer(&pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: "57P01", Message: "terminated"})
	}
	tests := []struct {
		name        string
		before      string
		outstanding []byte
		severity    string
		want        string
	}{
		{"write", "", wire.AppendQuery(nil, "insert 1"), "FATAL", "E(57P01) Z(I)"},
		{"write and what is behind", "", append(wire.AppendQuery(nil, "insert 1"), wire.AppendQuery(nil, "insert 2")...), "FATAL",
			"E(57P01) Z(I) E(57P01) Z(I)"},
		{"extended", "", wiretest.Extended("", "insert 1"), "FATAL", "E(57P01) Z(I)"},
		{"string", "", wire.AppendQuery(nil, "insert 1; insert 2"), "FATAL", "E(57P01) Z(I)"},
		{"COMMIT", "begin", wire.AppendQuery(nil, "commit"), "FATAL", "E(57P01) Z(I)"},
		{"in a transaction", "begin", wire.AppendQuery(nil, "insert 1"), "FATAL", "E(40001) Z(E)"},
		{"string with COMMIT", "", wire.AppendQuery(nil, "begin; insert 1; commit; insert 2"), "FATAL", "E(08007) Z(I)"},
		{"procedure", "", wire.AppendQuery(nil, "call p()"), "FATAL", "E(08007) Z(I)"},
		{"PANIC", "", wire.AppendQuery(nil, "insert 1"), "PANIC", "E(08007) Z(I)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			if test.before != "" {
				r.query(test.before)
			}
			r.hold = true
			r.send(test.outstanding)
			r.hold = false
			r.backlog = nil
			r.fromServer(fatal(test.severity))
			r.expect("at its end", r.told(), test.want)
			if r.s.status == 'I' {
				r.expect("goes on", r.query("insert 9"), "C(INSERT) Z(I)")
			}
		})
	}
}

func TestStandbyRefuses(t *testing.T) {
	r := newRig(t)
	// The text hides from the classifier what the played standby refuses.
	r.expect("simple", r.query("select 'nextval'"), "T D(select 'nextval') C(SELECT 1) Z(I)")
	r.expectTrail("need read", "attach standby", "discard", "need write", "attach primary", "release")
	r.expect("extended", r.send(wiretest.Extended("n", "select 'nextval'")), "1 2 T D(select 'nextval') C(SELECT 1) Z(I)")
	r.expect("again", r.send(wiretest.Extended("n", "")), "2 T D(select 'nextval') C(SELECT 1) Z(I)")
}

func TestGateWithholds(t *testing.T) {
	r := newRig(t)
	r.query("begin")
	r.hold = true
	r.query("commit")
	grant := r.gate.Grant()
	r.gate.Set(replication.Grant{Epoch: 1, Deadline: r.now})
	r.fromServer(r.backlog)
	r.expect("withheld", r.told(), "")
	r.gate.Set(grant)
	r.handle(&Event{Kind: Deadline})
	r.expect("renewed", r.told(), "C(COMMIT) Z(I)")

	r.backlog = nil
	r.query("insert 1")
	r.gate.Set(replication.Grant{Epoch: 1, Deadline: r.now})
	r.fromServer(r.backlog)
	r.setView(replication.View{Version: 5, Epoch: 2, Primary: "b", Open: true})
	r.handle(&Event{Kind: ViewChanged})
	r.expect("epoch rose", r.told(), "E(08007) Z(I)")
}

func TestLocalCommitIsTold(t *testing.T) {
	r := newRig(t)
	notice := &pgproto3.NoticeResponse{Severity: "WARNING", Code: "01000", Routine: "SyncRepWaitForLSN"}
	r.query("begin")
	r.servers[r.srv].NextNotice = notice
	r.expect("commit", r.query("commit"), "E(08007) Z(I)")
	r.query("begin")
	r.hold = true
	r.query("commit")
	if _, ok := r.s.CancelTarget(); ok {
		t.Error("a COMMIT could be cancelled")
	}
}

func TestHandoff(t *testing.T) {
	r := newRig(t)
	r.query("begin")
	drain := replication.View{Version: 2, Epoch: 1, Primary: "a", Open: true, Handoff: replication.Handoff{ID: "h", Draining: true}}
	r.setView(drain)
	r.handle(&Event{Kind: ViewChanged})
	r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(T)")
	if !r.s.OpenOnPrimary() {
		t.Error("not open on primary")
	}
	drain.Handoff.CancelOpen = true
	r.setView(drain)
	r.handle(&Event{Kind: ViewChanged})
	r.expect("told with the next turn", r.query("insert 2"), "E(57P01) Z(E)")
	r.expect("commit", r.query("commit"), "C(ROLLBACK) Z(I)")
	r.expect("held", r.query("insert 3"), "")
	r.setView(replication.View{Version: 3, Epoch: 2, Primary: "b", Open: true})
	r.grant()
	r.expect("goes on", r.told(), "C(INSERT) Z(I)")
}

func TestPins(t *testing.T) {
	r := newRig(t)
	r.query("listen a")
	if r.srv == nil || r.s.Info().Pinned == "" {
		t.Fatal("not pinned")
	}
	r.query("insert 1")
	r.die()
	r.expect("state lost", r.query("insert 2"), "E(08006) Z(I)")
	r.expect("goes on", r.query("insert 2"), "C(INSERT) Z(I)")
	r.query("listen a")
	r.query("unlisten *")
	if r.srv != nil {
		t.Error("still pinned")
	}
}

func TestLeaving(t *testing.T) {
	r := newRig(t)
	r.query("begin")
	r.trail = nil
	r.send(wire.AppendEmpty(nil, 'X'))
	r.expectTrail("release")
	if !r.closed {
		t.Error("not closed")
	}
	r = newRig(t)
	r.hold = true
	r.query("insert 1")
	r.handle(&Event{Kind: Closed, Side: Client})
	if !r.closed || r.cancels != 1 {
		t.Error("statement not cancelled", r.closed, r.cancels)
	}
	r = newRig(t)
	r.expect("unknown message", r.send([]byte{'?', 0, 0, 0, 4}), "E(08P01)")
	if !r.closed {
		t.Error("not closed")
	}
}

func TestLargeMessages(t *testing.T) {
	r := newRig(t)
	r.chunk = wire.MinReadBuffer
	big := make([]byte, 300<<10)
	for i := range big {
		big[i] = 'x'
	}
	text := "insert " + string(big)
	r.expect("query", r.query(text), "C(INSERT) Z(I)")
	bind := wiretest.Encode(&pgproto3.Parse{Name: "l", Query: "insert $1"},
		&pgproto3.Bind{PreparedStatement: "l", Parameters: [][]byte{big}}, &pgproto3.Execute{}, &pgproto3.Sync{})
	r.expect("bind", r.send(bind), "1 2 C(INSERT) Z(I)")
	r.expect("parse", r.send(wiretest.Extended("huge", text)), "1 2 n C(INSERT) Z(I)")
	r.expect("again", r.send(wiretest.Extended("huge", "")), "2 n C(INSERT) Z(I)")
	r = newRig(t)
	r.chunk = wire.MinReadBuffer
	r.setView(replication.View{Version: 2, Epoch: 2, Primary: "b"})
	whole := wire.AppendQuery(nil, text)
	cutter := wire.Cutter{}
	piece := func(b []byte) {
		p, _, _ := cutter.Cut(b, true)
		r.handle(&Event{Kind: Frame, Type: p.Type, Length: p.Length, Bytes: p.Bytes, First: p.First, Last: p.Last})
	}
	piece(whole[:100<<10])
	if !r.stopped[Client] {
		t.Error("reads on without end")
	}
	r.now = r.armAt
	r.handle(&Event{Kind: Deadline})
	r.expect("timeout", r.told(), "E(57P03)")
	piece(whole[100<<10:])
	r.expect("its end", r.told(), "Z(I)")
}

// TestSetLocalRole: what is set for a transaction ends with it.
func TestSetLocalRole(t *testing.T) {
	r := newRig(t)
	r.query("begin")
	r.query("set local role r")
	r.query("commit")
	r.idle = nil
	r.query("insert 1")
	r.expect("elsewhere", r.server(replication.RolePrimary).SettingsText(), "")
}
