package pool

import "net"

// Keeper is who reads and writes server connections: a driver, or one loop of a driver. A server has one keeper at a
// time, from Adopt until it says Ended or another keeper adopts it; only servers that nobody has attached change it.
type Keeper interface {
	// Adopt takes in a server whose connection is Server.Conn: a net.Conn that nobody else reads, or whatever the former
	// keeper made of it (see Rehome), of which Leave makes one. With a ticket, it then calls that one's Waiter. It does
	// not block.
	Adopt(s *Server, t *Ticket)
	// Move lets go of a server that was lent to t and hands it to t.Keeper.Adopt. It does not block and calls no Waiter
	// of the keeper that calls it.
	Move(s *Server, t *Ticket)
}

// Foreign is a connection as one kind of Keeper keeps it. Leave makes it an ordinary one again; the Foreign connection
// is then closed.
type Foreign interface {
	net.Conn
	Leave() (net.Conn, error)
}

// Rehome is called by a keeper that adopts the server: conn is what its connection is from now on. It may be called
// again. False means that the pool has ended the connection meanwhile: conn was closed.
func (s *Server) Rehome(k Keeper, conn net.Conn) bool {
	s.budget.mu.Lock()
	defer s.budget.mu.Unlock()
	s.keeper, s.Conn = k, conn
	if s.shut {
		_ = conn.Close() // it is over, whatever this says
	}
	return !s.shut
}

// Keeper returns who keeps the server. It is the business of those to whom the server is lent.
func (s *Server) Keeper() Keeper { return s.keeper }

// shutDown ends the connection, which its keeper notices. Called with budget.mu held: it does not block (no linger is
// set).
func (s *Server) shutDown() {
	s.shut = true
	_ = s.Conn.Close() // as above
}
