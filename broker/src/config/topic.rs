//! What a topic is configured to do, typed. Each field is set by its row in `config/keys/topic.rs`;
//! a topic's own override wins over the broker-wide value of the key's synonyms, which wins over
//! the built-in default.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use super::key::{Effect, Key, Value};
use super::keys::{self, broker_key};
use super::source::Layers;
use super::{Config, TOPIC_KEYS};

/// What happens to old records. Neither flag: records are kept for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// The codec a topic's batches are stored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As the producer sent them.
    Producer,
    Uncompressed,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// When an acknowledged record is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the acknowledgement; flushes are shared by all who wait (group commit).
    Commit,
    /// At most `ottla.durability.interval.ms` after it.
    Interval,
    /// When the system writes its page cache back, as in Kafka.
    Memory,
}

/// How much of a batch is looked at before it is appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Its header and checksum.
    Header,
    /// Every record, as Kafka does.
    Strict,
}

/// A topic's effective configuration. Units are in the names; limits that may be absent are
/// options.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression: Compression,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    /// Flush after this many records; `None`: not because of their number.
    pub flush_messages: Option<u64>,
    /// Flush when the oldest unflushed record is this old; `None`: not because of age.
    pub flush_ms: Option<u64>,
    pub index_interval_bytes: u32,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: u32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    pub preallocate: bool,
    /// Per partition; `None`: no limit.
    pub retention_bytes: Option<u64>,
    pub retention_ms: Option<u64>,
    pub segment_bytes: u32,
    pub segment_index_bytes: u32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election: bool,
    pub durability: Durability,
    pub validation: Validation,
}

impl TopicConfig {
    /// The configuration of a topic with these overrides, on a broker with these dynamic configs.
    /// Without dynamic broker configs this costs one clone and one parse per override.
    pub fn effective<K, V>(
        topic_overrides: &BTreeMap<K, V>,
        broker_dynamic: &BTreeMap<K, V>,
        cluster_dynamic: &BTreeMap<K, V>,
        config: &Config,
    ) -> TopicConfig
    where
        K: Borrow<str> + Ord,
        V: AsRef<str>,
    {
        let mut topic = if broker_dynamic.is_empty() && cluster_dynamic.is_empty() {
            config.topic_defaults.clone()
        } else {
            let layers = Layers::new(broker_dynamic, cluster_dynamic, &config.static_values);
            TopicConfig::from_layers(&layers)
        };
        for (name, text) in topic_overrides {
            // Unknown and invalid overrides were refused when they were set; a later version that
            // knows better ignores them rather than lose the topic.
            let Some(key) = keys::topic_key(name.borrow()) else {
                continue;
            };
            if let (Effect::SetsTopic(set), Ok(value)) = (key.effect, key.parse(text.as_ref())) {
                set(&mut topic, &value);
            }
        }
        topic
    }

    /// What topics without overrides have.
    pub(super) fn from_layers(layers: &Layers<'_>) -> TopicConfig {
        let mut topic = TopicConfig::blank();
        for key in TOPIC_KEYS.iter() {
            let Effect::SetsTopic(set) = key.effect else {
                continue;
            };
            let value = broker_wide_value(key, layers);
            set(&mut topic, &value.unwrap_or_else(|| key.default_value()));
        }
        topic
    }

    pub(super) fn blank() -> TopicConfig {
        TopicConfig {
            cleanup_policy: CleanupPolicy::default(),
            compression: Compression::Producer,
            compression_gzip_level: 0,
            compression_lz4_level: 0,
            compression_zstd_level: 0,
            delete_retention_ms: 0,
            file_delete_delay_ms: 0,
            flush_messages: None,
            flush_ms: None,
            index_interval_bytes: 0,
            max_compaction_lag_ms: 0,
            max_message_bytes: 0,
            message_timestamp_after_max_ms: 0,
            message_timestamp_before_max_ms: 0,
            message_timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.0,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 0,
            preallocate: false,
            retention_bytes: None,
            retention_ms: None,
            segment_bytes: 0,
            segment_index_bytes: 0,
            segment_jitter_ms: 0,
            segment_ms: 0,
            unclean_leader_election: false,
            durability: Durability::Commit,
            validation: Validation::Header,
        }
    }
}

/// The value a topic or group key inherits: of its synonyms the first that somebody set, else the
/// first that has a default. `None` when no synonym has a value.
pub(super) fn broker_wide_value(key: &Key, layers: &Layers<'_>) -> Option<Value> {
    let explicit = key.synonyms.iter().find_map(|(name, factor)| {
        let broker = broker_key(name)?;
        Some(scaled(layers.explicit(broker)?, *factor, key))
    });
    explicit.or_else(|| {
        key.synonyms.iter().find_map(|(name, factor)| {
            let value = broker_key(name)?.default_value();
            (!value.is_null()).then(|| scaled(value, *factor, key))
        })
    })
}

/// Converts hours and minutes to the milliseconds of the inheriting key; negative means no limit.
fn scaled(value: Value, factor: i64, key: &Key) -> Value {
    if factor == 1 {
        return value;
    }
    debug_assert_eq!(key.key_type, super::KeyType::Long);
    match value.integer() {
        negative if negative < 0 => Value::Long(-1),
        count => Value::Long(count.saturating_mul(factor)),
    }
}
