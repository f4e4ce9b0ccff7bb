package router

import (
	"strings"
	"testing"
)

// TestQuickCalls holds that the quick way and the long way, which a comment enforces, tell the same of every name, however
// it is spelled and whatever the database says of it.
func TestQuickCalls(t *testing.T) {
	quick := 0
	names := []string{"no_such_function", "x", "Größe", "counT", "t", "orders", strings.Repeat("long", 20)}
	for name := range functions {
		names = append(names, name)
		if ownQuick([]byte(name)) {
			quick++
		}
	}
	if quick < 1200 { // the others share their slots
		t.Errorf("only %d names are quick", quick)
	}
	for name := range strings.FieldsSeq(commonCalls) {
		if !(*Catalog)(nil).callsQuick([]byte(name)) {
			t.Errorf("%s is not quick", name)
		}
	}
	knows := NewCatalog(Facts{Volatile: []string{"count", "lower"}, Stable: []string{"orders"}, PrimaryOnly: []string{"now", "in"}})
	for _, name := range names {
		for _, catalog := range []*Catalog{nil, NewCatalog(Facts{}), NewCatalog(Facts{Volatile: []string{name}}), knows} {
			opts := Options{Catalog: catalog}
			for _, spelling := range []string{name, strings.ToUpper(name), "pg_catalog." + name, "other." + name, `"` + name + `"`, "a.b." + name, "PG_Catalog." + name} {
				for _, context := range []string{"select ", "select 1, ", "insert into ", "select * from t as ", "select x "} {
					short := Classify([]byte(context+spelling+"(1) from t"), opts)
					long := Classify([]byte(context+spelling+"/**/(1) from t"), opts)
					if short.Kind != long.Kind || short.Flags != long.Flags || short.Command != long.Command {
						t.Fatalf("%s%s(1): %+v, the long way %+v", context, spelling, short, long)
					}
				}
			}
		}
	}
}

// TestNotable holds that isNotable and the table agree on bodyWord's keywords.
func TestNotable(t *testing.T) {
	for _, word := range []string{"insert", "into", "update", "delete", "merge", "share", "temp", "temporary", "operator", "execute", "cmin", "cmax"} {
		for _, w := range []string{word, strings.ToUpper(word)} {
			if !isNotable([]byte(w)) || notable[w[0]]>>len(w)&1 == 0 {
				t.Errorf("%s means nothing", w)
			}
			if other := w[:len(w)-1] + "_"; isNotable([]byte(other)) {
				t.Errorf("%s means something", other)
			}
		}
	}
}
