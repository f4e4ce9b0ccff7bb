package app

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walgate/walgate/ha/postgres"
)

// Kind is the process that a configuration is for: they need different keys.
type Kind string

// The kinds of process.
const (
	KindNode  Kind = "node"
	KindProxy Kind = "proxy"
)

var (
	nodeNamePattern    = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)
	clusterNamePattern = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`)
)

// check collects what is wrong, so that one run names everything.
type check struct{ problems []string }

func (k *check) failf(key, format string, args ...any) {
	k.problems = append(k.problems, key+": "+fmt.Sprintf(format, args...))
}

func (k *check) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		k.failf(key, "%q%s; allowed: %s", value, nearestHint(value, allowed), strings.Join(allowed, ", "))
	}
}

func (k *check) required(key, value, hint string) {
	if value == "" {
		k.failf(key, "must be set: %s", hint)
	}
}

func (k *check) secret(key, path string) {
	if path == "" {
		return
	}
	if err := checkSecretFile(path); err != nil {
		k.failf(key, "%v", err)
	}
}

func (k *check) file(key, path string) {
	if path == "" {
		return
	}
	if _, err := os.Stat(path); err != nil {
		k.failf(key, "%v", err)
	}
}

func (k *check) address(key, value string) {
	_, port, err := net.SplitHostPort(value)
	if err != nil || port == "" {
		k.failf(key, "%q; allowed: HOST:PORT", value)
	}
}

func (k *check) httpURL(key, value string) {
	u, err := url.Parse(value)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		k.failf(key, "%q; allowed: http://HOST:PORT or https://HOST:PORT", value)
	}
}

func (k *check) positive(key string, value time.Duration) {
	if value <= 0 {
		k.failf(key, "%s; allowed: more than 0", value)
	}
}

func (k *check) err() error {
	if len(k.problems) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrConfig, strings.Join(k.problems, "\n"+ErrConfig.Error()+": "))
}

// Validate judges the sense of the values for a process of the kind. It reads no file but looks whether those named
// exist. The error names every key that is wrong, with the allowed values.
func (c *Config) Validate(kind Kind) error {
	k := &check{}
	if !clusterNamePattern.MatchString(c.Cluster.Name) {
		k.failf("cluster.name", "%q; allowed: letters, digits, _ . - and at most 63 of them", c.Cluster.Name)
	}
	k.required("cluster.secret_file", c.Cluster.SecretFile, "a file with the cluster's secret ('walgate secret' makes one)")
	k.secret("cluster.secret_file", c.Cluster.SecretFile)
	if kind == KindNode {
		c.validateNode(k)
	}
	c.validateStore(k, kind)
	c.validateHA(k)
	c.validateProxy(k)
	k.address("api.listen", c.API.Listen)
	if c.API.Advertise != "" {
		k.httpURL("api.advertise", c.API.Advertise)
	}
	k.secret("api.token_file", c.API.TokenFile)
	k.tls("api.tls", c.API.TLS)
	if c.API.Pprof && !loopbackListen(c.API.Listen) {
		k.failf("api.pprof", "profiles show this process's memory, so api.listen must be a loopback address, not %s", c.API.Listen)
	}
	if kind == KindNode && len(k.problems) == 0 {
		c.validateInstance(k)
	}
	k.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	k.oneOf("log.format", c.Log.Format, "text", "json")
	return k.err()
}

func (k *check) tls(key string, t TLSConfig) {
	if (t.CertFile == "") != (t.KeyFile == "") {
		k.failf(key, "cert_file and key_file go together")
	}
	k.file(key+".ca_file", t.CAFile)
	k.file(key+".cert_file", t.CertFile)
	k.file(key+".key_file", t.KeyFile)
}

func (c *Config) validateNode(k *check) {
	if !nodeNamePattern.MatchString(c.Node.Name) {
		k.failf("node.name", "%q; allowed: lower-case letters, digits and _, 1 to 63 of them", c.Node.Name)
	}
	k.required("node.host", c.Node.Host, "the address at which others reach this PostgreSQL")
	k.required("node.data_dir", c.Node.DataDir, "PostgreSQL's data directory")
	k.required("node.run_dir", c.Node.RunDir, "a directory for sockets and pid facts")
	k.required("node.state_dir", c.Node.StateDir, "a directory for what walgate keeps of this node")
	if inside(c.Node.StateDir, c.Node.DataDir) {
		k.failf("node.state_dir", "%q; allowed: a directory outside data_dir", c.Node.StateDir)
	}
	for key, path := range map[string]string{
		"node.data_dir": c.Node.DataDir, "node.state_dir": c.Node.StateDir, "node.run_dir": c.Node.RunDir,
	} {
		if path != "" && !filepath.IsAbs(path) {
			k.failf(key, "%q; allowed: an absolute path", path)
		}
	}
	// The socket's name is RUN_DIR/.s.PGSQL.PORT, and sun_path holds 107 bytes.
	if len(c.Node.RunDir) > 80 {
		k.failf("node.run_dir", "%q; allowed: at most 80 bytes, unix sockets lie in it", c.Node.RunDir)
	}
	if c.Postgres.Port < 1 || c.Postgres.Port > 65535 {
		k.failf("postgres.port", "%d; allowed: 1 to 65535", c.Postgres.Port)
	}
	for i, network := range c.Postgres.Networks {
		if _, err := netip.ParsePrefix(network); err != nil {
			k.failf(fmt.Sprintf("postgres.networks[%d]", i), "%q; allowed: a prefix such as 10.0.0.0/8", network)
		}
	}
	k.required("postgres.superuser_password_file", c.Postgres.SuperuserPasswordFile, "a file with the password of the superuser postgres")
	k.secret("postgres.superuser_password_file", c.Postgres.SuperuserPasswordFile)
	if m := c.Postgres.Members; m < 1 || m > 64 {
		k.failf("postgres.members", "%d; allowed: 1 to 64", m)
	}
	if c.Postgres.MaxSlotWAL < 64<<20 {
		k.failf("postgres.max_slot_wal", "%s; allowed: 64MB or more", c.Postgres.MaxSlotWAL)
	}
	k.positive("postgres.probe_timeout", c.Postgres.ProbeTimeout)
	k.positive("postgres.stop_grace", c.Postgres.StopGrace)
	k.positive("postgres.guard_linger", c.Postgres.GuardLinger)
	if r := c.Postgres.CloneMaxRate; r != 0 && (r < 32<<10 || r > 1<<30) {
		k.failf("postgres.clone_max_rate", "%s; allowed: 0, or 32kB to 1GB", r)
	}
}

// validateInstance asks the instance itself, with stand-ins for the secrets, what it thinks of its configuration: it
// knows which parameters are managed.
func (c *Config) validateInstance(k *check) {
	cfg := c.instance(postgres.NewSecret(c.Cluster.Name, make([]byte, 32)), "stand-in")
	if _, err := postgres.New(cfg, slog.New(slog.DiscardHandler)); err != nil {
		k.failf("postgres", "%v", err)
	}
}

func (c *Config) validateStore(k *check, kind Kind) {
	e := c.Store.Embedded
	switch {
	case kind == KindProxy && len(c.Store.Endpoints) == 0:
		k.failf("store.endpoints", "must be set: the client URLs of the cluster's etcd")
	case kind == KindNode && e.DataDir == "" && len(c.Store.Endpoints) == 0:
		k.failf("store", "set embedded.data_dir (an etcd member in this process) or endpoints (an existing etcd)")
	}
	for i, endpoint := range c.Store.Endpoints {
		k.httpURL(fmt.Sprintf("store.endpoints[%d]", i), endpoint)
	}
	k.tls("store.tls", c.Store.TLS)
	if kind != KindNode || e.DataDir == "" {
		return
	}
	for key, listen := range map[string]string{"peer_listen": e.PeerListen, "client_listen": e.ClientListen} {
		k.httpURL("store.embedded."+key, listen)
		if !loopbackURL(listen) && c.Store.TLS.CertFile == "" {
			k.failf("store.embedded."+key, "%s is not loopback and needs store.tls", listen)
		}
	}
	if len(e.InitialCluster) > 0 && e.InitialCluster[c.MemberName()] == "" {
		k.failf("store.embedded.initial_cluster", "does not name this member, %q", c.MemberName())
	}
	for name, peer := range e.InitialCluster {
		k.httpURL("store.embedded.initial_cluster."+name, peer)
	}
}

func (c *Config) validateHA(k *check) {
	h := c.HA
	for _, f := range leaves("ha", reflect.ValueOf(h)) {
		if f.value.Kind() == reflect.Int64 && f.path != "ha.maximum_lag" && f.value.Int() <= 0 {
			k.failf(f.path, "%v; allowed: more than 0", f.value.Interface())
		}
	}
	if need := c.MinTTL(); need > h.TTL {
		k.failf("ha.ttl", "%s is too short: 2*renew + rpc_timeout + stop_margin + 1%% of ttl is %s", h.TTL, need)
	}
	if most := h.StopMargin - h.TTL/50; h.KillAfter > most {
		k.failf("ha.kill_after", "%s; allowed: at most stop_margin less 2%% of ttl (%s)", h.KillAfter, most)
	}
	if h.KillLead >= h.KillAfter {
		k.failf("ha.kill_lead", "%s; allowed: less than kill_after (%s)", h.KillLead, h.KillAfter)
	}
	if h.Registration < 2*time.Second {
		k.failf("ha.registration", "%s; allowed: 2s or more", h.Registration)
	}
	if h.HandoffTimeout <= h.DrainTimeout {
		k.failf("ha.handoff_timeout", "%s; allowed: more than drain_timeout (%s)", h.HandoffTimeout, h.DrainTimeout)
	}
	k.oneOf("ha.sync", h.Sync, "quorum", "strict", "off")
	k.oneOf("ha.on_crash", h.OnCrash, "failover", "restart", "auto")
	if h.SyncQuorum < 1 {
		k.failf("ha.sync_quorum", "%d; allowed: 1 or more", h.SyncQuorum)
	}
}

func (c *Config) validateProxy(k *check) {
	p := c.Proxy
	k.address("proxy.listen", p.Listen)
	for i, l := range p.Listeners {
		key := fmt.Sprintf("proxy.listeners[%d]", i)
		k.oneOf(key+".network", l.Network, "", "tcp", "unix")
		if l.Network == "unix" {
			k.required(key+".listen", l.Listen, "the path of a unix socket")
		} else {
			k.address(key+".listen", l.Listen)
		}
		k.oneOf(key+".target", l.Target, "primary", "replica", "auto")
		k.reads(key, "", l.Consistency, l.Fallback, l.Transactions, l.MaxLag, l.MaxLagBytes)
		k.listener(key, l)
	}
	if len(p.Takeover.Socket) > maxSocketPath {
		k.failf("proxy.takeover.socket", "%q; allowed: a path of at most %d bytes", p.Takeover.Socket, maxSocketPath)
	}
	k.proxyTLS(p)
	k.driver(&p)
	k.oneOf("proxy.pool.mode", p.Pool.Mode, "transaction", "session", "statement")
	c.validatePools(k)
	k.oneOf("proxy.routing.target", p.Routing.Target, "primary", "replica", "auto")
	k.oneOf("proxy.routing.consistency", p.Routing.Consistency, "eventual", "bounded", "session", "strong")
	k.oneOf("proxy.routing.fallback", p.Routing.Fallback, "primary", "error")
	k.oneOf("proxy.routing.transactions", p.Routing.Transactions, "begin", "lazy", "reads")
	k.oneOf("proxy.routing.lost_writes", p.Routing.LostWrites, "notice", "error")
	if p.Routing.PrimaryShare < 0 || p.Routing.PrimaryShare > 100 {
		k.failf("proxy.routing.primary_share", "%d; allowed: 0 to 100", p.Routing.PrimaryShare)
	}
	if p.Routing.PollIdle < p.Routing.PollActive {
		k.failf("proxy.routing.poll_idle", "%s; allowed: at least poll_active (%s)", p.Routing.PollIdle, p.Routing.PollActive)
	}
	c.validateAuth(k)
	k.required("proxy.pool.reset_query", p.Pool.ResetQuery, "a statement such as DISCARD ALL")
	k.required("proxy.auth.database", p.Auth.Database, "the database with the function walgate.verifier")
	for _, f := range leaves("proxy", reflect.ValueOf(p)) {
		switch f.value.Kind() {
		case reflect.Int, reflect.Int64: // durations and amounts included
			if f.value.Int() <= 0 && !slices.Contains(mayBeZero, f.path) {
				k.failf(f.path, "%v; allowed: more than 0", f.value.Interface())
			}
		}
	}
}

// mayBeZero are the numbers of the proxy section that mean something when they are 0.
var mayBeZero = []string{
	"proxy.limits.logins", "proxy.limits.address_logins", "proxy.timeouts.message", "proxy.timeouts.client_read",
	"proxy.loops",
	"proxy.pool.min", "proxy.pool.reserve", "proxy.pool.max_database", "proxy.pool.max_user", "proxy.pool.max_node",
	"proxy.pool.max_database_clients", "proxy.pool.max_user_clients", "proxy.pool.check_delay", "proxy.tcp.user_timeout",
	"proxy.timeouts.query", "proxy.timeouts.transaction", "proxy.timeouts.idle_in_transaction", "proxy.timeouts.client_idle",
	"proxy.timeouts.query_wait", "proxy.timeouts.query_wait_notify",
	"proxy.routing.wait", "proxy.routing.return_wait", "proxy.routing.primary_share", "proxy.routing.slow_start", "proxy.routing.eject_after",
}

// reads checks what may be said about reads in more than one place; empty and 0 leave it to the next.
func (k *check) reads(key, target, consistency, fallback, transactions string, lag time.Duration, size Bytes) {
	k.oneOf(key+".target", target, "", "primary", "replica", "auto")
	k.oneOf(key+".consistency", consistency, "", "eventual", "bounded", "session", "strong")
	k.oneOf(key+".fallback", fallback, "", "primary", "error")
	k.oneOf(key+".transactions", transactions, "", "begin", "lazy", "reads")
	if lag < 0 {
		k.failf(key+".max_lag", "%s; allowed: 0 or more", lag)
	}
	if size < 0 {
		k.failf(key+".max_lag_bytes", "%d; allowed: 0 or more", size)
	}
}

func (c *Config) validatePools(k *check) {
	for _, key := range mayBeZero {
		for _, f := range leaves("proxy", reflect.ValueOf(c.Proxy)) {
			if f.path == key && f.value.Int() < 0 {
				k.failf(key, "%v; allowed: 0 or more", f.value.Interface())
			}
		}
	}
	for i, o := range c.Proxy.Pools {
		key := fmt.Sprintf("proxy.pools[%d]", i)
		k.oneOf(key+".mode", o.Mode, "", "transaction", "session", "statement")
		k.reads(key, o.Target, o.Consistency, o.Fallback, o.Transactions, o.MaxLag, o.MaxLagBytes)
		for _, f := range leaves(key, reflect.ValueOf(o)) {
			if f.value.Kind() == reflect.Int && f.value.Int() < 0 {
				k.failf(f.path, "%d; allowed: 0 or more", f.value.Int())
			}
		}
	}
	rules := c.Proxy.poolRules()
	for i, rule := range rules {
		key := fmt.Sprintf("proxy.pools[%d]", i)
		if i == len(rules)-1 {
			key = "proxy.pool"
		}
		if rule.Servers.Min > rule.Servers.Max {
			k.failf(key+".min", "%d; allowed: at most max (%d)", rule.Servers.Min, rule.Servers.Max)
		}
	}
}

func (c *Config) validateAuth(k *check) {
	a := c.Proxy.Auth
	if len(a.Source) == 0 {
		k.failf("proxy.auth.source", "empty; allowed: cluster, file, query")
	}
	for i, source := range a.Source {
		k.oneOf(fmt.Sprintf("proxy.auth.source[%d]", i), source, "cluster", "file", "query")
	}
	if slices.Contains(a.Source, "query") {
		k.required("proxy.auth.query", a.Query, "a query that returns the verifier of the role $1")
		k.required("proxy.auth.query_user", a.QueryUser, "the role that runs the query")
		k.required("proxy.auth.query_password_file", a.QueryPasswordFile, "a file with the password of query_user")
		k.required("proxy.auth.query_database", a.QueryDatabase, "the database in which the query runs")
	}
	if slices.Contains(a.Source, "file") {
		k.required("proxy.auth.user_file", a.UserFile, "a file with the secrets of roles")
	}
	k.secret("proxy.auth.query_password_file", a.QueryPasswordFile)
	k.secret("proxy.auth.user_file", a.UserFile)
	k.file("proxy.auth.hba_file", a.HBAFile)
	k.file("proxy.auth.ident_file", a.IdentFile)
}

// inside reports whether path is dir or lies below it.
func inside(path, dir string) bool {
	if path == "" || dir == "" {
		return false
	}
	relative, err := filepath.Rel(dir, path)
	return err == nil && relative != ".." && !strings.HasPrefix(relative, "../")
}

// MinTTL is the least ttl that the other times allow: 2R + O + D + 1%.
func (c *Config) MinTTL() time.Duration {
	return 2*c.HA.Renew + c.HA.RPCTimeout + c.HA.StopMargin + c.HA.TTL/100
}

// MemberName is the name of the embedded etcd member.
func (c *Config) MemberName() string {
	if c.Store.Embedded.Name != "" {
		return c.Store.Embedded.Name
	}
	return c.Node.Name
}

// AdvertiseAPI is the URL at which others reach this process's API.
func (c *Config) AdvertiseAPI() string {
	if c.API.Advertise != "" {
		return c.API.Advertise
	}
	scheme := "http"
	if c.API.TLS.CertFile != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(c.API.Listen)
	if c.Node.Host != "" && (host == "" || net.ParseIP(host).IsUnspecified()) {
		host = c.Node.Host
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// loopbackURL reports whether the URL's host can only be reached from this machine.
func loopbackURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && loopbackHost(u.Hostname())
}

func loopbackListen(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	return err == nil && loopbackHost(host)
}

func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
