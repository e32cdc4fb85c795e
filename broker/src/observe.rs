//! The broker as `/metrics` looks at it: a sample of its partitions, its cluster and its caches,
//! taken when somebody asks.

pub mod groups;
pub mod report;
mod unread;

use std::sync::{Arc, Weak};

use ottla_controller::MetadataImage;
use ottla_controller::image::{BrokerImage, PartitionImage, TopicImage};

use crate::broker::Broker;
use crate::http::GroupsView;
use crate::log_dirs::LogDir;
use crate::metrics::{
    BrokerSample, GroupBounds, GroupsSample, LogDirSample, LogSample, Observation, PartitionSample,
};
use crate::partition::Partition;
use crate::partition::map::HostedTopic;
use report::GroupReport;

/// The groups of a broker that may be gone already.
pub struct GroupsOf(pub Weak<Broker>);

impl GroupsView for GroupsOf {
    fn sample(&self, bounds: GroupBounds) -> GroupsSample {
        let broker = self.0.upgrade();
        broker.map_or_else(GroupsSample::default, |broker| {
            groups::sample(&broker, bounds)
        })
    }

    fn report(&self, group: &str) -> Option<GroupReport> {
        report::report(&*self.0.upgrade()?, group).ok()?
    }
}

/// Looks at everything once. Each partition's lock is taken for a moment, one after another.
pub fn observe(broker: &Broker) -> Observation {
    let image = broker.metadata.image();
    let (image_lag_records, image_failures) = broker.coordinators.image_lag();
    Observation {
        node_id: broker.node_id.0,
        // Whoever knows how far the start has come fills this in.
        ready: false,
        partitions: image
            .topics
            .iter()
            .flat_map(|topic| samples(broker, topic))
            .collect(),
        log_dirs: broker.log_dirs.iter().map(|dir| log_dir(dir)).collect(),
        brokers: brokers(&image),
        is_active_controller: broker.controller.quorum().leader == Some(broker.node_id),
        fetch_sessions: broker.sessions.len(),
        // Asked for apart: not everybody who looks wants them.
        groups: GroupsSample::default(),
        tail_bytes: broker.tail_budget.used_bytes() as u64,
        dirty: broker
            .log_dirs
            .iter()
            .map(|dir| (Arc::clone(&dir.path), dir.dirty.used_bytes()))
            .collect(),
        image_lag_records,
        image_failures,
        cleaner: broker.cleaner.sample(),
        scrub: broker.scrubber.sample(),
        damaged: broker.scrubber.worries(),
    }
}

fn log_dir(dir: &LogDir) -> LogDirSample {
    let known = |bytes: u64| (dir.is_online() && bytes < u64::MAX).then_some(bytes);
    LogDirSample {
        path: Arc::clone(&dir.path),
        state: match (dir.is_online(), dir.hang.hangs()) {
            (true, false) => dir.space.room().name(),
            (true, true) => "hung",
            (false, _) => "offline",
        },
        failure: dir.failure().map(str::to_owned),
        partitions: dir.replicas(),
        free_bytes: known(dir.space.free_bytes()),
        total_bytes: known(dir.space.total_bytes()),
    }
}

fn samples(broker: &Broker, topic: &Arc<TopicImage>) -> Vec<PartitionSample> {
    let hosted = broker.partitions.topic_by_id(topic.id);
    let min_insync = hosted
        .as_ref()
        .and_then(|topic| min_insync_replicas(topic))
        .unwrap_or(1);
    (0i32..)
        .zip(&topic.partitions)
        .map(|(index, assigned)| {
            let partition = hosted.as_ref().and_then(|topic| topic.partition(index));
            sample(topic, index, assigned, partition, min_insync)
        })
        .collect()
}

fn sample(
    topic: &TopicImage,
    index: i32,
    assigned: &PartitionImage,
    partition: Option<&Arc<Partition>>,
    min_insync: usize,
) -> PartitionSample {
    let preferred = assigned.replicas.first().copied();
    PartitionSample {
        topic: Arc::clone(&topic.name),
        partition: index,
        leader: assigned.leader.0,
        preferred_leader: preferred.unwrap_or(ottla_protocol::BrokerId::NONE).0,
        replicas: assigned.replicas.len(),
        in_sync_replicas: assigned.isr.len(),
        min_insync_replicas: min_insync.min(assigned.replicas.len()),
        log: partition.and_then(|partition| log_sample(partition)),
        counts: partition
            .map(|partition| partition.counters.counts())
            .unwrap_or_default(),
    }
}

fn log_sample(partition: &Partition) -> Option<LogSample> {
    let marks = partition.marks().ok()?;
    Some(LogSample {
        log_start_offset: marks.log_start_offset.0,
        high_watermark: marks.high_watermark.0,
        log_end_offset: marks.log_end_offset.0,
        size_bytes: partition.size_bytes(),
    })
}

fn min_insync_replicas(topic: &HostedTopic) -> Option<usize> {
    let partition = topic.partitions.iter().flatten().next()?;
    usize::try_from(partition.config().min_insync_replicas).ok()
}

fn brokers(image: &MetadataImage) -> Vec<BrokerSample> {
    image
        .brokers
        .iter()
        .map(|broker| broker_sample(broker))
        .collect()
}

fn broker_sample(broker: &BrokerImage) -> BrokerSample {
    let address = broker
        .endpoints
        .first()
        .map(|first| format!("{}:{}", first.host, first.port));
    BrokerSample {
        id: broker.id.0,
        address: address.unwrap_or_default(),
        alive: !broker.fenced,
    }
}

#[cfg(test)]
mod tests;
