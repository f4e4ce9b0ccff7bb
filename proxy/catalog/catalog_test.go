package catalog

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

const binaries = "/usr/lib/postgresql/15/bin"

// startPostgres runs a PostgreSQL that trusts loopback, and returns its port.
func startPostgres(t *testing.T) int {
	t.Helper()
	if _, err := os.Stat(filepath.Join(binaries, "postgres")); err != nil {
		if os.Getenv("WALGATE_REQUIRE_POSTGRES") == "1" {
			t.Fatal("no PostgreSQL binaries, and WALGATE_REQUIRE_POSTGRES=1")
		}
		t.Skip("SKIPPED: no PostgreSQL binaries in ", binaries)
	}
	dir, err := os.MkdirTemp("/tmp", "walgate-catalog-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	as := &syscall.SysProcAttr{}
	if os.Getuid() == 0 {
		owner, err := user.Lookup("postgres")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(owner.Uid)
		gid, _ := strconv.Atoi(owner.Gid)
		as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(binaries, "initdb"), "-D", data, "-U", "postgres", "--auth=trust", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	server := exec.Command(filepath.Join(binaries, "postgres"), "-D", data, "-p", strconv.Itoa(port), "-k", dir, "-F",
		"-c", "listen_addresses=127.0.0.1")
	server.SysProcAttr, server.Dir = as, dir
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT)
		_ = server.Wait()
	})
	return port
}

func connect(t *testing.T, port int, database string) (conn *pgx.Conn) {
	t.Helper()
	eventually(t, "PostgreSQL", func() (up bool) {
		var err error
		conn, err = pgx.Connect(context.Background(), "host=127.0.0.1 user=postgres sslmode=disable dbname="+database+
			" port="+strconv.Itoa(port))
		return err == nil
	})
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// definitions hold one thing of each kind that hides what a statement does.
const definitions = `
create sequence counter;
create role walgate_monitor login;
create schema shop;
create table orders (id int primary key, total int);
create function shop.price(int) returns int stable language sql as 'select $1';
create function shop.refill(int) returns int volatile language sql as 'select $1';
create function public.lower(int) returns int volatile language sql as 'select $1';
create function mixed(int) returns int stable language sql as 'select $1';
create function mixed(text) returns int volatile language sql as 'select 1';
create function column_like(orders) returns int volatile language sql as 'select 1';
create function volatile_step(int, int) returns int volatile language sql as 'select $1 + $2';
create aggregate volatile_sum(int) (sfunc = volatile_step, stype = int, initcond = '0');
create aggregate calm_sum(int) (sfunc = int4pl, stype = int, initcond = '0');
create function compare(int, int) returns bool volatile language sql as 'select $1 = $2';
create operator === (leftarg = int, rightarg = int, function = compare);
create view calm as select id, shop.price(total) from orders;
create view over_calm as select * from calm;
create view loud as select nextval('counter') from orders;
create view over_loud as select * from loud;
create view "Over Over" as select * from over_loud;
create view locks as select * from pg_catalog.pg_locks;
create view deep as select (select shop.refill(1)) from orders;
create unlogged table scratch (a int);
create table parent (a int) partition by range (a);
create unlogged table child partition of parent for values from (0) to (10);
create domain checked as int check (shop.refill(value) > 0);
create domain calm_checked as int check (value > 0);
create table guarded (a int);
alter table guarded enable row level security;
create policy p on guarded for select using (shop.refill(a) > 0);
create table calm_guarded (a int);
alter table calm_guarded enable row level security;
create policy p on calm_guarded for select using (shop.price(a) > 0);
`

func TestRealCatalog(t *testing.T) {
	port := startPostgres(t)
	admin := connect(t, port, "postgres")
	ctx := context.Background()
	exec := func(sql string) {
		t.Helper()
		if _, err := admin.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec(definitions)
	var views replication.Feed[replication.View]
	views.Publish(replication.View{Epoch: 1, Primary: "a", Members: []replication.Member{{Name: "a", Host: "127.0.0.1", Port: port}}})
	set, err := New(Config{
		User: "walgate_monitor", Refresh: time.Hour, Idle: time.Hour, Gap: 10 * time.Millisecond, Timeout: 30 * time.Second, MaxDatabases: 1,
		Harmless: []string{"nothing_such"}, PrimaryOnly: []string{"upper"},
	}, &views, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	tasks.Go(func() { set.Run(running) }) // ends with stop
	defer tasks.Wait()
	defer stop()
	if other := set.Database("postgres"); other.catalog.Load() != nil {
		t.Error("something is known before it was read")
	}
	entry := set.Database("postgres")
	awaitCatalog(t, entry, nil)
	for sql, want := range map[string]router.Kind{
		"select shop.price(1), mixed(1)":      router.Write,
		"select shop.price(1)":                router.Read,
		"select calm_sum(id) from orders":     router.Read,
		"select * from calm":                  router.Read,
		"select * from over_calm":             router.Read,
		"select * from orders":                router.Read,
		"select * from calm_guarded":          router.Read,
		"select 1::calm_checked":              router.Read,
		"select shop.refill(1)":               router.Write,
		"select lower('A')":                   router.Write,
		"select pg_catalog.lower('A')":        router.Read,
		"select mixed(1)":                     router.Write,
		"select o.column_like from orders o":  router.Write,
		"select volatile_sum(id) from orders": router.Write,
		"select 1 === 1":                      router.Write,
		"select * from loud":                  router.Write,
		"select * from over_loud":             router.Write,
		`select * from "Over Over"`:           router.Write,
		"select * from locks":                 router.Write,
		"select * from deep":                  router.Write,
		"select * from scratch":               router.Write,
		"select * from parent":                router.Write,
		"select 1::checked":                   router.Write,
		"select * from guarded":               router.Write,
		"select upper('a')":                   router.Write,
	} {
		if got := router.Classify([]byte(sql), router.Options{Catalog: entry.Load()}).Kind; got != want {
			t.Errorf("%s: got a %v, want a %v", sql, got, want)
		}
	}
	if set.Database("template1").Load() != nil || set.Database("template1").set != nil {
		t.Error("a database beyond the limit is kept")
	}
	before := entry.Load()
	exec("create or replace function shop.price(int) returns int volatile language sql as 'select $1'")
	entry.Defined()
	after := awaitCatalog(t, entry, before)
	if got := router.Classify([]byte("select shop.price(1)"), router.Options{Catalog: after}).Kind; got != router.Write {
		t.Errorf("a function that became volatile: got a %v", got)
	}
}

// awaitCatalog waits until another Catalog than old is known.
func awaitCatalog(t *testing.T, e *Entry, old *router.Catalog) (now *router.Catalog) {
	t.Helper()
	eventually(t, "a newer catalog", func() bool {
		now = e.catalog.Load()
		return now != nil && now != old
	})
	return now
}
