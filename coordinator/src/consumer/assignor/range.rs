//! Ranges: each topic is cut into as many pieces as it has readers, larger ones first. Static
//! members come first, by their instance ids, so that they keep theirs when they come again under
//! another id.

use std::collections::BTreeMap;

use ottla_protocol::types::TopicId;

use super::{Reader, Subscription};
use crate::consumer::assignment::Target;

struct Topic {
    partitions: i32,
    readers: i32,
    /// How many readers have had their piece.
    served: i32,
    next: i32,
}

impl Topic {
    fn piece(&mut self) -> std::ops::Range<i32> {
        let least = self.partitions / self.readers;
        let extra = self.partitions % self.readers;
        let size = least + i32::from(self.served < extra);
        self.served += 1;
        let begin = self.next;
        self.next = self.partitions.min(begin + size);
        begin..self.next
    }
}

pub(super) fn assign(readers: &[Reader<'_>], subscriptions: &[Subscription]) -> Vec<Target> {
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    let reads = |reader: &Reader<'_>| {
        let subscription = subscriptions.get(reader.subscription);
        subscription.map(Vec::as_slice).unwrap_or_default()
    };
    for reader in readers {
        for (topic_id, partitions) in reads(reader) {
            let topic = topics.entry(*topic_id).or_insert(Topic {
                partitions: *partitions,
                readers: 0,
                served: 0,
                next: 0,
            });
            topic.readers += 1;
        }
    }
    let mut order: Vec<(usize, &Reader<'_>)> = readers.iter().enumerate().collect();
    order.sort_by_key(|(_, reader)| match reader.instance_id {
        Some(instance_id) => (0, instance_id, reader.id),
        None => (1, reader.id, ""),
    });
    let mut targets = vec![Target::new(); readers.len()];
    for (at, reader) in order {
        for (topic_id, _) in reads(reader) {
            let piece = topics.get_mut(topic_id).map(Topic::piece).unwrap_or(0..0);
            if let (Some(target), false) = (targets.get_mut(at), piece.is_empty()) {
                target.insert(*topic_id, piece.collect());
            }
        }
    }
    targets
}
