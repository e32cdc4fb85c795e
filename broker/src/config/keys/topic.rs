//! Keys of topics, groups and client metrics subscriptions: what DescribeConfigs answers for those
//! resources. A topic key without an override takes the broker-wide value of its synonyms.

use super::why;
use crate::config::key::{
    GrammarError, Key, Value, boolean, double, int, list, long, split_list, text,
};
use crate::config::topic::{CleanupPolicy, Compression, Durability, TimestampType, Validation};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn limit(value: &Value) -> Option<u64> {
    u64::try_from(value.integer()).ok()
}

/// Kafka's "never" is the largest long.
fn unless_never(value: &Value) -> Option<u64> {
    match value.integer() {
        i64::MAX => None,
        interval => u64::try_from(interval).ok(),
    }
}

/// `*`, or `partition:broker` pairs.
fn throttled_replicas(text: &str) -> Result<(), GrammarError> {
    let number = |part: &str| part.trim().parse::<i32>().is_ok_and(|number| number >= 0);
    let pair = |item: &String| {
        item.split_once(':')
            .is_some_and(|(p, b)| number(p) && number(b))
    };
    let items = split_list(text);
    if text == "*" || items.iter().all(pair) {
        return Ok(());
    }
    Err(GrammarError("* or a list of partition:broker pairs"))
}

fn offset_reset(text: &str) -> Result<(), GrammarError> {
    let by_duration = text
        .strip_prefix("by_duration:")
        .is_some_and(|rest| rest.starts_with('P'));
    if by_duration || text == "earliest" || text == "latest" {
        return Ok(());
    }
    Err(GrammarError(
        "earliest, latest or by_duration: with an ISO 8601 duration",
    ))
}

pub const TOPIC_KEYS: &[Key] = &[
    list(
        "cleanup.policy",
        "delete",
        "What happens to old records: delete, compact, both, or nothing when empty.",
    )
    .each_of(&["compact", "delete"])
    .synonyms(&[("log.cleanup.policy", 1)])
    .sets_topic(|t, v| {
        let has = |word: &str| v.list().iter().any(|item| item == word);
        t.cleanup_policy = CleanupPolicy {
            delete: has("delete"),
            compact: has("compact"),
        };
    }),
    int(
        "compression.gzip.level",
        "-1",
        "Level of gzip when compression.type is gzip; -1 for its default.",
    )
    .between(-1, 9)
    .synonyms(&[("compression.gzip.level", 1)])
    .sets_topic(|t, v| t.compression_gzip_level = v.i32()),
    int(
        "compression.lz4.level",
        "9",
        "Level of LZ4 when compression.type is lz4.",
    )
    .between(1, 17)
    .synonyms(&[("compression.lz4.level", 1)])
    .sets_topic(|t, v| t.compression_lz4_level = v.i32()),
    text(
        "compression.type",
        "producer",
        "Codec that batches are stored with; producer keeps what the producer chose.",
    )
    .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
    .synonyms(&[("compression.type", 1)])
    .sets_topic(|t, v| {
        t.compression = match v.text() {
            "uncompressed" => Compression::Uncompressed,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => Compression::Producer,
        }
    }),
    int(
        "compression.zstd.level",
        "3",
        "Level of zstd when compression.type is zstd.",
    )
    .between(-131_072, 22)
    .synonyms(&[("compression.zstd.level", 1)])
    .sets_topic(|t, v| t.compression_zstd_level = v.i32()),
    long(
        "delete.retention.ms",
        "86400000",
        "Time for which a compacted topic keeps tombstones, so that slow readers still see them.",
    )
    .at_least(0)
    .synonyms(&[("log.cleaner.delete.retention.ms", 1)])
    .sets_topic(|t, v| t.delete_retention_ms = v.integer()),
    long(
        "file.delete.delay.ms",
        "60000",
        "Time between a segment's removal from the log and from the disk.",
    )
    .at_least(0)
    .synonyms(&[("log.segment.delete.delay.ms", 1)])
    .sets_topic(|t, v| t.file_delete_delay_ms = v.integer()),
    long(
        "flush.messages",
        "9223372036854775807",
        "Records after which the log is flushed, whatever its durability class.",
    )
    .at_least(1)
    .synonyms(&[("log.flush.interval.messages", 1)])
    .sets_topic(|t, v| t.flush_messages = unless_never(v)),
    long(
        "flush.ms",
        "9223372036854775807",
        "Age of unflushed records from which the log is flushed, whatever its durability class.",
    )
    .at_least(0)
    .synonyms(&[
        ("log.flush.interval.ms", 1),
        ("log.flush.scheduler.interval.ms", 1),
    ])
    .sets_topic(|t, v| t.flush_ms = unless_never(v)),
    list(
        "follower.replication.throttled.replicas",
        "",
        "Replicas whose following is throttled, as partition:broker pairs, or * for all.",
    )
    .grammar(throttled_replicas)
    .without_effect(why::ONE_NODE),
    int(
        "index.interval.bytes",
        "4096",
        "Bytes of log between two entries of an offset index.",
    )
    .at_least(0)
    .synonyms(&[("log.index.interval.bytes", 1)])
    .sets_topic(|t, v| t.index_interval_bytes = v.u32()),
    list(
        "leader.replication.throttled.replicas",
        "",
        "Replicas whose serving of followers is throttled, as partition:broker pairs, or * for \
        all.",
    )
    .grammar(throttled_replicas)
    .without_effect(why::ONE_NODE),
    long(
        "local.retention.bytes",
        "-2",
        "Bytes of a tiered partition kept on local disk; -2 for retention.bytes.",
    )
    .at_least(-2)
    .synonyms(&[("log.local.retention.bytes", 1)])
    .without_effect(why::TIERING),
    long(
        "local.retention.ms",
        "-2",
        "Time for which a tiered partition is kept on local disk; -2 for retention.ms.",
    )
    .at_least(-2)
    .synonyms(&[("log.local.retention.ms", 1)])
    .without_effect(why::TIERING),
    long(
        "max.compaction.lag.ms",
        "9223372036854775807",
        "Longest time for which a record of a compacted topic may stay uncompacted.",
    )
    .at_least(1)
    .synonyms(&[("log.cleaner.max.compaction.lag.ms", 1)])
    .sets_topic(|t, v| t.max_compaction_lag_ms = v.integer()),
    int(
        "max.message.bytes",
        "1048588",
        "Largest record batch, as compressed by the producer.",
    )
    .at_least(0)
    .synonyms(&[("message.max.bytes", 1)])
    .sets_topic(|t, v| t.max_message_bytes = v.u32()),
    long(
        "message.timestamp.after.max.ms",
        "3600000",
        "How far a record's timestamp may lie in the future.",
    )
    .at_least(0)
    .synonyms(&[("log.message.timestamp.after.max.ms", 1)])
    .sets_topic(|t, v| t.message_timestamp_after_max_ms = v.integer()),
    long(
        "message.timestamp.before.max.ms",
        "9223372036854775807",
        "How far a record's timestamp may lie in the past.",
    )
    .at_least(0)
    .synonyms(&[("log.message.timestamp.before.max.ms", 1)])
    .sets_topic(|t, v| t.message_timestamp_before_max_ms = v.integer()),
    text(
        "message.timestamp.type",
        "CreateTime",
        "Whose time a record carries: the producer's, or that of the append.",
    )
    .one_of(&["CreateTime", "LogAppendTime"])
    .synonyms(&[("log.message.timestamp.type", 1)])
    .sets_topic(|t, v| {
        t.message_timestamp_type = match v.text() {
            "LogAppendTime" => TimestampType::LogAppendTime,
            _ => TimestampType::CreateTime,
        }
    }),
    double(
        "min.cleanable.dirty.ratio",
        "0.5",
        "Share of uncompacted bytes from which the log is compacted.",
    )
    .between_doubles(0.0, 1.0)
    .synonyms(&[("log.cleaner.min.cleanable.ratio", 1)])
    .sets_topic(|t, v| t.min_cleanable_dirty_ratio = v.double()),
    long(
        "min.compaction.lag.ms",
        "0",
        "Shortest time for which a record of a compacted topic stays uncompacted.",
    )
    .at_least(0)
    .synonyms(&[("log.cleaner.min.compaction.lag.ms", 1)])
    .sets_topic(|t, v| t.min_compaction_lag_ms = v.integer()),
    int(
        "min.insync.replicas",
        "1",
        "Replicas that must have a record before acks=all is answered.",
    )
    .at_least(1)
    .synonyms(&[("min.insync.replicas", 1)])
    .sets_topic(|t, v| t.min_insync_replicas = v.i32()),
    text(
        "ottla.durability",
        "commit",
        "When an acknowledged record is on disk: commit = before the acknowledgement, interval = \
        at \
         most ottla.durability.interval.ms later, memory = when the system writes its cache back.",
    )
    .one_of(&["commit", "interval", "memory"])
    .synonyms(&[("ottla.durability", 1)])
    .sets_topic(|t, v| {
        t.durability = match v.text() {
            "interval" => Durability::Interval,
            "memory" => Durability::Memory,
            _ => Durability::Commit,
        }
    }),
    text(
        "ottla.validation",
        "header",
        "How much of a batch is checked when it is produced: header = its header and checksum, \
         strict = every record in it, as Kafka does. Keys of compacted topics are always checked.",
    )
    .one_of(&["header", "strict"])
    .synonyms(&[("ottla.validation", 1)])
    .sets_topic(|t, v| {
        t.validation = match v.text() {
            "strict" => Validation::Strict,
            _ => Validation::Header,
        }
    }),
    boolean(
        "preallocate",
        "false",
        "Reserve the space of a whole segment when it is created.",
    )
    .synonyms(&[("log.preallocate", 1)])
    .sets_topic(|t, v| t.preallocate = v.boolean()),
    boolean(
        "remote.log.copy.disable",
        "false",
        "Stop copying segments of a tiered topic to remote storage.",
    )
    .without_effect(why::TIERING),
    boolean(
        "remote.log.delete.on.disable",
        "false",
        "Delete the remote segments of a topic whose tiering is switched off.",
    )
    .without_effect(why::TIERING),
    boolean(
        "remote.storage.enable",
        "false",
        "Whether the topic is tiered to remote storage.",
    )
    .without_effect(why::TIERING),
    long(
        "retention.bytes",
        "-1",
        "Bytes of a partition that are kept; -1 for all.",
    )
    .synonyms(&[("log.retention.bytes", 1)])
    .sets_topic(|t, v| t.retention_bytes = limit(v)),
    long(
        "retention.ms",
        "604800000",
        "Time for which records are kept; -1 for ever.",
    )
    .at_least(-1)
    .synonyms(&[
        ("log.retention.ms", 1),
        ("log.retention.minutes", MINUTE_MS),
        ("log.retention.hours", HOUR_MS),
    ])
    .sets_topic(|t, v| t.retention_ms = limit(v)),
    int("segment.bytes", "1073741824", "Largest segment.")
        .at_least(1_048_576)
        .synonyms(&[("log.segment.bytes", 1)])
        .sets_topic(|t, v| t.segment_bytes = v.u32()),
    int(
        "segment.index.bytes",
        "10485760",
        "Largest offset index of a segment.",
    )
    .at_least(4)
    .synonyms(&[("log.index.size.max.bytes", 1)])
    .sets_topic(|t, v| t.segment_index_bytes = v.u32()),
    long(
        "segment.jitter.ms",
        "0",
        "Most time taken off segment.ms at random, so that not all logs roll at once.",
    )
    .at_least(0)
    .synonyms(&[
        ("log.roll.jitter.ms", 1),
        ("log.roll.jitter.hours", HOUR_MS),
    ])
    .sets_topic(|t, v| t.segment_jitter_ms = v.integer())
    .idle(why::JITTER),
    long(
        "segment.ms",
        "604800000",
        "Time after which a new segment begins.",
    )
    .at_least(1)
    .synonyms(&[("log.roll.ms", 1), ("log.roll.hours", HOUR_MS)])
    .sets_topic(|t, v| t.segment_ms = v.integer()),
    boolean(
        "unclean.leader.election.enable",
        "false",
        "Whether a replica that is not in sync may become leader when nothing else is left.",
    )
    .synonyms(&[("unclean.leader.election.enable", 1)])
    .sets_topic(|t, v| t.unclean_leader_election = v.boolean())
    .idle(why::ONE_NODE),
];

/// A group key takes the broker-wide value of its one synonym.
pub const GROUP_KEYS: &[Key] = &[
    int(
        "consumer.assignment.interval.ms",
        "1000",
        "Shortest time between two assignments.",
    )
    .at_least(0)
    .synonyms(&[("group.consumer.assignment.interval.ms", 1)])
    .combined(),
    int(
        "consumer.heartbeat.interval.ms",
        "5000",
        "Time between the heartbeats of a member.",
    )
    .at_least(1)
    .synonyms(&[("group.consumer.heartbeat.interval.ms", 1)])
    .combined(),
    int(
        "consumer.session.timeout.ms",
        "45000",
        "Time without a heartbeat after which a member is removed.",
    )
    .at_least(1)
    .synonyms(&[("group.consumer.session.timeout.ms", 1)])
    .combined(),
    int(
        "share.assignment.interval.ms",
        "1000",
        "Shortest time between two assignments.",
    )
    .at_least(0)
    .synonyms(&[("group.share.assignment.interval.ms", 1)])
    .without_effect(why::SHARE),
    text(
        "share.auto.offset.reset",
        "latest",
        "Where a share group without a position begins: earliest, latest or by_duration:P1D.",
    )
    .grammar(offset_reset)
    .without_effect(why::SHARE),
    int(
        "share.delivery.count.limit",
        "5",
        "Deliveries of a record after which it is given up.",
    )
    .between(2, 25)
    .synonyms(&[("group.share.delivery.count.limit", 1)])
    .without_effect(why::SHARE),
    int(
        "share.heartbeat.interval.ms",
        "5000",
        "Time between the heartbeats of a member.",
    )
    .at_least(1)
    .synonyms(&[("group.share.heartbeat.interval.ms", 1)])
    .without_effect(why::SHARE),
    text(
        "share.isolation.level",
        "read_uncommitted",
        "Whether records of open and aborted transactions are delivered.",
    )
    .one_of(&["read_committed", "read_uncommitted"])
    .without_effect(why::SHARE),
    int(
        "share.partition.max.record.locks",
        "2000",
        "Most records of a partition that may be in delivery.",
    )
    .between(100, 10_000)
    .synonyms(&[("group.share.partition.max.record.locks", 1)])
    .without_effect(why::SHARE),
    int(
        "share.record.lock.duration.ms",
        "30000",
        "Time that a member has for a record before another gets it.",
    )
    .between(1000, 3_600_000)
    .synonyms(&[("group.share.record.lock.duration.ms", 1)])
    .without_effect(why::SHARE),
    boolean(
        "share.renew.acknowledge.enable",
        "true",
        "Whether a member may ask for more time with a record.",
    )
    .without_effect(why::SHARE),
    int(
        "share.session.timeout.ms",
        "45000",
        "Time without a heartbeat after which a member is removed.",
    )
    .at_least(1)
    .synonyms(&[("group.share.session.timeout.ms", 1)])
    .without_effect(why::SHARE),
    int(
        "streams.assignment.interval.ms",
        "1000",
        "Shortest time between two assignments.",
    )
    .at_least(0)
    .synonyms(&[("group.streams.assignment.interval.ms", 1)])
    .without_effect(why::STREAMS),
    int(
        "streams.heartbeat.interval.ms",
        "5000",
        "Time between the heartbeats of a member.",
    )
    .at_least(1)
    .synonyms(&[("group.streams.heartbeat.interval.ms", 1)])
    .without_effect(why::STREAMS),
    int(
        "streams.initial.rebalance.delay.ms",
        "3000",
        "Wait of an empty group for more members before its first assignment.",
    )
    .at_least(0)
    .synonyms(&[("group.streams.initial.rebalance.delay.ms", 1)])
    .without_effect(why::STREAMS),
    int(
        "streams.num.standby.replicas",
        "0",
        "Standby copies of each task's state.",
    )
    .at_least(0)
    .synonyms(&[("group.streams.num.standby.replicas", 1)])
    .without_effect(why::STREAMS),
    int(
        "streams.session.timeout.ms",
        "45000",
        "Time without a heartbeat after which a member is removed.",
    )
    .at_least(1)
    .synonyms(&[("group.streams.session.timeout.ms", 1)])
    .without_effect(why::STREAMS),
];

pub const CLIENT_METRICS_KEYS: &[Key] = &[
    int(
        "interval.ms",
        "300000",
        "Time between the pushes of a matching client.",
    )
    .between(100, 3_600_000)
    .without_effect(why::TELEMETRY),
    list(
        "match",
        "",
        "Clients that push, as selector=pattern pairs; empty for all.",
    )
    .without_effect(why::TELEMETRY),
    list(
        "metrics",
        "",
        "Prefixes of the metrics that are pushed; * for all.",
    )
    .without_effect(why::TELEMETRY),
];
