// postgres.js: pipelines by default, prepares every statement, looks up types, COPY, LISTEN, cursors, cancel.
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const postgres = require('postgres')
const { options, table, run } = require('./cases.js')

const T = table('postgresjs')
const sql = postgres({ ...options, max: 5, onnotice: () => {}, connection: { 'walgate.consistency': 'strong' } })

const cases = {
  async create() {
    await sql`drop table if exists ${sql(T)}`
    return (await sql`create table ${sql(T)} (id int primary key, v text, j jsonb, a int[])`).command
  },
  async insertAndSelect() {
    await sql`insert into ${sql(T)} ${sql([1, 2, 3].map((id) => ({ id, v: `v${id}`, j: sql.json({ id }), a: [id, id + 1] })))}`
    return await sql`select * from ${sql(T)} order by id`
  },
  async simple() {
    return await sql`select 1 as x; select 2 as y`.simple()
  },
  async pipelined() {
    const rows = await Promise.all([...Array(500).keys()].map((i) => sql`select ${i}::int as i`))
    return rows.map(([r]) => r.i).reduce((a, b) => a + b)
  },
  async pipelinedWithErrors() {
    const rows = await Promise.allSettled([...Array(100).keys()].map((i) => sql`select 100 / ${i % 10}::int as i`))
    return [rows.filter((r) => r.status === 'rejected').length, [...new Set(rows.filter((r) => r.reason).map((r) => r.reason.code))]]
  },
  async transaction() {
    const seen = await sql.begin(async (tx) => {
      await tx`insert into ${tx(T)} (id, v) values (10, 'ten')`
      const code = await tx.savepoint((s) => s`select 1/0`).catch((e) => e.code)
      return [code, (await tx`select count(*)::int from ${tx(T)} where id = 10`)[0].count]
    })
    const lost = await sql.begin('read only', (tx) => tx`delete from ${tx(T)}`).catch((e) => e.code)
    return [seen, lost]
  },
  async cursor() {
    let total = 0
    await sql`select i from generate_series(1, 1000) i`.cursor(33, (rows) => { total += rows.length })
    let some = 0
    await sql`select i from generate_series(1, 1000) i`.cursor(33, () => (++some === 3 ? sql.CLOSE : undefined))
    return [total, some]
  },
  async copyBothWays() {
    const rows = [...Array(3000).keys()].map((i) => `${1000 + i}\tcopied\n`)
    await pipeline(Readable.from(rows), await sql`copy ${sql(T)} (id, v) from stdin`.writable())
    let bytes = 0
    for await (const chunk of await sql`copy (select id from ${sql(T)} where v = 'copied') to stdout`.readable()) bytes += chunk.length
    return bytes
  },
  async describe() {
    const d = await sql`select 1::int as a, ${'x'}::text as b`.describe()
    return [d.types, d.columns.map((c) => c.name)]
  },
  async listenAndNotify() {
    return await new Promise((resolve, reject) => {
      sql.listen('clientsjs', resolve).then(() => sql.notify('clientsjs', 'hello')).catch(reject)
    })
  },
  async cancel() {
    const query = sql`select pg_sleep(30)`
    setTimeout(() => query.cancel(), 500)
    return await query.catch((e) => e.code)
  },
  async reserved() {
    const one = await sql.reserve()
    try {
      await one`set timezone = 'Asia/Tokyo'`
      return (await one`show timezone`)[0]
    } finally {
      one.release()
    }
  },
  async errors() {
    const codes = []
    for (const text of ['select 1/0', 'selec', 'select * from nothing_there']) await sql.unsafe(text).catch((e) => codes.push(e.code))
    return codes
  },
  async bigValues() {
    const big = 'z'.repeat(8 << 20)
    return (await sql`select ${big}::text as big`)[0].big === big
  },
  async unprepared() {
    const plain = postgres({ ...options, prepare: false, max: 2, onnotice: () => {} })
    const rows = await Promise.all([...Array(50).keys()].map((i) => plain`select ${i}::int as i`))
    await plain.end()
    return rows.length
  },
}

run(cases, () => sql.end({ timeout: 5 }))
