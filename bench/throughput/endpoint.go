package throughput

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// endpoint is a way to PostgreSQL.
type endpoint struct {
	name     string
	address  string
	version  string
	process  *child // nil: there is no proxy
	family   bool   // its work is done by children of the process
	api      string // of walgate
	prepared bool   // named statements work
	pooled   bool   // clients that idle take no server connection
}

func (e *endpoint) pid() int {
	if e.process == nil {
		return 0
	}
	return e.process.pid()
}

// usage is what its processes have used.
func (e *endpoint) usage() (usage, error) {
	if e.family {
		return readFamily(e.pid())
	}
	return readUsage(e.pid())
}

// end ends its process, if it has one.
func (e *endpoint) end() error {
	if e.process == nil {
		return nil
	}
	return e.process.end(15 * time.Second)
}

// can tells whether the workload works through the endpoint, else why not.
func (e *endpoint) can(c cell) error {
	if c.work.prepared && !e.prepared {
		return errors.New("named prepared statements do not work in its transaction mode")
	}
	return nil
}

// The endpoints.
const (
	endpointDirect           = "direct"
	endpointWalgate          = "walgate"
	endpointWalgateGoroutine = "walgate-goroutine"
	endpointWalgateEventual  = "walgate-eventual" // reads at eventual, not at session
	endpointPgpool           = "pgpool"           // pgpool-II
	endpointPgBouncer        = "pgbouncer"
	endpointPgBouncerOther   = "pgbouncer-other"   // Config.PgBouncer
	endpointPgBouncerSession = "pgbouncer-session" // session mode, a server connection for each client
	endpointHAProxy          = "haproxy"
)

// Endpoints lists all that are known.
func Endpoints() []string {
	return []string{
		endpointDirect, endpointWalgate, endpointWalgateGoroutine, endpointWalgateEventual,
		endpointPgBouncer, endpointPgBouncerOther, endpointPgBouncerSession, endpointHAProxy, endpointPgpool,
	}
}

// forStandbys tells whether the endpoint differs from others only where there are standbys.
func forStandbys(name string) bool { return name == endpointWalgateEventual || name == endpointPgpool }

// Bases are what the others are compared with, if nothing is said: the first that can do the workload.
func Bases() []string {
	return []string{endpointPgBouncerOther, endpointPgBouncer, endpointPgBouncerSession, endpointHAProxy}
}

// errAbsent says that an endpoint can't be here.
var errAbsent = errors.New("not on this machine")

// startEndpoints starts what the configuration names; what is not there is said and left out. All that are returned have
// answered, and are to be ended also beside an error.
func startEndpoints(ctx context.Context, g *ground) (all []*endpoint, skipped map[string]string, err error) {
	skipped = map[string]string{}
	for i, name := range g.cfg.Endpoints {
		e := &endpoint{name: name, address: g.address(portFirstEndpoint + 2*i), prepared: true}
		api := g.address(portFirstEndpoint + 2*i + 1)
		if err := g.startEndpoint(ctx, e, api); ctx.Err() != nil {
			return append(all, e), skipped, context.Cause(ctx)
		} else if err != nil {
			skipped[name] = err.Error()
			g.cfg.say("SKIPPED %s: %v", name, err)
			_ = e.end() // what does not work is not missed
			continue
		}
		all = append(all, e)
	}
	return all, skipped, nil
}

// ask sends one query through the endpoint.
func (g *ground) ask(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, g.url(e.address, benchUser, benchDatabase))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, "select 1", pgx.QueryExecModeSimpleProtocol)
	return err
}

// startEndpoint returns when the endpoint has answered.
func (g *ground) startEndpoint(ctx context.Context, e *endpoint, api string) (err error) {
	switch e.name {
	case endpointDirect:
		e.address = g.address(portPostgres)
	case endpointWalgate:
		err = g.startWalgate(ctx, e, api)
	case endpointWalgateGoroutine:
		err = g.startWalgate(ctx, e, api, "WALGATE_PROXY_DRIVER=goroutine")
	case endpointWalgateEventual:
		err = g.startWalgate(ctx, e, api, "WALGATE_PROXY_ROUTING_CONSISTENCY=eventual")
	case endpointPgpool:
		err = g.startPgpool(ctx, e, api)
	case endpointPgBouncer:
		err = g.startPgBouncer(ctx, e, "pgbouncer", "transaction", g.cfg.Pool)
	case endpointPgBouncerOther:
		if g.cfg.PgBouncer == "" {
			return fmt.Errorf("%w: no other program was named", errAbsent)
		}
		err = g.startPgBouncer(ctx, e, g.cfg.PgBouncer, "transaction", g.cfg.Pool)
	case endpointPgBouncerSession:
		err = g.startPgBouncer(ctx, e, "pgbouncer", "session", maxClients/2)
	case endpointHAProxy:
		err = g.startHAProxy(ctx, e)
	}
	if err != nil {
		return err
	}
	return until(ctx, startLimit, e.process, func(ctx context.Context) error { return g.ask(ctx, e) })
}

// restart ends the endpoint's process and starts another.
func (g *ground) restart(ctx context.Context, e *endpoint) error {
	if err := e.end(); err != nil {
		return fmt.Errorf("restart %s: %w", e.name, err)
	}
	if err := g.startEndpoint(ctx, e, strings.TrimPrefix(e.api, "http://")); err != nil {
		return fmt.Errorf("restart %s: %w", e.name, err)
	}
	return nil
}

// startWalgate starts a stateless proxy. With one node, which is the primary, every statement runs there; each is
// classified all the same.
func (g *ground) startWalgate(ctx context.Context, e *endpoint, api string, env ...string) (err error) {
	e.pooled, e.api, e.version = true, "http://"+api, versionOf(ctx, g.cfg.Walgate, "version")
	env = append(env, "WALGATE_PROXY_ID="+e.name, "WALGATE_PROXY_LISTEN="+e.address, "WALGATE_API_LISTEN="+api,
		"WALGATE_PROXY_TLS_MODE=allow", "WALGATE_PROXY_TLS_CERT_FILE="+g.path(certificateFile), "WALGATE_PROXY_TLS_KEY_FILE="+g.path(keyFile),
		"WALGATE_API_PPROF="+strconv.FormatBool(g.cfg.Profile))
	e.process, err = spawn(g.dir, start{name: e.name, program: g.cfg.Walgate, args: []string{"proxy", "--config", g.path("proxy.yaml")},
		env: env, stop: syscall.SIGTERM})
	return err
}

// startPgBouncer starts one that logs in to PostgreSQL with the keys that its clients have proved to know: it stores
// their verifier as walgate does.
func (g *ground) startPgBouncer(ctx context.Context, e *endpoint, name, mode string, pool int) error {
	path, err := program(name)
	if err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	e.version = versionOf(ctx, path, "--version")
	knows := pgBouncerPrepares(e.version)
	e.prepared, e.pooled = knows || mode == "session", mode == "transaction"
	host, port, _ := strings.Cut(e.address, ":")
	config := fmt.Sprintf(`[databases]
%s = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
pool_mode = %s
default_pool_size = %d
max_client_conn = %d
client_tls_sslmode = allow
client_tls_cert_file = %s
client_tls_key_file = %s
log_connections = 0
log_disconnections = 0
log_stats = 0
`, benchDatabase, g.cfg.Port+portPostgres, host, port, g.path(e.name+".users"), mode, pool, maxIdle+1000,
		g.path(certificateFile), g.path(keyFile))
	if knows {
		config += "max_prepared_statements = 200\n"
	}
	users := fmt.Sprintf("%q %q\n", benchUser, g.verifier)
	for file, content := range map[string]string{e.name + ".ini": config, e.name + ".users": users} {
		if err := g.writeFor(file, content); err != nil {
			return err
		}
	}
	e.process, err = spawn(g.dir, start{name: e.name, program: path, args: []string{g.path(e.name + ".ini")}, as: g.as, stop: syscall.SIGINT})
	return err
}

// writeFor writes a file for the user that may not be root.
func (g *ground) writeFor(name, content string) error {
	if err := os.WriteFile(g.path(name), []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if g.as == nil {
		return nil
	}
	return os.Chown(g.path(name), int(g.as.Uid), int(g.as.Gid))
}

// startHAProxy starts one that passes bytes on, with one thread, as PgBouncer has.
func (g *ground) startHAProxy(ctx context.Context, e *endpoint) error {
	path, err := program("haproxy")
	if err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	e.version = versionOf(ctx, path, "-v")
	config := fmt.Sprintf(`global
  maxconn 2000
  nbthread 1
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
listen postgres
  bind %s
  server node1 %s
`, e.address, g.address(portPostgres))
	if err := os.WriteFile(g.path("haproxy.cfg"), []byte(config), 0o644); err != nil {
		return fmt.Errorf("write haproxy.cfg: %w", err)
	}
	e.process, err = spawn(g.dir, start{name: e.name, program: path, args: []string{"-db", "-f", g.path("haproxy.cfg")}, stop: syscall.SIGTERM})
	return err
}

// versionOf is the first line that a program says of itself.
func versionOf(ctx context.Context, path, arg string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, arg).CombinedOutput() // pgpool says it on the other channel
	if err != nil {
		return "version not known"
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

var pgBouncerVersion = regexp.MustCompile(`^PgBouncer (\d+)\.(\d+)`)

// pgBouncerPrepares tells whether it carries prepared statements in transaction mode: since 1.21.
func pgBouncerPrepares(version string) bool {
	found := pgBouncerVersion.FindStringSubmatch(version)
	if found == nil {
		return false
	}
	major, _ := strconv.Atoi(found[1]) // digits
	minor, _ := strconv.Atoi(found[2])
	return major > 1 || minor >= 21
}
