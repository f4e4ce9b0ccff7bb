package proxy_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walgate/walgate/proxy"
	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
)

var (
	leakRounds = flag.Int("walgate.leak-rounds", 1, "how long TestNothingLeaks runs, in rounds of about 6 s for each case")
	leakSeed   = flag.Uint64("walgate.leak-seed", 0, "the seed of TestNothingLeaks; 0: any")
)

// leakWorld is a proxy with few server connections and many sessions, and a second PostgreSQL on which every session has
// a twin without a proxy.
type leakWorld struct {
	*setup
	twins    *postgres
	places   []*leakPlace
	sessions []*leakSession
	weights  leakWeights
	patience time.Duration // for every answer; it is only met when something is lost
}

// leakServers is the number of server connections of each database and user.
const leakServers = 3

// newLeakWorld starts everything. between, if there is one, sits between the proxy and its PostgreSQL.
func newLeakWorld(t *testing.T, change func(*proxy.Config)) *leakWorld {
	w := &leakWorld{weights: newLeakWeights(), patience: leakPatience, twins: startPostgres(t)}
	w.setup = newSetup(t, func(c *proxy.Config) {
		c.HoldTimeout, c.LoginTimeout = leakPatience, leakPatience
		c.PoolMax = leakServers
		c.MaxPrepared = 8 // so that statements come and go on servers
		if change != nil {
			change(c)
		}
	})
	for _, pg := range []*postgres{w.pg, w.twins} {
		pg.exec(t, "create database leak1", "create database leak2", "create role boss superuser login password 'secret'",
			"create role leak_r1", "create role leak_r2", "grant leak_r1, leak_r2 to app")
		for _, name := range []string{"leak.a", "leak.b", "leak.c"} { // else they read as null until somebody has set them once
			pg.exec(t, "alter database leak1 set "+name+" = ''", "alter database leak2 set "+name+" = ''")
		}
		for _, database := range []string{"leak1", "leak2"} {
			pg.execIn(t, database, "create table public.leak_rows (session text, n int)", "grant all on public.leak_rows to public",
				"create schema leak_s", "grant usage on schema leak_s to public",
				"create view leak_s.here as select 'leak_s'::text as place", "create view public.here as select 'public'::text as place",
				"grant select on leak_s.here, public.here to public")
		}
	}
	for _, database := range []string{"leak1", "leak2"} {
		for _, user := range []string{"app", "boss"} {
			w.places = append(w.places, &leakPlace{
				database: database, user: user, password: "secret", permits: make(chan struct{}, leakServers-1),
			})
		}
	}
	return w
}

// execIn runs statements as superuser in a database.
func (p *postgres) execIn(t *testing.T, database string, statements ...string) {
	t.Helper()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, p.direct(database))
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

func (w *leakWorld) url(p *leakPlace) string { return w.setup.url(p.user, p.password, p.database) }

func (w *leakWorld) twinURL(p *leakPlace) string {
	return fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable", w.twins.dir, w.twins.port, p.user, p.database)
}

// other is some other session of the same database.
func (w *leakWorld) other(s *leakSession) *leakSession {
	o := w.sessions[s.rng.IntN(len(w.sessions))]
	if o == s || o.place.database != s.place.database {
		return nil
	}
	return o
}

// lockOf is the number of an advisory lock that only this life of a session uses.
func (w *leakWorld) lockOf(s *leakSession) int {
	return slices.Index(w.sessions, s)*1_000_000 + s.life*10 + s.rng.IntN(3)
}

// run lets perPlace sessions of each place live for a while, and returns what went wrong first.
func (w *leakWorld) run(t *testing.T, seed uint64, perPlace int, d time.Duration) error {
	w.sessions = nil
	for _, database := range []string{"leak1", "leak2"} {
		w.pg.execIn(t, database, "truncate leak_rows")
		w.twins.execIn(t, database, "truncate leak_rows")
	}
	for _, p := range w.places {
		for i := range perPlace {
			name := fmt.Sprintf("%s-%s-%d", p.user, p.database, i)
			w.sessions = append(w.sessions, &leakSession{
				world: w, place: p, name: name, channel: strings.ReplaceAll(name, "-", "_"), inbox: new(leakInbox),
				rng: rand.New(rand.NewPCG(seed, uint64(len(w.sessions)))),
			})
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	results := make(chan error, len(w.sessions))
	for _, s := range w.sessions {
		go func() { results <- s.run(ctx) }() // ends with ctx
	}
	var first error
	steps := 0
	for range w.sessions {
		if err := <-results; err != nil && first == nil {
			first = err
			cancel()
		}
	}
	for _, s := range w.sessions {
		steps += s.steps
	}
	if first != nil {
		return first
	}
	t.Logf("%d sessions, %d moves", len(w.sessions), steps)
	return w.left(t)
}

// left compares what the sessions have left behind, now that all of them are gone.
func (w *leakWorld) left(t *testing.T) error {
	eventually(t, "all servers to come back", func() bool {
		for _, p := range w.server.Pools() {
			if p.Used != 0 || p.Waiting != 0 {
				return false
			}
		}
		return len(w.server.Sessions()) == 0
	})
	for _, database := range []string{"leak1", "leak2"} {
		content := func(pg *postgres) string {
			conn, err := pgx.Connect(testContext(t), pg.direct(database))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(testContext(t)) }()
			return query[string](t, conn, "select coalesce(string_agg(session || ' ' || n, ',' order by session, n), '') from leak_rows")
		}
		if got, want := content(w.pg), content(w.twins); got != want {
			return fmt.Errorf("%s: rows differ:\n%s", database, firstDifference(got, want))
		}
		conn, err := pgx.Connect(testContext(t), w.pg.direct(database))
		if err != nil {
			t.Fatal(err)
		}
		const kept = `select (select count(*) from pg_locks where locktype = 'advisory' and database = (select oid from pg_database
			where datname = current_database()))::int + (select count(*) from pg_class where relpersistence = 't')::int`
		eventually(t, "locks and temporary tables to go", func() bool { return query[int](t, conn, kept) == 0 })
		_ = conn.Close(testContext(t))
	}
	return nil
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, ","), strings.Split(want, ",")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("row %d: %s, want %s", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d rows, want %d", len(a), len(b))
}

// leakSeedOf is the seed of a test.
func leakSeedOf(t *testing.T) uint64 {
	seed := *leakSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("seed %d (-walgate.leak-seed)", seed)
	return seed
}

// leakPools has a pool of session pooling, whose connections are reset between clients, among those of transaction pooling.
func leakPools(c *proxy.Config) {
	c.Pools = []proxy.PoolRule{{Database: "leak2", User: "boss", Mode: session.PoolSession, Servers: pool.Limits{Max: 6}}}
}

// TestNothingLeaks runs many sessions over few server connections. Each hears exactly what it would hear if it had a
// PostgreSQL of its own: nothing that belongs to another session, and all that belongs to it.
func TestNothingLeaks(t *testing.T) {
	seed := leakSeedOf(t)
	w := newLeakWorld(t, leakPools)
	if err := w.run(t, seed, 6, time.Duration(*leakRounds)*6*time.Second); err != nil {
		t.Fatal(err)
	}
}
