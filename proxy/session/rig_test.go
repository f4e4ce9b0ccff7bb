package session

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/proxy/wire/wiretest"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// rig drives one session against played servers: it is the smallest driver there can be.
type rig struct {
	tb      testing.TB
	cfg     *Config
	s       *Session
	now     replication.Instant
	out     Actions
	gate    replication.Gate
	view    atomic.Pointer[replication.View]
	servers map[*ServerFacts]*wiretest.Postgres
	idle    []*ServerFacts
	srv     *ServerFacts
	need    *Need
	client  []byte // what the session wrote to the client since the last look
	stopped [2]bool
	hold    bool // answers of the server are not delivered
	backlog []byte
	// delivering is the server whose bytes are being delivered; behind is what it has answered meanwhile.
	delivering *ServerFacts
	behind     []byte
	closed     bool
	armAt      replication.Instant
	auth       *AuthRequest
	cancels    int
	// slowCancel: the test says when a cancel is done.
	slowCancel bool
	trail      []string   // Need, Release, Discard ...
	asked      Need       // the last Need
	attachment Attachment // what every grant says besides its server
	// definitions are those of the database of all servers.
	definitions Definitions
	defaults    Defaults // of servers to come
	refuse      bool     // Needs are left open
	standbys    []replication.NodeID
	columns     uint32 // the ColumnType of servers to come
	chunk       int    // deliver client and server bytes in reads of this size; 0: whole
	next        uint64
}

func newRig(tb testing.TB, parameters ...string) *rig {
	r := &rig{tb: tb, now: 1000, servers: map[*ServerFacts]*wiretest.Postgres{}, standbys: []replication.NodeID{"s"}}
	r.cfg = &Config{Gate: &r.gate, View: &r.view, Target: router.TargetAuto, Defaults: Reads{Level: router.LevelSession},
		HoldTimeout: 30 * time.Second, GateRecheck: 10 * time.Millisecond, MaxCollected: 64 << 10, MaxHeldReply: 16 << 10,
		MaxSettings: 100, MaxPrepared: 1000}
	r.setView(replication.View{Version: 1, Epoch: 1, Primary: "a", Open: true})
	r.s = New(r.cfg)
	r.login(parameters...)
	return r
}

// limit gives the session limits of time.
func (r *rig) limit(t Timeouts) {
	r.cfg.Timeouts = new(atomic.Pointer[Timeouts])
	r.cfg.Timeouts.Store(&t)
}

func (r *rig) setView(v replication.View) {
	r.view.Store(&v)
	r.gate.Set(replication.Grant{Epoch: v.Epoch, Deadline: r.now.Add(time.Hour)})
}

func (r *rig) login(parameters ...string) {
	packet := wire.AppendStartup(nil, wire.Protocol30, append([]string{"user", "u", "database", "d"}, parameters...)...)
	r.handle(&Event{Kind: Startup, Bytes: packet[4:]})
	if r.auth == nil {
		return
	}
	r.handle(&Event{Kind: AuthResult, Auth: &AuthOutcome{OK: true, ProcessID: 7, Secret: []byte{1, 2, 3, 4},
		Parameters: []Parameter{{"application_name", ""}, {"in_hot_standby", "off"}, {"standard_conforming_strings", "on"}}}})
	r.client = nil
}

func (r *rig) newServer(role replication.Role, node replication.NodeID) *ServerFacts {
	r.next++
	standby := role == replication.RoleStandby
	reported := []Parameter{{"application_name", ""}, {"in_hot_standby", "off"}, {"standard_conforming_strings", "on"}}
	if standby {
		reported[1].Value = "on"
	}
	f := NewServerFacts(r.next, node, role, r.view.Load().Epoch, reported, 4)
	r.servers[f] = wiretest.NewPostgres(standby)
	r.servers[f].ColumnType = r.columns
	f.Definitions, f.Defaults = &r.definitions, r.defaults
	return f
}

// handle gives one event and carries out what follows from it.
func (r *rig) handle(ev *Event) {
	if r.closed {
		return
	}
	r.s.Handle(r.now, ev, &r.out)
	r.carryOut()
}

func (r *rig) carryOut() {
	toServer := append([]byte(nil), r.out.Output(Server)...)
	r.client = append(r.client, r.out.Output(Client)...)
	if len(toServer) > 0 && r.srv == nil {
		r.tb.Fatalf("bytes for a server, but none is attached: %q", toServer)
	}
	for side, change := range r.out.Read {
		switch change {
		case StopReading:
			r.stopped[side] = true
		case ResumeReading:
			r.stopped[side] = false
		}
	}
	cancelled := r.out.CancelServer
	if cancelled {
		r.cancels++
	}
	srv := r.srv
	if r.out.CancelNeed {
		if r.need == nil {
			r.tb.Fatal("CancelNeed without Need")
		}
		r.need = nil
	}
	if d := r.out.Detach; d != Keep {
		if r.srv == nil {
			r.tb.Fatal("detach without server")
		}
		if d == Release {
			r.idle = append(r.idle, r.srv)
			r.trail = append(r.trail, "release")
		} else {
			r.trail = append(r.trail, "discard")
			delete(r.servers, r.srv)
			r.backlog = nil
		}
		r.srv = nil
	}
	if n := r.out.Need; n != nil {
		if r.need != nil || r.srv != nil {
			r.tb.Fatal("Need while one is open or a server is attached")
		}
		r.need = &Need{}
		*r.need, r.asked = *n, *n
		r.trail = append(r.trail, "need "+n.Kind.String())
	}
	if r.out.Authenticate != nil {
		r.auth = r.out.Authenticate
	}
	if r.out.Arm {
		r.armAt = r.out.ArmAt
	}
	if r.out.Close {
		r.closed = true
	}
	r.out.Reset()
	if cancelled && !r.slowCancel {
		r.handle(&Event{Kind: CancelDone})
	}
	if pg := r.servers[srv]; pg != nil && len(toServer) > 0 {
		answer := pg.Feed(toServer)
		if r.hold {
			r.backlog = append(r.backlog, answer...)
		} else {
			r.fromServer(answer)
		}
	}
	r.grant()
}

// grant answers the open Need as a pool would.
func (r *rig) grant() {
	if r.need == nil || r.refuse || r.closed {
		return
	}
	view := r.view.Load()
	role, node := replication.RolePrimary, view.Primary
	if r.need.Kind == router.Read && r.need.Target != router.TargetPrimary || r.need.Target == router.TargetReplica {
		fresh := slices.IndexFunc(r.standbys, func(n replication.NodeID) bool { return !slices.Contains(r.need.Tried, n) })
		switch {
		case fresh >= 0:
			role, node = replication.RoleStandby, r.standbys[fresh]
		case r.need.Fallback == router.FallbackError:
			role, node = replication.RoleStandby, r.standbys[0]
		}
	}
	if role == replication.RolePrimary && !view.Writable() {
		return
	}
	var f *ServerFacts
	if i := slices.IndexFunc(r.idle, func(c *ServerFacts) bool { return c.ID == r.need.Again }); i >= 0 {
		again := r.idle[i]
		r.idle = append(slices.Delete(r.idle, i, i+1), again)
	}
	for i := len(r.idle) - 1; i >= 0; i-- {
		if c := r.idle[i]; c.Role == role && c.Node == node && (role == replication.RoleStandby || c.Epoch == view.Epoch) {
			f = c
			r.idle = append(r.idle[:i], r.idle[i+1:]...)
			break
		}
	}
	if f == nil {
		f = r.newServer(role, node)
	}
	r.srv, r.need = f, nil
	r.trail = append(r.trail, "attach "+role.String())
	a := r.attachment
	a.Server = f
	r.handle(&Event{Kind: Attached, Attachment: a})
}

// fromServer delivers bytes of the attached server; those that answer what is written meanwhile come behind them.
func (r *rig) fromServer(b []byte) {
	if r.delivering != nil && r.delivering == r.srv {
		r.behind = append(r.behind, b...)
		return
	}
	outer, from := r.delivering, r.srv
	r.delivering, r.behind = from, nil
	for len(b) > 0 && r.srv == from && r.delivering == from {
		r.deliver(Server, b)
		b, r.behind = r.behind, nil
	}
	r.delivering = outer
}

// send delivers bytes of the client and returns what the session answered, in short.
func (r *rig) send(b []byte) string {
	r.deliver(Client, b)
	return r.told()
}

func (r *rig) query(sql string) string { return r.send(wire.AppendQuery(nil, sql)) }

func (r *rig) told() string {
	text := wiretest.Describe(r.client)
	r.client = nil
	return text
}

func (r *rig) deliver(side Side, b []byte) {
	from := r.srv
	cutter := wire.Cutter{Frontend: side == Client}
	limit := r.chunk
	for len(b) > 0 {
		window, full := b, false
		if limit > 0 && len(window) > limit {
			window, full = b[:limit], true
		}
		p, n, err := cutter.Cut(window, full)
		if err != nil || n == 0 {
			r.tb.Fatalf("test delivers torn bytes to side %d: %v %q", side, err, b)
		}
		r.handle(&Event{Kind: Frame, Side: side, Type: p.Type, Length: p.Length, Bytes: p.Bytes, First: p.First, Last: p.Last})
		b = b[n:]
		if side == Server && r.srv != from {
			return // what is left came from a connection that is gone
		}
	}
}

// primary returns the played server that is attached or idle with that role.
func (r *rig) server(role replication.Role) *wiretest.Postgres {
	if r.srv != nil && r.srv.Role == role {
		return r.servers[r.srv]
	}
	for _, f := range r.idle {
		if f.Role == role {
			return r.servers[f]
		}
	}
	r.tb.Fatalf("no %s", role)
	return nil
}

// die ends the attached server connection.
func (r *rig) die() {
	r.srv = nil
	r.trail = append(r.trail, "die")
	r.handle(&Event{Kind: Closed, Side: Server})
}

func (r *rig) expect(what, got, want string) {
	r.tb.Helper()
	if got != want {
		r.tb.Errorf("%s:\n got  %s\n want %s\n trail %v", what, got, want, r.trail)
	}
}

func (r *rig) expectTrail(want ...string) {
	r.tb.Helper()
	if fmt.Sprint(r.trail) != fmt.Sprint(want) {
		r.tb.Errorf("trail:\n got  %q\n want %q", r.trail, want)
	}
	r.trail = nil
}
