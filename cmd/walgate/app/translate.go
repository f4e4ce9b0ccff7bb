package app

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/ha/postgres"
	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

func proxyID(cfg Config) string {
	if id := cmp.Or(cfg.Proxy.ID, cfg.Node.Name); id != "" {
		return id
	}
	host, err := os.Hostname()
	if err != nil {
		host = "proxy"
	}
	_, port, _ := net.SplitHostPort(cfg.Proxy.Listen)
	return host + "-" + port
}

// storeEndpoints are the client URLs of etcd, that of the member in this process first.
func (c *Config) storeEndpoints() []string {
	endpoints := slices.Clone(c.Store.Endpoints)
	if own := c.Store.Embedded.ClientListen; c.Node.Name != "" && c.Store.Embedded.DataDir != "" {
		endpoints = slices.DeleteFunc(endpoints, func(e string) bool { return e == own })
		endpoints = slices.Insert(endpoints, 0, own)
	}
	return endpoints
}

func proxyConfig(cfg Config) (proxy.Config, error) {
	p := cfg.Proxy
	level, ok := router.ParseLevel(p.Routing.Consistency)
	target, known := router.ParseTarget(p.Routing.Target)
	if !ok || !known {
		return proxy.Config{}, fmt.Errorf("%w: proxy.routing", ErrConfig)
	}
	c := proxy.Config{
		ID: proxyID(cfg), Version: Version(), Admin: proxy.Admin{
			Databases: p.Admin.Databases, Users: p.Admin.Users, StatsUsers: p.Admin.StatsUsers, StatsPeriod: p.Admin.StatsPeriod,
		},
		Listeners: []proxy.Listener{{Network: "tcp", Address: p.Listen, Target: target}},
		Pools:     p.poolRules(), PoolMax: p.Pool.Max, PoolNodeMax: p.Pool.MaxNode, PoolReserveTimeout: p.Pool.ReserveTimeout,
		PoolIdleTimeout: p.Pool.IdleTimeout, PoolLifetime: p.Pool.Lifetime, PoolCheckDelay: p.Pool.CheckDelay,
		MaxDials: p.Pool.Dials, MaxCancels: p.Pool.Cancels, MaxQueuedCancels: p.Pool.QueuedCancels, TCP: pool.TCP(p.TCP),
		ConnectTimeout: p.Pool.ConnectTimeout, ConnectBackoff: p.Pool.ConnectBackoff, MaxPrepared: p.Limits.ServerPrepared,
		AllowInternal: p.Auth.AllowInternal, MonitorDatabase: p.Auth.Database, VerifierRefresh: p.Auth.Refresh,
		MaxVerifiers: p.Auth.MaxVerifiers, MaxConcurrentLog: p.Auth.MaxConcurrent, SCRAMIterations: p.Auth.SCRAMIterations,
		Loops: p.loops(), MaxClients: p.MaxClients, LoginTimeout: p.LoginTimeout, HoldTimeout: p.HoldTimeout, MaxHeld: p.HeldSessions,
		MaxHeldBytes: int64(p.HeldBytes), DrainLinger: p.Limits.DrainLinger, ShutdownGrace: p.ShutdownTimeout,
		TakeoverDrain: p.Takeover.Drain,
		Level:         level, MaxLagBytes: int64(p.Routing.MaxLagBytes), MaxLag: p.Routing.MaxLag, MaxStatusAge: p.Routing.MaxStatusAge,
		Wait: p.Routing.Wait, ReturnWait: p.Routing.ReturnWait, ReturnAfter: p.Routing.ReturnAfter, EjectAfter: p.Routing.EjectAfter, EjectFor: p.Routing.EjectFor,
		Balance: router.Balance{
			Zone: cmp.Or(p.Routing.Zone, cfg.Node.Tags[router.TagZone]), PrimaryShare: p.Routing.PrimaryShare, SlowStart: p.Routing.SlowStart,
		},
		CatalogRefresh: p.Routing.CatalogRefresh, HarmlessFunctions: p.Routing.HarmlessFunctions, PrimaryFunctions: p.Routing.PrimaryFunctions,
		GateRecheck: p.Limits.GateRecheck, MaxCollected: int(p.Limits.CollectedBytes), MaxHeldReply: int(p.Limits.HeldReplyBytes),
		MaxSettings: p.Limits.Settings, MaxClientPrepared: p.Limits.ClientPrepared, MetricPools: p.Limits.MetricPools,
		MaxLogins: p.Limits.Logins, MaxAddressLogins: p.Limits.AddressLogins,
		ResetQuery: p.Pool.ResetQuery, Timeouts: session.Timeouts(p.Timeouts),
	}
	c.Fallback, _ = router.ParseFallback(p.Routing.Fallback) // Validate has checked it, as for what follows
	c.Transactions, _ = router.ParseTransactions(p.Routing.Transactions)
	if p.Routing.LostWrites == "error" {
		c.LostWrites = session.LostError
	}
	c.ClientTLS, c.ServerTLS = p.TLS.leg(), p.ServerTLS.leg()
	for _, l := range p.Listeners {
		target, _ := router.ParseTarget(l.Target)
		c.Listeners = append(c.Listeners, proxy.Listener{
			Network: cmp.Or(l.Network, "tcp"), Address: l.Listen, Target: target, TLS: listenerTLS(l.TLS),
			Reads:     reads("", l.Consistency, l.Fallback, l.Transactions, l.MaxLag, l.MaxLagBytes),
			ReusePort: l.ReusePort, Backlog: l.Backlog, Mode: l.fileMode(), Group: l.Group, ProxyFrom: prefixes(l.ProxyFrom),
		})
	}
	for _, source := range p.Auth.Source {
		c.Sources = append(c.Sources, proxy.Source(source))
	}
	c.Query = proxy.AuthQuery{SQL: p.Auth.Query, User: p.Auth.QueryUser, Database: p.Auth.QueryDatabase}
	return c, nil
}

// poolRules completes each rule with what it leaves to proxy.pool; the last is proxy.pool itself.
func (p *ProxyConfig) poolRules() []proxy.PoolRule {
	var all []proxy.PoolRule
	for _, o := range append(slices.Clone(p.Pools), PoolRuleConfig{}) {
		all = append(all, proxy.PoolRule{
			Database: o.Database, User: o.User, Mode: poolMode(cmp.Or(o.Mode, p.Pool.Mode)),
			Reads: reads(o.Target, o.Consistency, o.Fallback, o.Transactions, o.MaxLag, o.MaxLagBytes),
			Servers: pool.Limits{
				Max: cmp.Or(o.Max, p.Pool.Max), Min: cmp.Or(o.Min, p.Pool.Min), Reserve: cmp.Or(o.Reserve, p.Pool.Reserve),
				Database: cmp.Or(o.MaxDatabase, p.Pool.MaxDatabase), User: cmp.Or(o.MaxUser, p.Pool.MaxUser),
			},
			DatabaseClients: cmp.Or(o.MaxDatabaseClients, p.Pool.MaxDatabaseClients),
			UserClients:     cmp.Or(o.MaxUserClients, p.Pool.MaxUserClients),
		})
	}
	return all
}

// reads is what a listener or a rule says about reads; what is empty or 0 it leaves to others.
func reads(target, consistency, fallback, transactions string, lag time.Duration, size Bytes) session.Reads {
	r := session.Reads{MaxLag: lag, MaxLagBytes: int64(size)}
	r.Target, _ = router.ParseTarget(target)
	r.Level, _ = router.ParseLevel(consistency)
	r.Fallback, _ = router.ParseFallback(fallback)
	r.Transactions, _ = router.ParseTransactions(transactions)
	return r
}

func poolMode(name string) session.PoolMode {
	switch name {
	case "session":
		return session.PoolSession
	case "statement":
		return session.PoolStatement
	default:
		return session.PoolTransaction
	}
}

// listenAddresses is PostgreSQL's listen_addresses.
func (c *Config) listenAddresses() string {
	switch {
	case c.Postgres.Listen != "":
		return c.Postgres.Listen
	case loopbackHost(c.Node.Host):
		return c.Node.Host
	}
	return c.Node.Host + ",localhost"
}

// instance is the configuration of this node's PostgreSQL.
func (c *Config) instance(secret postgres.Secret, password string) postgres.Config {
	p := c.Postgres
	return postgres.Config{
		Cluster: c.Cluster.Name, Node: replication.NodeID(c.Node.Name), DataDir: c.Node.DataDir, StateDir: c.Node.StateDir,
		RunDir: c.Node.RunDir, LogFile: cmp.Or(c.Node.LogFile, filepath.Join(c.Node.StateDir, "postgres.log")),
		LogBytes: int64(c.Node.LogSize), BinDir: p.BinDir, ListenAddresses: c.listenAddresses(), Port: p.Port,
		Networks: c.networks(), Secret: secret, SuperuserPassword: password, Parameters: p.Parameters, Members: p.Members,
		MaxSlotWAL: int64(p.MaxSlotWAL), ProbeTimeout: p.ProbeTimeout, StopGrace: p.StopGrace, GuardLinger: p.GuardLinger,
	}
}

func (c *Config) timing() ha.Timing {
	h := c.HA
	return ha.Timing{
		TTL: h.TTL, Renew: h.Renew, RPC: h.RPCTimeout, Margin: h.StopMargin, Kill: h.KillAfter, KillLead: h.KillLead,
		Tie: h.Tie, VoteWait: h.VoteWait, Degrade: h.Degrade, Probe: c.Postgres.ProbeTimeout, Stop: h.StopTimeout,
		Start: h.StartTimeout,
	}
}

// bootstrap is what a new cluster's record starts with.
func (c *Config) bootstrap() ha.Bootstrap {
	return ha.Bootstrap{
		Cluster: c.Cluster.Name,
		Sync:    ha.Sync{Mode: ha.SyncMode(c.HA.Sync), Quorum: c.HA.SyncQuorum, Voters: []replication.NodeID{}},
		Settings: ha.Settings{
			TTL: c.HA.TTL, MaximumLag: int64(c.HA.MaximumLag), OnCrash: c.HA.OnCrash, ColdStartWait: c.HA.ColdStartWait,
		},
	}
}

func (c *Config) networks() []netip.Prefix {
	var list []netip.Prefix
	return append(list, prefixes(c.Postgres.Networks)...)
}

// storeTLS is the client's side toward etcd; nil without certificates.
func storeTLS(t TLSConfig) (*tls.Config, error) {
	if t.CertFile == "" && t.CAFile == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("%w: store.tls: %w", ErrConfig, err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	if t.CAFile != "" {
		content, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("%w: store.tls: %w", ErrConfig, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("%w: store.tls.ca_file: no certificate in %s", ErrConfig, t.CAFile)
		}
	}
	return config, nil
}

// serverTLS is the API's side; nil without certificates. The files are read at each handshake, so that a renewed
// certificate needs no restart.
func serverTLS(t TLSConfig) (*tls.Config, error) {
	if t.CertFile == "" {
		return nil, nil
	}
	if _, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile); err != nil {
		return nil, fmt.Errorf("%w: api.tls: %w", ErrConfig, err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			certificate, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			if err != nil {
				return nil, fmt.Errorf("load certificate: %w", err)
			}
			return &certificate, nil
		},
	}, nil
}
