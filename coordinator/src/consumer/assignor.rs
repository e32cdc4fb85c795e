//! The assignors of the coordinator: who shall have which partition.
//!
//! Both are functions of who reads what and of the target before. Their time is linear in members
//! and partitions, but for logarithms, where all read the same.

mod mixed;
mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::types::TopicId;

use super::assignment::Target;
use crate::turn::ConsumerLimits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Assignor {
    /// As many partitions for each, and as few moves as that allows.
    Uniform,
    /// For each topic ranges of partitions, in the order of the members: the same members have
    /// the same partitions of all topics.
    Range,
}

impl Assignor {
    pub(super) fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// By its name or by the name of Kafka's class.
    fn parse(name: &str) -> Option<Assignor> {
        match name.rsplit('.').next() {
            Some("uniform" | "UniformAssignor") => Some(Assignor::Uniform),
            Some("range" | "RangeAssignor") => Some(Assignor::Range),
            _ => None,
        }
    }

    /// Those that are configured, the default first.
    pub(super) fn all(limits: &ConsumerLimits) -> impl Iterator<Item = Assignor> + '_ {
        limits
            .assignors
            .iter()
            .filter_map(|name| Assignor::parse(name))
    }

    pub(super) fn default_of(limits: &ConsumerLimits) -> Assignor {
        Assignor::all(limits).next().unwrap_or(Assignor::Uniform)
    }

    /// The one that most members ask for; the default when none does.
    pub(super) fn preferred(asked: &BTreeMap<String, usize>, limits: &ConsumerLimits) -> Assignor {
        let votes = |assignor: &Assignor| asked.get(assignor.name()).copied().unwrap_or(0);
        let mut best = Assignor::default_of(limits);
        for assignor in Assignor::all(limits) {
            if votes(&assignor) > votes(&best) {
                best = assignor;
            }
        }
        best
    }

    /// One target for each of `readers`, in their order.
    pub(super) fn assign(
        self,
        readers: &[Reader<'_>],
        subscriptions: &[Subscription],
    ) -> Vec<Target> {
        match self {
            Assignor::Uniform if subscriptions.len() <= 1 => {
                let reads = subscriptions.first().map(Vec::as_slice).unwrap_or_default();
                uniform::assign(readers, reads)
            }
            Assignor::Uniform => mixed::assign(readers, subscriptions),
            Assignor::Range => range::assign(readers, subscriptions),
        }
    }
}

/// Topics that exist and how many partitions they have, in the order of their ids.
pub(super) type Subscription = Vec<(TopicId, i32)>;

/// A member as an assignor sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    pub(super) id: &'a str,
    pub(super) instance_id: Option<&'a str>,
    /// Which of the subscriptions it has.
    pub(super) subscription: usize,
    /// What it should have until now.
    pub(super) before: Option<&'a Target>,
}

/// What of a target before is still good: topics that are read, partitions that exist, and those
/// that nobody has kept already.
fn kept(
    before: Option<&Target>,
    reads: &[(TopicId, i32)],
    taken: &mut BTreeMap<TopicId, BTreeSet<i32>>,
) -> Vec<(TopicId, i32)> {
    let mut kept = Vec::new();
    for (topic_id, partitions) in before.into_iter().flatten() {
        let Ok(at) = reads.binary_search_by_key(topic_id, |(topic_id, _)| *topic_id) else {
            continue;
        };
        let count = reads.get(at).map_or(0, |(_, count)| *count);
        let taken = taken.entry(*topic_id).or_default();
        for partition in partitions.range(0..count) {
            if taken.insert(*partition) {
                kept.push((*topic_id, *partition));
            }
        }
    }
    kept
}

/// The partitions that nobody has, in order.
fn free<'a>(
    reads: &'a [(TopicId, i32)],
    taken: &'a BTreeMap<TopicId, BTreeSet<i32>>,
) -> impl Iterator<Item = (TopicId, i32)> + 'a {
    reads.iter().flat_map(move |(topic_id, count)| {
        let taken = taken.get(topic_id);
        let is_free = move |partition: &i32| taken.is_none_or(|taken| !taken.contains(partition));
        (0..*count)
            .filter(is_free)
            .map(move |partition| (*topic_id, partition))
    })
}

fn target_of(partitions: impl IntoIterator<Item = (TopicId, i32)>) -> Target {
    let mut target = Target::new();
    for (topic_id, partition) in partitions {
        target.entry(topic_id).or_default().insert(partition);
    }
    target
}

#[cfg(test)]
mod tests;
