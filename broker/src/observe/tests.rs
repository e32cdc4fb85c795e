//! What a look at the groups tells, and how much of it.
#![allow(clippy::unwrap_used)]

use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, StrBytes, TopicName,
};

use super::{groups, report};
use crate::handlers::testing::TestBroker;
use crate::metrics::GroupBounds;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Sets what a group without members has committed for both partitions of "a".
fn commit(broker: &TestBroker, group: &str, offsets: [i64; 2]) {
    let partitions = (0..).zip(offsets).map(|(index, offset)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
    });
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("a")))
        .with_partitions(partitions.collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let response = broker.call(8, request);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
}

/// Three groups; the records of partition 0 were written in 1970.
fn broker() -> TestBroker {
    let broker = TestBroker::new();
    broker.create_topic("a", 2);
    broker.call(3, FindCoordinatorRequest::default().with_key(text("g")));
    for _ in 0..4 {
        broker.append("a", 0, &[b"x", b"y"]);
    }
    broker.sync("a", 0);
    for group in ["g0", "g1", "g2"] {
        commit(&broker, group, [3, 0]);
    }
    broker
}

#[test]
fn groups_beyond_the_bound_are_counted_and_left_out() {
    let broker = broker();
    let look = |groups, offsets| groups::sample(&broker.broker, GroupBounds { groups, offsets });
    let all = look(9, 99);
    assert_eq!((all.shown.len(), all.left_out, all.in_detail), (3, 0, true));
    assert_eq!(all.by_state[&("classic", "Empty")], 3);
    let offsets: Vec<_> = all.shown[1]
        .offsets
        .iter()
        .map(|o| (o.committed, o.lag))
        .collect();
    assert_eq!(offsets, [(3, Some(5)), (0, Some(0))]);
    let seconds = all.shown[1].offsets[0].lag_seconds.unwrap();
    assert!(seconds > 1e9, "{seconds}");
    let some = look(2, 3);
    assert_eq!(
        (some.shown.len(), some.left_out, some.in_detail),
        (2, 1, false)
    );
    assert_eq!(
        some.shown[0].offsets[0].lag_seconds, None,
        "nobody is shown it"
    );
    assert_eq!(broker.broker.metrics.snapshot().groups.commits, 6);
}

#[test]
fn a_report_has_the_age_of_the_first_unread_record() {
    let broker = broker();
    let report = report::report(&broker.broker, "g0").unwrap().unwrap();
    assert_eq!(
        (report.state, report.kind, report.lag),
        ("Empty", "classic", 5)
    );
    let now_seconds = broker.broker.clock.wall_ms() as f64 / 1000.0;
    let seconds = report.offsets[0].lag_seconds.unwrap();
    assert!((now_seconds - seconds).abs() < 60.0, "{seconds}");
    assert_eq!(report.offsets[1].lag_seconds, Some(0.0));
    assert!(report.last_rebalance.is_none());
    assert!(report::report(&broker.broker, "none").unwrap().is_none());
}
