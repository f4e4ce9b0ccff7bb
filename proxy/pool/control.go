package pool

import (
	"context"
	"slices"
	"time"

	"github.com/walgate/walgate/replication"
)

// pauses is what an administrator has paused. Guarded by Set.mu.
type pauses struct {
	all       bool
	databases map[string]struct{}
}

func (p *pauses) has(database string) bool {
	_, one := p.databases[database]
	return p.all || one
}

// Pause lets nobody have a server of the database ("": of any) until Resume, and closes those that are free; servers in
// use are closed when they are given back. The returned tickets waited: they must be routed again, and will be refused.
func (s *Set) Pause(database string) []*Ticket {
	return s.changePause(func(p *pauses) {
		if database == "" {
			p.all = true
			return
		}
		if p.databases == nil {
			p.databases = map[string]struct{}{}
		}
		p.databases[database] = struct{}{}
	})
}

// Resume ends the Pause of exactly that database, or of all; false means that there was none. What was refused meanwhile
// must be routed again.
func (s *Set) Resume(database string) bool {
	s.mu.Lock()
	_, was := s.pauses.databases[database]
	if database == "" {
		was = s.pauses.all
	}
	s.mu.Unlock()
	s.changePause(func(p *pauses) {
		if database == "" {
			p.all = false
		} else {
			delete(p.databases, database)
		}
	})
	return was
}

func (s *Set) changePause(change func(*pauses)) (waited []*Ticket) {
	s.mu.Lock()
	change(&s.pauses)
	var all, paused []*Budget
	for _, budgets := range []map[Key]*Budget{s.budgets, s.standby} {
		for key, b := range budgets {
			if s.pauses.has(key.Database) {
				paused = append(paused, b)
			} else {
				all = append(all, b)
			}
		}
	}
	s.mu.Unlock()
	for _, b := range paused {
		waited = append(waited, b.pause(true)...)
	}
	for _, b := range all {
		b.pause(false)
	}
	return waited
}

// pause switches the pause; it returns the tickets that waited.
func (b *Budget) pause(on bool) []*Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paused = on
	if !on {
		return nil
	}
	b.emptyShelf()
	tickets := b.waiting.drain()
	b.restate()
	return tickets
}

// emptyShelf closes the idle servers. Called with mu held.
func (b *Budget) emptyShelf() {
	for _, idle := range b.shelf {
		b.drop(idle)
	}
	b.shelf = nil
	b.settle()
}

// outdate closes the idle servers, and the others when they are given back. Called with mu held.
func (b *Budget) outdate() {
	b.generation++
	b.emptyShelf()
}

// Paused tells what Pause is in force for: all databases, and those named.
func (s *Set) Paused() (all bool, databases []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.pauses.databases {
		databases = append(databases, name)
	}
	slices.Sort(databases)
	return s.pauses.all, databases
}

// Reconnect closes each server connection of the database ("": of all) that is open now, as soon as it is free.
func (s *Set) Reconnect(database string) {
	for _, b := range s.list() {
		if database == "" || b.key.Database == database {
			b.mu.Lock()
			b.outdate()
			b.mu.Unlock()
		}
	}
}

// Wane lets the pools shrink to what sessions use, because another process's grow: a server connection that has been idle
// for a second is closed, whatever the minimum is.
func (s *Set) Wane() { s.waning.Store(true) }

// Drop closes every server connection of the database ("": of all) at once.
func (s *Set) Drop(database string) {
	for _, b := range s.list() {
		if database == "" || b.key.Database == database {
			b.mu.Lock()
			b.outdate()
			for server := range b.all {
				server.shutDown() // its session learns it from the keeper
			}
			b.mu.Unlock()
		}
	}
}

// AwaitNone waits until no server connection that counts is left; ctx ends the wait. Connections that are being opened
// count as fresh ones.
func (s *Set) AwaitNone(ctx context.Context, counts func(ServerInfo) bool) error {
	for {
		_, changed := s.closed.Changed()
		if !slices.ContainsFunc(s.Servers(), counts) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ServerInfo describes a server connection.
type ServerInfo struct {
	Key
	ID        uint64
	Role      replication.Role
	Epoch     replication.Epoch
	Address   Address
	Line      Line
	ProcessID uint32
	State     string // active, idle, being_canceled, closing, or new while it is opened (then only Key and Address are set)
	Age       time.Duration
	// Outdated: it will be closed when it is free.
	Outdated bool
	// Statements that are prepared on it; -1: a session has it, which alone knows.
	Statements int
}

// Servers describes all server connections, in no particular order.
func (s *Set) Servers() []ServerInfo {
	var all []ServerInfo
	now := s.now()
	for _, b := range s.list() {
		b.mu.Lock()
		for server := range b.all {
			all = append(all, b.describe(server, now))
		}
		for range b.dialing {
			all = append(all, ServerInfo{Key: b.key, Role: b.role, Epoch: b.epoch, Address: b.at, State: "new"})
		}
		b.mu.Unlock()
	}
	return all
}

// describe is called with mu held.
func (b *Budget) describe(s *Server, now replication.Instant) ServerInfo {
	info := ServerInfo{
		Key: b.key, ID: s.Facts.ID, Role: b.role, Epoch: b.epoch, Address: s.Address, ProcessID: s.Facts.ProcessID, Line: s.Line,
		Age: now.Sub(s.born), Outdated: b.paused || b.closed || s.generation < b.oldest, Statements: -1,
	}
	switch s.state {
	case serverUsed:
		info.State = "active"
	case serverIdle:
		info.State, info.Statements = "idle", s.Facts.Statements()
	case serverParked:
		info.State = "being_canceled"
	default:
		info.State = "closing"
	}
	return info
}
