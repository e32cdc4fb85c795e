// What the JavaScript group members have in common: arguments, commands and events, as in agent.py.

import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'

export const require = createRequire(`${process.env.NODE_PATH}/`)

export const options = Object.fromEntries(
  process.argv.slice(2).map((argument) => {
    const at = argument.indexOf('=')
    return [argument.slice(0, at), argument.slice(at + 1)]
  }),
)

export function say(event, more = {}) {
  // Offsets are BigInt in one of the clients; none here is beyond 2^53.
  const plain = (_, value) => (typeof value === 'bigint' ? Number(value) : value)
  process.stdout.write(`${JSON.stringify({ event, ...more }, plain)}\n`)
}

export const sayError = (error) => say('error', { message: String(error?.message ?? error) })

// Obeys the lines on standard input one after the other; `close` ends the process.
export function obey(handlers) {
  let last = Promise.resolve()
  const input = createInterface({ input: process.stdin })
  input.on('line', (line) => {
    const [verb, ...rest] = line.split(' ')
    last = last.then(() => handlers[verb](rest.join(' '))).catch(sayError)
    if (verb === 'close') {
      last = last.then(() => {
        say('closed')
        process.exit(0)
      })
    }
  })
  input.on('close', () => last.then(() => process.exit(3))) // the test has gone
}
