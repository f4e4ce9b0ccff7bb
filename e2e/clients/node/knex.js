// knex: a query builder with migrations of its own, over node-postgres.
const knex = require('knex')
const { options, strong, table, run } = require('./cases.js')

const T = table('knex')
const db = knex({ client: 'pg', connection: { ...options, ...strong }, pool: { min: 0, max: 4 } })

const cases = {
  async create() {
    await db.schema.dropTableIfExists(T)
    await db.schema.createTable(T, (t) => {
      t.increments('id')
      t.string('name').unique()
      t.jsonb('extra')
    })
    return [await db.schema.hasTable(T), await db.schema.hasColumn(T, 'extra')]
  },
  async insertAndSelect() {
    const ids = await db(T).insert([...Array(50).keys()].map((i) => ({ name: `n${i}`, extra: { i } }))).returning('id')
    return [ids.length, await db(T).where('name', 'n7').first('name', 'extra'), await db(T).count()]
  },
  async batchInsert() {
    await db.batchInsert(T, [...Array(500).keys()].map((i) => ({ name: `b${i}` })), 100)
    return await db(T).where('name', 'like', 'b%').count()
  },
  async transactions() {
    const code = await db.transaction(async (tx) => {
      await tx(T).insert({ name: 'inside' })
      await tx(T).insert({ name: 'n7' })
    }).catch((e) => e.code)
    const nested = await db.transaction(async (tx) => {
      await tx.transaction((inner) => inner(T).insert({ name: 'n7' })).catch(() => {})
      await tx(T).insert({ name: 'kept' })
      return tx(T).whereIn('name', ['kept', 'inside']).count()
    })
    return [code, nested]
  },
  async upsert() {
    return await db(T).insert({ name: 'n7', extra: { up: 1 } }).onConflict('name').merge().returning(['name', 'extra'])
  },
  async alter() {
    await db.schema.alterTable(T, (t) => t.integer('more').defaultTo(5))
    return await db(T).where('name', 'n7').first('more')
  },
}

run(cases, () => db.destroy())
