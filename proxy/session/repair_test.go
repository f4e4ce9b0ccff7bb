package session

import (
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// encoded makes the bytes of a server's messages.
func encoded(messages ...pgproto3.BackendMessage) (b []byte) {
	for _, m := range messages {
		b, _ = m.Encode(b)
	}
	return b
}

// TestRepair holds which errors of a standby are cured unseen, and which are the client's.
func TestRepair(t *testing.T) {
	const answer = "T D(select 1) C(SELECT 1) Z(I)"
	refused := func(code string) []byte {
		return encoded(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: code}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	}
	fatal := func(code string) []byte {
		return encoded(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: code})
	}
	description := encoded(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("a")}}})
	row := encoded(&pgproto3.DataRow{Values: [][]byte{[]byte("x")}})
	after := func(parts ...[]byte) (all []byte) {
		for _, p := range parts {
			all = append(all, p...)
		}
		return all
	}
	toPrimary := []string{"need read", "attach standby", "release", "need write", "attach primary", "release"}
	elsewhere := []string{"need read", "attach standby", "discard", "need read", "attach standby", "release"}
	another := []string{"need read", "attach standby", "release", "need read", "attach standby", "release"}
	tests := []struct {
		name   string
		answer []byte
		want   string
		trail  []string
	}{
		{"a write", refused("25006"), answer, []string{"need read", "attach standby", "discard", "need write", "attach primary", "release"}},
		{"unlogged table", refused("0A000"), answer, toPrimary},
		{"recovery is in progress", refused("55000"), answer, toPrimary},
		{"recovery conflict", refused("40001"), answer, another},
		{"deadlock with recovery", refused("40P01"), answer, another},
		{"a damaged page", refused("XX001"), answer, another},
		{"a disk that can't be read", refused("58030"), answer, another},
		{"no memory", refused("53200"), "E(53200) Z(I)", []string{"need read", "attach standby", "release"}},
		{"not replayed yet", refused("42P01"), answer, toPrimary},
		{"behind the description", after(description, refused("40001")), answer, another},
		{"terminated", fatal("57P01"), answer, elsewhere},
		{"crashed", fatal("57P02"), answer, elsewhere},
		{"shutting down", fatal("57P03"), answer, elsewhere},
		{"connection conflicts with recovery", fatal("40001"), answer, elsewhere},
		{"terminated behind the description", after(description, fatal("57P01")), answer, elsewhere},
		{"the client's own error", refused("22012"), "E(22012) Z(I)", []string{"need read", "attach standby", "release"}},
		{"cancelled", refused("57014"), "E(57014) Z(I)", []string{"need read", "attach standby", "release"}},
		{"behind a row", after(description, row, refused("40001")), "T D(x) E(40001) Z(I)", []string{"need read", "attach standby", "release"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.standbys = []replication.NodeID{"s", "s2"}
			r.trail = nil
			r.hold = true
			r.deliver(Client, wire.AppendQuery(nil, "select 1"))
			r.hold, r.backlog = false, nil
			r.fromServer(test.answer)
			r.expect("the client", r.told(), test.want)
			r.expectTrail(test.trail...)
		})
	}
}

// TestRepairTerminated holds that a read which somebody ends on the primary runs again once, and then is over.
func TestRepairTerminated(t *testing.T) {
	r := newRig(t)
	r.standbys = nil
	end := encoded(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01"})
	r.hold = true
	r.deliver(Client, wire.AppendQuery(nil, "select 1"))
	r.backlog, r.trail = nil, nil
	r.fromServer(end)
	r.expect("ended once", r.told(), "")
	r.expectTrail("discard", "need read", "attach primary")
	r.backlog = nil
	r.fromServer(end)
	r.expect("ended twice", r.told(), "E(57P01) Z(I)")
	r.hold = false
	r.expect("the next", r.query("select 1"), "T D(select 1) C(SELECT 1) Z(I)")
}

// TestRepairEverywhere holds that a turn which every standby fails is tried on each of them once, and then on the primary.
func TestRepairEverywhere(t *testing.T) {
	const answer = "T D(select 1) C(SELECT 1) Z(I)"
	on := func(roles ...string) (trail []string) {
		for i, role := range roles {
			need, end := "need read", "release"
			if role == "dies" {
				role, end = "standby", "die"
			}
			if role == "insists" {
				role, need = "primary", "need write"
			}
			trail = append(trail, need, "attach "+role)
			if i < len(roles)-1 || role == "primary" || end == "die" {
				trail = append(trail, end)
			}
		}
		return trail
	}
	tests := []struct {
		name     string
		standbys []replication.NodeID
		fallback router.Fallback
		fails    string // for each standby in turn: conflict or death
		want     string
		trail    []string
	}{
		{"one standby", []replication.NodeID{"s"}, 0, "c", answer, on("standby", "primary")},
		{"two standbys", []replication.NodeID{"s", "t"}, 0, "cc", answer, on("standby", "standby", "primary")},
		{"a conflict and a death", []replication.NodeID{"s", "t"}, 0, "cd", answer, on("standby", "dies", "primary")},
		{"a death and a conflict", []replication.NodeID{"s", "t"}, 0, "dc", answer, on("dies", "standby", "primary")},
		{"more standbys than are tried", []replication.NodeID{"s", "t", "u", "v"}, 0, "ccc", answer,
			on("standby", "standby", "standby", "insists")},
		{"never the primary", []replication.NodeID{"s"}, router.FallbackError, "ccccccc", answer,
			append(on("standby", "standby", "standby", "standby", "standby", "standby", "standby", "standby"), "release")},
		{"in vain", []replication.NodeID{"s"}, router.FallbackError, "cccccccc", "E(40001) Z(I)",
			append(on("standby", "standby", "standby", "standby", "standby", "standby", "standby", "standby"), "release")},
	}
	conflict := encoded(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "40001"}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.standbys, r.cfg.Defaults.Fallback = test.standbys, test.fallback
			r.trail = nil
			r.hold = true
			r.deliver(Client, wire.AppendQuery(nil, "select 1"))
			for i, fate := range test.fails {
				r.backlog = nil
				if i == len(test.fails)-1 {
					r.hold = false
				}
				if fate == 'd' {
					r.die()
				} else {
					r.fromServer(conflict)
				}
			}
			r.expect("the client", r.told(), test.want)
			var trail []string
			for i, what := range r.trail { // what is given back between two attempts goes without saying
				if what != "release" || i == len(r.trail)-1 {
					trail = append(trail, what)
				}
			}
			r.trail = trail
			r.expectTrail(without(test.trail, "release")...)
		})
	}
}

// without returns list without what, but for its end.
func without(list []string, what string) (rest []string) {
	for i, one := range list {
		if one != what || i == len(list)-1 {
			rest = append(rest, one)
		}
	}
	return rest
}

// TestRepairOfTransaction holds that a server connection on which a transaction was opened in the turn that failed is not
// lent to others.
func TestRepairOfTransaction(t *testing.T) {
	r := newRig(t)
	r.trail, r.hold = nil, true
	group := wiretest.Encode(&pgproto3.Parse{Query: "begin read only"}, &pgproto3.Bind{}, &pgproto3.Execute{})
	r.deliver(Client, append(group, wiretest.Extended("", "select 1")...))
	r.hold, r.backlog = false, nil
	r.fromServer(encoded(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}))
	r.fromServer(encoded(&pgproto3.ErrorResponse{Severity: "ERROR", SeverityUnlocalized: "ERROR", Code: "40001"}, &pgproto3.ReadyForQuery{TxStatus: 'E'}))
	r.expect("the client", r.told(), "1 2 C(BEGIN) 1 2 T D(select 1) C(SELECT 1) Z(T)")
	r.expectTrail("need read", "attach standby", "discard", "need read", "attach primary")
}

// TestRepairDeath holds that a read runs again when its connection dies before the first row, and not behind it.
func TestRepairDeath(t *testing.T) {
	for _, rows := range []bool{false, true} {
		r := newRig(t)
		r.hold = true
		r.deliver(Client, wire.AppendQuery(nil, "select 1"))
		r.hold, r.backlog = false, nil
		parts := []pgproto3.BackendMessage{&pgproto3.RowDescription{}}
		want := "T D(select 1) C(SELECT 1) Z(I)"
		if rows {
			parts = append(parts, &pgproto3.DataRow{Values: [][]byte{[]byte("x")}})
			want = "T D(x) E(08006) Z(I)"
		}
		r.fromServer(encoded(parts...))
		r.die()
		r.expect("the client", r.told(), want)
	}
}

// TestRefusedAreRemembered holds that a statement which a standby has refused goes to the primary at once the next time,
// with other constants too, whoever sends it and however.
func TestRefusedAreRemembered(t *testing.T) {
	r := newRig(t)
	shared := &sharedCatalog{}
	r.s.catalog = shared
	r.trail = nil
	r.query("select 'nextval' where 1 = 1")
	r.expectTrail("need read", "attach standby", "discard", "need write", "attach primary", "release")
	r.query("SELECT 'nextval' where 1 = 2")
	r.expectTrail("need write", "attach primary", "release")
	r.send(wiretest.Extended("p", "select 'nextval' where 1 = 3"))
	r.expectTrail("need write", "attach primary", "release")
	r.send(wiretest.Extended("p", ""))
	r.expectTrail("need write", "attach primary", "release")
	r.query("select 1")
	r.expectTrail("need read", "attach standby", "release")
	shared.refused = nil
	r.send(wiretest.Extended("p", ""))
	r.expectTrail("need read", "attach standby", "discard", "need write", "attach primary", "release")
	r.send(wiretest.Extended("p", ""))
	r.expectTrail("need write", "attach primary", "release")
}

// TestRefusedInReadOnlyTransaction holds that the error of a client that asked for READ ONLY is its own.
func TestRefusedInReadOnlyTransaction(t *testing.T) {
	r := newRig(t)
	r.query("begin read only")
	r.expect("a write", r.query("insert 1"), "E(25006) Z(E)")
	r.expect("rollback", r.query("rollback"), "C(ROLLBACK) Z(I)")
}

// TestVerdictsAreCached holds that running a named prepared statement again costs no look at its text: neither of the
// classifier nor of the table of shared bodies.
func TestVerdictsAreCached(t *testing.T) {
	r := newRig(t)
	r.send(wiretest.Extended("p", "select 1"))
	st := r.s.prepared.find([]byte("p"))
	st.verdict.Kind = 0 // a write, which no look at the text would say
	r.trail = nil
	r.send(wiretest.Extended("p", ""))
	r.expectTrail("need write", "attach primary", "release")
}
