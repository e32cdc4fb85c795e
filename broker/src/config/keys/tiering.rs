//! Keys of tiered storage.

use super::why;
use crate::config::key::{Key, KeyType, boolean, int, long, text, unset};

pub(super) const KEYS: &[Key] = &[
    boolean(
        "follower.fetch.last.tiered.offset.enable",
        "false",
        "Whether a new follower starts at the last tiered offset rather than copy everything.",
    )
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "log.local.retention.bytes",
        "-2",
        "Bytes of a tiered partition kept on local disk; -2 for log.retention.bytes.",
    )
    .at_least(-2)
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "log.local.retention.ms",
        "-2",
        "Time for which a tiered partition is kept on local disk; -2 for log.retention.ms.",
    )
    .at_least(-2)
    .cluster_wide()
    .without_effect(why::TIERING),
    int(
        "remote.fetch.max.wait.ms",
        "500",
        "Longest wait of a fetch that must be answered from remote storage.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "remote.list.offsets.request.timeout.ms",
        "30000",
        "Longest wait of an offset lookup that needs remote storage.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "remote.log.index.file.cache.total.size.bytes",
        "1073741824",
        "Local disk used for indexes of remote segments.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.copier.thread.pool.size",
        "10",
        "Threads that copy segments out.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "remote.log.manager.copy.max.bytes.per.second",
        "9223372036854775807",
        "Most bytes per second copied to remote storage.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.copy.quota.window.num",
        "11",
        "Windows over which copying to remote storage is measured.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.copy.quota.window.size.seconds",
        "1",
        "Length of a window over which copying to remote storage is measured.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.expiration.thread.pool.size",
        "10",
        "Threads that delete expired remote segments.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "remote.log.manager.fetch.max.bytes.per.second",
        "9223372036854775807",
        "Most bytes per second read from remote storage.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.fetch.quota.window.num",
        "11",
        "Windows over which reading from remote storage is measured.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.fetch.quota.window.size.seconds",
        "1",
        "Length of a window over which reading from remote storage is measured.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.follower.thread.pool.size",
        "2",
        "Threads that keep followers of tiered partitions up to date.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    long(
        "remote.log.manager.task.interval.ms",
        "30000",
        "Time between rounds of copying and expiry.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.manager.thread.pool.size",
        "2",
        "Threads that plan copying and expiry.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.metadata.custom.metadata.max.bytes",
        "128",
        "Most bytes that a storage plug-in may keep with a segment.",
    )
    .at_least(0)
    .without_effect(why::TIERING),
    text(
        "remote.log.metadata.manager.class.name",
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
        "Java class that remembers which segments are remote.",
    )
    .not_empty()
    .without_effect(why::JAVA),
    unset(
        "remote.log.metadata.manager.class.path",
        KeyType::String,
        "Where that class is loaded from.",
    )
    .without_effect(why::JAVA),
    text(
        "remote.log.metadata.manager.impl.prefix",
        "rlmm.config.",
        "Prefix of the settings that are handed to that class.",
    )
    .not_empty()
    .without_effect(why::JAVA),
    unset(
        "remote.log.metadata.manager.listener.name",
        KeyType::String,
        "Listener through which that class reaches the cluster.",
    )
    .not_empty()
    .without_effect(why::JAVA),
    int(
        "remote.log.reader.max.pending.tasks",
        "100",
        "Most reads that may wait for remote storage.",
    )
    .at_least(1)
    .without_effect(why::TIERING),
    int(
        "remote.log.reader.threads",
        "10",
        "Threads that read from remote storage.",
    )
    .at_least(1)
    .cluster_wide()
    .without_effect(why::TIERING),
    unset(
        "remote.log.storage.manager.class.name",
        KeyType::String,
        "Java class that reads and writes remote storage.",
    )
    .without_effect(why::JAVA),
    unset(
        "remote.log.storage.manager.class.path",
        KeyType::String,
        "Where the storage class is loaded from.",
    )
    .without_effect(why::JAVA),
    text(
        "remote.log.storage.manager.impl.prefix",
        "rsm.config.",
        "Prefix of the settings that are handed to the storage class.",
    )
    .not_empty()
    .without_effect(why::JAVA),
    boolean(
        "remote.log.storage.system.enable",
        "false",
        "Whether topics can be tiered at all.",
    )
    .without_effect(why::TIERING),
];
