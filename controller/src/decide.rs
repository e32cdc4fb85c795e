//! The decider: an image and a command give records and a reply. Pure; it reads the image and
//! changes nothing.
//!
//! One file per concern. A decision is made against the image of everything proposed so far, and
//! its records are applied in log order everywhere, so records may carry absolute values. What is
//! rejected makes no record; a request about many things is decided thing by thing, as Kafka
//! answers it. What is deliberately absent: knowledge of configuration keys (the broker checks
//! values before it asks).

mod brokers;
mod configs;
mod features;
mod partitions;
mod placement;
mod producer_ids;
mod topics;

#[cfg(test)]
pub(crate) mod tests;

use rand::Rng;

use crate::command::{Command, CommandReply};
use crate::image::MetadataImage;
use crate::record::MetadataRecord;

pub use features::{FEATURES, bootstrap, supported_features};
pub use producer_ids::PRODUCER_ID_BLOCK_COUNT;

/// Bounds that keep one request from exhausting everybody's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    pub partitions_max: usize,
    pub partitions_per_request_max: usize,
    pub config_value_bytes_max: usize,
    pub config_keys_max: usize,
    pub registration_items_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            partitions_max: 1_000_000,
            partitions_per_request_max: 10_000,
            config_value_bytes_max: 32_767,
            config_keys_max: 1_000,
            registration_items_max: 256,
        }
    }
}

/// What to append to the metadata log, and what to answer once that is committed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    pub records: Vec<MetadataRecord>,
    pub reply: CommandReply,
}

/// Decides `command` over `image`. `rng` draws topic ids and where placement starts.
pub fn decide(
    image: &MetadataImage,
    limits: &Limits,
    command: &Command,
    rng: &mut impl Rng,
) -> Decision {
    match command {
        Command::RegisterBroker(request) => brokers::register(image, limits, request),
        Command::UnregisterBroker { broker_id } => brokers::unregister(image, *broker_id),
        Command::CreateTopics(request) => topics::create(image, limits, request, rng),
        Command::DeleteTopics { topics } => topics::delete(image, topics),
        Command::CreatePartitions {
            topics,
            validate_only,
        } => partitions::create(image, limits, topics, *validate_only, rng),
        Command::AlterConfigs {
            resources,
            validate_only,
        } => configs::alter(image, limits, resources, *validate_only),
        Command::AllocateProducerIds {
            broker_id,
            broker_epoch,
        } => producer_ids::allocate(image, *broker_id, *broker_epoch),
        Command::UpdateFeatures {
            updates,
            validate_only,
        } => features::update(image, updates, *validate_only),
    }
}
