package throughput

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ground is the PostgreSQL that all endpoints share: that of a walgate node, since walgate's proxies follow a cluster; or
// of several, of which the first is the primary. The nodes' own proxies are not measured.
type ground struct {
	cfg      Config
	dir      string
	secret   string // file
	password string // of both roles
	verifier string // SCRAM, of the role bench
	as       *syscall.Credential
	nodes    []*child // the primary first
	pgbench  string   // the program
}

// The offsets of ports from Config.Port. Those of another node follow by portsOfNode.
const (
	portNodeProxy = iota
	portNodeAPI
	portPostgres
	portStore
	portStorePeer
	portsOfNode

	portFirstEndpoint = maxNodes * portsOfNode // each endpoint takes two: for clients, and for its API
)

func (g *ground) address(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(g.cfg.Port+offset))
}

// The role and the database that clients use.
const (
	benchUser     = "bench"
	benchDatabase = "bench"
)

// startLimit bounds each step of the preparation.
const startLimit = 2 * time.Minute

// prepareGround makes the folder, the node and the tables. The ground is never nil, and close ends what was started.
func prepareGround(ctx context.Context, cfg Config) (*ground, error) {
	g := &ground{cfg: cfg, password: rand.Text()}
	err := errors.Join(g.makeDir(), g.findPrograms(ctx))
	if err != nil {
		return g, err
	}
	if err := g.writeConfigs(); err != nil {
		return g, err
	}
	cfg.say("starting PostgreSQL and walgate in %s", g.dir)
	if err := g.startNode(1); err != nil {
		return g, err
	}
	if err := until(ctx, startLimit, g.nodes[0], g.makeDatabase); err != nil {
		return g, fmt.Errorf("make the database: %w", err)
	}
	if err := g.makeTables(ctx); err != nil || cfg.Nodes == 1 {
		return g, err
	}
	return g, g.addStandbys(ctx)
}

// startNode starts a walgate node; the first one founds the cluster.
func (g *ground) startNode(number int) error {
	name := nodeName(number)
	node, err := spawn(g.dir, start{name: name, program: g.cfg.Walgate, args: []string{"node", "--config", g.path(name + ".yaml")}, stop: syscall.SIGINT})
	if err == nil {
		g.nodes = append(g.nodes, node)
	}
	return err
}

func nodeName(number int) string { return "node" + strconv.Itoa(number) }

// makeDir makes a folder that PostgreSQL's user may enter: in memory if possible, so that no disk is measured.
func (g *ground) makeDir() error {
	g.dir = g.cfg.Dir
	if g.dir != "" {
		if err := os.Mkdir(g.dir, 0o755); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		return nil
	}
	parent := "/dev/shm"
	if info, err := os.Stat(parent); err != nil || !info.IsDir() {
		parent = os.TempDir()
	}
	dir, err := os.MkdirTemp(parent, "walgate-bench-")
	if err == nil {
		g.dir, err = dir, os.Chmod(dir, 0o755) //nolint:gosec // the server's user must pass through
	}
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	return nil
}

func (g *ground) findPrograms(ctx context.Context) error {
	var errs [3]error
	g.pgbench, errs[0] = program("pgbench")
	g.as, errs[1] = unprivileged()
	if g.cfg.Nodes > 1 {
		errs[2] = checkLibrary(ctx)
	}
	return errors.Join(errs[:]...)
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

// writeConfigs writes those of the node and, as far as they are alike, of walgate's proxies.
func (g *ground) writeConfigs() error {
	g.secret = g.path("secret")
	common := fmt.Sprintf("cluster: {name: bench, secret_file: %q}\n", g.secret)
	proxy := common + fmt.Sprintf("store: {endpoints: [\"http://%s\"]}\nproxy: {pool: {max: %d}, max_clients: %d}\n",
		g.address(portStore), g.cfg.Pool, maxIdle+1000)
	err := errors.Join(g.writeCertificate(),
		os.WriteFile(g.secret, []byte(rand.Text()+rand.Text()), 0o600), os.WriteFile(g.path("password"), []byte(g.password), 0o600),
		os.WriteFile(g.path("proxy.yaml"), []byte(proxy), 0o644))
	for number := 1; number <= g.cfg.Nodes; number++ {
		err = errors.Join(err, g.writeNode(number, common))
	}
	return err
}

// writeNode writes the configuration of one node. One member of etcd, that of the first, serves all.
func (g *ground) writeNode(number int, common string) error {
	name, ports := nodeName(number), (number-1)*portsOfNode
	store := fmt.Sprintf(`{endpoints: ["http://%s"]}`, g.address(portStore))
	if number == 1 {
		store = fmt.Sprintf(`{embedded: {data_dir: %q, client_listen: "http://%s", peer_listen: "http://%s"}}`,
			g.path("etcd"), g.address(portStore), g.address(portStorePeer))
	}
	parameters := `max_connections: "500", shared_buffers: 256MB`
	if g.cfg.Nodes > 1 {
		parameters += ", shared_preload_libraries: " + countingLibrary
	}
	dir := g.path(name)
	content := common + fmt.Sprintf(`node: {name: %s, host: 127.0.0.1, data_dir: %q, state_dir: %q, run_dir: %q, log_file: %q}
postgres:
  port: %d
  listen: 127.0.0.1
  superuser_password_file: %q
  parameters: {%s}
store: %s
ha: {sync: "off"}
proxy: {listen: %q}
api: {listen: %q}
`, name, filepath.Join(dir, "data"), filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "postgres.log"),
		g.cfg.Port+ports+portPostgres, g.path("password"), parameters, store, g.address(ports+portNodeProxy), g.address(ports+portNodeAPI))
	return errors.Join(os.MkdirAll(filepath.Join(dir, "run"), 0o755), os.WriteFile(g.path(name+".yaml"), []byte(content), 0o644))
}

// url is a connection string for an address.
func (g *ground) url(address, name, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(name, g.password), Host: address, Path: "/" + database}
	u.RawQuery = url.Values{"sslmode": {"disable"}, "connect_timeout": {"40"}, "application_name": {"walgate bench"}}.Encode()
	return u.String()
}

// makeDatabase makes the role and the database; it can be repeated until it succeeds, which needs a primary.
func (g *ground) makeDatabase(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, g.url(g.address(portPostgres), "postgres", "postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range []string{
		"select 1 / (not pg_is_in_recovery())::int",
		"drop database if exists " + benchDatabase, "drop role if exists " + benchUser,
		"create role " + benchUser + " login password '" + g.password + "'",
		"create database " + benchDatabase + " owner " + benchUser,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return conn.QueryRow(ctx, "select rolpassword from pg_authid where rolname = $1", benchUser).Scan(&g.verifier)
}

// makeTables makes those of pgbench and of COPY.
func (g *ground) makeTables(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*startLimit)
	defer cancel()
	cmd := g.pgbenchCommand(ctx, g.address(portPostgres), "-i", "-q", "-s", strconv.Itoa(g.cfg.Scale))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make pgbench's tables: %w: %.500s", err, out)
	}
	conn, err := pgx.Connect(ctx, g.url(g.address(portPostgres), benchUser, benchDatabase))
	if err != nil {
		return fmt.Errorf("make the table of COPY: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "create unlogged table bench_copy (line text)"); err != nil {
		return fmt.Errorf("make the table of COPY: %w", err)
	}
	return g.writeScripts()
}

// writeScripts writes what pgbench does not have built in.
func (g *ground) writeScripts() error {
	err := os.WriteFile(g.path(scriptResult), []byte(largeResult(g.cfg.Megabytes)+";\n"), 0o644)
	for name, content := range mixScripts(g.cfg.Scale) {
		err = errors.Join(err, os.WriteFile(g.path(name), []byte(content), 0o644))
	}
	return err
}

// serverCPU is what all PostgreSQL servers have used.
func (g *ground) serverCPU() (total time.Duration, err error) {
	for number := range g.nodes {
		content, err := os.ReadFile(filepath.Join(g.path(nodeName(number+1)), "data", "postmaster.pid"))
		if err != nil {
			return 0, fmt.Errorf("find PostgreSQL's process: %w", err)
		}
		first, _, _ := strings.Cut(string(content), "\n")
		postmaster, err := strconv.Atoi(first)
		if err != nil {
			return 0, fmt.Errorf("find PostgreSQL's process: %w", err)
		}
		used, err := familyCPU(postmaster)
		if err != nil {
			return 0, err
		}
		total += used
	}
	return total, nil
}

// close ends the nodes, standbys first, and removes the folder.
func (g *ground) close() error {
	var err error
	for _, node := range slices.Backward(g.nodes) {
		err = errors.Join(err, node.end(startLimit))
	}
	if g.dir != "" && !g.cfg.Keep {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	return err
}
