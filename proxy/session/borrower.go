package session

import "sync/atomic"

// borrower is the client that has a server connection, or had it last. It is written by the session and read by those that
// look for the client of a process, or for the process of a client.
type borrower struct{ client atomic.Uint32 }

// set reports whether the client is another one than before.
func (b *borrower) set(client uint32) bool {
	if b.client.Load() == client {
		return false
	}
	b.client.Store(client)
	return true
}

// Client returns the id of the client that has the server connection, or had it last; 0 if there was none.
func (f *ServerFacts) Client() uint32 { return f.borrower.client.Load() }
