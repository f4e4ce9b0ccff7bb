// Runs the cases of one client program: one line per case, so that two runs can be compared.
const [host, port, user, password, database, prefix] = process.argv.slice(2)

exports.options = { host, port: Number(port), user, password, database }
// The connections of a pool are sessions of their own; what one wrote the next one must see.
exports.strong = { options: '-c walgate.consistency=strong' }

exports.table = (name) => `${prefix}_${name}`

const show = (value) => JSON.stringify(value, (key, v) => (typeof v === 'bigint' ? String(v) : v))

exports.run = async (cases, end) => {
  for (const [name, body] of Object.entries(cases)) {
    try {
      console.log(`ok ${name}: ${show(await body())}`)
    } catch (error) {
      console.log(`FAIL ${name}: ${error.code || ''} ${String(error.message).split('\n')[0]}`)
      if (process.env.CLIENT_TRACE) console.error(error)
    }
  }
  await end()
}
