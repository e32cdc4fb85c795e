"""Scenarios with kafka-python, a client written wholly in Python.

Called as `kafka_python.py BOOTSTRAP SCENARIO PREFIX`; exits 0 when the scenario holds. Consumers
assign partitions themselves, without a group.
"""

import sys
import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import AlterConfigOp, ConfigFilterType, ConfigResource, OffsetSpec
from kafka.errors import (
    InvalidPartitionsError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

BOOTSTRAP, SCENARIO, PREFIX = sys.argv[1:4]
TIMEOUT_S = 30
ADMIN = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def make_topic(name, partitions=1, **config):
    topic = f"{PREFIX}-{name}"
    ADMIN.create_topics(
        {topic: {"num_partitions": partitions, "replication_factor": 1, "configs": config}}
    )
    return topic


def delete_topic(topic):
    ADMIN.delete_topics([topic])


def expect_error(error_type, call):
    try:
        call()
    except error_type:
        return
    raise AssertionError(f"{error_type.__name__} was expected")


def produce(topic, records, **config):
    """Sends records (dicts for `KafkaProducer.send`) and returns their metadata in order."""
    producer = KafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=5, **config)
    try:
        futures = [producer.send(topic, **record) for record in records]
        producer.flush(TIMEOUT_S)
        return [future.get(TIMEOUT_S) for future in futures]
    finally:
        producer.close(timeout=5)


def consume(topic, count, partition=0, offset=0, **config):
    consumer = KafkaConsumer(
        bootstrap_servers=BOOTSTRAP,
        group_id=None,
        auto_offset_reset="none",
        consumer_timeout_ms=TIMEOUT_S * 1000,
        **config,
    )
    wanted = TopicPartition(topic, partition)
    consumer.assign([wanted])
    consumer.seek(wanted, offset)
    messages = []
    for message in consumer:
        messages.append(message)
        if len(messages) == count:
            break
    consumer.close()
    assert len(messages) == count, f"only {len(messages)} of {count} messages arrived"
    return messages


def metadata():
    topic = make_topic("metadata", 3)
    cluster = ADMIN.describe_cluster()
    assert cluster["cluster_id"], cluster
    assert cluster["controller_id"] in [broker["broker_id"] for broker in cluster["brokers"]]
    assert topic in ADMIN.list_topics()
    described = ADMIN.describe_topics([topic])[0]
    assert len(described["partitions"]) == 3 and described["error_code"] == 0, described
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None)
    assert consumer.partitions_for_topic(topic) == {0, 1, 2}
    assert topic in consumer.topics()
    consumer.close()
    delete_topic(topic)


def topic_admin():
    topic = make_topic("admin", 2, **{"retention.ms": "3600000"})
    expect_error(TopicAlreadyExistsError, lambda: make_topic("admin"))
    ADMIN.create_partitions({topic: 5})
    assert len(ADMIN.describe_topics([topic])[0]["partitions"]) == 5
    expect_error(InvalidPartitionsError, lambda: ADMIN.create_partitions({topic: 3}))
    checked = f"{PREFIX}-checked"
    ADMIN.create_topics({checked: {"num_partitions": 1}}, validate_only=True)
    assert checked not in ADMIN.list_topics()
    delete_topic(topic)
    deadline = time.monotonic() + TIMEOUT_S
    while topic in ADMIN.list_topics():
        assert time.monotonic() < deadline, "the deleted topic is still listed"
        time.sleep(0.1)


def produce_consume():
    topic = make_topic("records", 2)
    now_ms = int(time.time() * 1000)
    sent = [
        {"key": b"k", "value": b"v", "headers": [("h", b"1"), ("h", b"2"), ("empty", b"")]},
        {"key": None, "value": b"no key"},
        {"key": b"tombstone", "value": None},
        {"key": b"", "value": b""},
        {"key": "ключ".encode(), "value": "värde ✓".encode(), "headers": [("ü", b"\x00\xff")]},
    ]
    for index, record in enumerate(sent):
        record.update(partition=1, timestamp_ms=now_ms + index)
    sent += [{"value": str(i).encode(), "partition": 1} for i in range(1000)]
    assert [m.offset for m in produce(topic, sent)] == list(range(len(sent)))
    received = consume(topic, len(sent), partition=1, check_crcs=True)
    for index, (record, message) in enumerate(zip(sent, received)):
        assert message.offset == index, (message.offset, index)
        assert message.value == record.get("value"), (index, message.value)
        assert message.key == record.get("key"), (index, message.key)
        assert list(message.headers) == record.get("headers", []), message.headers
        if "timestamp_ms" in record:
            assert message.timestamp == record["timestamp_ms"], message.timestamp
    middle = consume(topic, 10, partition=1, offset=500)
    assert [m.offset for m in middle] == list(range(500, 510))
    delete_topic(topic)


def codecs():
    topic = make_topic("codecs")
    expected = []
    for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
        values = [f"{codec}-{i}-".encode() + b"x" * 500 for i in range(200)]
        produce(topic, [{"value": value} for value in values], compression_type=codec)
        expected += values
    assert [m.value for m in consume(topic, len(expected))] == expected
    delete_topic(topic)


def offsets():
    topic = make_topic("offsets")
    base_ms = int(time.time()) * 1000 - 3_600_000  # retention lets them be
    for i in range(10):  # one batch each
        produce(topic, [{"value": str(i).encode(), "timestamp_ms": base_ms + i * 1000}])
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=None)
    assert consumer.beginning_offsets([partition]) == {partition: 0}
    assert consumer.end_offsets([partition]) == {partition: 10}
    assert consumer.offsets_for_times({partition: base_ms + 4500})[partition].offset == 5
    assert consumer.offsets_for_times({partition: base_ms + 60_000})[partition] is None
    consumer.close()
    newest = ADMIN.list_partition_offsets({partition: OffsetSpec.MAX_TIMESTAMP})[partition]
    assert (newest.offset, newest.timestamp) == (9, base_ms + 9000), newest
    delete_topic(topic)


def idempotent():
    topic = make_topic("idempotent", 3)
    records = [{"value": str(i).encode(), "partition": i % 3} for i in range(3000)]
    produce(topic, records, enable_idempotence=True, acks="all")
    for partition in range(3):
        values = [int(m.value) for m in consume(topic, 1000, partition=partition)]
        assert values == list(range(partition, 3000, 3)), "order or number is wrong"
    delete_topic(topic)


def configs():
    topic = make_topic("configs", **{"retention.ms": "3600000"})

    def described(filter_type):
        resource = ConfigResource("topic", topic)
        return ADMIN.describe_configs([resource], config_filter=filter_type)["topic"][topic]

    def alter(incremental, **changes):
        changes = {key.replace("_", "."): value for key, value in changes.items()}
        resource = ConfigResource("topic", topic, changes)
        return ADMIN.alter_configs([resource], incremental=incremental)["topic"][topic]

    modified = described(ConfigFilterType.MODIFIED)
    assert {key: entry["value"] for key, entry in modified.items()}["retention.ms"] == "3600000"
    assert len(described(ConfigFilterType.ALL)) >= 25
    alter(True, max_message_bytes=(AlterConfigOp.SET, "2000000"))
    alter(True, retention_ms=(AlterConfigOp.DELETE, None))
    everything = described(ConfigFilterType.ALL)
    assert everything["max.message.bytes"]["value"] == "2000000"
    assert everything["retention.ms"]["value"] == "604800000"
    alter(False, segment_bytes="2097152")  # the older call replaces; the client adds the rest
    everything = described(ConfigFilterType.ALL)
    assert everything["segment.bytes"]["value"] == "2097152"
    assert everything["max.message.bytes"]["value"] == "2000000"
    answer = alter(True, retention_ms="soon")
    assert "InvalidConfigurationError" in str(answer), answer
    delete_topic(topic)


def large():
    topic = make_topic("large")
    value = bytes(range(256)) * 3600  # 900 KB, below the default of 1 MiB
    produce(topic, [{"value": value}] * 4)
    assert all(m.value == value for m in consume(topic, 4))
    small = {"max_partition_fetch_bytes": 1000, "fetch_max_bytes": 1000}
    assert all(m.value == value for m in consume(topic, 4, **small))
    limited = make_topic("limited", **{"max.message.bytes": "10000"})
    expect_error(
        MessageSizeTooLargeError, lambda: produce(limited, [{"value": value[:20000]}], retries=0)
    )
    produce(limited, [{"value": b"small"}])
    delete_topic(topic)
    delete_topic(limited)


def acks():
    topic = make_topic("acks")
    expected = []
    for index, level in enumerate([0, 1, "all"]):
        values = [f"{level}-{i}".encode() for i in range(100)]
        produce(topic, [{"value": value} for value in values], acks=level, enable_idempotence=False)
        # Without acknowledgement the next producer may overtake: wait until it is there.
        consume(topic, 100, offset=100 * index)
        expected += values
    assert [m.value for m in consume(topic, 300)] == expected
    delete_topic(topic)


def errors():
    topic = make_topic("errors")
    produce(topic, [{"value": b"one"}])
    expect_error(OffsetOutOfRangeError, lambda: consume(topic, 1, offset=99))
    expect_error(UnknownTopicOrPartitionError, lambda: delete_topic(f"{PREFIX}-never-made"))
    delete_topic(topic)


if __name__ == "__main__":
    try:
        globals()[SCENARIO]()
    finally:
        ADMIN.close()
