//! The topics of the cluster as the host lends them to a turn: a read-only view of its metadata.

use ottla_protocol::types::TopicId;

/// One topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic<'a> {
    pub id: TopicId,
    pub name: &'a str,
    pub partitions: i32,
}

/// The metadata at one moment. All answers within a turn are of that moment.
pub trait Topics {
    /// Grows with every change of the metadata that could change an answer here; while it is the
    /// same, nothing is looked up again. It may begin anew with the process.
    fn version(&self) -> u64;

    fn by_name(&self, name: &str) -> Option<Topic<'_>>;

    fn by_id(&self, id: TopicId) -> Option<Topic<'_>>;

    /// All names, internal topics too, for regular expressions.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The racks of the replicas of a partition. A change makes groups assign anew, as in Kafka.
    fn racks(&self, id: TopicId, partition: i32) -> Vec<String> {
        let _ = (id, partition);
        Vec::new()
    }
}

/// A cluster without topics.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTopics;

impl Topics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, _: &str) -> Option<Topic<'_>> {
        None
    }

    fn by_id(&self, _: TopicId) -> Option<Topic<'_>> {
        None
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(std::iter::empty())
    }
}
