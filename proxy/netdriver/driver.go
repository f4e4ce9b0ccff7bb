package netdriver

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
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Servers lends server connections. Its methods may be called with a client's mutex held, and call no Waiter
// themselves.
type Servers interface {
	// Request asks for a server for the ticket: it is returned at once, or refused, or (nil, nil) the ticket's Waiter
	// is called later.
	Request(t *pool.Ticket) (*pool.Server, *session.Failure)
	// Withdraw ends a request; false means that the Waiter has been or will be called all the same.
	Withdraw(t *pool.Ticket) bool
	// GiveBack ends a loan. A ticket that is returned now has the server; its Waiter must be called without locks.
	GiveBack(server *pool.Server, keep bool, now replication.Instant) *pool.Ticket
	// Cancel stops the statement that the server runs; it does not wait for that. done is called without locks, by
	// another goroutine, when that has been done or given up.
	Cancel(server *pool.Server, done func())
}

// Door lets clients in. Its methods are called without locks (but Astray), and only Stream blocks.
type Door interface {
	// Login begins the login of the client that has the process id id.
	Login(id uint32, peer login.Peer, req *session.AuthRequest) (*login.Conversation, login.Step)
	// Cancel carries out a CancelRequest.
	Cancel(processID uint32, secret []byte)
	// Stream opens the server's side of a replication connection, or says why not. It waits until ctx ends.
	Stream(ctx context.Context, target router.Target, req *session.AuthRequest) (*pool.Stream, *session.Failure)
	// Astray tells why a replication connection may not go on in the newest view; nil lets it.
	Astray(s *pool.Stream) *session.Failure
}

// Config bounds a Driver. All fields must be set.
type Config struct {
	ReadBuffer   int           // bytes; at least wire.MinReadBuffer
	HighWater    int           // unwritten bytes toward one side that make it Full
	LoginTimeout time.Duration // from accept to the end of login
	Linger       time.Duration // for writing the last words of a session
	Now          func() replication.Instant
}

// Entry is what the clients of one listener have in common.
type Entry struct {
	Session *session.Config
	TLS     *secure.ClientLeg // nil: never (a unix socket)
	Mode    *secure.Mode      // of the listener; nil: that of TLS
	// ProxyFrom are the load balancers whose connections begin with a header of the PROXY protocol.
	ProxyFrom []netip.Prefix
}

// Early is what has been learned of a connection before it came here.
type Early struct {
	Remote netip.AddrPort // as the header of a load balancer has told; zero: no header has been read
	Read   []byte         // what has been read, to be read again before the connection itself
	Waited time.Duration  // how much of the time for logins is over
}

// EncryptionMode is how much TLS a client of this entry must or may have.
func (e *Entry) EncryptionMode() secure.Mode {
	switch {
	case e.TLS == nil:
		return secure.Disable
	case e.Mode != nil:
		return *e.Mode
	}
	return e.TLS.Mode()
}

// counters are session.Counts as they grow.
type counters struct {
	fromClients, fromServers, primaryTurns, standbyTurns, loginFailures atomic.Int64
}

// Driver is what all its Clients share. It is safe for concurrent use.
type Driver struct {
	cfg      Config
	servers  Servers
	door     Door
	log      *slog.Logger
	buffers  sync.Pool // of *[]byte
	actions  sync.Pool // of *session.Actions
	hooks    Hooks
	draining atomic.Bool
	counters counters

	tasks sync.WaitGroup // readers of server connections

	mu      sync.Mutex
	clients map[uint32]*Client // by id
}

// Hooks are called from any goroutine, without locks unless stated. All must be set.
type Hooks struct {
	// Error is told the SQLSTATE of each error that passes to a client from a server; a client's mutex is held.
	Error func(sqlstate []byte)
	// Turned is told that a turn on the primary has ended, while draining.
	Turned func()
	// Console talks to a client of the console, whose session is idle, until the connection ends. Each value on cancels
	// is a CancelRequest.
	Console func(ctx context.Context, conn net.Conn, user string, cancels <-chan struct{})
}

// SetDraining says whether Hooks.Turned is called.
func (d *Driver) SetDraining(on bool) { d.draining.Store(on) }

// New makes a Driver.
func New(cfg Config, servers Servers, door Door, log *slog.Logger, hooks Hooks) (*Driver, error) {
	if cfg.ReadBuffer < wire.MinReadBuffer || cfg.HighWater <= 0 {
		return nil, errors.New("netdriver: read buffer or high-water mark is too small")
	}
	if cfg.LoginTimeout <= 0 || cfg.Linger <= 0 || cfg.Now == nil {
		return nil, errors.New("netdriver: timeouts must be positive and the clock set")
	}
	if servers == nil || door == nil || log == nil || hooks.Error == nil || hooks.Turned == nil || hooks.Console == nil {
		return nil, errors.New("netdriver: a dependency is nil")
	}
	d := &Driver{cfg: cfg, servers: servers, door: door, log: log, hooks: hooks, clients: map[uint32]*Client{}}
	d.buffers.New = func() any {
		buf := make([]byte, cfg.ReadBuffer)
		return &buf
	}
	d.actions.New = func() any { return new(session.Actions) }
	return d, nil
}

// Wait returns when nothing of the driver runs any more: after the last client and the last server connection.
func (d *Driver) Wait() { d.tasks.Wait() }
