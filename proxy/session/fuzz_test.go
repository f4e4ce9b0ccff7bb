package session

import (
	"strings"
	"testing"

	"github.com/jackc/pgproto3/v2"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// frames are what the fuzzed client says; turns is how many ReadyForQuery it is owed for it.
var frames = []struct {
	bytes []byte
	turns int
}{
	{wire.AppendQuery(nil, "select 1"), 1},
	{wire.AppendQuery(nil, "insert 1"), 1},
	{wire.AppendQuery(nil, "begin"), 1},
	{wire.AppendQuery(nil, "begin read only"), 1},
	{wire.AppendQuery(nil, "commit"), 1},
	{wire.AppendQuery(nil, "rollback"), 1},
	{wire.AppendQuery(nil, "select fail"), 1},
	{wire.AppendQuery(nil, "select 'nextval'"), 1},
	{wire.AppendQuery(nil, "set work_mem = '1MB'"), 1},
	{wire.AppendQuery(nil, "set application_name = 'x'; select 2"), 1},
	{wire.AppendQuery(nil, "reset work_mem"), 1},
	{wire.AppendQuery(nil, "discard all"), 1},
	{wire.AppendQuery(nil, "listen a"), 1},
	{wire.AppendQuery(nil, "deallocate a"), 1},
	{wire.AppendQuery(nil, ""), 1},
	{wire.AppendEmpty(nil, 'S'), 1},
	{wire.AppendEmpty(nil, 'H'), 0},
	{wiretest.Encode(&pgproto3.Parse{Query: "select 3"}), 0},
	{wiretest.Encode(&pgproto3.Parse{Name: "a", Query: "select 4"}), 0},
	{wiretest.Encode(&pgproto3.Parse{Name: "a", Query: "insert 4"}), 0},
	{wiretest.Encode(&pgproto3.Parse{Name: "b", Query: "commit"}), 0},
	{wiretest.Encode(&pgproto3.Parse{Name: "c", Query: "syntax"}), 0},
	{wiretest.Encode(&pgproto3.Bind{}), 0},
	{wiretest.Encode(&pgproto3.Bind{PreparedStatement: "a"}), 0},
	{wiretest.Encode(&pgproto3.Bind{PreparedStatement: "b", DestinationPortal: "p"}), 0},
	{wiretest.Encode(&pgproto3.Describe{ObjectType: 'P'}), 0},
	{wiretest.Encode(&pgproto3.Describe{ObjectType: 'S', Name: "a"}), 0},
	{wiretest.Encode(&pgproto3.Execute{}), 0},
	{wiretest.Encode(&pgproto3.Execute{Portal: "p"}), 0},
	{wiretest.Encode(&pgproto3.Close{ObjectType: 'S', Name: "a"}), 0},
	{wiretest.Extended("", "select 5"), 1},
	{wiretest.Extended("a", ""), 1},
	{wiretest.Extended("", "begin"), 1},
	{wiretest.Extended("", "rollback"), 1},
	{wiretest.Encode(&pgproto3.CopyData{Data: []byte("1\n")}), 0},
	{wiretest.Encode(&pgproto3.CopyDone{}), 0},
	{wire.AppendQuery(nil, "copy t from stdin"), 1}, // from here on turns are not counted
	{wiretest.Extended("", "copy t from stdin"), 1}, // to here
	{wire.AppendQuery(nil, "set walgate.consistency = 'strong'"), 1},
	{wire.AppendQuery(nil, "set walgate.token = 'x'"), 1},
	{wire.AppendQuery(nil, "show walgate.route"), 1},
	{wire.AppendQuery(nil, "show walgate.token"), 1},
	{wiretest.Extended("", "set walgate.target = 'x'"), 1},
	{wiretest.Extended("a", "show walgate.consistency"), 1},
	{wiretest.Extended("", "show walgate.token"), 1},
	{wiretest.Encode(&pgproto3.Parse{Query: "set local synchronous_commit = off"}), 0},
	{wiretest.Encode(&pgproto3.Parse{Name: "a", Query: "set walgate.token = '1-0/1'"}), 0},
	{wire.AppendQuery(nil, "/* walgate: token=x tag=y */ select 6"), 1},
}

const firstCopy, lastCopy = 36, 37

// FuzzHandle plays conversations with trouble: the session never panics, never stops for good, and every turn is
// answered by exactly one ReadyForQuery.
func FuzzHandle(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7})
	f.Add([]byte{2, 200, 1, 201, 0, 5})
	f.Add([]byte{18, 23, 27, 15, 18, 15, 31, 210, 31, 203})
	f.Add([]byte{2, 1, 205, 4, 206, 202, 0, 9, 11, 12, 201, 1})
	f.Add([]byte{36, 34, 35, 37, 34, 35, 15})
	f.Add([]byte{2, 0, 30, 1, 4, 2, 7, 204, 17, 22, 27, 15, 192, 5, 2, 19, 23, 27, 15})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 60 {
			return
		}
		for how := router.TransactionsAtBegin; how <= router.TransactionsReads; how++ {
			play(t, script, how)
		}
	})
}

func play(t *testing.T, script []byte, how router.Transactions) {
	r := newRig(t)
	r.cfg.Defaults.Transactions = how
	g := &game{r: r}
	defer func() {
		if t.Failed() {
			t.Log(how, spell(script))
		}
	}()
	for _, op := range script {
		if r.closed {
			return
		}
		if int(op) < len(frames) {
			g.turns += frames[op].turns
			g.copied = g.copied || int(op) >= firstCopy && int(op) <= lastCopy
			g.client(frames[op].bytes)
			continue
		}
		g.trouble(op)
	}
	g.calm()
	if r.closed {
		return
	}
	// Whatever state a copy or an error has left, this ends it. Frames of ours may be skipped or ignored, a Z may not.
	if g.copied {
		g.client(wiretest.Encode(&pgproto3.CopyFail{}))
	}
	g.turns++
	g.client(wire.AppendEmpty(nil, 'S'))
	g.calm()
	answer := wiretest.Describe(r.client)
	if strings.Contains(answer, "torn") {
		t.Fatalf("torn answer %s", answer)
	}
	if !strings.Contains(answer, "Z(") {
		t.Fatalf("no answer to Sync: %q, trail %v", answer, r.trail)
	}
	if z := strings.Count(answer, "Z("); !g.copied && !g.skippedQuery(script) && z != g.turns {
		t.Fatalf("%d turns, %d ReadyForQuery: %s\ntrail %v", g.turns, z, answer, r.trail)
	}
}

// spell writes a script out.
func spell(script []byte) string {
	names := []string{"die", "failover", "open", "drain", "shut gate", "open gate", "time", "cancel", "hold answers",
		"deliver", "full", "refuse"}
	var words []string
	for _, op := range script {
		if int(op) < len(frames) {
			words = append(words, strings.ReplaceAll(strings.ToValidUTF8(string(frames[op].bytes), "."), "\x00", "."))
		} else {
			words = append(words, "<"+names[op%12]+">")
		}
	}
	return strings.Join(words, " | ")
}

type game struct {
	r      *rig
	turns  int
	copied bool
	parked []byte // client bytes not read, because the session does not read
}

// client delivers bytes if the session reads.
func (g *game) client(b []byte) {
	g.parked = append(g.parked, b...)
	g.read()
}

func (g *game) read() {
	if !g.r.stopped[Client] && !g.r.closed && len(g.parked) > 0 {
		b := g.parked
		g.parked = nil
		g.r.deliver(Client, b)
	}
}

// skippedQuery reports whether a simple query may stand where a server skips up to Sync: then it is answered by nothing.
func (g *game) skippedQuery(script []byte) bool {
	open := false
	for _, op := range script {
		switch {
		case int(op) >= len(frames):
		case frames[op].bytes[0] == 'Q' && open:
			return true
		case frames[op].turns == 0 && op != 16:
			open = true
		case op == 15, op >= 30 && op <= 33:
			open = false
		}
	}
	return false
}

func (g *game) trouble(op byte) {
	r := g.r
	view := *r.view.Load()
	switch op % 12 {
	case 0:
		if r.srv != nil {
			r.backlog = nil
			r.die()
		}
	case 1: // failover
		view.Version++
		view.Epoch++
		view.Open = op%5 != 0
		r.setView(view)
	case 2: // promotion has ended, or a handoff was called off
		view.Version++
		view.Open = true
		view.Handoff = replication.Handoff{}
		r.setView(view)
	case 3:
		view.Version++
		view.Handoff = replication.Handoff{ID: "h", Draining: true, CancelOpen: op%5 == 0}
		r.setView(view)
	case 4:
		r.gate.Set(replication.Grant{Epoch: view.Epoch, Deadline: r.now})
	case 5:
		r.setView(view)
	case 6:
		r.now = r.now.Add(r.cfg.HoldTimeout / 2)
		r.gate.Set(replication.Grant{Epoch: view.Epoch, Deadline: r.now.Add(r.cfg.HoldTimeout)})
		if r.armAt != 0 && r.now >= r.armAt {
			r.armAt = 0
			r.handle(&Event{Kind: Deadline})
		}
	case 7:
		r.handle(&Event{Kind: CancelRequested})
	case 8:
		r.hold = true
	case 9:
		g.deliverHeld()
	case 10:
		r.handle(&Event{Kind: Full, Side: Side(op / 12 % 2)})
		r.handle(&Event{Kind: Drained, Side: Side(op / 12 % 2)})
	case 11:
		r.refuse = !r.refuse
	}
	r.handle(&Event{Kind: ViewChanged})
	r.grant()
	g.read()
}

func (g *game) deliverHeld() {
	r := g.r
	r.hold = false
	for len(r.backlog) > 0 && r.srv != nil {
		b := r.backlog
		r.backlog = nil
		r.fromServer(b)
	}
	r.backlog = nil
}

// calm lets everything work again until nothing moves.
func (g *game) calm() {
	r := g.r
	r.refuse = false
	view := *r.view.Load()
	view.Version++
	view.Open, view.Handoff = true, replication.Handoff{}
	r.setView(view)
	for range 5 {
		g.deliverHeld()
		r.setView(view)
		r.handle(&Event{Kind: ViewChanged})
		r.handle(&Event{Kind: Deadline})
		r.grant()
		g.read()
	}
}
