package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/walgate/walgate/router"
	"github.com/walgate/walgate/router/corpus"
)

// samples are arguments for functions, by type; others are null.
var samples = map[string]string{
	"boolean": "true", "bytea": `'\x0102'`, `"char"`: "'r'", "name": "'public'", "bigint": "5", "smallint": "2", "integer": "5",
	"text": "'a'", "oid": "'customers'::regclass", "regclass": "'customers'", "tid": "'(0,1)'", "xid": "'700'", "cid": "'1'", "xid8": "'700'",
	"json": `'{"a":[1]}'`, "jsonb": `'{"a":[1]}'`, "xml": "'<a/>'", "point": "'(1,2)'", "lseg": "'[(0,0),(1,1)]'", "path": "'((0,0),(1,1))'",
	"box": "'(1,1),(0,0)'", "polygon": "'((0,0),(1,1),(1,0))'", "line": "'{1,2,3}'", "circle": "'<(0,0),1>'", "real": "1.5",
	"double precision": "0.005", "money": "'5'", "macaddr": "'08:00:2b:01:02:03'", "macaddr8": "'08:00:2b:01:02:03:04:05'",
	"inet": "'10.0.0.1/8'", "cidr": "'10.0.0.0/8'", "character": "'a'", "character varying": "'a'", "date": "'2024-01-05'",
	"time without time zone": "'10:00'", "timestamp without time zone": "'2024-01-05 10:00'", "timestamp with time zone": "'2024-01-05 10:00+00'",
	"interval": "'1 ms'", "time with time zone": "'10:00+00'", "bit": "B'1'", "bit varying": "B'101'", "numeric": "2.5", "uuid": "'11111111-1111-1111-1111-111111111111'",
	"pg_lsn": "'0/1000000'", "tsvector": "'a b'", "tsquery": "'a & b'", "regconfig": "'simple'", "regdictionary": "'simple'", "regproc": "'now'",
	"regprocedure": "'price(int)'", "regtype": "'int4'", "regnamespace": "'public'", "regrole": "'app'", "int4range": "'[1,5)'",
	"int8range": "'[1,5)'", "numrange": "'[1,5)'", "daterange": "'[2024-01-01,2024-01-05)'", "int4multirange": "'{[1,5)}'", "jsonpath": "'$.a'",
	"anyelement": "5", "anynonarray": "5", "anycompatible": "5", "anycompatiblenonarray": "5", "anyarray": "array[1,2]", "anycompatiblearray": "array[1,2]",
	"anyrange": "int4range(1,5)", "anycompatiblerange": "int4range(1,5)", "anymultirange": "'{[1,5)}'::int4multirange", "anyenum": "'ok'::mood",
	`"any"`: "5", "record": "row(1)", "oidvector": "'23'", "int2vector": "'1'", "pg_snapshot": "'10:20:'", "txid_snapshot": "'10:20:'",
	"text[]": "'{a,b}'", "integer[]": "'{1,2}'", "bigint[]": "'{1,2}'", "double precision[]": "'{0.5}'", "name[]": "'{a}'",
}

var polymorphic = regexp.MustCompile(`^("any"|any|record$)`)

// testBuiltins calls every function of PostgreSQL's own that a read may call, as far as arguments can be made up.
func (c *court) testBuiltins(t *testing.T) {
	o := run(c.primary, `select p.oid, quote_ident(p.proname), p.prokind, p.provolatile, (select string_agg(format_type(a.t, null), ';' order by a.n)
		from unnest(p.proargtypes) with ordinality a(t, n)) from pg_proc p where pronamespace = 11 and prokind <> 'p'
		and prorettype not in ('internal'::regtype, 'trigger'::regtype, 'event_trigger'::regtype)
		and not ('internal'::regtype = any(proargtypes::oid[]) or 'cstring'::regtype = any(proargtypes::oid[])) order by 1`)
	called, kept := 0, []string{}
	for _, row := range o.rows {
		f := strings.Split(row, "|")
		var args []string
		for arg := range strings.SplitSeq(f[4], ";") {
			value, known := samples[arg]
			switch {
			case arg == "":
			case !known:
				args = append(args, "null::"+arg)
			case polymorphic.MatchString(arg):
				args = append(args, value)
			default:
				args = append(args, value+"::"+arg)
			}
		}
		sql := fmt.Sprintf("select pg_catalog.%s(%s)", f[1], strings.Join(args, ", "))
		switch f[2] {
		case "w":
			sql += " over ()"
		case "a":
			sql += " from generate_series(1, 2)"
		}
		if !c.reads(sql) {
			if f[3] != "v" {
				kept = append(kept, f[1])
			}
			continue
		}
		called++
		if wrong := c.judge(sql); wrong != "" && !tellsPlace(sql) {
			t.Errorf("%s: %s", sql, wrong)
		}
	}
	t.Logf("%d calls; %d stable ones are kept on the primary", called, len(kept))
	if os.Getenv("WALGATE_TEST_DEBUG") != "" {
		t.Logf("kept: %s", strings.Join(kept, " "))
	}
	if called < 2000 {
		t.Errorf("only %d calls", called)
	}
}

// tellsPlace reports whether a read answers differently on purpose.
func tellsPlace(sql string) bool {
	return strings.Contains(sql, "pg_is_in_recovery") || strings.Contains(sql, "inet_server_")
}

// testRelations reads every system relation that a read may name.
func (c *court) testRelations(t *testing.T) {
	o := run(c.primary, `select c.oid::regclass::text from pg_class c where relnamespace in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
		and relkind in ('r', 'v') and relname <> 'pg_largeobject' order by 1`)
	for _, name := range o.rows {
		sql := "select * from " + name
		if c.reads(sql) {
			if wrong := c.judge(sql); wrong != "" {
				t.Errorf("%s: %s", sql, wrong)
			}
		}
	}
}

// testSettings shows every parameter that may be shown anywhere.
func (c *court) testSettings(t *testing.T) {
	for _, name := range run(c.primary, "select name from pg_settings order by 1").rows {
		for _, sql := range []string{"show " + name, "select current_setting('" + name + "')"} {
			if c.reads(sql) {
				if wrong := c.judge(sql); wrong != "" {
					t.Errorf("%s: %s", sql, wrong)
				}
			}
		}
	}
}

// describing are the commands of psql that ask the catalogs.
const describing = `\d \d+ \dS \d_customers \d+_customers \d_order_totals \d_counter \d+_events \d_guarded \dt \dt_*.* \dtS \di \di+ \dv \dv+ \dm \ds \dE
\df \df+ \df_price \dfS_lower \da \dn \dn+ \dT \dT+ \dT_mood \dD \dD+ \du \du+ \dg \dp \z_customers \dx \dx+ \dC \dc \dO \do \do_+ \dL \dF \dFp \dFd \dFt
\dy \des \dew \det \deu \dd \ddp \drds \dRp \dRs \dA \dA+ \dAc \dAf \dAo \dAp \dP \dX \db \l \sf_price(int) \sv_order_totals \dl`

var psqlQuery = regexp.MustCompile(`(?s)\*{9} QUERY \*{10}\n(.*?)\n\*{26}`)

// onePlace matches what is asked of one node by right.
var onePlace = regexp.MustCompile(`_size\(|pg_settings|pg_tablespace_location|pg_stat_|last_value`)

// psqlQueries returns what psql asks.
func (c *court) psqlQueries(t *testing.T) (queries []string) {
	args := []string{"-XE", "-h", c.s.pg.dir, "-p", strconv.Itoa(c.s.pg.port), "-U", "postgres", "app"}
	for command := range strings.FieldsSeq(describing) {
		args = append(args, "-c", strings.ReplaceAll(command, "_", " "))
	}
	out, err := c.s.pg.command("psql", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
	for _, m := range psqlQuery.FindAllSubmatch(out, -1) {
		queries = append(queries, string(m[1]))
	}
	if len(queries) < 60 {
		t.Errorf("psql asked only %d queries", len(queries))
	}
	return queries
}

func (c *court) testPsql(t *testing.T, queries []string) {
	kept := 0
	for _, sql := range queries {
		if !c.reads(sql) {
			if kept++; !onePlace.MatchString(sql) {
				t.Errorf("%s\nneedlessly runs on the primary", sql)
			}
			continue
		}
		if wrong := c.judge(sql); wrong != "" {
			t.Errorf("%s: %s", sql, wrong)
		}
	}
	t.Logf("%d of psql's %d queries are kept on the primary", kept, len(queries))
}

// mutator spells statements in other ways that mean the same.
type mutator struct {
	random   *rand.Rand
	keywords map[string]bool
}

// queryWords begin what may stand in parentheses.
var queryWords = map[string]bool{"select": true, "values": true, "with": true, "table": true, "(": true}

func (m *mutator) mutate(sql string) string {
	var out strings.Builder
	lx := router.NewLexer([]byte(sql), router.Options{})
	first := ""
	single := true
	for tok := lx.Next(); tok.Kind != router.TokenEnd; tok = lx.Next() {
		text := sql[tok.Start:tok.End]
		if first == "" {
			first = strings.ToLower(text)
		}
		if tok.Kind == router.TokenBad {
			return sql // a comment behind it might close it
		}
		single = single && text != ";"
		if tok.Kind == router.TokenWord {
			if spelled := m.word(text); first != "show" || spelled[0] != 'U' { // whose names are no identifiers to us
				text = spelled
			}
		}
		out.WriteString(m.blank())
		out.WriteString(text)
	}
	if !single || !queryWords[first] {
		return out.String() + m.blank()
	}
	return m.wrap(out.String() + "\n")
}

func (m *mutator) blank() string {
	blanks := []string{" ", " ", " ", "  ", "\n", "\t", "\r\n", " /**/ ", " /* ; insert into t */ ", " /* /* nested */ ' */ ", " -- it's\n", " --; for update\r", "\f", " /*\"*/ "}
	return blanks[m.random.IntN(len(blanks))]
}

func (m *mutator) word(text string) string {
	switch lower := strings.ToLower(text); m.random.IntN(6) {
	case 0:
		return strings.ToUpper(text)
	case 1:
		return lower
	case 2:
		mixed := []byte(lower)
		for i := range mixed {
			if m.random.IntN(2) == 0 && 'a' <= mixed[i] && mixed[i] <= 'z' {
				mixed[i] -= 'a' - 'A'
			}
		}
		return string(mixed)
	case 3:
		if !m.keywords[lower] {
			return `"` + lower + `"`
		}
	case 4:
		if !m.keywords[lower] && lower[0] < 0x80 {
			return fmt.Sprintf(`U&"\%04X%s"`, lower[0], lower[1:])
		}
	}
	return text
}

func (m *mutator) wrap(sql string) string {
	wraps := []string{"%s", "%s", "(%s)", "select * from (%s) q", "with w as (%s) select * from w", "select count(*) from (%s) as q", "select exists (%s)",
		"with v as (select 1), w as materialized (%s) select * from w", "copy (%s) to stdout", "select 1 where exists (%s) and true",
		"select * from (select 1) a cross join lateral (%s) b", "explain (costs off) %s", "select 1; %s", "values ((select count(*) from (%s) q))"}
	return fmt.Sprintf(wraps[m.random.IntN(len(wraps))], sql)
}

// testMutants holds that other spellings of a statement have the verdict of the statement. The seed is printed.
func (c *court) testMutants(t *testing.T, statements []corpus.Statement) {
	seed := uint64(1)
	if text := os.Getenv("WALGATE_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("WALGATE_TEST_SEED=%d", seed)
	m := mutator{random: rand.New(rand.NewPCG(seed, 0)), keywords: map[string]bool{}}
	for _, word := range run(c.primary, "select word from pg_get_keywords()").rows {
		m.keywords[word] = true
	}
	each := 5
	if raceEnabled { // the servers judge, at the same pace; the rest would take several times as long
		each = 1
	}
	if text := os.Getenv("WALGATE_TEST_MUTANTS"); text != "" {
		each, _ = strconv.Atoi(text)
	}
	made, failed := 0, 0
	for _, s := range statements {
		if s.Want != corpus.Read && s.Want != corpus.Primary && s.Want != corpus.Danger || failed > 40 {
			continue
		}
		for n := range each {
			sql := m.mutate(s.Text)
			made++
			read := c.reads(sql)
			if read != (s.Want == corpus.Read) {
				failed++
				t.Errorf("%s: %q as %q: a read is %v", s.Place, s.Text, sql, read)
				break
			}
			if n == 0 && read {
				if wrong := c.judge(sql); wrong != "" {
					t.Errorf("%s: %q as %q: %s", s.Place, s.Text, sql, wrong)
				}
			}
		}
	}
	t.Logf("%d mutants", made)
}
