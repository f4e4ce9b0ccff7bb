package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/catalog"
	"github.com/walgate/walgate/proxy/loop"
	"github.com/walgate/walgate/proxy/netdriver"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
	"github.com/walgate/walgate/router"
)

// Server is a proxy. It is safe for concurrent use.
type Server struct {
	cfg  Config
	deps Deps
	log  *slog.Logger

	view       atomic.Pointer[replication.View] // what sessions see
	broker     *broker
	door       *door
	sessions   *registry
	lookups    []*auth.ClusterLookup
	pools      *pool.Set
	catalogs   *catalog.Set
	drivers    []driver // all there are
	goroutines *netdriver.Driver
	loops      *loop.Driver // nil: goroutines serve everybody
	tls        *secure.ClientLeg
	upstream   *secure.ServerLeg
	metrics    *metrics
	failures   session.Codes // errors that walgate raised itself
	tuned      atomic.Pointer[Tunable]
	timeouts   atomic.Pointer[session.Timeouts] // those of tuned

	report  replication.Feed[DrainReport]
	changed chan struct{} // a turn on the primary ended while it is drained; never closed
	clients sync.WaitGroup
	addrs   replication.Feed[[]net.Addr]

	yield    sync.Once
	yielding chan struct{} // closed by Yield
	closing  chan struct{} // closed when nobody new may come, while those who are here go on
	yielded  chan struct{} // closed when nothing is accepted any more
}

// The driver's buffers, in bytes. They bound what one direction of one busy session can hold: buffer + high water + one
// flusher's chunk.
const (
	readBuffer = 32 << 10
	highWater  = 64 << 10
)

// New checks the configuration; nothing listens before Run.
func New(cfg Config, deps Deps) (*Server, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if err := deps.validate(); err != nil {
		return nil, err
	}
	if len(cfg.MockSecret) == 0 {
		cfg.MockSecret = make([]byte, 32)
		rand.Read(cfg.MockSecret) // never fails
	}
	s := &Server{
		cfg: cfg, deps: deps, log: deps.Logger.With("proxy", cfg.ID),
		sessions: newRegistry(cfg.MaxClients, cfg.MaxLogins, cfg.MaxAddressLogins), changed: make(chan struct{}, 1),
		yielding: make(chan struct{}), closing: make(chan struct{}), yielded: make(chan struct{}),
	}
	s.view.Store(&replication.View{})
	tunable := cfg.Tunable()
	s.tuned.Store(&tunable)
	s.timeouts.Store(&tunable.Timeouts)
	s.broker = &broker{
		gate: deps.Gate, now: boottime.Now, maxHeld: cfg.MaxHeld, maxBytes: cfg.MaxHeldBytes,
		log: s.log, maxAge: cfg.MaxStatusAge, balance: cfg.Balance, wake: deps.Wake, hasten: deps.Hasten, held: map[*pool.Ticket]struct{}{},
	}
	if s.broker.wake == nil {
		s.broker.wake = func() {}
	}
	if s.broker.hasten == nil {
		s.broker.hasten = s.broker.wake
	}
	s.broker.state.Store(&state{})
	s.broker.board.Store(&replication.StatusBoard{})
	s.broker.stood.Store(&standings{})
	s.door = &door{
		broker: s.broker, sessions: s.sessions, rules: newRules(cfg), internal: cfg.AllowInternal, max: cfg.MaxVerifiers,
		proofs: map[string]auth.Secret{}, parameters: map[place][]session.Parameter{}, view: deps.View, board: deps.Board,
		elsewhere: deps.Cancel,
	}
	s.metrics = newMetrics(s)
	if err := s.build(); err != nil {
		return nil, err
	}
	if err := deps.Registry.Register(s.metrics); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return s, nil
}

// build makes the parts that know each other.
func (s *Server) build() (err error) {
	if s.tls, err = secure.NewClientLeg(s.cfg.ClientTLS); err != nil {
		return fmt.Errorf("TLS for clients: %w", err)
	}
	if s.upstream, err = secure.NewServerLeg(s.cfg.ServerTLS); err != nil {
		return fmt.Errorf("TLS for servers: %w", err)
	}
	if s.door.console, err = newConsole(s); err != nil {
		return err
	}
	if err := s.buildDoor(); err != nil {
		return err
	}
	if err := s.buildCatalogs(); err != nil {
		return err
	}
	s.goroutines, err = netdriver.New(netdriver.Config{
		ReadBuffer: readBuffer, HighWater: highWater, LoginTimeout: s.cfg.LoginTimeout, Linger: s.cfg.DrainLinger,
		Now: boottime.Now,
	}, s.broker, s.door, s.log, netdriver.Hooks{Error: s.metrics.failed, Turned: s.turned, Console: s.door.console.terminal.Serve})
	if err != nil {
		return err
	}
	s.drivers = append(s.drivers, s.goroutines)
	keeper := pool.Keeper(s.goroutines)
	if s.cfg.Loops > 0 {
		s.loops, err = loop.New(loop.Config{
			Loops: s.cfg.Loops, HighWater: highWater, LoginTimeout: s.cfg.LoginTimeout, Linger: s.cfg.DrainLinger, Now: boottime.Now,
		}, s.broker, s.door, s.log, loop.Hooks{Error: s.metrics.failed, Turned: s.turned, Enter: s.enterLoop, Leave: s.sessions.leave})
		if err != nil {
			return err
		}
		s.drivers = []driver{s.loops, s.goroutines} // in this order they are ended: loops pass clients on
		keeper = s.loops
	}
	s.door.dialer = pool.Dialer{TLS: s.upstream, TCP: s.cfg.TCP}
	s.pools, err = pool.New(pool.Config{
		Limits: s.door.rules.limits, Warm: s.door.rules.warm(), NodeMax: s.cfg.PoolNodeMax,
		Dials: s.cfg.MaxDials, Cancels: s.cfg.MaxCancels, CancelQueue: s.cfg.MaxQueuedCancels,
		ReserveTimeout: s.cfg.PoolReserveTimeout, IdleTimeout: s.cfg.PoolIdleTimeout, Lifetime: s.cfg.PoolLifetime,
		CheckDelay: s.cfg.PoolCheckDelay, ConnectTimeout: s.cfg.ConnectTimeout, Backoff: s.cfg.ConnectBackoff,
		EjectAfter: s.cfg.EjectAfter, EjectFor: s.cfg.EjectFor, MaxStatements: s.cfg.MaxPrepared, Dialer: s.door.dialer,
		Now: boottime.Now, Secret: s.door.secret, LoggedIn: s.door.loggedIn, RolesChanged: s.door.rolesChanged, Keeper: keeper,
		Reroute: s.broker.reroute, Changed: s.turned,
		Failed: func(key pool.Key, err error) {
			s.metrics.unopened.WithLabelValues(string(key.Node)).Inc()
			s.door.refused(key, err)
		},
	}, s.log)
	s.broker.set = s.pools
	return err
}

// How catalogs are kept fresh, besides Config.CatalogRefresh.
const (
	catalogIdle  = 10 * time.Minute
	catalogGap   = 250 * time.Millisecond
	maxDatabases = 1000
)

func (s *Server) buildCatalogs() (err error) {
	s.catalogs, err = catalog.New(catalog.Config{
		User: s.cfg.MonitorUser, Password: s.cfg.MonitorPassword, Refresh: s.cfg.CatalogRefresh, Idle: catalogIdle,
		Gap: catalogGap, Timeout: s.cfg.ConnectTimeout, MaxDatabases: maxDatabases,
		Harmless: s.cfg.HarmlessFunctions, PrimaryOnly: s.cfg.PrimaryFunctions,
	}, s.deps.View, s.log)
	s.door.catalogs = s.catalogs
	return err
}

// turned wakes follow to report how far the drain is.
func (s *Server) turned() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Run listens and serves until ctx ends, then shuts down within Config.ShutdownGrace. After Yield it ends when the clients
// have left, or with Config.TakeoverDrain. It returns nil after such an end.
func (s *Server) Run(ctx context.Context) error {
	listeners, err := s.listen(ctx)
	if err != nil {
		return err
	}
	// What serves the last sessions must outlive ctx; each is ended below, in order.
	background, endBackground := context.WithCancel(context.WithoutCancel(ctx))
	defer endBackground()
	logins, endLogins := context.WithCancel(background)
	defer endLogins()
	accepts, endAccepts := context.WithCancel(ctx)
	defer endAccepts()
	var own, accepting, loops sync.WaitGroup
	loopsEnd, endLoops := context.WithCancel(context.WithoutCancel(ctx))
	defer endLoops()
	if s.loops != nil {
		loops.Go(func() { s.loops.Run(loopsEnd) })
	}
	own.Go(func() { s.pools.Run(background) })
	own.Go(func() { s.follow(background) })
	own.Go(func() { s.catalogs.Run(background) })
	own.Go(func() { s.goroutines.Tick(background) })
	own.Go(func() { s.door.console.terminal.Run(background) })
	own.Go(func() { s.door.console.run(background) })
	if s.mayAccept(ctx) {
		for i, l := range listeners {
			entry := s.entry(s.cfg.Listeners[i])
			accepting.Go(func() { s.serve(accepts, logins, l, entry) })
		}
	}
	select {
	case <-ctx.Done():
	case <-s.yielding:
	case <-s.closing:
	}
	endAccepts()
	for _, l := range listeners {
		_ = l.Close() // nothing can be done about an error
	}
	accepting.Wait()
	close(s.yielded)
	s.outlast(ctx)
	s.drain(ctx)
	s.shutdown(endLogins)
	endBackground()
	own.Wait()
	endLoops() // after the last server connection
	loops.Wait()
	s.goroutines.Wait()
	return nil
}

// outlast serves those who are here, if nobody new may come, until ctx ends.
func (s *Server) outlast(ctx context.Context) {
	select {
	case <-s.closing:
	default:
		return
	}
	select {
	case <-ctx.Done():
	case <-s.yielding:
	}
}

// mayAccept waits for Deps.Accept; false means that ctx has ended before.
func (s *Server) mayAccept(ctx context.Context) bool {
	if s.deps.Accept == nil {
		return true
	}
	select {
	case <-s.deps.Accept:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s *Server) listen(ctx context.Context) ([]net.Listener, error) {
	var listeners []net.Listener
	var addrs []net.Addr
	for _, l := range s.cfg.Listeners {
		listener, err := s.deps.Sockets.Listen(ctx, l.spec())
		if err != nil {
			for _, open := range listeners {
				_ = open.Close() // the first error is the one that tells
			}
			return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
		}
		listeners = append(listeners, listener)
		addrs = append(addrs, listener.Addr())
	}
	s.addrs.Publish(addrs)
	return listeners, nil
}

// Addrs waits until the Server listens and returns the addresses of Config.Listeners in their order.
func (s *Server) Addrs(ctx context.Context) ([]net.Addr, error) {
	return s.addrs.Wait(ctx, func(a []net.Addr) bool { return a != nil })
}

// entry is what the clients of a listener have in common.
func (s *Server) entry(l Listener) *netdriver.Entry {
	entry := &netdriver.Entry{Session: s.sessionConfig(l), Mode: l.TLS, ProxyFrom: l.ProxyFrom}
	if l.Network != "unix" {
		entry.TLS = s.tls
	}
	return entry
}

// ErrNeedsRestart says that TLS toward servers can't be switched on while loops serve them.
var ErrNeedsRestart = errors.New("proxy.server_tls.mode: TLS toward servers begins with a restart, which chooses the driver anew")

// ReloadTLS reads the certificates of both legs again, and their modes. What can't be read stays as it is; connections
// that exist go on.
func (s *Server) ReloadTLS(client secure.ClientConfig, server secure.ServerConfig) error {
	var errs []error
	if s.loops != nil && server.Mode != secure.Disable {
		return ErrNeedsRestart
	}
	if err := s.tls.Reload(client); err != nil {
		errs = append(errs, fmt.Errorf("TLS for clients: %w", err))
	}
	if err := s.upstream.Reload(server); err != nil {
		errs = append(errs, fmt.Errorf("TLS for servers: %w", err))
	}
	return errors.Join(errs...)
}

// commonLimits are those for whom nothing else is said.
func (s *Server) commonLimits() router.Limits {
	return router.Limits{MaxLagBytes: s.cfg.MaxLagBytes, MaxLag: s.cfg.MaxLag, MaxAge: s.cfg.MaxStatusAge}
}

func (s *Server) sessionConfig(l Listener) *session.Config {
	return &session.Config{
		Gate: s.deps.Gate, View: &s.view, Target: l.Target, Reads: l.Reads, LostWrites: s.cfg.LostWrites, HoldTimeout: s.cfg.HoldTimeout,
		GateRecheck: s.cfg.GateRecheck, MaxCollected: s.cfg.MaxCollected, MaxHeldReply: s.cfg.MaxHeldReply,
		MaxSettings: s.cfg.MaxSettings, MaxPrepared: s.cfg.MaxClientPrepared, Timeouts: &s.timeouts,
		ResetQuery: s.cfg.ResetQuery, Failures: &s.failures, Processes: s.pools,
		Defaults: session.Reads{
			Level: s.cfg.Level, Fallback: s.cfg.Fallback, MaxLag: s.cfg.MaxLag, MaxLagBytes: s.cfg.MaxLagBytes, Wait: s.cfg.Wait,
			Transactions: s.cfg.Transactions,
		},
		ReturnWait: s.cfg.ReturnWait,
	}
}

// shutdown ends the sessions: first those without a transaction, after the grace all.
func (s *Server) shutdown(endLogins context.CancelFunc) {
	failure := session.Failure{
		SQLSTATE: "57P01", Message: "terminating connection because the proxy is shutting down",
		Hint: "Connect again, to another proxy if there is one.",
	}
	endLogins()
	for _, d := range s.drivers {
		d.Shutdown(failure)
	}
	done := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() { // ends with the last client, which Kill below guarantees
		s.sessions.wait()
		close(done)
	})
	grace := time.NewTimer(s.tuned.Load().ShutdownGrace)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
		for _, d := range s.drivers {
			d.Kill(failure)
		}
	}
	waiter.Wait()
	s.clients.Wait()
}

// SessionInfo is one row of SHOW CLIENTS.
type SessionInfo struct {
	ID     uint32 // what the client knows as its process id
	Client string // its address
	session.Info
}

// Sessions returns a snapshot of all sessions, ordered by ID.
func (s *Server) Sessions() []SessionInfo {
	var all []SessionInfo
	for _, d := range s.drivers {
		d.Sessions(func(id uint32, client string, info session.Info) {
			all = append(all, SessionInfo{ID: id, Client: client, Info: info})
		})
	}
	slices.SortFunc(all, func(a, b SessionInfo) int { return int(int64(a.ID) - int64(b.ID)) })
	return all
}

// PoolNodes returns the numbers that pools of one node share, ordered by node.
func (s *Server) PoolNodes() []pool.NodeStats {
	all := s.pools.NodeStats()
	slices.SortFunc(all, func(a, b pool.NodeStats) int { return strings.Compare(string(a.Node), string(b.Node)) })
	return all
}

// Clients returns how many clients are logged in, by database and by user.
func (s *Server) Clients() (databases, users map[string]int) { return s.sessions.clientCounts() }

// Pools returns the numbers of all pools, ordered by node, database and user.
func (s *Server) Pools() []pool.Stats {
	all := s.pools.Stats()
	slices.SortFunc(all, func(a, b pool.Stats) int {
		return slices.Compare([]string{string(a.Node), a.Database, a.User, a.Role.String()},
			[]string{string(b.Node), b.Database, b.User, b.Role.String()})
	})
	return all
}
