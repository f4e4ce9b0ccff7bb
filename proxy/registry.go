package proxy

import (
	"crypto/subtle"
	"sync"
)

// registry is the clients of a proxy by the process id that they know, with the driver that serves each.
type registry struct {
	max int

	mu      sync.Mutex
	last    uint32
	entries map[uint32]member
	gone    sync.Cond // of mu: an entry was removed
}

type member struct {
	driver driver
	secret string // empty before login
}

func newRegistry(limit int) *registry {
	r := &registry{max: limit, entries: map[uint32]member{}}
	r.gone.L = &r.mu
	return r
}

// enter gives a client of the driver the next free id: a positive int32, as drivers expect of a process id. ok is false
// when there are too many.
func (r *registry) enter(d driver) (id uint32, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) >= r.max {
		return 0, false
	}
	for {
		r.last = r.last%(1<<31-1) + 1
		if _, taken := r.entries[r.last]; !taken {
			break
		}
	}
	r.entries[r.last] = member{driver: d}
	return r.last, true
}

// leave forgets a client.
func (r *registry) leave(id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries, id)
	r.gone.Broadcast()
}

// admit notes the cancel key of a client that has logged in.
func (r *registry) admit(id uint32, secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.entries[id]; ok {
		m.secret = string(secret)
		r.entries[id] = m
	}
}

// byKey returns the driver of the client whose cancel key this is, nil if there is none.
func (r *registry) byKey(id uint32, secret []byte) driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.entries[id]
	if len(m.secret) == 0 || subtle.ConstantTimeCompare([]byte(m.secret), secret) != 1 {
		return nil
	}
	return m.driver
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

// wait returns when no client is left.
func (r *registry) wait() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.entries) > 0 {
		r.gone.Wait()
	}
}
