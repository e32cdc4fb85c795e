"""A group member with aiokafka, the classic protocol under asyncio; see agent.py."""

import asyncio

import agent
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

OPT = agent.start()
TOPIC = OPT["topic"]
position = {}  # partition -> the offset after the last record that was delivered


async def commit(consumer, note=""):
    """Whether something was committed; a client in the middle of a rebalance refuses to."""
    wanted = {TopicPartition(TOPIC, p): OffsetAndMetadata(o, note) for p, o in position.items()}
    if not wanted:
        return False
    try:
        await consumer.commit(wanted)
    except KafkaError as error:
        agent.say("error", message=f"commit: {error!r}")
        return False
    agent.say("commit", offsets=agent.offsets(position))
    return True


class Listener(ConsumerRebalanceListener):
    def __init__(self, consumer):
        self.consumer = consumer

    async def on_partitions_assigned(self, assigned):
        if "seek_ms" in OPT and assigned:
            times = {p: int(OPT["seek_ms"]) for p in assigned}
            for partition, there in (await self.consumer.offsets_for_times(times)).items():
                self.consumer.seek(partition, there.offset)
        agent.say("assigned", partitions=[p.partition for p in assigned])

    async def on_partitions_revoked(self, revoked):
        if OPT["commit"] == "batch":
            await commit(self.consumer)
        for p in revoked:
            position.pop(p.partition, None)
        agent.say("revoked", partitions=[p.partition for p in revoked])


async def committed(consumer):
    offsets = {}
    for p in consumer.partitions_for_topic(TOPIC):
        there = await consumer.committed(TopicPartition(TOPIC, p))
        if there is not None:
            offsets[p] = there
    agent.say("committed", offsets=agent.offsets(offsets), metadata={})


async def main():
    consumer = AIOKafkaConsumer(
        bootstrap_servers=OPT["bootstrap"],
        group_id=OPT["group"],
        group_instance_id=OPT.get("instance"),
        auto_offset_reset=OPT["reset"],
        enable_auto_commit=False,
        session_timeout_ms=int(OPT["session_ms"]),
        heartbeat_interval_ms=int(OPT["heartbeat_ms"]),
        partition_assignment_strategy=(RangePartitionAssignor,),
    )
    consumer.subscribe([TOPIC], listener=Listener(consumer))
    await consumer.start()
    told = None  # the note of a commit that was asked for and is not done
    while True:
        match agent.next_command():
            case ("commit", note):
                told = note
            case ("committed", _):
                await committed(consumer)
            case ("close", _):
                await consumer.stop()
                agent.say("closed")
                return
        try:
            batches = await consumer.getmany(timeout_ms=100)
        except KafkaError as error:
            agent.say("error", message=repr(error))
            continue
        for messages in batches.values():
            for message in messages:
                agent.record(message.partition, message.offset, message.value)
                position[message.partition] = message.offset + 1
        if told is not None and await commit(consumer, told):
            told = None
        if batches and OPT["commit"] == "batch":
            await commit(consumer)


asyncio.run(main())
