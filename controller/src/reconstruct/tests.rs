//! Differences of images: in words, and complete.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::command::*;
use crate::decide::tests::laws::any_command;
use crate::decide::tests::{Cluster, create, registration, topic};

#[test]
fn differences_read_as_what_happened() {
    let mut cluster = Cluster::with_brokers(1);
    cluster.run(&create(vec![topic("old"), topic("kept")]));
    let before = cluster.image.clone();
    cluster.run(&Command::RegisterBroker(registration(1, 2)));
    cluster.run(&Command::DeleteTopics {
        topics: vec![TopicRef::Name(Arc::from("old"))],
    });
    let mut new = topic("new");
    new.partitions = 1;
    new.configs
        .insert(Arc::from("retention.ms"), Arc::from("5"));
    cluster.run(&create(vec![new]));
    let broker_epoch = cluster.image.brokers.get(BrokerId(1)).unwrap().epoch;
    cluster.run(&Command::AllocateProducerIds {
        broker_id: BrokerId(1),
        broker_epoch,
    });
    cluster.run(&Command::RegisterBroker(registration(2, 1)));

    let old = before.topics.by_name("old").unwrap().id;
    let new = cluster.image.topics.by_name("new").unwrap().id;
    let same = "replicas 1 isr 1 partition epoch";
    let mut lines: Vec<String> = diff(&before, &cluster.image)
        .iter()
        .map(Difference::to_string)
        .collect();
    let mut expected = vec![
        "broker 1: epoch 3 -> 5".to_owned(),
        "broker 2: registered, epoch 9".to_owned(),
        format!("topic old: deleted ({old})"),
        format!("topic new: created ({new})"),
        format!("partition new-0: new, [leader 1 epoch 0 {same} 0]"),
        format!("partition kept-0: [leader 1 epoch 0 {same} 0] -> [leader 1 epoch 1 {same} 1]"),
        format!("partition kept-1: [leader 1 epoch 0 {same} 0] -> [leader 1 epoch 1 {same} 1]"),
        "topic new, retention.ms: not set -> '5'".to_owned(),
        "next producer id: 0 -> 1000".to_owned(),
    ];
    // Topics come in the order of their ids, which are drawn.
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

proptest! {
    #[test]
    fn images_differ_exactly_if_a_difference_is_found(
        earlier in vec(any_command(), 0..20),
        later in vec(any_command(), 0..4),
    ) {
        let mut cluster = Cluster::with_brokers(2);
        earlier.iter().for_each(|command| drop(cluster.run(command)));
        let before = cluster.image.clone();
        later.iter().for_each(|command| drop(cluster.run(command)));
        let same = before.snapshot() == cluster.image.snapshot();
        prop_assert_eq!(diff(&before, &cluster.image).is_empty(), same);
        prop_assert_eq!(diff(&cluster.image, &before).is_empty(), same);
        prop_assert_eq!(diff(&before, &before), vec![]);
    }

    #[test]
    fn entries_replayed_up_to_a_position_make_the_image_of_that_position(
        commands in vec(any_command(), 1..20),
    ) {
        let mut cluster = Cluster::new();
        let start = cluster.image.clone();
        let mut entries = Vec::new();
        let mut images = Vec::new();
        for command in &commands {
            let (records, _) = cluster.run(command);
            if !records.is_empty() {
                let position = cluster.image.applied;
                entries.push(HistoryEntry { position, term: 0, proposed_at_ms: None, records });
                images.push(cluster.image.clone());
            }
        }
        for (count, image) in images.iter().enumerate() {
            prop_assert_eq!(&replay(&start, &entries[..=count]), image);
        }
    }
}
