package session

import (
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
	p.frames(Client, p.request)
	p.frames(Server, p.answer)
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

func preparedPath(tb testing.TB) *path {
	p := newPath(tb, nil, replication.RoleStandby)
	p.request = wiretest.Extended("s", "select 1")
	p.answer = answer(&pgproto3.ParseComplete{}, &pgproto3.BindComplete{}, &pgproto3.NoData{},
		&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")}, &pgproto3.ReadyForQuery{TxStatus: 'I'})
	p.turn()
	p.request = wiretest.Extended("s", "")
	p.answer = p.answer[5:]
	return p
}

func paths(tb testing.TB) map[string]*path {
	read := newPath(tb, nil, replication.RoleStandby)
	read.request, read.answer = simpleRequest, simpleAnswer
	write := newPath(tb, nil, replication.RolePrimary)
	write.request, write.answer = writeRequest, writeAnswer
	return map[string]*path{"simple read": read, "simple write": write, "prepared read": preparedPath(tb)}
}

// TestNoAllocations holds the budget of the simple path (DESIGN 4.8).
func TestNoAllocations(t *testing.T) {
	for name, p := range paths(t) {
		t.Run(name, func(t *testing.T) {
			p.turn()
			if p.toServer == 0 || p.r.s.Info().Turns == 0 || p.r.s.srv != nil {
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
