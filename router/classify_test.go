package router

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestKind holds every construct whose behaviour on a hot standby is known to be different from the primary's.
func TestKind(t *testing.T) {
	reads := []string{
		"", " ; ;", "-- nothing", "/* /* nested */ */",
		"select 1", "SELECT * FROM t WHERE id = $1", "select 1;", "select 1; select 2",
		"table t", "values (1), (2)", "(select 1) union all (select 2)", "((select 1))",
		"with x as (select 1) select * from x", "with recursive x(n) as (select 1 union select n+1 from x) select * from x",
		"select count(*), sum(a) filter (where b) over (partition by c order by d) from t group by e having max(f) > 1",
		"select coalesce(a, 1), nullif(b, 2), greatest(1, 2), cast(c as numeric(10,2)), d::varchar(10) from t",
		"select extract(year from d), substring(a from 1 for 2), trim(both 'x' from b), position('a' in b) from t",
		"select * from generate_series(1, 10) as g(i)", "select * from (values (1,2)) v(a, b)",
		"select pg_catalog.lower(a) from t where a in (1, 2) and exists (select 1) and b = any (array[1])",
		`select "lower"(a) from t`, `select pg_catalog."lower"(a)`,
		"select now(), current_timestamp, random(), gen_random_uuid(), clock_timestamp(), pg_sleep(0.1)",
		"select pg_is_in_recovery()", "select inet_server_addr(), inet_server_port()",
		"select 'insert', $$delete$$, $a$update$a$, E'\\'into', \"update\" from t -- delete",
		"select 'it''s; delete from t'", "select U&'d\\0061t' , B'01', X'ff', N'x'",
		"select /* update */ 1", "select a/*b*/from t",
		"show search_path", "show timezone", "show time zone", "show server_version", "show my.thing",
		"select current_setting('my.tenant')", "select current_setting('search_path')",
		"explain select 1", "explain (costs off, verbose) select * from t", "explain verbose select 1",
		"copy t to stdout", "copy t (a, b) to stdout with (format csv)", "copy (select * from t) to stdout",
		"copy s.t to stdout csv header", "fetch 10 from c", "fetch all in c",
		"declare c cursor for select * from t", "declare c no scroll cursor without hold for select 1",
		"select * from pg_stats", "select share from t", "select tempo, shared from t",
		"select a from t where b ~ 'x' and c operator(pg_catalog.~) '^(y)$' collate pg_catalog.default",
		"select date_trunc('day', a) , to_char(b, 'YYYY') , jsonb_build_object('a', 1) ->> 'a' from t",
		"select row_number() over (order by a), rank() over w from t window w as (partition by b)",
		"select percentile_cont(0.5) within group (order by a) from t", "select * from t tablesample bernoulli (1)",
		"select a from t group by grouping sets ((a), rollup (b), cube (c))", "select 1..2", "select .5e3, 1.e2, 1e-2",
		"select * from t limit 1 offset 2", "select a from t fetch first (1) rows only", "select $1::int[] , a[1] from t",
		"select unnest($1::int[])", "select interval '1 day', timestamp(3) '2020-01-01'", "select @ -5, |/ 25, a->'b', a @> b from t",
		"SELECT DISTINCT ON (a) b FROM t ORDER BY a", "select 'a'\n'b; delete from t'",
	}
	for _, sql := range reads {
		if v := Classify([]byte(sql), Options{}); v.Kind != Read {
			t.Errorf("%q: got %+v, want a read", sql, v)
		}
	}
	writes := []string{
		"insert into t values (1)", "update t set a = 1", "delete from t", "delete from t where false",
		"merge into t using s on true when matched then do nothing", "truncate t", "refresh materialized view v",
		"create table t (a int)", "create table t as select 1", "alter table t add b int", "drop table t", "grant select on t to u",
		"comment on table t is 'x'", "create role r", "create database d", "vacuum", "analyze", "reindex table t", "cluster",
		"select 1 into t", "select * from t for update", "select * from t for no key update", "select * from t for share",
		"select * from t for key share", "select * from t FOR/**/UPDATE", "select * from (select * from t for update) x",
		"with x as (select * from t for update limit 0) select * from x", "declare c cursor for select * from t for update",
		"with x as (insert into t values (1) returning *) select * from x", "with x as (delete from t returning *) select 1",
		"select 1; insert into t values (1)", "insert into t values (1); select 1",
		"explain analyze select 1", "explain (analyze, buffers) select 1", "explain insert into t values (1)",
		"explain (analyze) create table t as select 1", "explain execute p", "explain select nextval('s')",
		"select nextval('s')", "select setval('s', 1)", "select currval('s')", "select lastval()",
		"select pg_catalog.nextval('s')", `select "nextval"('s')`, `select pg_catalog . "nextval" ('s')`, "select case when false then nextval('s') end",
		"select txid_current()", "select pg_current_xact_id()", "select txid_current_snapshot()", "select pg_export_snapshot()",
		"select pg_notify('a', 'b')", "notify a", "listen a", "unlisten *",
		"select pg_advisory_lock(1)", "select pg_try_advisory_lock(1)", "select pg_advisory_xact_lock(1)", "select pg_advisory_unlock(1)",
		"select set_config('a.b', 'c', false)", "set a.b = 'c'", "set role r", "set session authorization u", "select setseed(0.5)",
		"load 'x'", "discard all", "prepare p as select 1", "prepare p as insert into t values (1)", "execute p(1)",
		"declare c cursor with hold for select 1", "begin", "begin read write", "begin isolation level serializable", "set transaction read write",
		"select pg_current_wal_lsn()", "select pg_switch_wal()", "select pg_create_restore_point('x')", "select gin_clean_pending_list('i')",
		"select pg_logical_emit_message(true, 'a', 'b')", "select lo_create(0)", "select lo_open(1, 131072)", "select lo_unlink(1)",
		"lock table t", "do $$ begin end $$", "call p()", "copy t from stdin", "copy (delete from t returning *) to stdout",
		"copy t to '/tmp/x'", "copy t to program 'cat'", "copy (select nextval('s')) to stdout", "copy (select 1) to program 'x'",
		"select pg_create_physical_replication_slot('x')", "alter system set a = 1", "select pg_reload_conf()", "checkpoint",
		"select pg_stat_reset()", "select pg_wal_replay_pause()", "select pg_terminate_backend(1)", "select pg_promote()",
		"select dblink_exec('c', 'insert into t values (1)')", "select my_function(1)", "select public.lower('a')", "select a.b.lower('a')",
		"select query_to_xml('insert', true, true, '')", "prepare transaction 'x'", "commit prepared 'x'",
		"show transaction_read_only", "show in_hot_standby", "show all", "show primary_conninfo", "select current_setting('transaction_read_only')",
		"select current_setting($1)", "select * from pg_settings", "select * from pg_stat_activity", "select * from pg_catalog.pg_stat_replication", "select * from pg_locks",
		`select * from "pg_locks"`, "select * from pg_prepared_statements", "select * from pg_statio_user_tables", "select pg_backend_pid()",
		"select pg_relation_size('t')", "select pg_stat_get_numscans(1)", "select pg_my_temp_schema()",
		"select distinct on (a) my_function(b) from t", "select E'\\'' , 'x' into t", "select 'open", `select "open`, "select $$open", "select 1 /* open",
		"select $a$ $b$ into $a$, 1 into t", "select 1INTO t", "select\x00 1", "select 'a' -- '\n into t", "select U&\"a\" into t",
		"selec 1", "42", "'x'", "with", "select (x).f(1)", "select f (1)", "select \"F\"(1)", "select a.\"f\"(1)",
	}
	for _, sql := range writes {
		v := Classify([]byte(sql), Options{})
		if v.Kind != Write && sql != "with" {
			t.Errorf("%q: got %+v, want a write", sql, v)
		}
	}
}

func TestBackslashStrings(t *testing.T) {
	sql := []byte(`select 'a\' into t --'`)
	if v := Classify(sql, Options{}); v.Kind != Write {
		t.Errorf("standard strings: got %+v", v)
	}
	sql = []byte(`select 'a\'' into t --'`)
	if v := Classify(sql, Options{BackslashStrings: true}); v.Kind != Write {
		t.Errorf("backslash strings: got %+v", v)
	}
	sql = []byte("select E'a'\n'\\' into t --'")
	if v := Classify(sql, Options{}); v.Kind != Read {
		t.Errorf("a continued escape string: got %+v", v)
	}
	if v := Classify([]byte("select 1"), Options{UnsafeEncoding: true}); v.Kind != Write || !v.Flags.Has(Unreadable) {
		t.Errorf("unsafe encoding: got %+v", v)
	}
}

// facts is a Verdict in words, for comparison.
type facts struct {
	Command     Command
	Flags       Flags
	Name, Value string
}

func factsOf(sql string) facts {
	v := Classify([]byte(sql), Options{})
	value, ok := v.AppendValue(nil, []byte(sql), Options{})
	if !ok {
		value = []byte("?")
	}
	switch v.Command {
	case CommandPrepare, CommandExecute:
		value = v.Value.In([]byte(sql))
	}
	if !v.Value.Present() {
		value = nil
	}
	return facts{v.Command, v.Flags, string(v.AppendName(nil, []byte(sql))), string(value)}
}

func TestSessionCommands(t *testing.T) {
	cases := []struct {
		sql  string
		want facts
	}{
		{"begin", facts{CommandBegin, TxControl, "", ""}},
		{"BEGIN WORK ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE", facts{CommandBegin, TxControl | TxSerializable | TxReadOnly | TxDeferrable, "", ""}},
		{"start transaction read write", facts{CommandBegin, TxControl | TxReadWrite, "", ""}},
		{"begin isolation level repeatable read read only", facts{CommandBegin, TxControl | TxRepeatableRead | TxReadOnly, "", ""}},
		{"start transaction isolation level repeatable", facts{CommandBegin, TxControl | TxRepeatableRead, "", ""}},
		{"begin isolation level read committed read only", facts{CommandBegin, TxControl | TxReadOnly, "", ""}},
		{"begin isolation level repeatable read not deferrable", facts{CommandBegin, TxControl | TxRepeatableRead, "", ""}},
		{"commit", facts{CommandCommit, TxControl | MayCommit, "", ""}},
		{"end transaction and chain", facts{CommandCommit, TxControl | MayCommit | TxChain, "", ""}},
		{"commit and no chain", facts{CommandCommit, TxControl | MayCommit, "", ""}},
		{"rollback", facts{CommandRollback, TxControl, "", ""}},
		{"abort work and chain", facts{CommandRollback, TxControl | TxChain, "", ""}},
		{"rollback to savepoint S", facts{CommandRollbackTo, TxControl, "s", ""}},
		{"rollback transaction to \"S\"", facts{CommandRollbackTo, TxControl, "S", ""}},
		{"savepoint a", facts{CommandSavepoint, TxControl, "a", ""}},
		{"release savepoint a", facts{CommandRelease, TxControl, "a", ""}},
		{"release a", facts{CommandRelease, TxControl, "a", ""}},
		{"prepare transaction 'x'", facts{CommandPrepareTx, TxControl | TxPrepared | MayCommit, "", ""}},
		{"rollback prepared 'x'", facts{CommandTwoPhase, TxControl | TxPrepared | MayCommit, "", ""}},
		{"set transaction read only", facts{CommandSetTx, LocalState | TxReadOnly, "", ""}},
		{"set local transaction_read_only = on", facts{CommandSetTx, LocalState | TxReadOnly, "transaction_read_only", "on"}},
		{"set transaction_isolation to 'serializable'", facts{CommandSetTx, LocalState | TxSerializable, "transaction_isolation", "serializable"}},
		{"set session characteristics as transaction read only", facts{CommandSetSessionTx, State | TxReadOnly, "", ""}},
		{"SET Search_Path = a, \"B\", 'c d', \"$user\"", facts{CommandSet, State, "search_path", `a, "B", "c d", "$user"`}},
		{"set session work_mem to '4MB'", facts{CommandSet, State, "work_mem", "4MB"}},
		{"set datestyle = ISO, MDY", facts{CommandSet, State, "datestyle", "iso, mdy"}},
		{"set local statement_timeout = -1", facts{CommandSetLocal, LocalState, "statement_timeout", "-1"}},
		{"set walgate.target = 'replica'", facts{CommandSet, State, "walgate.target", "replica"}},
		{"set application_name to 'it''s'", facts{CommandSet, State, "application_name", "it's"}},
		{`set U&"w\006frk_mem" = '1MB'`, facts{CommandOther, State | PinState, "", ""}},
		{"set x to default", facts{CommandSet, State | ValueDefault, "x", "?"}},
		{"set x from current", facts{CommandSet, State | ValueDefault, "x", ""}},
		{"set time zone 'UTC'", facts{CommandSet, State, "timezone", "UTC"}},
		{"set time zone local", facts{CommandSet, State | ValueDefault, "timezone", "?"}},
		{"set local time zone interval '1' hour to minute", facts{CommandSetLocal, LocalState, "timezone", "?"}},
		{"set schema 'x'", facts{CommandSet, State, "search_path", "x"}},
		{"set names 'utf8'", facts{CommandSet, State, "client_encoding", "utf8"}},
		{"set role none", facts{CommandSetRole, State | ValueDefault, "role", "?"}},
		{"set local role \"R\"", facts{CommandSetLocal, LocalState, "role", "R"}},
		{"set local role = r", facts{CommandSetLocal, LocalState, "role", "r"}},
		{"select set_config('role', 'r', true)", facts{CommandSetLocal, LocalState, "role", "r"}},
		{"set local session authorization r", facts{CommandSetSessionAuth, LocalState, "", "r"}},
		{"set role = 'r'", facts{CommandSetRole, State, "role", "r"}},
		{"set session authorization u", facts{CommandSetSessionAuth, State, "", "u"}},
		{"set session session authorization default", facts{CommandSetSessionAuth, State | ValueDefault, "", "?"}},
		{"set constraints all deferred", facts{CommandSetConstraints, LocalState, "", ""}},
		{"SELECT pg_catalog.set_config('search_path', '', false);", facts{CommandSet, State, "search_path", ""}},
		{"select set_config('A.b', 'x, y', true) as ok", facts{CommandSetLocal, LocalState, "A.b", "x, y"}},
		{"select set_config($1, $2, true), 1", facts{CommandSelect, LocalState, "", ""}},
		{"select set_config($1, $2, false)", facts{CommandSelect, State | PinState, "", ""}},
		{"reset all", facts{CommandResetAll, State, "", ""}},
		{"reset role", facts{CommandResetRole, State, "", ""}},
		{"reset session authorization", facts{CommandResetSessionAuth, State, "", ""}},
		{"reset time zone", facts{CommandReset, State, "timezone", ""}},
		{"reset work_mem", facts{CommandReset, State, "work_mem", ""}},
		{"show transaction isolation level", facts{CommandShow, NodeLocal, "transaction_isolation", ""}},
		{"show walgate.target", facts{CommandShow, 0, "walgate.target", ""}},
		{"show all", facts{CommandShow, NodeLocal, "all", ""}},
		{"discard all", facts{CommandDiscardAll, State, "", ""}},
		{"discard temporary", facts{CommandDiscardTemp, State, "", ""}},
		{"prepare \"P\" (int, text) as select $1, $2", facts{CommandPrepare, State, "P", "select $1, $2"}},
		{"execute p(1, 'a')", facts{CommandExecute, Executes, "p", "(1, 'a')"}},
		{"explain analyze execute p(1)", facts{CommandExplain, Executes, "p", ""}},
		{"create temp table t as execute p(1)", facts{CommandOther, Executes | PinTempTable | State | Defines, "p", ""}},
		{"select pg_advisory_unlock_all()", facts{CommandSelect, AdvisoryUnlockAll | State, "", ""}},
		{"select pg_catalog.pg_advisory_unlock_all();", facts{CommandSelect, AdvisoryUnlockAll | State, "", ""}},
		{"select pg_advisory_unlock_all() where false", facts{CommandSelect, State, "", ""}},
		{"select 1 where pg_advisory_unlock_all() is null", facts{CommandSelect, State, "", ""}},
		{"execute p;", facts{CommandExecute, Executes, "p", ""}},
		{"deallocate prepare p", facts{CommandDeallocate, State, "p", ""}},
		{"deallocate all", facts{CommandDeallocateAll, State, "all", ""}},
		{"declare c cursor with hold for select 1", facts{CommandDeclare, PinHoldCursor | State, "c", ""}},
		{"close all", facts{CommandCloseAll, 0, "all", ""}},
		{"listen a", facts{CommandListen, State | PinListen, "a", ""}},
		{"unlisten *", facts{CommandUnlistenAll, State, "", ""}},
		{"notify a, 'x'", facts{CommandNotify, 0, "a", ""}},
		{"create temp table t (a int)", facts{CommandOther, PinTempTable | State | Defines, "", ""}},
		{"create local temporary sequence s", facts{CommandOther, PinTempTable | State | Defines, "", ""}},
		{"create or replace temp view v as select 1", facts{CommandOther, PinTempTable | State | Defines, "", ""}},
		{"create table pg_temp.t (a int)", facts{CommandOther, PinTempTable | State | Defines, "", ""}},
		{"create function f(a int) returns int begin atomic select case when a > 0 then 1 end; select 2; end", facts{CommandOther, Defines, "", ""}},
		{"select 1 into temp t", facts{CommandSelect, PinTempTable | State | Defines, "", ""}},
		{"insert into temp (a) values (1)", facts{CommandOther, 0, "", ""}},
		{"insert into t (a) select g(1)", facts{CommandOther, Opaque, "", ""}},
		{"select pg_advisory_lock(1)", facts{CommandSelect, PinAdvisoryLock | State | Advisory, "", ""}},
		{"select pg_advisory_xact_lock(1)", facts{CommandSelect, Advisory, "", ""}},
		{"select pg_advisory_unlock_all()", facts{CommandSelect, AdvisoryUnlockAll | State, "", ""}},
		{"alter table t add c int", facts{CommandOther, Defines, "", ""}},
		{"drop view v", facts{CommandOther, Defines, "", ""}},
		{"select a into b from t", facts{CommandSelect, Defines, "", ""}},
		{"with x as (insert into t values (1) returning a) select * from x", facts{CommandSelect, 0, "", ""}},
		{"merge into t using s on true when matched then delete", facts{CommandOther, 0, "", ""}},
		{"select currval('a')", facts{CommandSelect, Recalls, "", ""}},
		{"insert into t values (lastval())", facts{CommandOther, Recalls, "", ""}},
		{"select nextval('a')", facts{CommandSelect, Sequence, "", ""}},
		{"select setseed(0)", facts{CommandSelect, PinSeed | State, "", ""}},
		{"select f(1)", facts{CommandSelect, Opaque, "", ""}},
		{"load 'x'", facts{CommandLoad, State | PinLoad, "", ""}},
		{"call p()", facts{CommandCall, Opaque | MayCommit | Defines, "", ""}},
		{"do $$ $$", facts{CommandDo, Opaque | MayCommit | Defines, "", ""}},
		{"copy t from stdin", facts{CommandCopyIn, CopyData, "", ""}},
		{"copy t (a, b) from stdin with (format csv)", facts{CommandCopyIn, CopyData, "", ""}},
		{"copy t to stdout", facts{CommandCopyOut, CopyData, "", ""}},
		{"copy t from program 'x'", facts{CommandCopyFile, 0, "", ""}},
		{"select pg_terminate_backend(1)", facts{CommandSelect, NodeLocal | Processes, "", ""}},
		{"select pg_catalog.pg_isolation_test_session_is_blocked($1, '{1}')", facts{CommandSelect, NodeLocal | Processes, "", ""}},
		{"delete from t where pid in (select pid from pg_locks)", facts{CommandOther, NodeLocal | Processes, "", ""}},
		{"explain select * from pg_stat_activity", facts{CommandExplain, NodeLocal | Processes, "", ""}},
		{"create view v as select * from pg_stat_activity, pg_prepared_statements", facts{CommandOther, NodeLocal | Defines, "", ""}},
		{"create table t as select pg_cancel_backend(1)", facts{CommandOther, NodeLocal | Defines, "", ""}},
		{"select * from pg_prepared_statements", facts{CommandSelect, NodeLocal | OwnStatements, "", ""}},
		{"select * from pg_prepared_statement()", facts{CommandSelect, NodeLocal | OwnStatements, "", ""}},
		{"set plpgsql.extra_warnings to 'all'", facts{CommandSet, State, "plpgsql.extra_warnings", "all"}},
		{"set PLPGSQL.Other to 'all'", facts{CommandSet, State | PinState, "plpgsql.other", "all"}},
		{"begin; select 1; commit", facts{CommandMany, TxControl | MayCommit, "", ""}},
		{"set a = 1; set b = 2", facts{CommandMany, State, "", ""}},
	}
	for _, c := range cases {
		if diff := cmp.Diff(c.want, factsOf(c.sql)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.sql, diff)
		}
	}
}

func TestHint(t *testing.T) {
	cases := map[string]Hint{
		"/* walgate: target=replica consistency=eventual */ select 1":    {Target: TargetReplica, Level: LevelEventual},
		" -- x\n/* other */ /*walgate: consistency=STRONG,*/ select 1":   {Level: LevelStrong},
		"/* walgate: target=primary */":                                  {Target: TargetPrimary},
		"/* walgate: target=nonsense foo=bar */ select 1":                {},
		"select 1 /* walgate: target=primary */":                         {},
		"/* walgate: target=primary":                                     {},
		"/* a note */ select 1":                                          {},
		"/* walgate:\n target=auto\n consistency=session */ insert":      {Target: TargetAuto, Level: LevelSession},
		"/* walgate: target=replica /* nested */ */ select 1; select 2;": {Target: TargetReplica},
		"/* walgate: tag=analytics, token=2-0/1A */ select 1":            {Tag: Span{16, 25}, Token: Span{33, 39}},
	}
	for sql, want := range cases {
		if got := Classify([]byte(sql), Options{}).Hint; got != want {
			t.Errorf("%q: got %+v, want %+v", sql, got, want)
		}
	}
}

func TestSplit(t *testing.T) {
	sql := " ;select 1; /* ; */ set a = ';' ;; create rule r as on insert to t do (select 1; select 2); select 'open"
	want := []string{"select 1", "set a = ';'", "create rule r as on insert to t do (select 1; select 2)", "select 'open"}
	var got []string
	for from := 0; ; {
		stmt, next, ok := Split([]byte(sql), from, Options{})
		if !ok {
			break
		}
		got = append(got, string(stmt.In([]byte(sql))))
		from = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if v := Classify([]byte(sql), Options{}); v.Statements != 4 || v.Kind != Write || !v.Flags.Has(Unreadable) {
		t.Errorf("got %+v", v)
	}
}

// writeWords may stand in no read outside quotes and comments.
var writeWords = map[string]bool{"insert": true, "update": true, "delete": true, "merge": true, "into": true,
	"nextval": true, "pg_advisory_lock": true, "pg_stat_activity": true}

func FuzzClassify(f *testing.F) {
	for _, seed := range []string{
		"select 1", "select E'\\'' , $a$ x $a$ into t", "with x(a) as (select 1) select * from x", "set x = 'a', b",
		"copy (select 1) to stdout", "select set_config('a', 'b', false)", "begin; commit", "explain (analyze) select 1",
		"create function f() begin atomic select 1; end", "/* walgate: target=auto */ show x", "declare c cursor for select 1",
		"prepare a(int) as select", "select U&\"a\"('x')", "execute x(1)", "set time zone local", "select a.b.c(1)", "'", "\"",
	} {
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, sql []byte, backslash bool) {
		opts := Options{BackslashStrings: backslash}
		v := Classify(sql, opts)
		Classify(sql, Options{BackslashStrings: backslash, Catalog: shop})
		v.AppendName(nil, sql)
		v.AppendValue(nil, sql, opts)
		count := int32(0)
		for from := 0; ; count++ {
			stmt, next, ok := Split(sql, from, opts)
			if !ok {
				break
			}
			if next <= from || stmt.End > int32(next) || !stmt.Present() {
				t.Fatalf("split at %d: %+v, next %d", from, stmt, next)
			}
			from = next
		}
		if count != v.Statements {
			t.Fatalf("%d statements, split says %d", v.Statements, count)
		}
		if v.Kind != Read {
			return
		}
		lx := NewLexer(sql, opts)
		for tok := lx.Next(); tok.Kind != TokenEnd; tok = lx.Next() {
			word := strings.ToLower(string(sql[tok.Start:tok.End]))
			if tok.Kind == TokenBad || tok.Kind == TokenWord && writeWords[word] && v.Command != CommandEmpty {
				t.Fatalf("%q is a read: %+v", sql, v)
			}
		}
	})
}

func BenchmarkClassify(b *testing.B) {
	for _, sql := range []string{
		"SELECT abalance FROM pgbench_accounts WHERE aid = $1",
		"UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2",
		"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP)",
		"BEGIN;",
		"END;",
		"begin",
		"SELECT o.id, o.total, count(*) FROM orders o JOIN items i ON i.order_id = o.id WHERE o.customer_id = $1 AND o.created_at > now() - interval '1 day' GROUP BY o.id, o.total ORDER BY o.id LIMIT 20",
	} {
		text := []byte(sql)
		b.Run(strings.Fields(sql)[0], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Classify(text, Options{})
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(100+len(text)), "cost/budget")
		})
	}
}

func TestClassifyAllocates0(t *testing.T) {
	sql := []byte("select set_config('a.b', 'c', true), lower(a), \"b\".c from t where d = 'x' and e = $1")
	if n := testing.AllocsPerRun(100, func() { Classify(sql, Options{}) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
