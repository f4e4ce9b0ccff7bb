package catalog

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walgate/walgate/replication"
	"github.com/walgate/walgate/router"
)

// Config says whom to ask and how often. All fields but the lists must be set.
type Config struct {
	User, Password string        // walgate_monitor
	Refresh        time.Duration // between two looks at a database that is in use
	Idle           time.Duration // a database for which no session has asked for so long is not looked at
	Gap            time.Duration // after a look that a session asked for, before the next such look
	Timeout        time.Duration // of one look, connecting included
	MaxDatabases   int
	Harmless       []string // functions that run on standbys though they are volatile
	PrimaryOnly    []string // functions that never do
}

// Entry is what is known of one database. Sessions keep it.
type Entry struct {
	set     *Set // nil: nothing is ever known
	catalog atomic.Pointer[router.Catalog]
	used    atomic.Bool // since the last look
	dirty   atomic.Bool
	refused memory
	// wary is given out instead of catalog while something has been defined that it does not know, but not beyond
	// waryUntil (Unix time in ns; 0: nothing of the kind).
	wary      atomic.Pointer[router.Catalog]
	waryUntil atomic.Int64
}

// waryFor bounds how long one definition keeps reads of relations on the primary, should the catalog not be read.
const waryFor = 2 * time.Second

// Load returns the newest Catalog. It is nil when nothing is known, and when nobody has asked for so long that what was
// known may be outdated; functions that are not PostgreSQL's own are writes then. While it is being read, at first and when
// something has been defined, all that reads a relation is a write too. It costs three atomic reads.
func (e *Entry) Load() *router.Catalog {
	known := e.catalog.Load()
	if !e.used.Load() {
		e.used.Store(true)
		if known == nil {
			e.Defined()
		}
	}
	if until := e.waryUntil.Load(); until != 0 && time.Now().UnixNano() < until {
		return e.wary.Load()
	}
	return known
}

// Defined tells that a session may have changed the catalog of the database: it is looked at again at once.
func (e *Entry) Defined() {
	if e.set == nil {
		return
	}
	e.waryUntil.Store(time.Now().Add(waryFor).UnixNano())
	if !e.dirty.Swap(true) {
		e.set.nudge()
	}
}

// know takes what has been found out.
func (e *Entry) know(c *router.Catalog) {
	if e.catalog.Swap(c) != c {
		e.wary.Store(c.Wary())
		e.refused.forget() // what was refused may have changed
	}
	if !e.dirty.Load() { // else something has been defined since it was read
		e.waryUntil.Store(0)
	}
}

// Set keeps the catalogs of all databases in use. It is safe for concurrent use.
type Set struct {
	cfg  Config
	view *replication.Feed[replication.View]
	log  *slog.Logger
	wake chan struct{} // something is dirty or new; capacity 1, never closed

	mu      sync.Mutex
	entries map[string]*Entry
	// unknown is what databases beyond the limit share: nothing is ever known of them.
	unknown Entry
}

// New returns a Set that knows no database; Run fills it.
func New(cfg Config, view *replication.Feed[replication.View], log *slog.Logger) (*Set, error) {
	if cfg.User == "" || cfg.MaxDatabases <= 0 || cfg.Refresh <= 0 || cfg.Idle <= 0 || cfg.Gap <= 0 || cfg.Timeout <= 0 {
		return nil, errors.New("catalog: user, number of databases and times must be set")
	}
	if view == nil || log == nil {
		return nil, errors.New("catalog: a dependency is nil")
	}
	return &Set{cfg: cfg, view: view, log: log, wake: make(chan struct{}, 1), entries: map[string]*Entry{}}, nil
}

// Database returns the entry of a database that a session uses. It does not block.
func (s *Set) Database(name string) *Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[name]
	if e == nil {
		if len(s.entries) >= s.cfg.MaxDatabases {
			return &s.unknown
		}
		e = &Entry{set: s}
		e.wary.Store(router.NewCatalog(router.Facts{}).Wary())
		s.entries[name] = e
	}
	e.Load() // it will be needed
	return e
}

func (s *Set) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run keeps the catalogs fresh until ctx ends.
func (s *Set) Run(ctx context.Context) {
	known := map[string]*look{}
	tick := time.NewTicker(s.cfg.Refresh)
	defer tick.Stop()
	var last time.Time // of a look that was asked for
	for {
		asked := s.wake
		if time.Since(last) < s.cfg.Gap {
			asked = nil
		}
		select {
		case <-tick.C:
			s.round(ctx, known, true)
		case <-asked:
			s.round(ctx, known, false)
			last = time.Now()
		case <-time.After(s.cfg.Gap):
		case <-ctx.Done():
			return
		}
	}
}

// look is what Run remembers of a database.
type look struct {
	catalog     *router.Catalog
	fingerprint string
	unused      time.Duration
	failed      bool
}

// round looks at the databases that are dirty, and at a tick at all that are in use.
func (s *Set) round(ctx context.Context, known map[string]*look, tick bool) {
	view := s.view.Load()
	primary, ok := view.Member(view.Primary)
	if !ok {
		return // dirty ones stay so; the next tick finds them
	}
	for name, e := range s.all() {
		if ctx.Err() != nil {
			return
		}
		k := known[name]
		if k == nil {
			k = &look{}
			known[name] = k
		}
		if tick && !s.inUse(e, k) || !tick && !e.dirty.Load() {
			continue
		}
		e.dirty.Store(false) // before the look: what is defined meanwhile makes another one
		if err := s.look(ctx, primary, name, k); err != nil {
			e.dirty.Store(true)
			e.waryUntil.Store(0)
			if !k.failed && ctx.Err() == nil {
				s.log.Warn("catalog not read", "database", name, "error", err)
			}
			k.failed = true
			continue
		}
		k.failed = false
		e.know(k.catalog)
	}
}

// inUse reports whether sessions still ask for the database. When they have not for long, what is known of it is put
// away, since nobody keeps it fresh.
func (s *Set) inUse(e *Entry, k *look) bool {
	if e.used.Swap(false) || e.dirty.Load() {
		k.unused = 0
		return true
	}
	if k.unused += s.cfg.Refresh; k.unused > s.cfg.Idle {
		e.catalog.Store(nil)
		return false
	}
	return true
}

func (s *Set) look(ctx context.Context, primary replication.Member, database string, k *look) error {
	a, fingerprint, changed, err := s.read(ctx, primary, database, k.fingerprint)
	if err != nil || !changed {
		return err
	}
	k.catalog, k.fingerprint = build(a, s.cfg.Harmless, s.cfg.PrimaryOnly), fingerprint
	s.log.Debug("catalog read", "database", database, "functions", len(a.functions), "views", len(a.expansions))
	return nil
}

func (s *Set) all() map[string]*Entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.entries)
}
