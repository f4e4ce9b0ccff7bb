package catalog

import (
	"strings"

	"github.com/walgate/walgate/router"
)

// answers is what one database said; see the questions.
type answers struct {
	functions  []function
	uses       []use
	columns    []typeColumns
	impure     []string
	expansions []expansion
}

type function struct {
	oid, name          string
	volatile, asColumn bool
	definition         string
}

// use is something that stands for a function.
type use struct{ kind, name, function, concerned string }

// typeColumns is a type and the relations that have columns of it.
type typeColumns struct {
	oid, name string
	domain    bool
	relations []string
}

// expansion is a name that stands for a text: a view and its query, say. domain is the oid of one.
type expansion struct{ name, text, domain string }

func splitNames(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, "/")
}

// builder finds out what is impure, in rounds: functions are made of functions, views lie upon views.
type builder struct {
	facts   router.Facts
	left    answers         // what is not known to be impure
	tainted map[string]bool // functions, by oid, and types
}

// build makes the Catalog. The texts behind names are judged as any statement is, and what functions are declared to be
// is believed only if their definition does not speak against it.
func build(a answers, harmless, primaryOnly []string) *router.Catalog {
	b := builder{left: a, tainted: map[string]bool{"0": true}}
	b.facts = router.Facts{Impure: a.impure, Harmless: harmless, PrimaryOnly: primaryOnly}
	var stable []function
	for _, f := range a.functions {
		if f.volatile {
			b.addFunction(f)
		} else {
			stable = append(stable, f)
			b.facts.Stable = append(b.facts.Stable, f.name)
		}
	}
	for _, u := range a.uses { // so that aggregates are known at all; one that is not pure is taken back
		if u.kind == "a" {
			b.facts.Stable = append(b.facts.Stable, u.name)
		}
	}
	b.left.functions = stable
	for {
		catalog := router.NewCatalog(b.facts)
		if !b.round(catalog) {
			return catalog
		}
	}
}

func (b *builder) addFunction(f function) {
	b.tainted[f.oid] = true
	b.facts.Volatile = append(b.facts.Volatile, f.name)
	if f.asColumn {
		b.facts.Impure = append(b.facts.Impure, f.name)
	}
}

// round moves what turns out to be impure out of what is left; it reports whether there was any.
func (b *builder) round(catalog *router.Catalog) (found bool) {
	left := &b.left
	left.functions = keep(left.functions, func(f function) bool { return !catalog.Mentions([]byte(f.definition)) },
		b.addFunction, &found)
	left.expansions = keep(left.expansions, func(e expansion) bool {
		return router.Classify([]byte(e.text), router.Options{Catalog: catalog}).Kind == router.Read
	}, func(e expansion) {
		b.facts.Impure = append(b.facts.Impure, e.name)
		b.tainted["domain "+e.domain] = true
	}, &found)
	left.uses = keep(left.uses, func(u use) bool { return !b.tainted[u.function] }, b.addUse, &found)
	left.columns = keep(left.columns, func(t typeColumns) bool { return !b.tainted["type "+t.oid] }, func(t typeColumns) {
		b.facts.Impure = append(append(b.facts.Impure, t.name), t.relations...)
	}, &found)
	for _, t := range left.columns {
		if t.domain && b.tainted["domain "+t.oid] { // its checks run when a row is made, not when it is read
			b.facts.ImpureTypes = append(b.facts.ImpureTypes, t.relations...)
			delete(b.tainted, "domain "+t.oid)
			found = true
		}
	}
	return found
}

func (b *builder) addUse(u use) {
	switch u.kind {
	case "o":
		b.facts.Operators = append(b.facts.Operators, u.name)
	case "a":
		b.facts.Volatile = append(b.facts.Volatile, u.name)
	case "t":
		b.facts.Impure = append(b.facts.Impure, u.name)
	}
	b.tainted["type "+u.concerned] = true
}

// keep returns those of list that are pure, and hands the others over.
func keep[T any](list []T, pure func(T) bool, impure func(T), found *bool) (kept []T) {
	for _, one := range list {
		if pure(one) {
			kept = append(kept, one)
		} else {
			impure(one)
			*found = true
		}
	}
	return kept
}
