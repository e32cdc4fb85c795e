//! Registration of brokers. A new process of a known broker takes over from the old one at once,
//! without waiting for a session to end: it holds the lock of the data directory, so the old one is
//! gone.

use std::collections::BTreeSet;

use ottla_protocol::types::{BrokerId, LeaderEpoch};

use crate::command::{BrokerNotRegistered, CommandReply, RegisterBroker, RegisterBrokerError};
use crate::decide::{Decision, Limits};
use crate::elect::elect;
use crate::image::{MetadataImage, PartitionImage};
use crate::record::{
    BrokerEpoch, BrokerRegistrationRecord, MetadataRecord, PartitionChangeRecord, PartitionEpoch,
};

/// A new incarnation gets a new broker epoch, and the partitions it leads new leader epochs: what
/// an earlier process acknowledged but lost can then be told from what this one writes at the same
/// offsets.
pub(super) fn register(
    image: &MetadataImage,
    limits: &Limits,
    request: &RegisterBroker,
) -> Decision {
    if let Err(error) = check_registration(image, limits, request) {
        let reply = CommandReply::BrokerRegistered(Err(error));
        return Decision {
            records: Vec::new(),
            reply,
        };
    }
    let broker_id = request.broker_id;
    let known = image.brokers.get(broker_id);
    let repeated = known.filter(|known| known.incarnation_id == request.incarnation_id);
    // The position of this very record, so it is larger than any epoch before it.
    let broker_epoch = repeated.map_or(BrokerEpoch(image.applied.0 + 1), |known| known.epoch);
    let registration = BrokerRegistrationRecord {
        broker_id,
        broker_epoch,
        incarnation_id: request.incarnation_id,
        endpoints: request.endpoints.clone(),
        features: request.features.clone(),
        rack: request.rack.clone(),
        log_dirs: request.log_dirs.clone(),
        fenced: false,
    };
    let mut records = vec![MetadataRecord::BrokerRegistration(registration)];
    if repeated.is_none() {
        records.push(MetadataRecord::LeaderEpochsBumped { broker_id });
        lead_orphans(image, broker_id, &mut records);
    }
    Decision {
        records,
        reply: CommandReply::BrokerRegistered(Ok(broker_epoch)),
    }
}

fn check_registration(
    image: &MetadataImage,
    limits: &Limits,
    request: &RegisterBroker,
) -> Result<(), RegisterBrokerError> {
    if request
        .cluster_id
        .as_ref()
        .is_some_and(|id| *id != image.cluster_id)
    {
        let actual = image.cluster_id.clone();
        return Err(RegisterBrokerError::InconsistentClusterId { actual });
    }
    if request.broker_id.0 < 0 {
        return Err(RegisterBrokerError::InvalidBrokerId);
    }
    let max = limits.registration_items_max;
    let items = [
        request.endpoints.len(),
        request.features.len(),
        request.log_dirs.len(),
    ];
    if items.into_iter().any(|count| count > max) {
        return Err(RegisterBrokerError::TooLarge { max });
    }
    let listeners: BTreeSet<_> = request.endpoints.iter().map(|e| &e.listener).collect();
    if listeners.is_empty() || listeners.len() != request.endpoints.len() {
        return Err(RegisterBrokerError::InvalidEndpoints);
    }
    for (name, level) in image.features.iter() {
        let runs = |range: &crate::record::FeatureRange| {
            range.name == *name && (range.min..=range.max).contains(&level)
        };
        if !request.features.iter().any(runs) {
            return Err(RegisterBrokerError::UnsupportedFeature {
                name: name.clone(),
                level,
            });
        }
    }
    Ok(())
}

/// Partitions without a leader that wait for this broker get it.
fn lead_orphans(image: &MetadataImage, broker: BrokerId, records: &mut Vec<MetadataRecord>) {
    for topic in image.topics.iter() {
        for (partition, p) in (0i32..).zip(&topic.partitions) {
            if p.leader == BrokerId::NONE && p.isr.contains(&broker) {
                let isr = p.isr.clone();
                records.push(change(topic.id, partition, p, isr, broker));
            }
        }
    }
}

/// The broker is gone for good: it leaves every ISR that has others in it, and leads nothing any
/// more.
pub(super) fn unregister(image: &MetadataImage, broker_id: BrokerId) -> Decision {
    if image.brokers.get(broker_id).is_none() {
        let reply = CommandReply::BrokerUnregistered(Err(BrokerNotRegistered(broker_id)));
        return Decision {
            records: Vec::new(),
            reply,
        };
    }
    let mut records = vec![MetadataRecord::BrokerUnregistered { broker_id }];
    let alive = |id: BrokerId| id != broker_id && image.brokers.is_alive(id);
    for topic in image.topics.iter() {
        for (partition, p) in (0i32..).zip(&topic.partitions) {
            if p.leader != broker_id && !p.isr.contains(&broker_id) {
                continue;
            }
            let mut isr = p.isr.clone();
            // The last in-sync replica stays named: only it has what was acknowledged.
            if isr.len() > 1 {
                isr.retain(|id| *id != broker_id);
            }
            let leader = elect(&p.replicas, &isr, p.leader, alive);
            if leader != p.leader || isr != p.isr {
                records.push(change(topic.id, partition, p, isr, leader));
            }
        }
    }
    Decision {
        records,
        reply: CommandReply::BrokerUnregistered(Ok(())),
    }
}

/// The record that gives partition `p` this ISR and leader. A new leader means a new leader epoch.
fn change(
    topic_id: ottla_protocol::types::TopicId,
    partition: i32,
    p: &PartitionImage,
    isr: Vec<BrokerId>,
    leader: BrokerId,
) -> MetadataRecord {
    let leader_epoch = match leader == p.leader {
        true => p.leader_epoch,
        false => LeaderEpoch(p.leader_epoch.0.saturating_add(1)),
    };
    MetadataRecord::PartitionChange(PartitionChangeRecord {
        topic_id,
        partition,
        isr,
        leader,
        leader_epoch,
        partition_epoch: PartitionEpoch(p.partition_epoch.0.saturating_add(1)),
    })
}
