package pool

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// Config bounds a Set and connects it to its surroundings. All fields must be set.
type Config struct {
	// Limits returns those of a database and user: the same ones at every call.
	Limits         func(database, user string) Limits
	NodeMax        int           // connections to one node, of all databases and users; 0: no limit
	Dials          int           // attempts to connect to one node at a time
	Cancels        int           // CancelRequests to one node at a time
	CancelQueue    int           // and how many more wait for that; others are dropped
	ReserveTimeout time.Duration // see Limits.Reserve
	IdleTimeout    time.Duration // an idle connection is closed after this
	Lifetime       time.Duration // and not lent after this, less up to a tenth at random
	CheckDelay     time.Duration // one that has been idle for longer is looked at before it is lent
	ConnectTimeout time.Duration // dial and login of one connection
	Backoff        time.Duration // between attempts; doubled up to 16 times this
	EjectAfter     int           // see session.Health, as for the next one
	EjectFor       time.Duration
	MaxStatements  int // prepared statements kept on one connection
	Dialer         Dialer
	// Warm are databases and users whose minimum is opened before anybody has asked, once their secret is known.
	Warm []Login

	Now func() replication.Instant
	// Secret returns what proves the role to a server. It is called with locks held and takes its time from nobody.
	Secret func(user string) auth.Secret
	// LoggedIn is told what a server reported at its login, before any session could change it.
	LoggedIn func(key Key, parameters []session.Parameter)
	// RolesChanged is told that a session has created, altered or dropped a role, and again when that is committed at the
	// latest. It must not wait.
	RolesChanged func()
	// Keeper takes connections that were opened for nobody in particular.
	Keeper Keeper
	// Reroute takes a ticket whose node could not be reached (Ticket.Avoid) or was fenced, to choose another.
	Reroute func(t *Ticket)
	// Changed tells that a primary connection was given back while the primary is held.
	Changed func()
	// Failed is told of connections that could not be opened.
	Failed func(key Key, err error)
}

// Login is a database and a user.
type Login struct{ Database, User string }

// use is a login with a minimum that has been asked for in a role.
type use struct {
	login Login
	role  replication.Role
}

// maxUses bounds the logins whose minimum is kept.
const maxUses = 1000

// tendEvery is how often the pools are looked after, at most.
const tendEvery = time.Second

// Set is all Budgets of a proxy. It is safe for concurrent use.
type Set struct {
	cfg    Config
	log    *slog.Logger
	tasks  sync.WaitGroup // connections: dialling, and their drivers
	nextID atomic.Uint64
	closed replication.Feed[struct{}] // published whenever a connection has ended

	steward        steward
	cancelsSent    atomic.Int64
	cancelsDropped atomic.Int64
	opened         atomic.Int64
	recycled       atomic.Int64 // replication.Instant of the last recycling for changed defaults
	stale          atomic.Bool  // defaults have changed since
	waning         atomic.Bool  // see Wane

	mu      sync.Mutex
	view    replication.View
	budgets map[Key]*Budget
	standby map[Key]*Budget
	nodes   map[replication.NodeID]*node
	uses    map[use]struct{}
	meters  map[meterKey]*session.Meter // of all budgets that ever were: counters outlive epochs
	metered []Metered                   // the same, in the order of their first use
	defined map[string]*session.Definitions
	pauses  pauses
	ended   bool
}

// New returns an empty Set that knows no node.
func New(cfg Config, log *slog.Logger) (*Set, error) {
	if cfg.NodeMax < 0 || cfg.Dials <= 0 || cfg.Cancels <= 0 || cfg.CancelQueue <= 0 || cfg.MaxStatements <= 0 {
		return nil, errors.New("pool: dials, cancels, cancel queue and max statements must be positive")
	}
	if cfg.IdleTimeout <= 0 || cfg.Lifetime <= 0 || cfg.ConnectTimeout <= 0 || cfg.Backoff <= 0 || cfg.ReserveTimeout <= 0 ||
		cfg.CheckDelay < 0 {
		return nil, errors.New("pool: every duration must be positive")
	}
	if err := cfg.Dialer.TCP.Validate(); err != nil {
		return nil, err
	}
	if cfg.Limits == nil || cfg.Now == nil || cfg.Secret == nil || cfg.LoggedIn == nil || cfg.RolesChanged == nil || cfg.Keeper == nil || cfg.Reroute == nil ||
		cfg.Changed == nil || cfg.Failed == nil {
		return nil, errors.New("pool: a function is nil")
	}
	s := &Set{
		cfg: cfg, log: log, budgets: map[Key]*Budget{}, standby: map[Key]*Budget{},
		nodes: map[replication.NodeID]*node{}, uses: map[use]struct{}{}, meters: map[meterKey]*session.Meter{},
		defined: map[string]*session.Definitions{},
	}
	return s, nil
}

func (s *Set) now() replication.Instant { return s.cfg.Now() }

// Run looks after the pools until ctx ends, then closes all connections and waits for their drivers.
func (s *Set) Run(ctx context.Context) {
	tick := time.NewTicker(max(min(s.cfg.IdleTimeout/4, tendEvery), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.tend()
		case <-ctx.Done():
			s.steward.mu.Lock()
			s.steward.ended = true
			s.steward.mu.Unlock()
			s.mu.Lock()
			s.ended = true
			s.mu.Unlock()
			for _, b := range s.list() {
				b.fence(true) // whoever waits is being shut down too
			}
			s.tasks.Wait()
			return
		}
	}
}

func (s *Set) list() []*Budget {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Budget, 0, len(s.budgets)+len(s.standby))
	for _, b := range s.budgets {
		all = append(all, b)
	}
	for _, b := range s.standby {
		all = append(all, b)
	}
	return all
}

// Acquire asks for a server of the node in that role. It returns a server at once, or (nil, true) when the ticket waits
// for its Waiter to be called, or (nil, false) when the node has no such role in the newest view or is held: the caller
// must choose again.
func (s *Set) Acquire(node replication.NodeID, role replication.Role, epoch replication.Epoch, t *Ticket) (*Server, bool) {
	b := s.budget(Key{Node: node, Database: t.Database, User: t.User}, role, epoch)
	if b == nil {
		return nil, false
	}
	now := t.Now
	if now == 0 {
		now = s.now()
	}
	server, how := b.acquire(t, now)
	return server, how != refused
}

// budget finds or makes the budget, as long as the newest view agrees.
func (s *Set) budget(key Key, role replication.Role, epoch replication.Epoch) *Budget {
	s.mu.Lock()
	defer s.mu.Unlock()
	budgets := s.standby
	if role == replication.RolePrimary {
		budgets = s.budgets
		if key.Node != s.view.Primary || epoch != s.view.Epoch {
			return nil
		}
	} else if key.Node == s.view.Primary {
		return nil
	}
	if b := budgets[key]; b != nil {
		return b
	}
	member, ok := s.view.Member(key.Node)
	if !ok || s.ended {
		return nil
	}
	b := &Budget{
		set: s, key: key, at: Address{member.Host, member.Port}, role: role, node: s.node(key.Node),
		limits: s.cfg.Limits(key.Database, key.User), meter: s.meter(meterKey{key, role}), paused: s.pauses.has(key.Database),
		definitions: s.definitions(key.Database),
		all:         map[*Server]struct{}{}, held: role == replication.RolePrimary && !s.view.Writable(),
	}
	if role == replication.RolePrimary {
		b.epoch = epoch
	}
	// The budget outlives any call: fence, which Run and Apply call, is what ends it.
	b.ctx, b.stop = context.WithCancelCause(context.Background())
	budgets[key] = b
	if b.limits.Min > 0 && len(s.uses) < maxUses {
		s.uses[use{Login{key.Database, key.User}, role}] = struct{}{}
	}
	return b
}

// node finds or makes what the Budgets of a node share. Called with mu held.
func (s *Set) node(name replication.NodeID) *node {
	n := s.nodes[name]
	if n == nil {
		n = newNode(name, s.cfg.NodeMax, s.cfg.Dials, s.cfg.Cancels)
		for _, h := range [...]*session.Health{&n.connects, &n.turns} {
			h.After, h.For = s.cfg.EjectAfter, s.cfg.EjectFor
		}
		s.nodes[name] = n
	}
	return n
}

// meterKey names a Meter.
type meterKey struct {
	Key
	role replication.Role
}

// maxMeters bounds the Meters; the budgets beyond share one without names.
const maxMeters = 10000

// meter returns the meter of all budgets with this key and role. Called with mu held.
func (s *Set) meter(key meterKey) *session.Meter {
	if m := s.meters[key]; m != nil {
		return m
	}
	if len(s.meters) >= maxMeters {
		key = meterKey{}
		if m := s.meters[key]; m != nil {
			return m
		}
	}
	m := &session.Meter{}
	if key.Node != "" {
		node := s.node(key.Node)
		m.Latency, m.Health = &node.latency, &node.turns
	}
	s.meters[key] = m
	s.metered = append(s.metered, Metered{key.Key, key.role, m})
	return m
}

// definitions returns those of a database; the databases for which there is no room share one. Called with mu held.
func (s *Set) definitions(database string) *session.Definitions {
	if d := s.defined[database]; d != nil {
		return d
	}
	if len(s.defined) >= maxMeters {
		if database = ""; s.defined[database] != nil {
			return s.defined[database]
		}
	}
	d := new(session.Definitions)
	s.defined[database] = d
	return d
}

// Metered is a Meter with what it belongs to: nothing, if it is shared by all for which there was no room.
type Metered struct {
	Key
	Role replication.Role
	*session.Meter
}

// Meters returns all meters in the order of their first use.
func (s *Set) Meters() []Metered {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.metered)
}

// Load returns what the node has to do.
func (s *Set) Load(node replication.NodeID) *NodeLoad {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &s.node(node).NodeLoad
}

// Apply makes the view the one in force. When it returns, no primary connection of an older epoch is open and, if the
// view is not writable, no session can get a primary connection any more. The returned tickets must be routed again.
func (s *Set) Apply(view replication.View) []*Ticket {
	s.mu.Lock()
	s.view = view
	type fencing struct {
		b    *Budget
		hard bool
	}
	var fenced []fencing
	var primaries []*Budget
	for key, b := range s.budgets {
		if key.Node != view.Primary || b.epoch != view.Epoch || s.moved(b) {
			fenced = append(fenced, fencing{b, true})
			delete(s.budgets, key)
			continue
		}
		primaries = append(primaries, b)
	}
	for key, b := range s.standby {
		// A standby that is promoted goes on with its reads; nobody else gets these connections.
		if key.Node == view.Primary || s.moved(b) {
			fenced = append(fenced, fencing{b, s.moved(b)})
			delete(s.standby, key)
		}
	}
	s.mu.Unlock()
	var tickets []*Ticket
	for _, f := range fenced {
		tickets = append(tickets, f.b.fence(f.hard)...)
	}
	for _, b := range primaries {
		tickets = append(tickets, b.hold(!view.Writable())...)
	}
	s.tend() // the minimum of a new primary
	return tickets
}

// moved reports whether the budget's node has left the view or has another address. Called with mu held.
func (s *Set) moved(b *Budget) bool {
	member, ok := s.view.Member(b.key.Node)
	return !ok || b.at != Address{member.Host, member.Port}
}

// Release gives a server back for others to use. A ticket that is returned now has the server: see Deliver.
func (s *Set) Release(server *Server, now replication.Instant) *Ticket {
	return server.budget.giveBack(server, true, now)
}

// Discard gives a server back to be closed.
func (s *Set) Discard(server *Server) {
	server.budget.meter.Discards.Add(1)
	server.budget.giveBack(server, false, s.now())
}

// Deliver tells a ticket's holder that it has the server. It must be called without locks.
func (s *Set) Deliver(t *Ticket, server *Server) { s.deliver(t, server) }

func (s *Set) deliver(t *Ticket, server *Server) {
	if t != nil {
		t.Waiter.Granted(t, server)
	}
}

// PrimaryInUse counts the primary connections of the newest view that sessions have.
func (s *Set) PrimaryInUse() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := 0
	for _, b := range s.budgets {
		b.mu.Lock()
		used += b.used
		b.mu.Unlock()
	}
	return used
}

// open makes one connection for the budget.
func (s *Set) open(b *Budget, secret auth.Secret) (*Server, error) {
	ctx, cancel := context.WithTimeout(b.ctx, s.cfg.ConnectTimeout)
	defer cancel()
	l, err := s.cfg.Dialer.connect(ctx, b.at, b.key, b.role, secret)
	if err != nil {
		return nil, err
	}
	facts := session.NewServerFacts(s.nextID.Add(1), b.key.Node, b.role, b.epoch, l.parameters, s.cfg.MaxStatements)
	now := s.now()
	facts.ProcessID, facts.Secret, facts.Meter, facts.Definitions = l.processID, l.secret, b.meter, b.definitions
	facts.Opened = now
	b.node.connected(true, now)
	facts.Defaults = l.defaults
	s.cfg.LoggedIn(b.key, l.parameters)
	s.opened.Add(1)
	life := s.cfg.Lifetime - rand.N(s.cfg.Lifetime/10+1) // those that were opened together do not end together
	return &Server{
		Facts: facts, Conn: l.conn, Line: lineOf(l.conn), Address: b.at, Reported: l.parameters, budget: b, born: now, expires: now.Add(life),
		state: serverGone, ended: make(chan struct{}),
	}, nil
}

// logFailure reports a connection that could not be opened: the first of a row as a warning. Errors of a fenced budget
// are of no interest.
func (s *Set) logFailure(b *Budget, err error, repeated bool) {
	if b.ctx.Err() != nil {
		return
	}
	var refusal *LoginError
	if !errors.As(err, &refusal) || !refusal.Lasting() {
		b.node.connected(false, s.now())
	}
	level := slog.LevelWarn
	if repeated {
		level = slog.LevelDebug
	}
	s.log.Log(b.ctx, level, "server connection not opened", "node", string(b.key.Node), "database", b.key.Database, "user", b.key.User,
		"role", b.role.String(), "error", err)
	s.cfg.Failed(b.key, err)
}
