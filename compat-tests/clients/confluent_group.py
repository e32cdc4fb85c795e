"""A group member with confluent-kafka (librdkafka), in both group protocols; see agent.py."""

import agent
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

TIMEOUT_S = 30
OPT = agent.start()
TOPIC = OPT["topic"]
ERROR_RESET = "error"

settings = {
    "bootstrap.servers": OPT["bootstrap"],
    "group.id": OPT["group"],
    "auto.offset.reset": {"none": ERROR_RESET}.get(OPT["reset"], OPT["reset"]),
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 100,
}
if OPT.get("protocol") == "consumer":
    settings["group.protocol"] = "consumer"
else:
    settings["session.timeout.ms"] = OPT["session_ms"]
    settings["heartbeat.interval.ms"] = OPT["heartbeat_ms"]
    cooperative = OPT.get("assignor") == "cooperative"
    settings["partition.assignment.strategy"] = "cooperative-sticky" if cooperative else "range"
if "instance" in OPT:
    settings["group.instance.id"] = OPT["instance"]

consumer = Consumer(settings)
position = {}  # partition -> the offset after the last record that was delivered


def commit(note=None):
    """Whether something was committed; a client in the middle of a rebalance refuses to."""
    wanted = [TopicPartition(TOPIC, p, o) for p, o in position.items()]
    if not wanted:
        return False
    if note:
        wanted = [TopicPartition(TOPIC, p, o, note) for p, o in position.items()]
    try:
        done = consumer.commit(offsets=wanted, asynchronous=False)
    except KafkaException as error:
        agent.say("error", message=f"commit: {error}")
        return False
    agent.say("commit", offsets={str(t.partition): t.offset for t in done if not t.error})
    return True


def assigned(consumer, partitions):
    if "seek_ms" in OPT:
        times = [TopicPartition(TOPIC, p.partition, int(OPT["seek_ms"])) for p in partitions]
        found = consumer.offsets_for_times(times, TIMEOUT_S)
        one_by_one = OPT.get("protocol") == "consumer"
        (consumer.incremental_assign if one_by_one else consumer.assign)(found)
    agent.say("assigned", partitions=[p.partition for p in partitions])


def gone(event):
    def callback(consumer, partitions):
        if event == "revoked" and OPT["commit"] == "batch":
            commit()
        for p in partitions:
            position.pop(p.partition, None)
        agent.say(event, partitions=[p.partition for p in partitions])

    return callback


def committed():
    count = len(consumer.list_topics(TOPIC, TIMEOUT_S).topics[TOPIC].partitions)
    asked = [TopicPartition(TOPIC, p) for p in range(count)]
    partitions = [p for p in consumer.committed(asked, TIMEOUT_S) if p.offset >= 0]
    agent.say(
        "committed",
        offsets={str(p.partition): p.offset for p in partitions},
        metadata={str(p.partition): p.metadata for p in partitions},
    )


def delete(group):
    admin = AdminClient({"bootstrap.servers": OPT["bootstrap"]})
    try:
        admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)
        agent.say("deleted", code=0)
    except KafkaException as error:
        agent.say("deleted", code=error.args[0].code())


consumer.subscribe([TOPIC], on_assign=assigned, on_revoke=gone("revoked"), on_lost=gone("lost"))
told = None  # the note of a commit that was asked for and is not done
while True:
    match agent.next_command():
        case ("commit", note):
            told = note
        case ("committed", _):
            committed()
        case ("delete", group):
            delete(group)
        case ("close", _):
            consumer.close()
            agent.say("closed")
            break
    messages = consumer.consume(100, 0.1)
    for message in messages:
        if message.error():
            agent.say("error", message=message.error().name())
            continue
        agent.record(message.partition(), message.offset(), message.value())
        position[message.partition()] = message.offset() + 1
    if told is not None and commit(told):
        told = None
    if messages and OPT["commit"] == "batch":
        commit()
