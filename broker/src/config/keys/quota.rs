//! Keys of quotas: the windows they are measured in, and the throttles of replication.

use super::why;
use crate::config::key::{Key, KeyType, int, long, unset};

pub(super) const KEYS: &[Key] = &[
    int(
        "alter.log.dirs.replication.quota.window.num",
        "11",
        "Windows over which moves between log directories are measured.",
    )
    .at_least(1)
    .without_effect(why::QUOTAS),
    int(
        "alter.log.dirs.replication.quota.window.size.seconds",
        "1",
        "Length of a window over which moves between log directories are measured.",
    )
    .at_least(1)
    .without_effect(why::QUOTAS),
    unset(
        "client.quota.callback.class",
        KeyType::Class,
        "Java class that decides the quotas of clients.",
    )
    .without_effect(why::JAVA),
    int(
        "controller.quota.window.num",
        "11",
        "Windows over which changes of topics and partitions are measured.",
    )
    .at_least(1)
    .without_effect(why::QUOTAS),
    int(
        "controller.quota.window.size.seconds",
        "1",
        "Length of a window over which changes of topics and partitions are measured.",
    )
    .at_least(1)
    .without_effect(why::QUOTAS),
    long(
        "follower.replication.throttled.rate",
        "9223372036854775807",
        "Bytes per second that throttled replicas of this broker may follow with.",
    )
    .at_least(0)
    .per_broker()
    .listed_when_set()
    .without_effect(why::ONE_NODE),
    long(
        "leader.replication.throttled.rate",
        "9223372036854775807",
        "Bytes per second that throttled replicas of this broker may be followed with.",
    )
    .at_least(0)
    .per_broker()
    .listed_when_set()
    .without_effect(why::ONE_NODE),
    int(
        "quota.window.num",
        "11",
        "Windows over which clients are measured.",
    )
    .at_least(1)
    .without_effect(why::QUOTAS),
    int(
        "quota.window.size.seconds",
        "1",
        "Length of a window over which clients are measured.",
    )
    .at_least(1)
    .without_effect(why::QUOTAS),
    long(
        "replica.alter.log.dirs.io.max.bytes.per.second",
        "9223372036854775807",
        "Bytes per second for moves between the log directories of this broker.",
    )
    .at_least(0)
    .per_broker()
    .listed_when_set()
    .sets(|c, v| c.alter_log_dirs_bytes_per_second = v.integer().unsigned_abs()),
    int(
        "replication.quota.window.num",
        "11",
        "Windows over which throttled replicas are measured.",
    )
    .at_least(1)
    .without_effect(why::ONE_NODE),
    int(
        "replication.quota.window.size.seconds",
        "1",
        "Length of a window over which throttled replicas are measured.",
    )
    .at_least(1)
    .without_effect(why::ONE_NODE),
];
