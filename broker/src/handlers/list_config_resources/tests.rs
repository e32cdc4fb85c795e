//! What can be configured, by type.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::ListConfigResourcesRequest;

use crate::handlers::testing::TestBroker;

fn ask(broker: &TestBroker, version: i16, types: &[i8]) -> (i16, Vec<(String, i8)>) {
    let request = ListConfigResourcesRequest::default().with_resource_types(types.to_vec());
    let response = broker.call(version, request);
    let listed = response.config_resources.iter();
    let kind = |kind: i8| if version == 0 { 16 } else { kind };
    let listed = listed.map(|r| (r.resource_name.to_string(), kind(r.resource_type)));
    (response.error_code, listed.collect())
}

#[test]
fn every_topic_broker_and_configured_group_is_listed() {
    let broker = TestBroker::new();
    broker.create_topic("b", 1);
    broker.create_topic("a", 1);
    broker.set_config(32, "grp", "consumer.session.timeout.ms", "50000");
    let row = |name: &str, kind: i8| (name.to_owned(), kind);
    let (topics, group) = ([row("a", 2), row("b", 2)], row("grp", 32));
    assert_eq!(ask(&broker, 1, &[2]), (0, topics.to_vec()));
    assert_eq!(
        ask(&broker, 1, &[4, 8]),
        (0, vec![row("1", 4), row("1", 8)])
    );
    assert_eq!(ask(&broker, 1, &[32, 16]), (0, vec![group.clone()]));
    let everything = [row("a", 2), row("b", 2), row("1", 4), row("1", 8), group];
    assert_eq!(ask(&broker, 1, &[]), (0, everything.to_vec()));
    assert_eq!(ask(&broker, 0, &[]), (0, vec![]));
}

#[test]
fn a_type_nobody_knows_is_an_unsupported_version() {
    let broker = TestBroker::new();
    for types in [&[99][..], &[1], &[0], &[2, -1]] {
        assert_eq!(ask(&broker, 1, types), (35, vec![]));
    }
}
