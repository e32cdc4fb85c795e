//! Metadata as clients ask for it, at every version.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{MetadataRequest, MetadataResponse, StrBytes, TopicName};
use uuid::Uuid;

use crate::handlers::testing::TestBroker;

fn by_name(name: &str) -> MetadataRequestTopic {
    let name = TopicName(StrBytes::from_string(name.to_owned()));
    MetadataRequestTopic::default().with_name(Some(name))
}

fn by_id(id: Uuid) -> MetadataRequestTopic {
    MetadataRequestTopic::default()
        .with_name(None)
        .with_topic_id(id)
}

fn ask(
    broker: &TestBroker,
    version: i16,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> MetadataResponse {
    let request = MetadataRequest::default()
        .with_topics(topics)
        .with_allow_auto_topic_creation(version < 4);
    broker.call(version, request)
}

fn names(response: &MetadataResponse) -> Vec<(String, i16)> {
    let name = |name: &Option<TopicName>| {
        name.as_ref()
            .map_or_else(|| "-".to_owned(), |n| n.0.to_string())
    };
    response
        .topics
        .iter()
        .map(|topic| (name(&topic.name), topic.error_code))
        .collect()
}

fn all_versions() -> std::ops::RangeInclusive<i16> {
    0..=13
}

#[test]
fn null_means_all_topics_and_an_empty_list_means_none_from_version_1() {
    let broker = TestBroker::new();
    broker.create_topic("b", 2);
    broker.create_topic("a", 1);
    for version in all_versions() {
        let everything = vec![("a".to_owned(), 0), ("b".to_owned(), 0)];
        if version > 0 {
            assert_eq!(
                names(&ask(&broker, version, None)),
                everything,
                "version {version}"
            );
        }
        let of_empty = names(&ask(&broker, version, Some(Vec::new())));
        let expected = if version == 0 { everything } else { Vec::new() };
        assert_eq!(of_empty, expected, "version {version}");
    }
}

#[test]
fn brokers_and_the_cluster_are_told_in_every_answer() {
    let broker = TestBroker::new();
    for version in all_versions() {
        let response = ask(&broker, version, Some(Vec::new()));
        assert_eq!(response.brokers.len(), 1);
        let told = &response.brokers[0];
        assert_eq!(
            (told.node_id.0, &*told.host, told.port),
            (1, "127.0.0.1", 9092)
        );
        if version >= 1 {
            assert_eq!(response.controller_id.0, 1);
        }
        if version >= 2 {
            assert_eq!(
                response.cluster_id.as_deref(),
                Some(&*broker.image().cluster_id)
            );
        }
    }
}

#[test]
fn partitions_are_told_with_leader_epoch_replicas_and_isr() {
    let broker = TestBroker::new();
    broker.create_topic("a", 3);
    for version in all_versions() {
        let response = ask(&broker, version, Some(vec![by_name("a")]));
        let topic = &response.topics[0];
        assert_eq!(topic.partitions.len(), 3);
        for (index, partition) in (0..).zip(&topic.partitions) {
            assert_eq!(partition.partition_index, index);
            assert_eq!((partition.error_code, partition.leader_id.0), (0, 1));
            assert_eq!(partition.replica_nodes, [1]);
            assert_eq!(partition.isr_nodes, [1]);
            assert!(partition.offline_replicas.is_empty());
            let epoch = if version >= 7 { 0 } else { -1 };
            assert_eq!(partition.leader_epoch, epoch);
        }
        let id = broker.topic_id("a");
        assert_eq!(topic.topic_id, if version >= 10 { id } else { Uuid::nil() });
    }
}

#[test]
fn what_is_not_there_is_told_by_its_own_error() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let id = broker.topic_id("a");
    let unknown = Uuid::from_u128(7);
    let long = "x".repeat(250);
    let table = [
        (by_name("a"), ("a", 0)),
        (by_name("missing"), ("missing", 3)),
        (by_name("bad name"), ("bad name", 17)),
        (by_name(""), ("", 17)),
        (by_name(".."), ("..", 17)),
        (by_name(&long), (long.as_str(), 17)),
        (by_name("__consumer_offsets"), ("__consumer_offsets", 3)),
        (by_id(id), ("a", 0)),
        (by_id(unknown), ("-", 100)),
        (by_id(Uuid::nil()), ("-", 42)),
    ];
    for (topic, (name, code)) in table {
        let response = ask(&broker, 12, Some(vec![topic]));
        assert_eq!(names(&response), [(name.to_owned(), code)]);
        assert_eq!(response.topics[0].is_internal, name.starts_with("__"));
        let id_is_told = name == "a" || code == 100;
        assert_eq!(response.topics[0].topic_id.is_nil(), !id_is_told, "{name}");
    }
}

#[test]
fn a_topic_asked_for_twice_is_told_once_in_the_order_asked() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let asked = vec![by_name("zz"), by_name("a"), by_name("a"), by_name("zz")];
    let expected = [("zz".to_owned(), 3), ("a".to_owned(), 0)];
    assert_eq!(names(&ask(&broker, 9, Some(asked))), expected);
}

#[test]
fn topic_ids_are_refused_in_versions_10_and_11() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    let id = broker.topic_id("a");
    for version in [10, 11] {
        let response = ask(&broker, version, Some(vec![by_id(id)]));
        assert_eq!(names(&response), [(String::new(), 42)]);
        let response = ask(&broker, version, Some(vec![by_name("a")]));
        assert_eq!(names(&response), [("a".to_owned(), 0)]);
    }
}

#[test]
fn operations_are_told_only_when_asked_for() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    for version in all_versions() {
        for asked in [false, true] {
            if asked && version < 8 {
                continue;
            }
            let request = MetadataRequest::default()
                .with_topics(Some(vec![by_name("a")]))
                .with_include_topic_authorized_operations(asked)
                .with_include_cluster_authorized_operations(asked && version <= 10);
            let response = broker.call(version, request);
            let topic = if asked { 3576 } else { i32::MIN };
            assert_eq!(response.topics[0].topic_authorized_operations, topic);
            let cluster = if asked && version <= 10 {
                8096
            } else {
                i32::MIN
            };
            assert_eq!(response.cluster_authorized_operations, cluster);
        }
    }
}

#[test]
fn asking_for_a_topic_creates_it_when_client_and_broker_allow_it() {
    for (allowed_by_broker, allowed_by_client, version, created) in [
        (true, true, 13, true),
        (true, true, 4, true),
        (true, false, 13, false),
        (true, false, 4, false),
        // Before version 4 the client has no say.
        (true, true, 3, true),
        (true, true, 0, true),
        (false, true, 13, false),
        (false, true, 3, false),
    ] {
        let broker = TestBroker::with_config(&[
            (
                "auto.create.topics.enable",
                if allowed_by_broker { "true" } else { "false" },
            ),
            ("num.partitions", "4"),
        ]);
        let request = MetadataRequest::default()
            .with_topics(Some(vec![
                by_name("new"),
                by_name("bad name"),
                by_name("__consumer_offsets"),
            ]))
            .with_allow_auto_topic_creation(allowed_by_client);
        let response = broker.call(version, request);
        let code = if created { 0 } else { 3 };
        let expected = [("new", code), ("bad name", 17), ("__consumer_offsets", 3)];
        assert_eq!(
            names(&response),
            expected.map(|(name, code)| (name.to_owned(), code))
        );
        assert_eq!(
            response.topics[0].partitions.len(),
            if created { 4 } else { 0 }
        );
        assert_eq!(broker.image().topics.len(), usize::from(created));
    }
}

#[test]
fn a_topic_whose_creation_takes_too_long_is_to_be_asked_for_again() {
    let broker = TestBroker::new();
    broker.silence_controller();
    let request = MetadataRequest::default().with_topics(Some(vec![by_name("new")]));
    assert_eq!(
        names(&broker.call_until_timeout(9, request)),
        [("new".to_owned(), 5)]
    );
}

#[test]
fn a_topic_that_cannot_be_created_says_why() {
    let broker = TestBroker::with_config(&[("default.replication.factor", "3")]);
    broker.create_topic_with("a.b", 1, 1);
    let request = MetadataRequest::default().with_topics(Some(vec![
        by_name("new"),
        by_name("a_b"),
        by_name("a.b"),
    ]));
    let response = broker.call(9, request);
    let expected = [("new", 38), ("a_b", 17), ("a.b", 0)];
    assert_eq!(
        names(&response),
        expected.map(|(name, code)| (name.to_owned(), code))
    );
}

#[test]
fn a_leader_without_an_address_on_the_clients_listener_has_an_error_of_its_own() {
    let broker = TestBroker::new();
    broker.create_topic("a", 1);
    for version in all_versions() {
        let request = MetadataRequest::default().with_topics(Some(vec![by_name("a")]));
        let response = broker.call_on("OTHER", version, request);
        assert!(response.brokers.is_empty());
        let partition = &response.topics[0].partitions[0];
        assert_eq!(
            partition.error_code,
            if version >= 6 { 72 } else { 5 },
            "version {version}"
        );
        assert_eq!(partition.leader_id.0, -1);
        assert_eq!(response.topics[0].error_code, 0);
    }
}

#[test]
fn a_partition_without_a_leader_is_listed_with_an_error() {
    let broker = TestBroker::new();
    broker.create_topic("a", 2);
    broker.fence();
    let response = ask(&broker, 12, Some(vec![by_name("a")]));
    assert_eq!(response.topics[0].partitions.len(), 2);
    for partition in &response.topics[0].partitions {
        assert_eq!((partition.error_code, partition.leader_id.0), (5, -1));
        assert_eq!(partition.offline_replicas, [1]);
    }
}

#[test]
fn thousands_of_topics_with_short_names_may_be_asked_for_in_every_version() {
    let broker = TestBroker::new();
    for version in all_versions() {
        let topics = (0..20_000).map(|n| by_name(&format!("t{n:04x}")));
        let response = ask(&broker, version, Some(topics.collect()));
        assert_eq!(response.topics.len(), 20_000, "version {version}");
    }
}
