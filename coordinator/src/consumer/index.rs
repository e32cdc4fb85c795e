//! What follows from the members of a group and its resolved regular expressions, kept up to date
//! so that a heartbeat does not look at every member.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_protocol::types::TopicId;

use super::assignment::partitions;
use super::member::Member;

/// Who reads a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Readers {
    pub(super) members: usize,
    /// Regular expressions that match it, however many members have them.
    pub(super) regexes: usize,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Instance id -> member id.
    pub(super) statics: BTreeMap<String, Arc<str>>,
    pub(super) topics: BTreeMap<String, Readers>,
    /// How many members have a regular expression.
    pub(super) regexes: BTreeMap<String, usize>,
    /// How many members ask for an assignor.
    pub(super) assignors: BTreeMap<String, usize>,
    pub(super) classic_members: usize,
    /// How many classic members can use a protocol.
    pub(super) protocols: BTreeMap<String, usize>,
    /// Who has a partition, or still has to give it back.
    pub(super) owners: BTreeMap<(TopicId, i32), Arc<str>>,
}

pub(super) fn more<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    *counts.entry(key).or_default() += 1;
}

pub(super) fn less(counts: &mut BTreeMap<String, usize>, key: &str) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Index {
    /// `old` becomes `new`; only what differs is touched.
    pub(super) fn replace(&mut self, old: Option<&Member>, new: Option<&Member>) {
        let differ = |same: fn(&Member, &Member) -> bool| match (old, new) {
            (Some(old), Some(new)) => !same(old, new),
            _ => true,
        };
        if differ(|old, new| old.names == new.names) {
            self.replace_names(old, new);
        }
        if differ(|old, new| old.regex == new.regex) {
            if let Some(regex) = old.and_then(Member::regex) {
                less(&mut self.regexes, regex);
            }
            if let Some(regex) = new.and_then(Member::regex) {
                more(&mut self.regexes, regex.to_owned());
            }
        }
        if differ(|old, new| old.assignor == new.assignor) {
            if let Some(name) = old.and_then(|member| member.assignor.as_deref()) {
                less(&mut self.assignors, name);
            }
            if let Some(name) = new.and_then(|member| member.assignor.clone()) {
                more(&mut self.assignors, name);
            }
        }
        if differ(|old, new| old.classic == new.classic) {
            self.replace_protocols(old, new);
        }
        if differ(|old, new| old.assigned == new.assigned && old.revoking == new.revoking) {
            self.replace_owned(old, new);
        }
        self.replace_static(old, new);
    }

    fn replace_names(&mut self, old: Option<&Member>, new: Option<&Member>) {
        for name in old.into_iter().flat_map(|member| &member.names) {
            self.forget_reader(name, |readers| readers.members -= 1);
        }
        for name in new.into_iter().flat_map(|member| &member.names) {
            self.topics.entry(name.clone()).or_default().members += 1;
        }
    }

    fn forget_reader(&mut self, topic: &str, forget: impl FnOnce(&mut Readers)) {
        if let Some(readers) = self.topics.get_mut(topic) {
            forget(readers);
            if *readers == Readers::default() {
                self.topics.remove(topic);
            }
        }
    }

    /// What a regular expression matches is no longer `old` but `new`.
    pub(super) fn replace_matches(&mut self, old: &[String], new: &[String]) {
        for topic in old {
            self.forget_reader(topic, |readers| readers.regexes -= 1);
        }
        for topic in new {
            self.topics.entry(topic.clone()).or_default().regexes += 1;
        }
    }

    fn replace_protocols(&mut self, old: Option<&Member>, new: Option<&Member>) {
        if let Some(classic) = old.and_then(|member| member.classic.as_ref()) {
            self.classic_members -= 1;
            for (name, _) in &classic.protocols {
                less(&mut self.protocols, name);
            }
        }
        if let Some(classic) = new.and_then(|member| member.classic.as_ref()) {
            self.classic_members += 1;
            for (name, _) in &classic.protocols {
                more(&mut self.protocols, name.clone());
            }
        }
    }

    /// A partition that somebody else has taken meanwhile stays with them.
    fn replace_owned(&mut self, old: Option<&Member>, new: Option<&Member>) {
        if let Some(old) = old {
            for partition in partitions(&old.assigned).chain(partitions(&old.revoking)) {
                if self.owners.get(&partition) == Some(&old.id) {
                    self.owners.remove(&partition);
                }
            }
        }
        if let Some(new) = new {
            for partition in partitions(&new.assigned).chain(partitions(&new.revoking)) {
                self.owners.insert(partition, Arc::clone(&new.id));
            }
        }
    }

    fn replace_static(&mut self, old: Option<&Member>, new: Option<&Member>) {
        if let Some((old, instance_id)) = old.and_then(|m| Some((m, m.instance_id.as_ref()?)))
            && self.statics.get(instance_id) == Some(&old.id)
        {
            self.statics.remove(instance_id);
        }
        if let Some((new, instance_id)) = new.and_then(|m| Some((m, m.instance_id.clone()?))) {
            self.statics.insert(instance_id, Arc::clone(&new.id));
        }
    }
}
