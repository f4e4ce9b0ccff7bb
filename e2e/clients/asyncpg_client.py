"""asyncpg: its own implementation of the protocol, binary formats, statements prepared for everything, a pool that resets."""
import asyncio

import asyncpg

from cases import DATABASE, HOST, PASSWORD, PORT, USER, case, run_async, table

T = table("asyncpg")
conn = None


async def connect(**more):
    return await asyncpg.connect(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, ssl=False, **more)


@case
async def create():
    global conn
    conn = await connect()
    await conn.execute(f"drop table if exists {T}")
    return await conn.execute(f"create table {T} (id int primary key, v text, tags text[])")


@case
async def prepared():
    for i in range(20):
        await conn.execute(f"insert into {T} values ($1, $2, $3)", i, f"v{i}", ["a", None])
    statement = await conn.prepare(f"select v, tags from {T} where id = $1")
    rows = [tuple(await statement.fetchrow(i)) for i in range(20)]
    return rows[3], [a.name for a in statement.get_attributes()], statement.get_parameters()[0].name


@case
async def execute_many():
    await conn.executemany(f"insert into {T} values ($1, $2)", [(i, "many") for i in range(100, 1100)])
    return await conn.fetchval(f"select count(*) from {T} where v = 'many'")


@case
async def execute_many_fails():
    try:
        await conn.executemany(f"insert into {T} values ($1, $2)", [(5000, "x"), (5001, "x"), (5000, "twice")])
    except asyncpg.UniqueViolationError as error:
        return error.sqlstate, await conn.fetchval(f"select count(*) from {T} where id >= 5000")


@case
async def cursors():
    async with conn.transaction():
        total = 0
        async for row in conn.cursor("select generate_series(1, 1000) i", prefetch=50):
            total += row["i"]
        cursor = await conn.cursor("select generate_series(1, 100)")
        await cursor.forward(10)
        return total, (await cursor.fetchrow())[0], len(await cursor.fetch(5))


@case
async def copy_both_ways():
    status = await conn.copy_records_to_table(T, records=[(i, "copied", None) for i in range(10000, 15000)])
    chunks = []

    async def collect(data):
        chunks.append(data)

    await conn.copy_from_query(f"select id from {T} where v = 'copied'", output=collect, format="binary")
    return status, len(b"".join(chunks))


@case
async def savepoints():
    async with conn.transaction():
        await conn.execute(f"insert into {T} values (6000, 'outer')")
        try:
            async with conn.transaction():
                await conn.execute(f"insert into {T} values (6000, 'inner')")
        except asyncpg.UniqueViolationError:
            pass
    return await conn.fetchval(f"select v from {T} where id = 6000")


@case
async def read_only_transaction():
    try:
        async with conn.transaction(readonly=True, isolation="repeatable_read"):
            await conn.fetchval(f"select count(*) from {T}")
            await conn.execute(f"delete from {T}")
    except asyncpg.ReadOnlySQLTransactionError as error:
        return error.sqlstate


@case
async def types():
    await conn.execute(f"drop type if exists {T}_mood; create type {T}_mood as enum ('sad', 'happy')")
    row = await conn.fetchrow(
        f"select 'happy'::{T}_mood, 1.5::numeric, '{{1,2}}'::int[], row(1, 'x'), '1 day'::interval, null::int, int4range(1, 5), '10.0.0.1'::inet, $1::jsonb",
        '{"a": 1}')
    return [str(value) for value in row]


@case
async def composite_introspection():
    await conn.execute(f"drop type if exists {T}_pair; create type {T}_pair as (x int, y text)")
    return str(await conn.fetchval(f"select (1, 'y')::{T}_pair")), await conn.fetchval(f"select ($1::{T}_pair).y", (2, "z"))


@case
async def listen_and_notify():
    other = await connect()
    arrived = asyncio.get_running_loop().create_future()
    await other.add_listener("clientsa", lambda c, pid, channel, payload: arrived.done() or arrived.set_result((channel, payload)))
    await conn.execute("notify clientsa, 'hello'")
    seen = await asyncio.wait_for(arrived, 20)
    await other.close()
    return seen


@case
async def cancel():
    try:
        await conn.fetch("select pg_sleep(30)", timeout=0.5)
    except asyncio.TimeoutError:
        return await conn.fetchval("select 1")


@case
async def settings():
    other = await connect(server_settings={"application_name": "a client", "search_path": "public"})
    await other.execute("set timezone = 'Asia/Tokyo'")
    seen = other.get_settings().TimeZone, await other.fetchval("select current_setting('application_name')"), await other.fetchval("show timezone")
    await other.reset()
    after = await other.fetchval("select current_setting('application_name')")
    await other.close()
    return seen, after


@case
async def pool():
    async with asyncpg.create_pool(host=HOST, port=PORT, user=USER, password=PASSWORD, database=DATABASE, ssl=False,
                                   min_size=2, max_size=8) as many:
        async def work(i):
            async with many.acquire() as one, one.transaction():
                await one.execute(f"insert into {T} values ($1, 'pool')", 20000 + i)
                return await one.fetchval(f"select count(*) from {T} where id = $1", 20000 + i)

        return sum(await asyncio.gather(*[work(i) for i in range(200)]))


@case
async def schema_changes():
    await conn.execute(f"drop table if exists {T}_changing; create table {T}_changing (a int, b int); insert into {T}_changing values (1, 2)")
    first = tuple(await conn.fetchrow(f"select * from {T}_changing"))
    await conn.execute(f"alter table {T}_changing add c int default 3")
    return first, tuple(await conn.fetchrow(f"select * from {T}_changing"))


@case
async def errors():
    seen = []
    for sql in ("select 1/0", "select * from nothing_there", "selec", "select 'x'::int"):
        try:
            await conn.fetch(sql)
        except asyncpg.PostgresError as error:
            seen.append(error.sqlstate)
    return seen, await conn.fetchval("select 1")


@case
async def big_values():
    big = b"\x01" * (16 << 20)
    return await conn.fetchval("select $1::bytea", big) == big


@case
async def reconnects():
    total = 0
    for i in range(20):
        other = await connect(statement_cache_size=0 if i % 2 else 100)
        total += await other.fetchval("select $1::int", i)
        await other.close()
    return total


asyncio.run(run_async())
