// node-postgres: simple and extended protocol, named statements, cursors, COPY streams, LISTEN, a pool.
const { once } = require('node:events')
const { Readable } = require('node:stream')
const { pipeline } = require('node:stream/promises')
const pg = require('pg')
const Cursor = require('pg-cursor')
const copy = require('pg-copy-streams')
const { options, strong, table, run } = require('./cases.js')

const T = table('pg')
const pool = new pg.Pool({ ...options, ...strong, max: 5 })

const withClient = async (body, more = {}) => {
  const client = new pg.Client({ ...options, ...more })
  await client.connect()
  try {
    return await body(client)
  } finally {
    await client.end()
  }
}

const cases = {
  async create() {
    await pool.query(`drop table if exists ${T}`)
    return (await pool.query(`create table ${T} (id int primary key, v text, j jsonb, b bytea)`)).command
  },
  async simple() {
    const results = await pool.query('select 1 as one; select null as nothing, 2.5::numeric as n')
    return results.map((r) => r.rows)
  },
  async extended() {
    await pool.query(`insert into ${T} values ($1, $2, $3, $4)`, [1, "it's", { k: [1, null] }, Buffer.from([0, 255])])
    return (await pool.query(`select * from ${T} where id = $1`, [1])).rows
  },
  async named() {
    const seen = []
    for (let i = 0; i < 30; i++) {
      seen.push((await pool.query({ name: 'double', text: 'select $1::int * 2 as d', values: [i] })).rows[0].d)
    }
    return seen.reduce((a, b) => a + b)
  },
  async concurrent() {
    const rows = await Promise.all([...Array(200).keys()].map((i) => pool.query('select $1::int as i', [i])))
    return rows.map((r) => r.rows[0].i).reduce((a, b) => a + b)
  },
  async queued() {
    return withClient(async (client) => {
      const all = [...Array(100).keys()].map((i) => client.query('select $1::int as i', [i]))
      return (await Promise.all(all)).length
    })
  },
  async transaction() {
    return withClient(async (client) => {
      await client.query('begin')
      await client.query(`insert into ${T} (id, v) values (2, 'two')`)
      await client.query('savepoint s')
      const code = await client.query('select 1/0').catch((e) => e.code)
      await client.query('rollback to savepoint s')
      await client.query('commit')
      return [code, (await client.query(`select v from ${T} where id = 2`)).rows]
    })
  },
  async binary() {
    return (await pool.query({ text: 'select 7::int4 as i, true as t, $1::text as s', values: ['x'], binary: true })).rows
  },
  async portal() {
    return withClient(async (client) => {
      const cursor = client.query(new Cursor('select i from generate_series(1, 1000) i'))
      let total = 0
      for (;;) {
        const rows = await cursor.read(37)
        if (rows.length === 0) break
        total += rows.length
      }
      await cursor.close()
      return [total, (await client.query('select 1 as after')).rows]
    })
  },
  async portalClosedEarly() {
    return withClient(async (client) => {
      const cursor = client.query(new Cursor('select i from generate_series(1, 1000) i'))
      const first = await cursor.read(10)
      await cursor.close()
      return [first.length, (await client.query('select 2 as after')).rows]
    })
  },
  async copyBothWays() {
    return withClient(async (client) => {
      const rows = [...Array(5000).keys()].map((i) => `${10000 + i}\tcopied\n`)
      await pipeline(Readable.from(rows), client.query(copy.from(`copy ${T} (id, v) from stdin`)))
      let bytes = 0
      const out = client.query(copy.to(`copy (select id from ${T} where v = 'copied') to stdout`))
      for await (const chunk of out) bytes += chunk.length
      return [bytes, (await client.query(`select count(*) from ${T}`)).rows]
    })
  },
  async listenAndNotify() {
    return withClient(async (client) => {
      await client.query('listen clientspg')
      const arrived = once(client, 'notification')
      await pool.query(`select pg_notify('clientspg', 'hello')`)
      const [message] = await arrived
      return [message.channel, message.payload]
    })
  },
  async errors() {
    const codes = []
    for (const text of ['select 1/0', 'selec', 'select * from nothing_there', `insert into ${T} (id) values (1)`]) {
      await pool.query(text).catch((e) => codes.push(e.code))
      await pool.query({ text, values: [] }).catch((e) => codes.push(e.code))
    }
    return codes
  },
  async notices() {
    return withClient(async (client) => {
      const arrived = once(client, 'notice')
      await client.query(`do $$ begin raise notice 'look'; end $$`)
      return (await arrived)[0].message
    })
  },
  async settings() {
    return withClient(async (client) => {
      await client.query(`set timezone = 'Asia/Tokyo'`)
      const seen = await client.query(`select current_setting('timezone') as tz, current_setting('application_name') as app,
        current_setting('statement_timeout') as timeout`)
      return seen.rows
    }, { application_name: 'a client', statement_timeout: 54321 })
  },
  async cancelByTimeout() {
    return withClient(async (client) => client.query('select pg_sleep(30)').catch((e) => e.code), { statement_timeout: 300 })
  },
  async schemaChanges() {
    return withClient(async (client) => {
      await client.query(`drop table if exists ${T}_changing`)
      await client.query(`create table ${T}_changing (a int)`)
      const statement = { name: 'changing', text: `select * from ${T}_changing` }
      await client.query(statement)
      await client.query(`alter table ${T}_changing add b int`)
      return client.query(statement).then((r) => r.rows, (e) => e.code)
    })
  },
  async bigValues() {
    const big = 'z'.repeat(8 << 20)
    return (await pool.query('select $1::text as big', [big])).rows[0].big === big
  },
  async reconnects() {
    let total = 0
    for (let i = 0; i < 20; i++) {
      total += await withClient(async (client) => (await client.query('select $1::int as i', [i])).rows[0].i)
    }
    return total
  },
}

run(cases, () => pool.end())
