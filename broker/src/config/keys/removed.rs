//! Keys that Kafka 4 dropped and that files still carry. They are accepted with a notice and never
//! described: an answer with `inter.broker.protocol.version` makes tools take us for an old broker.

/// A dropped broker key and what to do about it.
#[derive(Clone, Copy, Debug)]
pub struct Removed {
    pub name: &'static str,
    pub why: &'static str,
}

const LISTENERS: &str = "use listeners and advertised.listeners";
const ZOOKEEPER: &str = "there is no ZooKeeper; the broker keeps its own metadata log";
const PROTOCOL: &str = "the protocol level is negotiated with each client";
const ALWAYS_KRAFT: &str = "it belonged to the ZooKeeper mode";

const fn removed(name: &'static str, why: &'static str) -> Removed {
    Removed { name, why }
}

pub const REMOVED_KEYS: &[Removed] = &[
    removed("advertised.host.name", LISTENERS),
    removed("advertised.port", LISTENERS),
    removed("host.name", LISTENERS),
    removed("port", LISTENERS),
    removed(
        "auto.include.jmx.reporter",
        "there is no JMX; metrics are served at /metrics",
    ),
    removed("broker.id.generation.enable", "set node.id"),
    removed("control.plane.listener.name", ALWAYS_KRAFT),
    removed("controlled.shutdown.max.retries", ALWAYS_KRAFT),
    removed("controlled.shutdown.retry.backoff.ms", ALWAYS_KRAFT),
    removed("inter.broker.protocol.version", PROTOCOL),
    removed(
        "log.message.downconversion.enable",
        "only the current record format exists",
    ),
    removed(
        "log.message.format.version",
        "only the current record format exists",
    ),
    removed(
        "log.message.timestamp.difference.max.ms",
        "use log.message.timestamp.before.max.ms and log.message.timestamp.after.max.ms",
    ),
    removed(
        "offsets.commit.required.acks",
        "commits always wait for the in-sync replicas",
    ),
    removed("password.encoder.cipher.algorithm", ZOOKEEPER),
    removed("password.encoder.iterations", ZOOKEEPER),
    removed("password.encoder.key.length", ZOOKEEPER),
    removed("password.encoder.keyfactory.algorithm", ZOOKEEPER),
    removed("password.encoder.old.secret", ZOOKEEPER),
    removed("password.encoder.secret", ZOOKEEPER),
    removed("reserved.broker.max.id", "set node.id"),
    removed("zookeeper.metadata.migration.enable", ZOOKEEPER),
];

/// Topic keys that Kafka 4 refuses; accepted with a warning unless `ottla.strict.topic.keys` is
/// set.
pub const REMOVED_TOPIC_KEYS: &[Removed] = &[
    removed(
        "message.downconversion.enable",
        "only the current record format exists",
    ),
    removed(
        "message.format.version",
        "only the current record format exists",
    ),
    removed(
        "message.timestamp.difference.max.ms",
        "use message.timestamp.before.max.ms and message.timestamp.after.max.ms",
    ),
];

pub(in crate::config) fn why_removed(name: &str) -> Option<&'static str> {
    if name.starts_with("zookeeper.") {
        return Some(ZOOKEEPER);
    }
    REMOVED_KEYS
        .iter()
        .find(|removed| removed.name == name)
        .map(|removed| removed.why)
}
