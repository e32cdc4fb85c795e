//! Members read different topics: everybody keeps what they have, what is free goes to the reader
//! of the topic that has least, and then partitions move from those that have most to those that
//! have least, topic by topic, until nothing gets better.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::types::TopicId;

use super::{Reader, Subscription, free, kept, target_of};
use crate::consumer::assignment::Target;

/// Where readers overlap in complicated ways, balancing topic by topic comes only closer and
/// closer: each round about halves what is missing.
const ROUNDS_MAX: usize = 16;

struct Topic {
    id: TopicId,
    partitions: i32,
    /// Which of the readers read it.
    readers: Vec<usize>,
}

struct Shares {
    loads: Vec<usize>,
    /// What each reader has of each topic.
    owned: BTreeMap<TopicId, BTreeMap<usize, BTreeSet<i32>>>,
}

impl Shares {
    fn load(&self, reader: usize) -> usize {
        self.loads.get(reader).copied().unwrap_or(0)
    }

    fn give(&mut self, topic_id: TopicId, partition: i32, reader: usize) {
        let of_topic = self.owned.entry(topic_id).or_default();
        of_topic.entry(reader).or_default().insert(partition);
        if let Some(load) = self.loads.get_mut(reader) {
            *load += 1;
        }
    }

    /// The last one that the reader has of the topic.
    fn take(&mut self, topic_id: TopicId, reader: usize) -> Option<i32> {
        let of_reader = self.owned.get_mut(&topic_id)?.get_mut(&reader)?;
        let partition = of_reader.pop_last()?;
        if let Some(load) = self.loads.get_mut(reader) {
            *load -= 1;
        }
        Some(partition)
    }
}

pub(super) fn assign(readers: &[Reader<'_>], subscriptions: &[Subscription]) -> Vec<Target> {
    let topics = topics(readers, subscriptions);
    let mut shares = Shares {
        loads: vec![0; readers.len()],
        owned: BTreeMap::new(),
    };
    let mut taken = BTreeMap::new();
    for (at, reader) in readers.iter().enumerate() {
        let reads = subscriptions.get(reader.subscription);
        let reads = reads.map(Vec::as_slice).unwrap_or_default();
        for (topic_id, partition) in kept(reader.before, reads, &mut taken) {
            shares.give(topic_id, partition, at);
        }
    }
    for topic in &topics {
        hand_out(topic, &taken, &mut shares);
    }
    for _ in 0..ROUNDS_MAX {
        let moves: usize = topics.iter().map(|topic| balance(topic, &mut shares)).sum();
        if moves == 0 {
            break;
        }
    }
    let mut targets: Vec<Vec<(TopicId, i32)>> = vec![Vec::new(); readers.len()];
    for (topic_id, of_topic) in &shares.owned {
        for (reader, partitions) in of_topic {
            if let Some(target) = targets.get_mut(*reader) {
                target.extend(partitions.iter().map(|partition| (*topic_id, *partition)));
            }
        }
    }
    targets.into_iter().map(target_of).collect()
}

/// Those with most partitions for each reader first.
fn topics(readers: &[Reader<'_>], subscriptions: &[Subscription]) -> Vec<Topic> {
    let mut topics: BTreeMap<TopicId, Topic> = BTreeMap::new();
    for (at, reader) in readers.iter().enumerate() {
        for (id, partitions) in subscriptions.get(reader.subscription).into_iter().flatten() {
            let topic = topics.entry(*id).or_insert(Topic {
                id: *id,
                partitions: *partitions,
                readers: Vec::new(),
            });
            topic.readers.push(at);
        }
    }
    let mut topics: Vec<Topic> = topics.into_values().collect();
    let crossed = |a: &Topic, b: &Topic| i64::from(a.partitions) * b.readers.len() as i64;
    topics.sort_by(|a, b| {
        let density = crossed(b, a).cmp(&crossed(a, b));
        density
            .then(a.readers.len().cmp(&b.readers.len()))
            .then(a.id.cmp(&b.id))
    });
    topics
}

fn hand_out(topic: &Topic, taken: &BTreeMap<TopicId, BTreeSet<i32>>, shares: &mut Shares) {
    let by_load = topic
        .readers
        .iter()
        .map(|reader| (shares.load(*reader), *reader));
    let mut by_load: BTreeSet<(usize, usize)> = by_load.collect();
    let reads = [(topic.id, topic.partitions)];
    for (topic_id, partition) in free(&reads, taken) {
        let Some((load, reader)) = by_load.pop_first() else {
            return;
        };
        shares.give(topic_id, partition, reader);
        by_load.insert((load + 1, reader));
    }
}

/// Moves partitions of the topic while one of its readers has two more than another; how many.
fn balance(topic: &Topic, shares: &mut Shares) -> usize {
    let by_load = topic
        .readers
        .iter()
        .map(|reader| (shares.load(*reader), *reader));
    let mut by_load: BTreeSet<(usize, usize)> = by_load.collect();
    let spread = |by_load: &BTreeSet<(usize, usize)>| {
        let (first, last) = (by_load.first(), by_load.last());
        first
            .zip(last)
            .map_or(0, |((least, _), (most, _))| most - least)
    };
    if spread(&by_load) < 2 {
        return 0;
    }
    let has_some = |shares: &Shares, reader: usize| {
        let of_topic = shares.owned.get(&topic.id);
        let of_reader = of_topic.and_then(|of_topic| of_topic.get(&reader));
        of_reader.is_some_and(|partitions| !partitions.is_empty())
    };
    let mut givers: BTreeSet<(usize, usize)> = by_load.clone();
    givers.retain(|(_, reader)| has_some(shares, *reader));
    let mut moves = 0;
    while let (Some((most, giver)), Some((least, taker))) =
        (givers.pop_last(), by_load.first().copied())
    {
        if most < least + 2 {
            break;
        }
        let Some(partition) = shares.take(topic.id, giver) else {
            continue;
        };
        shares.give(topic.id, partition, taker);
        moves += 1;
        by_load.remove(&(most, giver));
        by_load.remove(&(least, taker));
        by_load.extend([(most - 1, giver), (least + 1, taker)]);
        givers.remove(&(least, taker));
        givers.insert((least + 1, taker));
        if has_some(shares, giver) {
            givers.insert((most - 1, giver));
        }
    }
    moves
}
