//! A whole broker in this process, over real sockets and a real directory: start, produce, fetch,
//! crash, start again; and every way in which a start must be refused.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ottla_broker::broker::Broker;
use ottla_broker::config::Config;
use ottla_broker::net::BindError;
use ottla_broker::start::{Running, StartError, Storage};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::{
    ApiVersionsRequest, BrokerId, FetchRequest, MetadataRequest, encode_request,
};
use ottla_storage::disk::LockError;
use ottla_storage::layout::LayoutError;

#[path = "support/client.rs"]
mod client;

use client::{Client, topic_name};

fn config(dir: &Path, listener: &str) -> Config {
    config_of(dir, &[("node.id", "1"), ("listeners", listener)])
}

fn config_of(dir: &Path, pairs: &[(&str, &str)]) -> Config {
    let mut all = vec![
        ("log.dirs", dir.to_str().unwrap()),
        ("ottla.http.listeners", ""),
    ];
    all.extend_from_slice(pairs);
    Config::from_pairs(all).unwrap()
}
fn start(dir: &Path) -> Running {
    Broker::start(config(dir, "PLAINTEXT://127.0.0.1:0"), Storage::Disk, None).unwrap()
}

fn refused(config: Config) -> StartError {
    match Broker::start(config, Storage::Disk, None) {
        Ok(_) => panic!("the broker started"),
        Err(error) => error,
    }
}

fn values(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| format!("value-{n}")).collect()
}

#[test]
fn acknowledged_records_survive_a_broker_that_is_dropped_without_closing() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..4 {
        let running = start(dir.path());
        let mut client = Client::connect(&running);
        if round == 0 {
            client.create_topic("events", 3);
        }
        assert_eq!(client.read_all("events", 1), expected, "round {round}");
        for _ in 0..5 {
            let batch = values(expected.len(), 10);
            assert_eq!(client.produce("events", 1, &batch), expected.len() as i64);
            expected.extend(batch);
        }
        assert_eq!(client.read_all("events", 1), expected);
        drop(running);
    }
}

#[test]
fn a_clean_stop_leaves_nothing_to_check_and_a_new_leader_epoch_begins() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut client = Client::connect(&running);
    client.create_topic("t", 1);
    client.produce("t", 0, &values(0, 100));
    running.stop().unwrap();
    assert!(dir.path().join(".kafka_cleanshutdown").exists());
    let running = start(dir.path());
    assert!(!dir.path().join(".kafka_cleanshutdown").exists());
    let mut client = Client::connect(&running);
    assert_eq!(client.read_all("t", 0).len(), 100);
    let request = MetadataRequest::default().with_topics(None);
    let metadata = client.call(12, &request);
    let epoch = metadata.topics[0].partitions[0].leader_epoch;
    assert!(epoch >= 1, "{epoch}");
    running.stop().unwrap();
}

#[test]
fn a_broker_in_memory_serves_and_forgets() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("unused"), "PLAINTEXT://127.0.0.1:0");
    let running = Broker::start(config, Storage::Memory, None).unwrap();
    let mut client = Client::connect(&running);
    client.create_topic("t", 1);
    client.produce("t", 0, &values(0, 7));
    assert_eq!(client.read_all("t", 0), values(0, 7));
    running.stop().unwrap();
    assert!(!dir.path().join("unused").exists());
}

#[test]
fn a_fetch_waits_for_records_and_is_woken_by_them() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut client = Client::connect(&running);
    client.create_topic("t", 1);
    let address = running.kafka_addresses()[0].1;
    let reader = std::thread::spawn(move || {
        let mut client = Client::connect_to(address);
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(15_000)
            .with_min_bytes(1)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        let response = client.call(11, &request);
        response.responses[0].partitions[0]
            .records
            .clone()
            .unwrap()
            .len()
    });
    std::thread::sleep(Duration::from_millis(200));
    let began = Instant::now();
    client.produce("t", 0, &values(0, 1));
    assert!(reader.join().unwrap() > 0);
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn garbage_ends_its_own_connection_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut good = Client::connect(&running);
    let hostile: [&[u8]; 6] = [
        &[0xff; 64],
        &[0, 0, 0, 0],
        &[0x7f, 0xff, 0xff, 0xff, 1, 2, 3],
        &[0, 0, 0, 8, 0x03, 0xe7, 0, 0, 0, 0, 0, 1],
        &[0, 0, 0, 3, 0, 3, 0],
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in hostile {
        let mut bad = Client::connect(&running);
        bad.stream.write_all(bytes).unwrap();
        assert!(bad.is_closed(), "{bytes:?}");
    }
    let versions = good.call(0, &ApiVersionsRequest::default());
    assert!(versions.api_keys.len() > 20);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let listener = format!("PLAINTEXT://{}", taken.local_addr().unwrap());
    let error = refused(config(dir.path(), &listener));
    assert!(
        matches!(error, StartError::Bind(BindError::InUse { .. })),
        "{error}"
    );
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(error.to_string().contains(&port));
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "nothing was touched"
    );
}

#[test]
fn a_directory_in_use_or_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let error = refused(config(dir.path(), "PLAINTEXT://127.0.0.1:0"));
    let StartError::LogDir(error) = error else {
        panic!("{error}")
    };
    assert!(
        matches!(error.source, LayoutError::Locked(LockError::Held { .. })),
        "{error}"
    );
    running.stop().unwrap();

    let other = config_of(
        dir.path(),
        &[("node.id", "2"), ("listeners", "PLAINTEXT://:0")],
    );
    let StartError::LogDir(error) = refused(other) else {
        panic!()
    };
    assert!(
        matches!(error.source, LayoutError::OtherNode { .. }),
        "{error}"
    );
}

#[test]
fn http_tells_of_readiness_and_counts_what_was_produced() {
    let dir = tempfile::tempdir().unwrap();
    let config = config_of(
        dir.path(),
        &[
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("ottla.http.listeners", "http://127.0.0.1:0"),
        ],
    );
    let running = Broker::start(config, Storage::Disk, None).unwrap();
    let mut client = Client::connect(&running);
    client.create_topic("t", 1);
    client.produce("t", 0, &values(0, 42));
    let address = running.http_addresses()[0];
    assert!(http_get(address, "/ready").starts_with("HTTP/1.1 200"));
    let metrics = http_get(address, "/metrics");
    let offset = metrics.lines().find(|line| {
        line.starts_with("kafka_topic_partition_current_offset")
            && line.contains("topic=\"t\"")
            && line.ends_with(" 42.0")
    });
    assert!(offset.is_some(), "{metrics}");
    running.stop().unwrap();
}

fn http_get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_full_pipeline_is_answered_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let running = start(dir.path());
    let mut client = Client::connect(&running);
    let mut frames = Vec::new();
    for correlation_id in 0..500 {
        let request = ApiVersionsRequest::default();
        frames.extend_from_slice(&encode_request(correlation_id, "x", 0, &request).unwrap());
    }
    let mut writer = client.stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&frames).unwrap());
    for expected in 0..500 {
        let frame = client.frame();
        assert_eq!(i32::from_be_bytes(frame[..4].try_into().unwrap()), expected);
    }
    sender.join().unwrap();
}
