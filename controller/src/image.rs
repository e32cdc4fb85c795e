//! The cluster's metadata at one position of the metadata log: an immutable value, shared by `Arc`,
//! cheap to clone (each part is behind its own `Arc`) and equal wherever the same records were
//! applied.
//!
//! Owns the meaning of every record (`apply`, infallible and deterministic) and the way back
//! (`snapshot`). The law: an image made of `snapshot()` and the records that follow equals the
//! image made of all records. A record about something that does not exist changes nothing; the
//! decider never makes one. What is deliberately absent: decisions, time and who leads the quorum.

mod brokers;
mod configs;
mod features;
mod topics;

use std::sync::Arc;

use ottla_protocol::types::{Offset, ProducerId};

use crate::record::MetadataRecord;

pub use brokers::{BrokerImage, BrokersImage};
pub use configs::ConfigsImage;
pub use features::FeaturesImage;
pub use topics::{PartitionImage, TopicImage, TopicsImage};

/// Everything the cluster knows at position `applied` of the metadata log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MetadataImage {
    /// Empty until the cluster's first record is applied.
    pub cluster_id: Arc<str>,
    /// Position of the last log entry in this image.
    pub applied: Offset,
    /// Raft term of that entry.
    pub term: u64,
    pub topics: Arc<TopicsImage>,
    pub brokers: Arc<BrokersImage>,
    pub configs: Arc<ConfigsImage>,
    pub features: Arc<FeaturesImage>,
    /// Ids below this one are handed out.
    pub next_producer_id: ProducerId,
}

impl MetadataImage {
    /// The image before the first record.
    pub fn empty() -> MetadataImage {
        MetadataImage {
            cluster_id: Arc::from(""),
            applied: Offset(0),
            term: 0,
            topics: Arc::default(),
            brokers: Arc::default(),
            configs: Arc::default(),
            features: Arc::default(),
            next_producer_id: ProducerId(0),
        }
    }

    /// Changes this image as the record says. The parts it touches are copied if somebody else
    /// holds them.
    pub fn apply(&mut self, record: &MetadataRecord) {
        match record {
            MetadataRecord::Cluster { cluster_id } => self.cluster_id = cluster_id.clone(),
            MetadataRecord::Feature { name, level, epoch } => {
                Arc::make_mut(&mut self.features).finalize(name, *level, *epoch);
            }
            MetadataRecord::BrokerRegistration(r) => Arc::make_mut(&mut self.brokers).register(r),
            MetadataRecord::BrokerUnregistered { broker_id } => {
                Arc::make_mut(&mut self.brokers).unregister(*broker_id);
            }
            MetadataRecord::LeaderEpochsBumped { broker_id } => {
                Arc::make_mut(&mut self.topics).bump_leader_epochs(*broker_id);
            }
            MetadataRecord::Topic { topic_id, name } => {
                Arc::make_mut(&mut self.topics).create(*topic_id, name);
            }
            MetadataRecord::RemoveTopic { topic_id } => {
                if let Some(name) = Arc::make_mut(&mut self.topics).remove(*topic_id) {
                    Arc::make_mut(&mut self.configs).remove_topic(&name);
                }
            }
            MetadataRecord::Partition(r) => Arc::make_mut(&mut self.topics).set_partition(r),
            MetadataRecord::PartitionChange(r) => {
                Arc::make_mut(&mut self.topics).change_partition(r);
            }
            MetadataRecord::Config {
                resource,
                name,
                value,
            } => {
                Arc::make_mut(&mut self.configs).set(resource, name, value.as_ref());
            }
            MetadataRecord::ProducerIds { next_producer_id } => {
                self.next_producer_id = *next_producer_id;
            }
        }
    }

    /// The records that make this image from an empty one, in an order that never names what does
    /// not exist yet. `applied` and `term` are not records: whoever stores the snapshot stores them
    /// beside it.
    pub fn snapshot(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        if !self.cluster_id.is_empty() {
            records.push(MetadataRecord::Cluster {
                cluster_id: self.cluster_id.clone(),
            });
        }
        self.features.snapshot(&mut records);
        self.brokers.snapshot(&mut records);
        self.topics.snapshot(&mut records);
        self.configs.snapshot(&mut records);
        if self.next_producer_id != ProducerId(0) {
            let next_producer_id = self.next_producer_id;
            records.push(MetadataRecord::ProducerIds { next_producer_id });
        }
        records
    }

    /// The image that the records of a snapshot taken at `applied` make.
    pub fn from_snapshot(records: &[MetadataRecord], applied: Offset, term: u64) -> MetadataImage {
        let mut image = MetadataImage::empty();
        for record in records {
            image.apply(record);
        }
        image.applied = applied;
        image.term = term;
        image
    }

    /// Panics if the image contradicts itself. Dear: called in tests and simulation.
    pub fn check_invariants(&self) {
        self.topics.check_invariants();
        for resource in self.configs.resources() {
            if let crate::record::ConfigResource::Topic(name) = resource {
                assert!(
                    self.topics.by_name(name).is_some(),
                    "configuration of no topic: {name}"
                );
            }
        }
        assert!(self.next_producer_id.0 >= 0);
    }
}
