//! Consumer groups of KIP-848 from the wire to the log and back.

use ottla_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use uuid::Uuid;

use super::*;

/// A target assignment is made at once, not a second after the last.
const EAGER: (&str, &str) = ("group.consumer.assignment.interval.ms", "0");

fn broker_with(pairs: &[(&str, &str)]) -> TestBroker {
    let broker = TestBroker::with_config(&[NOW, &[EAGER], pairs].concat());
    broker.create_topic("orders", 4);
    broker.call(3, FindCoordinatorRequest::default().with_key(text("g")));
    broker
}

fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_topic_partitions(None)
}

fn joining(member: &str) -> ConsumerGroupHeartbeatRequest {
    beat(member, 0)
        .with_rebalance_timeout_ms(60_000)
        .with_topic_partitions(Some(Vec::new()))
}

fn joining_for(member: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    joining(member).with_subscribed_topic_names(Some(vec![TopicName(text(topic))]))
}

fn owning(
    request: ConsumerGroupHeartbeatRequest,
    topic_id: Uuid,
    partitions: &[i32],
) -> ConsumerGroupHeartbeatRequest {
    let owned = TopicPartitions::default()
        .with_topic_id(topic_id)
        .with_partitions(partitions.to_vec());
    request.with_topic_partitions(Some(vec![owned]))
}

type Assigned = Vec<(Uuid, Vec<i32>)>;

/// Error, epoch, and what is assigned; `None`: unchanged.
fn told(
    broker: &TestBroker,
    request: ConsumerGroupHeartbeatRequest,
) -> (i16, i32, Option<Assigned>) {
    let response = broker.call(1, request);
    let assigned = response.assignment.map(|assignment| {
        let topics = assignment.topic_partitions.into_iter();
        topics.map(|t| (t.topic_id, t.partitions)).collect()
    });
    (response.error_code, response.member_epoch, assigned)
}

fn describe(broker: &TestBroker, id: &str) -> consumer_group_describe_response::DescribedGroup {
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(id)]);
    let old = broker.call(0, request.clone());
    let mut new = broker.call(1, request);
    assert_eq!(old.groups[0].group_state, new.groups[0].group_state);
    new.groups.remove(0)
}

#[test]
fn a_member_is_assigned_commits_with_its_epoch_and_survives_the_coordinator() {
    let broker = broker_with(&[]);
    let orders = broker.topic_id("orders");
    let joined = broker.call(1, joining_for("m1", "orders"));
    assert_eq!(
        (joined.error_code, joined.heartbeat_interval_ms),
        (0, 5_000)
    );
    let epoch = joined.member_epoch;
    let assigned = joined.assignment.unwrap().topic_partitions;
    assert_eq!(
        (assigned[0].topic_id, &assigned[0].partitions[..]),
        (orders, &[0, 1, 2, 3][..])
    );
    assert_eq!(told(&broker, beat("m1", epoch)), (0, epoch, None));
    let by = |version, member: &str, epoch| {
        let request = commit(&text(member), epoch, "orders", 42);
        broker.call(version, request).topics[0].partitions[0].error_code
    };
    assert_eq!(by(9, "m1", epoch), 0);
    assert_eq!(by(9, "m1", epoch + 1), 113);
    assert_eq!(by(9, "m2", epoch), 25);
    assert_eq!(by(9, "", -1), 25, "the group has a member");
    assert_eq!(
        by(8, "m1", epoch),
        35,
        "that version knows no epochs of members"
    );
    let asked = |member: &str, epoch| {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_member_id(Some(text(member)))
            .with_member_epoch(epoch)
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        broker.call(9, request).groups[0].error_code
    };
    assert_eq!(
        (asked("m1", epoch), asked("m1", epoch + 1), asked("m2", 1)),
        (0, 113, 25)
    );
    reload(&broker);
    assert_eq!(fetched(&broker), [("orders".to_owned(), 1, 42)]);
    assert_eq!(told(&broker, beat("m1", epoch)), (0, epoch, None));
    assert_eq!(told(&broker, beat("m1", epoch + 1)).0, 110);
    assert_eq!(told(&broker, beat("m1", -1)), (0, -1, None));
    assert_eq!(&*describe(&broker, "g").group_state, "Empty");
}

#[test]
fn partitions_move_to_a_second_member_when_the_first_has_given_them_up() {
    let broker = broker_with(&[]);
    let orders = broker.topic_id("orders");
    let (_, first, _) = told(&broker, joining_for("m1", "orders"));
    let (error, second, assigned) = told(&broker, joining_for("m2", "orders"));
    assert_eq!(
        (error, assigned),
        (0, Some(vec![])),
        "everything belongs to the first"
    );
    let (_, same, kept) = told(&broker, beat("m1", first));
    let kept = kept.unwrap().remove(0).1;
    assert_eq!(
        (same, kept.len()),
        (first, 2),
        "its epoch waits for what it gives up"
    );
    let group = describe(&broker, "g");
    assert_eq!(
        (&*group.group_state, &*group.assignor_name),
        ("Reconciling", "uniform")
    );
    let (error, first, _) = told(&broker, owning(beat("m1", first), orders, &kept));
    assert_eq!((error, first), (0, second));
    let (_, _, given) = told(&broker, beat("m2", second));
    let given = given.unwrap().remove(0).1;
    let mut all = [kept, given].concat();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    let group = describe(&broker, "g");
    assert_eq!((&*group.group_state, group.members.len()), ("Stable", 2));
    assert_eq!(group.group_epoch, group.assignment_epoch);
    for member in &group.members {
        assert_eq!((member.member_type, &*member.client_id), (1, "test"));
        assert_eq!(member.assignment, member.target_assignment);
        assert_eq!(
            &*member.assignment.topic_partitions[0].topic_name.0,
            "orders"
        );
    }
}

#[test]
fn new_partitions_and_topics_reach_the_members_that_want_them() {
    let broker = broker_with(&[]);
    let (_, epoch, _) = told(&broker, joining_for("m1", "later"));
    assert_eq!(told(&broker, beat("m1", epoch)), (0, epoch, None));
    broker.create_topic("later", 2);
    let (_, epoch, assigned) = told(&broker, beat("m1", epoch));
    let later = broker.topic_id("later");
    assert_eq!(assigned, Some(vec![(later, vec![0, 1])]));
    let more = create_partitions_request::CreatePartitionsTopic::default()
        .with_name(TopicName(text("later")))
        .with_count(3)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![more])
        .with_timeout_ms(1_000);
    assert_eq!(broker.call(3, request).results[0].error_code, 0);
    let (_, _, assigned) = told(&broker, owning(beat("m1", epoch), later, &[0, 1]));
    assert_eq!(assigned, Some(vec![(later, vec![0, 1, 2])]));
}

#[test]
fn a_regular_expression_subscribes_to_what_it_matches() {
    let broker = broker_with(&[]);
    let matching = |pattern| joining("m1").with_subscribed_topic_regex(Some(text(pattern)));
    let refused = broker.call(1, matching("or("));
    assert_eq!(refused.error_code, 128);
    assert!(refused.error_message.unwrap().contains("or("));
    let (error, epoch, _) = told(&broker, matching("or.*"));
    assert_eq!(error, 0);
    // Like in Kafka, what it matches may be there with a later heartbeat only.
    told(&broker, beat("m1", epoch));
    let group = describe(&broker, "g");
    let member = &group.members[0];
    assert_eq!(member.subscribed_topic_regex.as_deref(), Some("or.*"));
    let assigned = &member.assignment.topic_partitions;
    assert_eq!(
        (&*assigned[0].topic_name.0, assigned[0].partitions.len()),
        ("orders", 4)
    );
}

#[test]
fn lists_and_descriptions_tell_the_kinds_of_groups_apart() {
    let broker = broker_with(&[]);
    told(&broker, joining_for("m1", "orders"));
    let simple = commit(&text(""), -1, "orders", 1).with_group_id(group("simple"));
    assert_eq!(broker.call(9, simple).topics[0].partitions[0].error_code, 0);
    let listed = |types: &[&str]| -> Vec<(String, String)> {
        let types = types.iter().map(|name| text(name)).collect();
        let request = ListGroupsRequest::default().with_types_filter(types);
        let groups = broker.call(5, request).groups;
        let told = |g: &list_groups_response::ListedGroup| {
            (
                g.group_id.to_string(),
                format!("{} {}", g.group_type, g.group_state),
            )
        };
        groups.iter().map(told).collect()
    };
    let consumer = ("g".to_owned(), "consumer Stable".to_owned());
    let classic = ("simple".to_owned(), "classic Empty".to_owned());
    assert_eq!(listed(&[]), [consumer.clone(), classic.clone()]);
    assert_eq!(listed(&["Consumer"]), [consumer]);
    assert_eq!(listed(&["classic"]), [classic]);
    assert!(listed(&["odd"]).is_empty());
    let describe_old = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    for version in 0..=6 {
        let old = broker.call(version, describe_old.clone()).groups.remove(0);
        let code = if version < 6 { 0 } else { 69 };
        assert_eq!((&*old.group_state, old.error_code), ("Dead", code));
        let words = (version >= 6).then_some("Group g is not a classic group.");
        assert_eq!(old.error_message.as_deref(), words);
    }
    for (id, code, words) in [
        ("simple", 69, Some("Group simple is not a consumer group.")),
        ("none", 69, Some("Group none not found.")),
        ("", 24, None),
    ] {
        let described = describe(&broker, id);
        let told = (described.error_code, described.error_message.as_deref());
        assert_eq!(told, (code, words));
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
    assert_eq!(broker.call(2, delete.clone()).results[0].error_code, 68);
    told(&broker, beat("m1", -1));
    assert_eq!(broker.call(2, delete).results[0].error_code, 0);
    assert_eq!(describe(&broker, "g").error_code, 69);
    reload(&broker);
    assert_eq!(describe(&broker, "g").error_code, 69);
}

#[test]
fn a_group_lives_by_its_own_configuration() {
    let broker = broker_with(&[]);
    broker.set_config(32, "g", "consumer.heartbeat.interval.ms", "7000");
    let joined = broker.call(1, joining_for("m1", "orders"));
    assert_eq!(joined.heartbeat_interval_ms, 7_000);
    let other = joining_for("m1", "orders").with_group_id(group("h"));
    assert_eq!(broker.call(1, other).heartbeat_interval_ms, 5_000);
}

#[test]
fn consumer_groups_are_refused_where_they_are_switched_off() {
    let refused = |broker: &TestBroker| {
        let response = broker.call(1, joining_for("m1", "orders"));
        assert_eq!((response.error_code, response.error_message), (35, None));
        assert_eq!(describe(broker, "g").error_code, 35);
    };
    let classic = [("group.coordinator.rebalance.protocols", "classic")];
    refused(&broker_with(&classic));
    let broker = broker_with(&[]);
    assert_eq!(told(&broker, joining_for("m1", "orders")).0, 0);
    let level = |level, kind| {
        let update = update_features_request::FeatureUpdateKey::default()
            .with_feature(text("group.version"))
            .with_max_version_level(level)
            .with_upgrade_type(kind);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![update]);
        broker.call(2, request).error_code
    };
    assert_eq!(level(0, 1), 95, "an upgrade does not go down");
    assert_eq!(level(0, 2), 0);
    refused(&broker);
    assert_eq!((level(2, 1), level(1, 1)), (95, 0));
    assert_eq!(told(&broker, joining_for("m1", "orders")).0, 0);
}
