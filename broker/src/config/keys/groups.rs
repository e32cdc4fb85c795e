//! Keys of the group coordinators: classic, consumer, share and streams groups, and their offsets.

use ottla_coordinator::MigrationPolicy;

use super::why;
use crate::config::key::{Key, int, list, long, short, text};

/// The four group protocols name their timings alike.
const AT_LEAST_ONE: i64 = 1;

pub(super) const KEYS: &[Key] = &[
    int(
        "group.consumer.assignment.interval.ms",
        "1000",
        "Shortest time between two assignments of a consumer group.",
    )
    .at_least(0)
    .cluster_wide()
    .sets(|c, v| c.group_limits.consumer.assignment_interval_ms = v.i32()),
    list(
        "group.consumer.assignors",
        "uniform,range",
        "Assignors of consumer groups, the first being the default; also Java class names.",
    )
    .not_empty()
    .sets(|c, v| c.group_limits.consumer.assignors = v.list().to_vec()),
    int(
        "group.consumer.heartbeat.interval.ms",
        "5000",
        "Time between the heartbeats of a consumer group's member.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.group_limits.consumer.heartbeat_interval_ms = v.i32()),
    int(
        "group.consumer.max.assignment.interval.ms",
        "15000",
        "Largest assignment interval that a consumer group may be configured with.",
    )
    .at_least(0)
    .combined(),
    int(
        "group.consumer.max.heartbeat.interval.ms",
        "15000",
        "Largest heartbeat interval that a consumer group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .combined(),
    int(
        "group.consumer.max.session.timeout.ms",
        "60000",
        "Largest session timeout that a consumer group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .combined(),
    int(
        "group.consumer.max.size",
        "2147483647",
        "Most members of a consumer group.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.group_limits.consumer.max_size = usize::try_from(v.i32()).unwrap_or(0)),
    text(
        "group.consumer.migration.policy",
        "bidirectional",
        "Whether classic groups become consumer groups (upgrade), the reverse (downgrade), both or \
         neither.",
    )
    .one_of(&["bidirectional", "upgrade", "downgrade", "disabled"])
    .sets(|c, v| {
        let policy = MigrationPolicy::parse(v.text());
        c.group_limits.consumer.migration_policy = policy.unwrap_or(MigrationPolicy::Disabled);
    }),
    int(
        "group.consumer.min.assignment.interval.ms",
        "0",
        "Smallest assignment interval that a consumer group may be configured with.",
    )
    .at_least(0)
    .combined(),
    int(
        "group.consumer.min.heartbeat.interval.ms",
        "5000",
        "Smallest heartbeat interval that a consumer group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .combined(),
    int(
        "group.consumer.min.session.timeout.ms",
        "45000",
        "Smallest session timeout that a consumer group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .combined(),
    int(
        "group.consumer.session.timeout.ms",
        "45000",
        "Time without a heartbeat after which a consumer group loses a member.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.group_limits.consumer.session_timeout_ms = v.i32()),
    int(
        "group.coordinator.append.linger.ms",
        "-1",
        "Wait of the coordinator for more records before it appends; -1 adapts it to the load.",
    )
    .at_least(-1)
    .without_effect(why::LINGER),
    int(
        "group.coordinator.background.threads",
        "2",
        "Threads for the coordinator's long computations, such as assignments.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::THREADS),
    int(
        "group.coordinator.cached.buffer.max.bytes",
        "1048588",
        "Largest append buffer that the group coordinator keeps for reuse.",
    )
    .at_least(524_288)
    .cluster_wide()
    .without_effect(why::BUFFERS),
    list(
        "group.coordinator.rebalance.protocols",
        "classic,consumer,streams",
        "Group protocols that are served.",
    )
    .each_of(&["classic", "consumer", "share", "streams"])
    .sets(|c, v| c.consumer_groups = v.list().iter().any(|name| name == "consumer")),
    int(
        "group.coordinator.threads",
        "4",
        "Threads of the group coordinator.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::THREADS),
    int(
        "group.initial.rebalance.delay.ms",
        "3000",
        "Wait of an empty classic group for more members before its first rebalance.",
    )
    .at_least(0)
    .sets(|c, v| c.group_limits.initial_rebalance_delay_ms = v.i32()),
    int(
        "group.max.session.timeout.ms",
        "1800000",
        "Largest session timeout that a member of a classic group may ask for.",
    )
    .sets(|c, v| c.group_limits.max_session_timeout_ms = v.i32()),
    int(
        "group.max.size",
        "2147483647",
        "Most members of a classic group.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.group_limits.max_size = usize::try_from(v.i32()).unwrap_or(0)),
    int(
        "group.min.session.timeout.ms",
        "6000",
        "Smallest session timeout that a member of a classic group may ask for.",
    )
    .sets(|c, v| c.group_limits.min_session_timeout_ms = v.i32()),
    int(
        "group.share.assignment.interval.ms",
        "1000",
        "Shortest time between two assignments of a share group.",
    )
    .at_least(0)
    .cluster_wide()
    .without_effect(why::SHARE),
    list(
        "group.share.assignors",
        "simple",
        "Assignors of share groups, the first being the default.",
    )
    .not_empty()
    .without_effect(why::SHARE),
    int(
        "group.share.delivery.count.limit",
        "5",
        "Deliveries of a record after which a share group gives it up.",
    )
    .between(2, 10)
    .without_effect(why::SHARE),
    int(
        "group.share.heartbeat.interval.ms",
        "5000",
        "Time between the heartbeats of a share group's member.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.share.max.assignment.interval.ms",
        "15000",
        "Largest assignment interval that a share group may be configured with.",
    )
    .at_least(0)
    .without_effect(why::SHARE),
    int(
        "group.share.max.delivery.count.limit",
        "10",
        "Largest delivery limit that a share group may be configured with.",
    )
    .between(5, 25)
    .without_effect(why::SHARE),
    int(
        "group.share.max.heartbeat.interval.ms",
        "15000",
        "Largest heartbeat interval that a share group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.share.max.partition.max.record.locks",
        "4000",
        "Largest lock limit that a share group may be configured with.",
    )
    .between(100, 10_000)
    .without_effect(why::SHARE),
    int(
        "group.share.max.record.lock.duration.ms",
        "60000",
        "Longest acquisition lock that a share group may be configured with.",
    )
    .between(30_000, 3_600_000)
    .without_effect(why::SHARE),
    int(
        "group.share.max.session.timeout.ms",
        "60000",
        "Largest session timeout that a share group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.share.max.share.sessions",
        "2000",
        "Most share sessions remembered at a time.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.share.max.size",
        "200",
        "Most members of a share group.",
    )
    .between(1, 1000)
    .without_effect(why::SHARE),
    int(
        "group.share.min.assignment.interval.ms",
        "0",
        "Smallest assignment interval that a share group may be configured with.",
    )
    .at_least(0)
    .without_effect(why::SHARE),
    int(
        "group.share.min.delivery.count.limit",
        "2",
        "Smallest delivery limit that a share group may be configured with.",
    )
    .between(2, 5)
    .without_effect(why::SHARE),
    int(
        "group.share.min.heartbeat.interval.ms",
        "5000",
        "Smallest heartbeat interval that a share group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.share.min.partition.max.record.locks",
        "100",
        "Smallest lock limit that a share group may be configured with.",
    )
    .between(100, 2000)
    .without_effect(why::SHARE),
    int(
        "group.share.min.record.lock.duration.ms",
        "15000",
        "Shortest acquisition lock that a share group may be configured with.",
    )
    .between(1000, 30_000)
    .without_effect(why::SHARE),
    int(
        "group.share.min.session.timeout.ms",
        "45000",
        "Smallest session timeout that a share group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.share.partition.max.record.locks",
        "2000",
        "Most records of a partition that a share group may hold in delivery.",
    )
    .between(100, 10_000)
    .without_effect(why::SHARE),
    int(
        "group.share.record.lock.duration.ms",
        "30000",
        "Time that a member of a share group has for a record before another gets it.",
    )
    .between(1000, 3_600_000)
    .without_effect(why::SHARE),
    int(
        "group.share.session.timeout.ms",
        "45000",
        "Time without a heartbeat after which a share group loses a member.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "group.streams.assignment.interval.ms",
        "1000",
        "Shortest time between two assignments of a streams group.",
    )
    .at_least(0)
    .cluster_wide()
    .without_effect(why::STREAMS),
    int(
        "group.streams.heartbeat.interval.ms",
        "5000",
        "Time between the heartbeats of a streams group's member.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "group.streams.initial.rebalance.delay.ms",
        "3000",
        "Wait of an empty streams group for more members before its first assignment.",
    )
    .at_least(0)
    .without_effect(why::STREAMS),
    int(
        "group.streams.max.assignment.interval.ms",
        "15000",
        "Largest assignment interval that a streams group may be configured with.",
    )
    .at_least(0)
    .without_effect(why::STREAMS),
    int(
        "group.streams.max.heartbeat.interval.ms",
        "15000",
        "Largest heartbeat interval that a streams group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "group.streams.max.session.timeout.ms",
        "60000",
        "Largest session timeout that a streams group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "group.streams.max.size",
        "2147483647",
        "Most members of a streams group.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "group.streams.max.standby.replicas",
        "2",
        "Most standby replicas that a streams group may be configured with.",
    )
    .at_least(0)
    .without_effect(why::STREAMS),
    int(
        "group.streams.min.assignment.interval.ms",
        "0",
        "Smallest assignment interval that a streams group may be configured with.",
    )
    .at_least(0)
    .without_effect(why::STREAMS),
    int(
        "group.streams.min.heartbeat.interval.ms",
        "5000",
        "Smallest heartbeat interval that a streams group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "group.streams.min.session.timeout.ms",
        "45000",
        "Smallest session timeout that a streams group may be configured with.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "group.streams.num.standby.replicas",
        "0",
        "Standby copies of each task's state in a streams group.",
    )
    .at_least(0)
    .without_effect(why::STREAMS),
    int(
        "group.streams.session.timeout.ms",
        "45000",
        "Time without a heartbeat after which a streams group loses a member.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::STREAMS),
    int(
        "offset.metadata.max.bytes",
        "4096",
        "Longest text that a commit may carry with an offset.",
    )
    .sets(|c, v| {
        c.group_limits.offset_metadata_max_bytes = usize::try_from(v.i32()).unwrap_or(0);
    }),
    int(
        "offsets.commit.timeout.ms",
        "5000",
        "Longest wait for the replicas when offsets are committed.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.offsets_commit_timeout_ms = v.u32().into()),
    int(
        "offsets.load.buffer.size",
        "5242880",
        "Bytes read at a time when a coordinator loads its groups.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::BUFFERS),
    long(
        "offsets.retention.check.interval.ms",
        "600000",
        "Time between searches for offsets that have expired.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::EXPIRY),
    int(
        "offsets.retention.minutes",
        "10080",
        "Minutes for which the offsets of a group without members are kept.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.group_limits.offsets_retention_ms = v.integer() * 60_000),
    int(
        "offsets.topic.compression.codec",
        "0",
        "Codec of the offsets topic: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.",
    )
    .between(0, 4)
    .without_effect(why::OFFSETS_CODEC),
    int(
        "offsets.topic.num.partitions",
        "50",
        "Partitions of the offsets topic.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.offsets_topic.partitions = v.i32()),
    short(
        "offsets.topic.replication.factor",
        "3",
        "Replicas of the offsets topic; at most as many as there are brokers.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| {
        c.offsets_topic.replication_factor = i16::try_from(v.integer()).unwrap_or(i16::MAX);
    }),
    int(
        "offsets.topic.segment.bytes",
        "104857600",
        "Segment size of the offsets topic.",
    )
    .at_least(AT_LEAST_ONE)
    .sets(|c, v| c.offsets_topic.segment_bytes = v.i32()),
    int(
        "share.coordinator.append.linger.ms",
        "-1",
        "Wait of the share coordinator for more records before it appends; -1 adapts it.",
    )
    .at_least(-1)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.cached.buffer.max.bytes",
        "1048588",
        "Largest append buffer that the share coordinator keeps for reuse.",
    )
    .at_least(524_288)
    .cluster_wide()
    .without_effect(why::SHARE),
    int(
        "share.coordinator.load.buffer.size",
        "5242880",
        "Bytes read at a time when the share coordinator loads its state.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.snapshot.update.records.per.snapshot",
        "500",
        "Updates of a share partition between two snapshots of it.",
    )
    .between(0, 500)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.state.topic.compression.codec",
        "0",
        "Codec of the share state topic: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.",
    )
    .between(0, 4)
    .without_effect(why::SHARE),
    short(
        "share.coordinator.state.topic.min.isr",
        "2",
        "In-sync replicas that the share state topic demands.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.state.topic.num.partitions",
        "50",
        "Partitions of the share state topic.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    short(
        "share.coordinator.state.topic.replication.factor",
        "3",
        "Replicas of the share state topic; at most as many as there are brokers.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.state.topic.segment.bytes",
        "104857600",
        "Segment size of the share state topic.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.threads",
        "1",
        "Threads of the share coordinator.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "share.coordinator.write.timeout.ms",
        "5000",
        "Longest wait for the replicas when the share coordinator writes.",
    )
    .at_least(AT_LEAST_ONE)
    .without_effect(why::SHARE),
    int(
        "share.fetch.purgatory.purge.interval.requests",
        "1000",
        "Answered share fetches after which their traces are cleared.",
    )
    .without_effect(why::PURGATORY),
];
