"""psycopg 3: the extended protocol, statements prepared by the server after a threshold, pipelines, binary formats."""
import threading

import psycopg
from psycopg.rows import dict_row

from cases import DATABASE, HOST, PASSWORD, PORT, USER, case, run, table

T = table("psycopg3")


def connect(**more):
    return psycopg.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, sslmode="disable", **more)


conn = connect(autocommit=True)


@case
def create():
    conn.execute(f"drop table if exists {T}")
    return conn.execute(f"create table {T} (id int primary key, v text, b bytea)").statusmessage


@case
def prepared_beyond_threshold():
    for i in range(20):  # the threshold is 5
        conn.execute(f"insert into {T} (id, v) values (%s, %s)", (i, f"v{i}"))
    seen = [conn.execute(f"select v from {T} where id = %s", (i,)).fetchone()[0] for i in range(20)]
    return len(seen), seen[7]


@case
def prepared_at_once():
    return [conn.execute("select %s::int + 1", (i,), prepare=True).fetchone()[0] for i in range(10)]


@case
def many_prepared_statements():
    with connect(autocommit=True, prepare_threshold=0) as other:  # beyond prepared_max: old ones are deallocated
        return sum(other.execute(f"select {i} + %s::int", (1,)).fetchone()[0] for i in range(250))


@case
def deallocate_all():
    with connect(autocommit=True, prepare_threshold=0) as other:
        other.execute("select %s::int", (1,))
        other.execute("deallocate all")
        try:
            other.execute("select %s::int", (2,))
        except psycopg.errors.InvalidSqlStatementName as error:  # this version does not notice that they are gone
            return error.sqlstate


@case
def binary_formats():
    with conn.cursor(binary=True) as cur:
        cur.execute("select %b::int8, %b::bytea, null::text, %b::float8, array[1, 2, null]::int[], '2020-01-02 03:04:05+00'::timestamptz at time zone 'UTC'",
                    (2**40, b"\x00\x01\xff", 1.25))
        return cur.fetchone()


@case
def execute_many():
    with conn.cursor() as cur:
        cur.executemany(f"insert into {T} (id, v) values (%s, %s) returning id", [(i, "many") for i in range(100, 400)], returning=True)
        results = 1
        while cur.nextset():
            results += 1
        return results, cur.fetchone()


@case
def pipeline():
    with conn.pipeline(), conn.cursor() as cur:
        for i in range(200):
            cur.execute(f"insert into {T} (id, v) values (%s, 'pipe')", (1000 + i,))
        reads = [conn.execute(f"select v from {T} where id = %s", (1000 + i,)) for i in range(20)]
        seen = {read.fetchone()[0] for read in reads}
    return seen, conn.execute(f"select count(*) from {T} where v = 'pipe'").fetchone()[0]


@case
def pipeline_with_error():
    codes = []
    with conn.pipeline() as pipe:
        first = conn.execute("select 1")
        bad = conn.execute("select 1/(%s::int)", (0,))
        skipped = conn.execute("select 2")
        try:
            pipe.sync()
            bad.fetchone()
        except psycopg.Error as error:
            codes.append(error.sqlstate or type(error).__name__)
        try:
            skipped.fetchone()
        except psycopg.Error as error:
            codes.append(error.sqlstate or type(error).__name__)
        after = conn.execute("select 3")
        pipe.sync()
        return first.fetchone()[0], codes, after.fetchone()[0]


@case
def pipeline_in_transaction():
    with connect() as other, other.pipeline():
        other.execute(f"insert into {T} (id, v) values (5000, 'rolled back')")
        other.rollback()
        return other.execute(f"select count(*) from {T} where id = 5000").fetchone()[0]


@case
def long_pipeline():
    with conn.pipeline():
        cursors = [conn.execute("select %s::int, repeat('z', 500)", (i,)) for i in range(3000)]
    return sum(cursor.fetchone()[0] for cursor in cursors)


@case
def copy_both_ways():
    with conn.cursor() as cur:
        with cur.copy(f"copy {T} (id, v) from stdin (format binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(10000, 12000):
                copy.write_row((i, "copied"))
        with cur.copy(f"copy (select id, v from {T} where id >= 10000 order by id) to stdout") as copy:
            rows = list(copy.rows())
    return len(rows), rows[0], rows[-1]


@case
def copy_abandoned():
    try:
        with conn.cursor() as cur, cur.copy(f"copy {T} (id, v) from stdin") as copy:
            copy.write_row((20000, "no"))
            raise ValueError("changed my mind")
    except (ValueError, psycopg.errors.QueryCanceled):
        return conn.execute(f"select count(*) from {T} where id = 20000").fetchone()[0], conn.info.transaction_status.name


@case
def cursors():
    with connect() as other, other.cursor("named", scrollable=True) as cur:
        cur.execute("select generate_series(1, 1000)")
        first = cur.fetchmany(10)
        cur.scroll(-5)
        again = cur.fetchone()
        return len(first), again, len(cur.fetchall())


@case
def nested_transactions():
    with conn.transaction():
        conn.execute(f"insert into {T} (id, v) values (6000, 'outer')")
        try:
            with conn.transaction():
                conn.execute(f"insert into {T} (id, v) values (6000, 'again')")
        except psycopg.errors.UniqueViolation as error:
            code = error.sqlstate
    return code, conn.execute(f"select v from {T} where id = 6000").fetchone()


@case
def read_only_transaction():
    with connect() as other:
        other.read_only = True
        count = other.execute(f"select count(*) > 0 from {T}").fetchone()
        try:
            other.execute(f"delete from {T}")
        except psycopg.Error as error:
            return count, error.sqlstate


@case
def listen_and_notify():
    with connect(autocommit=True) as other:
        other.execute("listen clients3")
        conn.execute("select pg_notify('clients3', 'hello')")
        for notify in other.notifies():
            return notify.channel, notify.payload


@case
def cancel():
    timer = threading.Timer(0.5, conn.cancel)
    timer.start()
    try:
        conn.execute("select pg_sleep(30)")
    except psycopg.errors.QueryCanceled as error:
        return error.sqlstate, conn.execute("select 1").fetchone()


@case
def stream():
    with conn.cursor(row_factory=dict_row) as cur:
        return sum(row["i"] for row in cur.stream("select generate_series(1, 1000) i"))


@case
def settings():
    with connect(autocommit=True, options="-c extra_float_digits=1") as other:
        other.execute("select set_config('datestyle', 'German', false)")
        other.execute("set local work_mem = '7MB'")
        with other.transaction():
            other.execute("set local timezone = 'UTC'")
            inside = other.execute("show timezone").fetchone()[0]
        return (inside, other.info.parameter_status("DateStyle"), other.execute("show extra_float_digits").fetchone(),
                other.execute("select '2020-02-01'::date::text").fetchone())


@case
def large_objects():
    with conn.transaction():
        oid = conn.execute("select lo_from_bytea(0, %s)", (b"q" * 5000,)).fetchone()[0]
    size = conn.execute("select length(lo_get(%s))", (oid,)).fetchone()
    conn.execute("select lo_unlink(%s)", (oid,))
    return size


@case
def big_values():
    big = b"\x07" * (16 << 20)
    conn.execute(f"insert into {T} (id, b) values (7000, %b)", (big,))
    return conn.cursor(binary=True).execute(f"select b from {T} where id = 7000").fetchone()[0] == big


@case
def reconnects():
    total = 0
    for i in range(20):
        with connect() as other:
            total += other.execute("select %s::int", (i,)).fetchone()[0]
    return total


run()
