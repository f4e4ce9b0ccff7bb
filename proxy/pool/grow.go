package pool

import (
	"errors"
	"math/rand/v2"
	"time"

	"github.com/walgate/walgate/proxy/auth"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// shrinkFor is how long a pool that met PostgreSQL's own limit opens nothing more.
const shrinkFor = 5 * time.Second

// fill opens connections as long as more sessions wait than are being served by those under way. Called with mu held.
func (b *Budget) fill() {
	for b.wants() && b.enter(false) {
	}
	b.awaitReserve()
}

// wants reports whether another connection should be opened. Called with mu held.
func (b *Budget) wants() bool {
	return !b.closed && !b.paused && b.dialing < b.waiting.length && b.open < b.ceiling()
}

// ceiling is how many connections there may be now. Called with mu held.
func (b *Budget) ceiling() int {
	most := b.limits.Max
	if b.limits.Reserve == 0 && b.shrunkUntil == 0 {
		return most
	}
	now := b.set.now()
	if head := b.waiting.head; head != nil && now.Sub(head.queued) >= b.set.cfg.ReserveTimeout {
		most += b.limits.Reserve
	}
	if now < b.shrunkUntil {
		most = min(most, b.shrunk)
	}
	return most
}

// enter begins to open a connection if there is room for it on the node, else b is in line. Called with mu held.
func (b *Budget) enter(steward bool) bool {
	was := b.inLine
	if !b.node.enter(b, b.waiting.at(b.dialing).Need.Ticket, steward) {
		if !was {
			b.set.wake()
		}
		return false
	}
	b.begin()
	return true
}

// begin opens a connection for which there is room. Called with mu held.
func (b *Budget) begin() {
	b.open++
	b.dialing++
	b.set.tasks.Go(b.serve)
}

// serveClaim opens the connection for which b is in line, if there is room now.
func (b *Budget) serveClaim() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.wants() {
		b.node.leave(b)
		return false
	}
	if !b.enter(true) {
		return false
	}
	b.fill()
	return true
}

// awaitReserve looks at the queue again once its head has waited long enough for a reserve connection. Called with mu
// held.
func (b *Budget) awaitReserve() {
	head := b.waiting.head
	if b.reserving || b.closed || head == nil || b.open < b.limits.Max || b.open >= b.limits.Max+b.limits.Reserve {
		return
	}
	left := head.queued.Add(b.set.cfg.ReserveTimeout).Sub(b.set.now())
	if left <= 0 {
		return // there is no room on the node, or PostgreSQL has none
	}
	b.reserving = true
	b.set.tasks.Go(func() { // ends with the time or the budget
		timer := time.NewTimer(left)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-b.ctx.Done():
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.reserving = false
		b.fill()
	})
}

// serve opens one connection, gives it to a keeper, hands it out, and waits until it has ended. It ends with the
// connection, or when nobody waits for one that can't be opened, or when the budget is closed.
func (b *Budget) serve() {
	b.mu.Lock()
	generation := b.generation // where it dials to is decided now
	b.mu.Unlock()
	s := b.connect()
	if s == nil {
		return
	}
	s.generation = generation
	b.keeperOfNext().Adopt(s, nil)
	b.mu.Lock()
	b.dialing--
	b.failing = false
	var next *Ticket
	if b.closed {
		b.drop(s)
	} else {
		b.all[s] = struct{}{}
		if now := b.set.now(); b.fresh(s, now) {
			if s.generation == b.generation {
				b.settle()
			}
			next = b.reuse(s, now)
		} else { // paused or outdated meanwhile
			b.drop(s)
		}
		b.fill() // attempts that failed before have given up their places
	}
	b.mu.Unlock()
	b.set.deliver(next, s)
	<-s.ended
	b.remove(s)
}

// keeperOfNext is where the first in the queue can use a server.
func (b *Budget) keeperOfNext() Keeper {
	b.mu.Lock()
	defer b.mu.Unlock()
	if first := b.waiting.head; first != nil && first.Keeper != nil {
		return first.Keeper
	}
	return b.set.cfg.Keeper
}

// giveUp frees the place of a connection that is being opened if it is not needed any more.
func (b *Budget) giveUp() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed && (b.dialing <= b.waiting.length || b.open <= b.limits.Min || b.recycling.active && b.dialing == 1) {
		return false
	}
	b.dialing--
	b.gone()
	return true
}

// connect tries until there is a connection. It returns nil, having given up its place, when it may not go on.
func (b *Budget) connect() *Server {
	pause := b.set.cfg.Backoff
	for {
		select {
		case b.node.dials <- struct{}{}:
		case <-b.ctx.Done():
			b.giveUp()
			return nil
		}
		if b.giveUp() {
			<-b.node.dials
			return nil
		}
		secret := b.set.cfg.Secret(b.key.User)
		s, err := b.set.open(b, secret)
		<-b.node.dials
		if err == nil {
			return s
		}
		if !b.failed(err, secret) {
			return nil
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-b.ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, 16*b.set.cfg.Backoff)
	}
}

// failed deals with a connection that could not be opened and reports whether to try again.
//
// A refusal of the role or database itself is everybody's answer if the primary gives it; a standby may only not know
// them yet. When PostgreSQL has no connection left, those who wait are served by the connections that there are. Anything
// else may pass: of several attempts under way one goes on. Those who wait for a standby are sent away to choose another
// node; those who wait for the primary wait on, within the hold timeout of their sessions.
//
// A changed password is refused too, but whoever waits has logged in rightly: if somebody has proved the new password
// meanwhile that is tried at once, and as long as there are connections from before, those serve.
func (b *Budget) failed(err error, secret auth.Secret) (again bool) {
	var refusal *LoginError
	lasting := errors.As(err, &refusal) && refusal.Lasting()
	full := refusal != nil && refusal.SQLSTATE == "53300"
	now := b.set.now()
	b.mu.Lock()
	var turned []*Ticket
	established := b.open - b.dialing
	changed := refusal != nil && refusal.SQLSTATE == codeInvalidPassword
	// Asked with mu held: whoever is in the queue had proved a newer password before it came.
	renewed := changed && !secret.Same(b.set.cfg.Secret(b.key.User))
	if changed && (renewed || established > 0) {
		lasting = false
	}
	var loans []loan
	if changed && !renewed {
		loans = b.forgive(now)
	}
	switch {
	case full && established > 0:
		b.shrunk, b.shrunkUntil = established, now.Add(shrinkFor)
		b.recycling.crowded = b.recycling.active
	case lasting, b.role == replication.RoleStandby && !renewed:
		turned = b.waiting.drain()
	case !b.closed && (b.dialing == 1 && b.waiting.length > 0 || renewed):
		again = true
	}
	if !again {
		b.dialing--
		b.gone()
		b.set.closed.Publish(struct{}{})
	}
	b.restate()
	b.warmAt = now.Add(16 * b.set.cfg.Backoff)
	if lasting {
		b.warmAt = now.Add(refusedFor)
	}
	repeated := b.failing
	b.failing = true
	b.mu.Unlock()
	if full && established == 0 {
		b.set.relieve(b)
	}
	b.set.logFailure(b, err, repeated)
	for _, l := range loans {
		b.set.deliver(l.ticket, l.server)
	}
	for _, t := range turned {
		if lasting && (b.role == replication.RolePrimary || t.Need.Kind == router.Write) { // such a write insists on standbys
			t.Waiter.Refused(t, refusal.Failure)
		} else {
			t.Avoid = b.key.Node
			b.set.cfg.Reroute(t)
		}
	}
	return again
}

// refusedFor is how long a pool whose role or database PostgreSQL refuses opens nothing of its own accord.
const refusedFor = time.Minute
