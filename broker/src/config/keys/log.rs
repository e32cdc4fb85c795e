//! Keys of partition logs: directories, segments, flushes, retention, cleaning. Most are the
//! broker-wide default of a topic key.

use super::why;
use crate::config::key::{Key, KeyType, boolean, double, int, list, long, text, unset};

pub(super) const KEYS: &[Key] = &[
    int(
        "compression.gzip.level",
        "-1",
        "Level of gzip for topics stored with it; -1 for its default.",
    )
    .between(-1, 9)
    .cluster_wide()
    .topic_default(),
    int(
        "compression.lz4.level",
        "9",
        "Level of LZ4 for topics stored with it.",
    )
    .between(1, 17)
    .cluster_wide()
    .topic_default(),
    text(
        "compression.type",
        "producer",
        "Codec that batches are stored with; producer keeps what the producer chose.",
    )
    .one_of(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"])
    .cluster_wide()
    .topic_default(),
    int(
        "compression.zstd.level",
        "3",
        "Level of zstd for topics stored with it.",
    )
    .between(-131_072, 22)
    .cluster_wide()
    .topic_default(),
    list(
        "cordoned.log.dirs",
        "",
        "Log directories that get no new partitions; * for all.",
    )
    .per_broker()
    .sets(|c, v| c.cordoned_log_dirs = v.list().to_vec()),
    long(
        "log.cleaner.backoff.ms",
        "15000",
        "Pause of a cleaner that found nothing to compact.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.log_cleaner_backoff_ms = v.integer().unsigned_abs()),
    long(
        "log.cleaner.dedupe.buffer.size",
        "134217728",
        "Memory of all cleaners for the keys they compare.",
    )
    .cluster_wide()
    .sets(|c, v| {
        c.log_cleaner_dedupe_buffer_size = usize::try_from(v.integer()).unwrap_or(0);
    }),
    long(
        "log.cleaner.delete.retention.ms",
        "86400000",
        "Time for which a compacted topic keeps tombstones.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    boolean(
        "log.cleaner.enable",
        "true",
        "Whether compacted topics are compacted.",
    )
    .sets(|c, v| c.log_cleaner_enable = v.boolean()),
    double(
        "log.cleaner.io.buffer.load.factor",
        "0.9",
        "How full a cleaner's key buffer may get.",
    )
    .cluster_wide()
    .sets(|c, v| c.log_cleaner_io_buffer_load_factor = v.double()),
    int(
        "log.cleaner.io.buffer.size",
        "524288",
        "Memory of all cleaners for reading and writing.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.log_cleaner_io_buffer_size = v.usize()),
    double(
        "log.cleaner.io.max.bytes.per.second",
        "1.7976931348623157E308",
        "Most bytes per second that cleaners read and write.",
    )
    .cluster_wide()
    .sets(|c, v| c.log_cleaner_io_max_bytes_per_second = v.double()),
    long(
        "log.cleaner.max.compaction.lag.ms",
        "9223372036854775807",
        "Longest time for which a record may stay uncompacted.",
    )
    .at_least(1)
    .cluster_wide()
    .topic_default(),
    double(
        "log.cleaner.min.cleanable.ratio",
        "0.5",
        "Share of uncompacted bytes from which a log is compacted.",
    )
    .between_doubles(0.0, 1.0)
    .cluster_wide()
    .topic_default(),
    long(
        "log.cleaner.min.compaction.lag.ms",
        "0",
        "Shortest time for which a record stays uncompacted.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    int(
        "log.cleaner.threads",
        "1",
        "Threads that compact; here one does, whatever the number, and none with 0.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.log_cleaner_threads = v.i32()),
    list(
        "log.cleanup.policy",
        "delete",
        "What happens to old records: delete, compact, both, or nothing when empty.",
    )
    .each_of(&["compact", "delete"])
    .cluster_wide()
    .topic_default(),
    list(
        "log.dir",
        "/var/lib/ottla",
        "Data directory when log.dirs is not set.",
    )
    .not_empty()
    .combined(),
    long(
        "log.dir.failure.timeout.ms",
        "30000",
        "Time after which a broker stops that cannot report a failed directory.",
    )
    .at_least(1)
    .without_effect(why::ONE_NODE),
    unset(
        "log.dirs",
        KeyType::List,
        "Data directories, separated by commas; without it, log.dir. A new partition goes where the \
         fewest are; the first one also holds the metadata log, unless metadata.log.dir is set.",
    )
    .combined(),
    long(
        "log.flush.interval.messages",
        "9223372036854775807",
        "Records after which a log is flushed, whatever its durability class.",
    )
    .at_least(1)
    .cluster_wide()
    .topic_default(),
    unset(
        "log.flush.interval.ms",
        KeyType::Long,
        "Age of unflushed records from which a log is flushed, whatever its durability class.",
    )
    .cluster_wide()
    .topic_default(),
    int(
        "log.flush.offset.checkpoint.interval.ms",
        "60000",
        "Time between writes of the file that says from where recovery must scan.",
    )
    .at_least(0)
    .sets(|c, v| c.log_flush_offset_checkpoint_interval_ms = v.integer().unsigned_abs()),
    long(
        "log.flush.scheduler.interval.ms",
        "9223372036854775807",
        "Age of unflushed records from which a log is flushed when log.flush.interval.ms is not \
        set.",
    )
    .topic_default(),
    int(
        "log.flush.start.offset.checkpoint.interval.ms",
        "60000",
        "Time between writes of the file that holds the logs' start offsets.",
    )
    .at_least(0)
    .sets(|c, v| c.log_flush_start_offset_checkpoint_interval_ms = v.integer().unsigned_abs())
    .idle(why::CHECKPOINTS),
    int(
        "log.index.interval.bytes",
        "4096",
        "Bytes of log between two entries of an offset index.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    int(
        "log.index.size.max.bytes",
        "10485760",
        "Largest offset index of a segment.",
    )
    .at_least(4)
    .cluster_wide()
    .topic_default(),
    long(
        "log.message.timestamp.after.max.ms",
        "3600000",
        "How far a record's timestamp may lie in the future.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    long(
        "log.message.timestamp.before.max.ms",
        "9223372036854775807",
        "How far a record's timestamp may lie in the past.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    text(
        "log.message.timestamp.type",
        "CreateTime",
        "Whose time a record carries: the producer's, or that of the append.",
    )
    .one_of(&["CreateTime", "LogAppendTime"])
    .cluster_wide()
    .topic_default(),
    boolean(
        "log.preallocate",
        "false",
        "Reserve the space of a whole segment when it is created.",
    )
    .cluster_wide()
    .topic_default(),
    long(
        "log.retention.bytes",
        "-1",
        "Bytes of a partition that are kept; -1 for all.",
    )
    .cluster_wide()
    .topic_default(),
    long(
        "log.retention.check.interval.ms",
        "300000",
        "Time between checks for expired segments.",
    )
    .at_least(1)
    .sets(|c, v| c.log_retention_check_interval_ms = v.integer().unsigned_abs()),
    int(
        "log.retention.hours",
        "168",
        "Hours for which records are kept; -1 for ever.",
    )
    .topic_default(),
    unset(
        "log.retention.minutes",
        KeyType::Int,
        "Minutes for which records are kept; wins over log.retention.hours.",
    )
    .topic_default(),
    unset(
        "log.retention.ms",
        KeyType::Long,
        "Milliseconds for which records are kept; wins over minutes and hours.",
    )
    .cluster_wide()
    .topic_default(),
    int(
        "log.roll.hours",
        "168",
        "Hours after which a new segment begins.",
    )
    .at_least(1)
    .topic_default(),
    int(
        "log.roll.jitter.hours",
        "0",
        "Most hours taken off log.roll.hours at random.",
    )
    .at_least(0)
    .topic_default(),
    unset(
        "log.roll.jitter.ms",
        KeyType::Long,
        "Most milliseconds taken off log.roll.ms at random; wins over hours.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    unset(
        "log.roll.ms",
        KeyType::Long,
        "Milliseconds after which a new segment begins; wins over hours.",
    )
    .at_least(1)
    .cluster_wide()
    .topic_default(),
    int("log.segment.bytes", "1073741824", "Largest segment.")
        .at_least(1_048_576)
        .cluster_wide()
        .topic_default(),
    long(
        "log.segment.delete.delay.ms",
        "60000",
        "Time between a segment's removal from the log and from the disk.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    int(
        "message.max.bytes",
        "1048588",
        "Largest record batch, as compressed by the producer.",
    )
    .at_least(0)
    .cluster_wide()
    .topic_default(),
    int(
        "num.recovery.threads.per.data.dir",
        "2",
        "Threads that open and recover logs at start, per data directory.",
    )
    .at_least(1)
    .cluster_wide()
    .sets(|c, v| c.num_recovery_threads_per_data_dir = v.usize()),
    int(
        "producer.id.expiration.ms",
        "86400000",
        "Time without records after which an idempotent producer's state is forgotten.",
    )
    .at_least(1)
    .cluster_wide()
    .sets(|c, v| c.producer_id_expiration_ms = v.integer()),
];
