package pool

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
)

func TestRoom(t *testing.T) {
	r := room{max: 5, databases: map[string]int{}, users: map[string]int{}}
	for _, key := range []Key{{"n", "a", "u"}, {"n", "a", "v"}, {"n", "b", "u"}} {
		r.add(key)
	}
	tests := []struct {
		name   string
		key    Key
		limits Limits
		want   scope
	}{
		{"no limits", Key{"n", "a", "u"}, Limits{}, scopeNone},
		{"database full", Key{"n", "a", "w"}, Limits{Database: 2}, scopeDatabase},
		{"database with room", Key{"n", "a", "w"}, Limits{Database: 3}, scopeNone},
		{"another database", Key{"n", "b", "u"}, Limits{Database: 2}, scopeNone},
		{"user full", Key{"n", "c", "u"}, Limits{User: 2}, scopeUser},
		{"another user", Key{"n", "c", "v"}, Limits{User: 2}, scopeNone},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := r.full(tt.key, tt.limits); got != tt.want {
				t.Errorf("full(%v, %+v) = %d, want %d", tt.key, tt.limits, got, tt.want)
			}
		})
	}
	r.add(Key{"n", "c", "x"})
	r.add(Key{"n", "c", "x"})
	if got := r.full(Key{"n", "d", "y"}, Limits{}); got != scopeNode {
		t.Errorf("with 5 of 5 open: %d, want the node's limit", got)
	}
	for _, key := range []Key{{"n", "a", "u"}, {"n", "a", "v"}, {"n", "b", "u"}, {"n", "c", "x"}, {"n", "c", "x"}} {
		r.remove(key)
	}
	if r.open != 0 || len(r.databases) != 0 || len(r.users) != 0 {
		t.Errorf("after the last has gone: %+v", r)
	}
}

func TestChoose(t *testing.T) {
	wants := &Budget{key: Key{"n", "a", "u"}}
	sameDatabase := &Budget{key: Key{"n", "a", "v"}}
	sameUser := &Budget{key: Key{"n", "b", "u"}}
	stranger := &Budget{key: Key{"n", "b", "v"}}
	all := []idlest{{wants, 1, true}, {sameDatabase, 30, true}, {sameUser, 20, true}, {stranger, 10, true}}
	tests := []struct {
		name  string
		scope scope
		pools []idlest
		want  *Budget
	}{
		{"node: the coldest of another pool", scopeNode, all, stranger},
		{"database: only of that database", scopeDatabase, all, sameDatabase},
		{"user: only of that user", scopeUser, all, sameUser},
		{"nothing helps who only stands in line", scopeNone, all, nil},
		{"never its own", scopeNode, all[:1], nil},
		{"what a minimum protects comes last", scopeNode, []idlest{{stranger, 1, false}, {sameUser, 50, true}}, sameUser},
		{"but it comes", scopeNode, []idlest{{stranger, 1, false}}, stranger},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at := choose(claim{wants, 5, tt.scope}, tt.pools)
			if at < 0 && tt.want != nil || at >= 0 && tt.pools[at].budget != tt.want {
				t.Errorf("choose = %d of %v", at, tt.pools)
			}
		})
	}
}

func TestMustGive(t *testing.T) {
	hungry, busy := &Budget{key: Key{"n", "a", "u"}}, &Budget{key: Key{"n", "b", "v"}}
	const now = replication.Instant(10 * time.Second)
	old, recent := now.Add(-patience), now.Add(-patience+1)
	tests := []struct {
		name  string
		since replication.Instant
		scope scope
		own   replication.Instant
		want  bool
	}{
		{"nobody waits for mine", recent, scopeNode, 0, true},
		{"mine is older", old, scopeNode, old - 1, false},
		{"mine is as old", old, scopeNode, old, false},
		{"mine is younger, but the other has not waited long", recent, scopeNode, now, false},
		{"mine is younger", old, scopeNode, now, true},
		{"mine would not help", old, scopeDatabase, 0, false},
		{"it is only behind others", old, scopeNone, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustGive([]claim{{hungry, tt.since, tt.scope}}, busy, tt.own, now); got != tt.want {
				t.Errorf("mustGive = %v, want %v", got, tt.want)
			}
		})
	}
	if mustGive([]claim{{busy, old, scopeNode}}, busy, 0, now) {
		t.Error("a pool gives to itself")
	}
}

// askFor is ask for a database and user.
func (b *bench) askFor(t *testing.T, database, user string, at replication.Instant) (*Ticket, waiter, *Server) {
	t.Helper()
	w := make(waiter, 1)
	ticket := &Ticket{Database: database, User: user, Waiter: w, Need: session.Need{Ticket: at}}
	s, ok := b.Acquire("n1", replication.RolePrimary, 1, ticket)
	if !ok {
		t.Fatal("Acquire refused")
	}
	return ticket, w, s
}

func (b *bench) takeFor(t *testing.T, database, user string) *Server {
	t.Helper()
	_, w, s := b.askFor(t, database, user, 1)
	if s == nil {
		s = w.want(t).server
	}
	return s
}

// wait until the pools are in a state; they have no channel for that.
func (b *bench) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("gave up waiting for %s: %+v %+v", what, b.Stats(), b.NodeStats())
		}
	}
}

func (b *bench) inLine() int { return b.NodeStats()[0].InLine }

func TestNodeLimitEvictsIdle(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NodeMax = 2; c.Limits = limited(Limits{Max: 5}) })
	cold := b.takeFor(t, "a", "u")
	warm := b.takeFor(t, "b", "u")
	b.release(cold)
	b.now.Add(10)
	b.release(warm)
	if got := b.takeFor(t, "c", "u"); got == nil {
		t.Fatal("refused")
	}
	if receive(t, b.ended, "the end of an idle connection") != cold {
		t.Error("not the coldest was closed")
	}
	// Now one is idle and one in use. Both are wanted by the same pool: the idle one ends at once, the other when it
	// comes back.
	busy := b.takeFor(t, "b", "u")
	if busy != warm {
		t.Fatal("the idle connection was not lent")
	}
	_, w, _ := b.askFor(t, "d", "u", 1)
	b.eventually(t, "a pool in line", func() bool { return b.inLine() == 1 })
	if len(w) != 0 {
		t.Error("more connections than the node may have")
	}
	b.release(busy)
	if receive(t, b.ended, "the end of the connection given back") != busy {
		t.Error("another one ended")
	}
	if w.want(t).server == nil {
		t.Error("refused")
	}
	if n := b.NodeStats()[0]; n.Open != 2 || n.InLine != 0 || n.Evicted != 2 {
		t.Errorf("node: %+v", n)
	}
}

// Two pools share one connection: the older session is served first, whichever pool it waits in.
func TestLineIsServedOldestFirst(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NodeMax = 1; c.Limits = limited(Limits{Max: 5}) })
	b.now.Store(int64(time.Hour))
	server := b.takeFor(t, "a", "u")
	const n = 20
	order := make(chan int, n)
	for i := range n { // in turns, the younger first
		at := replication.Instant(time.Minute) * replication.Instant(n-i)
		ticket := &Ticket{Database: fmt.Sprint("db", i%3), User: "u", Need: session.Need{Ticket: at}}
		ticket.Waiter = waiterFunc(func(_ *Ticket, s *Server) {
			order <- n - i
			b.release(s)
		})
		if s, ok := b.Acquire("n1", replication.RolePrimary, 1, ticket); s != nil || !ok {
			t.Fatalf("ticket %d: %v %v", i, s, ok)
		}
	}
	b.release(server)
	for want := 1; want <= n; want++ {
		if got := receive(t, order, "a session"); got != want {
			t.Errorf("session %d is served, want %d", got, want)
		}
	}
}

// waiterFunc is Granted.
type waiterFunc func(t *Ticket, s *Server)

func (f waiterFunc) Granted(t *Ticket, s *Server)     { f(t, s) }
func (f waiterFunc) Refused(*Ticket, session.Failure) {}

func TestDatabaseAndUserLimits(t *testing.T) {
	for _, limits := range []Limits{{Max: 5, Database: 1}, {Max: 5, User: 1}} {
		b := newBench(t, func(c *Config) { c.Limits = limited(limits) })
		first := b.takeFor(t, "a", "u")
		database, user := "a", "v"
		if limits.User > 0 {
			database, user = "b", "u"
		}
		_, w, _ := b.askFor(t, database, user, 2)
		b.eventually(t, "a pool in line", func() bool { return b.inLine() == 1 })
		// Whom the limit does not concern is served, although somebody is in line.
		b.release(b.takeFor(t, "c", "w"))
		if len(w) != 0 {
			t.Errorf("%+v: one too many", limits)
		}
		b.release(first)
		if w.want(t).server == nil {
			t.Error("refused")
		}
	}
}

func TestWithdrawnTicketLeavesTheLine(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NodeMax = 1; c.Limits = limited(Limits{Max: 5}) })
	b.takeFor(t, "a", "u")
	first, _, _ := b.askFor(t, "b", "u", 1)
	_, _, _ = b.askFor(t, "c", "u", 2)
	b.eventually(t, "two pools in line", func() bool { return b.inLine() == 2 })
	if !first.Withdraw() {
		t.Error("not withdrawn")
	}
	b.eventually(t, "one pool in line", func() bool { return b.inLine() == 1 })
	b.Pause("c")
	if n := b.inLine(); n != 0 {
		t.Errorf("%d pools in line after the last one was paused", n)
	}
}

// A connection that the steward saw idle may be in use by the time it wants to close it. It makes room later.
func TestEvictionThatComesTooLate(t *testing.T) {
	b := newBench(t, func(c *Config) { c.NodeMax = 1; c.Limits = limited(Limits{Max: 5}) })
	s := b.takeFor(t, "a", "u")
	_, w, _ := b.askFor(t, "b", "u", 2)
	b.eventually(t, "a pool in line", func() bool { return b.inLine() == 1 })
	if n := s.budget.node; !n.spare() || s.budget.evict() {
		t.Fatal("a connection in use was closed")
	} else {
		n.spared()
	}
	b.release(s)
	if w.want(t).server == nil {
		t.Error("refused")
	}
}

func TestReserve(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.Limits = limited(Limits{Max: 1, Reserve: 1})
		c.ReserveTimeout = 10 * time.Millisecond
	})
	s := b.take(t)
	_, first, _ := b.ask(t, 2)
	_, second, _ := b.ask(t, 3)
	if len(first) != 0 {
		t.Error("a reserve connection was opened at once")
	}
	b.now.Add(int64(10 * time.Millisecond))
	extra := first.want(t).server
	if n := b.Stats()[0].Open; n != 2 || len(second) != 0 {
		t.Errorf("%d connections open, want 2", n)
	}
	b.release(extra)
	second.want(t)
	b.release(extra)
	b.release(s)
	b.tend()
	if got := receive(t, b.ended, "the end of the connection beyond the maximum"); got != extra {
		t.Error("the other one was closed")
	}
}

func TestMinimum(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: 5, Min: 3}) })
	b.release(b.take(t))
	b.tend()
	b.eventually(t, "the minimum", func() bool { return b.Stats()[0].Idle == 3 })
	b.now.Add(int64(2 * time.Hour)) // past the idle timeout
	b.tend()
	if n := b.Stats()[0].Open; n != 3 {
		t.Errorf("%d connections after the idle timeout, want 3", n)
	}
	b.now.Add(int64(24 * time.Hour)) // past the lifetime
	b.tend()
	for range 3 {
		receive(t, b.ended, "the end of an old connection")
	}
	b.eventually(t, "three that are closed to be replaced", func() bool { b.tend(); return b.Stats()[0].Idle == 3 })
	// A new epoch, and nobody asks.
	b.Apply(b.view(2))
	b.eventually(t, "the minimum of the new epoch", func() bool { b.tend(); st := b.Stats(); return len(st) == 1 && st[0].Idle == 3 })
	if e := b.Stats()[0].Epoch; e != 2 {
		t.Errorf("epoch %d", e)
	}
}

func TestLifetimesDiffer(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: 20}) })
	seen := map[replication.Instant]bool{}
	for range 20 {
		s := b.take(t)
		if life := s.expires.Sub(s.born); life > b.cfg.Lifetime || life < b.cfg.Lifetime*9/10 {
			t.Errorf("lifetime %s, want %s less up to a tenth", life, b.cfg.Lifetime)
		}
		seen[s.expires] = true
	}
	if len(seen) < 15 {
		t.Errorf("20 connections opened together end at %d instants", len(seen))
	}
}

// PostgreSQL has no connection left: whoever waits is served by the connection that there is.
func TestTooManyConnections(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: 5}) })
	s := b.take(t)
	b.n1.refuse.Store(&wire.ErrorFields{Severity: "FATAL", Code: "53300", Message: "no"})
	_, w, _ := b.ask(t, 2)
	b.eventually(t, "the refusal", func() bool { return b.Stats()[0].Shrunk })
	if n := b.n1.logins.Load(); n != 2 {
		t.Errorf("%d logins, want 2", n)
	}
	_, second, _ := b.ask(t, 3)
	if n := b.Stats()[0].Opening; n != 0 {
		t.Errorf("%d are being opened", n)
	}
	b.n1.refuse.Store(nil)
	b.release(s)
	if w.want(t).server != s {
		t.Error("not served by the connection given back")
	}
	b.now.Add(int64(shrinkFor))
	b.tend()
	if got := second.want(t).server; got == nil || got == s {
		t.Error("no connection is opened after the pause")
	}
	// Another pool, which has none: it takes the place of an idle connection.
	b.release(s)
	b.n1.refuse.Store(&wire.ErrorFields{Severity: "FATAL", Code: "53300", Message: "no"})
	_, other, _ := b.askFor(t, "other", "u", 4)
	if receive(t, b.ended, "the end of an idle connection") != s {
		t.Error("another one ended")
	}
	b.n1.refuse.Store(nil)
	if other.want(t).server == nil {
		t.Error("refused")
	}
}

// ALTER ROLE and ALTER DATABASE outdate every server, those in use when they are given back, but not again and again.
func TestChangedDefaults(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: 5}) })
	b.now.Store(int64(time.Hour))
	alters, idle := b.take(t), b.take(t)
	b.release(idle)
	for _, tag := range []string{"ALTER TABLE", "SELECT 1", "", "ALTER ROLES", "CREATE ROLE"} {
		alters.Completed([]byte(tag))
	}
	if len(b.ended) != 0 {
		t.Fatal("an innocent tag outdates servers")
	}
	if n := b.roles.Load(); n != 1 {
		t.Errorf("roles changed %d times; CREATE ROLE is once", n)
	}
	alters.Completed([]byte("ALTER ROLE"))
	if receive(t, b.ended, "the end of the idle connection") != idle {
		t.Error("another one ended")
	}
	b.release(alters) // its transaction may have ended only now: once more, but not within the same second
	if receive(t, b.ended, "the end of the connection that altered") != alters {
		t.Error("another one ended")
	}
	if n := b.roles.Load(); n != 3 {
		t.Errorf("roles changed %d times; ALTER ROLE and the end of the loan are two more", n)
	}
	fresh := b.take(t)
	b.release(fresh)
	if len(b.ended) != 0 {
		t.Error("outdated twice within a second")
	}
	b.now.Add(int64(recycleEvery))
	b.tend()
	if receive(t, b.ended, "the end of what was opened meanwhile") != fresh {
		t.Error("another one ended")
	}
}

// A server that is dead is not lent even if its keeper has not noticed, once it has been idle for the check delay.
func TestCheckDelay(t *testing.T) {
	var keep atomic.Bool
	b := newBench(t, func(c *Config) { c.CheckDelay = time.Second })
	b.deaf = &keep
	keep.Store(true)
	s := b.take(t)
	keep.Store(false)
	b.release(s)
	b.n1.mu.Lock()
	for _, c := range b.n1.conns {
		_ = c.Close()
	}
	b.n1.mu.Unlock()
	b.eventually(t, "the end to arrive", func() bool { return !seemsAlive(s.Conn) })
	b.now.Add(int64(time.Second) - 1)
	if again := b.take(t); again != s {
		t.Fatal("it was looked at before the delay")
	}
	b.release(s)
	b.now.Add(int64(time.Second))
	if again := b.take(t); again == s {
		t.Error("a dead connection was lent")
	}
	s.Ended()
}
