package proxy

import (
	"context"
	"time"
)

// Yield lets another process, which has the listening sockets too, accept from now on. Run goes on for the clients that
// are here. When Yield returns nothing will be accepted any more. It must not be called before Addrs has returned.
func (s *Server) Yield() {
	s.yield.Do(func() {
		s.pools.Wane()
		close(s.yielding)
	})
	<-s.yielded
}

// drain waits, after Yield, until the clients have left. They do so in their own time: an application's pool does not
// expect the end of a connection that is idle. Whoever stays for longer than Config.TakeoverDrain is ended by Run as in
// every shutdown, and so is the console.
func (s *Server) drain(ctx context.Context) {
	select {
	case <-s.yielding:
	default:
		return
	}
	s.log.Info("another process accepts; this one ends with its last client", "clients", s.sessions.count(), "limit", s.cfg.TakeoverDrain)
	ctx, cancel := context.WithTimeout(ctx, s.cfg.TakeoverDrain)
	defer cancel()
	began := time.Now()
	err := s.sessions.awaitDrained(ctx)
	s.log.Info("drained", "clients_left", s.sessions.count(), "after", time.Since(began).Round(time.Millisecond), "all", err == nil)
}

// Cancel carries out a CancelRequest that another process of this proxy has got, if its key is one of a client here.
func (s *Server) Cancel(processID uint32, secret []byte) { s.door.cancelHere(processID, secret) }

// Paused tells why another process must not go on where this one is: nobody would tell it of the pause. Empty: it may.
func (s *Server) Paused() string {
	all, databases := s.pools.Paused()
	switch {
	case s.door.console.isLeaving():
		return "the proxy is shutting down"
	case all || len(databases) > 0:
		return "the proxy is paused; RESUME it first"
	case s.door.console.disabledCount() > 0:
		return "a database is disabled; ENABLE it first"
	}
	return ""
}
