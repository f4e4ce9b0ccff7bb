package session

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/walgate/walgate/proxy/wire"
	"github.com/walgate/walgate/router"
)

// sharedCatalog is a Catalog that tests publish.
type sharedCatalog struct {
	catalog atomic.Pointer[router.Catalog]
	defined int
	refused map[uint64]bool
}

func (c *sharedCatalog) Load() *router.Catalog { return c.catalog.Load() }
func (c *sharedCatalog) Defined()              { c.defined++ }
func (c *sharedCatalog) Refuses() bool         { return len(c.refused) > 0 }

func (c *sharedCatalog) Refused(fingerprint uint64) bool { return c.refused[fingerprint] }

func (c *sharedCatalog) Refuse(fingerprint uint64) {
	if c.refused == nil {
		c.refused = map[uint64]bool{}
	}
	c.refused[fingerprint] = true
}

// TestCatalogDecides holds that a session uses the newest catalog for every turn, for statements too that were prepared
// under an older one.
func TestCatalogDecides(t *testing.T) {
	r := newRig(t)
	shared := &sharedCatalog{}
	r.s.catalog = shared
	execute := func(name string) []byte {
		b := wire.AppendBindHeader(nil, "", name, 6)
		b = append(b, 0, 0, 0, 0, 0, 0)
		b = append(b, 'E', 0, 0, 0, 9, 0, 0, 0, 0, 0)
		return wire.AppendEmpty(b, 'S')
	}
	needs := func() (needs []string) {
		r.trail = nil
		r.query("select price(1)")
		r.send(append(wire.AppendParse(nil, "", "select price(2)", []byte{0, 0}), execute("")...))
		r.send(execute("p"))
		for _, step := range r.trail {
			if need, ok := strings.CutPrefix(step, "need "); ok {
				needs = append(needs, need)
			}
		}
		return needs
	}
	r.send(append(wire.AppendParse(nil, "p", "select price(3)", []byte{0, 0}), execute("p")...))
	if got := needs(); !slices.Equal(got, []string{"write", "write", "write"}) {
		t.Errorf("nothing is known: needs %v", got)
	}
	shared.catalog.Store(router.NewCatalog(router.Facts{Stable: []string{"price"}}))
	if got := needs(); !slices.Equal(got, []string{"read", "read", "read"}) {
		t.Errorf("price is known to be stable: needs %v", got)
	}
	shared.catalog.Store(router.NewCatalog(router.Facts{Volatile: []string{"price"}}))
	if got := needs(); !slices.Equal(got, []string{"write", "write", "write"}) {
		t.Errorf("price has become volatile: needs %v", got)
	}
}

// TestDefined holds which command tags make a session ask for a fresh catalog.
func TestDefined(t *testing.T) {
	for tag, want := range map[string]bool{
		"CREATE FUNCTION": true, "ALTER FUNCTION": true, "DROP VIEW": true, "CREATE EXTENSION": true, "DO": true, "CALL": true,
		"CREATE TABLE": false, "DROP TABLE": false, "CREATE TABLE AS": false, "DELETE 1": false, "COPY 2": false, "SELECT 1": false,
		"COMMIT": false, "": false, "DROP": false, "INSERT 0 1": false,
	} {
		if got := defines([]byte(tag)); got != want {
			t.Errorf("%q: got %v", tag, got)
		}
	}
}

// TestDefinedAtTheEnd holds that a definition counts when its transaction is over: before, nobody else can see it.
func TestDefinedAtTheEnd(t *testing.T) {
	r := newRig(t)
	shared := &sharedCatalog{}
	r.s.catalog = shared
	r.query("begin")
	r.query("do $$ begin perform define_things(); end $$")
	if shared.defined != 0 {
		t.Error("told before the transaction's end")
	}
	r.query("commit")
	if shared.defined != 1 {
		t.Errorf("told %d times", shared.defined)
	}
}
