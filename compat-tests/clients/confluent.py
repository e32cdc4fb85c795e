"""Scenarios with confluent-kafka, the Python client over the newest librdkafka.

Called as `confluent.py BOOTSTRAP SCENARIO PREFIX`; exits 0 when the scenario holds. Topics start
with PREFIX and are deleted by the scenario that made them. Consumers assign partitions themselves.
"""

import sys
import time

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

BOOTSTRAP, SCENARIO, PREFIX = sys.argv[1:4]
TIMEOUT_S = 30
ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def done(futures):
    """Waits for the futures of an admin call and returns their results by key."""
    return {key: future.result(TIMEOUT_S) for key, future in futures.items()}


def make_topic(name, partitions=1, **config):
    topic = f"{PREFIX}-{name}"
    done(ADMIN.create_topics([NewTopic(topic, partitions, 1, config=config)]))
    return topic


def delete_topic(topic):
    done(ADMIN.delete_topics([topic]))


def produce(topic, records, **config):
    """Sends records (dicts for `Producer.produce`) and returns the acknowledged messages."""
    acknowledged, errors = [], []

    def delivered(error, message):
        (errors if error else acknowledged).append(error or message)

    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 5, **config})
    for record in records:
        producer.produce(topic, on_delivery=delivered, **record)
    assert producer.flush(TIMEOUT_S) == 0, "not everything was acknowledged in time"
    if errors:
        raise KafkaException(errors[0])
    return acknowledged


def consume(topic, count, partition=0, offset=0, **config):
    consumer = Consumer({
        "bootstrap.servers": BOOTSTRAP,
        "group.id": f"{PREFIX}-none",
        "enable.auto.commit": False,
        "auto.offset.reset": "error",
        "check.crcs": True,
        **config,
    })
    consumer.assign([TopicPartition(topic, partition, offset)])
    messages, deadline = [], time.monotonic() + TIMEOUT_S
    while len(messages) < count:
        assert time.monotonic() < deadline, f"only {len(messages)} of {count} messages arrived"
        message = consumer.poll(0.5)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
    consumer.close()
    return messages


def metadata():
    topic = make_topic("metadata", 3)
    cluster = ADMIN.list_topics(timeout=TIMEOUT_S)
    assert cluster.cluster_id, "no cluster id"
    assert cluster.controller_id in cluster.brokers, "the controller is not a broker"
    assert len(cluster.topics[topic].partitions) == 3
    assert all(p.leader in cluster.brokers for p in cluster.topics[topic].partitions.values())
    described = ADMIN.describe_cluster().result(TIMEOUT_S)
    assert described.cluster_id == cluster.cluster_id
    topics = done(ADMIN.describe_topics(TopicCollection([topic])))
    assert len(topics[topic].partitions) == 3 and not topics[topic].is_internal
    assert str(topics[topic].topic_id) != "AAAAAAAAAAAAAAAAAAAAAA"
    delete_topic(topic)


def topic_admin():
    topic = make_topic("admin", 2, **{"retention.ms": "3600000"})
    try:
        make_topic("admin", 2)
        raise AssertionError("the same name was created twice")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
    checked = NewTopic(f"{PREFIX}-checked", 1, 1)
    done(ADMIN.create_topics([checked], validate_only=True))
    assert checked.topic not in ADMIN.list_topics(timeout=TIMEOUT_S).topics
    done(ADMIN.create_partitions([NewPartitions(topic, 5)]))
    assert len(ADMIN.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions) == 5
    try:
        done(ADMIN.create_partitions([NewPartitions(topic, 3)]))
        raise AssertionError("partitions were taken away")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.INVALID_PARTITIONS, error
    for bad in [NewTopic(f"{PREFIX}-a b", 1, 1), NewTopic(f"{PREFIX}-rf", 1, 3)]:
        try:
            done(ADMIN.create_topics([bad]))
            raise AssertionError(f"{bad} was created")
        except KafkaException as error:
            codes = [KafkaError.TOPIC_EXCEPTION, KafkaError.INVALID_REPLICATION_FACTOR]
            assert error.args[0].code() in codes, error
    delete_topic(topic)
    deadline = time.monotonic() + TIMEOUT_S
    while topic in ADMIN.list_topics(timeout=TIMEOUT_S).topics:
        assert time.monotonic() < deadline, "the deleted topic is still listed"
        time.sleep(0.1)


def produce_consume():
    topic = make_topic("records", 2)
    now_ms = int(time.time() * 1000)
    sent = [
        {
            "key": b"k",
            "value": b"v",
            "headers": [("h", b"1"), ("h", b"2"), ("empty", b""), ("null", None)],
        },
        {"key": None, "value": b"no key"},
        {"key": b"tombstone", "value": None},
        {"key": b"", "value": b""},
        {"key": "ключ".encode(), "value": "värde ✓".encode(), "headers": [("ü", b"\x00\xff")]},
    ]
    for index, record in enumerate(sent):
        record.update(partition=1, timestamp=now_ms + index)
    sent += [{"value": str(i).encode(), "partition": 1} for i in range(2000)]
    acknowledged = produce(topic, sent)
    assert sorted(m.offset() for m in acknowledged) == list(range(len(sent)))
    received = consume(topic, len(sent), partition=1)
    for index, (record, message) in enumerate(zip(sent, received)):
        assert message.offset() == index, (message.offset(), index)
        assert message.value() == record.get("value"), (index, message.value())
        assert message.key() == record.get("key"), (index, message.key())
        assert (message.headers() or []) == record.get("headers", []), message.headers()
        if "timestamp" in record:
            assert message.timestamp()[1] == record["timestamp"], message.timestamp()
    middle = consume(topic, 10, partition=1, offset=1000)
    assert [m.offset() for m in middle] == list(range(1000, 1010))
    delete_topic(topic)


def codecs():
    topic = make_topic("codecs")
    expected = []
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        values = [f"{codec}-{i}-".encode() + b"x" * 500 for i in range(200)]
        produce(topic, [{"value": v} for v in values], **{"compression.type": codec})
        expected += values
    assert [m.value() for m in consume(topic, len(expected))] == expected
    delete_topic(topic)


def offsets():
    topic = make_topic("offsets")
    base_ms = int(time.time()) * 1000 - 3_600_000  # retention lets them be
    for i in range(10):  # one batch each
        produce(topic, [{"value": str(i).encode(), "timestamp": base_ms + i * 1000}])

    def list_offset(spec):
        listed = done(ADMIN.list_offsets({TopicPartition(topic, 0): spec}))
        return next(iter(listed.values()))

    assert list_offset(OffsetSpec.earliest()).offset == 0
    assert list_offset(OffsetSpec.latest()).offset == 10
    assert list_offset(OffsetSpec.for_timestamp(base_ms + 4500)).offset == 5
    assert list_offset(OffsetSpec.for_timestamp(base_ms + 5000)).offset == 5
    assert list_offset(OffsetSpec.for_timestamp(base_ms + 60_000)).offset == -1
    newest = list_offset(OffsetSpec.max_timestamp())
    assert (newest.offset, newest.timestamp) == (9, base_ms + 9000), newest
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": f"{PREFIX}-none"})
    assert consumer.get_watermark_offsets(TopicPartition(topic, 0), TIMEOUT_S) == (0, 10)
    found = consumer.offsets_for_times([TopicPartition(topic, 0, base_ms + 8001)], TIMEOUT_S)
    assert found[0].offset == 9, found
    consumer.close()
    delete_topic(topic)


def idempotent():
    topic = make_topic("idempotent", 3)
    records = [{"value": str(i).encode(), "partition": i % 3} for i in range(6000)]
    acknowledged = produce(topic, records, **{"enable.idempotence": True, "acks": "all"})
    assert len(acknowledged) == 6000
    for partition in range(3):
        values = [int(m.value()) for m in consume(topic, 2000, partition=partition)]
        assert values == list(range(partition, 6000, 3)), "order or number is wrong"
    delete_topic(topic)


def configs():
    topic = make_topic("configs", **{"retention.ms": "3600000"})
    resource = ConfigResource(ResourceType.TOPIC, topic)

    def described(resource):
        return done(ADMIN.describe_configs([resource]))[resource]

    entries = described(resource)
    assert entries["retention.ms"].value == "3600000"
    assert entries["retention.ms"].source == 1, "a dynamic topic config"
    assert entries["segment.bytes"].is_default, entries["segment.bytes"]
    assert len(entries) >= 25, f"only {len(entries)} topic configs"

    def alter(name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        wanted = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        done(ADMIN.incremental_alter_configs([wanted]))

    alter("max.message.bytes", "2000000", AlterConfigOpType.SET)
    assert described(resource)["max.message.bytes"].value == "2000000"
    alter("cleanup.policy", "compact", AlterConfigOpType.APPEND)
    assert described(resource)["cleanup.policy"].value == "delete,compact"
    alter("cleanup.policy", "compact", AlterConfigOpType.SUBTRACT)
    alter("retention.ms", None, AlterConfigOpType.DELETE)
    assert described(resource)["retention.ms"].value == "604800000"
    try:
        alter("retention.ms", "soon", AlterConfigOpType.SET)
        raise AssertionError("'soon' was accepted as a number")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.INVALID_CONFIG, error
    broker_id = str(next(iter(ADMIN.list_topics(timeout=TIMEOUT_S).brokers)))
    broker = described(ConfigResource(ResourceType.BROKER, broker_id))
    assert broker["node.id"].value == broker_id and len(broker) >= 150, len(broker)
    delete_topic(topic)


def large():
    topic = make_topic("large")
    value = bytes(range(256)) * 3600  # 900 KB, below the default of 1 MiB
    produce(topic, [{"value": value}] * 8)
    assert all(m.value() == value for m in consume(topic, 8))
    # A fetch of less than one batch still makes progress.
    small = {"fetch.message.max.bytes": 1000, "fetch.max.bytes": 1000000}
    assert all(m.value() == value for m in consume(topic, 8, **small))
    limited = make_topic("limited", **{"max.message.bytes": "10000"})
    try:
        produce(limited, [{"value": value[:20000]}])
        raise AssertionError("a message over max.message.bytes was accepted")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE, error
    produce(limited, [{"value": b"small"}])
    delete_topic(topic)
    delete_topic(limited)


def acks():
    topic = make_topic("acks")
    for level in ["0", "1", "all"]:
        produce(topic, [{"value": f"{level}-{i}".encode()} for i in range(100)], acks=level)
        # Without acknowledgement the next producer may overtake: wait until it is there.
        consume(topic, 100, offset=100 * ["0", "1", "all"].index(level))
    expected = [f"{level}-{i}".encode() for level in ["0", "1", "all"] for i in range(100)]
    assert [m.value() for m in consume(topic, 300)] == expected
    delete_topic(topic)


def errors():
    topic = make_topic("errors")
    produce(topic, [{"value": b"one"}])
    try:
        consume(topic, 1, offset=99)
        raise AssertionError("an offset past the end was accepted")
    except KafkaException as error:
        expected = [KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET]
        assert error.args[0].code() in expected, error
    try:
        delete_topic(f"{PREFIX}-never-made")
        raise AssertionError("an unknown topic was deleted")
    except KafkaException as error:
        assert error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART, error
    delete_topic(topic)


if __name__ == "__main__":
    globals()[SCENARIO]()
