package proxy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// binaries is where Debian puts PostgreSQL's programs.
const binaries = "/usr/lib/postgresql/15/bin"

// programs chooses the PostgreSQL under test; what it lacks besides the server is taken from binaries.
// go test ./proxy -postgres /usr/local/pgsql-18/bin
var programs = flag.String("postgres", binaries, "directory with the programs of the PostgreSQL under test")

// postgres is one real PostgreSQL on a free port.
type postgres struct {
	bin  string // directory of its programs
	dir  string
	host string // also the directory of its socket, for direct connections without a password
	port int
	cmd  *exec.Cmd
	as   *syscall.Credential
}

// startPostgres makes a cluster with the roles app/secret and walgate_monitor/monitor; the test's end removes it.
func startPostgres(t *testing.T) *postgres {
	t.Helper()
	bin := *programs
	if _, err := os.Stat(filepath.Join(bin, "postgres")); err != nil {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" {
			t.Fatal("no PostgreSQL binaries, and WALGATE_REQUIRE_POSTGRES=1")
		}
		t.Skip("SKIPPED: no PostgreSQL binaries in ", bin)
	}
	dir, err := os.MkdirTemp("/tmp", "walgate-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &postgres{bin: bin, dir: dir, host: "127.0.0.1", port: freePort(t)}
	if os.Getuid() == 0 {
		owner, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(owner.Uid)
		gid, _ := strconv.Atoi(owner.Gid)
		p.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	p.reach(t)
	out, err := p.command("initdb", "-D", p.data(), "-U", "postgres", "--auth-local=trust", "--auth-host=scram-sha-256",
		"--no-sync", "-E", "UTF8", "--locale=C").CombinedOutput()
	if err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	p.start(t)
	t.Cleanup(func() { p.stop(t) })
	p.exec(t, `create role app login password 'secret'`,
		`alter role postgres password 'super'`,
		`create role walgate_monitor login password 'monitor'`,
		`create schema walgate`, `grant usage on schema walgate to walgate_monitor`,
		`create function walgate.verifier(name text) returns text language sql security definer set search_path = pg_catalog
		 as 'select rolpassword from pg_catalog.pg_authid where rolname = name and rolcanlogin'`,
		`revoke all on function walgate.verifier(text) from public`,
		`grant execute on function walgate.verifier(text) to walgate_monitor`,
		`create database app owner app`)
	return p
}

// startStandby makes a streaming copy of p.
func (p *postgres) startStandby(t *testing.T) *postgres {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "walgate-proxy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if p.as != nil {
		if err := os.Chown(dir, int(p.as.Uid), int(p.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	standby := &postgres{bin: p.bin, dir: dir, host: p.host, port: freePort(t), as: p.as}
	p.copyTo(t, standby)
	standby.start(t)
	t.Cleanup(func() { standby.stop(t) })
	return standby
}

// copyTo makes the data of a streaming standby. The programs under test may lack pg_basebackup, and another version's may
// refuse this server; then the files are copied here.
func (p *postgres) copyTo(t *testing.T, standby *postgres) {
	t.Helper()
	if p.has("pg_basebackup") {
		out, err := p.command("pg_basebackup", "-D", standby.data(), "-h", p.dir, "-p", strconv.Itoa(p.port), "-U", "postgres",
			"-R", "-X", "stream", "-c", "fast", "--no-sync").CombinedOutput()
		if err != nil {
			t.Fatalf("pg_basebackup: %v\n%s", err, out)
		}
		return
	}
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, p.direct("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	begin, end := "select pg_backup_start('copy', true)", "select labelfile from pg_backup_stop(false)"
	if p.version(t) < 150000 {
		begin, end = "select pg_start_backup('copy', true, false)", "select labelfile from pg_stop_backup(false, false)"
	}
	mustExec(t, conn, begin)
	if out, err := p.command("cp", "-R", p.data(), standby.data()).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	label := query[string](t, conn, end)
	if err := os.Remove(filepath.Join(standby.data(), "postmaster.pid")); err != nil {
		t.Fatal(err)
	}
	settings, err := os.ReadFile(filepath.Join(p.data(), "postgresql.auto.conf"))
	if err != nil {
		t.Fatal(err)
	}
	settings = fmt.Appendf(settings, "primary_conninfo = 'host=%s port=%d user=postgres'\n", p.dir, p.port)
	for name, content := range map[string]string{"backup_label": label, "standby.signal": "", "postgresql.auto.conf": string(settings)} {
		standby.write(t, name, content)
	}
}

// write makes a file among the data.
func (p *postgres) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(p.data(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if p.as == nil {
		return
	}
	if err := os.Chown(path, int(p.as.Uid), int(p.as.Gid)); err != nil {
		t.Fatal(err)
	}
}

// reach copies the programs to where the server's user may run them, if it may not where they are.
func (p *postgres) reach(t *testing.T) {
	t.Helper()
	err := p.command("postgres", "--version").Run()
	if !errors.Is(err, fs.ErrPermission) {
		return
	}
	programs := filepath.Join(p.dir, "programs")
	if out, err := exec.Command("cp", "-R", filepath.Dir(p.bin), programs).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	p.bin = filepath.Join(programs, filepath.Base(p.bin))
}

// version is the server's number, 150018 for 15.18.
func (p *postgres) version(t *testing.T) int {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, p.direct("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	return query[int](t, conn, "select current_setting('server_version_num')::int")
}

// has reports whether a program is among those under test.
func (p *postgres) has(name string) bool {
	_, err := os.Stat(filepath.Join(p.bin, name))
	return err == nil
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) command(name string, args ...string) *exec.Cmd {
	path := filepath.Join(p.bin, name)
	if !p.has(name) {
		path = filepath.Join(binaries, name)
	}
	if _, err := os.Stat(path); err != nil {
		path = name
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = p.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Pdeathsig: syscall.SIGQUIT}
	return cmd
}

func (p *postgres) start(t *testing.T) {
	t.Helper()
	p.cmd = p.command("postgres", "-D", p.data(), "-p", strconv.Itoa(p.port), "-k", p.dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=100", "-c", "shared_buffers=64MB")
	logFile, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = logFile, logFile
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = logFile.Close()
	eventually(t, "PostgreSQL to accept connections", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		conn, err := pgx.Connect(ctx, p.direct("postgres"))
		if err != nil {
			return false
		}
		return conn.Close(ctx) == nil
	})
}

// stop ends it at once; it is safe to call twice.
func (p *postgres) stop(t *testing.T) {
	t.Helper()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGQUIT)
	_ = p.cmd.Wait()
	p.cmd = nil
}

// direct is the connection string of a superuser past the proxy.
func (p *postgres) direct(database string) string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=%s", p.dir, p.port, database)
}

// exec runs statements as superuser in the database postgres.
func (p *postgres) exec(t *testing.T, statements ...string) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, p.direct("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

// eventually waits until ok holds. Real servers have no channel to wait on; the tick is short and the limit generous.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// pgbench runs against the proxy and fails the test if any transaction fails.
func (s *setup) pgbench(t *testing.T, args ...string) string {
	t.Helper()
	cmd := s.pg.command("pgbench", append(args, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", "app", "app")...)
	cmd.Env = append(os.Environ(), "PGPASSWORD=secret", "HOME="+s.pg.dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("pgbench %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	if text := string(out); strings.Contains(text, "number of failed transactions") &&
		!strings.Contains(text, "number of failed transactions: 0 ") {
		t.Fatalf("pgbench %s:\n%s", strings.Join(args, " "), out)
	}
	return string(out)
}

// useMD5 lets roles log in to PostgreSQL with md5 hashes.
func (p *postgres) useMD5(t *testing.T, roles ...string) {
	t.Helper()
	path := filepath.Join(p.data(), "pg_hba.conf")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content = append([]byte("host all "+strings.Join(roles, ",")+" 127.0.0.1/32 md5\n"), content...)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	p.exec(t, "select pg_reload_conf()")
}
