package auth

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"

	"github.com/walgate/walgate/replication"
)

// Lookup is one source of credentials. The zero Credential means that there is no such role here or that it may not log
// in with a password. An error means that the source could not be asked.
type Lookup interface {
	Credential(ctx context.Context, user string) (Credential, error)
}

// Clock reads the instant that cache ages are counted on.
type Clock func() replication.Instant

// Config bounds the Directory. All fields must be set.
type Config struct {
	Refresh       time.Duration // a cached credential older than this is asked for again before it is used
	Patience      time.Duration // how long a login waits for that when it has an old one to go on with
	LookupTimeout time.Duration // one question to the sources
	MaxEntries    int           // cached roles, unknown ones included
	MaxConcurrent int           // questions at work at the same time
	MockSecret    []byte        // at least 16 random bytes: makes the salts of unknown roles, equal on all proxies if shared
	Iterations    int           // shown for unknown roles; PostgreSQL's scram_iterations (4096)
}

// ErrUnavailable says that a role's verifier is not cached and no server could be asked: SQLSTATE 57P03.
var ErrUnavailable = errors.New("no server can be asked for the role's verifier")

const (
	// outage is how many times Config.Patience an old credential is used without asking, once asking was in vain.
	outage = 10
	// leastAge is how old a cached credential must be before a refused password makes it be asked for again.
	leastAge = 500 * time.Millisecond
)

// Directory knows the credentials of roles. It asks its sources, the first that knows the role counts, whenever what it
// knows is older than Config.Refresh, and answers from its cache when nobody can be asked. It is safe for concurrent
// use.
type Directory struct {
	cfg     Config
	sources []Lookup
	clock   Clock
	flight  singleflight.Group
	slots   *semaphore.Weighted

	mu      sync.Mutex
	entries map[string]entry
	changed replication.Instant // what was known then may have been changed; 0: never
}

type entry struct {
	Account
	expired replication.Instant // a password was refused then: what was known before may be outdated
	inVain  replication.Instant // somebody asked again then, and nobody answered; 0: that is not so
}

// NewDirectory returns an empty Directory.
func NewDirectory(cfg Config, sources []Lookup, clock Clock) (*Directory, error) {
	switch {
	case cfg.Refresh <= 0 || cfg.Patience <= 0 || cfg.LookupTimeout <= 0:
		return nil, errors.New("auth: refresh, patience and lookup timeout must be positive")
	case cfg.MaxEntries <= 0 || cfg.MaxConcurrent <= 0:
		return nil, errors.New("auth: max entries and max concurrent must be positive")
	case len(cfg.MockSecret) < 16:
		return nil, errors.New("auth: mock secret is shorter than 16 bytes")
	case cfg.Iterations <= 0 || len(sources) == 0 || clock == nil:
		return nil, errors.New("auth: iterations, sources and clock must be set")
	}
	return &Directory{
		cfg: cfg, sources: sources, clock: clock, entries: map[string]entry{},
		slots: semaphore.NewWeighted(int64(cfg.MaxConcurrent)),
	}, nil
}

// Ready is Find for a role whose credential is cached and fresh; ok is false when it must be asked for.
func (d *Directory) Ready(user string) (account Account, ok bool) {
	e, _, fresh := d.cached(user, d.clock())
	return e.Account, fresh
}

// Find returns the account of a login that arrives now: as the sources know it, or as they knew it at most
// Config.Refresh ago; when none of them answers, as they knew it last. The error is ErrUnavailable or the context's
// cause.
func (d *Directory) Find(ctx context.Context, user string) (Account, error) {
	arrival := d.clock()
	for {
		e, cached, fresh := d.cached(user, arrival)
		if fresh {
			return e.Account, nil
		}
		// Logins share a question. One that was asked too long before this login arrived is no answer to it; one that was
		// asked since is, whatever changes meanwhile: else no login would end while roles are created one after the other.
		answer := d.flight.DoChan(user, func() (any, error) { return d.ask(context.WithoutCancel(ctx), user) })
		found, err := d.await(ctx, answer, cached)
		switch {
		case err == nil && found.at < arrival && !d.fresh(&found, arrival):
			continue
		case err == nil:
			return found.Account, nil
		case cached:
			if ctx.Err() == nil { // else it was this login that had no time left
				d.later(&e)
			}
			return e.Account, nil
		default:
			return Account{}, err
		}
	}
}

// await waits for the answer: with an old credential at hand not for long.
func (d *Directory) await(ctx context.Context, answer <-chan singleflight.Result, cached bool) (entry, error) {
	if cached {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.cfg.Patience)
		defer cancel()
	}
	select {
	case result := <-answer:
		if result.Err != nil {
			return entry{}, fmt.Errorf("%w: %w", ErrUnavailable, result.Err)
		}
		return result.Val.(entry), nil
	case <-ctx.Done():
		return entry{}, fmt.Errorf("look up credential: %w", context.Cause(ctx))
	}
}

// later lets logins of the role go on with the old credential for a while, unless it has been replaced meanwhile.
func (d *Directory) later(old *entry) {
	now := d.clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.entries[old.User]; ok && e.at == old.at {
		e.inVain = now
		d.entries[old.User] = e
	}
}

// Expire makes the next login of the role ask first, since its password may have changed; not more often than every
// leastAge, so that guessing costs the sources little. The cached credential stays for when nobody answers.
func (d *Directory) Expire(user string) {
	now := d.clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.entries[user]; ok && now.Sub(e.at) > leastAge {
		e.expired = now
		d.entries[user] = e
	}
}

// ExpireAll makes the next login of each role ask first, as Expire does, however new its credential is: roles have been
// changed. Questions under way may have been answered before, and whoever did not answer then may do so now.
func (d *Directory) ExpireAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = d.clock()
}

// cached returns what is known of the role, and whether it need not be asked for again by a login that arrived then.
func (d *Directory) cached(user string, arrival replication.Instant) (e entry, known, fresh bool) {
	d.mu.Lock()
	e, known = d.entries[user]
	changed := d.changed
	d.mu.Unlock()
	spared := e.inVain != 0 && e.inVain >= changed && arrival.Sub(e.inVain) < outage*d.cfg.Patience
	return e, known, known && (spared || d.holds(&e, arrival, changed))
}

// fresh reports whether the entry was asked for recently enough, and not before something is known to have changed.
func (d *Directory) fresh(e *entry, arrival replication.Instant) bool {
	d.mu.Lock()
	changed := d.changed
	d.mu.Unlock()
	return d.holds(e, arrival, changed)
}

// holds is fresh, when roles were changed at that moment last.
func (d *Directory) holds(e *entry, arrival, changed replication.Instant) bool {
	return e.at >= max(changed, e.expired) && arrival.Sub(e.at) <= d.cfg.Refresh
}

// ask looks the role up and caches the answer. Its own timeout ends it, as several logins may share it.
func (d *Directory) ask(ctx context.Context, user string) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.LookupTimeout)
	defer cancel()
	if err := d.slots.Acquire(ctx, 1); err != nil {
		return entry{}, fmt.Errorf("wait for a login slot: %w", err)
	}
	defer d.slots.Release(1)
	asked := d.clock() // before the question: what is changed later is not in the answer
	var credential Credential
	for _, source := range d.sources {
		var err error
		if credential, err = source.Credential(ctx, user); err != nil {
			return entry{}, fmt.Errorf("look up credential: %w", err)
		}
		if credential.Kind != NoCredential {
			break
		}
	}
	d.mu.Lock()
	old := d.entries[user]
	d.mu.Unlock()
	account, err := d.account(user, credential, &old.Account)
	if err != nil {
		return entry{}, err
	}
	account.at = asked
	d.mu.Lock()
	defer d.mu.Unlock()
	before, replaces := d.entries[user]
	if !replaces {
		d.evict()
	}
	e := entry{Account: account, expired: before.expired}
	d.entries[user] = e
	return e, nil
}

// account makes the account of a credential. What costs a key derivation is taken from the old one if that has the same.
func (d *Directory) account(user string, c Credential, old *Account) (Account, error) {
	if old.known && old.Kind == c.Kind && old.text == c.Text {
		return *old, nil
	}
	a := Account{User: user, Kind: c.Kind, text: c.Text, known: c.Kind != NoCredential}
	switch c.Kind {
	case SCRAMCredential:
		a.verifier = c.Verifier
	case PlainCredential:
		var err error
		if a.verifier, err = NewVerifier(c.Text, d.mock(user).Salt, d.cfg.Iterations); err != nil {
			return Account{}, err
		}
	default:
		a.verifier = d.mock(user)
	}
	return a, nil
}

// evict makes room for one entry: unknown roles go first, so that guessing names can't push out real ones.
func (d *Directory) evict() {
	if len(d.entries) < d.cfg.MaxEntries {
		return
	}
	victim, found := "", false
	for user, e := range d.entries { // map order is random, which is what is wanted here
		if !found || !e.known {
			victim, found = user, true
		}
		if !e.known {
			break
		}
	}
	delete(d.entries, victim)
}

// mock makes the verifier of an unknown role: always the same salt for the same name, keys that fit nothing.
func (d *Directory) mock(user string) Verifier {
	seed := sign(d.cfg.MockSecret, []byte("salt"), []byte(user))
	return Verifier{
		Iterations: d.cfg.Iterations, Salt: seed[:16],
		StoredKey: sign(d.cfg.MockSecret, []byte("stored"), []byte(user)),
		ServerKey: sign(d.cfg.MockSecret, []byte("server"), []byte(user)),
	}
}
