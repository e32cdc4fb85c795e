//! Pages of partitions: limits, cursors, unknown topics.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use ottla_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, StrBytes, TopicName,
};

use crate::handlers::testing::TestBroker;

fn name(text: &str) -> TopicName {
    TopicName(StrBytes::from_string(text.to_owned()))
}

fn ask(
    broker: &TestBroker,
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let topics = topics
        .iter()
        .map(|topic| TopicRequest::default().with_name(name(topic)));
    let cursor = cursor.map(|(topic, partition)| {
        Cursor::default()
            .with_topic_name(name(topic))
            .with_partition_index(partition)
    });
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_response_partition_limit(limit)
        .with_cursor(cursor);
    broker.call(0, request)
}

/// Topic, error code, partitions told; and the cursor.
type Told = (Vec<(String, i16, Vec<i32>)>, Option<(String, i32)>);

fn told(response: &DescribeTopicPartitionsResponse) -> Told {
    let topics = response.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| p.partition_index).collect();
        (
            topic.name.as_ref().unwrap().0.to_string(),
            topic.error_code,
            partitions,
        )
    });
    let cursor = response.next_cursor.as_ref();
    let cursor = cursor.map(|cursor| (cursor.topic_name.0.to_string(), cursor.partition_index));
    (topics.collect(), cursor)
}

fn broker() -> TestBroker {
    let broker = TestBroker::new();
    broker.create_topic("b", 2);
    broker.create_topic("a", 4);
    broker.create_topic("c", 1);
    broker
}

#[test]
fn without_limits_everything_comes_sorted_by_name() {
    let broker = broker();
    let all = |partitions: i32| (0..partitions).collect::<Vec<i32>>();
    let expected = vec![
        ("a".to_owned(), 0, all(4)),
        ("b".to_owned(), 0, all(2)),
        ("c".to_owned(), 0, all(1)),
    ];
    assert_eq!(
        told(&ask(&broker, &[], 2000, None)),
        (expected.clone(), None)
    );
    assert_eq!(
        told(&ask(&broker, &["c", "a", "b", "a"], 2000, None)),
        (expected, None)
    );
    let topic = &ask(&broker, &["a"], 2000, None).topics[0];
    assert_eq!(topic.topic_id, broker.topic_id("a"));
    assert_eq!(topic.topic_authorized_operations, 3576);
    let partition = &topic.partitions[3];
    assert_eq!(
        (
            partition.leader_id.0,
            partition.leader_epoch,
            partition.error_code
        ),
        (1, 0, 0)
    );
    assert_eq!(partition.eligible_leader_replicas, Some(Vec::new()));
}

#[test]
fn pages_follow_each_other_until_everything_was_told_once() {
    let broker = broker();
    for limit in 1..=8 {
        let mut seen = Vec::new();
        let mut cursor = None;
        let mut pages = 0;
        loop {
            let from = cursor
                .as_ref()
                .map(|(topic, partition): &(String, i32)| (topic.as_str(), *partition));
            let (topics, next) = told(&ask(&broker, &[], limit, from));
            let count: usize = topics
                .iter()
                .map(|(_, _, partitions)| partitions.len())
                .sum();
            assert!(count <= usize::try_from(limit).unwrap());
            for (topic, code, partitions) in topics {
                assert_eq!(code, 0);
                seen.extend(partitions.into_iter().map(|p| format!("{topic}{p}")));
            }
            pages += 1;
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(
            seen,
            ["a0", "a1", "a2", "a3", "b0", "b1", "c0"],
            "limit {limit}"
        );
        assert_eq!(pages, 7usize.div_ceil(usize::try_from(limit).unwrap()));
    }
}

#[test]
fn the_broker_has_a_limit_of_its_own_and_one_partition_is_always_told() {
    let broker = TestBroker::with_config(&[("max.request.partition.size.limit", "3")]);
    broker.create_topic("a", 5);
    let count = |limit| ask(&broker, &["a"], limit, None).topics[0].partitions.len();
    assert_eq!([count(2000), count(2), count(0), count(-7)], [3, 2, 1, 1]);
}

#[test]
fn topics_that_do_not_exist_have_errors_and_cost_no_partitions() {
    let broker = broker();
    let (topics, cursor) = told(&ask(&broker, &["a", "aa", "b b", "c"], 5, None));
    let codes: Vec<_> = topics
        .iter()
        .map(|(name, code, _)| (name.as_str(), *code))
        .collect();
    assert_eq!(codes, [("a", 0), ("aa", 3), ("b b", 17), ("c", 0)]);
    assert_eq!(cursor, None);
}

#[test]
fn a_cursor_that_fits_nothing_is_refused() {
    let broker = broker();
    for (topics, cursor) in [
        (&["b"][..], ("a", 0)),
        (&["a"], ("zz", 0)),
        (&["a"], ("a", -1)),
    ] {
        let (topics, next) = told(&ask(&broker, topics, 10, Some(cursor)));
        assert!(
            topics
                .iter()
                .all(|(_, code, partitions)| *code == 42 && partitions.is_empty())
        );
        assert_eq!((topics.len(), next), (1, None));
    }
    // One that points behind the topic's last partition finds nothing there and goes on.
    let (topics, _) = told(&ask(&broker, &["a", "b"], 10, Some(("a", 99))));
    assert_eq!(
        topics,
        [("a".to_owned(), 0, vec![]), ("b".to_owned(), 0, vec![0, 1])]
    );
    // The topic of the cursor may be gone by now.
    let (topics, _) = told(&ask(&broker, &[], 10, Some(("bb", 1))));
    assert_eq!(topics, [("c".to_owned(), 0, vec![0])]);
}
