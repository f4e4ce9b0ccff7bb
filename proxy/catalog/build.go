package catalog

import "github.com/walgate/walgate/router"

// expansion is a name that stands for a text: a view and its query, say.
type expansion struct{ name, text string }

// answers is what one database said.
type answers struct {
	functions  []function
	impure     []string
	operators  []string
	expansions []expansion
}

type function struct {
	name               string
	volatile, asColumn bool
}

// build makes the Catalog. The texts behind names are judged as any statement is; since views lie upon views, again and
// again until no more of them turn out to be impure.
func build(a answers, harmless, primaryOnly []string) *router.Catalog {
	facts := router.Facts{Impure: a.impure, Operators: a.operators, Harmless: harmless, PrimaryOnly: primaryOnly}
	for _, f := range a.functions {
		if !f.volatile {
			facts.Stable = append(facts.Stable, f.name)
			continue
		}
		facts.Volatile = append(facts.Volatile, f.name)
		if f.asColumn {
			facts.Impure = append(facts.Impure, f.name)
		}
	}
	left := a.expansions
	for {
		catalog := router.NewCatalog(facts)
		var pure []expansion
		for _, e := range left {
			if router.Classify([]byte(e.text), router.Options{Catalog: catalog}).Kind == router.Read {
				pure = append(pure, e)
			} else {
				facts.Impure = append(facts.Impure, e.name)
			}
		}
		if len(pure) == len(left) {
			return catalog
		}
		left = pure
	}
}
