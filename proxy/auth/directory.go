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

// Lookup asks the cluster for a role's verifier (pg_authid.rolpassword); an empty text means that there is no such role
// or that it may not log in with a password. An error means that nobody could be asked.
type Lookup interface {
	Verifier(ctx context.Context, user string) (string, error)
}

// Clock reads the instant that cache ages are counted on.
type Clock func() replication.Instant

// Config bounds the Directory. All fields must be set.
type Config struct {
	Refresh       time.Duration // a cached verifier older than this is asked for again before it is used
	LookupTimeout time.Duration // one question to the cluster
	MaxEntries    int           // cached roles, unknown ones included
	MaxConcurrent int           // questions at work at the same time
	MockSecret    []byte        // at least 16 random bytes: makes the salts of unknown roles, equal on all proxies if shared
	Iterations    int           // shown for unknown roles; PostgreSQL's scram_iterations (4096)
}

// ErrUnavailable says that a role's verifier is not cached and no server could be asked: SQLSTATE 57P03.
var ErrUnavailable = errors.New("no server can be asked for the role's verifier")

// Directory knows the verifiers of the cluster's roles. It asks when what it knows is old and answers from its cache
// when nobody can be asked. It is safe for concurrent use.
type Directory struct {
	cfg    Config
	lookup Lookup
	clock  Clock
	flight singleflight.Group
	slots  *semaphore.Weighted

	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	verifier Verifier
	known    bool
	at       replication.Instant
}

// NewDirectory returns an empty Directory.
func NewDirectory(cfg Config, lookup Lookup, clock Clock) (*Directory, error) {
	switch {
	case cfg.Refresh <= 0 || cfg.LookupTimeout <= 0:
		return nil, errors.New("auth: refresh and lookup timeout must be positive")
	case cfg.MaxEntries <= 0 || cfg.MaxConcurrent <= 0:
		return nil, errors.New("auth: max entries and max concurrent must be positive")
	case len(cfg.MockSecret) < 16:
		return nil, errors.New("auth: mock secret is shorter than 16 bytes")
	case cfg.Iterations <= 0 || lookup == nil || clock == nil:
		return nil, errors.New("auth: iterations, lookup and clock must be set")
	}
	return &Directory{
		cfg: cfg, lookup: lookup, clock: clock, entries: map[string]entry{},
		slots: semaphore.NewWeighted(int64(cfg.MaxConcurrent)),
	}, nil
}

// Ready is Begin for a role whose verifier is cached and fresh; ok is false when it must be asked for.
func (d *Directory) Ready(user string) (exchange *Exchange, ok bool) {
	e, _, fresh := d.cached(user)
	if !fresh {
		return nil, false
	}
	return d.exchange(user, e), true
}

// Begin starts the exchange of a login. Unknown roles, and roles without a SCRAM verifier, get one that runs alike and
// denies. The error is ErrUnavailable or the context's cause.
func (d *Directory) Begin(ctx context.Context, user string) (*Exchange, error) {
	e, err := d.find(ctx, user)
	if err != nil {
		return nil, err
	}
	return d.exchange(user, e), nil
}

func (d *Directory) exchange(user string, e entry) *Exchange {
	if !e.known {
		return newExchange(d.mock(user), false)
	}
	return newExchange(e.verifier, true)
}

// Final runs the exchange's last step: a few hashes, no key derivation. A denied proof makes the next login ask the
// cluster again, as the password may have changed.
func (d *Directory) Final(user string, exchange *Exchange, message []byte) ([]byte, Keys, error) {
	final, keys, err := exchange.Final(message)
	if errors.Is(err, ErrDenied) {
		d.Expire(user)
	}
	return final, keys, err
}

// Expire makes the next login of the role ask the cluster first; the cached verifier stays for when nobody answers.
func (d *Directory) Expire(user string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e, ok := d.entries[user]; ok {
		e.at = 0
		d.entries[user] = e
	}
}

// find returns the role's entry: fresh from the cache, else asked for, else old from the cache.
func (d *Directory) find(ctx context.Context, user string) (entry, error) {
	e, cached, fresh := d.cached(user)
	if fresh {
		return e, nil
	}
	answer := d.flight.DoChan(user, func() (any, error) { return d.ask(context.WithoutCancel(ctx), user) })
	select {
	case result := <-answer:
		if result.Err == nil {
			return result.Val.(entry), nil
		}
		if cached {
			return e, nil
		}
		return entry{}, fmt.Errorf("%w: %w", ErrUnavailable, result.Err)
	case <-ctx.Done():
		if cached {
			return e, nil
		}
		return entry{}, fmt.Errorf("look up verifier: %w", context.Cause(ctx))
	}
}

// cached returns what is known of the role, and whether it need not be asked for again.
func (d *Directory) cached(user string) (e entry, known, fresh bool) {
	d.mu.Lock()
	e, known = d.entries[user]
	d.mu.Unlock()
	return e, known, known && e.at != 0 && d.clock().Sub(e.at) < d.cfg.Refresh
}

// ask looks the role up and caches the answer. Its own timeout ends it, as several logins may share it.
func (d *Directory) ask(ctx context.Context, user string) (entry, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.LookupTimeout)
	defer cancel()
	if err := d.slots.Acquire(ctx, 1); err != nil {
		return entry{}, fmt.Errorf("wait for a login slot: %w", err)
	}
	defer d.slots.Release(1)
	text, err := d.lookup.Verifier(ctx, user)
	if err != nil {
		return entry{}, fmt.Errorf("look up verifier: %w", err)
	}
	e := entry{at: d.clock()}
	if verifier, err := ParseVerifier(text); err == nil {
		e.verifier, e.known = verifier, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.evict()
	d.entries[user] = e
	return e, nil
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
