"""A group member with kafka-python, the classic protocol in pure Python; see agent.py."""

import agent
import kafka.errors
from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

OPT = agent.start()
TOPIC = OPT["topic"]
# kafka-python 3.0.12 loses its assignment, whatever the broker, when a poll ends between the
# answers to JoinGroup and SyncGroup: it then sees nothing left to join. Few polls, few such ends.
POLL_MS = 1000
cooperative = OPT.get("assignor") == "cooperative"
consumer = KafkaConsumer(
    bootstrap_servers=OPT["bootstrap"],
    group_id=OPT["group"],
    group_instance_id=OPT.get("instance"),
    auto_offset_reset=OPT["reset"],
    enable_auto_commit=False,
    session_timeout_ms=int(OPT["session_ms"]),
    heartbeat_interval_ms=int(OPT["heartbeat_ms"]),
    partition_assignment_strategy=[
        CooperativeStickyAssignor if cooperative else RangePartitionAssignor
    ],
)
position = {}  # partition -> the offset after the last record that was delivered


def commit(positions, note=""):
    """Commits what is ours; whether it did. A client in the middle of a rebalance refuses to."""
    own = {p.partition for p in consumer.assignment()}
    positions = {p: offset for p, offset in positions.items() if p in own}
    with_note = {p: OffsetAndMetadata(offset, note, -1) for p, offset in positions.items()}
    wanted = {TopicPartition(TOPIC, p): there for p, there in with_note.items()}
    if not wanted:
        return False
    try:
        consumer.commit(wanted)
    except KafkaError as error:
        agent.say("error", message=f"commit: {error!r}")
        return False
    agent.say("commit", offsets=agent.offsets(positions))
    return True


class Listener(ConsumerRebalanceListener):
    """Called on the client's own thread, where nothing may wait: it neither commits nor asks."""

    def on_partitions_assigned(self, assigned):
        for partition in assigned:
            if partition in START:
                consumer.seek(partition, START.pop(partition))
        agent.say("assigned", partitions=[p.partition for p in assigned])

    def on_partitions_revoked(self, revoked):
        agent.say("revoked", partitions=[p.partition for p in revoked])


def start():
    """Where to begin by time, asked before there is an assignment."""
    if "seek_ms" not in OPT:
        return {}
    partition = TopicPartition(TOPIC, 0)
    found = consumer.offsets_for_times({partition: int(OPT["seek_ms"])})
    return {partition: found[partition].offset}


def committed():
    found = {}
    for p in consumer.partitions_for_topic(TOPIC):
        there = consumer.committed(TopicPartition(TOPIC, p), metadata=True)
        if there is not None:
            found[p] = there
    agent.say(
        "committed",
        offsets=agent.offsets({p: there.offset for p, there in found.items()}),
        metadata=agent.offsets({p: there.metadata for p, there in found.items()}),
    )


def delete(group):
    admin = KafkaAdminClient(bootstrap_servers=OPT["bootstrap"])
    outcome = admin.delete_groups([group])[group]  # "OK", or the name of the error
    codes = {error.__name__: error.errno for error in vars(kafka.errors).values() if is_code(error)}
    agent.say("deleted", code=codes.get(outcome, 0 if outcome == "OK" else -1), message=outcome)
    admin.close()


def is_code(error):
    return isinstance(error, type) and issubclass(error, kafka.errors.BrokerResponseError)


START = start()
consumer.subscribe([TOPIC], listener=Listener())
consumer.topics()  # a client that does not know its topic joins with nothing, and then once more
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
            consumer.close(autocommit=False)
            agent.say("closed")
            break
    try:
        batches = consumer.poll(timeout_ms=POLL_MS)
    except KafkaError as error:
        agent.say("error", message=repr(error))
        continue
    batch = {}
    for messages in batches.values():
        for message in messages:
            agent.record(message.partition, message.offset, message.value)
            batch[message.partition] = message.offset + 1
    position.update(batch)
    if told is not None and commit(position, told):
        told = None
    if OPT["commit"] == "batch":
        commit(batch)
