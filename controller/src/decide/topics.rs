//! Creating and deleting topics. Everything is counted and checked before anything is placed, so
//! that a hostile request costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::topic_name;
use ottla_protocol::types::{BrokerId, LeaderEpoch, TopicId};
use rand::Rng;
use uuid::Uuid;

use crate::command::{
    AssignmentError, CommandReply, CreateTopicError, CreateTopics, CreatedTopic, DeleteTopicError,
    DeletedTopic, LimitExceeded, NewTopic, TopicDefaults, TopicRef,
};
use crate::decide::configs::check_values;
use crate::decide::partitions::check_replicas;
use crate::decide::placement::Circle;
use crate::decide::{Decision, Limits};
use crate::elect::elect;
use crate::image::MetadataImage;
use crate::record::{ConfigResource, MetadataRecord, PartitionEpoch, PartitionRecord};

/// What a request has used up and named so far.
#[derive(Default)]
struct Progress {
    partitions: usize,
    collision_keys: BTreeMap<String, Arc<str>>,
}

pub(super) fn create(
    image: &MetadataImage,
    limits: &Limits,
    request: &CreateTopics,
    rng: &mut impl Rng,
) -> Decision {
    let circle = Circle::new(&image.brokers);
    let mut seen = BTreeMap::<&str, usize>::new();
    for topic in &request.topics {
        *seen.entry(&topic.name).or_default() += 1;
    }
    let mut progress = Progress::default();
    let mut records = Vec::new();
    let mut results = Vec::new();
    let mut answered = BTreeSet::new();
    for topic in &request.topics {
        // A name that is there twice is answered once.
        if !answered.insert(&topic.name) {
            continue;
        }
        let name = topic.name.clone();
        let result = if seen[&*topic.name] > 1 {
            Err(CreateTopicError::DuplicateInRequest { name })
        } else {
            check(
                image,
                limits,
                request.defaults,
                topic,
                &circle,
                &mut progress,
            )
            .map(|shape| {
                if request.validate_only {
                    return created(topic, TopicId::ZERO, &shape);
                }
                let id = new_topic_id(image, rng);
                append_topic(image, topic, id, &shape, &circle, rng, &mut records);
                created(topic, id, &shape)
            })
        };
        results.push((topic.name.clone(), result));
    }
    Decision {
        records,
        reply: CommandReply::TopicsCreated(results),
    }
}

/// What a checked topic will look like.
struct Shape {
    partitions: usize,
    replication_factor: usize,
    /// In the order of the partitions; `None`: to be placed.
    assignments: Option<Vec<Vec<BrokerId>>>,
}

fn check(
    image: &MetadataImage,
    limits: &Limits,
    defaults: TopicDefaults,
    topic: &NewTopic,
    circle: &Circle,
    progress: &mut Progress,
) -> Result<Shape, CreateTopicError> {
    topic_name::validate(&topic.name)?;
    if image.topics.by_name(&topic.name).is_some() {
        return Err(CreateTopicError::AlreadyExists {
            name: topic.name.clone(),
        });
    }
    let key = topic.name.replace('.', "_");
    let existing = image
        .topics
        .colliding(&topic.name)
        .map(|topic| topic.name.clone());
    if let Some(existing) = existing.or_else(|| progress.collision_keys.get(&key).cloned()) {
        let name = topic.name.clone();
        return Err(CreateTopicError::NameCollision { name, existing });
    }
    check_values(
        limits,
        topic
            .configs
            .iter()
            .map(|(name, value)| (&**name, &**value)),
    )?;
    let shape = match topic.assignments.is_empty() {
        true => counted_shape(defaults, topic, circle)?,
        false => assigned_shape(image, topic)?,
    };
    check_partition_limits(image, limits, progress.partitions, shape.partitions)?;
    progress.partitions += shape.partitions;
    progress.collision_keys.insert(key, topic.name.clone());
    Ok(shape)
}

pub(super) fn check_partition_limits(
    image: &MetadataImage,
    limits: &Limits,
    used_by_request: usize,
    wanted: usize,
) -> Result<(), LimitExceeded> {
    let in_request = used_by_request.saturating_add(wanted);
    if in_request > limits.partitions_per_request_max {
        let max = limits.partitions_per_request_max;
        return Err(LimitExceeded::PartitionsPerRequest { max });
    }
    if in_request.saturating_add(image.topics.partition_count()) > limits.partitions_max {
        return Err(LimitExceeded::PartitionsTotal {
            max: limits.partitions_max,
        });
    }
    Ok(())
}

fn counted_shape(
    defaults: TopicDefaults,
    topic: &NewTopic,
    circle: &Circle,
) -> Result<Shape, CreateTopicError> {
    let requested = if topic.partitions == -1 {
        defaults.partitions
    } else {
        topic.partitions
    };
    let partitions = usize::try_from(requested)
        .ok()
        .filter(|partitions| *partitions > 0)
        .ok_or(CreateTopicError::InvalidPartitions { requested })?;
    let requested = match topic.replication_factor {
        -1 => defaults.replication_factor,
        given => given,
    };
    let replication_factor = usize::try_from(requested)
        .ok()
        .filter(|factor| *factor > 0)
        .ok_or(CreateTopicError::InvalidReplicationFactor { requested })?;
    if replication_factor > circle.len() {
        return Err(CreateTopicError::NotEnoughBrokers {
            requested,
            alive: circle.len(),
        });
    }
    Ok(Shape {
        partitions,
        replication_factor,
        assignments: None,
    })
}

fn assigned_shape(image: &MetadataImage, topic: &NewTopic) -> Result<Shape, CreateTopicError> {
    if topic.partitions != -1 || topic.replication_factor != -1 {
        return Err(CreateTopicError::CountsWithAssignment);
    }
    let by_partition: BTreeMap<i32, &Vec<BrokerId>> = topic
        .assignments
        .iter()
        .map(|(partition, replicas)| (*partition, replicas))
        .collect();
    let consecutive = (0i32..)
        .zip(by_partition.keys())
        .all(|(want, have)| want == *have);
    if !consecutive || by_partition.len() != topic.assignments.len() {
        return Err(AssignmentError::NotConsecutive.into());
    }
    let assignments: Vec<Vec<BrokerId>> = by_partition.into_values().cloned().collect();
    let replication_factor = assignments[0].len();
    check_replicas(&image.brokers, 0, &assignments, replication_factor)?;
    Ok(Shape {
        partitions: assignments.len(),
        replication_factor,
        assignments: Some(assignments),
    })
}

fn created(topic: &NewTopic, topic_id: TopicId, shape: &Shape) -> CreatedTopic {
    CreatedTopic {
        topic_id,
        // Both were made from an i32 and an i16, or are bounded by the limits and the number of
        // brokers.
        partitions: i32::try_from(shape.partitions).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(shape.replication_factor).unwrap_or(i16::MAX),
        configs: topic.configs.clone(),
    }
}

fn append_topic(
    image: &MetadataImage,
    topic: &NewTopic,
    topic_id: TopicId,
    shape: &Shape,
    circle: &Circle,
    rng: &mut impl Rng,
    records: &mut Vec<MetadataRecord>,
) {
    records.push(MetadataRecord::Topic {
        topic_id,
        name: topic.name.clone(),
    });
    let assignments = match &shape.assignments {
        Some(assignments) => assignments.clone(),
        None => circle.place(0, shape.partitions, shape.replication_factor, rng),
    };
    append_partitions(image, topic_id, 0, assignments, records);
    for (name, value) in &topic.configs {
        records.push(MetadataRecord::Config {
            resource: ConfigResource::Topic(topic.name.clone()),
            name: name.clone(),
            value: Some(value.clone()),
        });
    }
}

/// New partitions from `first` on. All replicas are in sync, for there is nothing yet; those that
/// are not alive join the ISR when they have fetched.
pub(super) fn append_partitions(
    image: &MetadataImage,
    topic_id: TopicId,
    first: i32,
    assignments: Vec<Vec<BrokerId>>,
    records: &mut Vec<MetadataRecord>,
) {
    for (partition, replicas) in (first..).zip(assignments) {
        let alive = |id: BrokerId| image.brokers.is_alive(id);
        let mut isr: Vec<BrokerId> = replicas.iter().copied().filter(|id| alive(*id)).collect();
        if isr.is_empty() {
            isr.extend(replicas.first());
        }
        let leader = elect(&replicas, &isr, BrokerId::NONE, alive);
        records.push(MetadataRecord::Partition(PartitionRecord {
            topic_id,
            partition,
            replicas,
            isr,
            leader,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: PartitionEpoch(0),
        }));
    }
}

/// A random (version 4) id that no topic has, that Kafka does not reserve, and whose text does not
/// look like an option on a command line.
fn new_topic_id(image: &MetadataImage, rng: &mut impl Rng) -> TopicId {
    loop {
        let uuid = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
        let id = TopicId(uuid);
        let reserved = uuid == Uuid::nil() || uuid == Uuid::from_u128(1);
        if !reserved && !id.to_string().starts_with('-') && image.topics.by_id(id).is_none() {
            return id;
        }
    }
}

pub(super) fn delete(image: &MetadataImage, topics: &[TopicRef]) -> Decision {
    let resolved = |topic: &TopicRef| match topic {
        TopicRef::Name(name) => image.topics.by_name(name),
        TopicRef::Id(id) => image.topics.by_id(*id),
    };
    let mut asked = BTreeMap::<TopicId, usize>::new();
    for topic in topics.iter().filter_map(resolved) {
        *asked.entry(topic.id).or_default() += 1;
    }
    let mut records = Vec::new();
    let mut results = Vec::with_capacity(topics.len());
    for topic in topics {
        let result = match (resolved(topic), topic) {
            (None, TopicRef::Name(name)) => {
                Err(DeleteTopicError::UnknownName { name: name.clone() })
            }
            (None, TopicRef::Id(id)) => Err(DeleteTopicError::UnknownId { id: *id }),
            (Some(found), _) if asked[&found.id] > 1 => Err(DeleteTopicError::DuplicateInRequest),
            (Some(found), _) => {
                records.push(MetadataRecord::RemoveTopic { topic_id: found.id });
                Ok(DeletedTopic {
                    topic_id: found.id,
                    name: found.name.clone(),
                })
            }
        };
        results.push((topic.clone(), result));
    }
    Decision {
        records,
        reply: CommandReply::TopicsDeleted(results),
    }
}
