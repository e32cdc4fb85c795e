//! Keys of replication between brokers and of the purgatories that wait for it.

use super::why;
use crate::config::key::{Key, KeyType, int, long, unset};

pub(super) const KEYS: &[Key] = &[
    int(
        "delete.records.purgatory.purge.interval.requests",
        "1",
        "Answered DeleteRecords requests after which their traces are cleared.",
    )
    .without_effect(why::PURGATORY),
    int(
        "fetch.purgatory.purge.interval.requests",
        "1000",
        "Answered Fetch requests after which their traces are cleared.",
    )
    .without_effect(why::PURGATORY),
    unset(
        "num.replica.alter.log.dirs.threads",
        KeyType::Int,
        "Threads that move replicas between log directories.",
    )
    .without_effect("one thread moves replicas between log directories"),
    int(
        "num.replica.fetchers",
        "1",
        "Connections to each leader that this broker follows.",
    )
    .at_least(0)
    .cluster_wide()
    .without_effect(why::ONE_NODE),
    int(
        "producer.purgatory.purge.interval.requests",
        "1000",
        "Answered Produce requests after which their traces are cleared.",
    )
    .without_effect(why::PURGATORY),
    int(
        "replica.fetch.backoff.ms",
        "1000",
        "Pause of a follower after a failed fetch.",
    )
    .at_least(0)
    .without_effect(why::ONE_NODE),
    int(
        "replica.fetch.max.bytes",
        "1048576",
        "Most bytes that a follower asks of one partition.",
    )
    .at_least(0)
    .without_effect(why::ONE_NODE),
    int(
        "replica.fetch.min.bytes",
        "1",
        "Least bytes for which a leader answers a follower early.",
    )
    .without_effect(why::ONE_NODE),
    int(
        "replica.fetch.response.max.bytes",
        "10485760",
        "Most bytes of the answer to a follower's fetch.",
    )
    .at_least(0)
    .without_effect(why::ONE_NODE),
    int(
        "replica.fetch.wait.max.ms",
        "500",
        "Longest wait of a follower's fetch for new records.",
    )
    .without_effect(why::ONE_NODE),
    long(
        "replica.high.watermark.checkpoint.interval.ms",
        "5000",
        "Time between writes of the file that holds the high watermarks.",
    )
    .at_least(0)
    .sets(|c, v| c.high_watermark_checkpoint_interval_ms = v.integer().unsigned_abs()),
    long(
        "replica.lag.time.max.ms",
        "30000",
        "Time behind the leader after which a follower is no longer in sync.",
    )
    .without_effect(why::ONE_NODE),
    unset(
        "replica.selector.class",
        KeyType::String,
        "Class that chooses the replica a consumer reads from; Kafka's rack-aware one is \
        understood.",
    )
    .without_effect(why::ONE_NODE),
    int(
        "replica.socket.receive.buffer.bytes",
        "65536",
        "Receive buffer of a connection to a leader.",
    )
    .at_least(-1)
    .without_effect(why::ONE_NODE),
    int(
        "replica.socket.timeout.ms",
        "30000",
        "Longest wait for a leader's answer.",
    )
    .without_effect(why::ONE_NODE),
];
