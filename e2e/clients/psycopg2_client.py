"""psycopg2: libpq, everything simple protocol."""
import io
import select
import threading
import time

import psycopg2
import psycopg2.extensions
import psycopg2.extras

from cases import DATABASE, HOST, PASSWORD, PORT, USER, case, run, table


def connect(**more):
    return psycopg2.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, sslmode="disable", **more)


conn = connect()
T = table("psycopg2")


@case
def create():
    with conn, conn.cursor() as cur:
        cur.execute(f"drop table if exists {T}")
        cur.execute(f"create table {T} (id serial primary key, v text, n numeric, b bytea, j jsonb, a int[], at timestamptz)")
    return cur.statusmessage


@case
def insert_and_select():
    with conn, conn.cursor() as cur:
        cur.execute(f"insert into {T} (v, n, b, j, a) values (%s, %s, %s, %s, %s) returning id",
                    ("it's", 1.5, b"\x00\xff", psycopg2.extras.Json({"k": [1, None]}), [1, 2, 3]))
        key = cur.fetchone()[0]
        cur.execute(f"select v, n, b, j, a, at from {T} where id = %s", (key,))
        row = cur.fetchone()
    return row[0], str(row[1]), bytes(row[2]), row[3], row[4], row[5]


@case
def autocommit_reads():
    with connect() as other:
        other.autocommit = True
        with other.cursor() as cur:
            cur.execute(f"insert into {T} (v) values ('mine')")
            cur.execute(f"select count(*) from {T} where v = 'mine'")
            count = cur.fetchone()[0]
            cur.execute("select 1; select 2")
            return count, cur.fetchone()[0]


@case
def execute_values():
    with conn, conn.cursor() as cur:
        psycopg2.extras.execute_values(cur, f"insert into {T} (v) values %s", [(f"row {i}",) for i in range(1000)])
        psycopg2.extras.execute_batch(cur, f"insert into {T} (v) values (%s)", [(f"row {i}",) for i in range(300)], page_size=50)
        cur.execute(f"select count(*) from {T} where v like 'row%%'")
        return cur.fetchone()[0]


@case
def copy_both_ways():
    with conn, conn.cursor() as cur:
        cur.copy_expert(f"copy {T} (v) from stdin", io.StringIO("".join(f"copied {i}\n" for i in range(5000))))
        out = io.StringIO()
        cur.copy_expert(f"copy (select v from {T} where v like 'copied%' order by id) to stdout", out)
        return cur.rowcount, len(out.getvalue()), out.getvalue()[:10]


@case
def copy_fails():
    try:
        with conn, conn.cursor() as cur:
            cur.copy_expert(f"copy {T} (id) from stdin", io.StringIO("1000001\nno number\n"))
    except psycopg2.Error as error:
        with conn, conn.cursor() as cur:
            cur.execute(f"select count(*) from {T} where id = 1000001")
            return error.pgcode, cur.fetchone()[0]


@case
def server_side_cursor():
    with conn:
        with conn.cursor("named") as cur:
            cur.itersize = 100
            cur.execute(f"select id from {T} where v like 'copied%' order by id")
            return sum(1 for _ in cur)


@case
def cursor_with_hold():
    cur = conn.cursor("held", withhold=True)
    cur.execute("select generate_series(1, 500)")
    first = cur.fetchmany(10)
    conn.commit()
    rest = cur.fetchall()
    cur.close()
    conn.commit()
    return len(first), len(rest), rest[-1]


@case
def savepoints():
    with conn, conn.cursor() as cur:
        cur.execute(f"insert into {T} (v) values ('outer')")
        cur.execute("savepoint s")
        try:
            cur.execute("select 1/0")
        except psycopg2.Error as error:
            code = error.pgcode
        cur.execute("rollback to s")
        cur.execute("release s")
        cur.execute(f"select count(*) from {T} where v = 'outer'")
        return code, cur.fetchone()[0]


@case
def failed_transaction():
    codes = []
    cur = conn.cursor()
    for sql in ("select * from no_such_table", "select 1"):
        try:
            cur.execute(sql)
        except psycopg2.Error as error:
            codes.append(error.pgcode)
    status = conn.get_transaction_status()
    conn.rollback()
    return codes, status, conn.get_transaction_status()


@case
def read_only_transaction():
    with connect() as other:
        other.set_session(readonly=True, isolation_level="REPEATABLE READ")
        with other.cursor() as cur:
            cur.execute(f"select count(*) > 0 from {T}")
            found = cur.fetchone()[0]
            try:
                cur.execute(f"insert into {T} (v) values ('no')")
            except psycopg2.Error as error:
                return found, error.pgcode


@case
def serializable_transaction():
    with connect() as other:
        other.set_session(isolation_level="SERIALIZABLE")
        with other.cursor() as cur:
            cur.execute("show transaction_isolation")
            return cur.fetchone()[0]


@case
def settings():
    with connect(options="-c statement_timeout=12345 -c search_path=public,pg_catalog", application_name="a client") as other:
        other.autocommit = True
        with other.cursor() as cur:
            seen = []
            cur.execute("set timezone = 'Asia/Tokyo'")
            cur.execute("set work_mem = '5MB'")
            for name in ("statement_timeout", "search_path", "timezone", "work_mem", "application_name"):
                cur.execute(f"select current_setting('{name}')")
                seen.append(cur.fetchone()[0])
            cur.execute("reset timezone")
            cur.execute("reset work_mem")
            cur.execute("show work_mem")
            return seen, cur.fetchone()[0], other.get_parameter_status("standard_conforming_strings")


@case
def encodings():
    with connect() as other:
        other.set_client_encoding("LATIN1")
        with other.cursor() as cur:
            cur.execute("select 'caf\u00e9', length('caf\u00e9')")
            return cur.fetchone(), other.encoding


@case
def listen_and_notify():
    other = connect()
    other.autocommit = True
    cur = other.cursor()
    cur.execute("listen clients")
    with conn, conn.cursor() as sender:
        sender.execute("notify clients, 'hello'")
    select.select([other], [], [], 20)
    other.poll()
    seen = [(n.channel, n.payload) for n in other.notifies]
    other.close()
    return seen


@case
def cancel():
    timer = threading.Timer(0.5, conn.cancel)
    timer.start()
    began = time.monotonic()
    try:
        with conn.cursor() as cur:
            cur.execute("select pg_sleep(30)")
    except psycopg2.extensions.QueryCanceledError as error:
        conn.rollback()
        return error.pgcode, time.monotonic() - began < 20


@case
def large_objects():
    with conn:
        large = conn.lobject(0, "wb")
        large.write(b"x" * 100000)
        large.close()
        again = conn.lobject(large.oid, "rb")
        again.seek(99990)
        tail = again.read()
        again.close()
        conn.lobject(large.oid).unlink()
    return tail


@case
def notices():
    with conn, conn.cursor() as cur:
        cur.execute("do $$ begin raise notice 'look %', 1; end $$")
    return conn.notices[-1]


@case
def big_values():
    big = "y" * (8 << 20)
    with conn, conn.cursor() as cur:
        cur.execute("select length(%s), %s", (big, big))
        row = cur.fetchone()
        return row[0], row[1] == big


@case
def temporary_table():
    with connect() as other:
        other.autocommit = True
        with other.cursor() as cur:
            cur.execute("create temp table mine (i int)")
            cur.execute("insert into mine select generate_series(1, 5)")
            cur.execute("select count(*) from mine")
            return cur.fetchone()[0]


@case
def two_phase():
    xid = conn.xid(1, table("gtrid"), "bqual")
    conn.tpc_begin(xid)
    with conn.cursor() as cur:
        cur.execute("select 1")
    conn.tpc_rollback()
    return conn.get_transaction_status()


@case
def asynchronous_connection():
    other = psycopg2.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname=DATABASE, sslmode="disable", async_=True)
    psycopg2.extras.wait_select(other)
    cur = other.cursor()
    cur.execute("select 42")
    psycopg2.extras.wait_select(other)
    value = cur.fetchone()[0]
    other.close()
    return value


@case
def reconnects():
    values = []
    for i in range(30):
        other = connect()
        with other.cursor() as cur:
            cur.execute("select %s", (i,))
            values.append(cur.fetchone()[0])
        other.close()
    return sum(values)


@case
def wrong_password():
    try:
        psycopg2.connect(host=HOST, port=PORT, user=USER, password="wrong", dbname=DATABASE, sslmode="disable")
    except psycopg2.OperationalError as error:
        return "password authentication failed" in str(error)


@case
def no_such_database():
    try:
        psycopg2.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, dbname="no such", sslmode="disable")
    except psycopg2.OperationalError as error:
        return "does not exist" in str(error)


run()
