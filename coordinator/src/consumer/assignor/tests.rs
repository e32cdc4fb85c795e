//! The contracts of the assignors: complete, exclusive, balanced, sticky.

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn topic(number: u8) -> TopicId {
    TopicId(Uuid::from_u128(u128::from(number)))
}

fn readers<'a>(ids: &'a [String], before: &'a [Target], reads: &[usize]) -> Vec<Reader<'a>> {
    let each = ids.iter().enumerate().map(|(at, id)| Reader {
        id,
        instance_id: None,
        subscription: reads.get(at).copied().unwrap_or(0),
        before: before.get(at),
    });
    each.collect()
}

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("m{at:03}")).collect()
}

fn size(target: &Target) -> usize {
    target.values().map(BTreeSet::len).sum()
}

/// How many partitions are with the same member as before.
fn kept_of(before: &[Target], after: &[Target]) -> usize {
    let both = before.iter().zip(after).flat_map(|(before, after)| {
        before.iter().map(|(id, partitions)| {
            after
                .get(id)
                .map_or(0, |after| after.intersection(partitions).count())
        })
    });
    both.sum()
}

/// Every partition of every topic that somebody reads is with one of its readers.
fn assert_complete(targets: &[Target], subscriptions: &[Subscription], reads: &[usize]) {
    let mut owned = BTreeSet::new();
    for (at, target) in targets.iter().enumerate() {
        let reads: BTreeMap<TopicId, i32> = subscriptions[reads[at]].iter().copied().collect();
        for (id, partitions) in target {
            assert!(!partitions.is_empty());
            for partition in partitions {
                assert!((0..reads[id]).contains(partition));
                assert!(owned.insert((*id, *partition)), "two have {id}-{partition}");
            }
        }
    }
    let read: BTreeMap<TopicId, i32> = reads
        .iter()
        .flat_map(|at| subscriptions[*at].iter().copied())
        .collect();
    let all: i32 = read.values().sum();
    assert_eq!(owned.len(), usize::try_from(all).unwrap());
}

prop_compose! {
    /// Topics 0..n, subscriptions of them, and the subscription of each member.
    fn any_group()(topics in 1u8..6)(
        counts in proptest::collection::vec(1i32..12, topics as usize),
        kinds in proptest::collection::vec(
            proptest::collection::btree_set(0..topics, 0..=topics as usize), 1..4),
        members in proptest::collection::vec(0usize..100, 1..12),
        again in proptest::collection::vec(0usize..100, 1..12),
    ) -> (Vec<Subscription>, Vec<usize>, Vec<usize>) {
        let kinds: Vec<Subscription> = kinds.into_iter().map(|kind| {
            kind.into_iter().map(|at| (topic(at), counts[usize::from(at)])).collect()
        }).collect();
        let fit = |of: Vec<usize>| of.into_iter().map(|at| at % kinds.len()).collect::<Vec<_>>();
        let (members, again) = (fit(members), fit(again));
        (kinds, members, again)
    }
}

proptest! {
    #[test]
    fn everything_is_assigned_once_and_nothing_moves_without_need(
        (kinds, members, again) in any_group(), range in any::<bool>(),
    ) {
        let assignor = if range { Assignor::Range } else { Assignor::Uniform };
        let names = ids(12);
        let first = assignor.assign(&readers(&names[..members.len()], &[], &members), &kinds);
        assert_complete(&first, &kinds, &members);
        let same = assignor.assign(&readers(&names[..members.len()], &first, &members), &kinds);
        prop_assert_eq!(&same, &first);
        let next = assignor.assign(&readers(&names[..again.len()], &first, &again), &kinds);
        assert_complete(&next, &kinds, &again);
    }

    #[test]
    fn members_that_read_the_same_differ_by_one_and_keep_what_they_can(
        counts in proptest::collection::vec(1i32..20, 1..5),
        before in 1usize..15,
        after in 1usize..15,
    ) {
        let reads: Vec<Subscription> = vec![
            (0u8..).zip(counts).map(|(at, count)| (topic(at), count)).collect(),
        ];
        let names = ids(15);
        let assign = |members: usize, before: &[Target]| {
            Assignor::Uniform.assign(&readers(&names[..members], before, &[]), &reads)
        };
        let first = assign(before, &[]);
        let next = assign(after, &first);
        for targets in [&first, &next] {
            let sizes: Vec<usize> = targets.iter().map(size).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
        }
        let stay: usize = first.iter().zip(&next).map(|(a, b)| size(a).min(size(b))).sum();
        prop_assert_eq!(kept_of(&first, &next), stay);
    }
}

#[test]
fn ranges_are_the_same_for_all_topics_and_static_members_come_first() {
    let names = ids(3);
    let reads = vec![vec![(topic(1), 3), (topic(2), 3)]];
    let mut members = readers(&names, &[], &[]);
    members[2].instance_id = Some("a");
    let targets = Assignor::Range.assign(&members[1..], &reads);
    let range = |from: i32, to: i32| {
        Target::from([
            (topic(1), (from..to).collect()),
            (topic(2), (from..to).collect()),
        ])
    };
    assert_eq!(targets, [range(2, 3), range(0, 2)]);
    let targets = Assignor::Range.assign(&members, &reads);
    assert_eq!(targets, [range(1, 2), range(2, 3), range(0, 1)]);
}

#[test]
fn readers_of_different_topics_are_balanced() {
    // Two read both topics, one only the second: it gets of that as many as the others of all.
    let reads = vec![vec![(topic(1), 6), (topic(2), 6)], vec![(topic(2), 6)]];
    let names = ids(3);
    let targets = Assignor::Uniform.assign(&readers(&names, &[], &[0, 0, 1]), &reads);
    let sizes: Vec<usize> = targets.iter().map(size).collect();
    assert_eq!(sizes, [4, 4, 4]);
    assert_complete(&targets, &reads, &[0, 0, 1]);
}

#[test]
fn the_assignor_that_most_members_ask_for_is_taken() {
    let limits = ConsumerLimits::default();
    let asked = |range: usize, uniform: usize| {
        let asked = [("range", range), ("uniform", uniform)];
        let asked = asked
            .into_iter()
            .map(|(name, count)| (name.to_owned(), count));
        Assignor::preferred(&asked.collect(), &limits)
    };
    assert_eq!(asked(0, 0), Assignor::Uniform);
    assert_eq!(asked(1, 0), Assignor::Range);
    assert_eq!(asked(1, 1), Assignor::Uniform);
    let by_class = ConsumerLimits {
        assignors: vec!["org.apache.kafka.coordinator.group.assignor.RangeAssignor".to_owned()],
        ..limits
    };
    assert_eq!(Assignor::default_of(&by_class), Assignor::Range);
}
