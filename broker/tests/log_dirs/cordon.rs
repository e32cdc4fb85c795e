//! Cordoned directories (KIP-1066): every answer here is what Apache Kafka 4.3 gives.

use ottla_broker::config::Config;
use ottla_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use ottla_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use ottla_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use ottla_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, MetadataRequest,
};

use super::client::topic_name;
use super::*;

const COORDINATOR_NOT_AVAILABLE: i16 = 15;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_REQUEST: i16 = 42;

const BROKER: i8 = 4;

/// Sets `cordoned.log.dirs` of a broker ("" for all of them); the error code.
fn cordon(client: &mut Client, broker: &'static str, value: &str) -> i16 {
    let config = AlterableConfig::default()
        .with_name(StrBytes::from_static_str("cordoned.log.dirs"))
        .with_value(Some(StrBytes::from_string(value.to_owned())));
    let resource = AlterConfigsResource::default()
        .with_resource_type(BROKER)
        .with_resource_name(StrBytes::from_static_str(broker))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(1, &request).responses[0].error_code
}

/// The directories that are told to be cordoned.
fn cordoned(client: &mut Client) -> Vec<String> {
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let response: DescribeLogDirsResponse = client.call(5, &request);
    let dirs = response.results.iter().filter(|dir| dir.is_cordoned);
    let name = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    dirs.map(|dir| name(&dir.log_dir)).collect()
}

fn more_partitions(client: &mut Client, count: i32, assigned: usize) -> i16 {
    let assignment = || CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name("t"))
        .with_count(count)
        .with_assignments((assigned > 0).then(|| (0..assigned).map(|_| assignment()).collect()));
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    client.call(2, &request).results[0].error_code
}

fn create_assigned(client: &mut Client, name: &'static str) -> i16 {
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
        .with_assignments(vec![assignment]);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(10_000);
    client.call(5, &request).topics[0].error_code
}

fn coordinator(client: &mut Client) -> i16 {
    let request = FindCoordinatorRequest::default()
        .with_coordinator_keys(vec![StrBytes::from_static_str("g")]);
    client.call(4, &request).coordinators[0].error_code
}

#[test]
fn a_cordoned_directory_keeps_what_it_has_and_gets_nothing_more() {
    let world = World::new(&["a", "b"]);
    let running = world.start();
    let mut client = Client::connect(&running);
    client.create_topic("t", 2);
    assert_eq!(world.folders("a", "t"), ["t-0"]);
    let a = world.path("a").to_str().unwrap().to_owned();
    assert_eq!(cordon(&mut client, "1", &a), 0);
    assert_eq!(cordoned(&mut client), ["a"]);
    client.create_topic("u", 3);
    assert_eq!(told(&mut client)["b"].1, ["t-1", "u-0", "u-1", "u-2"]);
    client.produce("t", 0, &one("still written"));
    assert_eq!(client.read_all("t", 0), ["still written"]);
    assert_eq!(
        move_to(&mut client, 1, &world.path("a")),
        INVALID_REPLICA_ASSIGNMENT
    );
    assert_eq!(move_to(&mut client, 0, &world.path("b")), 0);
    wait_until_in(&mut client, "b", 0);
    // It is kept over a restart, and can be taken back.
    drop(client);
    running.stop().unwrap();
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(cordoned(&mut client), ["a"]);
    assert_eq!(cordon(&mut client, "1", ""), 0);
    assert_eq!(cordoned(&mut client), [""; 0]);
    client.create_topic("v", 1);
    assert_eq!(told(&mut client)["a"].1, ["v-0"]);
    running.stop().unwrap();
}

#[test]
fn with_all_directories_cordoned_only_who_names_the_brokers_creates_partitions() {
    let mut world = World::new(&["a", "b"]);
    world.more.push(("cordoned.log.dirs", "*".to_owned()));
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(cordoned(&mut client), ["a", "b"]);
    assert_eq!(client.try_create_topic("t", 1), INVALID_REPLICATION_FACTOR);
    assert_eq!(coordinator(&mut client), COORDINATOR_NOT_AVAILABLE);
    let named = MetadataRequest::default().with_allow_auto_topic_creation(true);
    let topic = ottla_protocol::messages::metadata_request::MetadataRequestTopic::default()
        .with_name(Some(topic_name("t")));
    let metadata = client.call(9, &named.with_topics(Some(vec![topic])));
    assert_ne!(metadata.topics[0].error_code, 0);
    assert_eq!(create_assigned(&mut client, "t"), 0);
    assert_eq!(client.try_create_topic("t", 1), TOPIC_ALREADY_EXISTS);
    assert_eq!(
        more_partitions(&mut client, 2, 0),
        INVALID_REPLICATION_FACTOR
    );
    assert_eq!(more_partitions(&mut client, 1, 0), INVALID_PARTITIONS);
    assert_eq!(more_partitions(&mut client, 2, 1), 0);
    // What is set for the broker outranks its file.
    assert_eq!(cordon(&mut client, "1", ""), 0);
    assert_eq!(more_partitions(&mut client, 3, 0), 0);
    client.create_topic("u", 1);
    running.stop().unwrap();
}

#[test]
fn only_configured_directories_can_be_cordoned() {
    let world = World::new(&["a", "b"]);
    let running = world.start();
    let mut client = Client::connect(&running);
    let a = world.path("a").to_str().unwrap().to_owned();
    for wrong in ["/nowhere", "a", &format!("*,{a}"), &format!("{a},/nowhere")] {
        assert_eq!(cordon(&mut client, "1", wrong), INVALID_REQUEST, "{wrong}");
    }
    assert_eq!(cordon(&mut client, "", "*"), INVALID_REQUEST);
    assert_eq!(cordon(&mut client, "1", &format!("{a},{a}")), 0);
    assert_eq!(cordoned(&mut client), ["a"]);
    running.stop().unwrap();
    let pairs = [
        ("log.dirs", "/a,/b"),
        ("node.id", "1"),
        ("cordoned.log.dirs", "/c"),
    ];
    let refused = Config::from_pairs(pairs).unwrap_err().to_string();
    assert!(refused.contains("cordoned.log.dirs names /c"), "{refused}");
}
