package router

import "testing"

// shop is the catalog of a database with functions, views and operators of its own.
var shop = NewCatalog(Facts{
	Volatile:    []string{"refill", "lower", "Mixed", "mixed_up", "left", "nextval"},
	Stable:      []string{"price", "similarity", "Quoted", "mixed_up_not", "pg_advisory_lock", "audit"},
	Impure:      []string{"v_refill", "Remote", "sessions"},
	Operators:   []string{"=!="},
	Harmless:    []string{"refill_log", "txid_current", "nextval", "pg_advisory_unlock"},
	PrimaryOnly: []string{"audit", "price_now", "upper"},
})

func TestCatalog(t *testing.T) {
	tests := []struct {
		sql  string
		want Kind
	}{
		{"select price(1)", Read},
		{"select shop.price(1), PRICE(2)", Read},
		{`select "price"(1), a.b.price(1)`, Read},
		{`select "PRICE"(1)`, Write},
		{`select "Quoted"(1)`, Read},
		{"select quoted(1)", Write},
		{"select similarity('a', 'b') from t where price(a) > 1", Read},
		{"select unknown_one(1)", Write},
		{"select refill(1)", Write},
		{"select lower('a')", Write},           // some overload of that name is volatile
		{"select pg_catalog.lower('a')", Read}, // this one is PostgreSQL's own
		{"select left('abc', 1)", Write},       // a keyword to the table of syntax, but also a function here
		{"select a from t left join u using (b)", Read},
		{"select pg_advisory_lock(1)", Write}, // PostgreSQL's own keeps its meaning
		{"select refill_log(1)", Read},
		{"select txid_current()", Read},
		{"select nextval('s')", Write}, // declared harmless, but the session must know of it
		{"select audit(1)", Write},
		{"select upper('a')", Write},
		{"select * from v_refill", Write},
		{"select * from shop.V_REFILL v", Write},
		{`select * from "v_refill"`, Write},
		{"select * from remote", Read},
		{`select * from "Remote"`, Write},
		{`select * from U&"v\005frefill"`, Write},
		{`select a."" from t`, Write},
		{"select s.id from sessions as s", Write},
		{"copy (select * from sessions) to stdout", Write},
		{"copy sessions to stdout", Write},
		{"copy shop.sessions (a, b) to stdout", Write},
		{"copy shop.orders (a, b) to stdout", Read},
		{"select a =!= b from t", Write},
		{"select a = b from t", Read},
		{"explain select * from v_refill", Write},
	}
	for _, test := range tests {
		if got := Classify([]byte(test.sql), Options{Catalog: shop}).Kind; got != test.want {
			t.Errorf("%s: got a %v, want a %v", test.sql, got, test.want)
		}
	}
}

// TestCatalogFlags holds that what the operator says of a function never hides what it leaves on a connection.
func TestCatalogFlags(t *testing.T) {
	for sql, want := range map[string]Flags{
		"select pg_advisory_unlock(1)": PinAdvisoryLock,
		"select refill(1)":             Opaque,
		"select price(1)":              0,
	} {
		if got := Classify([]byte(sql), Options{Catalog: shop}).Flags; got&(Pins|Opaque) != want {
			t.Errorf("%s: got flags %b, want %b", sql, got, want)
		}
	}
}

func TestClassifyWithCatalogAllocates0(t *testing.T) {
	sql := []byte("select price(a), lower(b), s.id from orders o left join items s using (id) where o.id = $1")
	if n := testing.AllocsPerRun(100, func() { Classify(sql, Options{Catalog: shop}) }); n != 0 {
		t.Errorf("got %v allocations per statement, want none", n)
	}
}

// TestImplicitOperators holds that words of SQL count as the operators that they stand for.
func TestImplicitOperators(t *testing.T) {
	for symbol, sqls := range map[string][]string{
		"=":   {"select a = b", "select a in (b)", "select nullif(a, b)", "select case a when b then c end", "select * from t natural join u", "select * from t join u using (a)"},
		"<>":  {"select a != b", "select a <> b", "select a is distinct from b"},
		"~~":  {"select a like b", "select a not like b"},
		"~~*": {"select a ilike b"},
		">=":  {"select a between b and c"},
	} {
		opts := Options{Catalog: NewCatalog(Facts{Operators: []string{symbol}})}
		for _, sql := range sqls {
			if Classify([]byte(sql), opts).Kind != Write {
				t.Errorf("operator %s: %s: got a read", symbol, sql)
			}
		}
		if sql := "select a < b, lower(c) from t where d is null"; Classify([]byte(sql), opts).Kind != Read {
			t.Errorf("operator %s: %s: got a write", symbol, sql)
		}
	}
}

func TestMentions(t *testing.T) {
	for text, want := range map[string]bool{
		"select price(1) from orders":                   false,
		"begin return current_setting('a.b'); end":      false,
		"as $function$select 1 from sessions$function$": true,
		"execute 'select NEXTVAL(1)'":                   true,
		"select refill()":                               true,
		"my_refill()":                                   false,
		"select * from \"Remote\"":                      true,
		"select * from remote":                          false,
		"from pg_stat_activity":                         true,
	} {
		if got := shop.Mentions([]byte(text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}
