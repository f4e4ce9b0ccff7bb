package session

import (
	"slices"
	"strings"
	"time"

	"github.com/walgate/walgate/replication"
)

// CancelTarget returns the server connection whose statement a CancelRequest may stop now; ok is false while nothing
// runs or a COMMIT is outstanding (its outcome could become ambiguous). Drivers normally send CancelRequested instead.
func (s *Session) CancelTarget() (facts *ServerFacts, ok bool) {
	if s.work == nil || s.srv == nil || s.ledger.Len() == 0 || s.commitOwed() || s.warningsHidden() && s.commitOutstanding() {
		return nil, false
	}
	return s.srv, true
}

// warningsHidden reports whether the session may not be warned: a cancelled wait for a standby would then look like a
// clean commit, since only a warning tells of it.
func (s *Session) warningsHidden() bool {
	if s.hushed {
		return true
	}
	if level, ok := s.settings.now.want.value("client_min_messages"); ok {
		return !showsWarnings(level)
	}
	return s.srv.Defaults.hidesWarnings
}

// showsWarnings reports whether a WARNING reaches the client at that value of client_min_messages.
func showsWarnings(level string) bool {
	return slices.ContainsFunc(shownWarnings, func(l string) bool { return strings.EqualFold(level, l) })
}

// shownWarnings are the values of client_min_messages at which a WARNING reaches the client (PostgreSQL documentation,
// "Error Reporting and Logging"). Anything else counts as hiding it.
var shownWarnings = []string{"debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log", "notice", "info", "warning"}

// commitOwed reports whether an explicit COMMIT (or what ends a transaction likewise) is outstanding.
func (s *Session) commitOwed() bool {
	for i := range s.ledger.Len() {
		if o := s.ledger.At(i); o.Ref.bits&exits != 0 && o.Ref.bits&commits != 0 {
			return true
		}
	}
	return false
}

func (s *Session) cancelRequested(out *Actions) {
	switch {
	case s.phase != phaseReady:
	case s.waiting || s.srv != nil && s.since != 0 && s.sent < len(s.pend) && s.ledger.Len() == 0:
		s.failTurn(errCanceled, out)
	default:
		if _, ok := s.CancelTarget(); ok {
			s.cancelServer(s.clock, out)
		}
	}
}

// cancelServer asks for the server's statement to be stopped. Until that has been done nothing more is written to the
// server: the signal could meet another statement, and the wait of a COMMIT most harmfully.
func (s *Session) cancelServer(now replication.Instant, out *Actions) {
	if s.cancelling != 0 {
		return
	}
	s.cancelling = now
	s.armBy(now.Add(cancelTime), out)
	out.cancelServer()
}

// cancelDone goes on after a cancel.
func (s *Session) cancelDone() { s.cancelling = 0 }

// cancelTime bounds the wait for CancelDone; a server connection of which that is not heard is not trusted any more.
const cancelTime = 30 * time.Second

// cancelLost gives up a server connection to which a cancel may still be on its way.
func (s *Session) cancelLost(now replication.Instant, out *Actions) {
	out.detach(Discard, "a cancel request did not end")
	s.serverGone(now, nil, out)
}
