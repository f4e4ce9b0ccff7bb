package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/api"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/ha/store"
	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/secure"
	"github.com/walgate/walgate/proxy/sockets"
	"github.com/walgate/walgate/proxy/takeover"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
	"github.com/walgate/walgate/replication/monitor"
)

// common is what a node and a stateless proxy have alike: the store that is followed, the status board, the proxy
// server and the API.
type common struct {
	cfg      Config        // as this process was started with
	file     string        // that cfg was read from
	stopped  chan struct{} // the console says SHUTDOWN; room for one
	log      *slog.Logger
	level    *slog.LevelVar
	secret   postgres.Secret
	token    string
	registry *prometheus.Registry

	store    *store.Store
	follower *store.Follower
	boards   replication.Feed[replication.StatusBoard]
	// parameters are those of PostgreSQL in the file; a reload publishes.
	parameters replication.Feed[map[string]string]
	reloading  sync.Mutex             // held while a reload is applied
	applied    atomic.Pointer[Config] // cfg, and what was applied since
	monitor    *monitor.Monitor
	proxy      *proxy.Server
	reloadTLS  func(secure.ClientConfig, secure.ServerConfig) error
	api        *api.Server
	listener   net.Listener // of the API
	sockets    sockets.Set  // that this process was given, and those that it has opened
	mesh       *takeover.Mesh
	accept     chan struct{} // closed when clients may come
	yielded    atomic.Bool   // another process serves

	background sync.WaitGroup // what serves to the very end
	clients    sync.WaitGroup // the proxy and its registration
	failed     chan error     // capacity: one for each service
}

// services is how many goroutines of a process may report an end that nobody asked for.
const services = 8

// newCommon reads secrets and builds what both kinds of process have; nothing runs and nothing listens yet.
func newCommon(cfg Config, file string, stderr io.Writer) (*common, error) {
	secret, err := ReadSecret(cfg.Cluster.SecretFile)
	if err != nil {
		return nil, err
	}
	c := &common{cfg: cfg, file: file, stopped: make(chan struct{}, 1), secret: postgres.NewSecret(cfg.Cluster.Name, []byte(secret)), registry: prometheus.NewRegistry(), failed: make(chan error, services), accept: make(chan struct{})}
	c.log, c.level = newLogger(cfg.Log, stderr)
	c.mesh = takeover.NewMesh(func(processID uint32, secret []byte) { c.proxy.Cancel(processID, secret) }, c.log.With("part", "takeover"))
	c.parameters.Publish(cfg.Postgres.Parameters)
	c.applied.Store(&cfg)
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if cfg.API.TokenFile != "" {
		if c.token, err = ReadSecret(cfg.API.TokenFile); err != nil {
			return nil, err
		}
	}
	clientTLS, err := storeTLS(cfg.Store.TLS)
	if err != nil {
		return nil, err
	}
	c.store, err = store.Open(store.EtcdConfig{
		Cluster: cfg.Cluster.Name, Endpoints: cfg.storeEndpoints(), TLS: clientTLS, Timeout: cfg.HA.RPCTimeout,
		Attempt: cfg.HA.RPCTimeout / 3, Clock: boottime.Now,
	}, c.log.With("part", "store"))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(c.buildFollower(), c.buildProxy([]byte(secret))); err != nil {
		return nil, errors.Join(err, c.store.Close())
	}
	return c, nil
}

func (c *common) buildFollower() (err error) {
	h, r := c.cfg.HA, c.cfg.Proxy.Routing
	c.follower, err = store.NewFollower(store.FollowerConfig{
		Period: h.Renew, Gap: h.MinReadGap, Timeout: h.RPCTimeout, Margin: h.ClockMargin, Clock: boottime.Now,
	}, c.store, c.log.With("part", "follower"))
	if err != nil {
		return err
	}
	password := c.secret.Password(postgres.RoleMonitor)
	c.monitor, err = monitor.New(monitor.Config{
		User: postgres.RoleMonitor, Password: func() (string, error) { return password, nil }, Database: c.cfg.Proxy.Auth.Database,
		ConnectTimeout: c.cfg.Postgres.ProbeTimeout, QueryTimeout: c.cfg.Postgres.ProbeTimeout,
		ActivePeriod: r.PollActive, HastyPeriod: min(r.PollWaiting, r.PollActive), IdlePeriod: r.PollIdle, ActiveFor: r.ActiveFor,
	}, c.follower.Views(), &c.boards, c.log.With("part", "monitor"))
	return err
}

func (c *common) buildProxy(secret []byte) error {
	cfg, err := proxyConfig(c.cfg)
	if err != nil {
		return err
	}
	if cfg.Access, err = ReadAccess(c.cfg.Proxy.Auth); err != nil {
		return err
	}
	if slices.Contains(cfg.Sources, proxy.SourceQuery) {
		if cfg.Query.Password, err = ReadSecret(c.cfg.Proxy.Auth.QueryPasswordFile); err != nil {
			return err
		}
	}
	cfg.MonitorUser, cfg.MonitorPassword = postgres.RoleMonitor, c.secret.Password(postgres.RoleMonitor)
	// Equal on all proxies, so that a role that does not exist has the same salt everywhere.
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("walgate/" + c.cfg.Cluster.Name + "/salts of unknown roles"))
	cfg.MockSecret = mac.Sum(nil)
	makeRoom(cfg.Loops)
	keepLean()
	c.proxy, err = proxy.New(cfg, c.consoleDeps(proxy.Deps{
		View: c.follower.Views(), Board: &c.boards, Gate: c.follower.Gate(), Logger: c.log.With("part", "proxy"), Registry: c.registry,
		Wake: c.monitor.Wake, Hasten: c.monitor.Hasten, Sockets: &c.sockets, Accept: c.accept, Cancel: c.mesh.Cancel,
	}))
	if err != nil {
		return err
	}
	c.reloadTLS = c.proxy.ReloadTLS
	return nil
}

func (c *common) registration() store.RegistrationConfig {
	return store.RegistrationConfig{TTL: c.cfg.HA.Registration, Gap: c.cfg.HA.MinReadGap, Timeout: c.cfg.HA.RPCTimeout}
}

// buildAPI builds the API and opens its listener: a port in use is known before PostgreSQL is touched.
func (c *common) buildAPI(ctx context.Context, local api.Local) error {
	apiTLS, err := serverTLS(c.cfg.API.TLS)
	if err != nil {
		return err
	}
	h := c.cfg.HA
	c.api, err = api.New(api.Config{
		Cluster: c.cfg.Cluster.Name, Node: replication.NodeID(c.cfg.Node.Name), Listen: c.cfg.API.Listen, TLS: apiTLS, Token: c.token,
		Version: Version(), MinTTL: c.cfg.MinTTL(), SwitchoverMaxLag: int64(h.HandoffMaxLag), DrainTimeout: h.DrainTimeout,
		HandoffTimeout: h.HandoffTimeout, EndWait: h.RejoinWait, CheckParameters: CheckParameters, Pprof: c.cfg.API.Pprof,
	}, api.Deps{
		Snapshots: c.follower.Snapshots(), Board: &c.boards, Gate: c.follower.Gate(), Clock: boottime.Now, StoreErr: c.follower.Err,
		Records: c.store, Local: local, Sessions: c.sessions, Registry: c.registry, Log: c.log.With("part", "api"),
	})
	if err != nil {
		return err
	}
	c.listener, err = c.listenAPI(ctx)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &PortInUseError{Address: c.cfg.API.Listen, Purpose: "api.listen", Holder: portHolder(c.cfg.API.Listen)}
	}
	return err
}

// checkPorts looks whether the proxy's addresses are free; its own listening comes a little later.
func (c *common) checkPorts() error {
	given := func(address string) bool { return c.sockets.Has(sockets.Spec{Network: "tcp", Address: address}) }
	if !given(c.cfg.Proxy.Listen) {
		if err := CheckPort(c.cfg.Proxy.Listen, "proxy.listen"); err != nil {
			return err
		}
	}
	for _, l := range c.cfg.Proxy.Listeners {
		if l.Network != "unix" && !l.ReusePort && !given(l.Listen) {
			if err := CheckPort(l.Listen, "proxy.listeners"); err != nil {
				return err
			}
		}
	}
	return nil
}

// serve runs what goes on to the very end of the process: it ends with ctx.
func (c *common) serve(ctx context.Context) {
	c.observe(ctx)
	c.serveAPI(ctx)
}

// observe follows the cluster.
func (c *common) observe(ctx context.Context) {
	c.spawn(ctx, &c.background, "follow the store", c.follower.Run)
	c.spawn(ctx, &c.background, "watch the members", c.monitor.Run)
}

func (c *common) serveAPI(ctx context.Context) {
	c.spawn(ctx, &c.background, "serve the API", func(ctx context.Context) error { return c.api.Run(ctx, c.listener) })
}

// serveProxy runs the proxy and lets clients in; listening is called when it listens.
func (c *common) serveProxy(ctx context.Context, listening func()) {
	close(c.accept)
	c.runProxy(ctx)
	c.clients.Go(func() { // ends when the proxy listens, or with ctx
		if _, err := c.proxy.Addrs(ctx); err == nil {
			c.sockets.Close() // systemd's that no listener is configured for
			c.notify("READY=1")
			listening()
		}
	})
}

// runProxy runs the proxy, which lets clients in once accept is closed. When its clients have left after another process
// has taken over, this one stops.
func (c *common) runProxy(ctx context.Context) {
	c.spawn(ctx, &c.clients, "serve clients", func(ctx context.Context) error {
		err := c.proxy.Run(ctx)
		if err == nil && c.yielded.Load() {
			c.stop()
			<-ctx.Done()
		}
		return err
	})
}

// stop begins the end of the process; it does not wait.
func (c *common) stop() {
	select {
	case c.stopped <- struct{}{}:
	default: // it is ending already
	}
}

// enrol keeps a registration of the proxy under the id until ctx ends or the returned function, which waits for the
// removal, is called.
func (c *common) enrol(ctx context.Context, id, api string) (leave func(), err error) {
	registration, err := store.NewProxyRegistration(c.registration(), c.store, c.log.With("part", "registration", "id", id))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { _ = registration.Run(ctx) }) // it ends with ctx only
	tasks.Go(func() { c.keepReport(ctx, registration, id, api) })
	c.clients.Go(tasks.Wait)
	return func() {
		cancel()
		tasks.Wait()
	}, nil
}

// keepReport keeps the report true until ctx ends. A handoff waits for what it says; numbers that nobody waits for are
// brought up to date when the registration would be renewed anyway.
func (c *common) keepReport(ctx context.Context, registration *store.Registration[ha.ProxyReport], id, api string) {
	renew := time.NewTicker(c.cfg.HA.Registration)
	defer renew.Stop()
	for {
		report, changed := c.proxy.Reports().Changed()
		now := c.proxy.Report()
		registration.Update(ha.ProxyReport{
			ID: id, Addr: c.cfg.Proxy.Listen, API: api, Epoch: report.Epoch, Sessions: now.Sessions,
			Held: now.Held, HandoffID: report.HandoffID, OpenTx: report.OpenTx,
		})
		select {
		case <-changed:
		case <-renew.C:
		case <-ctx.Done():
			return
		}
	}
}

// spawn runs a service whose end before that of ctx is the end of the process.
func (c *common) spawn(ctx context.Context, group *sync.WaitGroup, what string, run func(context.Context) error) {
	group.Go(func() { // ends with run
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("ended by itself")
		}
		c.failed <- fmt.Errorf("%s: %w", what, err)
	})
}

// reload reads the file again and applies what can be applied live; the rest is named, at each reload until the restart.
func (c *common) reload(file string) error {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	fresh, err := Load(file, os.Environ())
	if err != nil {
		return err
	}
	kind := c.kind()
	if err := fresh.Validate(kind); err != nil {
		return err
	}
	if kind == KindProxy {
		fresh.Node = NodeConfig{Host: fresh.Node.Host} // as RunProxy does
	}
	return c.adopt(fresh)
}

// onHangup reloads at each SIGHUP until ctx ends.
func (c *common) onHangup(ctx context.Context, hangup <-chan os.Signal, file string) {
	c.background.Go(func() { // ends with ctx
		for {
			select {
			case <-hangup:
				c.notify(sockets.Reloading()...)
				if err := c.reload(file); err != nil {
					c.log.Error("configuration not applied", "err", err)
				}
				c.notify("READY=1")
			case <-ctx.Done():
				return
			}
		}
	})
}
