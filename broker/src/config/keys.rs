//! `KEYS`: every configuration key, one row each, in tables by area. Owns the tables'
//! concatenation, the lookup by name, the keys Kafka dropped, and the "did you mean" of unknown
//! ones.
//!
//! Invariants, each with a test: names are unique per resource and every row states its effect, a
//! synonym names a broker key, and a default satisfies its own rule.

mod controller;
mod groups;
mod log;
mod network;
mod other;
mod own;
mod quota;
mod removed;
mod replication;
mod security;
mod tiering;
mod topic;
mod topics;
mod transactions;

pub use removed::{REMOVED_KEYS, REMOVED_TOPIC_KEYS, Removed};
pub use topic::{CLIENT_METRICS_KEYS, GROUP_KEYS, TOPIC_KEYS};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::LazyLock;

use super::key::Key;
use super::notice::Notice;
use super::source::Origin;

/// Every broker key, area by area; the titles are those of the reference page.
pub const BROKER_KEYS: &[(&str, &[Key])] = &[
    ("Our own", own::KEYS),
    ("Listeners, connections and requests", network::KEYS),
    ("Identity and metadata", controller::KEYS),
    ("Topics", topics::KEYS),
    ("Logs", log::KEYS),
    ("Replication", replication::KEYS),
    ("Groups and their offsets", groups::KEYS),
    ("Transactions", transactions::KEYS),
    ("Authorization and delegation tokens", security::KEYS),
    ("SASL", security::SASL_KEYS),
    ("TLS", security::SSL_KEYS),
    ("Quotas", quota::KEYS),
    ("Tiered storage", tiering::KEYS),
    ("Metrics and plug-ins", other::KEYS),
];

/// Why keys have no effect; each sentence completes "has no effect: …".
mod why {
    pub(super) const JAVA: &str = "it configures a Java class, and nothing here runs in a JVM";
    pub(super) const ONE_NODE: &str = "it concerns several brokers, and this cluster has one";
    pub(super) const LINGER: &str = "a coordinator appends at once; what is synced is gathered";
    pub(super) const BUFFERS: &str = "no buffer is kept or sized by it";
    pub(super) const EXPIRY: &str = "offsets are looked at for their age every ten minutes";
    pub(super) const OFFSETS_CODEC: &str = "records of groups and offsets are not compressed";
    pub(super) const SHARE: &str = "share groups are not served yet";
    pub(super) const STREAMS: &str = "streams groups are not served yet";
    pub(super) const TRANSACTIONS: &str = "transactions are not served yet";
    pub(super) const TLS: &str = "TLS listeners are not served yet";
    pub(super) const SASL: &str = "SASL listeners are not served yet";
    pub(super) const ACLS: &str = "access control lists are not served yet";
    pub(super) const TOKENS: &str = "delegation tokens are not served yet";
    pub(super) const TIERING: &str = "tiered storage is not served yet";
    pub(super) const QUOTAS: &str = "quotas are not served yet";
    pub(super) const THREADS: &str =
        "threads are sized by ottla.worker.threads and ottla.io.threads";
    pub(super) const PURGATORY: &str = "parked requests are forgotten as soon as they are answered";
    pub(super) const RAFT: &str = "the metadata log has its own timing and sizes";
    pub(super) const METRICS: &str = "metrics are served at /metrics and not sampled in windows";
    pub(super) const JITTER: &str = "rolls are not spread over time yet";
    pub(super) const IN_FLIGHT: &str = "requests in flight are bounded per connection";
    pub(super) const CHECKPOINTS: &str = "start offsets are written together with recovery points";
    pub(super) const TELEMETRY: &str = "client telemetry is not served yet";
}

pub(super) fn all_broker_keys() -> impl Iterator<Item = &'static Key> {
    BROKER_KEYS.iter().flat_map(|(_, table)| table.iter())
}

type Index = BTreeMap<&'static str, &'static Key>;

fn index_of(keys: impl Iterator<Item = &'static Key>) -> Index {
    keys.map(|key| (key.name, key)).collect()
}

pub fn broker_key(name: &str) -> Option<&'static Key> {
    static INDEX: LazyLock<Index> = LazyLock::new(|| index_of(all_broker_keys()));
    INDEX.get(name).copied()
}

pub fn topic_key(name: &str) -> Option<&'static Key> {
    static INDEX: LazyLock<Index> = LazyLock::new(|| index_of(TOPIC_KEYS.iter()));
    INDEX.get(name).copied()
}

pub fn group_key(name: &str) -> Option<&'static Key> {
    GROUP_KEYS.iter().find(|key| key.name == name)
}

pub fn client_metrics_key(name: &str) -> Option<&'static Key> {
    CLIENT_METRICS_KEYS.iter().find(|key| key.name == name)
}

/// The broker key that a listener-specific key such as
/// `listener.name.internal.ssl.keystore.location` or
/// `listener.name.internal.plain.sasl.jaas.config` specialises.
pub(super) fn listener_specific(name: &str) -> Option<&'static Key> {
    let rest = name.strip_prefix("listener.name.")?;
    let (_listener, rest) = rest.split_once('.')?;
    broker_key(rest).or_else(|| {
        rest.split_once('.')
            .and_then(|(_mechanism, key)| broker_key(key))
    })
}

/// Prefixes whose keys belong to a plug-in that Kafka would load.
const PLUGIN_PREFIXES: &[&str] = &["rlmm.config.", "rsm.config.", "config.providers."];

/// What to say about a key that is in no broker table; nothing for those known in another way.
pub(super) fn unknown_key_notice(name: &str, origin: &Origin) -> Option<Notice> {
    let (key, origin) = (name.to_owned(), origin.clone());
    if let Some(why) = removed::why_removed(name) {
        return Some(Notice::RemovedKey { key, origin, why });
    }
    if let Some(known) = listener_specific(name) {
        let why = known.why_without_effect()?;
        return Some(Notice::WithoutEffect {
            key: known.name,
            origin,
            why,
        });
    }
    if PLUGIN_PREFIXES
        .iter()
        .any(|prefix| name.starts_with(prefix))
    {
        return None;
    }
    Some(Notice::UnknownKey {
        key,
        origin,
        suggestion: suggest_broker_key(name),
    })
}

/// The key that somebody who wrote `name` into a broker's configuration most likely means.
pub(super) fn suggest_broker_key(name: &str) -> Option<&'static str> {
    if let Some(key) = topic_key(name) {
        return key.synonyms.first().map(|(broker, _)| *broker);
    }
    suggest(name, all_broker_keys().map(|key| key.name))
}

pub(super) fn suggest_topic_key(name: &str) -> Option<&'static str> {
    let of_broker_key = TOPIC_KEYS
        .iter()
        .find(|key| key.synonyms.iter().any(|(broker, _)| *broker == name))
        .map(|key| key.name);
    of_broker_key.or_else(|| suggest(name, TOPIC_KEYS.iter().map(|key| key.name)))
}

/// The closest of `names`, if it is close: at most a third of the longer name's letters differ.
pub(super) fn suggest(
    name: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let lower = name.to_ascii_lowercase().replace(['_', '-'], ".");
    names
        .map(|known| (strsim::damerau_levenshtein(&lower, known), known))
        .filter(|(distance, known)| distance * 3 <= known.len().max(lower.len()))
        .min()
        .map(|(_, known)| known)
}

/// One entry of `max.connections.per.ip.overrides`: an address and its limit.
pub(super) fn parse_connection_override(entry: &str) -> Option<(IpAddr, u32)> {
    let (address, limit) = entry.rsplit_once(':')?;
    let address = address.trim().trim_start_matches('[').trim_end_matches(']');
    Some((address.parse().ok()?, limit.trim().parse().ok()?))
}

/// What happens instead of loading a Java class.
pub(super) fn java_class_meaning(class: &str) -> &'static str {
    match class.rsplit('.').next().unwrap_or(class) {
        "StandardAuthorizer" | "AclAuthorizer" => {
            "it stands for Kafka's access control lists, which are not served yet"
        }
        "RackAwareReplicaSelector" => {
            "it stands for reading from the nearest replica, which needs several brokers"
        }
        "JmxReporter" => "it stands for JMX; metrics are served over HTTP at /metrics",
        "DefaultKafkaPrincipalBuilder" => "it is what happens without it",
        _ => "Java classes cannot be loaded here, so it is ignored",
    }
}

/// Settings that lose data or open doors, for `ottla config check` and the log at start.
pub(super) fn danger_of(name: &str, value: &str) -> Option<&'static str> {
    match (name, value.to_ascii_lowercase().as_str()) {
        ("unclean.leader.election.enable", "true") => {
            Some("a replica that misses acknowledged records may become leader: they are lost")
        }
        ("ottla.durability", "memory") => {
            Some("acknowledged records that are not on disk yet are lost in a power cut")
        }
        ("allow.everyone.if.no.acl.found", "true") => {
            Some("resources without an access rule are open to everybody")
        }
        _ => None,
    }
}
