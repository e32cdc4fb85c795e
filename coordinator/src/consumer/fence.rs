//! Members that go: for good, for a while, or because they were silent.

use std::collections::{BTreeMap, BTreeSet};

use super::index::more;
use super::member::{AWAY_EPOCH, Member, gone};
use super::{ConsumerGroup, Scene};
use crate::command::{ConsumerHeartbeat, Refusal};
use crate::records::ConsumerRecord;

impl ConsumerGroup {
    /// The member that a heartbeat with epoch -1 or -2 speaks for.
    pub(crate) fn leaving(&self, request: &ConsumerHeartbeat) -> Result<&str, Refusal> {
        let member_id = &request.member_id;
        let member = match &request.instance_id {
            None => self.members.get(member_id.as_str()),
            Some(instance_id) => {
                let known = self.static_member(instance_id);
                Some(self.check_instance(known, member_id, instance_id)?)
            }
        };
        let member = member.ok_or_else(|| self.not_a_member(member_id))?;
        Ok(&member.id)
    }

    /// The static member keeps its partitions for when it comes again.
    pub(crate) fn plan_away(&self, member_id: &str) -> Vec<ConsumerRecord> {
        let Some(member) = self.members.get(member_id) else {
            return Vec::new();
        };
        let mut member = member.clone();
        member.epoch = AWAY_EPOCH;
        member.revoking.clear();
        // Whoever comes again has had them from the beginning.
        for epoch in member
            .assigned
            .values_mut()
            .flat_map(|topic| topic.values_mut())
        {
            *epoch = 0;
        }
        vec![member.current_record()]
    }

    /// Removes members; the group moves to a new epoch. Takes no look at those that stay.
    pub(crate) fn plan_fence(
        &self,
        scene: &mut Scene<'_>,
        leaving: &BTreeSet<String>,
    ) -> Vec<ConsumerRecord> {
        let members = leaving
            .iter()
            .filter_map(|id| self.members.get(id.as_str()));
        let members: Vec<&Member> = members.collect();
        let mut records: Vec<ConsumerRecord> =
            members.iter().flat_map(|member| gone(&member.id)).collect();
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut regexes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in &members {
            member.names.iter().for_each(|name| more(&mut names, name));
            member
                .regex()
                .into_iter()
                .for_each(|regex| more(&mut regexes, regex));
        }
        // What an expression matched is read no longer when its last member goes.
        regexes.retain(|regex, count| self.index.regexes.get(*regex) == Some(count));
        let mut matched: BTreeMap<&str, usize> = BTreeMap::new();
        for regex in regexes.keys() {
            records.push(ConsumerRecord::Regex {
                regex: (*regex).to_owned(),
                value: None,
            });
            let topics = self
                .resolved
                .get(*regex)
                .into_iter()
                .flat_map(|value| &value.topics);
            topics.for_each(|topic| more(&mut matched, topic));
        }
        let gone_of =
            |counts: &BTreeMap<&str, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
        let still_read = self.index.topics.iter().filter(|(name, readers)| {
            readers.members > gone_of(&names, name) || readers.regexes > gone_of(&matched, name)
        });
        let names = still_read.map(|(name, _)| name.as_str());
        let hash = scene.hashes.of_group(scene.topics, names);
        records.push(self.epoch_record(self.epoch.saturating_add(1), hash));
        records
    }
}
