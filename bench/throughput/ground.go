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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// ground is the one PostgreSQL that all endpoints share: that of a walgate node, since walgate's proxies follow a
// cluster. The node's own proxy is not measured.
type ground struct {
	cfg      Config
	dir      string
	secret   string // file
	password string // of both roles
	verifier string // SCRAM, of the role bench
	as       *syscall.Credential
	node     *child
	pgbench  string // the program
}

// The offsets of ports from Config.Port.
const (
	portNodeProxy = iota
	portNodeAPI
	portPostgres
	portStore
	portStorePeer
	portFirstEndpoint // each endpoint takes two: for clients, and for its API
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
	err := errors.Join(g.makeDir(), g.findPrograms())
	if err != nil {
		return g, err
	}
	if err := g.writeConfigs(); err != nil {
		return g, err
	}
	cfg.say("starting PostgreSQL and walgate in %s", g.dir)
	g.node, err = spawn(g.dir, start{name: "node", program: cfg.Walgate, args: []string{"node", "--config", filepath.Join(g.dir, "node.yaml")}, stop: syscall.SIGINT})
	if err != nil {
		return g, err
	}
	if err := until(ctx, startLimit, g.node, g.makeDatabase); err != nil {
		return g, fmt.Errorf("make the database: %w", err)
	}
	return g, g.makeTables(ctx)
}

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

func (g *ground) findPrograms() (err error) {
	var errs [2]error
	g.pgbench, errs[0] = program("pgbench")
	g.as, errs[1] = unprivileged()
	return errors.Join(errs[:]...)
}

func (g *ground) path(name string) string { return filepath.Join(g.dir, name) }

// writeConfigs writes those of the node and, as far as they are alike, of walgate's proxies.
func (g *ground) writeConfigs() error {
	g.secret = g.path("secret")
	common := fmt.Sprintf("cluster: {name: bench, secret_file: %q}\n", g.secret)
	node := common + fmt.Sprintf(`node: {name: node1, host: 127.0.0.1, data_dir: %q, state_dir: %q, run_dir: %q, log_file: %q}
postgres:
  port: %d
  listen: 127.0.0.1
  superuser_password_file: %q
  parameters: {max_connections: "500", shared_buffers: 256MB}
store: {embedded: {data_dir: %q, client_listen: "http://%s", peer_listen: "http://%s"}}
ha: {sync: "off"}
proxy: {listen: %q}
api: {listen: %q}
`, g.path("data"), g.path("state"), g.path("run"), g.path("postgres.log"), g.cfg.Port+portPostgres, g.path("password"),
		g.path("etcd"), g.address(portStore), g.address(portStorePeer), g.address(portNodeProxy), g.address(portNodeAPI))
	proxy := common + fmt.Sprintf("store: {endpoints: [\"http://%s\"]}\nproxy: {pool: {max: %d}, max_clients: %d}\n",
		g.address(portStore), g.cfg.Pool, maxIdle+1000)
	return errors.Join(g.writeCertificate(),
		os.WriteFile(g.secret, []byte(rand.Text()+rand.Text()), 0o600), os.WriteFile(g.path("password"), []byte(g.password), 0o600),
		os.WriteFile(g.path("node.yaml"), []byte(node), 0o644), os.WriteFile(g.path("proxy.yaml"), []byte(proxy), 0o644),
		os.Mkdir(g.path("run"), 0o755))
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
	return os.WriteFile(g.path("result.sql"), []byte(largeResult(g.cfg.Megabytes)+";\n"), 0o644)
}

// postmaster is PostgreSQL's first process.
func (g *ground) postmaster() (int, error) {
	content, err := os.ReadFile(filepath.Join(g.path("data"), "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("find PostgreSQL's process: %w", err)
	}
	first, _, _ := strings.Cut(string(content), "\n")
	return strconv.Atoi(first)
}

// close ends the node and removes the folder.
func (g *ground) close() error {
	var err error
	if g.node != nil {
		err = g.node.end(startLimit)
	}
	if g.dir != "" && !g.cfg.Keep {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	return err
}
