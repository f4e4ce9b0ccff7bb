package session

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
)

// elsewhere makes the next turn run on a server connection that has not been used, and whose statements return a column of
// that type.
func (r *rig) elsewhere(columns uint32) {
	r.idle, r.columns = nil, columns
}

// bindOnly executes a prepared statement without a word about what it returns.
func bindOnly(name string) []byte {
	return wiretest.Encode(&pgproto3.Bind{PreparedStatement: name}, &pgproto3.Execute{}, &pgproto3.Sync{})
}

func describe(name string) []byte {
	return wiretest.Encode(&pgproto3.Describe{ObjectType: 'S', Name: name}, &pgproto3.Sync{})
}

const (
	text = 25
	int4 = 23
)

// TestChangedShape: a statement that is not any more what the client was told of it is refused, wherever it runs.
func TestChangedShape(t *testing.T) {
	const update = "update t returning" // runs on the primary and returns nothing here
	prepare := func(r *rig, name, sql string) {
		t.Helper()
		b := wiretest.Encode(&pgproto3.Parse{Name: name, Query: sql}, &pgproto3.Describe{ObjectType: 'S', Name: name}, &pgproto3.Sync{})
		got := r.send(b)
		if !strings.HasPrefix(got, "1 t") {
			t.Fatalf("prepare: %s", got)
		}
	}
	t.Run("the same elsewhere", func(t *testing.T) {
		r := newRig(t)
		prepare(r, "s", "select 1 for update")
		r.elsewhere(text)
		r.expect("runs", r.send(bindOnly("s")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
		r.expect("again", r.send(bindOnly("s")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
		r.expectTrail("need write", "attach primary", "release", "need write", "attach primary", "release", "need write", "attach primary", "release")
	})
	t.Run("another type elsewhere", func(t *testing.T) {
		r := newRig(t)
		prepare(r, "s", "select 1 for update")
		r.elsewhere(int4)
		for range 2 {
			r.expect("refused", r.send(bindOnly("s")), "E(0A000) Z(I)")
			r.expect("refused", r.send(describe("s")), "E(0A000) Z(I)")
		}
		r.query("begin")
		r.expect("in a transaction", r.send(bindOnly("s")), "E(0A000) Z(E)")
		r.expect("which has failed", r.query("commit"), "C(ROLLBACK) Z(I)")
		r.expect("pipelined", r.send(append(bindOnly("s"), bindOnly("s")...)), "E(0A000) Z(I) E(0A000) Z(I)")
		if n := len(wiretestLog(r)); n != 2 {
			t.Errorf("%d statements ran, want BEGIN and COMMIT: %q", n, wiretestLog(r))
		}
		r.query("deallocate s")
		prepare(r, "s", "select 1 for update")
		r.expect("prepared again", r.send(bindOnly("s")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
	})
	t.Run("as a portal told", func(t *testing.T) {
		r := newRig(t)
		r.send(wiretest.Extended("s", "select 1 for update"))
		r.elsewhere(int4)
		r.expect("refused", r.send(wiretest.Extended("s", "")), "E(0A000) Z(I)")
	})
	t.Run("prepared there by somebody else", func(t *testing.T) {
		r := newRig(t)
		prepare(r, "s", "select 1 for update")
		r.elsewhere(int4)
		other := newRig(t)
		other.servers, other.columns = r.servers, int4
		prepare(other, "x", "select 1 for update")
		r.idle = other.idle
		r.expect("refused", r.send(bindOnly("s")), "E(0A000) Z(I)")
		r.expect("not to the other", other.send(bindOnly("x")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
	})
	t.Run("not told", func(t *testing.T) {
		r := newRig(t)
		r.send(wiretest.Encode(&pgproto3.Parse{Name: "s", Query: update}, &pgproto3.Sync{}))
		r.elsewhere(int4)
		r.expect("runs", r.send(bindOnly("s")), "2 C(UPDATE) Z(I)")
	})
	t.Run("a standby that is behind", func(t *testing.T) {
		r := newRig(t)
		prepare(r, "s", "select 1")
		r.elsewhere(int4)
		r.trail = nil
		r.expect("runs on neither", r.send(bindOnly("s")), "E(0A000) Z(I)")
		r.expectTrail("need read", "attach standby", "release", "need write", "attach primary", "release")
	})
	t.Run("refused when it is prepared again", func(t *testing.T) {
		r := newRig(t)
		prepare(r, "s", "select 1 for update")
		r.elsewhere(text)
		r.hold = true
		r.send(append(bindOnly("s"), wire.AppendQuery(nil, "insert 1")...))
		r.backlog, r.hold = nil, false
		r.expect("the error of Parse, and the next turn", r.scripted(failure("42703")), "E(42703) Z(I) C(INSERT) Z(I)")
	})
	t.Run("the server dies meanwhile", func(t *testing.T) {
		r := newRig(t)
		prepare(r, "s", "select 1 for update")
		r.elsewhere(text)
		r.hold = true
		r.send(bindOnly("s"))
		r.hold = false
		r.die()
		r.expect("told", r.told(), "E(08006) Z(I)")
		r.expect("goes on", r.send(bindOnly("s")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
	})
}

// wiretestLog is what the servers of a rig have run.
func wiretestLog(r *rig) (log []string) {
	for _, pg := range r.servers {
		log = append(log, pg.Log...)
	}
	return log
}

// TestUnnamedShape: the unnamed statement is asked about only if something was defined since it was described.
func TestUnnamedShape(t *testing.T) {
	described := func(r *rig) {
		r.send(wiretest.Encode(&pgproto3.Parse{Query: "select 1 for update"}, &pgproto3.Describe{ObjectType: 'S'}, &pgproto3.Sync{}))
	}
	r := newRig(t)
	described(r)
	r.elsewhere(int4)
	r.expect("nothing was defined", r.send(bindOnly("")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
	r = newRig(t)
	described(r)
	r.definitions.changed()
	r.elsewhere(int4)
	r.expect("refused", r.send(bindOnly("")), "E(0A000) Z(I)")
	described(r)
	r.expect("parsed again", r.send(bindOnly("")), "2 D(select 1 for update) C(SELECT 1) Z(I)")
}

// TestParseIsFresh: behind a definition, Parse reaches the server though it has the statement.
func TestParseIsFresh(t *testing.T) {
	tests := []struct {
		name string
		sqls []string
		want string
		told bool // the database is told
	}{
		{"nothing defined", []string{"insert 1"}, "known", false},
		{"table", []string{"create table t (a int)"}, "parsed", true},
		{"several statements", []string{"insert 1; alter table t add b int"}, "parsed", true},
		{"temporary table", []string{"create temp table t (a int)"}, "parsed", false},
		{"in the transaction", []string{"begin", "alter table t add b int"}, "parsed", false},
		{"rolled back", []string{"begin", "alter table t add b int", "select 1", "rollback"}, "parsed", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			count := func() int { return len(r.server(replication.RolePrimary).Parsed) }
			prepare := func() {
				r.send(wiretest.Encode(&pgproto3.Close{ObjectType: 'S', Name: "s"}, &pgproto3.Parse{Name: "s", Query: "select 1 for update"}, &pgproto3.Sync{}))
			}
			prepare()
			prepare()
			if count() != 1 {
				t.Fatalf("parsed %d times, want once", count())
			}
			for _, sql := range test.sqls {
				r.query(sql)
			}
			prepare()
			got := "known"
			if count() == 2 {
				got = "parsed"
			}
			if got != test.want || (r.definitions.count() > 0) != test.told {
				t.Errorf("got %s, want %s; definitions %d", got, test.want, r.definitions.count())
			}
		})
	}
}

// TestDigests: what PostgreSQL does not compare does not count.
func TestDigests(t *testing.T) {
	column := func(name string, table, typ, modifier uint32, format uint16) pgproto3.FieldDescription {
		return pgproto3.FieldDescription{Name: []byte(name), TableOID: table, DataTypeOID: typ, TypeModifier: int32(modifier), Format: int16(format)}
	}
	digest := func(fields ...pgproto3.FieldDescription) uint32 {
		b, err := (&pgproto3.RowDescription{Fields: fields}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		return digestColumns(b[wire.HeaderLen:])
	}
	plain := digest(column("a", 1, 23, 5, 0))
	if plain <= noRows {
		t.Errorf("digest %d", plain)
	}
	if got := digest(column("a", 2, 23, 5, 1)); got != plain {
		t.Error("table and format count")
	}
	for what, got := range map[string]uint32{"name": digest(column("b", 1, 23, 5, 0)), "type": digest(column("a", 1, 20, 5, 0)),
		"modifier": digest(column("a", 1, 23, 6, 0)), "number": digest(column("a", 1, 23, 5, 0), column("a", 1, 23, 5, 0)), "none": digest()} {
		if got == plain {
			t.Errorf("the %s does not count", what)
		}
	}
	if got := digestColumns(binary.BigEndian.AppendUint16(nil, 3)); got != 0 {
		t.Errorf("malformed: %d", got)
	}
}
