package pool

import (
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// fakeServer logs everybody in, or refuses with an error, and counts.
type fakeServer struct {
	listener net.Listener
	standby  atomic.Bool
	refuse   atomic.Pointer[wire.ErrorFields]
	logins   atomic.Int32
	arrived  chan struct{} // one for each login
	cancels  chan net.Conn // a CancelRequest that waits to be closed
	gate     chan struct{} // unless nil, each login waits for it
	atWork   atomic.Int32  // logins that have not been answered
	mostWork atomic.Int32

	mu    sync.Mutex
	conns []net.Conn
	tasks sync.WaitGroup
}

func newFakeServer(t testing.TB) *fakeServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeServer{listener: l, cancels: make(chan net.Conn, 10), arrived: make(chan struct{}, 1000)}
	f.tasks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, conn)
			f.mu.Unlock()
			f.tasks.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.tasks.Wait()
	})
	return f
}

func (f *fakeServer) serve(conn net.Conn) {
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return
	}
	packet := make([]byte, binary.BigEndian.Uint32(length[:])-4)
	if _, err := io.ReadFull(conn, packet); err != nil {
		return
	}
	if kind, _ := wire.ParseStartup(packet); kind == wire.StartupCancel {
		f.cancels <- conn
		return
	}
	f.logins.Add(1)
	select {
	case f.arrived <- struct{}{}:
	default:
	}
	n := f.atWork.Add(1)
	for most := f.mostWork.Load(); n > most && !f.mostWork.CompareAndSwap(most, n); most = f.mostWork.Load() {
	}
	if f.gate != nil {
		<-f.gate
	}
	f.atWork.Add(-1)
	if e := f.refuse.Load(); e != nil {
		_, _ = conn.Write(wire.AppendErrorResponse(nil, *e))
		_ = conn.Close()
		return
	}
	b := wire.AppendAuthenticationOk(nil)
	value := "off"
	if f.standby.Load() {
		value = "on"
	}
	b = wire.AppendParameterStatus(b, "in_hot_standby", value)
	b = wire.AppendBackendKeyData(b, 42, []byte("key!"))
	b = wire.AppendReadyForQuery(b, 'I')
	// The answer to what a pool asks each server.
	row := pgproto3.DataRow{Values: [][]byte{[]byte(value[1:2]), []byte("on"), []byte("notice"), []byte("read committed")}}
	if f.standby.Load() {
		row.Values[0] = []byte("t")
	}
	b, _ = row.Encode(b)
	b = wire.AppendCommandComplete(b, "SELECT 1")
	_, _ = conn.Write(wire.AppendReadyForQuery(b, 'I'))
}

func (f *fakeServer) member(name replication.NodeID) replication.Member {
	return replication.Member{Name: name, Host: "127.0.0.1", Port: f.listener.Addr().(*net.TCPAddr).Port}
}

// answer is what a Waiter was told.
type answer struct {
	server  *Server
	failure session.Failure
}

type waiter chan answer

func (w waiter) Granted(_ *Ticket, s *Server)         { w <- answer{server: s} }
func (w waiter) Refused(_ *Ticket, f session.Failure) { w <- answer{failure: f} }
func (w waiter) want(t *testing.T) answer             { t.Helper(); return receive(t, w, "an answer") }

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("gave up waiting for %s", what)
		panic("not reached")
	}
}

// bench is a Set with a fake node n1 as primary and n2 as standby.
type bench struct {
	*Set
	n1, n2   *fakeServer
	now      atomic.Int64
	ended    chan *Server
	readers  sync.WaitGroup
	rerouted chan *Ticket
	changed  atomic.Int32
	roles    atomic.Int32 // calls of RolesChanged
	deaf     *atomic.Bool // nil or false: the keeper reads
}

// Adopt implements Keeper.
func (b *bench) Adopt(s *Server, _ *Ticket) {
	s.Rehome(b, s.Conn)
	if b.deaf != nil && b.deaf.Load() {
		return
	}
	b.readers.Go(func() { // ends with the connection
		_, _ = io.Copy(io.Discard, s.Conn)
		_ = s.Conn.Close()
		s.Ended()
		b.ended <- s
	})
}

// Move implements Keeper: with a single one there is nothing to move.
func (b *bench) Move(*Server, *Ticket) { panic("moved") }

// limited gives every pool the same limits.
func limited(l Limits) func(database, user string) Limits {
	return func(string, string) Limits { return l }
}

func newBench(t testing.TB, change func(*Config)) *bench {
	t.Helper()
	b := &bench{n1: newFakeServer(t), n2: newFakeServer(t), ended: make(chan *Server, 1000), rerouted: make(chan *Ticket, 100)}
	b.n2.standby.Store(true)
	b.now.Store(1)
	cfg := Config{
		Limits: limited(Limits{Max: 2}), Dials: 10, Cancels: 2, CancelQueue: 100, ReserveTimeout: time.Hour,
		IdleTimeout: time.Hour, Lifetime: 24 * time.Hour, ConnectTimeout: 5 * time.Second, Backoff: time.Millisecond,
		MaxStatements: 10, Dialer: Dialer{TCP: TCP{KeepaliveIdle: time.Minute, KeepaliveInterval: time.Minute, KeepaliveCount: 3}},
		Now:      func() replication.Instant { return replication.Instant(b.now.Load()) },
		Secret:   func(string) auth.Secret { return auth.Secret{} },
		LoggedIn: func(Key, []session.Parameter) {}, RolesChanged: func() { b.roles.Add(1) },
		Keeper:  b,
		Reroute: func(t *Ticket) { b.rerouted <- t },
		Changed: func() { b.changed.Add(1) },
		Failed:  func(Key, error) {},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	if b.Set, err = New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	b.Apply(b.view(1))
	t.Cleanup(func() {
		for _, budget := range b.list() {
			budget.fence(true)
		}
		b.tasks.Wait()
		b.readers.Wait()
	})
	return b
}

func (b *bench) view(epoch replication.Epoch) replication.View {
	return replication.View{
		Version: uint64(epoch), Epoch: epoch, Primary: "n1", Open: true,
		Members: []replication.Member{b.n1.member("n1"), b.n2.member("n2")},
	}
}

// ask requests a primary connection; a nil server means that the ticket waits.
func (b *bench) ask(t *testing.T, at replication.Instant) (*Ticket, waiter, *Server) {
	t.Helper()
	w := make(waiter, 1)
	ticket := &Ticket{Database: "db", User: "u", Waiter: w, Need: session.Need{Ticket: at}}
	s, ok := b.Acquire("n1", replication.RolePrimary, 1, ticket)
	if !ok {
		t.Fatal("Acquire refused")
	}
	return ticket, w, s
}

// take is ask and wait.
func (b *bench) take(t *testing.T) *Server {
	t.Helper()
	_, w, s := b.ask(t, 1)
	if s == nil {
		s = w.want(t).server
	}
	if s == nil {
		t.Fatal("refused")
	}
	return s
}

func (b *bench) release(s *Server) { b.Deliver(b.Release(s, replication.Instant(b.now.Load())), s) }

func TestTicketsFirstComeServersLastIn(t *testing.T) {
	b := newBench(t, nil)
	s1, s2 := b.take(t), b.take(t)
	var tickets []waiter
	for i := range 3 {
		_, w, s := b.ask(t, replication.Instant(10+i))
		if s != nil {
			t.Fatal("more servers than the maximum")
		}
		tickets = append(tickets, w)
	}
	_, old, _ := b.ask(t, 5) // returns with the ticket of an earlier wait
	b.release(s1)
	if got := old.want(t).server; got != s1 {
		t.Errorf("the oldest ticket got %v, want s1", got)
	}
	b.release(s2)
	if got := tickets[0].want(t).server; got != s2 {
		t.Errorf("the next ticket got %v, want s2", got)
	}
	b.release(s1)
	b.release(s2)
	tickets[1].want(t)
	tickets[2].want(t)
	b.release(s1)
	b.release(s2)
	if got := b.take(t); got != s2 {
		t.Error("the server that was used last is not lent first")
	}
	if n := b.n1.logins.Load(); n != 2 {
		t.Errorf("%d connections were opened, want 2", n)
	}
}

func TestWithdraw(t *testing.T) {
	b := newBench(t, nil)
	s1, s2 := b.take(t), b.take(t)
	first, _, _ := b.ask(t, 1)
	_, second, _ := b.ask(t, 2)
	if !first.Withdraw() {
		t.Fatal("a waiting ticket could not be withdrawn")
	}
	if first.Withdraw() {
		t.Error("withdrawn twice")
	}
	b.release(s1)
	if got := second.want(t).server; got != s1 {
		t.Error("the withdrawn ticket was served")
	}
	if _, ok := b.Acquire("n1", replication.RolePrimary, 1, first); ok {
		t.Error("a withdrawn ticket was queued")
	}
	b.release(s1)
	b.release(s2)
}

func TestFence(t *testing.T) {
	b := newBench(t, nil)
	busy, idle := b.take(t), b.take(t)
	b.release(idle)
	standby := make(waiter, 1)
	reader := &Ticket{Database: "db", User: "u", Waiter: standby}
	if _, ok := b.Acquire("n2", replication.RoleStandby, 0, reader); !ok {
		t.Fatal("standby refused")
	}
	reading := standby.want(t).server
	if tickets := b.Apply(b.view(2)); len(tickets) != 0 {
		t.Errorf("tickets: %v", tickets)
	}
	got := []*Server{receive(t, b.ended, "the end of a connection"), receive(t, b.ended, "the end of a connection")}
	if !slices.Contains(got, busy) || !slices.Contains(got, idle) {
		t.Error("an older epoch's connection is alive")
	}
	b.release(busy) // its session is late: the server must not come back
	if _, ok := b.Acquire("n1", replication.RolePrimary, 1, &Ticket{Database: "db", User: "u"}); ok {
		t.Error("a connection of the older epoch was granted")
	}
	if reading.Gone() {
		t.Error("a standby's connection ended with the primary's epoch")
	}
	b.release(reading)
	// n2 is promoted: its idle standby connections are worth nothing now.
	view := b.view(3)
	view.Primary = "n2"
	b.Apply(view)
	if receive(t, b.ended, "the end of the standby's connection") != reading {
		t.Error("another connection ended")
	}
	if _, ok := b.Acquire("n2", replication.RoleStandby, 3, &Ticket{Database: "db", User: "u"}); ok {
		t.Error("the primary was lent as a standby")
	}
}

func TestDraining(t *testing.T) {
	b := newBench(t, nil)
	s1, s2 := b.take(t), b.take(t)
	waiting, w, _ := b.ask(t, 1)
	view := b.view(1)
	view.Version, view.Handoff = 2, replication.Handoff{ID: "h", Draining: true}
	tickets := b.Apply(view)
	if len(tickets) != 1 || tickets[0] != waiting {
		t.Fatalf("tickets sent away: %v", tickets)
	}
	if n := b.PrimaryInUse(); n != 2 {
		t.Errorf("in use: %d, want 2", n)
	}
	b.release(s1)
	b.release(s2)
	if n := b.PrimaryInUse(); n != 0 || b.changed.Load() != 2 {
		t.Errorf("in use: %d, changes: %d; want 0, 2", n, b.changed.Load())
	}
	if s, ok := b.Acquire("n1", replication.RolePrimary, 1, waiting); ok || s != nil {
		t.Error("a primary connection was lent while draining")
	}
	b.Apply(b.view(1)) // called off
	if s, ok := b.Acquire("n1", replication.RolePrimary, 1, waiting); !ok || s != s2 {
		t.Errorf("after the drain was called off: %v, %v", s, ok)
	}
	if len(w) != 0 {
		t.Error("the waiter was called too")
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		code    string
		lasting bool
	}{{"3D000", true}, {"28P01", true}, {"28000", true}, {"42501", true}, {"57P03", false}, {"53300", false}, {"57P01", false}}
	for _, tt := range tests {
		t.Run(tt.code, func(t *testing.T) {
			b := newBench(t, nil)
			b.n1.refuse.Store(&wire.ErrorFields{Severity: "FATAL", Code: tt.code, Message: "no"})
			ticket, w, _ := b.ask(t, 1)
			if tt.lasting {
				if got := w.want(t).failure; got.SQLSTATE != tt.code {
					t.Errorf("failure = %+v", got)
				}
				return
			}
			for range 3 { // it goes on trying
				receive(t, b.n1.arrived, "a login")
			}
			b.n1.refuse.Store(nil)
			if got := w.want(t); got.server == nil {
				t.Errorf("failure = %+v, want a server", got.failure)
			}
			_ = ticket
		})
	}
}

func TestStandbyUnreachable(t *testing.T) {
	b := newBench(t, nil)
	b.n2.standby.Store(false) // it is not what the view says
	reader := &Ticket{Database: "db", User: "u", Waiter: make(waiter, 1)}
	if _, ok := b.Acquire("n2", replication.RoleStandby, 0, reader); !ok {
		t.Fatal("refused")
	}
	if got := receive(t, b.rerouted, "the ticket"); got != reader || got.Avoid != "n2" {
		t.Errorf("rerouted %+v", got)
	}
}

func TestWrongRoleIsRetried(t *testing.T) {
	b := newBench(t, nil)
	b.n1.standby.Store(true)
	_, w, _ := b.ask(t, 1)
	for range 2 {
		receive(t, b.n1.arrived, "a login")
	}
	b.n1.standby.Store(false)
	if w.want(t).server == nil {
		t.Error("no server once the node is a primary")
	}
}

func TestCancelParks(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: 1}) })
	s := b.take(t)
	_, w, _ := b.ask(t, 1)
	b.Cancel(s, func() {})
	conn := receive(t, b.n1.cancels, "the cancel request")
	b.release(s)
	if len(w) != 0 {
		t.Error("a server was lent while a cancel request may still hit it")
	}
	_ = conn.Close()
	if w.want(t).server != s {
		t.Error("the server did not come back")
	}
}

func TestIdleAndLifetime(t *testing.T) {
	b := newBench(t, nil)
	s1, s2 := b.take(t), b.take(t)
	b.release(s1)
	b.now.Add(int64(time.Hour))
	b.release(s2)
	for _, budget := range b.list() {
		budget.tend(replication.Instant(b.now.Load()))
	}
	if receive(t, b.ended, "the end of an idle connection") != s1 {
		t.Error("the wrong connection was closed")
	}
	b.now.Add(int64(24 * time.Hour))
	if s := b.take(t); s == s2 {
		t.Error("a connection was lent past its lifetime")
	}
}

// A connection that dies while idle is not lent; one that waits gets a new one.
func TestDeadServers(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: 1}) })
	s := b.take(t)
	_, w, _ := b.ask(t, 1)
	_ = s.Conn.Close()
	receive(t, b.ended, "the end")
	b.Discard(s)
	next := w.want(t).server
	if next == nil || next == s {
		t.Fatal("the dead connection was lent")
	}
	b.release(next)
	_ = next.Conn.Close()
	receive(t, b.ended, "the end")
	if again := b.take(t); again == next {
		t.Error("the dead connection was lent")
	}
}
