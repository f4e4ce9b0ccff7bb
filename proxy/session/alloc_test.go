package session

import (
	"runtime"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
)

// path is one turn with its answer, driven without any driver's cost.
type path struct {
	r        *rig
	facts    *ServerFacts
	request  []byte
	answer   []byte
	ev       Event
	toServer int
	before   func() // each turn
	after    func()
}

func newPath(tb testing.TB, request []byte, role replication.Role) *path {
	r := newRig(tb)
	node := replication.NodeID("a")
	if role == replication.RoleStandby {
		node = "s"
	}
	p := &path{r: r, facts: r.newServer(role, node), request: request}
	pg := r.servers[p.facts]
	p.turn() // installs statements
	if pg == nil {
		tb.Fatal("no server")
	}
	return p
}

func (p *path) frames(side Side, b []byte) {
	var cutter wire.Cutter
	for len(b) > 0 {
		piece, n, _ := cutter.Cut(b, false)
		p.ev = Event{Kind: Frame, Side: side, Type: piece.Type, Length: piece.Length, Bytes: piece.Bytes, First: true, Last: true}
		p.r.s.Handle(p.r.now, &p.ev, &p.r.out)
		b = b[n:]
		if p.r.out.Control() {
			p.carryOut()
		}
	}
	p.carryOut()
}

func (p *path) carryOut() {
	out := &p.r.out
	needs := out.Need != nil
	if b := out.Output(Server); len(b) > 0 {
		p.toServer += len(b)
	}
	_ = out.Output(Client)
	out.Reset()
	if needs {
		p.ev = Event{Kind: Attached, Attachment: Attachment{Server: p.facts}}
		p.r.s.Handle(p.r.now, &p.ev, out)
		p.carryOut()
	}
}

func (p *path) turn() {
	if p.before != nil {
		p.before()
	}
	p.frames(Client, p.request)
	p.frames(Server, p.answer)
	if p.after != nil {
		p.after()
	}
}

var (
	simpleRequest = wire.AppendQuery(nil, "select abalance from pgbench_accounts where aid = 1")
	simpleAnswer  = answer(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("x")}}},
		&pgproto3.DataRow{Values: [][]byte{[]byte("1")}}, &pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")},
		&pgproto3.ReadyForQuery{TxStatus: 'I'})
	writeRequest = wire.AppendQuery(nil, "update pgbench_accounts set abalance = 1 where aid = 1")
	writeAnswer  = answer(&pgproto3.CommandComplete{CommandTag: []byte("UPDATE 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
)

func answer(messages ...pgproto3.BackendMessage) (b []byte) {
	for _, m := range messages {
		b, _ = m.Encode(b)
	}
	return b
}

// extendedAnswer answers Parse (if parses), Bind, Describe, Execute and Sync.
func extendedAnswer(parses bool) []byte {
	b := answer(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	if !parses {
		return b[5:]
	}
	return b
}

func preparedPath(tb testing.TB) *path {
	p := newPath(tb, nil, replication.RoleStandby)
	p.request, p.answer = wiretest.Extended("s", "select 1"), extendedAnswer(true)
	p.turn()
	p.request, p.answer = wiretest.Extended("s", ""), extendedAnswer(false)
	return p
}

// newcomerPath executes a statement on a server that has not got it, and has to close another for it.
func newcomerPath(tb testing.TB) *path {
	p := preparedPath(tb)
	closed := answer(&pgproto3.CloseComplete{})
	p.answer = append(closed, extendedAnswer(true)...)
	p.before = func() {
		p.facts.statements.remove(p.r.s.prepared.find([]byte("s")).canonical)
		for _, name := range []string{"a", "b", "c", "d"} {
			p.facts.statements.add(name)
		}
	}
	return p
}

// unnamedPath prepares the same text anew each time, as drivers without named statements do.
func unnamedPath(tb testing.TB) *path {
	p := newPath(tb, nil, replication.RoleStandby)
	p.request, p.answer = wiretest.Extended("", "select 1"), extendedAnswer(true)
	return p
}

// settingsPath meets a server with the settings of somebody else.
func settingsPath(tb testing.TB) *path {
	p := newPath(tb, nil, replication.RoleStandby)
	r := p.r
	var none *settingSet
	other := none.with(&r.cfg.shared, setting{name: "timezone", value: "Asia/Tokyo"}).with(&r.cfg.shared, setting{name: "work_mem", value: "1MB"})
	r.s.want = none.with(&r.cfg.shared, setting{name: "timezone", value: "Europe/Rome"})
	restored := answer(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, ready('I'))
	p.request, p.answer = simpleRequest, append(restored, simpleAnswer...)
	p.before = func() { p.facts.settings = other }
	return p
}

func transactionPath(tb testing.TB) *path {
	p := newPath(tb, nil, replication.RolePrimary)
	p.request, p.answer = wire.AppendQuery(nil, "begin"), answer(tag("BEGIN"), ready('T'))
	p.after = func() {
		p.frames(Client, writeRequest)
		p.frames(Server, writeAnswerInside)
		p.frames(Client, commitRequest)
		p.frames(Server, commitAnswer)
	}
	return p
}

var (
	writeAnswerInside = answer(tag("UPDATE 1"), ready('T'))
	commitRequest     = wire.AppendQuery(nil, "commit")
	commitAnswer      = answer(tag("COMMIT"), ready('I'))
)

func paths(tb testing.TB) map[string]*path {
	read := newPath(tb, nil, replication.RoleStandby)
	read.request, read.answer = simpleRequest, simpleAnswer
	write := newPath(tb, nil, replication.RolePrimary)
	write.request, write.answer = writeRequest, writeAnswer
	return map[string]*path{"simple read": read, "simple write": write, "prepared read": preparedPath(tb),
		"prepared anew": newcomerPath(tb), "unnamed read": unnamedPath(tb), "settings restored": settingsPath(tb),
		"transaction": transactionPath(tb)}
}

// TestNoAllocations holds the budget of the simple path (DESIGN 4.8).
func TestNoAllocations(t *testing.T) {
	for name, p := range paths(t) {
		t.Run(name, func(t *testing.T) {
			p.turn()
			if p.toServer == 0 || p.r.s.Info().Turns == 0 || p.r.s.work != nil {
				t.Fatalf("the path does not work: %+v", p.r.s.Info())
			}
			if n := testing.AllocsPerRun(100, p.turn); n != 0 {
				t.Errorf("%v allocations per turn", n)
			}
		})
	}
}

func BenchmarkTurn(b *testing.B) {
	for name, p := range paths(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.turn()
			}
		})
	}
}

// TestFootprint holds the cost of a session that is logged in and idle (DESIGN 4.8).
func TestFootprint(t *testing.T) {
	const sessions, limit = 2000, 450
	r := newRig(t, "application_name", "app", "timezone", "Europe/Rome")
	packet := wire.AppendStartup(nil, wire.Protocol30, "user", "u", "database", "d", "application_name", "app",
		"timezone", "Europe/Rome")[4:]
	parameters := []Parameter{{"application_name", ""}, {"in_hot_standby", "off"}, {"TimeZone", "Etc/UTC"},
		{"standard_conforming_strings", "on"}}
	all := make([]*Session, sessions)
	facts := r.newServer(replication.RoleStandby, "s")
	var out Actions
	before := heap()
	for i := range all {
		s := New(r.cfg)
		all[i] = s
		s.Handle(r.now, &Event{Kind: Startup, Bytes: packet}, &out)
		out.Reset()
		s.Handle(r.now, &Event{Kind: AuthResult, Auth: &AuthOutcome{OK: true, ProcessID: uint32(i), Secret: []byte{1, 2, 3, 4},
			Parameters: parameters}}, &out)
		out.Reset()
		p := &path{r: &rig{s: s, now: r.now}, facts: facts, request: simpleRequest, answer: simpleAnswer}
		facts.settings = s.want
		p.turn()
		if s.work != nil {
			t.Fatal("an idle session keeps its work")
		}
	}
	if each := (heap() - before) / sessions; each > limit {
		t.Errorf("an idle session costs %d bytes, want at most %d", each, limit)
	} else {
		t.Logf("%d bytes", each)
	}
	runtime.KeepAlive(all)
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
