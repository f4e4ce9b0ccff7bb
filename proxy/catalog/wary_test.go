package catalog

import (
	"testing"

	"github.com/walgate/walgate/router"
)

// TestWary holds that what is not known yet – at first, and when something has been defined – keeps reads of relations on
// the primary, and nothing else.
func TestWary(t *testing.T) {
	set := &Set{cfg: Config{MaxDatabases: 1}, wake: make(chan struct{}, 1), entries: map[string]*Entry{}}
	e := set.Database("app")
	reads := func(sql string) bool {
		return router.Classify([]byte(sql), router.Options{Catalog: e.Load()}).Kind == router.Read
	}
	expect := func(when string, relation, function bool) {
		t.Helper()
		for sql, want := range map[string]bool{
			"select * from orders": relation, "table orders": relation, "select (select max(id) from orders)": relation,
			"select price(1)": function, "select 1, lower('a')": true, "select nextval('s')": false,
		} {
			if got := reads(sql); got != want {
				t.Errorf("%s: %s: a read is %v, want %v", when, sql, got, want)
			}
		}
	}
	expect("at first", false, false)
	e.dirty.Store(false) // a look begins
	e.know(router.NewCatalog(router.Facts{Stable: []string{"price"}}))
	expect("known", true, true)
	e.Defined()
	expect("defined", false, true)
	e.know(e.catalog.Load()) // of a look that began before
	expect("not looked at yet", false, true)
	e.dirty.Store(false)
	e.know(e.catalog.Load())
	expect("known again", true, true)
}
