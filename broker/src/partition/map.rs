//! Which partitions this broker hosts, by topic name and by topic id. Readers take no lock: each
//! shard is an immutable map that is replaced whole when the controller creates or deletes topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ottla_protocol::types::TopicId;
use parking_lot::Mutex;

use super::Partition;

/// Creating a topic copies one shard of each index; 64 keep that cheap with 10,000 topics.
const SHARDS: usize = 64;

/// The hosted partitions of one topic.
#[derive(Debug)]
pub struct HostedTopic {
    pub name: Arc<str>,
    pub id: TopicId,
    /// By partition index; `None` where another broker hosts it.
    pub partitions: Vec<Option<Arc<Partition>>>,
}

impl HostedTopic {
    pub fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.partitions.get(usize::try_from(index).ok()?)?.as_ref()
    }
}

type Shard<K> = ArcSwap<BTreeMap<K, Arc<HostedTopic>>>;

/// All hosted topics.
pub struct PartitionMap {
    by_name: Vec<Shard<Arc<str>>>,
    by_id: Vec<Shard<TopicId>>,
    writer: Mutex<()>,
}

impl Default for PartitionMap {
    fn default() -> PartitionMap {
        PartitionMap {
            by_name: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
            by_id: std::iter::repeat_with(Shard::default)
                .take(SHARDS)
                .collect(),
            writer: Mutex::new(()),
        }
    }
}

impl PartitionMap {
    pub fn topic(&self, name: &str) -> Option<Arc<HostedTopic>> {
        self.by_name[name_shard(name)].load().get(name).cloned()
    }

    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<HostedTopic>> {
        self.by_id[id_shard(id)].load().get(&id).cloned()
    }

    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        self.by_name[name_shard(topic)]
            .load()
            .get(topic)?
            .partition(partition)
            .cloned()
    }

    /// Adds the topic or replaces what was known of it.
    pub fn insert(&self, topic: Arc<HostedTopic>) {
        let _writer = self.writer.lock();
        replace(&self.by_name[name_shard(&topic.name)], |map| {
            map.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        });
        replace(&self.by_id[id_shard(topic.id)], |map| {
            map.insert(topic.id, Arc::clone(&topic));
        });
    }

    /// Takes a topic out and returns it. A newer topic of the same name stays.
    pub fn remove(&self, id: TopicId) -> Option<Arc<HostedTopic>> {
        let _writer = self.writer.lock();
        let topic = self.by_id[id_shard(id)].load().get(&id).cloned()?;
        replace(&self.by_id[id_shard(id)], |map| {
            map.remove(&id);
        });
        replace(&self.by_name[name_shard(&topic.name)], |map| {
            if map.get(&topic.name).is_some_and(|hosted| hosted.id == id) {
                map.remove(&topic.name);
            }
        });
        Some(topic)
    }

    /// Every hosted topic, by name.
    pub fn topics(&self) -> Vec<Arc<HostedTopic>> {
        let mut topics: Vec<_> = self
            .by_name
            .iter()
            .flat_map(|shard| shard.load().values().cloned().collect::<Vec<_>>())
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        topics
    }

    /// Every hosted partition, by topic name and index.
    pub fn all(&self) -> Vec<Arc<Partition>> {
        self.topics()
            .iter()
            .flat_map(|topic| topic.partitions.iter().flatten().cloned())
            .collect()
    }
}

fn replace<K: Ord + Clone>(
    shard: &Shard<K>,
    change: impl FnOnce(&mut BTreeMap<K, Arc<HostedTopic>>),
) {
    let mut map = BTreeMap::clone(&shard.load());
    change(&mut map);
    shard.store(Arc::new(map));
}

/// FNV-1a: the same in every process, so that simulations repeat.
fn name_shard(name: &str) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ (hash >> 32)) as usize % SHARDS
}

fn id_shard(id: TopicId) -> usize {
    usize::from(id.0.as_bytes()[15]) % SHARDS
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn topic(name: &str, id: u128) -> Arc<HostedTopic> {
        let id = TopicId(uuid::Uuid::from_u128(id));
        Arc::new(HostedTopic {
            name: name.into(),
            id,
            partitions: vec![None],
        })
    }

    #[test]
    fn topics_are_found_by_name_and_by_id() {
        let map = PartitionMap::default();
        for n in 0..500u128 {
            map.insert(topic(&format!("topic-{n}"), n + 1));
        }
        assert_eq!(map.topics().len(), 500);
        assert_eq!(map.topic("topic-77").unwrap().id.0.as_u128(), 78);
        let id = TopicId(uuid::Uuid::from_u128(78));
        assert_eq!(&*map.topic_by_id(id).unwrap().name, "topic-77");
        assert!(map.topic("nope").is_none() && map.get("topic-1", 0).is_none());
    }

    #[test]
    fn removing_an_old_incarnation_keeps_the_new_one() {
        let map = PartitionMap::default();
        map.insert(topic("t", 1));
        map.insert(topic("t", 2));
        assert!(map.remove(TopicId(uuid::Uuid::from_u128(1))).is_some());
        assert_eq!(map.topic("t").unwrap().id.0.as_u128(), 2);
        assert!(map.remove(TopicId(uuid::Uuid::from_u128(2))).is_some());
        assert!(map.topic("t").is_none() && map.topics().is_empty());
    }
}
