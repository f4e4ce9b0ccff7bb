package guard

import (
	"errors"

	"github.com/walgate/walgate/replication"
)

// Errors that the guard answers with.
var (
	ErrNoGuard  = errors.New("no guard listens")
	ErrPassed   = errors.New("the guard's deadline has passed: the instance is being killed")
	ErrStale    = errors.New("the guard holds the deadline of a later epoch, or listens to a newer agent")
	ErrOccupied = errors.New("the guard already has processes of this instance")
	ErrIdle     = errors.New("the guard has no postmaster")
	ErrRequest  = errors.New("the guard refused the request")
)

// codes name the errors on the socket.
var codes = map[string]error{
	"passed": ErrPassed, "stale": ErrStale, "occupied": ErrOccupied, "idle": ErrIdle,
}

// codeOf returns the code of an error; empty for one without.
func codeOf(err error) string {
	for code, sentinel := range codes {
		if errors.Is(err, sentinel) {
			return code
		}
	}
	return ""
}

// State is what the guard knows.
type State struct {
	Seq        uint64   `json:"seq"`        // orders the states of one guard
	Guard      int      `json:"guard"`      // its own pid
	Postmaster int      `json:"postmaster"` // pid, 0: none
	StartTime  uint64   `json:"start_time"` // of the postmaster, clock ticks since boot
	Remaining  bool     `json:"remaining"`  // processes of the instance are left
	Killing    bool     `json:"killing"`
	Deadline   Deadline `json:"deadline"`
	// Proofs counts how often wait said ECHILD after a postmaster: the instance was dead to the last process.
	Proofs   uint64 `json:"proofs"`
	LastExit string `json:"last_exit,omitempty"` // how the last postmaster ended
	LastKill string `json:"last_kill,omitempty"` // why the guard last killed
	// Epoch is the highest that was ever armed; lower ones are refused.
	Epoch replication.Epoch `json:"epoch"`
}

// Spec says how to start a postmaster.
type Spec struct {
	Path    string   `json:"path"`
	Args    []string `json:"args"` // with argv[0]
	Env     []string `json:"env"`
	Dir     string   `json:"dir"`
	LogFile string   `json:"log_file"` // stdout and stderr are appended to it
	Owner   *Owner   `json:"owner,omitempty"`
}

// Owner is whom to become.
type Owner struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups,omitempty"`
}

// The verbs of the socket: one JSON object a line.
const (
	verbState  = "state"
	verbStart  = "start"
	verbSignal = "signal"
	verbArm    = "arm"
	verbDisarm = "disarm"
	verbKill   = "kill"
	verbQuit   = "quit"
)

// request is a line from the agent.
type request struct {
	ID       uint64    `json:"id"`
	Verb     string    `json:"verb"`
	Start    *Spec     `json:"start,omitempty"`
	Signal   int       `json:"signal,omitempty"`
	Deadline *Deadline `json:"deadline,omitempty"`
	Why      string    `json:"why,omitempty"`
}

// response is a line to the agent; without an id it is news.
type response struct {
	ID    uint64 `json:"id,omitempty"`
	Error string `json:"error,omitempty"`
	Code  string `json:"code,omitempty"`
	State State  `json:"state"`
}

// maxLine bounds a line on the socket.
const maxLine = 1 << 20
