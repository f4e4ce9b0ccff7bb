package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// broker finds a server for each session that needs one: it chooses the node (router.Pick), borrows from the pools, and
// holds who can't be served until the view, the board or the gate changes. It implements netdriver.Servers and
// loop.Servers.
type broker struct {
	set     *pool.Set
	gate    *replication.Gate
	now     func() replication.Instant
	log     *slog.Logger
	maxAge  time.Duration
	balance router.Balance
	wake    func() // Deps.Wake; never nil
	hasten  func() // Deps.Hasten; never nil

	state atomic.Pointer[state]
	board atomic.Pointer[replication.StatusBoard]
	stood atomic.Pointer[standings]
	seed  atomic.Uint32

	routes   routes
	answered atomic.Uint64 // turns and transactions that the primary has ended well

	mu        sync.Mutex
	rounds    uint64 // +1 whenever the held are taken: who has chosen before that must choose again
	maxHeld   int
	maxBytes  int64
	held      map[*pool.Ticket]struct{}
	heldBytes int64
	refused   int64 // sessions turned away because too many were held
}

// state is a view with what belongs to it.
type state struct {
	view  replication.View
	loads []*pool.NodeLoad // in the order of view.Members
}

// Request implements netdriver.Servers.
func (b *broker) Request(t *pool.Ticket) (*pool.Server, *session.Failure) {
	for {
		b.mu.Lock()
		round := b.rounds
		b.mu.Unlock()
		st := b.state.Load()
		choice := b.pick(st, t)
		b.routes.count(choice)
		b.tell(t, choice)
		if choice.Node != "" {
			if server, ok := b.set.Acquire(choice.Node, choice.Role, st.view.Epoch, t); ok {
				return server, nil
			}
		}
		if choice.Refused {
			return nil, notServed(choice.Why)
		}
		if again, failure := b.hold(t, round); !again {
			return nil, failure
		}
	}
}

// pick chooses the node; no node means that the ticket must be held.
func (b *broker) pick(st *state, t *pool.Ticket) router.Choice {
	board, now := b.board.Load(), t.Now
	if now == 0 {
		now = b.now()
	}
	n := &t.Need
	in := router.Input{
		View: &st.view, Board: board, Now: now, Kind: n.Kind, Target: n.Target, Fallback: n.Fallback, Tag: n.Tag,
		Limits:      router.Limits{MaxLagBytes: n.MaxLagBytes, MaxLag: n.MaxLag, MaxAge: b.maxAge},
		Requirement: n.Consistency.Require(n.Level, n.Arrival, &st.view, board),
		Proven:      n.Proven, ProvenAfter: n.ProvenAfter, Tried: n.Tried, Balance: b.balance, Seed: b.seed.Add(1),
	}
	if t.Avoid != "" {
		in.Tried = append(slices.Clip(in.Tried), t.Avoid)
	}
	t.Members = b.stood.Load().appendTo(t.Members[:0], st, now)
	in.Members = t.Members
	reads := in.Kind == router.Read || in.Target == router.TargetReplica
	in.Wait = reads && !t.Hurried && now.Sub(n.Arrival) < patience(n)
	if reads && len(st.view.Members) > 1 && (in.Requirement.PrimaryOnly || in.Proven != "") {
		b.wake()
	}
	t.Token, t.Proof = in.Requirement.Token, in.Requirement.Proof()
	t.Status = replication.Status{}
	t.Lost = t.Lost || in.Requirement.Lost // told once, whichever round it was
	choice := router.Pick(in)
	if in.Wait && choice.Node == "" && !choice.Refused {
		b.wake() // for those that come next
		b.hasten()
	}
	if choice.Role == replication.RoleStandby && choice.Node == t.Avoid {
		if in.Kind == router.Write { // it insists on replicas: what may be a write never falls back to the primary
			return router.Choice{Why: "the only standby can't be reached"}
		}
		if in.Fallback == router.FallbackError {
			return router.Choice{Why: "the standby can't be reached", Refused: true}
		}
		in.Kind, in.Target = router.Write, router.TargetPrimary
		choice = router.Pick(in)
	}
	t.Why = choice.Why
	switch choice.Role {
	case replication.RoleStandby:
		t.Status = board.Status(choice.Node)
	case replication.RolePrimary:
		if !st.view.Writable() || !b.gate.Allows(st.view.Epoch, now) {
			return router.Choice{Why: "the primary may not be written to now"}
		}
	}
	return choice
}

// limit says how many sessions may be held, and with how many bytes; those that are held stay.
func (b *broker) limit(sessions int, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.maxHeld, b.maxBytes = sessions, bytes
}

// hold keeps the ticket for the next round; again means that a round has passed since it was tried.
func (b *broker) hold(t *pool.Ticket, round uint64) (again bool, failure *session.Failure) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.Withdrawn():
		return false, &session.Failure{}
	case b.rounds != round:
		return true, nil
	case len(b.held) >= b.maxHeld || b.heldBytes+t.Bytes > b.maxBytes:
		if !t.Hurried { // it may be one that the primary could serve
			t.Hurried = true
			return true, nil
		}
		b.refused++
		return false, &session.Failure{
			SQLSTATE: "53300", Message: "too many sessions wait for a primary",
			Detail: fmt.Sprintf("%d sessions with %d bytes are held.", len(b.held), b.heldBytes),
			Hint:   "Try again once the cluster has a primary; the limits are proxy.held_sessions and proxy.held_bytes.",
		}
	}
	b.held[t] = struct{}{}
	b.heldBytes += t.Bytes
	return false, nil
}

// Withdraw implements netdriver.Servers.
func (b *broker) Withdraw(t *pool.Ticket) bool {
	if t.Withdraw() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.held[t]; !ok {
		return false
	}
	delete(b.held, t)
	b.heldBytes -= t.Bytes
	return true
}

// GiveBack implements netdriver.Servers.
func (b *broker) GiveBack(server *pool.Server, keep bool, now replication.Instant) *pool.Ticket {
	if !keep {
		b.set.Discard(server)
		return nil
	}
	if server.Primary() {
		b.answered.Add(1)
	}
	return b.set.Release(server, now)
}

// Cancel implements netdriver.Servers.
func (b *broker) Cancel(server *pool.Server, done func()) { b.set.Cancel(server, done) }

// reroute tries again for a ticket that waits, and tells its Waiter what came of it. Called without locks.
func (b *broker) reroute(t *pool.Ticket) {
	t.Now = 0 // it has waited
	server, failure := b.Request(t)
	switch {
	case server != nil:
		t.Waiter.Granted(t, server)
	case failure != nil:
		t.Waiter.Refused(t, *failure)
	}
}

// apply makes the view the one in force: pools are fenced, and whoever waited in them waits for the next round.
func (b *broker) apply(view replication.View) (homeless []*pool.Ticket) {
	st := &state{view: view}
	for _, m := range view.Members {
		st.loads = append(st.loads, b.set.Load(m.Name))
	}
	b.state.Store(st)
	return b.set.Apply(view)
}

// round lets all held sessions, and the homeless ones, try again in the order of their tickets.
func (b *broker) round(homeless []*pool.Ticket) {
	b.mu.Lock()
	b.rounds++
	all := homeless
	for t := range b.held {
		t.Avoid = ""
		all = append(all, t)
	}
	clear(b.held)
	b.heldBytes = 0
	b.mu.Unlock()
	slices.SortStableFunc(all, func(x, y *pool.Ticket) int { return int(x.Need.Ticket.Sub(y.Need.Ticket)) })
	for _, t := range all {
		b.reroute(t)
	}
}

// heldNow counts the held sessions.
func (b *broker) heldNow() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.held)
}

// refusedSoFar counts the sessions that were turned away because too many were held.
func (b *broker) refusedSoFar() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refused
}

// errorPatience is how long at least a read waits for a standby that could serve it before it gets an error: what was
// asked for when it arrived has been answered by then.
const errorPatience = 250 * time.Millisecond

// patience is how long a Need may wait for a standby that is not far enough.
func patience(n *session.Need) time.Duration {
	if n.Fallback == router.FallbackError {
		return max(n.Wait, errorPatience)
	}
	return n.Wait
}

// notServed is the error of a read that may not fall back to the primary.
func notServed(why string) *session.Failure {
	return &session.Failure{
		SQLSTATE: "57P03", Message: "no replica may serve the statement now", Detail: "The last reason: " + why + ". Nothing was executed.",
		Hint: "Repeat it, or SET walgate.fallback = 'primary', raise walgate.max_lag or lower walgate.consistency.",
	}
}

// tell logs a choice, without anything of the statement.
func (b *broker) tell(t *pool.Ticket, choice router.Choice) {
	ctx := context.Background() // of a log line: it neither blocks nor carries values
	if !b.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	b.log.LogAttrs(ctx, slog.LevelDebug, "route", slog.String("class", t.Need.Kind.String()), slog.String("node", string(choice.Node)),
		slog.String("role", choice.Role.String()), slog.String("why", choice.Why), slog.String("consistency", t.Need.Level.String()),
		slog.String("token", t.Token.String()), slog.Duration("lag", t.Status.Lag), slog.String("database", t.Database),
		slog.String("user", t.User))
}
