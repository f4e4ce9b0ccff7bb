package session

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

func TestReadBegin(t *testing.T) {
	tests := []struct{ text, want string }{ // the text to send; empty: it is the server's to take or refuse
		{"begin", "BEGIN"}, {"BEGIN;", "BEGIN"}, {"Begin Work", "BEGIN"}, {"begin transaction ;", "BEGIN"},
		{"start transaction", "BEGIN"}, {" /* a /* b */ */ begin -- c", "BEGIN"},
		{"begin isolation level read committed", "BEGIN ISOLATION LEVEL READ COMMITTED"},
		{"start transaction isolation level repeatable read, read write", "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE"},
		{"begin read write isolation level serializable", "BEGIN READ WRITE ISOLATION LEVEL SERIALIZABLE"},
		{"begin read only", ""}, {"begin isolation level", ""}, {"begin isolation level chaos", ""}, {"begin nonsense", ""},
		{"begin read", ""}, {"begin work transaction", ""}, {"start", ""}, {"start work", ""}, {"begin,", ""}, {"begin read write,", ""},
		{"begin; select 1", ""}, {"begin;;", ""}, {"begin isolation level serializable isolation level read committed", ""},
		{"begin deferrable", ""}, {"begin 'work'", ""}, {"begin \"work\"", ""}, {"beginning", ""}, {"", ""}, {"begin (", ""},
	}
	for _, test := range tests {
		d, ok := readBegin([]byte(test.text), router.Options{})
		if got := string(d.text); ok != (test.want != "") || ok && got != test.want {
			t.Errorf("%q: %q, %v; want %q", test.text, got, ok, test.want)
		}
	}
}

func TestReadEnd(t *testing.T) {
	for text, want := range map[string]bool{
		"commit": true, "END;": true, "rollback work": true, "Abort /* c */ transaction ;": true, "commit and no chain": true,
		"commit and chain": false, "commit foo": false, "rollback work transaction": false, "end and": false, "commit;;": false,
		"rollback to a": false, "commit prepared 'x'": false, "begin": false, "": false, "commit and no": false,
	} {
		if got := readEnd([]byte(text), router.Options{}); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// beginning makes a rig whose transactions begin as they are told to.
func beginning(t *testing.T, how router.Transactions) *rig {
	r := newRig(t)
	r.cfg.Defaults.Transactions = how
	r.trail = nil
	return r
}

func TestBeginIsSentWithTheFirstStatement(t *testing.T) {
	simple := func(sql string) []byte { return wire.AppendQuery(nil, sql) }
	tests := []struct {
		name  string
		first []byte
		want  string
		log   string // of the server
		waits bool   // BEGIN must have been answered before
	}{
		{"query", simple("update a"), "C(UPDATE) Z(T)", "BEGIN, update a", false},
		{"a read", simple("select 1"), "T D(select 1) C(SELECT 1) Z(T)", "BEGIN, select 1", false},
		{"extended", wiretest.Extended("", "update a"), "1 2 n C(UPDATE) Z(T)", "BEGIN, update a", false},
		{"prepared", wiretest.Extended("p", "update a"), "1 2 n C(UPDATE) Z(T)", "BEGIN, update a", false},
		{"several statements", simple("update a; update b"), "C(UPDATE) C(UPDATE) Z(T)", "BEGIN, update a, update b", true},
		{"savepoint", simple("savepoint a"), "C(SAVEPOINT) Z(T)", "BEGIN, savepoint a", true},
		{"BEGIN again", simple("begin"), "C(BEGIN) Z(T)", "BEGIN, begin", true},
		{"SET", simple("set work_mem = '1MB'"), "C(SET) Z(T)", "BEGIN, set work_mem = '1MB'", true},
		{"failing", simple("select fail"), "E(22012) Z(E)", "BEGIN, select fail", false},
		{"COMMIT AND CHAIN", simple("commit and chain"), "C(COMMIT) Z(I)", "BEGIN, commit and chain", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := beginning(t, router.TransactionsLazy)
			r.expect("BEGIN", r.query("begin"), "C(BEGIN) Z(T)")
			r.expectTrail()
			r.hold = true
			r.deliver(Client, test.first)
			pg := r.server(replication.RolePrimary)
			if waited := !strings.Contains(test.log, ", "+pg.Log[len(pg.Log)-1]); waited != test.waits {
				t.Errorf("BEGIN was waited for: %v, want %v", waited, test.waits)
			}
			r.hold = false
			b := r.backlog
			r.backlog = nil
			r.fromServer(b)
			r.expect("answer", r.told(), test.want)
			if got := strings.Join(pg.Log, ", "); got != test.log {
				t.Errorf("ran %q, want %q", got, test.log)
			}
			r.query("rollback")
			r.expect("goes on", r.query("select 1"), "T D(select 1) C(SELECT 1) Z(I)")
		})
	}
}

// A turn that begins the transaction and ends it is followed by others that were sent at once: BEGIN is not sent again.
func TestBeginIsSentOnce(t *testing.T) {
	group := func(texts ...string) (b []byte) {
		for _, text := range texts {
			b = append(b, wiretest.Encode(&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Execute{})...)
		}
		return append(b, wiretest.Encode(&pgproto3.Sync{})...)
	}
	for _, test := range []struct {
		name, want, log string
		sent            []byte
	}{
		{
			"another turn", "1 2 C(UPDATE) 1 2 C(COMMIT) Z(I) 1 2 C(UPDATE) Z(I)", "BEGIN, update a, commit, update b",
			append(group("update a", "commit"), group("update b")...),
		},
		{
			"behind the end in the same turn", "1 2 C(UPDATE) 1 2 C(COMMIT) 1 2 C(UPDATE) Z(I)", "BEGIN, update a, commit, update b",
			group("update a", "commit", "update b"),
		},
		{
			"behind a query", "C(UPDATE) C(COMMIT) Z(I) C(UPDATE) Z(I)", "BEGIN, update a, commit, update b",
			append(wire.AppendQuery(nil, "update a; commit"), wire.AppendQuery(nil, "update b")...),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := beginning(t, router.TransactionsLazy)
			r.expect("BEGIN", r.query("begin"), "C(BEGIN) Z(T)")
			r.expect("turns", r.send(test.sent), test.want)
			if got := strings.Join(r.server(replication.RolePrimary).Log, ", "); got != test.log {
				t.Errorf("ran %q, want %q", got, test.log)
			}
		})
	}
}

func TestBeginWithoutStatements(t *testing.T) {
	for end, tag := range map[string]string{"commit": "COMMIT", "end": "COMMIT", "rollback": "ROLLBACK", "abort;": "ROLLBACK"} {
		r := beginning(t, router.TransactionsLazy)
		r.expect("BEGIN", r.query("start transaction isolation level serializable"), "C(START TRANSACTION) Z(T)")
		if !r.s.Info().InTransaction || r.s.OpenOnPrimary() {
			t.Error("a transaction that has not begun: the session must be in it, and not on the primary")
		}
		r.expect(end, r.query(end), "C("+tag+") Z(I)")
		r.expectTrail()
		r.expect("goes on", r.query("update a"), "C(UPDATE) Z(I)")
		if pg := r.server(replication.RolePrimary); len(pg.Log) != 1 {
			t.Errorf("ran %q", pg.Log)
		}
	}
}

func TestBeginAtOnce(t *testing.T) {
	tests := []struct {
		name, begin string
		mode        PoolMode
		params      []string
	}{
		{name: "refused modes", begin: "begin nonsense"},
		{name: "a hint", begin: "/* walgate: consistency=strong */ begin"},
		{name: "session pooling", begin: "begin", mode: PoolSession},
		{name: "startup settings that no server has taken", begin: "begin", params: []string{"work_mem", "1MB"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, test.params...)
			r.cfg.Defaults.Transactions, r.s.mode, r.trail = router.TransactionsLazy, test.mode, nil
			r.query(test.begin)
			r.trail = r.trail[:min(len(r.trail), 2)]
			r.expectTrail("need write", "attach primary")
		})
	}
}

// TestBeginIsRefused: should what goes with BEGIN not run, the client's transaction has failed all the same.
func TestBeginIsRefused(t *testing.T) {
	r := beginning(t, router.TransactionsLazy)
	r.query("begin")
	both := append(wire.AppendQuery(nil, "select syntax"), wire.AppendQuery(nil, "update a")...)
	r.expect("error", r.send(both), "E(42601) Z(E) E(25P02) Z(E)")
	r.expectTrail("need write", "attach primary", "release", "need write", "attach primary") // where it fails
	if got := strings.Join(r.server(replication.RolePrimary).Log, ", "); got != "BEGIN, ROLLBACK TO walgate_none" {
		t.Errorf("ran %q, want nothing outside the transaction", got)
	}
	r.expect("end", r.query("commit"), "C(ROLLBACK) Z(I)")

	r.query("begin")
	group := append(wiretest.Extended("", "syntax"), wiretest.Extended("", "update a")...)
	r.expect("in a group", r.send(group), "E(42601) Z(E) E(25P02) Z(E)")
	r.expect("end", r.query("rollback"), "C(ROLLBACK) Z(I)")
}

// TestBeginPosition: positions in errors are those in the client's text.
func TestBeginPosition(t *testing.T) {
	r := beginning(t, router.TransactionsLazy)
	r.query("begin isolation level read committed")
	r.hold = true
	r.deliver(Client, wire.AppendQuery(nil, "select foo"))
	r.hold, r.backlog = false, nil
	r.fromServer(encoded(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42703", Message: "no column", Position: int32(len("BEGIN ISOLATION LEVEL READ COMMITTED;") + 8)},
		&pgproto3.ReadyForQuery{TxStatus: 'I'}))
	if !strings.Contains(string(r.client), "P8\x00") {
		t.Errorf("position in %q", r.client)
	}
	r.told()
	r.query("rollback")
	r.query("begin")
	r.hold = true
	r.deliver(Client, wire.AppendQuery(nil, "select 'a'"))
	r.fromServer(encoded(&pgproto3.NoticeResponse{Severity: "WARNING", Code: "22P06", Message: "nonstandard", Position: int32(len("BEGIN;") + 8)}))
	if !strings.Contains(string(r.client), "P8\x00") {
		t.Errorf("position of a warning in %q", r.client)
	}
}

// TestNothingInFailedBegin: a transaction whose first statement was no SQL never began on the server. As in a failed one, an
// empty statement may be parsed and described in it, and none may be bound.
func TestNothingInFailedBegin(t *testing.T) {
	r := beginning(t, router.TransactionsLazy)
	r.query("begin")
	r.hold = true
	r.deliver(Client, wire.AppendQuery(nil, "bogus"))
	r.hold, r.backlog = false, nil
	r.fromServer(encoded(&pgproto3.ErrorResponse{Severity: "ERROR", Code: "42601"}, &pgproto3.ReadyForQuery{TxStatus: 'I'}))
	r.expect("error", r.told(), "E(42601) Z(E)")
	r.expect("empty", r.query(";"), "I Z(E)")
	r.expect("parsed", r.send(wiretest.Encode(&pgproto3.Parse{Query: ";"}, &pgproto3.Sync{})), "1 Z(E)")
	r.expect("described", r.send(wiretest.Encode(&pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Sync{})), "t n Z(E)")
	r.expect("bound", r.send(wiretest.Encode(&pgproto3.Bind{}, &pgproto3.Sync{})), "E(25P02) Z(E)")
	r.expect("a statement", r.send(wiretest.Extended("", "select 1")), "E(25P02) Z(E)")
	r.expect("its end", r.query("rollback"), "C(ROLLBACK) Z(I)")
}

// TestUnstartedSurvives: a transaction that has not begun outlives a change of the primary, and the loss of the server on
// which it was about to begin.
func TestUnstartedSurvives(t *testing.T) {
	t.Run("switchover", func(t *testing.T) {
		r := beginning(t, router.TransactionsLazy)
		r.query("begin")
		r.setView(replication.View{Version: 2, Epoch: 2, Primary: "b"})
		r.query("update a") // is held
		r.expectTrail("need write")
		r.setView(replication.View{Version: 3, Epoch: 2, Primary: "b", Open: true})
		r.grant()
		r.expect("the statement", r.told(), "C(UPDATE) Z(T)")
		r.expect("COMMIT", r.query("commit"), "C(COMMIT) Z(I)")
	})
	t.Run("the server dies before its answer to BEGIN", func(t *testing.T) {
		r := beginning(t, router.TransactionsLazy)
		r.query("begin")
		r.hold = true
		r.query("savepoint a")
		r.hold, r.backlog = false, nil
		r.die()
		r.expect("the statement", r.told(), "C(SAVEPOINT) Z(T)")
	})
	t.Run("the server dies with the first statement", func(t *testing.T) {
		r := beginning(t, router.TransactionsLazy)
		r.query("begin")
		r.hold = true
		r.query("update a")
		r.hold, r.backlog = false, nil
		r.die()
		r.expect("told", r.told(), "E(40001) Z(E)")
		r.expect("failed", r.query("update a"), "E(25P02) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
		r.expect("goes on", r.query("update a"), "C(UPDATE) Z(I)")
	})
	t.Run("no primary in time", func(t *testing.T) {
		r := beginning(t, router.TransactionsLazy)
		r.query("begin")
		r.refuse = true
		r.query("update a")
		r.now = r.armAt
		r.handle(&Event{Kind: Deadline})
		r.expect("told", r.told(), "E(57P03) Z(E)")
		r.refuse = false
		r.expect("ends", r.query("commit"), "C(ROLLBACK) Z(I)")
		r.expect("goes on", r.query("update a"), "C(UPDATE) Z(I)")
	})
	t.Run("settings are restored first", func(t *testing.T) {
		r := beginning(t, router.TransactionsLazy)
		r.query("set work_mem = '1MB'")
		r.idle = nil // another server
		r.query("begin")
		r.query("update a")
		r.expect("settings", r.server(replication.RolePrimary).SettingsText(), "work_mem=1MB")
	})
}

func TestLazyTransactions(t *testing.T) {
	simple := func(sql string) []byte { return wire.AppendQuery(nil, sql) }
	stays := []string{"need read", "attach standby"}
	moves := []string{"need read", "attach standby", "release", "need write", "attach primary"}
	never := []string{"need write", "attach primary"}
	read := wiretest.Extended("", "select 1")
	fetching := wiretest.Encode(&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{}, &pgproto3.Execute{MaxRows: 5}, &pgproto3.Sync{})
	tests := []struct {
		name   string
		begin  string
		frames [][]byte
		want   string // the last answer
		trail  []string
	}{
		{"reads", "begin", [][]byte{simple("select 1"), read, simple("select 2")}, "T D(select 2) C(SELECT 1) Z(T)", stays},
		{"a write", "begin", [][]byte{simple("update a")}, "C(UPDATE) Z(T)", never},
		{"a write behind reads", "begin", [][]byte{simple("select 1"), read, simple("update a")}, "C(UPDATE) Z(T)", moves},
		{"an extended write", "begin", [][]byte{read, wiretest.Extended("p", "update a")}, "1 2 n C(UPDATE) Z(T)", moves},
		{"one behind a prepared read", "begin", [][]byte{wiretest.Extended("p", "select 1"), wiretest.Extended("p", "")}, "2 T D(select 1) C(SELECT 1) Z(T)", stays},
		{"SET LOCAL", "begin", [][]byte{simple("select 1"), simple("set local work_mem = 1")}, "C(SET) Z(T)", moves},
		{"SET", "begin", [][]byte{simple("select 1"), simple("set work_mem = 1")}, "C(SET) Z(T)", moves},
		{"savepoint", "begin", [][]byte{simple("select 1"), simple("savepoint a")}, "C(SAVEPOINT) Z(T)", moves},
		{"savepoint first", "begin", [][]byte{simple("savepoint a")}, "C(SAVEPOINT) Z(T)", never},
		{"advisory lock", "begin", [][]byte{simple("select 1"), simple("select pg_advisory_xact_lock(1)")}, "T D(select pg_advisory_xact_lock(1)) C(SELECT 1) Z(T)", moves},
		{"cursor", "begin", [][]byte{simple("select 1"), simple("declare c cursor for select 1")}, "C(DECLARE) Z(T)", moves},
		{"cursor first", "begin", [][]byte{simple("declare c cursor for select 1")}, "C(DECLARE) Z(T)", never},
		{"a portal in parts", "begin", [][]byte{simple("select 1"), fetching}, "1 2 D(select 1) C(SELECT 1) Z(T)", moves},
		{"a portal in parts first", "begin", [][]byte{fetching}, "1 2 D(select 1) C(SELECT 1) Z(T)", never},
		{"several statements", "begin", [][]byte{simple("select 1"), simple("select 1; select 2")}, "T D(select 1) C(SELECT 1) T D(select 2) C(SELECT 1) Z(T)", moves},
		{"for update", "begin", [][]byte{simple("select 1"), simple("select 1 for update")}, "T D(select 1 for update) C(SELECT 1) Z(T)", moves},
		{"repaired", "begin", [][]byte{simple("select 1"), simple("select 'nextval'")},
			"T D(select 'nextval') C(SELECT 1) Z(T)", []string{"need read", "attach standby", "discard", "need write", "attach primary"}},
		{"repaired first", "begin", [][]byte{simple("select 'nextval'")},
			"T D(select 'nextval') C(SELECT 1) Z(T)", []string{"need read", "attach standby", "discard", "need write", "attach primary"}},
		{"the client's own error", "begin", [][]byte{simple("select 1"), simple("select fail"), simple("update a")}, "E(25P02) Z(E)", stays},
		{"a portal for later", "begin", [][]byte{simple("select 1"), wiretest.Encode(&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{DestinationPortal: "c"}, &pgproto3.Sync{})}, "1 2 Z(T)", moves},
		{"a portal for later first", "begin", [][]byte{wiretest.Encode(&pgproto3.Parse{Query: "select 1"}, &pgproto3.Bind{}, &pgproto3.Sync{})}, "1 2 Z(T)", never},
		{"behind the end of a failed one", "begin", [][]byte{simple("select 1"), simple("select fail"), simple("rollback; begin; update a")}, "C(ROLLBACK) C(BEGIN) C(UPDATE) Z(T)", moves},
		{"a comment for a read", "begin isolation level repeatable read", [][]byte{simple("/* walgate: target=replica */ select 1"), simple("update a")}, "C(UPDATE) Z(T)", never},
		{"read committed", "begin isolation level read committed", [][]byte{simple("select 1")}, "T D(select 1) C(SELECT 1) Z(T)", stays},
		{"repeatable read", "begin isolation level repeatable read", [][]byte{simple("select 1")}, "T D(select 1) C(SELECT 1) Z(T)", never},
		{"serializable", "begin isolation level serializable", [][]byte{simple("select 1")}, "T D(select 1) C(SELECT 1) Z(T)", never},
		{"read write", "begin read write", [][]byte{simple("select 1")}, "T D(select 1) C(SELECT 1) Z(T)", never},
		{"in one group with BEGIN", "", [][]byte{append(wiretest.Encode(&pgproto3.Parse{Query: "BEGIN"}, &pgproto3.Bind{}, &pgproto3.Execute{}), read...), simple("select 2"), simple("update a")},
			"C(UPDATE) Z(T)", moves},
		{"BEGIN in a group alone", "", [][]byte{wiretest.Encode(&pgproto3.Parse{Query: "BEGIN"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{})}, "1 2 C(BEGIN) Z(T)", never},
		{"a write in one group with BEGIN", "", [][]byte{append(wiretest.Encode(&pgproto3.Parse{Query: "BEGIN"}, &pgproto3.Bind{}, &pgproto3.Execute{}), wiretest.Extended("", "update a")...)},
			"1 2 C(BEGIN) 1 2 n C(UPDATE) Z(T)", never},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := beginning(t, router.TransactionsReads)
			if test.begin != "" {
				r.expect("BEGIN", r.query(test.begin), "C(BEGIN) Z(T)")
			}
			got := ""
			for _, frames := range test.frames {
				got = r.send(frames)
			}
			r.expect("answer", got, test.want)
			r.expectTrail(test.trail...)
			if !strings.HasSuffix(test.want, "Z(E)") {
				r.expect("COMMIT", r.query("commit"), "C(COMMIT) Z(I)")
			} else {
				r.expect("ROLLBACK", r.query("rollback"), "C(ROLLBACK) Z(I)")
			}
			if r.srv != nil || r.trail[len(r.trail)-1] != "release" {
				t.Errorf("the server connection was not given back: %v", r.trail)
			}
			r.expect("goes on", r.query("update a"), "C(UPDATE) Z(I)")
		})
	}
}

// TestFailedNowhere: a transaction whose first statement could not be read has failed as any other, and holds no server.
func TestFailedNowhere(t *testing.T) {
	failed := func(t *testing.T, begin string) *rig {
		r := beginning(t, router.TransactionsLazy)
		r.query(begin)
		r.expect("error", r.query("select syntax"), "E(42601) Z(E)")
		r.trail = nil
		return r
	}
	t.Run("ROLLBACK and COMMIT need no server", func(t *testing.T) {
		for _, end := range []string{"rollback", "commit"} {
			r := failed(t, "begin")
			r.expect(end, r.query(end), "C(ROLLBACK) Z(I)")
			r.expectTrail()
		}
	})
	t.Run("statements behind ROLLBACK run, and their settings stay", func(t *testing.T) {
		r := failed(t, "begin")
		r.expect("both", r.query("rollback; set work_mem = '1MB'; update a"), "C(ROLLBACK) C(SET) C(UPDATE) Z(I)")
		r.idle = nil // another server
		r.query("update a")
		r.expect("settings", r.server(replication.RolePrimary).SettingsText(), "work_mem=1MB")
	})
	t.Run("it fails as what it was", func(t *testing.T) {
		r := failed(t, "begin isolation level serializable")
		r.expect("fails", r.query("update a"), "E(25P02) Z(E)")
		if got := strings.Join(r.server(replication.RolePrimary).Log, ", "); got != "BEGIN ISOLATION LEVEL SERIALIZABLE, ROLLBACK TO walgate_none" {
			t.Errorf("ran %q", got)
		}
		r.die()
		r.expect("fails without its server", r.query("update a"), "E(25P02) Z(E)")
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
	})
	t.Run("a view without a primary", func(t *testing.T) {
		r := failed(t, "begin")
		r.refuse = true
		r.query("update a")
		r.now = r.armAt
		r.handle(&Event{Kind: Deadline})
		r.expect("told", r.told(), "E(57P03) Z(E)")
		r.refuse = false
		r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
	})
}

// TestBeginRefusedAhead: why BEGIN was refused is told, also where it did not go with a statement.
func TestBeginRefusedAhead(t *testing.T) {
	r := beginning(t, router.TransactionsLazy)
	r.query("begin isolation level serializable")
	r.hold = true
	r.query("savepoint a")
	r.hold, r.backlog = false, nil
	r.fromServer(encoded(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "0A000", Message: "hot standby"},
		&pgproto3.ReadyForQuery{TxStatus: 'I'}))
	r.expect("error", r.told(), "E(0A000) Z(E)")
	r.expect("fails", r.query("select 1"), "E(25P02) Z(E)")
	r.expect("ends", r.query("rollback"), "C(ROLLBACK) Z(I)")
	r.expect("goes on", r.query("update a"), "C(UPDATE) Z(I)")
}

func TestLazyTransactionsElsewhere(t *testing.T) {
	t.Run("strong", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.cfg.Defaults.Level = router.LevelStrong
		r.query("begin")
		r.query("select 1")
		r.expectTrail("need write", "attach primary")
	})
	t.Run("the session's isolation level", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.query("set default_transaction_isolation = 'repeatable read'")
		r.trail = nil
		r.query("begin")
		r.query("select 1")
		r.expectTrail("need write", "attach primary")
	})
	t.Run("the server's isolation level", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.defaults.steady = true
		r.query("begin")
		r.expect("read", r.query("select 1"), "T D(select 1) C(SELECT 1) Z(T)")
		r.expectTrail("need read", "attach standby", "release", "need write", "attach primary")
		r.query("commit")
		r.trail = nil
		r.query("begin isolation level read committed")
		r.query("select 1")
		r.expectTrail("need read", "attach standby")
	})
	t.Run("the standby dies while the client is silent", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.query("begin")
		r.query("select 1")
		r.die()
		r.expect("goes on", r.query("select 2"), "T D(select 2) C(SELECT 1) Z(T)")
		r.expectTrail("need read", "attach standby", "die", "need write", "attach primary")
	})
	t.Run("a conflict with recovery", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.query("begin")
		r.query("select 1")
		r.hold = true
		r.query("select 2")
		r.hold, r.backlog = false, nil
		r.fromServer(encoded(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "40001"}, &pgproto3.ReadyForQuery{TxStatus: 'E'}))
		r.expect("answer", r.told(), "T D(select 2) C(SELECT 1) Z(T)")
		r.expectTrail("need read", "attach standby", "discard", "need write", "attach primary")
	})
	t.Run("the standby dies during its end", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.query("begin")
		r.query("select 1")
		r.hold = true
		r.query("update a")
		r.hold, r.backlog = false, nil
		r.die()
		r.expect("answer", r.told(), "C(UPDATE) Z(T)")
	})
	t.Run("no primary in time", func(t *testing.T) {
		r := beginning(t, router.TransactionsReads)
		r.query("begin")
		r.query("select 1")
		r.refuse = true
		r.query("update a")
		r.now = r.armAt
		r.handle(&Event{Kind: Deadline})
		r.expect("told", r.told(), "E(57P03) Z(E)")
		r.refuse = false
		r.expect("ends", r.query("commit"), "C(ROLLBACK) Z(I)")
	})
	t.Run("sessions can say it", func(t *testing.T) {
		r := newRig(t)
		r.expect("default", r.query("show walgate.transactions"), "T D(begin) C(SHOW) Z(I)")
		r.expect("a wrong value", r.query("set walgate.transactions = 'never'"), "E(22023) Z(I)")
		r.query("set walgate.transactions = 'reads'")
		r.trail = nil
		r.query("begin")
		r.query("select 1")
		r.expectTrail("need read", "attach standby")
	})
}

// TestUnstartedTimeouts: a client that leaves a transaction open is idle in it, whether or not it has begun.
func TestUnstartedTimeouts(t *testing.T) {
	r := beginning(t, router.TransactionsLazy)
	r.limit(Timeouts{IdleInTransaction: 10 * time.Second, ClientIdle: time.Second})
	r.query("begin")
	r.expect("in time", r.after(9*time.Second), "")
	r.expect("late", r.after(time.Second), "E(25P03)")
	if !r.closed {
		t.Error("the session goes on")
	}
}

// TestLazyBeginAllocates0: a transaction that begins with its first statement allocates nothing.
func TestLazyBeginAllocates0(t *testing.T) {
	p := newPath(t, nil, replication.RolePrimary)
	p.r.cfg.Defaults.Transactions = router.TransactionsLazy
	done := answer(&pgproto3.CommandComplete{CommandTag: []byte("BEGIN")}, &pgproto3.CommandComplete{CommandTag: []byte("UPDATE 1")},
		&pgproto3.ReadyForQuery{TxStatus: 'T'})
	ended := answer(&pgproto3.CommandComplete{CommandTag: []byte("COMMIT")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	begin, commit := wire.AppendQuery(nil, "begin"), wire.AppendQuery(nil, "commit")
	transaction := func() {
		p.request, p.answer = begin, nil
		p.turn()
		p.request, p.answer = writeRequest, done
		p.turn()
		p.request, p.answer = commit, ended
		p.turn()
	}
	transaction()
	if n := testing.AllocsPerRun(100, transaction); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if p.r.s.status != wire.StatusIdle || p.r.s.turns == 0 {
		t.Errorf("status %c after %d turns", p.r.s.status, p.r.s.turns)
	}
}
