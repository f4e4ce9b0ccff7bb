package pool

import (
	"context"
	"errors"

	"github.com/walgate/walgate/replication"
)

// errNotSent says that a CancelRequest did not reach the server, so that it stops nothing later either.
var errNotSent = errors.New("cancel request not sent")

// Cancel stops the statement that the server runs for the session that has it. It returns at once; errors are logged.
//
// A CancelRequest names a server connection, not a statement. So the connection serves nobody else from the moment at
// which it is sent until PostgreSQL has dealt with it; while it waits to be sent, the connection may be given back, and
// then it is not sent at all. A second one for a server that has one is dropped, and so is what finds the line full.
// done is called later, without locks, once it is certain that the loan will not get the signal any more.
func (s *Set) Cancel(server *Server, done func()) {
	b := server.budget
	n := b.node
	b.mu.Lock()
	busy := server.cancel != 0 || server.cancelling || server.state != serverUsed || b.closed
	full := int(n.queued.Load()) >= s.cfg.CancelQueue
	if busy || full {
		b.mu.Unlock()
		if full && !busy {
			s.cancelsDropped.Add(1)
		}
		s.tasks.Go(done) // ends at once
		return
	}
	server.cancel = server.loan
	b.meter.Cancels.Add(1)
	n.queued.Add(1)
	b.mu.Unlock()
	s.tasks.Go(func() { s.cancel(server, done) }) // ends with the budget or the connect timeout at the latest
}

func (s *Set) cancel(server *Server, done func()) {
	b := server.budget
	select {
	case b.node.cancels <- struct{}{}:
		defer func() { <-b.node.cancels }()
	case <-b.ctx.Done():
	}
	b.node.queued.Add(-1)
	if !b.beginCancel(server) {
		done()
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, s.cfg.ConnectTimeout)
	defer cancel()
	err := server.Cancel(ctx)
	if err != nil {
		s.log.Warn("cancel request not delivered", "node", string(b.key.Node), "error", err)
	} else {
		s.cancelsSent.Add(1)
	}
	over := err == nil || errors.Is(err, errNotSent)
	s.deliver(b.endCancel(server, over, s.now()), server)
	if over {
		done()
	}
}

// beginCancel reports whether the loan for which the CancelRequest was made still goes on.
func (b *Budget) beginCancel(s *Server) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	loan := s.cancel
	s.cancel = 0
	if b.closed || s.state != serverUsed || s.loan != loan {
		return false
	}
	s.cancelling = true
	return true
}

// endCancel frees a server that was parked for its CancelRequest. Unless it is known to be over, the server can't be
// lent again: it might stop the statement of another session.
func (b *Budget) endCancel(s *Server, over bool, now replication.Instant) *Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.cancelling = false
	s.tainted = s.tainted || !over
	if s.state != serverParked {
		return nil
	}
	return b.restore(s, now)
}
