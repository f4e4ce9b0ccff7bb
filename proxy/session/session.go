package session

import (
	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// phase is where a session is in its life.
type phase uint8

const (
	phaseStartup phase = iota
	phaseAuth
	phaseReady
	phaseLeaving // the client is gone; its transaction is being rolled back
	phaseClosed
)

// stop is a reason for not reading a side; reasons are or-ed.
type stop uint8

const (
	stopFull   stop = 1 << iota // the other side's unwritten bytes
	stopHeld                    // enough collected, or withheld by the gate
	stopLedger                  // too many requests outstanding
)

// disposition is what happens to the rest of a message whose first chunk was seen.
type disposition uint8

const (
	chunkNone disposition = iota // no message is in progress
	chunkDrop
	chunkPass
	chunkHold
)

// Session is one client session. It belongs to one goroutine at a time. While it is idle it is only what stands here.
type Session struct {
	cfg *Config
	// work is nil while nothing is in progress. Handle sees to it that all it calls have one.
	*work
	who         *identity // nil before Startup
	want        *settingSet
	startup     *settingSet // to which RESET returns
	told        *parameterList
	prepared    prepared
	consistency router.Consistency
	armed       replication.Instant
	quietSince  replication.Instant // since when nothing is owed or waits; meaningful while that is so
	turns       uint64              // answered
	retried     uint32              // turns run again elsewhere
	erred       uint32              // turns answered with an error of walgate's own
	sequenceOn  uint64              // the server connection on which it has advanced a sequence last; 0: none
	id          uint32              // what the client knows as its process id
	phase       phase
	mode        PoolMode
	status      byte // the transaction status that the client was told last
	comeback    comeback
	unproven    bool // no server has accepted the startup settings yet
	stopped     [2]stop
	opts        router.Options
	catalog     Catalog // nil: none
	rule        *Reads  // of the login; nil: none
	route       route
}

// Login returns who has logged in, and where; nothing before Startup.
func (s *Session) Login() (user, database string) {
	if s.who == nil {
		return "", ""
	}
	return s.who.user, s.who.database
}

// New makes the session of a client connection that has sent nothing yet. cfg is shared and must outlive the session.
func New(cfg *Config) *Session {
	return &Session{cfg: cfg, status: wire.StatusIdle}
}

// Handle takes one event and adds to out what must be done. The order of a session's life:
//
//   - Startup: answered with Authenticate (the driver runs the login conversation with whatever the client sends next
//     and hands no Frame to the session until AuthResult), or with an error and Close.
//   - AuthResult: the session writes AuthenticationOk, ParameterStatus..., BackendKeyData and ReadyForQuery, or the
//     error and Close.
//   - Frame{Client}: any time. While the session waits for a server it collects frames and stops reading the client
//     when it has enough.
//   - Need -> Attached | AttachFailed; from Attached on Frame{Server}, until Release, Discard or Closed{Server}.
//   - Closed{Client}: the session detaches and emits Close, possibly after a rollback on the server.
//
// After Close no event has an effect. Handle never blocks and does not allocate on the simple path.
func (s *Session) Handle(now replication.Instant, ev *Event, out *Actions) {
	if s.phase == phaseClosed {
		return
	}
	if s.work == nil {
		if ev.Kind == Tick && s.tickIdle(now) {
			return
		}
		s.begin(out.takeWork())
	}
	s.clock = now
	switch ev.Kind {
	case Frame:
		piece := wire.Piece{Type: ev.Type, Length: ev.Length, Bytes: ev.Bytes, First: ev.First, Last: ev.Last}
		if ev.Side == Client {
			s.quietSince = now
			s.clientPiece(now, piece, out)
		} else {
			s.serverPiece(now, piece, out)
		}
	case Startup:
		s.readStartup(ev.Bytes, out)
	case AuthResult:
		s.quietSince = now
		s.authResult(ev.Auth, out)
	case Attached:
		s.attached(now, ev.Attachment, out)
	case AttachFailed:
		s.attachFailed(ev.Failure, out)
	case ViewChanged:
		s.viewChanged(now, out)
	case Deadline:
		s.deadline(now, out)
	case Full:
		if ev.Side == Client {
			s.fullSince = now
		}
		s.setStop(otherSide(ev.Side), stopFull, true, out)
	case Drained:
		if ev.Side == Client {
			s.fullSince = 0
		}
		s.setStop(otherSide(ev.Side), stopFull, false, out)
	case Closed:
		s.closed(now, ev, out)
	case CancelDone:
		s.cancelDone()
	case Tick:
		s.tick(now, out)
	case CancelRequested:
		s.cancelRequested(out)
	case Shutdown:
		s.shutdown = failureFields(ev.Failure, severityFatal, errAdminShutdown)
		if s.phase < phaseReady {
			s.end(s.shutdown, out)
		}
	case Kill:
		s.kill(failureFields(ev.Failure, severityFatal, errAdminShutdown), out)
	}
	s.advance(now, out)
	s.rest(out)
}

func otherSide(side Side) Side { return Server - side }

// setStop adds or removes a reason for not reading a side.
func (s *Session) setStop(side Side, why stop, on bool, out *Actions) {
	before := s.stopped[side]
	if on {
		s.stopped[side] |= why
	} else {
		s.stopped[side] &^= why
	}
	if (before == 0) == (s.stopped[side] == 0) {
		return
	}
	if s.stopped[side] == 0 {
		out.read(side, ResumeReading)
	} else {
		out.read(side, StopReading)
	}
}

// armBy makes sure that a Deadline comes at or before at.
func (s *Session) armBy(at replication.Instant, out *Actions) {
	if s.armed == 0 || s.armed > at {
		s.armed = at
		out.arm(at)
	}
}

// view returns the latest view.
func (s *Session) view() *replication.View {
	if v := s.cfg.View.Load(); v != nil {
		return v
	}
	return &noView
}

// noView knows no primary.
var noView replication.View

// Busy reports whether the session waits for a server or has one: only such sessions need ViewChanged.
func (s *Session) Busy() bool { return s.work != nil && (s.waiting || s.srv != nil) }

// Info describes the session. It allocates nothing.
func (s *Session) Info() Info {
	info := Info{Statements: s.prepared.count(), Application: s.reported("application_name"), Target: s.target(),
		Level: s.level(), InTransaction: s.status != wire.StatusIdle,
		Turns: s.turns, Retried: uint64(s.retried), Failed: uint64(s.erred)}
	info.User, info.Database = s.Login()
	switch s.phase {
	case phaseStartup, phaseAuth:
		info.State = StateLogin
	case phaseReady:
		info.State = StateIdle
	default:
		info.State = StateClosing
	}
	if s.work == nil {
		return info
	}
	if s.phase == phaseReady && s.srv != nil {
		info.State = StateActive
	} else if s.phase == phaseReady && s.waiting {
		info.State = StateWaiting
	}
	info.LastEvent, info.WaitingSince = s.clock, s.since
	info.Held = s.since != 0 && !s.view().Writable()
	info.Pinned = s.pins.String()
	info.Server = s.srv
	return info
}

// OpenOnPrimary reports whether the session has a turn or a transaction open on the primary, for the drain report of a
// switchover.
func (s *Session) OpenOnPrimary() bool {
	return s.work != nil && s.srv != nil && s.srv.Role == replication.RolePrimary &&
		(s.status != wire.StatusIdle || s.inTx || s.group || s.ledger.Len() > 0)
}

// end tells the client goodbye (nil: nothing) and ends the session.
func (s *Session) end(last *wire.ErrorFields, out *Actions) {
	if last != nil {
		s.say(last, out)
	}
	if s.waiting {
		s.waiting = false
		out.CancelNeed, out.control = true, true
	}
	if s.srv != nil {
		s.letGo(Discard, "session ended", out)
	}
	s.drop(out)
	s.phase = phaseClosed
	out.close()
}

// say tells the client an error of walgate's own.
func (s *Session) say(why *wire.ErrorFields, out *Actions) {
	s.cfg.Failures.Add([]byte(why.Code))
	out.put(Client, wire.AppendErrorResponse(out.own(Client), *why))
}

// drop forgets what was collected.
func (s *Session) drop(out *Actions) {
	out.give(s.pend)
	out.give(s.held)
	out.give(s.withheld)
	s.pend, s.held, s.withheld, s.sent = nil, nil, nil, 0
}

func (s *Session) kill(why *wire.ErrorFields, out *Actions) {
	if s.serverChunk == chunkPass {
		why = nil // an error can't be told inside a message
	}
	s.end(why, out)
}
