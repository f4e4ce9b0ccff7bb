package loop

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/login"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

// Servers lends server connections. Its methods never wait, and call no Waiter themselves.
type Servers interface {
	// Request asks for a server for the ticket: it is returned at once, or refused, or (nil, nil) the ticket's Waiter
	// is called later.
	Request(t *pool.Ticket) (*pool.Server, *session.Failure)
	// Withdraw ends a request; false means that the Waiter has been or will be called all the same.
	Withdraw(t *pool.Ticket) bool
	// GiveBack ends a loan. A ticket that is returned now has the server; its Waiter must be told.
	GiveBack(server *pool.Server, keep bool, now replication.Instant) *pool.Ticket
	// Cancel stops the statement that the server runs. done is called by another goroutine when that has been done or
	// given up.
	Cancel(server *pool.Server, done func())
}

// Door lets clients in.
type Door interface {
	// Login begins the login of the client that has the process id id. It does not wait.
	Login(id uint32, peer login.Peer, req *session.AuthRequest) (*login.Conversation, login.Step)
	// Cancel carries out a CancelRequest. It may wait.
	Cancel(processID uint32, secret []byte)
	// Foreign reports whether another driver must serve a client that asks for this (Entry.Pass).
	Foreign(req *session.AuthRequest) bool
}

// Encryption is what a listener says to clients that ask for TLS, which this driver does not speak itself.
type Encryption uint8

// The answers.
const (
	Clear    Encryption = iota // "no"
	Offered                    // whoever asks for it is passed on
	Required                   // everybody is passed on
)

// Entry is what the clients of one listener have in common.
type Entry struct {
	Session *session.Config
	// Encryption is asked anew for each client: a reload may change it.
	Encryption func() Encryption
	// ProxyFrom are the load balancers whose connections begin with a header of the PROXY protocol.
	ProxyFrom []netip.Prefix
	// Pass takes over a connection that another driver must serve, with what has been read of it. It does not wait.
	Pass func(conn net.Conn, id uint32, early Early)
}

// Early is what has been learned of a connection that is passed on.
type Early struct {
	Remote netip.AddrPort // the client's address as a load balancer has told it; zero: no header has been read
	Read   []byte         // what has been read and must be read again; the receiver's own
	Waited time.Duration  // how much of the time for logins is over
}

// Config bounds a Driver. All fields must be set.
type Config struct {
	Loops        int           // how many; each uses up to one processor
	HighWater    int           // unwritten bytes toward one side that make it Full
	LoginTimeout time.Duration // from accept to the end of login
	Linger       time.Duration // for writing the last words of a session
	Now          func() replication.Instant
}

// Hooks connect a Driver to the proxy. They are called on a loop and must not wait. All must be set.
type Hooks struct {
	// Error is told the SQLSTATE of each error that passes to a client from a server.
	Error func(sqlstate []byte)
	// Turned is told that a turn on the primary has ended, while draining.
	Turned func()
	// Enter gives a client its process id; a refusal (a whole message) means that there are too many. from is invalid for a
	// unix socket.
	Enter func(from netip.Addr) (id uint32, refusal []byte)
	// Leave is told that a client is gone.
	Leave func(id uint32)
}

// readBuffer is the size of the one buffer into which a loop reads, in bytes.
const readBuffer = 64 << 10

// Driver is all the loops. It is safe for concurrent use.
type Driver struct {
	cfg      Config
	servers  Servers
	door     Door
	log      *slog.Logger
	hooks    Hooks
	draining atomic.Bool
	loops    []*loop
	next     atomic.Uint32  // loop for what belongs to none
	tasks    sync.WaitGroup // goroutines that block for a client: their results go to a loop
	started  atomic.Bool    // the loops run, or have run
	ended    chan struct{}  // closed when they do not any more
}

// New makes a Driver whose loops are open but do not run yet.
func New(cfg Config, servers Servers, door Door, log *slog.Logger, hooks Hooks) (*Driver, error) {
	if cfg.Loops <= 0 || cfg.HighWater <= 0 || cfg.LoginTimeout <= 0 || cfg.Linger <= 0 || cfg.Now == nil {
		return nil, errors.New("loop: loops, high-water mark and timeouts must be positive and the clock set")
	}
	if servers == nil || door == nil || log == nil || hooks.Error == nil || hooks.Turned == nil || hooks.Enter == nil || hooks.Leave == nil {
		return nil, errors.New("loop: a dependency is nil")
	}
	d := &Driver{cfg: cfg, servers: servers, door: door, log: log, hooks: hooks, ended: make(chan struct{})}
	for range cfg.Loops {
		l, err := newLoop(d)
		if err != nil {
			for _, open := range d.loops {
				open.close()
			}
			return nil, err
		}
		d.loops = append(d.loops, l)
	}
	return d, nil
}

// MinReadBuffer is what the cutter needs; see wire.MinReadBuffer.
var _ [readBuffer - wire.MinReadBuffer]struct{}

// Run runs the loops until ctx ends. By then no client and no server connection may be left.
func (d *Driver) Run(ctx context.Context) {
	d.started.Store(true)
	var running sync.WaitGroup
	for _, l := range d.loops {
		running.Go(func() { l.run(ctx) })
	}
	running.Wait()
	close(d.ended) // before the wait: a task may wait for a loop
	d.tasks.Wait()
	for _, l := range d.loops {
		l.close()
	}
}

// Adopt implements pool.Keeper for server connections that were opened for nobody in particular: a loop keeps them.
func (d *Driver) Adopt(ps *pool.Server, t *pool.Ticket) {
	d.loops[int(d.next.Add(1))%len(d.loops)].Adopt(ps, t)
}

// Move implements pool.Keeper.
func (d *Driver) Move(ps *pool.Server, t *pool.Ticket) { ps.Keeper().Move(ps, t) }

// on runs do on each loop and waits for all of them; loops that do not run have nothing to do it with. It must not be
// called on a loop.
func (d *Driver) on(do func(l *loop)) {
	if !d.started.Load() {
		return
	}
	select {
	case <-d.ended:
		return
	default:
	}
	done := make(chan struct{}, len(d.loops))
	for _, l := range d.loops {
		l.post(func() {
			do(l)
			done <- struct{}{}
		})
	}
	for range d.loops {
		select {
		case <-done:
		case <-d.ended:
			return
		}
	}
}

// ViewChanged lets every session that waits or has a server look at the newest view. It does not wait for them.
func (d *Driver) ViewChanged() {
	for _, l := range d.loops {
		l.post(l.viewChanged)
	}
}

// SetDraining says whether Hooks.Turned is called.
func (d *Driver) SetDraining(on bool) { d.draining.Store(on) }

// Shutdown ends each session when it has no transaction open; failure is what the clients are told.
func (d *Driver) Shutdown(failure session.Failure) { d.endAll(session.Shutdown, failure) }

// Kill ends all sessions now.
func (d *Driver) Kill(failure session.Failure) { d.endAll(session.Kill, failure) }

func (d *Driver) endAll(kind session.EventKind, failure session.Failure) {
	d.on(func(l *loop) {
		for _, c := range l.clients {
			c.end(kind, failure)
		}
	})
}

// KillClient ends one session now; false means that there is none.
func (d *Driver) KillClient(id uint32, failure session.Failure) bool {
	var found atomic.Bool
	d.on(func(l *loop) {
		if c := l.clients[id]; c != nil {
			c.end(session.Kill, failure)
			found.Store(true)
		}
	})
	return found.Load()
}

// CancelRequested carries out a CancelRequest with the client's key. When it returns the session has been told.
func (d *Driver) CancelRequested(id uint32) {
	d.on(func(l *loop) {
		if c := l.clients[id]; c != nil && c.stage == stageSession {
			c.tell(session.Event{Kind: session.CancelRequested})
		}
	})
}

// Sessions calls yield for each session, with the address of its client. The facts of a session's server are a copy of
// the pointer only: read its fixed fields.
func (d *Driver) Sessions(yield func(id uint32, client string, info session.Info)) {
	type row struct {
		id     uint32
		remote netip.AddrPort
		info   session.Info
	}
	var mu sync.Mutex
	var all []row
	d.on(func(l *loop) {
		mu.Lock()
		defer mu.Unlock()
		for id, c := range l.clients {
			all = append(all, row{id, c.remote, c.session.Info()})
		}
	})
	for _, r := range all {
		client := "unix"
		if r.remote.IsValid() {
			client = r.remote.String()
		}
		yield(r.id, client, r.info)
	}
}

// IdleOnPrimary counts the sessions that keep a primary connection without an open turn or transaction.
func (d *Driver) IdleOnPrimary() int {
	var idle atomic.Int64
	d.on(func(l *loop) {
		for _, c := range l.clients {
			if c.server != nil && c.server.pool.Primary() && !c.session.OpenOnPrimary() {
				idle.Add(1)
			}
		}
	})
	return int(idle.Load())
}

// Counts sums what the driver has seen.
func (d *Driver) Counts() session.Counts {
	var sum session.Counts
	for _, l := range d.loops {
		n := &l.counters
		sum = sum.Plus(session.Counts{
			FromClients: n.fromClients.Load(), FromServers: n.fromServers.Load(), PrimaryTurns: n.primaryTurns.Load(),
			StandbyTurns: n.standbyTurns.Load(), LoginFailures: n.loginFailures.Load(),
			Calls: session.Calls{Reads: n.reads.Load(), Writes: n.writes.Load(), Waits: n.waits.Load()},
		})
	}
	return sum
}
