//! The cluster metadata as this broker sees it: an immutable image, swapped whole. Reading it
//! takes no lock and costs one reference count; whoever reads twice may see two images, so a
//! handler reads once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use ottla_controller::MetadataImage;
use ottla_protocol::leader_hint::CurrentLeader;
use ottla_protocol::types::TopicId;

/// The newest image the controller announced.
pub struct MetadataCache {
    image: ArcSwap<MetadataImage>,
    topics_version: AtomicU64,
}

impl MetadataCache {
    pub fn new(image: Arc<MetadataImage>) -> MetadataCache {
        MetadataCache {
            image: ArcSwap::new(image),
            topics_version: AtomicU64::new(1),
        }
    }

    /// Grows after each change of topics, their partitions or the racks of brokers was published.
    /// Who reads it before the image sees no older image than it says.
    pub fn topics_version(&self) -> u64 {
        self.topics_version.load(Ordering::Acquire)
    }

    /// The image that was published last has other topics, partitions or racks.
    pub fn topics_changed(&self) {
        self.topics_version.fetch_add(1, Ordering::AcqRel);
    }

    pub fn image(&self) -> Arc<MetadataImage> {
        self.image.load_full()
    }

    /// Makes `image` the one everybody sees. Called by whoever drives the controller, after the
    /// partitions were told.
    pub fn publish(&self, image: Arc<MetadataImage>) {
        self.image.store(image);
    }
}

/// How a request names a topic: by name up to some version, by id from there on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

impl TopicKey {
    pub fn name(&self) -> &str {
        match self {
            TopicKey::Name(name) => name,
            TopicKey::Id(_) => "",
        }
    }

    pub fn id(&self) -> TopicId {
        match self {
            TopicKey::Name(_) => TopicId::ZERO,
            TopicKey::Id(id) => *id,
        }
    }
}

/// Who leads a partition, for the hint in answers of a broker that does not. `None` when the
/// partition does not exist or nobody leads it.
pub fn leader_hint(
    image: &MetadataImage,
    topic: &TopicKey,
    partition: i32,
) -> Option<CurrentLeader> {
    let topic = match topic {
        TopicKey::Name(name) => image.topics.by_name(name)?,
        TopicKey::Id(id) => image.topics.by_id(*id)?,
    };
    let partition = topic.partition(partition)?;
    (partition.leader.0 >= 0).then_some(CurrentLeader {
        leader_id: partition.leader,
        leader_epoch: partition.leader_epoch,
    })
}
