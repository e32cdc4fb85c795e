//! Keys of identity, the metadata quorum and the metadata log.

use std::path::PathBuf;

use super::why;
use crate::config::key::{Key, KeyType, boolean, int, list, long, unset};

pub(super) const KEYS: &[Key] = &[
    int(
        "broker.heartbeat.interval.ms",
        "2000",
        "Time between the heartbeats of a broker to the controller.",
    )
    .without_effect(why::ONE_NODE),
    int("broker.id", "-1", "Older name of node.id.").combined(),
    unset(
        "broker.rack",
        KeyType::String,
        "Rack or zone of this broker, as clients see it.",
    )
    .sets(|c, v| c.broker_rack = v.text_or_none()),
    int(
        "broker.session.timeout.ms",
        "9000",
        "Time without heartbeats after which the controller takes a broker for dead.",
    )
    .without_effect(why::ONE_NODE),
    boolean(
        "controlled.shutdown.enable",
        "true",
        "Hand leadership over before stopping; always on.",
    )
    .without_effect(why::ONE_NODE),
    unset(
        "controller.listener.names",
        KeyType::List,
        "Names of the listeners that only controllers use; clients are not served on them.",
    )
    .combined(),
    int(
        "controller.quorum.append.linger.ms",
        "25",
        "Wait for more records before the metadata log is flushed.",
    )
    .at_least(0)
    .without_effect(why::RAFT),
    boolean(
        "controller.quorum.auto.join.enable",
        "false",
        "Whether a new controller joins the voters by itself.",
    )
    .without_effect(why::ONE_NODE),
    list(
        "controller.quorum.bootstrap.servers",
        "",
        "Addresses of controllers from which the quorum is found.",
    )
    .combined(),
    int(
        "controller.quorum.election.backoff.max.ms",
        "1000",
        "Longest pause before another election is tried.",
    )
    .without_effect(why::RAFT),
    int(
        "controller.quorum.election.timeout.ms",
        "1000",
        "Time without a leader after which a voter stands for election.",
    )
    .without_effect(why::RAFT),
    int(
        "controller.quorum.fetch.max.bytes",
        "1048576",
        "Most bytes of metadata records in one answer to a follower.",
    )
    .at_least(1)
    .without_effect(why::RAFT),
    int(
        "controller.quorum.fetch.snapshot.max.bytes",
        "1048576",
        "Most bytes of a metadata snapshot in one answer to a follower.",
    )
    .at_least(1)
    .without_effect(why::RAFT),
    int(
        "controller.quorum.fetch.timeout.ms",
        "2000",
        "Time without an answer after which a follower gives the quorum's leader up.",
    )
    .without_effect(why::RAFT),
    int(
        "controller.quorum.request.timeout.ms",
        "2000",
        "Longest wait for an answer between controllers.",
    )
    .without_effect(why::RAFT),
    int(
        "controller.quorum.retry.backoff.ms",
        "20",
        "Pause before a failed request between controllers is sent again.",
    )
    .without_effect(why::RAFT),
    list(
        "controller.quorum.voters",
        "",
        "Voters of the metadata quorum as id@host:port; empty on a single node.",
    )
    .combined(),
    int(
        "controller.socket.timeout.ms",
        "30000",
        "Longest wait for an answer of the controller.",
    )
    .without_effect(why::ONE_NODE),
    int(
        "initial.broker.registration.timeout.ms",
        "60000",
        "Longest time that a starting broker tries to register.",
    )
    .without_effect(why::ONE_NODE),
    unset(
        "metadata.log.dir",
        KeyType::String,
        "Directory of the metadata log when it is not the first data directory.",
    )
    .sets(|c, v| c.metadata_log_dir = v.text_or_none().map(PathBuf::from)),
    long(
        "metadata.log.max.record.bytes.between.snapshots",
        "20971520",
        "Bytes of metadata records after which a snapshot is taken.",
    )
    .at_least(1)
    .without_effect(why::RAFT),
    long(
        "metadata.log.max.snapshot.interval.ms",
        "3600000",
        "Time after which a snapshot of the metadata is taken; 0 for never because of time.",
    )
    .at_least(0)
    .without_effect(why::RAFT),
    int(
        "metadata.log.segment.bytes",
        "1073741824",
        "Segment size of the metadata log.",
    )
    .at_least(8_388_608)
    .without_effect(why::RAFT),
    long(
        "metadata.log.segment.ms",
        "604800000",
        "Time after which a metadata segment is closed.",
    )
    .without_effect(why::RAFT),
    int(
        "metadata.max.idle.interval.ms",
        "500",
        "Time between the no-operation records of an idle controller; 0 for none.",
    )
    .at_least(0)
    .without_effect(why::RAFT),
    long(
        "metadata.max.retention.bytes",
        "104857600",
        "Size of metadata log and snapshots from which old ones are deleted.",
    )
    .without_effect(why::RAFT),
    long(
        "metadata.max.retention.ms",
        "604800000",
        "Age from which old metadata segments and snapshots are deleted.",
    )
    .without_effect(why::RAFT),
    unset(
        "node.id",
        KeyType::Int,
        "Number of this node, unique in the cluster; 1 when not set.",
    )
    .at_least(0)
    .combined(),
    unset(
        "process.roles",
        KeyType::List,
        "Roles of this process; one node is both broker and controller.",
    )
    .each_of(&["broker", "controller"])
    .combined(),
];
