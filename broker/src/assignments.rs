//! Brings the partitions of this broker in line with the metadata: what was assigned is opened,
//! what was deleted is closed and taken out of the way, changed configurations and leader epochs
//! reach the logs. Called by whoever drives the controller, one change after another.
//!
//! Deleted logs are renamed at once and removed later, on an I/O thread: a topic may be created
//! again under the same name the moment after. What touches a disk is an errand of its directory,
//! so that one that hangs does not hold the metadata.

mod create;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ottla_controller::MetadataDelta;
use ottla_controller::image::{MetadataImage, TopicImage};
use ottla_controller::record::ConfigResource;
use ottla_protocol::batch::{Compression as BatchCompression, TimestampType as BatchTimestampType};
use ottla_protocol::record::Codec;
use ottla_protocol::types::{LeaderEpoch, TopicId, TopicPartition};
use ottla_storage::log::{Log, LogConfig, LogError, Validation};
use ottla_storage::{checkpoint, layout};
use rand::Rng;
use uuid::Uuid;

use crate::broker::Broker;
use crate::config::{self, Compression, Durability, TimestampType, TopicConfig};
use crate::coordinators::OFFSETS_TOPIC;
use crate::flusher::Job;
use crate::log_dirs::{LogDir, Seat};
use crate::log_starts;
use crate::partition::map::HostedTopic;
use crate::partition::{Configured, Partition, flush_policy};

/// Carries out what changed between the published image and `image`, then publishes it.
pub fn apply(
    broker: &Arc<Broker>,
    image: &Arc<MetadataImage>,
    delta: &MetadataDelta,
    now: Instant,
) {
    let own = ConfigResource::Broker(broker.node_id);
    let configured = [own, ConfigResource::BrokerDefault];
    if configured
        .iter()
        .any(|resource| delta.configs_changed.contains(resource))
    {
        broker.configure(image);
    }
    let deleted: Vec<String> = delta
        .topics_deleted
        .keys()
        .filter_map(|id| delete_topic(broker, *id))
        .collect();
    if !deleted.is_empty() {
        forget_offsets(broker, &deleted, now);
    }
    for id in delta.partitions_changed.keys() {
        if let Some(topic) = image.topics.by_id(*id) {
            host_topic(broker, image, topic);
        }
    }
    broker.metadata.publish(Arc::clone(image));
    if concerns_groups(delta) {
        broker.metadata.topics_changed();
    }
    for resource in &delta.configs_changed {
        match resource {
            ConfigResource::Topic(name) => configure_topic(broker, image, name, now),
            ConfigResource::Broker(_) | ConfigResource::BrokerDefault => {
                for topic in broker.partitions.topics() {
                    configure_topic(broker, image, &topic.name, now);
                }
            }
            ConfigResource::Group(_) => {}
        }
    }
}

/// Whether consumer groups may have to assign anew.
fn concerns_groups(delta: &MetadataDelta) -> bool {
    !(delta.topics_deleted.is_empty()
        && delta.partitions_changed.is_empty()
        && delta.brokers_changed.is_empty())
}

/// Opens what is assigned to this broker and not open yet; tells the rest about new leader epochs.
fn host_topic(broker: &Arc<Broker>, image: &MetadataImage, topic: &TopicImage) {
    let known = broker.partitions.topic_by_id(topic.id);
    let mut partitions: Vec<Option<Arc<Partition>>> = vec![None; topic.partitions.len()];
    let mut missing = Vec::new();
    for (index, assigned) in (0i32..).zip(&topic.partitions) {
        if !assigned.replicas.contains(&broker.node_id) {
            continue;
        }
        match known.as_ref().and_then(|topic| topic.partition(index)) {
            Some(partition) => {
                lead(partition, assigned.leader_epoch);
                partitions[index as usize] = Some(Arc::clone(partition));
            }
            None => missing.push(index),
        }
    }
    if missing.is_empty() {
        return;
    }
    let config = Arc::new(topic_config(broker, image, &topic.name));
    for (index, placed) in create::logs(broker, topic, missing, &config) {
        let epoch = topic.partitions[index as usize].leader_epoch;
        let name = (Arc::clone(&topic.name), topic.id, index);
        partitions[index as usize] = Some(partition(broker, name, placed, epoch, &config));
    }
    let (name, id) = (Arc::clone(&topic.name), topic.id);
    let hosted = Arc::new(HostedTopic {
        name,
        id,
        partitions,
    });
    broker.partitions.insert(Arc::clone(&hosted));
    broker.coordinators.host(broker, &hosted);
}

/// Later, while its disk hangs: an older epoch than the partition's is none of its business then.
fn lead(partition: &Arc<Partition>, epoch: LeaderEpoch) {
    if partition.new_leader_epoch_soon(epoch).is_err() {
        let later = Arc::clone(partition);
        let work = move || later.new_leader_epoch(epoch);
        partition.log_dir().errands.push(work);
    }
}

/// A log that begins at 0, whatever an earlier partition of the name left in the checkpoints.
///
/// Of several directories each shows at once which partitions it has: when one is missing, the
/// next start must not take its partitions for new ones.
pub fn new_log(
    broker: &Broker,
    place: &LogDir,
    name: &TopicPartition,
    topic_id: TopicId,
    config: LogConfig,
) -> Result<Log, LogError> {
    let io = |source| LogError::Io {
        path: checkpoint::LOG_START_OFFSETS.to_owned(),
        source,
    };
    log_starts::begin(place, name).map_err(|e| io(std::io::Error::other(e)))?;
    let dir = layout::partition_dir(name);
    let mut log = Log::create(Arc::clone(&place.disk), &dir, topic_id, config)?;
    if broker.log_dirs.are_several() {
        log.create_now()?;
    }
    Ok(log)
}

/// A partition with that log; offline when there is none.
pub fn partition(
    broker: &Broker,
    name: (Arc<str>, TopicId, i32),
    (log, seat): (Result<Log, LogError>, Seat),
    epoch: LeaderEpoch,
    config: &Arc<TopicConfig>,
) -> Arc<Partition> {
    let policy = flush_policy(config, &broker.live_config());
    let config = Arc::clone(config);
    Arc::new(match log {
        Ok(log) => Partition::lead(name, (log, seat), epoch, config, policy),
        Err(error) => {
            tracing::error!(
                topic = &*name.0, partition = name.2, log_dir = %seat.path, %error,
                "a partition is offline because its log cannot be opened"
            );
            Partition::offline(name, seat, epoch, config, policy)
        }
    })
}

/// Its name, if it was here.
fn delete_topic(broker: &Arc<Broker>, id: TopicId) -> Option<String> {
    let topic = broker.partitions.remove(id)?;
    broker.coordinators.unhost(&topic.name);
    let partitions: Vec<_> = topic.partitions.iter().flatten().cloned().collect();
    partitions.iter().for_each(|partition| partition.retire());
    // Asked once: one that is moved meanwhile belongs to one of them all the same.
    let places: Vec<_> = partitions.iter().map(|one| one.log_dir()).collect();
    for dir in broker.log_dirs.iter() {
        let here = partitions.iter().zip(&places);
        let here = here.filter(|(_, place)| Arc::ptr_eq(place, dir));
        let here: Vec<_> = here.map(|(partition, _)| Arc::clone(partition)).collect();
        if !here.is_empty() {
            let broker = Arc::clone(broker);
            dir.errand(move || remove_logs(&broker, &here));
        }
    }
    Some(topic.name.to_string())
}

/// The coordinators of groups write, each to its own disk.
fn forget_offsets(broker: &Arc<Broker>, topics: &[String], now: Instant) {
    for dir in broker.log_dirs.iter() {
        let (broker, place, topics) = (Arc::clone(broker), Arc::clone(dir), topics.to_vec());
        let work = move || {
            let coordinators = &broker.coordinators;
            coordinators.topics_deleted(&broker, &place, &topics, now);
        };
        dir.errand(work);
    }
}

fn remove_logs(broker: &Broker, partitions: &[Arc<Partition>]) {
    for partition in partitions {
        partition.forget();
        let name = TopicPartition::new(Arc::clone(&partition.topic), partition.index);
        let place = partition.log_dir();
        remove_log(broker, &place, &name);
        place.errands.step();
    }
}

/// In a failed directory it stays: the next start finds that it belongs to no topic.
pub fn remove_log(broker: &Broker, place: &LogDir, name: &TopicPartition) {
    let disk = &place.disk;
    let dir = layout::partition_dir(name);
    if !place.is_online() || !disk.exists(&dir).unwrap_or(true) {
        return;
    }
    let unique = Uuid::from_u128(broker.rng.lock().random());
    let path = layout::deleted_dir(name, unique);
    match disk.rename(&dir, &path).and_then(|()| disk.sync_dir("")) {
        Ok(()) => broker.flush.push(Job::RemoveDir {
            disk: Arc::clone(disk),
            path,
        }),
        Err(error) => tracing::error!(dir, %error, "a deleted log could not be moved away"),
    }
}

/// Keeps a directory that belongs to no partition we know, under a name that nobody opens.
pub fn set_aside(broker: &Broker, place: &LogDir, dir: &str) {
    let disk = &place.disk;
    let unique = Uuid::from_u128(broker.rng.lock().random());
    let path = format!("{dir}.{}-stray", unique.simple());
    match disk.rename(dir, &path).and_then(|()| disk.sync_dir("")) {
        Ok(()) => tracing::warn!(
            log_dir = %place.path,
            dir,
            path,
            "kept a log that belongs to no topic of the cluster"
        ),
        Err(error) => tracing::error!(dir, %error, "a log of no topic could not be moved away"),
    }
}

fn configure_topic(broker: &Arc<Broker>, image: &MetadataImage, name: &Arc<str>, now: Instant) {
    let Some(topic) = broker.partitions.topic(name) else {
        return;
    };
    for partition in topic.partitions.iter().flatten() {
        let configured = configured(broker, image, name);
        if let Ok(due) = partition.set_config_soon(configured, now) {
            broker.flush.arrange(partition, due);
            continue;
        }
        // When its disk goes on, with what is configured then.
        let (broker, later) = (Arc::clone(broker), Arc::clone(partition));
        partition.log_dir().errands.push(move || {
            let configured = self::configured(&broker, &broker.metadata.image(), &later.topic);
            let due = later.set_config(configured, broker.clock.now());
            broker.flush.arrange(&later, due);
        });
    }
}

fn configured(broker: &Broker, image: &MetadataImage, name: &Arc<str>) -> Configured {
    let topic = topic_config(broker, image, name);
    Configured {
        policy: flush_policy(&topic, &broker.live_config()),
        log: log_config(broker, &topic),
        topic: Arc::new(topic),
    }
}

/// What a topic is configured to do, all layers considered. The offsets of groups are always of
/// class `commit`: a consumer that was told that its offset is committed counts on it.
pub fn topic_config(broker: &Broker, image: &MetadataImage, topic: &Arc<str>) -> TopicConfig {
    let mut config = TopicConfig::effective(
        image.configs.of(&ConfigResource::Topic(Arc::clone(topic))),
        image.configs.of(&ConfigResource::Broker(broker.node_id)),
        image.configs.of(&ConfigResource::BrokerDefault),
        &broker.config,
    );
    if **topic == *OFFSETS_TOPIC {
        config.durability = Durability::Commit;
    }
    config
}

/// A segment of a compacted topic is sealed before its records have waited too long.
fn max_segment_ms(topic: &TopicConfig) -> i64 {
    match topic.cleanup_policy.compact && topic.max_compaction_lag_ms > 0 {
        true => topic.segment_ms.min(topic.max_compaction_lag_ms),
        false => topic.segment_ms,
    }
}

/// The codec that a topic's batches are brought into; `None`: they keep their producer's.
fn recompression(topic: &TopicConfig) -> Option<Codec> {
    let (compression, level) = match topic.compression {
        Compression::Producer => return None,
        Compression::Uncompressed => (BatchCompression::None, 0),
        Compression::Gzip => (BatchCompression::Gzip, topic.compression_gzip_level),
        Compression::Snappy => (BatchCompression::Snappy, 0),
        Compression::Lz4 => (BatchCompression::Lz4, topic.compression_lz4_level),
        Compression::Zstd => (BatchCompression::Zstd, topic.compression_zstd_level),
    };
    Some(Codec { compression, level })
}

/// The part of it that the log needs.
pub fn log_config(broker: &Broker, topic: &TopicConfig) -> LogConfig {
    let live = broker.live_config();
    LogConfig {
        segment_size_bytes: topic.segment_bytes,
        segment_ms: max_segment_ms(topic),
        segment_index_bytes: topic.segment_index_bytes,
        index_interval_bytes: topic.index_interval_bytes,
        max_message_bytes: topic.max_message_bytes,
        timestamp_type: match topic.message_timestamp_type {
            TimestampType::CreateTime => BatchTimestampType::CreateTime,
            TimestampType::LogAppendTime => BatchTimestampType::LogAppendTime,
        },
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        preallocate: topic.preallocate,
        producer_id_expiration_ms: live.producer_id_expiration_ms,
        compacted: topic.cleanup_policy.compact,
        validation: match topic.validation {
            config::Validation::Header => Validation::Header,
            config::Validation::Strict => Validation::Strict,
        },
        recompression: recompression(topic),
        record_limits: live.record_limits,
        tail_budget: Arc::clone(&broker.tail_budget),
        zeros_from_bytes: broker.zeros_from_bytes.load(Ordering::Relaxed),
        ..LogConfig::default()
    }
}
