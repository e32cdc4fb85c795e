//! What people ask about a consumer group.

use std::collections::BTreeMap;

use ottla_protocol::types::TopicId;

use super::ConsumerGroup;
use super::assignment::partitions;
use super::assignor::Assignor;
use super::member::Member;
use crate::command::{AssignedTopic, DescribedConsumerGroup, DescribedConsumerMember, ListedGroup};
use crate::topics::Topics;
use crate::turn::GroupLimits;

impl ConsumerGroup {
    /// Kafka's name. `is_reconciled_to` is asked of all members only here.
    fn state(&self) -> &'static str {
        let reconciled = |member: &Member| member.is_reconciled_to(self.target_epoch);
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self.members.values().all(reconciled) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    pub(crate) fn listed(&self) -> ListedGroup {
        ListedGroup {
            group: self.id.to_string(),
            protocol_type: crate::group::CONSUMER.to_owned(),
            state: self.state(),
            group_type: "consumer",
        }
    }

    pub(crate) fn described(
        &self,
        topics: &dyn Topics,
        limits: &GroupLimits,
    ) -> DescribedConsumerGroup {
        let assignor = Assignor::preferred(&self.index.assignors, &limits.consumer);
        let members = self
            .members
            .values()
            .map(|member| self.described_member(topics, member));
        DescribedConsumerGroup {
            state: self.state(),
            group_epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor: assignor.name().to_owned(),
            members: members.collect(),
        }
    }

    fn described_member(&self, topics: &dyn Topics, member: &Member) -> DescribedConsumerMember {
        let has = partitions(&member.assigned).chain(partitions(&member.revoking));
        let target = self.targets.get(&*member.id).into_iter().flatten();
        let target = target.flat_map(|(topic_id, partitions)| {
            partitions.iter().map(|partition| (*topic_id, *partition))
        });
        DescribedConsumerMember {
            member_id: member.id.to_string(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            member_epoch: member.epoch,
            client: member.client.clone(),
            subscribed_topic_names: member.names.iter().cloned().collect(),
            subscribed_topic_regex: Some(member.regex.clone()),
            assignment: by_topic(topics, has),
            target: by_topic(topics, target),
            is_classic: member.classic.is_some(),
        }
    }
}

fn by_topic(
    topics: &dyn Topics,
    partitions: impl Iterator<Item = (TopicId, i32)>,
) -> Vec<AssignedTopic> {
    let mut found: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic_id, partition) in partitions {
        found.entry(topic_id).or_default().push(partition);
    }
    let known = found.into_iter().filter_map(|(topic_id, partitions)| {
        Some(AssignedTopic {
            topic_id,
            topic: topics.by_id(topic_id)?.name.to_owned(),
            partitions,
        })
    });
    known.collect()
}
