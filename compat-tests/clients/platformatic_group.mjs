// A group member with @platformatic/kafka, in both group protocols; see agent.mjs.

import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { obey, options, say, sayError } from './agent.mjs'

const resolve = createRequire(`${process.env.NODE_PATH}/`).resolve
const { Admin, Consumer } = await import(pathToFileURL(resolve('@platformatic/kafka')))

const { bootstrap, topic, group } = options
const client = { clientId: 'ottla-compat', bootstrapBrokers: [bootstrap], retryDelay: 100 }
const classic = options.protocol !== 'consumer'
const consumer = new Consumer({
  ...client,
  groupId: group,
  autocommit: false,
  maxWaitTime: 100,
  ...(options.instance ? { groupInstanceId: options.instance } : {}),
  ...(classic
    ? {
        sessionTimeout: Number(options.session_ms),
        heartbeatInterval: Number(options.heartbeat_ms),
        rebalanceTimeout: 60_000, // it must not be below the session timeout
      }
    : { groupProtocol: 'consumer' }),
})
const position = new Map() // partition -> the offset after the last record that was delivered
const owned = () => (consumer.assignments ?? []).find((a) => a.topic === topic)?.partitions ?? []
let last = ''

function sayAssignment() {
  for (const partition of position.keys()) {
    if (!owned().includes(partition)) position.delete(partition)
  }
  last = JSON.stringify(owned())
  say('assignment', { partitions: owned() })
}

async function commit(partitions) {
  const wanted = partitions.map((partition) => {
    return { topic, partition, offset: position.get(partition), leaderEpoch: 0 }
  })
  if (!wanted.length) return
  await consumer.commit({ offsets: wanted })
  say('commit', { offsets: Object.fromEntries(wanted.map((o) => [o.partition, o.offset])) })
}

if (classic) consumer.on('consumer:group:join', sayAssignment)
consumer.on('error', sayError)
const offsetsAt = async (timestamp) => {
  const found = await consumer.listOffsets({ topics: [topic], timestamp: BigInt(timestamp) })
  return found.get(topic).map((offset, partition) => ({ topic, partition, offset }))
}
const start = options.seek_ms
  ? { mode: 'manual', offsets: await offsetsAt(options.seek_ms) }
  : { mode: 'committed', fallbackMode: options.reset === 'none' ? 'fail' : options.reset }
// One commit per record would be slower than the records come.
const autocommit = options.commit === 'batch' ? 100 : false
const stream = await consumer.consume({ topics: [topic], autocommit, ...start })
stream.on('autocommit', (error) => (error ? sayError(error) : say('sent')))
stream.on('error', sayError)
// The new protocol changes assignments without an event of its own.
setInterval(() => JSON.stringify(owned()) !== last && sayAssignment(), 20)
stream.on('data', ({ partition, offset, value }) => {
  say('record', { partition, offset, value: value.toString() })
  position.set(partition, offset + 1n)
})
obey({
  commit: () => commit([...position.keys()]),
  async committed() {
    const admin = new Admin(client)
    const [found] = await admin.listConsumerGroupOffsets({ groups: [group] })
    const there = found.topics.find((t) => t.name === topic)?.partitions ?? []
    say('committed', {
      offsets: Object.fromEntries(there.map((p) => [p.partitionIndex, p.committedOffset])),
      metadata: {},
    })
    await admin.close()
  },
  async delete(other) {
    const admin = new Admin(client)
    try {
      await admin.deleteGroups({ groups: [other] })
      say('deleted', { code: 0 })
    } catch (error) {
      const names = ['NON_EMPTY_GROUP', 'GROUP_ID_NOT_FOUND']
      const found = names.map((name) => error.findBy?.('apiId', name)).find((known) => known)
      say('deleted', { code: found?.apiCode ?? -1, message: String(error) })
    }
    await admin.close()
  },
  close: () => consumer.close(true),
})
