//! Our own keys. They begin with `ottla.` and exist only where Kafka has no name for the thing.

use std::time::Duration;

use tracing_subscriber::filter::Targets;

use crate::config::LogFormat;
use crate::config::key::{GrammarError, Key, KeyType, boolean, int, list, long, text, unset};

fn log_levels(text: &str) -> Result<(), GrammarError> {
    let expected = "a level, or levels per module as in info,ottla_broker::net=debug";
    text.parse::<Targets>()
        .map(|_| ())
        .map_err(|_| GrammarError(expected))
}

pub(super) const KEYS: &[Key] = &[
    unset(
        "ottla.cluster.id",
        KeyType::String,
        "Cluster id to form a new cluster with; the variable CLUSTER_ID sets it too. Without it \
        an id \
         is made up at the first start.",
    )
    .not_empty()
    .sets(|c, v| c.cluster_id = v.text_or_none()),
    long(
        "ottla.decompression.max.bytes",
        "16777216",
        "A batch whose records are opened may always expand to so many bytes, whatever its size.",
    )
    .at_least(1)
    .cluster_wide()
    .sets(|c, v| c.record_limits.plain_bytes = v.integer().unsigned_abs()),
    long(
        "ottla.decompression.max.ratio",
        "64",
        "A larger batch may expand to its size times this; what goes beyond is refused as an \
         invalid record.",
    )
    .at_least(1)
    .cluster_wide()
    .sets(|c, v| c.record_limits.ratio = v.integer().unsigned_abs()),
    long(
        "ottla.dirty.max.bytes",
        "268435456",
        "Most bytes per log directory that classes interval and memory may have waiting for the \
         disk; beyond, a batch is answered when it is on the disk, so that producers go at its \
         speed.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.dirty_max_bytes = v.integer().unsigned_abs()),
    long(
        "ottla.disk.reject.free.bytes",
        "-1",
        "Free bytes of a log directory's disk below which records and new topics are refused, while \
         reads, deletions and offset commits go on; 0 for never, -1 for 3 percent of the disk, but \
         at most 1 GiB.",
    )
    .at_least(-1)
    .cluster_wide()
    .sets(|c, v| c.disk_marks.reject_bytes = u64::try_from(v.integer()).ok()),
    long(
        "ottla.disk.warning.free.bytes",
        "-1",
        "Free bytes of a log directory's disk below which the broker warns and retention does not \
         wait; 0 for never, -1 for 10 percent of the disk, but at most 10 GiB.",
    )
    .at_least(-1)
    .cluster_wide()
    .sets(|c, v| c.disk_marks.warning_bytes = u64::try_from(v.integer()).ok()),
    text(
        "ottla.durability",
        "commit",
        "When an acknowledged record is on disk: commit = before the acknowledgement, with shared \
         flushes; interval = at most ottla.durability.interval.ms later; memory = when the system \
         writes its cache back, as in Kafka. Topics may set it for themselves.",
    )
    .one_of(&["commit", "interval", "memory"])
    .cluster_wide()
    .topic_default(),
    long(
        "ottla.durability.interval.ms",
        "1000",
        "Longest time that an acknowledged record of durability class interval may be in memory \
        only.",
    )
    .at_least(1)
    .cluster_wide()
    .sets(|c, v| c.durability_interval_ms = v.integer().unsigned_abs()),
    list(
        "ottla.http.listeners",
        "http://127.0.0.1:8080",
        "Addresses of health, readiness, metrics and administration over HTTP; empty for none.",
    )
    .combined(),
    int(
        "ottla.io.threads",
        "4",
        "Threads that may wait for the disk: so many flush, and as many read what is not in memory. \
         Several log directories share them, each with two at least.",
    )
    .between(1, 1024)
    .sets(|c, v| c.io_threads = v.usize()),
    text(
        "ottla.log.format",
        "auto",
        "Format of the log lines: text, json, or auto for text on a terminal and JSON elsewhere.",
    )
    .one_of(&["auto", "text", "json"])
    .sets(|c, v| {
        c.log_format = match v.text() {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => LogFormat::Auto,
        }
    }),
    text(
        "ottla.log.level",
        "info",
        "Level of the log lines (error, warn, info, debug, trace), also per module as in \
         info,ottla_broker::net=debug. Levels can be changed live.",
    )
    .grammar(log_levels)
    .sets(|c, v| v.text().clone_into(&mut c.log_level)),
    int(
        "ottla.max.open.files",
        "0",
        "Most segment files kept open; 0 derives it from the process's limit on descriptors.",
    )
    .at_least(0)
    .sets(|c, v| c.max_open_files = v.usize()),
    int(
        "ottla.metrics.group.limit",
        "1000",
        "Most groups that /metrics shows one by one; ottla_metrics_left_out tells how many are not.",
    )
    .at_least(0)
    .sets(|c, v| c.metrics_group_limit = v.usize()),
    int(
        "ottla.metrics.partition.limit",
        "1000",
        "With more partitions than this, /metrics answers per topic; /metrics?detail=partition \
        always \
         answers per partition.",
    )
    .at_least(0)
    .sets(|c, v| c.metrics_partition_limit = v.usize()),
    long(
        "ottla.scrub.interval.ms",
        "604800000",
        "In how much time all sealed segments are read again and their checksums checked, in the \
         background; -1 for never.",
    )
    .at_least(-1)
    .cluster_wide()
    .sets(|c, v| {
        let ms = u64::try_from(v.integer()).ok().filter(|ms| *ms > 0);
        c.scrub_interval = ms.map(Duration::from_millis);
    }),
    long(
        "ottla.scrub.max.bytes.per.second",
        "10485760",
        "The fastest that sealed segments are read to be checked; the pace is usually slower, so \
         that a pass takes most of ottla.scrub.interval.ms.",
    )
    .at_least(1)
    .cluster_wide()
    .sets(|c, v| c.scrub_max_bytes_per_second = v.integer() as f64),
    long(
        "ottla.slow.reader.timeout.ms",
        "120000",
        "A connection is closed whose client takes no byte of its answers for this long.",
    )
    .at_least(1)
    .sets(|c, v| c.slow_reader_timeout_ms = v.integer().unsigned_abs()),
    long(
        "ottla.slow.sender.timeout.ms",
        "30000",
        "A connection is closed whose request, once begun, takes longer than this to arrive; large \
         requests get a second more for each 16 KiB.",
    )
    .at_least(1)
    .sets(|c, v| c.slow_sender_timeout_ms = v.integer().unsigned_abs()),
    boolean(
        "ottla.strict.topic.keys",
        "false",
        "Refuse topic keys that Kafka 4 dropped, as Kafka 4 does, instead of accepting them with a \
         warning.",
    )
    .sets(|c, v| c.strict_topic_keys = v.boolean()),
    long(
        "ottla.tail.memory.bytes",
        "67108864",
        "Most memory for the newest batches of all partitions, from which consumers at the end \
        of a \
         log are served.",
    )
    .at_least(0)
    .sets(|c, v| c.tail_memory_bytes = v.integer().unsigned_abs()),
    text(
        "ottla.unauthenticated.listeners",
        "warn",
        "What to do with a configured listener that other machines reach without authentication: \
        warn, \
         or refuse to start.",
    )
    .one_of(&["warn", "refuse"])
    .combined(),
    text(
        "ottla.validation",
        "header",
        "How much of a batch is checked when it is produced: header = its header and checksum, \
         strict = every record in it, as Kafka does. Topics may set it for themselves.",
    )
    .one_of(&["header", "strict"])
    .cluster_wide()
    .topic_default(),
    int(
        "ottla.worker.threads",
        "0",
        "Threads of the data path; 0 for as many as there are cores.",
    )
    .between(0, 1024)
    .sets(|c, v| c.worker_threads = v.usize()),
];
