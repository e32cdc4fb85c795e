//! Between the two protocols (KIP-848): a classic group of consumers becomes a consumer group when
//! a member of the new protocol joins, and a consumer group becomes a classic one when the last of
//! these leaves. Nobody gives anything back for that.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::error::ErrorCode;

use super::assignment::{Target, of_target, partitions};
use super::classic::named;
use super::embedded::{self, Named};
use super::join::Downgrade;
use super::member::{Member, gone};
use super::{ConsumerGroup, Scene};
use crate::command::Refusal;
use crate::group::{CONSUMER, Group, Migrant};
use crate::records::{ClassicValue, ConsumerRecord, GroupRecord, TargetEpochValue};
use crate::topics::Topics;
use crate::turn::GroupLimits;

/// Kafka tells a client whose group cannot be converted that there is no such group.
fn refused(group: &str, why: &str) -> Refusal {
    let message = format!("Cannot upgrade classic group {group} to consumer group because {why}");
    Refusal::new(ErrorCode::GROUP_ID_NOT_FOUND, message)
}

impl ConsumerGroup {
    /// The classic group as a consumer group, and the records that make it one.
    pub(crate) fn of_classic(
        classic: &Group,
        scene: &mut Scene<'_>,
    ) -> Result<(ConsumerGroup, Vec<GroupRecord>), Refusal> {
        let id = &*classic.id;
        let limits = &scene.limits.consumer;
        if !limits.migration_policy.upgrades() {
            return Err(refused(id, "online upgrade is disabled."));
        }
        if classic.protocol_type() != Some(CONSUMER) {
            let why = "the group does not use the consumer embedded protocol.";
            return Err(refused(id, why));
        }
        let migrants = classic.migrants();
        if migrants.len() > limits.max_size {
            let why = "the group size exceeds the consumer group maximum size.";
            return Err(refused(id, why));
        }
        let mut records = Vec::new();
        for migrant in &migrants {
            records.extend(member_records(
                id,
                migrant,
                classic.generation(),
                scene.topics,
            )?);
        }
        records.push(ConsumerRecord::TargetEpoch(Some(TargetEpochValue {
            epoch: classic.generation(),
            timestamp_ms: 0,
        })));
        let mut group = ConsumerGroup::new(Arc::clone(&classic.id));
        for record in &records {
            group.apply(record);
        }
        // Such as one that gives everything to everybody.
        if group.has_two_owners() {
            return Err(refused(
                id,
                "the assignor in use gives a partition to several members.",
            ));
        }
        let names = group.index.topics.keys().map(String::as_str);
        let hash = scene.hashes.of_group(scene.topics, names);
        let epoch = group.epoch_record(classic.generation(), hash);
        group.apply(&epoch);
        records.push(epoch);
        let gone = GroupRecord::Group {
            group: id.to_owned(),
            value: None,
        };
        let records = [vec![gone], group.named(records)].concat();
        Ok((group, records))
    }

    fn has_two_owners(&self) -> bool {
        let owned = |member: &Member| partitions(&member.assigned).count();
        self.members.values().map(owned).sum::<usize>() > self.index.owners.len()
    }

    /// Without `leaving` only classic members are left, and they may go on as a classic group.
    pub(crate) fn downgrades_without(
        &self,
        limits: &GroupLimits,
        leaving: &BTreeSet<String>,
    ) -> bool {
        let leaving: Vec<&Member> = leaving
            .iter()
            .filter_map(|id| self.members.get(id.as_str()))
            .collect();
        let classic = leaving
            .iter()
            .filter(|member| member.classic.is_some())
            .count();
        let left = self.members.len() - leaving.len();
        left > 0
            && self.index.classic_members - classic == left
            && limits.consumer.migration_policy.downgrades()
            && left <= limits.max_size
    }

    /// Only the member that a classic one replaces is of the new protocol.
    pub(super) fn downgrades_with(&self, scene: &Scene<'_>, replaced: &str) -> bool {
        let replaced = self.members.get(replaced);
        replaced.is_some_and(|member| member.classic.is_none())
            && self.index.classic_members == self.members.len() - 1
            && scene.limits.consumer.migration_policy.downgrades()
            && self.members.len() <= scene.limits.max_size
    }

    /// The classic group of those that stay, and the records that make it one: `None` when they
    /// share no protocol.
    pub(crate) fn to_classic(
        &self,
        (now_ms, topics): (i64, &dyn Topics),
        leaving: &BTreeSet<String>,
        joining: Option<&Downgrade>,
    ) -> Option<(Group, Vec<GroupRecord>)> {
        let replaced = joining.map(|downgrade| downgrade.replaced.as_str());
        let stays = |id: &str| !leaving.contains(id) && replaced != Some(id);
        let staying = self.members.values().filter(|member| stays(&member.id));
        let mut migrants: Vec<Migrant> = staying.filter_map(Self::migrant).collect();
        if let Some(downgrade) = joining {
            migrants.extend(Self::migrant(&downgrade.joining));
        }
        let mut group = Group::of_migrants(&self.id, (now_ms, self.epoch), migrants)?;
        group.assign(|member_id, metadata| {
            let target = self.handed_over(member_id, joining);
            assignment(&target, metadata, topics)
        });
        let mut gone_records = self.gone_records();
        if let Some(downgrade) = joining {
            gone_records.splice(0..0, gone(&downgrade.joining.id));
        }
        let mut records = self.named(gone_records);
        records.extend(group.snapshot());
        Some((group, records))
    }

    /// What the classic group takes a member to have.
    ///
    /// Kafka hands over the target also when everybody must join again. Nobody is told of it then,
    /// but a new member that comes before they join makes it what they have: what a member has and
    /// shall not have would be with two. So it is what they have.
    fn handed_over(&self, member_id: &str, joining: Option<&Downgrade>) -> Target {
        let takes_over = joining.filter(|downgrade| *downgrade.joining.id == *member_id);
        if joining.is_some_and(|downgrade| !downgrade.rebalance) {
            let key = takes_over.map_or(member_id, |downgrade| &downgrade.replaced);
            return self.targets.get(key).cloned().unwrap_or_default();
        }
        let member = takes_over.map(|downgrade| &downgrade.joining);
        member
            .or_else(|| self.members.get(member_id))
            .map(Member::may_have)
            .unwrap_or_default()
    }

    fn migrant(member: &Member) -> Option<Migrant> {
        let classic = member.classic.as_ref()?;
        Some(Migrant {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            client: member.client.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.protocols.clone(),
            metadata: Bytes::new(),
            assignment: Bytes::new(),
        })
    }
}

fn assignment(target: &Target, metadata: &Bytes, topics: &dyn Topics) -> Bytes {
    let version = embedded::version(metadata).unwrap_or(0);
    embedded::put_assigned(version, &named(&of_target(target), topics))
}

/// A member of the classic group, with what it was assigned last.
fn member_records(
    group: &str,
    migrant: &Migrant,
    generation: i32,
    topics: &dyn Topics,
) -> Result<[ConsumerRecord; 3], Refusal> {
    let malformed = || refused(group, "the embedded consumer protocol is malformed.");
    let told = embedded::subscription(&migrant.metadata).ok_or_else(malformed)?;
    let mut partitions = Named::new();
    if !migrant.assignment.is_empty() {
        let assigned = embedded::assigned(&migrant.assignment).ok_or_else(malformed)?;
        if assigned.has_user_data {
            let why = "an unsupported custom assignor is in use. Please refer to the documentation \
                       or switch to a default assignor before re-attempting the upgrade.";
            return Err(refused(group, why));
        }
        partitions = assigned.partitions;
    }
    let mut member = Member::new(&migrant.member_id);
    member.epoch = generation;
    member.previous_epoch = generation;
    member.instance_id.clone_from(&migrant.instance_id);
    member.rack_id = told.rack_id;
    member.rebalance_timeout_ms = migrant.rebalance_timeout_ms;
    member.client.clone_from(&migrant.client);
    member.names = told.topics.into_iter().collect();
    member.classic = Some(ClassicValue {
        session_timeout_ms: migrant.session_timeout_ms,
        protocols: migrant.protocols.clone(),
    });
    let mut target = Target::new();
    for (name, partitions) in partitions
        .iter()
        .filter(|(_, partitions)| !partitions.is_empty())
    {
        if let Some(topic) = topics.by_name(name) {
            target.entry(topic.id).or_default().extend(partitions);
            let owned = member.assigned.entry(topic.id).or_default();
            owned.extend(partitions.iter().map(|partition| (*partition, generation)));
        }
    }
    let target = ConsumerRecord::Target {
        member_id: migrant.member_id.clone(),
        value: Some(of_target(&target)),
    };
    Ok([member.record(), target, member.current_record()])
}
