package proxy

import (
	"context"
	"crypto/subtle"
	"maps"
	mathrand "math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"github.com/walgate/walgate/proxy/session"
	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/replication/boottime"
)

// registry is the clients of a proxy by the process id that they know, with the driver that serves each.
type registry struct {
	mu  sync.Mutex
	max int
	// Limits of those that have not logged in; maxFrom (of one address) may be 0: none.
	maxLogins, maxFrom int

	last    uint32
	entries map[uint32]member
	drivers []driver          // which members name by the place here
	secrets map[uint32]string // cancel keys that are too long for a member
	seats   map[place]*seat   // of those that are logged in
	admins  int               // of those in entries: clients of the console
	// Those that are logged in, by database and by user.
	databases, users map[string]int
	// Those that have not logged in, with their addresses (zero: a unix socket), and how many there are of each.
	knocking map[uint32]netip.Addr
	from     map[netip.Addr]int

	gone sync.Cond // of mu: an entry was removed, or turned out to be an administrator's
}

// member is one client. There may be many thousands that do nothing: it is small.
type member struct {
	seat   *seat // nil before login, and for clients of the console
	since  replication.Instant
	secret [4]byte // the cancel key of protocol 3.0
	driver uint8
	keyed  bool // it has logged in
	long   bool // its cancel key is in registry.secrets instead
	admin  bool // a client of the console
}

// seat counts the clients of one database and user.
type seat struct {
	place
	clients int
}

func newRegistry(limit, logins, from int) *registry {
	r := &registry{
		last: firstID(), entries: map[uint32]member{}, secrets: map[uint32]string{},
		knocking: map[uint32]netip.Addr{}, from: map[netip.Addr]int{},
		seats: map[place]*seat{}, databases: map[string]int{}, users: map[string]int{},
	}
	r.gone.L = &r.mu
	r.limit(limit, logins, from)
	return r
}

// limit says how many clients there may be, and how many of them that have not logged in; those that are there stay.
func (r *registry) limit(clients, logins, from int) {
	if logins == 0 {
		logins = (clients*3 + 3) / 4
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.max, r.maxLogins, r.maxFrom = clients, logins, from
}

// firstID returns a random id, so that those of several proxies hardly meet.
func firstID() uint32 {
	return session.MinProcessID + mathrand.Uint32N(idCount)
}

// idCount is how many ids there are: they are positive int32s, as drivers expect of a process id.
const idCount = 1<<31 - session.MinProcessID

// enter gives a client of the driver the next free id. full is the key of the limit that does not let it in.
func (r *registry) enter(d driver, from netip.Addr) (id uint32, full string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.entries) >= r.max:
		return 0, "proxy.max_clients"
	case len(r.knocking) >= r.maxLogins:
		return 0, "proxy.limits.logins"
	case r.maxFrom > 0 && from.IsValid() && r.from[from] >= r.maxFrom:
		return 0, "proxy.limits.address_logins"
	}
	for {
		r.last = session.MinProcessID + (r.last-session.MinProcessID+1)%idCount
		if _, taken := r.entries[r.last]; !taken {
			break
		}
	}
	r.entries[r.last] = member{driver: r.place(d), since: boottime.Now()}
	r.knocking[r.last] = from
	r.from[from]++
	return r.last, ""
}

// place returns what members call the driver. Called with mu held.
func (r *registry) place(d driver) uint8 {
	at := slices.Index(r.drivers, d)
	if at < 0 {
		at = len(r.drivers)
		r.drivers = append(r.drivers, d)
	}
	return uint8(at)
}

// knocked notes that a client has logged in, or has left without. Called with mu held.
func (r *registry) knocked(id uint32) {
	if from, ok := r.knocking[id]; ok {
		delete(r.knocking, id)
		less(r.from, from)
	}
}

// key notes the cancel key of a client that has logged in. Called with mu held.
func (r *registry) key(id uint32, m member, secret []byte) {
	m.keyed, m.long = true, len(secret) != len(m.secret)
	if m.long {
		r.secrets[id] = string(secret)
	} else {
		m.secret = [4]byte(secret)
	}
	r.entries[id] = m
	r.knocked(id)
}

// pass notes that another driver serves the client from now on.
func (r *registry) pass(id uint32, d driver) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.entries[id]; ok {
		m.driver = r.place(d)
		r.entries[id] = m
	}
}

// leave forgets a client.
func (r *registry) leave(id uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.entries[id]
	s := m.seat
	r.knocked(id)
	delete(r.entries, id)
	if m.long {
		delete(r.secrets, id)
	}
	defer r.gone.Broadcast()
	if m.admin {
		r.admins--
	}
	if s == nil {
		return
	}
	if s.clients--; s.clients == 0 {
		delete(r.seats, s.place)
	}
	less(r.databases, s.database)
	less(r.users, s.user)
}

func less[K comparable](counts map[K]int, name K) {
	if counts[name]--; counts[name] == 0 {
		delete(counts, name)
	}
}

// admit notes the cancel key of a client that has logged in, unless its database or user has as many clients as the rule
// allows.
func (r *registry) admit(id uint32, secret []byte, at place, rule *PoolRule) *session.Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failure := r.full(at, rule); failure != nil {
		return failure
	}
	m, ok := r.entries[id]
	if !ok {
		return nil
	}
	s := r.seats[at]
	if s == nil {
		s = &seat{place: at}
		r.seats[at] = s
	}
	s.clients++
	r.databases[at.database]++
	r.users[at.user]++
	m.seat = s
	r.key(id, m, secret)
	return nil
}

// admitConsole notes the cancel key of a client of the console.
func (r *registry) admitConsole(id uint32, secret []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m, ok := r.entries[id]; ok {
		m.admin = true
		r.key(id, m, secret)
		r.admins++
		r.gone.Broadcast()
	}
}

// since returns when the clients came.
func (r *registry) since() map[uint32]replication.Instant {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[uint32]replication.Instant, len(r.entries))
	for id, m := range r.entries {
		all[id] = m.since
	}
	return all
}

// room says why no further client may come there; nil lets it.
func (r *registry) room(at place, rule *PoolRule) *session.Failure {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.full(at, rule)
}

// full is room. Called with mu held.
func (r *registry) full(at place, rule *PoolRule) *session.Failure {
	switch {
	case rule.DatabaseClients > 0 && r.databases[at.database] >= rule.DatabaseClients:
		return tooMany("database", at.database, rule.DatabaseClients, "max_database_clients")
	case rule.UserClients > 0 && r.users[at.user] >= rule.UserClients:
		return tooMany("user", at.user, rule.UserClients, "max_user_clients")
	}
	return nil
}

// places returns how many clients are logged in, by database and user.
func (r *registry) places() map[place]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[place]int, len(r.seats))
	for at, s := range r.seats {
		all[at] = s.clients
	}
	return all
}

// clientCounts returns how many clients are logged in, by database and by user.
func (r *registry) clientCounts() (databases, users map[string]int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.databases), maps.Clone(r.users)
}

// awaitDrained waits until nobody but clients of the console is there, not even at the login; ctx ends the wait.
func (r *registry) awaitDrained(ctx context.Context) error {
	return r.await(ctx, func() bool { return len(r.entries) == r.admins })
}

// await waits until the condition, which is looked at with mu held, is true; ctx ends the wait.
func (r *registry) await(ctx context.Context, met func() bool) error {
	stop := context.AfterFunc(ctx, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.gone.Broadcast()
	})
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for !met() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.gone.Wait()
	}
	return nil
}

// byKey returns the driver of the client whose cancel key this is, nil if there is none.
func (r *registry) byKey(id uint32, secret []byte) driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.entries[id]
	own := m.secret[:]
	if m.long {
		own = []byte(r.secrets[id])
	}
	if !m.keyed || subtle.ConstantTimeCompare(own, secret) != 1 {
		return nil
	}
	return r.drivers[m.driver]
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
