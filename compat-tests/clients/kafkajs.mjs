// Scenarios with kafkajs, the JavaScript client with a strict decoder of its own.
//
// Called as `kafkajs.mjs BOOTSTRAP SCENARIO PREFIX` with NODE_PATH naming the folder that has
// kafkajs; exits 0 when the scenario holds. kafkajs consumes in groups only, so what it produced is
// read back by the caller: `produced` prints one line of JSON per topic, and the topics are left to
// the caller.

import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

const require = createRequire(`${process.env.NODE_PATH}/`)
const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = require('kafkajs')

const [bootstrap, scenario, prefix] = process.argv.slice(2)
const kafka = new Kafka({
  clientId: 'ottla-compat',
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  retry: { retries: 5 },
})
const admin = kafka.admin()

async function makeTopic(name, numPartitions = 1, configEntries = []) {
  const topic = `${prefix}-${name}`
  const topics = [{ topic, numPartitions, replicationFactor: 1, configEntries }]
  assert.equal(await admin.createTopics({ topics, waitForLeaders: true }), true)
  return topic
}

const deleteTopic = (topic) => admin.deleteTopics({ topics: [topic] })

async function produce(topic, messages, options = {}, producerOptions = {}) {
  const producer = kafka.producer({ allowAutoTopicCreation: false, ...producerOptions })
  await producer.connect()
  try {
    return await producer.send({ topic, messages, ...options })
  } finally {
    await producer.disconnect()
  }
}

// Tells the caller what a consumer of another family must find in partition 0 of the topic.
function produced(topic, values) {
  console.log(JSON.stringify({ topic, values }))
}

async function rejects(type, call) {
  await assert.rejects(call, (error) => {
    const cause = error.errors?.[0] ?? error.cause ?? error
    assert.equal(cause.type ?? error.type, type, String(error))
    return true
  })
}

const scenarios = {
  async metadata() {
    const topic = await makeTopic('metadata', 3)
    const cluster = await admin.describeCluster()
    assert.ok(cluster.clusterId)
    assert.ok(cluster.brokers.some((broker) => broker.nodeId === cluster.controller))
    assert.ok((await admin.listTopics()).includes(topic))
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.equal(topics[0].partitions.length, 3)
    await deleteTopic(topic)
  },

  async topic_admin() {
    const topic = await makeTopic('admin', 2, [{ name: 'retention.ms', value: '3600000' }])
    assert.equal(await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }), false)
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
    assert.equal(topics[0].partitions.length, 5)
    const fewer = { topicPartitions: [{ topic, count: 3 }] }
    await rejects('INVALID_PARTITIONS', () => admin.createPartitions(fewer))
    await deleteTopic(topic)
    for (let tries = 0; (await admin.listTopics()).includes(topic); tries += 1) {
      assert.ok(tries < 100, 'the deleted topic is still listed')
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  },

  async produce_consume() {
    const topic = await makeTopic('records')
    const values = Array.from({ length: 500 }, (_, i) => `value ${i} ✓`)
    const messages = values.map((value, i) => ({
      key: i % 2 ? `key ${i}` : null,
      value,
      headers: { one: `${i}`, two: ['a', 'b'] },
    }))
    const [result] = await produce(topic, messages)
    assert.equal(result.errorCode, 0)
    assert.equal(result.baseOffset, '0')
    produced(topic, values)
  },

  async codecs() {
    const topic = await makeTopic('codecs')
    const values = []
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      const batch = Array.from({ length: 200 }, (_, i) => `${compression}-${i}-${'x'.repeat(500)}`)
      await produce(topic, batch.map((value) => ({ value })), { compression })
      values.push(...batch)
    }
    produced(topic, values)
  },

  async offsets() {
    const topic = await makeTopic('offsets')
    const base = Math.floor(Date.now() / 1000) * 1000 - 3_600_000 // retention lets them be
    for (let i = 0; i < 10; i += 1) {
      await produce(topic, [{ value: `${i}`, timestamp: `${base + i * 1000}` }])
    }
    const [ends] = await admin.fetchTopicOffsets(topic)
    assert.deepEqual([ends.low, ends.high], ['0', '10'])
    const at = async (ms) => (await admin.fetchTopicOffsetsByTimestamp(topic, ms))[0].offset
    assert.equal(await at(base + 4500), '5')
    assert.equal(await at(base + 60_000), '10') // kafkajs turns "none" into the end
    await deleteTopic(topic)
  },

  async idempotent() {
    const topic = await makeTopic('idempotent')
    const values = Array.from({ length: 1000 }, (_, i) => `${i}`)
    const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (let i = 0; i < values.length; i += 100) {
      const messages = values.slice(i, i + 100).map((value) => ({ value }))
      await producer.send({ topic, messages, acks: -1 })
    }
    await producer.disconnect()
    produced(topic, values)
  },

  async configs() {
    const topic = await makeTopic('configs', 1, [{ name: 'retention.ms', value: '3600000' }])
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    const described = async () => {
      const { resources } = await admin.describeConfigs({ resources: [resource] })
      assert.equal(resources[0].errorCode, 0)
      return new Map(resources[0].configEntries.map((e) => [e.configName, e.configValue]))
    }
    assert.equal((await described()).get('retention.ms'), '3600000')
    assert.ok((await described()).size >= 25)
    const entries = (name, value) => [{ ...resource, configEntries: [{ name, value }] }]
    await admin.alterConfigs({ resources: entries('max.message.bytes', '2000000') })
    assert.equal((await described()).get('max.message.bytes'), '2000000')
    assert.equal((await described()).get('retention.ms'), '604800000') // this call replaces all
    const bad = { resources: entries('retention.ms', 'soon') }
    await rejects('INVALID_CONFIG', () => admin.alterConfigs(bad))
    await deleteTopic(topic)
  },

  async large() {
    const topic = await makeTopic('large')
    const value = '0123456789'.repeat(90_000) // 900 KB, below the default of 1 MiB
    await produce(topic, [{ value }])
    produced(topic, [value])
    const limited = await makeTopic('limited', 1, [{ name: 'max.message.bytes', value: '10000' }])
    const tooLarge = [{ value: value.slice(0, 20_000) }]
    await rejects('MESSAGE_TOO_LARGE', () => produce(limited, tooLarge))
    await deleteTopic(limited)
  },

  async acks() {
    const topic = await makeTopic('acks')
    const values = []
    for (const acks of [0, 1, -1]) {
      const batch = Array.from({ length: 100 }, (_, i) => `${acks}-${i}`)
      await produce(topic, batch.map((value) => ({ value })), { acks })
      values.push(...batch)
      for (let tries = 0; ; tries += 1) {
        const [ends] = await admin.fetchTopicOffsets(topic)
        if (Number(ends.high) === values.length) break
        assert.ok(tries < 100, `${ends.high} of ${values.length} messages arrived`)
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
    }
    produced(topic, values)
  },

  async errors() {
    const topic = `${prefix}-never-made`
    await rejects('UNKNOWN_TOPIC_OR_PARTITION', () => deleteTopic(topic))
    await rejects('UNKNOWN_TOPIC_OR_PARTITION', () => produce(topic, [{ value: 'x' }]))
  },
}

await admin.connect()
try {
  await scenarios[scenario]()
} finally {
  await admin.disconnect()
}
