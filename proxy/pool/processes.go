package pool

import "github.com/walgate/walgate/replication"

// ServerOf implements session.Processes.
func (s *Set) ServerOf(node replication.NodeID, client uint32) (process uint32) {
	s.eachServer(node, func(server *Server) bool {
		if server.state == serverUsed && server.Facts.Client() == client {
			process = server.Facts.ProcessID
		}
		return process == 0
	})
	return process
}

// ClientOf implements session.Processes.
func (s *Set) ClientOf(node replication.NodeID, process uint32) (client uint32) {
	s.eachServer(node, func(server *Server) bool {
		if server.Facts.ProcessID == process && server.state != serverGone {
			client = server.Facts.Client()
		}
		return client == 0
	})
	return client
}

// eachServer calls yield for the server connections of a node, with the lock of their budget held, until it returns false.
func (s *Set) eachServer(node replication.NodeID, yield func(*Server) bool) {
	for _, b := range s.list() {
		if b.key.Node == node && !b.each(yield) {
			return
		}
	}
}

func (b *Budget) each(yield func(*Server) bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	for server := range b.all {
		if !yield(server) {
			return false
		}
	}
	return true
}
