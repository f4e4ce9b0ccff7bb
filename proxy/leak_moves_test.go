package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// leakMove is one thing that a session may do next. Moves may fail: then the twin fails alike.
type leakMove struct {
	name   string
	weight int
	idle   bool // only outside a transaction
	pins   bool // may make the session keep its server connection
	do     func(s *leakSession) error
}

// leakWeights chooses among moves.
type leakWeights struct{ upTo []int }

func newLeakWeights() leakWeights {
	var w leakWeights
	sum := 0
	for _, m := range leakMoves {
		sum += m.weight
		w.upTo = append(w.upTo, sum)
	}
	return w
}

func (w leakWeights) pick(rng *rand.Rand) int {
	n := rng.IntN(w.upTo[len(w.upTo)-1])
	for i, upTo := range w.upTo {
		if n < upTo {
			return i
		}
	}
	panic("weights do not sum up")
}

var leakMoves = []leakMove{
	{name: "look", weight: 12, do: (*leakSession).look},
	{name: "read token", weight: 8, do: func(s *leakSession) error {
		return s.sql("select %s as token, %d as step, current_setting('leak.a', true)", quoted(s.token), s.steps)
	}},
	{name: "set", weight: 12, do: (*leakSession).set},
	{name: "reset", weight: 5, do: (*leakSession).reset},
	{name: "role", weight: 6, do: (*leakSession).role},
	{name: "begin", weight: 7, do: (*leakSession).begin},
	{name: "end", weight: 10, do: (*leakSession).end},
	{name: "savepoint", weight: 6, do: (*leakSession).savepoint},
	{name: "many", weight: 4, do: (*leakSession).many},
	{name: "write", weight: 5, do: func(s *leakSession) error {
		return s.sql("insert into public.leak_rows values (%s, %d)", quoted(s.token), s.steps)
	}},
	{name: "error", weight: 4, do: (*leakSession).fail},
	{name: "notice", weight: 4, do: func(s *leakSession) error {
		return s.simple("do $$ begin raise %s 'for %s, %d'; end $$", s.one("notice", "warning", "info", "exception"), s.token, s.steps)
	}},
	{name: "parse", weight: 6, do: (*leakSession).parse},
	{name: "execute", weight: 8, do: (*leakSession).execute},
	{name: "pipeline", weight: 3, do: (*leakSession).pipeline},
	{name: "PREPARE", weight: 4, do: (*leakSession).prepareSQL},
	{name: "EXECUTE", weight: 5, do: func(s *leakSession) error { return s.simple("execute %s(%d)", s.statement(), s.rng.IntN(9)) }},
	{name: "DEALLOCATE", weight: 2, do: func(s *leakSession) error {
		return s.simple("deallocate %s", s.one(s.statement(), s.statement(), "all"))
	}},
	{name: "copy out", weight: 2, do: func(s *leakSession) error {
		return s.simple("copy (select %s, i from generate_series(1, %d) i) to stdout", quoted(s.token), s.rng.IntN(50))
	}},
	{name: "copy in", weight: 3, do: (*leakSession).copyIn},
	{name: "large", weight: 1, do: func(s *leakSession) error {
		return s.simple("select md5(%s), repeat(%s, %d)", quoted(strings.Repeat(s.token, s.rng.IntN(20000))), quoted(s.token), s.rng.IntN(5000))
	}},
	{name: "cursor", weight: 3, do: (*leakSession).cursor},
	{name: "transaction lock", weight: 2, do: func(s *leakSession) error {
		return s.sql("select pg_advisory_xact_lock(%d)", s.lock())
	}},
	{name: "temporary table", weight: 4, pins: true, do: (*leakSession).temporary},
	{name: "session lock", weight: 3, pins: true, do: (*leakSession).sessionLock},
	{name: "WITH HOLD", weight: 2, pins: true, do: func(s *leakSession) error {
		return s.simple("declare held cursor with hold for select %s || i from generate_series(1, 9) i", quoted(s.token))
	}},
	{name: "seed", weight: 1, pins: true, do: func(s *leakSession) error {
		s.lasting = true
		return s.simple("select setseed(0.%d)", 1+s.rng.IntN(9))
	}},
	{name: "set by expression", weight: 1, pins: true, do: func(s *leakSession) error {
		return s.sql("select set_config('leak.' || 'c', %s || '!', %s)", quoted(s.token), s.one("true", "false"))
	}},
	{name: "listen", weight: 3, idle: true, pins: true, do: (*leakSession).listen},
	{name: "notify", weight: 5, do: func(s *leakSession) error {
		return s.simple("notify %s, 'own %s %d'", s.channel, s.token, s.steps)
	}},
	{name: "notify another", weight: 6, idle: true, do: (*leakSession).notifyAnother},
	{name: "discard", weight: 3, idle: true, do: (*leakSession).discard},
	{name: "cancel", weight: 1, idle: true, do: (*leakSession).cancel},
}

func (s *leakSession) one(choices ...string) string { return choices[s.rng.IntN(len(choices))] }

// simple says one query string.
func (s *leakSession) simple(format string, args ...any) error {
	return s.play(&pgproto3.Query{String: fmt.Sprintf(format, args...)})
}

// sql says one statement, in one of the ways in which drivers do.
func (s *leakSession) sql(format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if s.rng.IntN(3) > 0 {
		return s.simple("%s", text)
	}
	return s.play(&pgproto3.Parse{Query: text}, &pgproto3.Bind{}, &pgproto3.Describe{ObjectType: 'P'}, &pgproto3.Execute{}, &pgproto3.Sync{})
}

// startup is what a client may ask for when it logs in.
func (s *leakSession) startup() map[string]string {
	asked := map[string]string{}
	if s.rng.IntN(2) == 0 {
		asked["application_name"] = s.token
	}
	if s.rng.IntN(3) == 0 {
		asked["TimeZone"] = s.one("UTC", "Asia/Tokyo", "America/New_York")
	}
	if s.rng.IntN(3) == 0 {
		asked["options"] = fmt.Sprintf("-c leak.a=%s --work_mem=%dkB -c search_path=%s", s.token, 100+s.rng.IntN(1000), s.one("public", "leak_s", `leak_s,\ public`))
	}
	if s.rng.IntN(4) == 0 {
		asked["client_encoding"] = s.one("LATIN1", "UTF8")
	}
	return asked
}

// looks are the questions whose answers a session must find as it left them.
const looks = `select session_user, current_user, current_database(), current_setting('role'), current_setting('leak.a', true),
 current_setting('leak.b', true), current_setting('leak.c', true), current_setting('search_path'), current_setting('work_mem'),
 current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('timezone'), current_setting('datestyle'),
 current_setting('application_name'), current_setting('client_encoding'), current_setting('bytea_output'), current_setting('extra_float_digits'),
 current_setting('default_transaction_isolation'), current_setting('default_transaction_read_only'), current_setting('synchronous_commit'),
 current_setting('transaction_isolation'), current_setting('client_min_messages'), current_setting('enable_seqscan'),
 to_regclass('pg_temp.mine')::text, to_regclass('here')::text,
 (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
 (select string_agg(name || statement, ',' order by name) from pg_cursors where name in ('held', 'c')),
 (select string_agg(c, ',') from pg_listening_channels() c), '2001-02-03 04:05:06+00'::timestamptz, 'a\\b', current_setting('standard_conforming_strings')`

// look asks for everything that a session may have set, and compares what each side has been told of parameters.
func (s *leakSession) look() error {
	if err := s.sql(looks); err != nil {
		return err
	}
	if s.twin.status == 'E' {
		return nil
	}
	for name, want := range s.twin.parameters {
		if got := s.proxied.parameters[name]; got != want {
			return fmt.Errorf("told that %s is %q, want %q", name, got, want)
		}
	}
	return nil
}

// parameters that sessions set, with values of their own where there can be some.
func (s *leakSession) setting() (name, value string) {
	switch s.rng.IntN(14) {
	case 0, 1:
		return "leak.a", quoted(fmt.Sprint(s.token, " ", s.steps))
	case 2, 3:
		return "leak.b", quoted(fmt.Sprint(s.token, " it's ", s.steps))
	case 4:
		return "search_path", s.one("public", "leak_s", "leak_s, public", `"$user", public`, "''")
	case 5:
		return "application_name", quoted(fmt.Sprint(s.token, "/", s.steps))
	case 6:
		return "statement_timeout", fmt.Sprint(600_000 + s.rng.IntN(1000))
	case 7:
		return "work_mem", quoted(fmt.Sprint(1000+s.rng.IntN(1000), "kB"))
	case 8:
		return "timezone", s.one("'Europe/Berlin'", "'UTC'", "'Asia/Kolkata'")
	case 9:
		return "datestyle", s.one("iso", "german", "'sql, dmy'")
	case 10:
		return "client_min_messages", s.one("notice", "warning", "error", "log")
	case 11:
		return s.one("standard_conforming_strings", "enable_seqscan", "default_transaction_read_only"), s.one("on", "off", "off")
	case 12:
		return s.one("bytea_output", "client_encoding"), s.one("'hex'", "'escape'", "'LATIN1'", "'UTF8'")
	default:
		return s.one("lock_timeout", "extra_float_digits", "default_transaction_isolation", "synchronous_commit", "nonsense"),
			s.one("1", "2", "'repeatable read'", "'serializable'", "off", "local")
	}
}

func (s *leakSession) set() error {
	name, value := s.setting()
	switch s.rng.IntN(8) {
	case 0:
		return s.sql("set local %s = %s", name, value)
	case 1:
		if !strings.Contains(value, "'") {
			value = quoted(value)
		}
		if name == "search_path" {
			value = "'leak_s'"
		}
		return s.sql("select set_config(%s, %s, %s)", quoted(name), value, s.one("true", "false"))
	case 2:
		return s.sql("set session %s to %s", name, value)
	default:
		return s.sql("set %s = %s", name, value)
	}
}

func (s *leakSession) reset() error {
	name, _ := s.setting()
	return s.sql("%s", s.one("reset "+name, "set "+name+" to default", "set local "+name+" to default", "reset all"))
}

func (s *leakSession) role() error {
	return s.sql("%s", s.one("set role leak_r1", "set role leak_r2", "set role none", "reset role", "set local role leak_r1", "set role nobody",
		"set session authorization app", "set session authorization leak_r2", "reset session authorization",
		"set session authorization default", "set local session authorization app", "select set_config('role', 'leak_r2', false)"))
}

func (s *leakSession) begin() error {
	if s.twin.status != 'I' {
		return s.sql("begin") // a warning
	}
	return s.sql("%s", s.one("begin", "begin", "start transaction isolation level serializable", "begin read only",
		"begin isolation level repeatable read", "set session characteristics as transaction isolation level repeatable read"))
}

func (s *leakSession) end() error {
	return s.sql("%s", s.one("commit", "commit", "rollback", "end", "abort", "commit and chain", "rollback and chain"))
}

func (s *leakSession) savepoint() error {
	return s.sql("%s %s", s.one("savepoint", "savepoint", "rollback to", "release"), s.one("a", "b"))
}

// many says several statements in one string.
func (s *leakSession) many() error {
	name, value := s.setting()
	set := fmt.Sprintf("set %s = %s", name, value)
	return s.simple("%s", s.one(
		set+"; select "+quoted(s.token),
		set+"; select 1/0",
		"begin; "+set+"; commit",
		"begin; "+set+"; rollback",
		"begin; set local role leak_r1; select current_user; "+set+"; commit; select current_user",
		"select 1; "+set+"; commit; select 1/0",
		"begin; savepoint a; "+set+"; rollback to a; commit",
		";", "",
	))
}

func (s *leakSession) fail() error {
	return s.sql("%s", s.one("select 1/0", "select "+quoted(s.token)+"::int", "selekt", "select * from nowhere", "set leak_nothing = 1"))
}

func (s *leakSession) lock() int { return s.world.lockOf(s) }
