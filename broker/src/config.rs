//! Configuration: one row per key in `KEYS`, everything else derived. Owns the typed [`Config`] of
//! a broker and [`TopicConfig`] of a topic, their sources (default < file < environment < override,
//! then the dynamic configs of the metadata log), DescribeConfigs rows and the validation of
//! changes.
//!
//! A key is defined once, in `config/keys/`: its name, type, default, range, scope, sentence of
//! documentation and the field it sets. A `Config` is immutable; a dynamic change makes a new one.
//! Deliberately absent: reading files and environment (only `config/load.rs` does), and time.

pub mod alter;
mod build;
pub mod check;
pub mod cordon;
pub mod describe;
pub mod document;
pub mod group;
mod key;
mod keys;
mod listeners;
pub mod load;
mod notice;
mod source;
mod topic;

pub use build::{ConfigError, ConfigErrors, Problem};
pub use key::{Dynamic, Effect, GrammarError, Key, KeyType, Rule, Value, ValueError};
pub use keys::{
    BROKER_KEYS, CLIENT_METRICS_KEYS, GROUP_KEYS, REMOVED_KEYS, REMOVED_TOPIC_KEYS, Removed,
    TOPIC_KEYS, broker_key, client_metrics_key, group_key, topic_key,
};
pub use listeners::{HttpListener, Listener, ListenerError, ListenerName, SecurityProtocol};
pub use notice::Notice;
pub use source::{Layers, Origin, StaticValue, StaticValues};
pub use topic::{CleanupPolicy, Compression, Durability, TimestampType, TopicConfig, Validation};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ottla_coordinator::GroupLimits;
use ottla_protocol::record::RecordLimits;

use crate::log_dirs::Marks;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// How the topic of the group coordinators is created; its rows set it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetsTopic {
    pub partitions: i32,
    pub replication_factor: i16,
    pub segment_bytes: i32,
}

/// Everything the broker reads from its configuration, typed. Fields carry the names of their keys;
/// where Kafka says -1 for "no limit", the field is an `Option`.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: i32,
    /// The cluster id to form with; `None`: keep the one on disk, or make one up.
    pub cluster_id: Option<String>,
    /// Addresses on which Kafka clients are served. A port of 0 lets the system choose.
    pub listeners: Vec<Listener>,
    /// What Metadata tells clients, one per name in `listeners`. Port 0 stands for the bound port.
    pub advertised_listeners: Vec<Listener>,
    /// Listeners of the controller, named by `controller.listener.names`; parsed, not served.
    pub controller_listeners: Vec<Listener>,
    pub http_listeners: Vec<HttpListener>,
    pub log_dirs: Vec<PathBuf>,
    /// Those of `log_dirs` that get no new partitions; `*`: all.
    pub cordoned_log_dirs: Vec<String>,
    /// Of all moves between log directories.
    pub alter_log_dirs_bytes_per_second: u64,
    /// Free bytes of a disk below which something happens.
    pub disk_marks: Marks,
    /// `metadata.log.dir`; `None`: the first of `log_dirs`.
    pub metadata_log_dir: Option<PathBuf>,
    pub broker_rack: Option<String>,

    pub num_partitions: i32,
    pub group_limits: GroupLimits,
    /// Groups of the protocol of KIP-848 are served.
    pub consumer_groups: bool,
    pub offsets_topic: OffsetsTopic,
    pub offsets_commit_timeout_ms: u64,
    pub default_replication_factor: i32,
    pub auto_create_topics: bool,
    pub delete_topics: bool,
    /// Refuse topic keys that Kafka 4 dropped, as Kafka 4 does, rather than accept them with a
    /// warning.
    pub strict_topic_keys: bool,
    /// What a topic has for every key it does not set itself, before dynamic broker configs.
    pub topic_defaults: TopicConfig,

    pub socket_request_max_bytes: u32,
    /// `None`: the system's default.
    pub socket_send_buffer_bytes: Option<u32>,
    pub socket_receive_buffer_bytes: Option<u32>,
    pub socket_listen_backlog_size: u32,
    /// `None`: idle connections are never closed.
    pub connections_max_idle_ms: Option<u64>,
    pub slow_sender_timeout_ms: u64,
    pub slow_reader_timeout_ms: u64,
    pub max_connections: u32,
    pub max_connections_per_ip: u32,
    pub max_connections_per_ip_overrides: BTreeMap<IpAddr, u32>,
    /// New connections per second.
    pub max_connection_creation_rate: u32,
    /// Bytes of requests read but not answered, over all connections.
    pub queued_max_request_bytes: Option<u64>,
    pub fetch_max_bytes: u32,
    pub fetch_session_cache_slots: usize,
    pub max_request_partition_size_limit: u32,
    pub producer_id_expiration_ms: i64,

    pub num_recovery_threads_per_data_dir: usize,
    pub log_flush_offset_checkpoint_interval_ms: u64,
    pub log_retention_check_interval_ms: u64,
    pub log_cleaner_enable: bool,
    pub log_cleaner_threads: i32,
    pub log_cleaner_backoff_ms: u64,
    pub log_cleaner_dedupe_buffer_size: usize,
    pub log_cleaner_io_buffer_load_factor: f64,
    pub log_cleaner_io_buffer_size: usize,
    pub log_cleaner_io_max_bytes_per_second: f64,
    pub log_flush_start_offset_checkpoint_interval_ms: u64,
    pub high_watermark_checkpoint_interval_ms: u64,

    /// Data-path threads; 0: as many as cores.
    pub worker_threads: usize,
    /// Threads for fsync, cold reads and recovery.
    pub io_threads: usize,
    /// Budget of the shared tails of recent batches, over all partitions.
    pub tail_memory_bytes: u64,
    /// Budget of open segment files; 0: derived from the process's descriptor limit.
    pub max_open_files: usize,
    /// What may wait for the disk of one log directory before producers are slowed.
    pub dirty_max_bytes: u64,
    /// `ottla.decompression.max.bytes` and `.ratio`: how far a batch may expand.
    pub record_limits: RecordLimits,
    /// How long a write of durability class `interval` may stay unflushed.
    pub durability_interval_ms: u64,
    /// Sealed data is read again once in so long; `None`: never.
    pub scrub_interval: Option<std::time::Duration>,
    pub scrub_max_bytes_per_second: f64,

    pub log_format: LogFormat,
    /// A level, or levels per module as in `info,ottla_broker::net=debug`.
    pub log_level: String,
    /// Above this many partitions, `/metrics` gives partition series only when asked for them.
    pub metrics_group_limit: usize,
    pub metrics_partition_limit: usize,

    /// What was set, by whom: the static layer of DescribeConfigs.
    pub static_values: StaticValues,
}

impl Config {
    /// Where the metadata log is, and the images of internal topics.
    pub fn metadata_dir(&self) -> Option<&PathBuf> {
        self.metadata_log_dir
            .as_ref()
            .or_else(|| self.log_dirs.first())
    }

    /// A configuration from overrides alone, for tests and embedding: built-in defaults otherwise.
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Config, ConfigErrors> {
        let mut values = StaticValues::default();
        for (name, text) in pairs {
            values.set(name, text, Origin::Override);
        }
        build::build(values, &build::Surroundings::default()).map(|(config, _)| config)
    }

    /// This configuration with the dynamic configs of the metadata log on top. Keys that cannot
    /// change at run time and values that no longer parse keep their static value.
    pub fn with_dynamic<K, V>(
        &self,
        broker_dynamic: &BTreeMap<K, V>,
        cluster_dynamic: &BTreeMap<K, V>,
    ) -> Config
    where
        K: std::borrow::Borrow<str> + Ord,
        V: AsRef<str>,
    {
        let mut config = self.clone();
        let layers = Layers::new(broker_dynamic, cluster_dynamic, &self.static_values);
        for key in keys::all_broker_keys().filter(|key| !key.is_read_only()) {
            if let (Effect::Sets(set), Some(value)) = (key.effect, layers.typed(key)) {
                set(&mut config, &value);
            }
        }
        config.topic_defaults = TopicConfig::from_layers(&layers);
        config
    }

    /// The value a broker key has from the static layers, as text; `None` is Kafka's null.
    pub fn static_text(&self, key: &Key) -> Option<&str> {
        self.static_values.text(key.name).or(key.default)
    }

    /// The replicas that an internal topic gets, by the key that configures them: never more than
    /// there are brokers, because Kafka's default of 3 would make every single node fail.
    pub fn internal_replication_factor(&self, key: &Key, brokers: usize) -> i32 {
        let wanted = Layers::static_only(&self.static_values).typed(key);
        clamp_to_brokers(wanted.map_or(1, |value| value.i32()), brokers)
    }

    /// The smallest possible configuration, from which `build` starts; every field is then set by
    /// its row, which `every_field_with_a_key_is_set_by_its_row` checks for the numbers.
    fn blank() -> Config {
        Config {
            node_id: -1,
            cluster_id: None,
            listeners: Vec::new(),
            advertised_listeners: Vec::new(),
            controller_listeners: Vec::new(),
            http_listeners: Vec::new(),
            log_dirs: Vec::new(),
            cordoned_log_dirs: Vec::new(),
            alter_log_dirs_bytes_per_second: u64::MAX,
            disk_marks: Marks::default(),
            metadata_log_dir: None,
            broker_rack: None,
            num_partitions: 0,
            group_limits: GroupLimits::default(),
            consumer_groups: false,
            offsets_topic: OffsetsTopic::default(),
            offsets_commit_timeout_ms: 0,
            default_replication_factor: 0,
            auto_create_topics: false,
            delete_topics: false,
            strict_topic_keys: false,
            topic_defaults: TopicConfig::blank(),
            socket_request_max_bytes: 0,
            socket_send_buffer_bytes: None,
            socket_receive_buffer_bytes: None,
            socket_listen_backlog_size: 0,
            connections_max_idle_ms: None,
            slow_sender_timeout_ms: 0,
            slow_reader_timeout_ms: 0,
            max_connections: 0,
            max_connections_per_ip: 0,
            max_connections_per_ip_overrides: BTreeMap::new(),
            max_connection_creation_rate: 0,
            queued_max_request_bytes: None,
            fetch_max_bytes: 0,
            fetch_session_cache_slots: 0,
            max_request_partition_size_limit: 0,
            producer_id_expiration_ms: 0,
            num_recovery_threads_per_data_dir: 0,
            log_flush_offset_checkpoint_interval_ms: 0,
            log_retention_check_interval_ms: 0,
            log_cleaner_enable: false,
            log_cleaner_threads: 0,
            log_cleaner_backoff_ms: 0,
            log_cleaner_dedupe_buffer_size: 0,
            log_cleaner_io_buffer_load_factor: 0.0,
            log_cleaner_io_buffer_size: 0,
            log_cleaner_io_max_bytes_per_second: 0.0,
            log_flush_start_offset_checkpoint_interval_ms: 0,
            high_watermark_checkpoint_interval_ms: 0,
            worker_threads: 0,
            io_threads: 0,
            tail_memory_bytes: 0,
            max_open_files: 0,
            dirty_max_bytes: 0,
            record_limits: RecordLimits::default(),
            durability_interval_ms: 0,
            scrub_interval: None,
            scrub_max_bytes_per_second: 0.0,
            log_format: LogFormat::Auto,
            log_level: String::new(),
            metrics_group_limit: 0,
            metrics_partition_limit: 0,
            static_values: StaticValues::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::from_pairs([]).expect("the defaults are valid")
    }
}

fn clamp_to_brokers(wanted: i32, brokers: usize) -> i32 {
    wanted.min(i32::try_from(brokers.max(1)).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests;
