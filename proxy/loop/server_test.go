package loop

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// postgres lets one connection in, as a primary, and then says whatever it is told to.
type postgres struct {
	listener net.Listener
	conn     chan net.Conn
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &postgres{listener, make(chan net.Conn, 1)}
	var task sync.WaitGroup
	task.Go(func() { // ends with the login or the listener
		if conn, err := listener.Accept(); err == nil && welcome(conn) == nil {
			p.conn <- conn
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		task.Wait()
		select {
		case conn := <-p.conn:
			_ = conn.Close()
		default:
		}
	})
	return p
}

// welcome answers a StartupMessage and what a pool asks each server.
func welcome(conn net.Conn) error {
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(length[:]))-4); err != nil {
		return err
	}
	b := wire.AppendAuthenticationOk(nil)
	b = wire.AppendParameterStatus(b, "in_hot_standby", "off")
	b = wire.AppendBackendKeyData(b, 42, []byte("key!"))
	b = wire.AppendReadyForQuery(b, 'I')
	row := pgproto3.DataRow{Values: [][]byte{[]byte("f"), []byte("on"), []byte("notice"), []byte("read committed")}}
	b, err := row.Encode(b)
	if err != nil {
		return err
	}
	b = wire.AppendCommandComplete(b, "SELECT 1")
	_, err = conn.Write(wire.AppendReadyForQuery(b, 'I'))
	return err
}

// lent is a Waiter that says what it got.
type lent chan *pool.Server

func (l lent) Granted(_ *pool.Ticket, s *pool.Server)    { l <- s }
func (l lent) Refused(_ *pool.Ticket, _ session.Failure) { l <- nil }

// elsewhere is a Keeper that takes no server.
type elsewhere struct{ adopted chan *pool.Server }

func (e elsewhere) Adopt(s *pool.Server, _ *pool.Ticket) { e.adopted <- s }
func (elsewhere) Move(*pool.Server, *pool.Ticket)        {}

// nobody asks for servers, nor knocks.
type (
	noServers struct{ Servers }
	noDoor    struct{ Door }
)

// testLimit is far more than anything here takes on a machine that stalls.
const testLimit = time.Minute

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(testLimit):
		t.Fatalf("gave up waiting for %s", what)
		panic("not reached")
	}
}

// A server that has said something since it was lent does not move: it ends, and the ticket's holder hears of that at
// once. It would lose a connection over which it has sent its statement already.
func TestNothingMovesInTheMiddle(t *testing.T) {
	start := time.Now()
	clock := func() replication.Instant { return replication.Instant(1 + time.Since(start)) }
	quiet := slog.New(slog.DiscardHandler)
	d, err := New(Config{Loops: 1, HighWater: 1 << 10, LoginTimeout: testLimit, Linger: testLimit, Now: clock}, noServers{}, noDoor{}, quiet, Hooks{
		Error: func([]byte) {}, Turned: func() {}, Enter: func(netip.Addr) (uint32, []byte) { return 0, nil }, Leave: func(uint32) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	set, err := pool.New(pool.Config{
		Limits: func(string, string) pool.Limits { return pool.Limits{Max: 1} }, Dials: 1, Cancels: 1, CancelQueue: 1,
		ReserveTimeout: testLimit, IdleTimeout: testLimit, Lifetime: testLimit, ConnectTimeout: testLimit, Backoff: testLimit, MaxStatements: 1,
		Dialer: pool.Dialer{TCP: pool.TCP{KeepaliveIdle: testLimit, KeepaliveInterval: testLimit, KeepaliveCount: 3}},
		Now:    clock, Secret: func(string) auth.Secret { return auth.Secret{} }, LoggedIn: func(pool.Key, []session.Parameter) {},
		RolesChanged: func() {}, Keeper: d, Reroute: func(*pool.Ticket) {}, Changed: func() {}, Failed: func(_ pool.Key, err error) { t.Error(err) },
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	backend := newPostgres(t)
	loops, endLoops := context.WithCancel(t.Context())
	pools, endPools := context.WithCancel(t.Context())
	var running, pooling sync.WaitGroup
	running.Go(func() { d.Run(loops) })
	pooling.Go(func() { set.Run(pools) })
	defer func() {
		endPools()
		pooling.Wait()
		endLoops()
		running.Wait()
	}()
	set.Apply(replication.View{Version: 1, Epoch: 1, Primary: "n", Open: true, Members: []replication.Member{
		{Name: "n", Host: "127.0.0.1", Port: backend.listener.Addr().(*net.TCPAddr).Port},
	}})
	away := elsewhere{make(chan *pool.Server, 1)}
	w := make(lent, 1)
	ticket := &pool.Ticket{Database: "db", User: "u", Waiter: w, Keeper: d.loops[0]}
	if ps, ok := set.Acquire("n", replication.RolePrimary, 1, ticket); ps != nil || !ok {
		t.Fatalf("acquired %v, %v", ps, ok)
	}
	ps := receive(t, w, "a server")
	conn := receive(t, backend.conn, "the end of the login")
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(wire.AppendParameterStatus(nil, "DateStyle", "ISO")); err != nil {
		t.Fatal(err)
	}
	for heard, deadline := false, time.Now().Add(testLimit); !heard; {
		if time.Now().After(deadline) {
			t.Fatal("the loop has not read what the server says")
		}
		d.on(func(*loop) { heard = ps.Driver.(*server).rest != nil })
	}
	ticket.Keeper = away
	d.loops[0].Move(ps, ticket)
	select {
	case <-away.adopted:
		ps.Ended() // so that the pool can end
		t.Error("a connection moved that has ended")
	case got := <-w:
		if got != ps || !ps.Gone() {
			t.Errorf("granted %p, want %p; gone %v", got, ps, ps.Gone())
		}
	case <-time.After(testLimit):
		t.Error("the ticket's holder hears nothing")
	}
	set.Discard(ps)
}
