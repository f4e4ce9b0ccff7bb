#!/bin/bash
# psql: what people type, and what its backslash commands send.
set -u
export PGHOST=$1 PGPORT=$2 PGUSER=$3 PGPASSWORD=$4 PGDATABASE=$5 PGSSLMODE=disable PSQLRC=/dev/null PAGER=cat
# Each psql is a session of its own; what one wrote the next one must see.
export PGOPTIONS='-c walgate.consistency=strong'
table=$6_psql
files=$(mktemp -d)
trap 'rm -rf "$files"' EXIT
work() { timeout 60 psql -XAtq "$@" 2>&1; }

check() { # name command...: one line, with what it printed
	local name=$1 out status
	shift
	out=$("$@")
	status=$?
	echo "ok $name: ($status) $(tr '\n' '|' <<<"$out")"
}

create() { work -c "drop table if exists $table" -c "create table $table (id int primary key, v text)" | grep -v NOTICE; }
scripted() { work -v ON_ERROR_STOP=1 <<<"begin; insert into $table values (1, 'one'); savepoint s; rollback to s; commit; select * from $table;"; }
copies() {
	seq 100 600 | sed 's/$/\tcopied/' >"$files/in"
	work -c "\\copy $table from '$files/in'" -c "\\copy (select id from $table order by id) to '$files/out'" -c "copy $table (id) from stdin" </dev/null
	wc -l <"$files/out"
}
stdin_copy() { work <<<"copy $table from stdin;
700	x
701	y
\\.
select count(*) from $table where id >= 700;"; }
gset() { work <<<"select count(*) as n, 'it''s' as word from $table \\gset
select :n > 0, :'word';
select format('select %s', i) from generate_series(1, 3) i \\gexec
select 1 as a, 2 as b \\gdesc
select 4 \\g | cat"; }
watched() { work <<<"select case when i < 3 then i else 1 / (i - 3) end from nextval('${table}_seq') i \\watch 0.1" | grep -E '^[0-9]+$|ERROR'; }
fetches() { work -v FETCH_COUNT=10 -c "select count(*) from (select 1) x" -c "select generate_series(1, 95)" | wc -l; }
describes() { work -c "\\d $table" -c "\\dt $table" | sed "s/$table/items/"; }
errors() { work -v VERBOSITY=verbose -c 'select 1/0' | grep -v LOCATION; work -v ON_ERROR_ROLLBACK=on -c 'begin' -c 'select 1/0' -c 'select 2' -c 'commit'; work -1 -c "insert into $table values (800)" -c 'selec'; work -c "select count(*) from $table where id = 800"; }
connects() { work <<<"\\c - - - -
select 1;
\\c template1
select current_database();"; }
interrupted() { # Ctrl-C is SIGINT
	local query='/* walgate: target=primary */ select pg_sleep(50)' pid
	psql -XAtq -c "$query" -c 'select 1' >"$files/interrupted" 2>&1 &
	pid=$!
	for _ in $(seq 100); do
		[ "$(work -c "/* walgate: target=primary */ select count(*) from pg_stat_activity where query = '$query' and state = 'active'")" = 1 ] && break
		sleep 0.1
	done
	kill -INT "$pid"
	wait "$pid"
	cat "$files/interrupted"
}
single() { work --single-transaction -f - <<<"set local work_mem = '3MB'; show work_mem;" && work -c 'show work_mem'; }
variables() { work -c 'show client_encoding' -c "set client_encoding = 'LATIN1'" -c "select length(convert_to('x', 'LATIN1'))" -c '\encoding'; PGOPTIONS='-c statement_timeout=4321' work -c 'show statement_timeout'; PGTZ=Asia/Tokyo work -c 'show timezone'; }
large() { work <<<"\\lo_import $files/in
\\lo_export :LASTOID $files/exported
\\lo_unlink :LASTOID"; cmp "$files/in" "$files/exported" && echo same; }

check create create
check scripted scripted
check copy copies
check "copy from stdin" stdin_copy
check "gset, gexec, gdesc" gset
work -c "drop sequence if exists ${table}_seq" -c "create sequence ${table}_seq" >/dev/null
check watch watched
check "fetch count" fetches
check describe describes
check errors errors
check connect connects
check interrupt interrupted
check "single transaction" single
check variables variables
check "large objects" large
