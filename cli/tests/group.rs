//! `ottla group` and `ottla topic trim` against a real broker, with a member that speaks the
//! protocol from here.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Output;

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    FindCoordinatorRequest, GroupId, JoinGroupRequest, OffsetCommitRequest, Request, Response,
    StrBytes, SyncGroupRequest, TopicName, decode_response, encode_request,
};
use serde_json::Value;

#[path = "running/mod.rs"]
mod running;

use running::Broker;

const SUBSCRIPTION: &[u8] = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\0";
/// Partition 0 of orders.
const ASSIGNMENT: &[u8] = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\0\0\0\0\0";

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A connection that asks one thing after the other.
struct Client(TcpStream);

impl Client {
    fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Response,
    {
        let frame = encode_request(1, "member-of-a-test", version, request).unwrap();
        self.0.write_all(&frame).unwrap();
        let mut length = [0; 4];
        self.0.read_exact(&mut length).unwrap();
        let mut body = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut body).unwrap();
        decode_response(Bytes::from(body), version).unwrap().1
    }

    /// Joins `group` alone, and reads partition 0 of orders.
    fn join(broker: &Broker, group: &str) -> (Client, StrBytes, i32) {
        let mut client = Client(TcpStream::connect(&broker.address).unwrap());
        loop {
            let request = FindCoordinatorRequest::default().with_key(text(group));
            if client.call(3, &request).error_code == 0 {
                break;
            }
        }
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(SUBSCRIPTION));
        let join = JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(60_000)
            .with_rebalance_timeout_ms(60_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let told = client.call(9, &join);
        let join = join.with_member_id(told.member_id.clone());
        let joined = client.call(9, &join);
        assert_eq!(joined.error_code, 0);
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(told.member_id.clone())
            .with_assignment(Bytes::from_static(ASSIGNMENT));
        let sync = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(told.member_id.clone())
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")))
            .with_assignments(vec![assignment]);
        assert_eq!(client.call(5, &sync).error_code, 0);
        (client, told.member_id, joined.generation_id)
    }

    fn commit(&mut self, group: &str, member: &StrBytes, generation: i32, offsets: &[(i32, i64)]) {
        let partitions = offsets.iter().map(|(index, offset)| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*index)
                .with_committed_offset(*offset)
        });
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text("orders")))
            .with_partitions(partitions.collect());
        let commit = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(member.clone())
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        let told = self.call(8, &commit);
        assert_eq!(told.topics[0].partitions[0].error_code, 0);
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn done(broker: &Broker, arguments: &[&str]) -> String {
    let output = broker.ottla(arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}\n{errors}");
    out(&output)
}

fn rows(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let mut all = arguments.to_vec();
    all.extend(["-o", "json"]);
    serde_json::from_str(&done(broker, &all)).unwrap()
}

/// The exit code and what was said.
fn refused(broker: &Broker, arguments: &[&str]) -> (i32, String) {
    let output = broker.ottla(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap(), said)
}

/// A broker with two partitions of five records, and a group that has read a part of them.
fn with_group(data: &std::path::Path) -> (Broker, Client) {
    let broker = Broker::start(data);
    done(&broker, &["topic", "create", "orders", "-p", "2"]);
    for partition in ["0", "1"] {
        let produce = [
            "produce", "orders", "-p", partition, "a", "b", "c", "d", "e",
        ];
        done(&broker, &produce);
    }
    let (mut client, member, generation) = Client::join(&broker, "billing");
    client.commit("billing", &member, generation, &[(0, 2), (1, 5)]);
    (broker, client)
}

/// The answer of the HTTP listener.
fn get(broker: &Broker, path: &str) -> String {
    let mut stream = TcpStream::connect(&broker.http).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_and_http_tell_the_same_lag_as_the_command() {
    let data = tempfile::tempdir().unwrap();
    let (broker, _member) = with_group(data.path());
    let metrics = get(&broker, "/metrics");
    for line in [
        r#"commitlog_consumer_lag{group="billing",topic="orders",partition="0"} 3.0"#,
        r#"kafka_consumergroup_lag_sum{consumergroup="billing",topic="orders"} 3.0"#,
        r#"kafka_consumergroup_members{consumergroup="billing"} 1.0"#,
        r#"ottla_groups{type="classic",state="Stable"} 1.0"#,
        r#"ottla_group_unowned_partitions{group="billing"} 1.0"#,
        r#"ottla_group_rebalances_total{cause="member_joined"} 1"#,
        r#"ottla_group_offset_commits_total 2"#,
        r#"ottla_consumer_lag_seconds{group="billing",topic="orders",partition="1"} 0.0"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing in {metrics}"
        );
    }
    let answer = get(&broker, "/admin/consumer-groups/billing");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    let group: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&group["state"], &group["lag"]),
        (&"Stable".into(), &3.into())
    );
    assert_eq!(group["last_rebalance"]["cause"], "member_joined");
    assert_eq!(group["members"][0]["assignment"][0]["topic"], "orders");
    let seconds = group["offsets"][0]["lag_seconds"].as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    assert!(get(&broker, "/admin/consumer-groups/no").starts_with("HTTP/1.0 404"));
}

fn committed(broker: &Broker) -> Vec<(i64, i64)> {
    let lag = rows(broker, &["group", "lag", "billing"]);
    lag.iter()
        .map(|row| {
            let number = |key: &str| row[key].as_i64().unwrap();
            (number("partition"), number("committed"))
        })
        .collect()
}

#[test]
fn a_group_is_shown_with_its_members_and_its_lag_in_records_and_seconds() {
    let data = tempfile::tempdir().unwrap();
    let (broker, _member) = with_group(data.path());
    let listed = rows(
        &broker,
        &["group", "list", "--state", "stable", "--type", "classic"],
    );
    assert_eq!(
        (listed.len(), &listed[0]["state"]),
        (1, &Value::from("Stable"))
    );
    assert!(rows(&broker, &["group", "list", "--state", "Empty"]).is_empty());

    let lag = rows(&broker, &["group", "lag", "billing"]);
    let of = |partition: usize, key: &str| lag[partition][key].clone();
    assert_eq!(
        (of(0, "committed"), of(0, "end"), of(0, "lag")),
        (2.into(), 5.into(), 3.into())
    );
    let seconds = of(0, "lag_seconds").as_f64().unwrap();
    assert!(seconds > 0.0 && seconds < 60.0, "{seconds}");
    assert_eq!((of(1, "lag"), of(1, "lag_seconds")), (0.into(), 0.0.into()));
    assert_eq!(of(0, "client_id"), "member-of-a-test");
    assert_eq!(of(1, "member_id"), Value::Null, "nobody reads it");

    let members = rows(&broker, &["group", "members", "billing"]);
    assert_eq!(members[0]["assignment"], serde_json::json!(["orders:0"]));
    assert_eq!(members[0]["host"], "/127.0.0.1");
    let described = done(&broker, &["group", "describe", "billing"]);
    for word in [
        "Stable",
        "classic (consumer)",
        "range",
        "TOTAL LAG",
        "orders:0",
    ] {
        assert!(
            described.contains(word),
            "{word} is missing in\n{described}"
        );
    }
    let http = ["group", "describe", "billing", "--http", &broker.http];
    let last = rows(&broker, &http)[0]["last_rebalance"].clone();
    let reason = last["reason"].as_str().unwrap();
    assert!(reason.contains("joins (its reason: not given)"), "{last}");
    let (code, said) = refused(
        &broker,
        &["group", "describe", "billing", "--http", "[::1]:1"],
    );
    assert!(code == 6 && said.contains("error[E1107]"), "{said}");
    let watched = done(
        &broker,
        &["group", "lag", "bill.*", "-e", "-w=10ms", "--looks", "3"],
    );
    assert_eq!(
        watched.matches("GROUP billing  STATE Stable").count(),
        3,
        "{watched}"
    );
}

#[test]
fn a_group_with_members_is_left_alone_and_the_hint_says_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    let (broker, _member) = with_group(data.path());
    let changes: [&[&str]; 3] = [
        &["group", "seek", "billing", "--to", "start"],
        &["group", "seek", "billing", "--to", "start", "--dry-run"],
        &["group", "delete", "billing", "--yes"],
    ];
    for change in changes {
        let (code, said) = refused(&broker, change);
        assert_eq!(code, 4, "{change:?}: {said}");
        assert!(said.contains("error[E1210]") && said.contains("remove-member billing --all"));
    }
    let delete = ["group", "offset-delete", "billing", "-t", "orders", "--yes"];
    let (code, said) = refused(&broker, &delete);
    assert!(code == 4 && said.contains("error[E1211]"), "{code}: {said}");
    let (code, said) = refused(&broker, &["group", "describe", "biling"]);
    assert!(
        code == 3 && said.contains("did you mean \"billing\"?"),
        "{said}"
    );
    assert_eq!(committed(&broker), [(0, 2), (1, 5)]);

    let removed = rows(&broker, &["group", "remove-member", "billing", "--all"]);
    assert_eq!(removed[0]["status"], "REMOVED");
    assert_eq!(rows(&broker, &["group", "list"])[0]["state"], "Empty");
}

#[test]
fn offsets_move_where_they_are_told_to() {
    let data = tempfile::tempdir().unwrap();
    let (broker, _member) = with_group(data.path());
    done(&broker, &["group", "remove-member", "billing", "--all"]);
    let seek = |arguments: &[&str]| {
        let mut all = vec!["group", "seek", "billing"];
        all.extend(arguments);
        done(&broker, &all);
        committed(&broker)
    };
    assert_eq!(seek(&["--to", "start", "--dry-run"]), [(0, 2), (1, 5)]);
    assert_eq!(seek(&["--to", "start"]), [(0, 0), (1, 0)]);
    assert_eq!(seek(&["--to", "3", "-t", "orders:0"]), [(0, 3), (1, 0)]);
    assert_eq!(seek(&["--by", "1"]), [(0, 4), (1, 1)]);
    assert_eq!(seek(&["--shift-by", "-9"]), [(0, 0), (1, 0)]);
    assert_eq!(seek(&["--ago", "0s"]), [(0, 5), (1, 5)]);
    assert_eq!(seek(&["--by-duration", "1h"]), [(0, 0), (1, 0)]);
    assert_eq!(seek(&["--to", "end", "-t", "orders"]), [(0, 5), (1, 5)]);
    assert_eq!(seek(&["--to", "2020-01-01T00:00"]), [(0, 0), (1, 0)]);

    let plan = [
        "group",
        "seek",
        "billing",
        "--to",
        "4",
        "--dry-run",
        "-o",
        "csv",
    ];
    let file = data.path().join("plan.csv");
    std::fs::write(&file, done(&broker, &plan)).unwrap();
    assert_eq!(committed(&broker), [(0, 0), (1, 0)]);
    let file = file.to_str().unwrap();
    assert_eq!(seek(&["--from-file", file]), [(0, 4), (1, 4)]);
    std::fs::write(file, "orders,1,2\n").unwrap();
    assert_eq!(seek(&["--from-file", file]), [(0, 4), (1, 2)]);

    let (code, _) = refused(&broker, &["group", "seek", "new", "--to", "end"]);
    assert_eq!(code, 3, "a new group needs to know which topics");
    done(
        &broker,
        &["group", "seek", "new", "--to", "end", "-t", "orders"],
    );
    assert_eq!(rows(&broker, &["group", "lag", "new"]).len(), 2);
}

#[test]
fn offsets_and_groups_are_deleted() {
    let data = tempfile::tempdir().unwrap();
    let (broker, _member) = with_group(data.path());
    done(&broker, &["group", "remove-member", "billing", "--all"]);
    let (code, said) = refused(&broker, &["group", "delete", "billing"]);
    assert!(
        code == 2 && said.contains("--yes"),
        "without a terminal nothing is deleted"
    );
    done(
        &broker,
        &[
            "group",
            "delete-offsets",
            "billing",
            "-t",
            "orders:1",
            "--dry-run",
        ],
    );
    assert_eq!(committed(&broker), [(0, 2), (1, 5)]);
    done(
        &broker,
        &[
            "group",
            "delete-offsets",
            "billing",
            "-t",
            "orders:1",
            "--yes",
        ],
    );
    assert_eq!(committed(&broker), [(0, 2)]);
    done(&broker, &["group", "delete", "billing", "--dry-run"]);
    done(&broker, &["group", "rm", "bil+ing", "-e", "-y"]);
    assert!(rows(&broker, &["group", "list"]).is_empty());
    assert_eq!(refused(&broker, &["group", "delete", "billing", "-y"]).0, 3);
}

#[test]
fn trimmed_records_stay_gone_when_the_broker_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let starts = |broker: &Broker| {
        let described = rows(broker, &["topic", "describe", "orders"]);
        let starts = described
            .iter()
            .map(|row| row["start_offset"].as_i64().unwrap());
        starts.collect::<Vec<_>>()
    };
    let (mut broker, _member) = with_group(data.path());
    done(
        &broker,
        &["topic", "trim", "orders:0", "--before", "3", "--dry-run"],
    );
    assert_eq!(starts(&broker), [0, 0]);
    let trimmed = rows(
        &broker,
        &["topic", "trim", "orders:0", "--before", "3", "--yes"],
    );
    assert_eq!(
        (trimmed.len(), &trimmed[0]["new_start_offset"]),
        (1, &Value::from(3))
    );
    let (code, said) = refused(
        &broker,
        &["topic", "trim", "orders:0", "--before", "9", "-y"],
    );
    assert!(code == 1 && said.contains("OFFSET_OUT_OF_RANGE"), "{said}");
    broker.process.kill().unwrap();
    broker.process.wait().unwrap();

    let broker = Broker::start(data.path());
    assert_eq!(starts(&broker), [3, 0]);
    done(
        &broker,
        &[
            "topic",
            "delete-records",
            "orders",
            "--before",
            "end",
            "--yes",
        ],
    );
    assert_eq!(starts(&broker), [5, 5]);
    let read = done(&broker, &["consume", "orders", "-e"]);
    assert!(read.is_empty(), "{read}");
}
