package pool

import (
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// crowd is sessions that ask for a server again as soon as they have had one. Waits are counted in grants to others, not
// in time, so that a slow machine changes nothing.
type crowd struct {
	bench *bench

	mu       sync.Mutex
	clock    replication.Instant
	grants   int
	asked    map[replication.Instant]int // ticket -> grants when it was drawn
	waits    []int
	overtook int // most older tickets that were without a server at a grant
	finished chan struct{}
	running  int
}

// member is one session of a crowd.
type member struct {
	*crowd
	ticket   *Ticket
	database string
	left     int
}

func (m *member) ask() {
	m.mu.Lock()
	m.clock++
	m.ticket = &Ticket{Database: m.database, User: "u", Waiter: m, Need: session.Need{Kind: router.Write, Ticket: m.clock}}
	m.asked[m.clock] = m.grants
	m.mu.Unlock()
	if s, ok := m.bench.Acquire("n1", replication.RolePrimary, 1, m.ticket); s != nil {
		m.Granted(m.ticket, s)
	} else if !ok {
		panic("refused")
	}
}

// Granted implements Waiter: a transaction without duration.
func (m *member) Granted(t *Ticket, s *Server) {
	m.mu.Lock()
	m.grants++
	m.waits = append(m.waits, m.grants-m.asked[t.Need.Ticket])
	delete(m.asked, t.Need.Ticket)
	older := 0
	for at := range m.asked {
		if at < t.Need.Ticket {
			older++
		}
	}
	m.overtook = max(m.overtook, older)
	m.left--
	last := m.left == 0
	if last {
		if m.running--; m.running == 0 {
			close(m.finished)
		}
	}
	m.mu.Unlock()
	// Another goroutine for each step: a chain of sessions that hand on a server would grow the stack.
	m.bench.tasks.Go(func() {
		next := m.bench.Release(s, replication.Instant(m.bench.now.Load()))
		if !last {
			m.ask()
		}
		m.bench.Deliver(next, s)
	})
}

func (m *member) Refused(*Ticket, session.Failure) { panic("refused") }

// run lets n sessions have a server rounds times each.
func (c *crowd) run(n, rounds, databases int) {
	c.asked, c.finished, c.running = map[replication.Instant]int{}, make(chan struct{}), n
	for i := range n {
		m := &member{crowd: c, database: fmt.Sprint("db", i%databases), left: rounds}
		m.ask() // one after the other: drawing a ticket and standing in line are two steps
	}
	<-c.finished
	slices.Sort(c.waits)
}

// Of 2,000 sessions on 20 servers nobody is served twice while an older ticket waits: at any grant the only older
// tickets without a server are those for which one is on its way.
func TestNobodyIsOvertaken(t *testing.T) {
	const sessions, servers = 2000, 20
	b := newBench(t, func(c *Config) { c.Limits = limited(Limits{Max: servers}) })
	c := &crowd{bench: b}
	c.run(sessions, 3, 1)
	if c.overtook > 2*servers {
		t.Errorf("a session was served while %d older ones waited, want at most those on their way", c.overtook)
	}
	// How many others a session waited for is no verdict of its own: more grants are counted for one whose goroutine is slow
	// to take what it was given. The median shows that the line moves as a whole.
	if p50 := c.waits[len(c.waits)/2]; p50 > sessions+2*servers {
		t.Errorf("half of the sessions waited for %d others or more, of whom there are %d", p50, sessions)
	}
	if n := b.n1.logins.Load(); n > servers {
		t.Errorf("%d connections, want at most %d", n, servers)
	}
}

// The number of a run: go test -bench Fairness ./proxy/pool.
func BenchmarkFairness(bb *testing.B) {
	for bb.Loop() {
		b := newBench(bb, func(c *Config) { c.Limits = limited(Limits{Max: 20}) })
		c := &crowd{bench: b}
		c.run(2000, 5, 1)
		bb.ReportMetric(float64(c.waits[len(c.waits)/2]), "p50-others")
		bb.ReportMetric(float64(c.waits[len(c.waits)*99/100]), "p99-others")
		bb.ReportMetric(float64(c.waits[len(c.waits)-1]), "max-others")
	}
}

// After a change of the primary 2,000 sessions of 10 databases wait: the fresh primary sees no more logins at a time than
// allowed, and everybody is served.
func TestFreshPrimaryIsNotStormed(t *testing.T) {
	const dials = 3
	b := newBench(t, func(c *Config) { c.Dials = dials; c.Limits = limited(Limits{Max: 20}) })
	b.n1.gate = make(chan struct{})
	c := &crowd{bench: b}
	done := make(chan struct{})
	b.tasks.Go(func() {
		c.run(2000, 1, 10)
		close(done)
	})
	b.eventually(t, "logins", func() bool { return b.n1.atWork.Load() == dials })
	close(b.n1.gate)
	receive(t, done, "everybody to be served")
	if most := b.n1.mostWork.Load(); most > dials {
		t.Errorf("%d logins at a time, want at most %d", most, dials)
	}
	t.Logf("%d connections were opened for 2000 sessions", b.n1.logins.Load())
}

func TestQueuedCancels(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Cancels, c.CancelQueue, c.Limits = 1, 1, limited(Limits{Max: 4}) })
	s1, s2, s3 := b.take(t), b.take(t), b.take(t)
	b.Cancel(s1, func() {})
	first := receive(t, b.n1.cancels, "the cancel request")
	b.Cancel(s1, func() {}) // it has one
	b.Cancel(s2, func() {})
	b.eventually(t, "one in line", func() bool { return b.NodeStats()[0].Queued == 1 })
	b.Cancel(s3, func() {}) // the line is full
	if n := b.Totals().CancelsDropped; n != 1 {
		t.Errorf("%d dropped, want 1", n)
	}
	// The session of s2 is done, and another one gets the server: its statement must not be stopped.
	b.release(s2)
	if again := b.take(t); again != s2 {
		t.Fatal("the server with a cancel request in line was not lent")
	}
	_ = first.Close()
	b.eventually(t, "the line to be empty", func() bool { n := b.NodeStats()[0]; return n.Queued == 0 && n.Cancels == 0 })
	if n := b.Totals().CancelsSent; n != 1 || len(b.n1.cancels) != 0 {
		t.Errorf("%d sent and %d more seen, want 1 and 0", n, len(b.n1.cancels))
	}
}

// When the end of a cancel request is not seen it may strike later: its server must not serve anybody else.
func TestCancelOfUnknownEnd(t *testing.T) {
	b := newBench(t, nil)
	s := b.take(t)
	b.Cancel(s, func() {})
	conn := receive(t, b.n1.cancels, "the cancel request")
	resets(t, conn)
	b.release(s)
	if receive(t, b.ended, "the end of the server") != s {
		t.Error("another one ended")
	}
}

// resets ends a connection with a reset.
func resets(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
