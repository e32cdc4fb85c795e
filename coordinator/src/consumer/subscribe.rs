//! What a member reads, and what follows when that changes: records, and a new epoch of the group.

use std::collections::BTreeSet;

use super::member::Member;
use super::regex::compile;
use super::{ConsumerGroup, Scene};
use crate::command::Refusal;
use crate::records::ConsumerRecord;

/// A member that a command changes, with the records that it takes so far. The group itself stays
/// as it is until they are written.
pub(super) struct Draft<'g> {
    pub(super) group: &'g ConsumerGroup,
    /// As the group knows it, or as it is when it is new.
    pub(super) base: Member,
    pub(super) member: Member,
    /// The static member whose place it takes.
    pub(super) replaced: Option<String>,
    pub(super) records: Vec<ConsumerRecord>,
    /// The group's epoch after this.
    pub(super) epoch: i32,
    /// The topics were compared.
    pub(super) compared: bool,
}

/// Whether the member's regular expression changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegexChange {
    No,
    /// What it matches is not known yet.
    Unresolved,
    Resolved,
}

impl<'g> Draft<'g> {
    pub(super) fn new(group: &'g ConsumerGroup, base: Member) -> Draft<'g> {
        Draft {
            group,
            member: base.clone(),
            base,
            replaced: None,
            records: Vec::new(),
            epoch: group.epoch,
            compared: false,
        }
    }

    /// Writes the member down if anything changed; true if it names other topics.
    pub(super) fn put_member(&mut self) -> bool {
        if self.member == self.base {
            return false;
        }
        self.records.push(self.member.record());
        self.member.names != self.base.names
    }

    /// Checks an expression that is new to the group, and drops what nobody has any more.
    pub(super) fn put_regex(&mut self) -> Result<RegexChange, Refusal> {
        if self.member.regex == self.base.regex {
            return Ok(RegexChange::No);
        }
        let counts = &self.group.index.regexes;
        let members = |regex: &str| counts.get(regex).copied().unwrap_or(0);
        let mut change = RegexChange::Unresolved;
        if let Some(old) = self.base.regex() {
            if members(old) == 1 {
                self.records.push(ConsumerRecord::Regex {
                    regex: old.to_owned(),
                    value: None,
                });
            }
            if self.member.regex().is_none() {
                change = RegexChange::Resolved;
            }
        }
        if let Some(new) = self.member.regex() {
            if members(new) == 0 {
                compile(new)?;
            } else if self.group.resolved.contains_key(new) {
                change = RegexChange::Resolved;
            }
        }
        Ok(change)
    }

    /// Moves the group to a new epoch if `bump` says so or its topics are not what they were. They
    /// are compared when the metadata has changed since.
    pub(super) fn put_epoch(&mut self, scene: &mut Scene<'_>, bump: bool) {
        let version = scene.topics.version();
        if !bump && self.group.seen_topics == Some(version) {
            return;
        }
        self.compared = true;
        let names = self.subscribed();
        let hash = scene.hashes.of_group(scene.topics, names.into_iter());
        if bump || hash != self.group.metadata_hash {
            self.epoch = self.group.epoch.saturating_add(1);
            self.records.push(self.group.epoch_record(self.epoch, hash));
        }
        if self.group.partition_metadata.is_some() {
            self.records.push(ConsumerRecord::PartitionMetadata(None));
        }
    }

    /// What the group reads after this.
    fn subscribed(&self) -> BTreeSet<&str> {
        let group = self.group;
        let dropped = self.base.regex().filter(|old| {
            let last = group.index.regexes.get(*old) == Some(&1);
            last && self.member.regex() != Some(*old)
        });
        let dropped = dropped.and_then(|regex| group.resolved.get(regex));
        let dropped = dropped
            .map(|value| value.topics.as_slice())
            .unwrap_or_default();
        let counted = group.index.topics.iter().filter(|(name, readers)| {
            let leaves = group.has_member(&self.base.id) || self.replaced.is_some();
            let names = leaves && self.base.names.contains(*name);
            readers.members > usize::from(names)
                || readers.regexes > usize::from(dropped.binary_search(name).is_ok())
        });
        let mut names: BTreeSet<&str> = counted.map(|(name, _)| name.as_str()).collect();
        names.extend(self.member.names.iter().map(String::as_str));
        names
    }
}
