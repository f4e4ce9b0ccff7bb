package session

import (
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// scripted makes the attached (or next) servers silent: the test says what they answer.
func (r *rig) scripted(messages ...pgproto3.BackendMessage) string {
	r.fromServer(answer(messages...))
	return r.told()
}

func ready(status byte) *pgproto3.ReadyForQuery { return &pgproto3.ReadyForQuery{TxStatus: status} }

func failure(code string) *pgproto3.ErrorResponse {
	return &pgproto3.ErrorResponse{Severity: "ERROR", Code: code, Message: "no"}
}

func tag(t string) *pgproto3.CommandComplete {
	return &pgproto3.CommandComplete{CommandTag: []byte(t)}
}

func TestCopyFailsBeforeItReads(t *testing.T) {
	begun := []pgproto3.BackendMessage{&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{},
		&pgproto3.CopyInResponse{}}
	end := wiretest.Encode(&pgproto3.CopyDone{}, &pgproto3.Sync{})
	t.Run("the client has ended the copy", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(wiretest.Extended("", "copy t from stdin"))
		r.expect("begins", r.scripted(begun...), "1 2 n G")
		r.send(end)
		r.expect("fails", r.scripted(failure("P0001"), ready('I'), ready('I')), "E(P0001) Z(I)")
		r.expectTrail("need write", "attach primary", "discard")
		r.hold = false
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
	})
	t.Run("at once", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(wiretest.Extended("", "copy v from stdin"))
		r.expect("fails", r.scripted(append(begun[:4:4], failure("42809"), ready('I'))...), "1 2 n G E(42809) Z(I)")
		r.expectTrail("need write", "attach primary", "discard")
		r.hold = false
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
	})
	t.Run("in a transaction", func(t *testing.T) {
		r := newRig(t)
		r.query("begin")
		r.hold = true
		r.send(wiretest.Extended("", "copy v from stdin"))
		r.expect("fails", r.scripted(append(begun[:4:4], failure("42809"), ready('E'))...), "1 2 n G E(42809) Z(E)")
		r.hold = false
		r.expect("failed", r.query("insert 1"), "E(25P02) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
	})
	next := wiretest.Extended("", "insert 1")
	t.Run("with a request behind it", func(t *testing.T) {
		r := newRig(t)
		r.expect("as PostgreSQL", r.send(append(wiretest.Extended("", "copy t from stdin"), next...)), "1 2 n G E(08P01) Z(I)")
		r.expect("goes on", r.query("insert 1"), "C(INSERT) Z(I)")
		r.expectTrail("need write", "attach primary", "release", "need write", "attach primary", "release")
	})
	t.Run("at once, with a request behind it", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(append(wiretest.Extended("", "copy v from stdin"), next...))
		r.backlog, r.hold = nil, false
		r.expect("fails, and goes on", r.scripted(append(begun[:4:4], failure("42809"), ready('I'))...),
			"1 2 n G E(42809) Z(I) 1 2 n C(INSERT) Z(I)")
	})
	t.Run("at once in a transaction, with a request behind it", func(t *testing.T) {
		r := newRig(t)
		r.query("begin")
		r.hold = true
		r.send(append(wiretest.Extended("", "copy v from stdin"), next...))
		r.backlog, r.hold = nil, false
		r.expect("fails, and goes on", r.scripted(append(begun[:4:4], failure("42809"), ready('E'))...),
			"1 2 n G E(42809) Z(E) E(25P02) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
	})
	t.Run("before it begins, with a request behind it", func(t *testing.T) {
		r := newRig(t)
		r.expect("fails, and goes on", r.send(append(wiretest.Extended("", "copy fail from stdin"), next...)),
			"1 2 n E(22012) Z(I) 1 2 n C(INSERT) Z(I)")
	})
	t.Run("with more behind", func(t *testing.T) {
		r := newRig(t)
		r.hold = true
		r.send(wiretest.Extended("", "copy t from stdin"))
		r.scripted(begun...)
		r.send(append(end[:len(end):len(end)], wire.AppendQuery(nil, "insert 1")...))
		r.expect("fails", r.scripted(failure("P0001"), ready('I'), ready('I')), "E(P0001) Z(I) E(08007) Z(I)")
	})
}

func TestPipelineBehindFailedTransaction(t *testing.T) {
	r := newRig(t)
	r.query("begin")
	r.query("select fail")
	r.hold = true
	var b []byte
	for _, sql := range []string{"rollback", "begin", "insert 1", "commit"} {
		b = wire.AppendQuery(b, sql)
	}
	r.send(b)
	r.expect("first three", r.scripted(tag("ROLLBACK"), ready('I'), tag("BEGIN"), ready('T'), tag("INSERT 0 1"), ready('T')),
		"C(ROLLBACK) Z(I) C(BEGIN) Z(T) C(INSERT 0 1) Z(T)")
	r.hold = false
	r.die()
	r.expect("at death", r.told(), "E(08007) Z(I)")
}

func TestRefusedBeginLeavesInsertOutside(t *testing.T) {
	r := newRig(t)
	r.hold = true
	r.send(append(wire.AppendQuery(nil, "begin"), wire.AppendQuery(nil, "insert 1")...))
	r.expect("begin", r.scripted(failure("25006"), ready('I')), "E(25006) Z(I)")
	r.hold = false
	r.die()
	r.expect("at death", r.told(), "E(08007) Z(I)")
}

func TestPinnedToStandby(t *testing.T) {
	r := newRig(t)
	r.query("begin read only")
	r.query("select setseed(0)")
	r.query("commit")
	if r.srv == nil || r.srv.Role != replication.RoleStandby {
		t.Fatal("not pinned to the standby")
	}
	r.expect("goes on", r.query("select 2"), "T D(select 2) C(SELECT 1) Z(I)")
	r = newRig(t)
	r.query("set datestyle = iso, mdy")
	r.expect("behind SET", r.query("insert 1"), "C(INSERT) Z(I)")
}

func TestReadAfterUnknownOutcome(t *testing.T) {
	r := newRig(t)
	r.hold = true
	r.query("insert 1")
	r.hold = false
	r.now += 50
	r.die()
	r.expect("at death", r.told(), "E(08007) Z(I)")
	var want router.Consistency
	want.Touched(r.now, false)
	if r.s.consistency != want {
		t.Errorf("consistency %+v, want %+v", r.s.consistency, want)
	}
}

func TestTurnWaitsForSettings(t *testing.T) {
	r := newRig(t)
	r.query("insert 0") // the startup settings are proven
	r.query("set work_mem = '4MB'")
	r.idle = nil
	r.hold = true
	r.query("insert 1")
	sent := wiretest.Describe(r.backlog)
	r.handle(&Event{Kind: CancelRequested})
	if r.cancels != 1 {
		t.Error("not cancelled")
	}
	r.backlog = nil
	r.expect("only the settings were sent", sent[len(sent)-len("Z(I)"):], "Z(I)")
	r.expect("cancelled", r.scripted(failure("57014"), ready('I')), "E(57014) Z(I)")
	r.hold = false
	r.expect("goes on", r.query("insert 2"), "C(INSERT) Z(I)")
	r.expect("with its settings", r.server(replication.RolePrimary).SettingsText(), "work_mem=4MB")
}

func TestMalformedCompletion(t *testing.T) {
	r := newRig(t)
	r.hold = true
	r.send(wiretest.Extended("", "insert 1"))
	r.fromServer(answer(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{}))
	r.fromServer([]byte{'C', 0, 0, 0, 5, 'x'})
	if !r.closed {
		t.Error("not closed")
	}
}

func TestCancelOfHeldRestOfGroup(t *testing.T) {
	r := newRig(t)
	group := func(sql string, last pgproto3.FrontendMessage) []byte {
		return wiretest.Encode(&pgproto3.Parse{Query: sql}, &pgproto3.Bind{}, &pgproto3.Execute{}, last)
	}
	r.expect("answered", r.send(group("insert 1", &pgproto3.Flush{})), "1 2 C(INSERT)")
	r.trail = nil
	r.gate.Set(replication.Grant{Epoch: 1, Deadline: r.now})
	r.send(group("insert 2", &pgproto3.Sync{}))
	r.handle(&Event{Kind: CancelRequested})
	r.expect("cancelled", r.told(), "E(57014) Z(I)")
	r.expectTrail("discard")
}

func TestGroupOfLocalAnswersIsBounded(t *testing.T) {
	r := newRig(t)
	r.send(wiretest.Extended("a", "select 1"))
	r.hold = true
	b := wiretest.Encode(&pgproto3.Parse{Query: "select 2"})
	pair := wiretest.Encode(&pgproto3.Close{ObjectType: 'S', Name: "a"}, &pgproto3.Parse{Name: "a", Query: "select 1"})
	r.send(append(b, wiretest.Encode(&pgproto3.Flush{})...))
	for i := 0; i < maxOwed && !r.stopped[Client]; i++ {
		r.send(pair)
	}
	if !r.stopped[Client] {
		t.Fatal("reads on without end")
	}
	r.hold = false
	r.fromServer(r.backlog)
	if r.stopped[Client] {
		t.Error("does not go on")
	}
}

func TestPinsOutlastWhatDoesNotEndThem(t *testing.T) {
	tests := []struct {
		name    string
		queries []string
		pinned  bool
	}{
		{"another cursor is closed", []string{"declare h cursor with hold for select 1",
			"begin", "declare c cursor for select 1", "close c", "commit"}, true},
		{"closed with all", []string{"declare h cursor with hold for select 1", "close all"}, false},
		{"UNLISTEN rolled back", []string{"listen x", "begin", "unlisten *", "rollback"}, true},
		{"UNLISTEN rolled back in one string", []string{"listen x", "begin; unlisten *; rollback"}, true},
		{"UNLISTEN", []string{"listen x", "unlisten *"}, false},
		{"DISCARD TEMP rolled back", []string{"create temp table t (a int)", "begin", "discard temp", "rollback"}, true},
		{"DISCARD TEMP", []string{"create temp table t (a int)", "discard temp"}, false},
		{"DISCARD ALL", []string{"listen x", "discard all"}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			for _, sql := range test.queries {
				r.query(sql)
			}
			if (r.srv != nil) != test.pinned {
				t.Errorf("server kept: %v, want %v", r.srv != nil, test.pinned)
			}
		})
	}
	t.Run("lock behind the unlock of all", func(t *testing.T) {
		r := newRig(t)
		r.query("select pg_advisory_lock(1)")
		r.hold = true
		r.send(append(wire.AppendQuery(nil, "select pg_advisory_unlock_all()"), wire.AppendQuery(nil, "select pg_advisory_lock(2)")...))
		r.scripted(tag("SELECT 1"), ready('I'), tag("SELECT 1"), ready('I'))
		if r.srv == nil {
			t.Error("released while it holds a lock")
		}
	})
	t.Run("unlock of all", func(t *testing.T) {
		r := newRig(t)
		r.query("select pg_advisory_lock(1)")
		r.query("select pg_advisory_unlock_all() where false")
		if r.srv == nil {
			t.Error("released though nothing was unlocked")
		}
		r.query("select pg_advisory_unlock_all()")
		if r.srv != nil {
			t.Error("kept though everything was unlocked")
		}
	})
	t.Run("PREPARE behind DEALLOCATE ALL", func(t *testing.T) {
		r := newRig(t)
		r.query("deallocate all; prepare x as select 1")
		if r.srv == nil {
			t.Error("released with a statement of its own")
		}
	})
	t.Run("LISTEN behind UNLISTEN", func(t *testing.T) {
		r := newRig(t)
		r.query("listen x")
		r.hold = true
		r.send(append(wire.AppendQuery(nil, "unlisten *"), wire.AppendQuery(nil, "listen y")...))
		r.expect("both", r.scripted(tag("UNLISTEN"), ready('I'), tag("LISTEN"), ready('I')),
			"C(UNLISTEN) Z(I) C(LISTEN) Z(I)")
		if r.srv == nil {
			t.Error("released while it listens")
		}
	})
}

// A literal date means what DateStyle said when the statement was parsed: sessions that differ in it share no statement.
func TestStatementNamesTellHowLiteralsAreRead(t *testing.T) {
	var none *settingSet
	var shared interner
	name := func(set *settingSet) string {
		return canonicalName(&body{text: "select '01/02/2024'::date", reading: set.readingText()})
	}
	plain := name(none)
	if got := name(none.with(&shared, setting{name: "datestyle", value: "ISO, DMY"})); got == plain {
		t.Errorf("another DateStyle: the same name %s", got)
	}
	if got := name(none.with(&shared, setting{name: "work_mem", value: "64MB"})); got != plain {
		t.Errorf("another work_mem: %s, want %s", got, plain)
	}
}
