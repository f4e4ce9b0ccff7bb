package pool

import (
	"net"
	"sync/atomic"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
)

// Address is where a node's PostgreSQL listens. A Host that begins with a slash is a directory of a unix socket.
type Address struct {
	Host string
	Port int
}

// Key names a Budget.
type Key struct {
	Node     replication.NodeID
	Database string
	User     string
}

// Server is one logged-in server connection. The pool lends it to one session at a time.
type Server struct {
	Facts   *session.ServerFacts
	Conn    net.Conn // changed with the keeper: see Rehome
	Address Address
	Line    Line
	// Reported is what the server said of itself at the login; nobody changes it.
	Reported []session.Parameter
	// Driver is the keeper's own state of the connection.
	Driver any

	ended      chan struct{} // closed by Ended
	budget     *Budget
	generation uint32 // of the budget, when it was dialled
	born       replication.Instant
	expires    replication.Instant // it is not lent again after this
	gone       atomic.Bool         // its driver has seen the end of the connection

	// Guarded by budget.mu.
	state      serverState
	idleSince  replication.Instant
	keeper     Keeper
	shut       bool   // the pool has ended the connection
	loan       uint64 // +1 for each loan
	cancel     uint64 // the loan for which a CancelRequest waits to be sent, 0 for none
	cancelling bool   // one is under way: the server serves nobody new before that is done
	tainted    bool   // one may still be under way, nobody knows: the server is not lent again
	altered    bool   // it has changed the defaults of a role or database
	roles      bool   // it has changed roles
}

type serverState uint8

const (
	serverUsed   serverState = iota
	serverIdle               // on the shelf
	serverParked             // released, but a CancelRequest may still hit it
	serverGone
)

// Gone reports whether the connection has ended. A driver that attaches a server looks at it after it has made itself
// known as the owner, so that an end in between is not missed.
func (s *Server) Gone() bool { return s.gone.Load() }

// Key returns the key of the server's Budget.
func (s *Server) Key() Key { return s.budget.key }

// Primary reports whether the connection was opened to a primary.
func (s *Server) Primary() bool { return s.Facts.Role == replication.RolePrimary }
