//! Members that go: for good, for a while, or because they were silent.

use std::collections::BTreeSet;

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

    /// Removes members; the group moves to a new epoch. `None`: there is none of them.
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
        let stays = |member: &&Member| !leaving.contains(&*member.id);
        let regexes: BTreeSet<&str> = members.iter().filter_map(|member| member.regex()).collect();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let mut unread: BTreeSet<&str> = regexes;
        for member in self.members.values().filter(stays) {
            names.extend(member.names.iter().map(String::as_str));
            if let Some(regex) = member.regex() {
                unread.remove(regex);
            }
        }
        for (regex, value) in &self.resolved {
            if !unread.contains(regex.as_str()) {
                names.extend(value.topics.iter().map(String::as_str));
            }
        }
        records.extend(unread.into_iter().map(|regex| ConsumerRecord::Regex {
            regex: regex.to_owned(),
            value: None,
        }));
        let hash = scene.hashes.of_group(scene.topics, names.into_iter());
        records.push(self.epoch_record(self.epoch.saturating_add(1), hash));
        records
    }
}
