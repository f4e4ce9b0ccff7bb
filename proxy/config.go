package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walgate/walgate/proxy/admin"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/sockets"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Listener is one address that clients connect to.
type Listener struct {
	Network string        // tcp or unix
	Address string        // host:port; a path, or DIR:PORT
	Target  router.Target // TargetAuto, TargetPrimary, or TargetReplica for the read endpoint
	Reads   session.Reads // of its sessions, where they are set; Target and Wait are not looked at
	TLS     *secure.Mode  // instead of that of ClientTLS; nil: the same. Unix sockets have no TLS.

	ReusePort bool // see sockets.Spec, as for the next three
	Backlog   int
	Mode      fs.FileMode
	Group     string
	ProxyFrom []netip.Prefix // connections from here begin with a header of the PROXY protocol
}

func (l Listener) spec() sockets.Spec {
	return sockets.Spec{
		Network: l.Network, Address: l.Address, ReusePort: l.ReusePort, Backlog: l.Backlog, Mode: l.Mode, Group: l.Group,
	}
}

// Config is everything that can be set about a Server. Nothing has a default here; see app.Default.
type Config struct {
	ID        string // of this proxy, in reports and its registration
	Version   string // of walgate, for SHOW VERSION
	Admin     Admin
	Listeners []Listener
	ClientTLS secure.ClientConfig
	ServerTLS secure.ServerConfig

	Pools              []PoolRule    // the first match counts
	PoolMax            int           // server connections per (node, database, user) that no rule names
	PoolNodeMax        int           // server connections per node; 0: no limit
	PoolReserveTimeout time.Duration // a reserve connection is opened once a session has waited for so long
	PoolIdleTimeout    time.Duration // an idle server connection is closed after this
	PoolLifetime       time.Duration // and not lent again after this, less up to a tenth
	PoolCheckDelay     time.Duration // one that has been idle for longer is looked at before it is lent
	MaxDials           int           // attempts to connect to one node at a time
	MaxCancels         int           // CancelRequests to one node at a time
	MaxQueuedCancels   int           // and that wait for that; more are dropped
	TCP                pool.TCP      // of client and server connections
	ConnectTimeout     time.Duration // one server connection's dial and login
	ConnectBackoff     time.Duration // between attempts, doubled up to 16 times this
	MaxPrepared        int           // canonical statements kept on one server connection
	ResetQuery         string        // see session.Config
	AllowInternal      bool          // let clients log in as walgate_*
	MonitorUser        string        // walgate_monitor
	MonitorPassword    string        // its password
	MonitorDatabase    string        // where the function walgate.verifier(text) lives
	Sources            []Source      // in the order in which they are asked; at least one
	Query              AuthQuery     // needed for SourceQuery
	Access             Access        // until the first SetAccess
	VerifierRefresh    time.Duration // a login is decided by what the sources said at most so long ago
	MaxVerifiers       int           // cached roles
	MaxConcurrentLog   int           // logins at work at the same time
	MockSecret         []byte        // see auth.Config; random when empty
	SCRAMIterations    int           // shown to unknown roles (4096)

	Loops      int // epoll loops for clients and servers in clear text; 0: goroutines serve everybody
	MaxClients int // client connections, logins included; beyond, 53300
	// Client connections that have not logged in, of all addresses (0: three quarters of MaxClients) and of one (0: no
	// limit of its own); beyond, 53300.
	MaxLogins, MaxAddressLogins int

	LoginTimeout  time.Duration // from accept to the end of login, holding included
	HoldTimeout   time.Duration // how long a turn waits for a server
	Timeouts      session.Timeouts
	MaxHeld       int           // sessions held while there is no writable primary; beyond, 53300
	MaxHeldBytes  int64         // bytes that those may have collected together
	DrainLinger   time.Duration // how long a closing session may take to write its last words
	ShutdownGrace time.Duration // how long Run waits for open transactions once its context has ended
	TakeoverDrain time.Duration // how long the clients may stay after Yield

	Level             router.Level    // default consistency
	MaxLagBytes       int64           // see router.Limits
	MaxLag            time.Duration   // see router.Limits
	MaxStatusAge      time.Duration   // see router.Limits
	Fallback          router.Fallback // of reads that no standby may serve
	Transactions      router.Transactions
	Wait              time.Duration // how long a read waits for a standby that is not far enough; 0: not at all
	ReturnWait        time.Duration // see session.Config
	LostWrites        session.LostWrites
	Balance           router.Balance
	ReturnAfter       time.Duration // how long a standby must have been well before it gets reads again
	EjectAfter        int           // see pool.Config, as for the next one
	EjectFor          time.Duration
	CatalogRefresh    time.Duration // see catalog.Config, as for the next two
	HarmlessFunctions []string
	PrimaryFunctions  []string
	GateRecheck       time.Duration // see session.Config, as for the next four
	MaxCollected      int
	MaxHeldReply      int
	MaxSettings       int
	MaxClientPrepared int
	MetricPools       int // pools with metrics of their own; the others share one set
}

// Admin says what the console is and who may use it.
type Admin struct {
	Databases   []string // its names; they hide databases of the cluster that have them
	Users       []string // may do everything
	StatsUsers  []string // may SHOW
	StatsPeriod time.Duration
}

// Deps are the values and services that a Server is given.
type Deps struct {
	View     *replication.Feed[replication.View]
	Board    *replication.Feed[replication.StatusBoard]
	Gate     *replication.Gate
	Logger   *slog.Logger
	Registry *prometheus.Registry
	Sockets  *sockets.Set // that this process was given; those of Config.Listeners are taken out of it
	// Wake is called when a read went to the primary for want of a fresh enough board (monitor.Wake). It must not
	// block; nil: nobody refreshes the board on demand.
	Wake func()
	// Hasten is called while a read waits for the board (monitor.Hasten), as Wake; nil: Wake is.
	Hasten func()
	// Accept is closed when clients may come: until then they wait in the kernel. nil: at once.
	Accept <-chan struct{}
	// Cancel gets the CancelRequests whose key no client here has: another process of this proxy may. It must not block;
	// nil: there is none.
	Cancel func(processID uint32, secret []byte)

	// What the console asks of the process; each may be nil: then it can't be done here, or there is nothing to show.
	Settings func() []admin.Setting // the configuration, for SHOW CONFIG
	Reload   func() error
	Set      func(key, value string) error
	Stop     func() // begins the end of the process; it does not wait
}

// DrainReport tells how far this proxy has carried out a handoff. It is dry when HandoffID names the handoff and OpenTx
// is 0.
type DrainReport struct {
	HandoffID string            // empty when nothing is drained
	Epoch     replication.Epoch // of the view that the report is about
	OpenTx    int               // server connections to the primary in use
	Sessions  int               // logged in
	Held      int               // waiting for a writable primary
}

func (c Config) validate() error {
	if len(c.Listeners) == 0 {
		return errors.New("proxy: no listeners")
	}
	for _, l := range c.Listeners {
		if l.Network != "tcp" && l.Network != "unix" {
			return fmt.Errorf("proxy: listener %s: network is neither tcp nor unix", l.Address)
		}
		if l.Target == router.TargetUnset {
			return fmt.Errorf("proxy: listener %s: target is not set", l.Address)
		}
		if l.TLS != nil {
			own := c.ClientTLS
			own.Mode = *l.TLS
			if err := own.Validate(); err != nil {
				return fmt.Errorf("proxy: listener %s: %w", l.Address, err)
			}
		}
	}
	for name, n := range map[string]int64{
		"PoolMax": int64(c.PoolMax), "MaxDials": int64(c.MaxDials), "MaxCancels": int64(c.MaxCancels),
		"MaxQueuedCancels": int64(c.MaxQueuedCancels), "MaxPrepared": int64(c.MaxPrepared), "MaxVerifiers": int64(c.MaxVerifiers),
		"MaxConcurrentLog": int64(c.MaxConcurrentLog), "SCRAMIterations": int64(c.SCRAMIterations),
		"MaxClients": int64(c.MaxClients), "MaxHeld": int64(c.MaxHeld), "MaxHeldBytes": c.MaxHeldBytes,
		"MaxCollected": int64(c.MaxCollected), "MaxHeldReply": int64(c.MaxHeldReply),
		"MaxSettings": int64(c.MaxSettings), "MaxClientPrepared": int64(c.MaxClientPrepared), "MetricPools": int64(c.MetricPools),
		"PoolIdleTimeout": int64(c.PoolIdleTimeout), "PoolLifetime": int64(c.PoolLifetime),
		"ConnectTimeout": int64(c.ConnectTimeout), "ConnectBackoff": int64(c.ConnectBackoff),
		"VerifierRefresh": int64(c.VerifierRefresh), "LoginTimeout": int64(c.LoginTimeout),
		"HoldTimeout": int64(c.HoldTimeout), "DrainLinger": int64(c.DrainLinger),
		"ShutdownGrace": int64(c.ShutdownGrace), "TakeoverDrain": int64(c.TakeoverDrain), "MaxStatusAge": int64(c.MaxStatusAge),
		"CatalogRefresh": int64(c.CatalogRefresh),
		"GateRecheck":    int64(c.GateRecheck),
	} {
		if n <= 0 {
			return fmt.Errorf("proxy: %s must be positive", name)
		}
	}
	if c.MaxLag < 0 || c.MaxLagBytes < 0 || c.Wait < 0 || c.ReturnWait < 0 || c.ReturnAfter < 0 || c.EjectAfter < 0 || c.EjectFor < 0 ||
		c.Balance.SlowStart < 0 || c.Balance.PrimaryShare < 0 || c.Balance.PrimaryShare > 100 {
		return errors.New("proxy: a limit, share or period of reads is out of range")
	}
	if c.MaxLogins < 0 || c.MaxAddressLogins < 0 {
		return errors.New("proxy: limits of logins must not be negative")
	}
	if c.Loops > 0 && c.ServerTLS.Mode != secure.Disable {
		return errors.New("proxy: the loops speak no TLS to servers")
	}
	if c.PoolNodeMax < 0 || c.PoolCheckDelay < 0 || c.PoolReserveTimeout <= 0 {
		return errPoolTimes
	}
	if err := errors.Join(newRules(c).validate(), c.TCP.Validate()); err != nil {
		return err
	}
	if c.Admin.StatsPeriod <= 0 {
		return errors.New("proxy: Admin.StatsPeriod must be positive")
	}
	if c.Access.Policy.Rules == nil || len(c.Sources) == 0 {
		return errors.New("proxy: access rules or sources of passwords are not set")
	}
	if slices.Contains(c.Sources, SourceQuery) && (c.Query.SQL == "" || c.Query.User == "" || c.Query.Database == "") {
		return errors.New("proxy: the query for passwords, its role or its database is not set")
	}
	if c.MonitorUser == "" || c.MonitorDatabase == "" {
		return errors.New("proxy: the role and database for looking up verifiers are not set")
	}
	return nil
}

func (d Deps) validate() error {
	if d.View == nil || d.Board == nil || d.Gate == nil || d.Logger == nil || d.Registry == nil || d.Sockets == nil {
		return errors.New("proxy: a dependency is nil")
	}
	return nil
}
