package admin

import (
	"context"
	"time"

	"github.com/walgate/walgate/proxy/pool"
	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Proxy is what the console shows and commands. It is safe for concurrent use.
type Proxy interface {
	// Snapshot gathers what there is to show.
	Snapshot() *Snapshot
	// Do carries out a command that is neither Show nor one of the client's own. It returns when the command is done or
	// ctx has ended: then what it began is taken back. A *Refusal is told to the client as it is.
	Do(ctx context.Context, c Command) (notice string, err error)
}

// Refusal is an error for the client.
type Refusal struct{ session.Failure }

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

// Snapshot is the state of a proxy at one moment, or nearly so.
type Snapshot struct {
	Now  replication.Instant
	Wall time.Time // the same moment

	Version string
	View    replication.View
	Board   replication.StatusBoard
	Grant   replication.Grant
	Limits  router.Limits
	// Standings of the members, with their tags; a member without one is taken as its status says.
	Standings map[replication.NodeID]router.Standing
	Held      int // sessions that wait because no node can serve them
	Sessions  []Session
	Servers   []pool.ServerInfo
	Pools     []pool.Stats
	Meters    []pool.Metered
	Failures  *session.Codes // errors of walgate's own
	Routes    []Route
	Logins    map[string]uint64 // successful ones, by database

	PausedAll bool
	Paused    []string // databases
	Disabled  []string
	Settings  []Setting

	MaxClients   int
	PoolLifetime time.Duration
	// PoolMode of a database and user; an empty user asks for the rest.
	PoolMode func(database, user string) session.PoolMode
	// PoolLimits likewise; databaseClients is how many clients the database may have, 0: no limit of its own.
	PoolLimits func(database, user string) (servers pool.Limits, databaseClients int)
}

// Session is one client.
type Session struct {
	ID      uint32
	Client  string              // its address
	Console bool                // it talks to the console
	Since   replication.Instant // when it came
	Line    pool.Line
	session.Info
}

// Route counts the choices of a node for one reason; no node: the turn was held.
type Route struct {
	Node  replication.NodeID
	Role  replication.Role
	Why   string
	Count uint64
	// Refused: the session wanted an error rather than the primary.
	Refused bool
}

// Place is the role, or what stands for it where there was no node.
func (r *Route) Place() string {
	switch {
	case r.Refused:
		return "refused"
	case r.Node == "":
		return "held"
	default:
		return r.Role.String()
	}
}

// Setting is one line of SHOW CONFIG.
type Setting struct {
	Key, Value, Default string
	Changeable          bool // with SET or RELOAD
}

func (s *Snapshot) isPaused(database string) bool { return s.PausedAll || contains(s.Paused, database) }

func contains(list []string, one string) bool {
	for _, e := range list {
		if e == one {
			return true
		}
	}
	return false
}
