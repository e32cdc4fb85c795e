//! Adding partitions to topics, and the checks of replicas that a client placed itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_protocol::types::BrokerId;
use rand::Rng;

use crate::command::{AssignmentError, CommandReply, CreatePartitionsError, MorePartitions};
use crate::decide::placement::Circle;
use crate::decide::topics::{append_partitions, check_partition_limits};
use crate::decide::{Decision, Limits};
use crate::image::{BrokersImage, MetadataImage, TopicImage};

pub(super) fn create(
    image: &MetadataImage,
    limits: &Limits,
    topics: &[MorePartitions],
    validate_only: bool,
    rng: &mut impl Rng,
) -> Decision {
    let circle = Circle::new(&image.brokers);
    let mut seen = BTreeMap::<&Arc<str>, usize>::new();
    for topic in topics {
        *seen.entry(&topic.name).or_default() += 1;
    }
    let mut used = 0;
    let mut records = Vec::new();
    let mut results = Vec::new();
    let mut answered = BTreeSet::new();
    for request in topics {
        // A name that is there twice is answered once.
        if !answered.insert(&request.name) {
            continue;
        }
        let name = request.name.clone();
        let result = if seen[&request.name] > 1 {
            Err(CreatePartitionsError::DuplicateInRequest { name })
        } else {
            check(image, limits, request, &circle, used).map(|(topic, added)| {
                used += added;
                if validate_only {
                    return;
                }
                let current = topic.partitions.len();
                let assignments = match &request.assignments {
                    Some(assignments) => assignments.clone(),
                    None => circle.place(current, added, replication_factor(topic), rng),
                };
                let first = request.count - added as i32;
                append_partitions(image, topic.id, first, assignments, &mut records);
            })
        };
        results.push((request.name.clone(), result));
    }
    Decision {
        records,
        reply: CommandReply::PartitionsCreated(results),
    }
}

/// As many replicas as the topic's first partition has.
fn replication_factor(topic: &TopicImage) -> usize {
    topic
        .partitions
        .first()
        .map_or(1, |partition| partition.replicas.len())
}

/// The topic, and how many partitions it gets.
fn check<'a>(
    image: &'a MetadataImage,
    limits: &Limits,
    request: &MorePartitions,
    circle: &Circle,
    used: usize,
) -> Result<(&'a TopicImage, usize), CreatePartitionsError> {
    let Some(topic) = image.topics.by_name(&request.name) else {
        return Err(CreatePartitionsError::UnknownTopic {
            name: request.name.clone(),
        });
    };
    let current = topic.partitions.len() as i32;
    if request.count <= current {
        let (name, requested) = (request.name.clone(), request.count);
        return Err(CreatePartitionsError::NotAnIncrease {
            name,
            current,
            requested,
        });
    }
    let added = request.count - current;
    check_partition_limits(image, limits, used, added as usize)?;
    let needed = replication_factor(topic);
    match &request.assignments {
        Some(assignments) => {
            if assignments.len() != added as usize {
                let assigned = assignments.len();
                return Err(AssignmentError::WrongCount { assigned, added }.into());
            }
            check_replicas(&image.brokers, current, assignments, needed)?;
        }
        None if needed > circle.len() => {
            return Err(CreatePartitionsError::NotEnoughBrokers {
                needed,
                alive: circle.len(),
            });
        }
        None => {}
    }
    Ok((topic, added as usize))
}

/// Checks replicas that a client placed on partitions `first`, `first + 1`, …
pub(super) fn check_replicas(
    brokers: &BrokersImage,
    first: i32,
    assignments: &[Vec<BrokerId>],
    expected: usize,
) -> Result<(), AssignmentError> {
    for (partition, replicas) in (first..).zip(assignments) {
        if replicas.is_empty() {
            return Err(AssignmentError::NoReplica { partition });
        }
        let mut seen = BTreeSet::new();
        for broker in replicas.iter().copied() {
            if brokers.get(broker).is_none() {
                return Err(AssignmentError::UnknownBroker { partition, broker });
            }
            if !seen.insert(broker) {
                return Err(AssignmentError::DuplicateReplica { partition, broker });
            }
        }
        if replicas.len() != expected {
            let replicas = replicas.len();
            return Err(AssignmentError::UnevenReplicas {
                partition,
                replicas,
                expected,
            });
        }
    }
    Ok(())
}
