//! What the machines see of the cluster: its topics, and what is configured for single groups, of
//! one image of the metadata.

use std::sync::Arc;

use ottla_controller::MetadataImage;
use ottla_controller::image::TopicImage;
use ottla_controller::record::ConfigResource;
use ottla_coordinator::{GroupConfig, Topic, Topics};
use ottla_protocol::types::TopicId;

use crate::config::{Config, group};

/// The image and its version, as a turn lends them.
pub(super) struct ImageTopics<'a> {
    pub(super) image: &'a MetadataImage,
    /// Read before the image was: the image may be newer, never older.
    pub(super) version: u64,
}

fn topic(topic: &TopicImage) -> Topic<'_> {
    Topic {
        id: topic.id,
        name: &topic.name,
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    }
}

impl Topics for ImageTopics<'_> {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<Topic<'_>> {
        self.image.topics.by_name(name).map(|found| topic(found))
    }

    fn by_id(&self, id: TopicId) -> Option<Topic<'_>> {
        self.image.topics.by_id(id).map(|found| topic(found))
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.image.topics.iter().map(|topic| &*topic.name))
    }

    fn racks(&self, id: TopicId, partition: i32) -> Vec<String> {
        let topic = self.image.topics.by_id(id);
        let Some(partition) = topic.and_then(|topic| topic.partition(partition)) else {
            return Vec::new();
        };
        let racks = partition.replicas.iter().filter_map(|replica| {
            let broker = self.image.brokers.get(*replica)?;
            broker.rack.as_deref().map(str::to_owned)
        });
        racks.collect()
    }
}

/// What is set for `name`, within the bounds of `config`.
pub(super) fn group_config(image: &MetadataImage, config: &Config, name: &str) -> GroupConfig {
    let set = image.configs.of(&ConfigResource::Group(Arc::from(name)));
    group::effective(set, config)
}
