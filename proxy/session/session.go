package session

import (
	"github.com/walgate/walgate/replication"
)

// Session is one client session. It belongs to one goroutine at a time.
type Session struct {
	cfg  *Config
	info Info
}

// New makes the session of a client connection that has sent nothing yet. cfg is shared and must outlive the session.
func New(cfg *Config) *Session { return &Session{cfg: cfg} }

// Handle takes one event and adds to out what must be done. The order of a session's life:
//
//   - Startup: answered with Authenticate (the driver runs the login conversation with whatever the client sends next
//     and hands no Frame to the session until AuthResult), or with an error and Close.
//   - AuthResult: the session writes AuthenticationOk, ParameterStatus..., BackendKeyData and ReadyForQuery, or the
//     error and Close.
//   - Frame{Client}: any time. While the session waits for a server it collects frames and stops reading the client
//     when it has enough.
//   - Need -> Attached | AttachFailed; from Attached on Frame{Server}, until Release, Discard or Closed{Server}.
//   - Closed{Client}: the session detaches (Release, Discard) and emits Close.
//
// After Close no event has an effect. Handle never blocks and does not allocate on the simple path.
func (s *Session) Handle(now replication.Instant, ev *Event, out *Actions) {
	_, _, _ = now, ev, out
}

// Busy reports whether the session waits for a server or has one: only such sessions need ViewChanged.
func (s *Session) Busy() bool { return s.info.State == StateWaiting || s.info.State == StateActive }

// Info describes the session. It allocates nothing.
func (s *Session) Info() Info { return s.info }

// OpenOnPrimary reports whether the session has a turn or transaction open on the primary of the epoch, for the
// drain report of a switchover.
func (s *Session) OpenOnPrimary() bool { return false }

// CancelTarget returns the server connection whose statement a CancelRequest may stop now; ok is false while nothing
// runs or a COMMIT is outstanding (its outcome could become ambiguous). Drivers normally send CancelRequested instead.
func (s *Session) CancelTarget() (facts *ServerFacts, ok bool) { return nil, false }
