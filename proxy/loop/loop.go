package loop

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// loop is one epoll loop. All that is not said to be otherwise belongs to its goroutine; others reach it with post. It
// implements pool.Keeper for its server connections.
type loop struct {
	driver *Driver
	poller *poller
	slots  []slot              // by descriptor
	now    replication.Instant // what the clock said last; see look and lap
	looked replication.Instant // when the wait ended, and by which of the runtime's clock
	began  time.Time
	buffer []byte
	spare  []*buffer // for what can't be dealt with at once

	clients  map[uint32]*client // by id
	timers   timers
	ticked   replication.Instant // when the sessions were told the time last
	actions  *session.Actions
	inner    session.Event // for events that arise while actions are carried out
	frame    session.Event // for frames
	deferred []func()      // what must wait until the socket in hand has been dealt with
	grants   []grant       // likewise
	resumed  []*client     // that may go on with what was read before
	tickets  []*pool.Ticket
	attached router.Consistency // of the event Attached in hand
	retired  []*acceptor        // whose listening socket may not be asked before a moment has passed
	counters counters
	calls    calls

	mu     sync.Mutex
	posted []func()
	closed bool        // the poller's descriptors are closed
	woken  atomic.Bool // a wake-up is under way
}

// slot is what watches a descriptor. The generation tells events of an earlier owner of the number from those of this.
type slot struct {
	handler    handler
	generation int32
}

// handler is who is told that its descriptor is ready.
type handler interface{ ready(events uint32) }

// grant is a server to be delivered to a client.
type grant struct {
	ticket *pool.Ticket
	server *pool.Server
}

// counters are session.Counts as they grow.
type counters struct {
	fromClients, fromServers, primaryTurns, standbyTurns, loginFailures atomic.Int64
	reads, writes, waits                                                atomic.Int64
}

// calls are system calls since counters were told of them.
type calls struct{ reads, writes, waits int64 }

// publish adds the calls to counters: once for all that was ready, for an atomic addition for each would cost.
func (l *loop) publish() {
	l.counters.reads.Add(l.calls.reads)
	l.counters.writes.Add(l.calls.writes)
	l.counters.waits.Add(l.calls.waits)
	l.calls = calls{}
}

func newLoop(d *Driver) (*loop, error) {
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{driver: d, poller: p, buffer: make([]byte, readBuffer), clients: map[uint32]*client{}, actions: new(session.Actions)}
	l.look()
	return l, nil
}

// look asks the clock, which takes a system call: after each wait. The runtime's clock comes first: whatever keeps the
// thread from running in between makes laps of this wait too late, which the gate does not mind, and not too early.
func (l *loop) look() {
	l.began = time.Now()
	l.now = l.driver.cfg.Now()
	l.looked = l.now
}

// lap brings now up to date: the gate must not be asked by a time that is older than the bytes in hand, nor timers set by
// one that is older than what was done meanwhile. It goes by the runtime's clock, which is read without a system call and
// stands still while the machine sleeps: a suspension between two waits is noticed after the next, as one that begins just
// behind a look at the clock.
func (l *loop) lap() { l.now = l.looked.Add(time.Since(l.began)) }

// Ticks of sessions, and how long a loop without any timer sleeps.
const tickEvery = time.Second

// run serves the loop's sockets until ctx ends.
func (l *loop) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { l.post(func() {}) })
	defer stop()
	for ctx.Err() == nil {
		l.publish()
		l.calls.waits++
		n := l.poller.wait(l.patience())
		l.look()
		for _, e := range l.poller.events[:n] {
			fd := int(e.Fd)
			if fd >= len(l.slots) || l.slots[fd].handler == nil || l.slots[fd].generation != e.Pad {
				continue // the eventfd, or one that was closed by an event before this
			}
			l.slots[fd].handler.ready(e.Events)
			l.settleRest()
		}
		l.takePosted()
		l.expire()
	}
	l.takePosted()
}

// patience is how long nothing happens unless a socket is ready.
func (l *loop) patience() time.Duration {
	left := l.ticked.Add(tickEvery).Sub(l.now)
	if next := l.timers.next(); next != 0 {
		left = min(left, next.Sub(l.now))
	}
	if len(l.retired) > 0 {
		left = min(left, acceptPause)
	}
	return max(left, 0)
}

// post has do run on the loop, after what was posted before. Any goroutine may call it; on the loop itself it runs later.
func (l *loop) post(do func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted = append(l.posted, do)
	if !l.closed && !l.woken.Swap(true) {
		l.poller.wake()
	}
}

// takePosted runs what was posted.
func (l *loop) takePosted() {
	if !l.woken.Load() {
		return
	}
	l.woken.Store(false) // before looking: what comes from now on wakes again
	l.mu.Lock()
	all := l.posted
	l.posted = nil
	l.mu.Unlock()
	for _, do := range all {
		l.lap() // it may forward a write
		do()
		l.settleRest()
	}
}

// settleRest does what had to wait until the socket in hand was dealt with: deliver servers that were given back, and go
// on with bytes that could not be dealt with before.
func (l *loop) settleRest() {
	for len(l.grants)+len(l.resumed)+len(l.deferred) > 0 {
		for i := 0; i < len(l.grants); i++ {
			l.deliver(l.grants[i])
			l.grants[i] = grant{}
		}
		l.grants = l.grants[:0]
		for i := 0; i < len(l.resumed); i++ {
			c := l.resumed[i]
			l.resumed[i] = nil
			c.goOn()
		}
		l.resumed = l.resumed[:0]
		later := l.deferred
		l.deferred = nil
		for _, do := range later {
			do()
		}
	}
}

// deliver tells a ticket's holder that it has the server.
func (l *loop) deliver(g grant) {
	if c, ok := g.ticket.Waiter.(*client); ok && c.loop == l {
		c.granted(g.ticket, g.server)
		return
	}
	g.ticket.Waiter.Granted(g.ticket, g.server)
}

// expire does what its time has come for.
func (l *loop) expire() {
	for c := l.timers.due(l.now); c != nil; c = l.timers.due(l.now) {
		l.lap() // as in takePosted
		c.expired()
		l.settleRest()
	}
	if len(l.retired) > 0 {
		l.reinstate()
	}
	if l.now.Sub(l.ticked) < tickEvery {
		return
	}
	l.ticked = l.now
	for _, c := range l.clients {
		if c.stage == stageSession {
			c.tell(session.Event{Kind: session.Tick})
		}
	}
	l.settleRest()
}

// viewChanged lets every session that waits or has a server look at the newest view.
func (l *loop) viewChanged() {
	for _, c := range l.clients {
		if c.stage == stageSession && c.session.Busy() {
			l.lap()
			c.tell(session.Event{Kind: session.ViewChanged})
		}
	}
}

// watch begins to watch a socket.
func (l *loop) watch(s *socket, h handler, events uint32) error {
	for s.fd >= len(l.slots) {
		l.slots = append(l.slots, slot{})
	}
	at := &l.slots[s.fd]
	e := unix.EpollEvent{Events: events, Fd: int32(s.fd), Pad: at.generation}
	if err := unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_ADD, s.fd, &e); err != nil {
		return err
	}
	at.handler, s.events, s.watched = h, events, true
	return nil
}

// want changes what a socket is watched for. Within a transaction nothing changes.
func (l *loop) want(s *socket, events uint32) {
	if !s.watched || s.events == events {
		return
	}
	e := unix.EpollEvent{Events: events, Fd: int32(s.fd), Pad: l.slots[s.fd].generation}
	if unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_MOD, s.fd, &e) == nil { // it is watched, so nothing else can happen
		s.events = events
	}
}

// forget ends the watching. With final the descriptor is about to be closed, which the kernel takes for the same.
func (l *loop) forget(s *socket, final bool) {
	if !s.watched {
		return
	}
	s.watched = false
	at := &l.slots[s.fd]
	at.handler = nil
	at.generation++
	if !final {
		_ = unix.EpollCtl(l.poller.fd, unix.EPOLL_CTL_DEL, s.fd, nil) // as above
	}
}

// close frees the loop's descriptors; it does not run any more.
func (l *loop) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.poller.close()
}
