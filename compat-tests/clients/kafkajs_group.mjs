// A group member with kafkajs, the classic protocol; see agent.mjs.

import { obey, options, require, say, sayError } from './agent.mjs'

const { Kafka, logLevel } = require('kafkajs')

const { bootstrap, topic, group } = options
const kafka = new Kafka({
  clientId: 'ottla-compat',
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { retries: 5, initialRetryTime: 100 },
})
const consumer = kafka.consumer({
  groupId: group,
  sessionTimeout: Number(options.session_ms),
  heartbeatInterval: Number(options.heartbeat_ms),
  rebalanceTimeout: 10_000,
  maxWaitTimeInMs: 100,
})
const position = new Map() // partition -> the offset after the last record that was delivered

async function commit(partitions, metadata) {
  const wanted = partitions.map((partition) => {
    const offset = String(position.get(partition))
    return metadata ? { topic, partition, offset, metadata } : { topic, partition, offset }
  })
  await consumer.commitOffsets(wanted)
  const offsets = Object.fromEntries(wanted.map((o) => [o.partition, Number(o.offset)]))
  say('commit', { offsets })
}

async function withAdmin(call) {
  const admin = kafka.admin()
  await admin.connect()
  try {
    return await call(admin)
  } finally {
    await admin.disconnect()
  }
}

let start = options.seek_ms
  ? await withAdmin((admin) => admin.fetchTopicOffsetsByTimestamp(topic, Number(options.seek_ms)))
  : []
consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
  position.clear()
  // Before the first fetch; one that waits for `run` to return comes after it.
  for (const { partition, offset } of start) consumer.seek({ topic, partition, offset })
  start = []
  say('assignment', { partitions: payload.memberAssignment[topic] ?? [] })
})
consumer.on(consumer.events.CRASH, ({ payload }) => sayError(payload.error))
await consumer.connect()
await consumer.subscribe({ topic, fromBeginning: options.reset === 'earliest' })
await consumer.run({
  autoCommit: false,
  eachBatchAutoResolve: false,
  partitionsConsumedConcurrently: 1,
  async eachBatch({ batch, resolveOffset, heartbeat, isRunning, isStale }) {
    for (const message of batch.messages) {
      if (!isRunning() || isStale()) return
      const { partition } = batch
      const offset = Number(message.offset)
      say('record', { partition, offset, value: message.value.toString() })
      position.set(partition, offset + 1)
      resolveOffset(message.offset)
    }
    if (options.commit === 'batch' && position.has(batch.partition)) await commit([batch.partition])
    await heartbeat()
  },
})
obey({
  commit: (note) => commit([...position.keys()], note),
  async committed() {
    const wanted = { groupId: group, topics: [topic] }
    const [found] = await withAdmin((admin) => admin.fetchOffsets(wanted))
    const there = found.partitions.filter(({ offset }) => offset !== '-1')
    say('committed', {
      offsets: Object.fromEntries(there.map((p) => [p.partition, Number(p.offset)])),
      metadata: Object.fromEntries(there.map((p) => [p.partition, p.metadata])),
    })
  },
  async delete(other) {
    try {
      await withAdmin((admin) => admin.deleteGroups([other]))
      say('deleted', { code: 0 })
    } catch (error) {
      say('deleted', { code: error.groups?.[0]?.errorCode ?? error.code })
    }
  },
  close: () => consumer.disconnect(),
})
