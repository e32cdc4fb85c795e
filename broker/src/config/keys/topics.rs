//! Keys of topics as a whole: creation, deletion, replication factor, leader balance.

use super::why;
use crate::config::key::{Key, KeyType, boolean, int, long, unset};

pub(super) const KEYS: &[Key] = &[
    unset(
        "alter.config.policy.class.name",
        KeyType::Class,
        "Java class that may refuse changes of configuration.",
    )
    .without_effect(why::JAVA),
    boolean(
        "auto.create.topics.enable",
        "true",
        "Create a topic when a client asks for the metadata of one that does not exist.",
    )
    .sets(|c, v| c.auto_create_topics = v.boolean()),
    boolean(
        "auto.leader.rebalance.enable",
        "true",
        "Give leadership back to preferred replicas in the background.",
    )
    .without_effect(why::ONE_NODE),
    unset(
        "create.topic.policy.class.name",
        KeyType::Class,
        "Java class that may refuse new topics.",
    )
    .without_effect(why::JAVA),
    int(
        "default.replication.factor",
        "1",
        "Replicas of a topic that is created without saying how many.",
    )
    .at_least(1)
    .sets(|c, v| c.default_replication_factor = v.i32()),
    boolean(
        "delete.topic.enable",
        "true",
        "Whether topics can be deleted.",
    )
    .sets(|c, v| c.delete_topics = v.boolean()),
    long(
        "leader.imbalance.check.interval.seconds",
        "300",
        "Time between checks for leaders that are not the preferred replica.",
    )
    .at_least(1)
    .without_effect(why::ONE_NODE),
    int(
        "min.insync.replicas",
        "1",
        "Replicas that must have a record before acks=all is answered, for topics that do not say.",
    )
    .at_least(1)
    .cluster_wide()
    .topic_default(),
    int(
        "num.partitions",
        "1",
        "Partitions of a topic that is created without saying how many.",
    )
    .at_least(1)
    .sets(|c, v| c.num_partitions = v.i32()),
    boolean(
        "unclean.leader.election.enable",
        "false",
        "Whether a replica that is not in sync may become leader when nothing else is left.",
    )
    .cluster_wide()
    .topic_default(),
];
