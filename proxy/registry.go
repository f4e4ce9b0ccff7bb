package proxy

import (
	"crypto/subtle"
	"sync"

	"github.com/walgate/walgate/proxy/netdriver"
)

// registry is the sessions of a proxy by the process id that their clients know.
type registry struct {
	mu      sync.Mutex
	last    uint32
	entries map[uint32]*member
}

type member struct {
	client *netdriver.Client
	secret []byte // nil before login
}

// enter makes a client with the next free id: a positive int32, as drivers expect of a process id.
func (r *registry) enter(create func(id uint32) *netdriver.Client) *netdriver.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		r.last = r.last%(1<<31-1) + 1
		if r.entries[r.last] == nil {
			break
		}
	}
	c := create(r.last)
	r.entries[r.last] = &member{client: c}
	return c
}

func (r *registry) leave(id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.entries, id)
}

func (r *registry) admit(id uint32, secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.entries[id]; m != nil {
		m.secret = secret
	}
}

// byKey returns the client whose cancel key this is.
func (r *registry) byKey(id uint32, secret []byte) *netdriver.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.entries[id]
	if m == nil || len(m.secret) == 0 || subtle.ConstantTimeCompare(m.secret, secret) != 1 {
		return nil
	}
	return m.client
}

func (r *registry) clients() []*netdriver.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*netdriver.Client, 0, len(r.entries))
	for _, m := range r.entries {
		all = append(all, m.client)
	}
	return all
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}
