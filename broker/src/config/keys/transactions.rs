//! Keys of transactions and of idempotent producers' bookkeeping in the transaction coordinator.

use super::why;
use crate::config::key::{Key, boolean, int, short};

pub(super) const KEYS: &[Key] = &[
    int(
        "add.partitions.to.txn.retry.backoff.max.ms",
        "100",
        "Longest pause between attempts to add a partition to a transaction.",
    )
    .at_least(0)
    .without_effect(why::TRANSACTIONS),
    int(
        "add.partitions.to.txn.retry.backoff.ms",
        "20",
        "First pause between attempts to add a partition to a transaction.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "10000",
        "Time between searches for transactions that exceeded their timeout.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.max.timeout.ms",
        "900000",
        "Longest timeout that a producer may ask for its transactions.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    boolean(
        "transaction.partition.verification.enable",
        "true",
        "Check with the coordinator that a partition belongs to the transaction before the first \
        append.",
    )
    .cluster_wide()
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "3600000",
        "Time between searches for transactional ids that expired.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.state.log.load.buffer.size",
        "5242880",
        "Bytes read at a time when a coordinator loads its transactions.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.state.log.min.isr",
        "2",
        "In-sync replicas that the transaction topic demands.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.state.log.num.partitions",
        "50",
        "Partitions of the transaction topic.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    short(
        "transaction.state.log.replication.factor",
        "3",
        "Replicas of the transaction topic; at most as many as there are brokers.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    int(
        "transaction.state.log.segment.bytes",
        "104857600",
        "Segment size of the transaction topic.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
    boolean(
        "transaction.two.phase.commit.enable",
        "false",
        "Whether an outside coordinator may keep transactions prepared without a timeout.",
    )
    .without_effect(why::TRANSACTIONS),
    int(
        "transactional.id.expiration.ms",
        "604800000",
        "Time without use after which a transactional id is forgotten.",
    )
    .at_least(1)
    .without_effect(why::TRANSACTIONS),
];
