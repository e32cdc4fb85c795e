//! Kafka's own metadata, read from a stopped node's `__cluster_metadata-0` and told in our records:
//! what `ottla storage adopt` takes over.
//!
//! Owns the few of Kafka's record schemas that matter here (`kafka/record.rs`), how its snapshots
//! and its log make one state, and what of that state we refuse. The state is read, never written:
//! the folder stays as Kafka left it. Absent: the partitions' own files, and the lock.

mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::batch::BatchHeader;
use ottla_protocol::types::{BrokerId, LeaderEpoch, Offset, ProducerId, TopicId};
use ottla_storage::disk::{Disk, DiskFile};
use ottla_storage::layout::{KAFKA_METADATA_DIR, SegmentFile};
use ottla_storage::log::inspect::dump::{self, Item};

use crate::decide::FEATURES;
use crate::record::{ConfigResource, MetadataRecord, PartitionEpoch, PartitionRecord};
pub use record::KafkaRecordError;
use record::{KafkaRecord, Partition, decode};

const SNAPSHOT_SUFFIX: &str = ".checkpoint";
const METADATA_VERSION: &str = "metadata.version";

/// Why Kafka's metadata cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum KafkaMetadataError {
    #[error("{path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("{KAFKA_METADATA_DIR} is not there: is metadata.log.dir another directory?")]
    Missing,
    #[error("{path}: damaged at {position}")]
    Damaged { path: String, position: u64 },
    #[error(
        "the metadata log starts at {log}, behind the newest snapshot, which ends at {snapshot}"
    )]
    Gap { snapshot: Offset, log: Offset },
    #[error("{path}: offset {offset}: {source}")]
    Record {
        path: String,
        offset: Offset,
        source: KafkaRecordError,
    },
}

/// The state of a Kafka cluster as its metadata log tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaMetadata {
    /// By id, with the name and the partitions.
    pub topics: BTreeMap<TopicId, (String, BTreeMap<i32, Partition>)>,
    /// By type code, resource name and key.
    configs: BTreeMap<(i8, String, String), String>,
    pub features: BTreeMap<String, i16>,
    pub next_producer_id: Option<ProducerId>,
    brokers: BTreeSet<i32>,
    controllers: BTreeSet<i32>,
    /// Records about what we do not have yet, by what they are about.
    pub unknown: BTreeMap<&'static str, i64>,
    /// Inside a metadata transaction: what it would change.
    pending: Option<Vec<KafkaRecord>>,
}

/// What becomes of it: our records, and what a user should know.
#[derive(Clone, Debug, Default)]
pub struct Adopted {
    pub records: Vec<MetadataRecord>,
    /// Kept out, and why that is no harm.
    pub notes: Vec<String>,
    /// Why this directory cannot be adopted.
    pub refusals: Vec<String>,
}

impl KafkaMetadata {
    /// The newest snapshot, and the log behind it.
    pub fn read(disk: &dyn Disk) -> Result<KafkaMetadata, KafkaMetadataError> {
        let io = |path: &str| {
            let path = path.to_owned();
            move |source| KafkaMetadataError::Io { path, source }
        };
        let dir = KAFKA_METADATA_DIR;
        if !disk.exists(dir).map_err(io(dir))? {
            return Err(KafkaMetadataError::Missing);
        }
        let entries = disk.list(dir).map_err(io(dir))?;
        let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        let snapshots = names
            .iter()
            .filter_map(|name| Some((snapshot_end(name)?, *name)));
        let mut metadata = KafkaMetadata::default();
        let mut from = Offset::ZERO;
        if let Some((end, name)) = snapshots.max() {
            metadata.replay(
                disk,
                &format!("{dir}/{name}"),
                (Offset::ZERO, Offset::ZERO),
                false,
            )?;
            from = end;
        }
        let mut segments: Vec<(Offset, &str)> = names
            .iter()
            .filter_map(|name| match SegmentFile::parse(name)? {
                (base, SegmentFile::Log) => Some((base, *name)),
                _ => None,
            })
            .collect();
        segments.sort_unstable();
        match segments.first() {
            Some((log, _)) if *log > from => {
                let (snapshot, log) = (from, *log);
                return Err(KafkaMetadataError::Gap { snapshot, log });
            }
            _ => {}
        }
        for (at, (base, name)) in segments.iter().enumerate() {
            let last = at + 1 == segments.len();
            metadata.replay(disk, &format!("{dir}/{name}"), (*base, from), last)?;
        }
        Ok(metadata)
    }

    /// Applies the records of one file from an offset on. The end of the last segment may be torn.
    fn replay(
        &mut self,
        disk: &dyn Disk,
        path: &str,
        (base, from): (Offset, Offset),
        may_be_torn: bool,
    ) -> Result<(), KafkaMetadataError> {
        let io = |source| KafkaMetadataError::Io {
            path: path.to_owned(),
            source,
        };
        let damaged = |position| KafkaMetadataError::Damaged {
            path: path.to_owned(),
            position,
        };
        let file = disk.open(path).map_err(io)?;
        let (batches, damage) = batches(&*file, base).map_err(io)?;
        for (position, header) in batches {
            if header.is_control() || header.last_offset() < from {
                continue;
            }
            let records = dump::records(&*file, position, &header).map_err(io)?;
            let records = records.map_err(|_| damaged(position))?;
            for record in records.iter().filter(|record| record.offset >= from) {
                let value = record.value.as_deref().unwrap_or_default();
                let decoded = decode(value).map_err(|source| KafkaMetadataError::Record {
                    path: path.to_owned(),
                    offset: record.offset,
                    source,
                })?;
                self.take(decoded);
            }
        }
        let size = file.len_bytes().map_err(io)?;
        match damage {
            Some((position, until)) if !(may_be_torn && until == size) => Err(damaged(position)),
            _ => Ok(()),
        }
    }

    fn take(&mut self, record: KafkaRecord) {
        match (record, &mut self.pending) {
            (KafkaRecord::BeginTransaction, _) => self.pending = Some(Vec::new()),
            (KafkaRecord::AbortTransaction, _) => self.pending = None,
            (KafkaRecord::EndTransaction, _) => {
                for record in self.pending.take().unwrap_or_default() {
                    self.apply(record);
                }
            }
            (record, Some(pending)) => pending.push(record),
            (record, None) => self.apply(record),
        }
    }

    fn apply(&mut self, record: KafkaRecord) {
        match record {
            KafkaRecord::Topic { id, name } => {
                self.topics.insert(id, (name, BTreeMap::new()));
            }
            KafkaRecord::RemoveTopic { id } => self.remove_topic(id),
            KafkaRecord::Partition {
                topic,
                index,
                partition,
            } => {
                if let Some((_, partitions)) = self.topics.get_mut(&topic) {
                    partitions.insert(index, partition);
                }
            }
            KafkaRecord::PartitionChange {
                topic,
                index,
                change,
            } => {
                let topic = self.topics.get_mut(&topic);
                if let Some(partition) = topic.and_then(|topic| topic.1.get_mut(&index)) {
                    change.apply(partition);
                }
            }
            KafkaRecord::Config {
                kind,
                resource,
                name,
                value,
            } => {
                let key = (kind, resource, name);
                match value {
                    Some(value) => self.configs.insert(key, value),
                    None => self.configs.remove(&key),
                };
            }
            KafkaRecord::Feature { name, level } => {
                self.features.insert(name, level);
            }
            KafkaRecord::ProducerIds { next } => self.next_producer_id = Some(next),
            KafkaRecord::Broker { id } => {
                self.brokers.insert(id);
            }
            KafkaRecord::UnregisterBroker { id } => {
                self.brokers.remove(&id);
            }
            KafkaRecord::Controller { id } => {
                self.controllers.insert(id);
            }
            KafkaRecord::Other(about) => *self.unknown.entry(about).or_default() += 1,
            KafkaRecord::NoOther(about) => *self.unknown.entry(about).or_default() -= 1,
            KafkaRecord::Nothing
            | KafkaRecord::BeginTransaction
            | KafkaRecord::EndTransaction
            | KafkaRecord::AbortTransaction => {}
        }
    }

    fn remove_topic(&mut self, id: TopicId) {
        if let Some((name, _)) = self.topics.remove(&id) {
            let of = |key: &(i8, String, String)| key.0 == record::TOPIC && key.1 == name;
            self.configs.retain(|key, _| !of(key));
        }
    }

    /// The same cluster in our records, with one node that leads everything. `known` says which
    /// keys of topics (true) and brokers (false) we have. `leave_out`: what we do not serve yet is
    /// left behind, instead of refused.
    pub fn adopt(
        &self,
        node: BrokerId,
        cluster_id: &str,
        known: &dyn Fn(bool, &str) -> bool,
        leave_out: bool,
    ) -> Adopted {
        let mut adopted = Adopted::default();
        adopted.records.push(MetadataRecord::Cluster {
            cluster_id: Arc::from(cluster_id),
        });
        self.check_alone(node, &mut adopted.refusals);
        self.adopt_features(&mut adopted);
        for (id, (name, partitions)) in &self.topics {
            adopted.records.push(MetadataRecord::Topic {
                topic_id: *id,
                name: Arc::from(name.as_str()),
            });
            for (at, (index, partition)) in (0..).zip(partitions) {
                if at != *index {
                    let refusal = format!("topic {name} has no partition {at}");
                    adopted.refusals.push(refusal);
                }
                let record = self.adopt_partition(node, (*id, name), *index, partition);
                match record {
                    Ok(record) => adopted.records.push(MetadataRecord::Partition(record)),
                    Err(refusal) => adopted.refusals.push(refusal),
                }
            }
        }
        self.adopt_configs(known, &mut adopted);
        adopted.records.push(MetadataRecord::ProducerIds {
            next_producer_id: self.next_producer_id.unwrap_or(ProducerId(0)),
        });
        for (about, count) in self.unknown.iter().filter(|one| *one.1 > 0) {
            let what = format!("{count} {about} are not served yet and would be lost");
            match leave_out {
                true => adopted.notes.push(what),
                false => adopted.refusals.push(what),
            }
        }
        if self.pending.is_some() {
            let refusal = "a change of the metadata is half done; start Kafka once to finish it";
            adopted.refusals.push(refusal.to_owned());
        }
        adopted
    }

    fn check_alone(&self, node: BrokerId, refusals: &mut Vec<String>) {
        for (what, ids) in [("broker", &self.brokers), ("controller", &self.controllers)] {
            let others: Vec<String> = ids
                .iter()
                .filter(|id| **id != node.0)
                .map(i32::to_string)
                .collect();
            if !others.is_empty() {
                let others = others.join(", ");
                refusals.push(format!(
                    "{what} {others} belongs to the cluster too; only a single node is adopted"
                ));
            }
        }
    }

    fn adopt_features(&self, adopted: &mut Adopted) {
        let mut epoch = 0;
        for feature in FEATURES {
            let theirs = self.features.get(feature.name).copied();
            let fits = |level: &i16| (feature.min..=feature.max).contains(level);
            if feature.name == METADATA_VERSION && theirs.is_some_and(|level| level > feature.max) {
                adopted.refusals.push(format!(
                    "metadata.version is {}, this release knows levels up to {}",
                    theirs.unwrap_or_default(),
                    feature.max
                ));
            }
            let level = theirs.filter(fits).unwrap_or(feature.bootstrap);
            if level > 0 {
                adopted.records.push(MetadataRecord::Feature {
                    name: Arc::from(feature.name),
                    level,
                    epoch,
                });
                epoch += 1;
            }
        }
        for (name, level) in &self.features {
            let ours = FEATURES.iter().any(|feature| feature.name == name);
            if !ours && *level > 0 && name != "kraft.version" {
                let note = format!("feature {name} (level {level}) is not served yet");
                adopted.notes.push(note);
            }
        }
    }

    fn adopt_partition(
        &self,
        node: BrokerId,
        (topic_id, name): (TopicId, &str),
        index: i32,
        partition: &Partition,
    ) -> Result<PartitionRecord, String> {
        if partition.replicas != [node.0] {
            let replicas = &partition.replicas;
            return Err(format!(
                "{name}-{index} has its replicas on {replicas:?}, not on node {node} alone"
            ));
        }
        if partition.reassigned {
            return Err(format!("{name}-{index} is being reassigned"));
        }
        Ok(PartitionRecord {
            topic_id,
            partition: index,
            replicas: vec![node],
            isr: vec![node],
            // A node that was shut down leads nothing in its own log; here it leads again, and
            // its first start gives every partition the next epoch.
            leader: node,
            leader_epoch: LeaderEpoch(partition.leader_epoch.max(0)),
            partition_epoch: PartitionEpoch(partition.partition_epoch.max(0)),
        })
    }

    fn adopt_configs(&self, known: &dyn Fn(bool, &str) -> bool, adopted: &mut Adopted) {
        for ((kind, resource, name), value) in &self.configs {
            let of = match *kind {
                record::TOPIC => Some(ConfigResource::Topic(Arc::from(resource.as_str()))),
                record::BROKER if resource.is_empty() => Some(ConfigResource::BrokerDefault),
                record::BROKER => resource
                    .parse()
                    .ok()
                    .map(|id| ConfigResource::Broker(BrokerId(id))),
                record::GROUP => Some(ConfigResource::Group(Arc::from(resource.as_str()))),
                _ => None,
            };
            let topic = *kind == record::TOPIC;
            let tiered = topic && name == "remote.storage.enable" && value == "true";
            if tiered {
                let refusal = format!("topic {resource} has segments in remote storage");
                adopted.refusals.push(refusal);
            }
            let exists = !topic || self.topics.values().any(|(name, _)| name == resource);
            match of {
                Some(of) if exists && known(topic, name) => {
                    adopted.records.push(MetadataRecord::Config {
                        resource: of,
                        name: Arc::from(name.as_str()),
                        value: Some(Arc::from(value.as_str())),
                    });
                }
                _ => adopted.notes.push(format!(
                    "configuration {name}={value} of {resource:?} is left out"
                )),
            }
        }
    }
}

type Batches = Vec<(u64, BatchHeader)>;

/// Where each sound batch of a file is, up to the first damage; and the place of that.
fn batches(file: &dyn DiskFile, base: Offset) -> std::io::Result<(Batches, Option<(u64, u64)>)> {
    let (mut found, mut damage) = (Vec::new(), None);
    dump::segment(file, base, &mut |item| {
        match item {
            Item::Batch {
                position,
                header,
                crc_is_valid: true,
            } => found.push((*position, *header)),
            Item::Batch {
                position, header, ..
            } => damage = Some((*position, position + header.size_bytes() as u64)),
            Item::Damage {
                position, until, ..
            } => damage = Some((*position, *until)),
            Item::Zeros { .. } => {}
        }
        damage.is_none()
    })?;
    Ok((found, damage))
}

/// The offset where a snapshot ends, from a name such as `00000000000000000042-0000000003`.
fn snapshot_end(name: &str) -> Option<Offset> {
    let (end, epoch) = name.strip_suffix(SNAPSHOT_SUFFIX)?.split_once('-')?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let sound = digits(end, 20) && digits(epoch, 10);
    sound.then(|| end.parse().ok().map(Offset))?
}

#[cfg(test)]
mod tests;
