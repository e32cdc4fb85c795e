//! The routes over real sockets on loopback.

use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::metrics::PartitionSample;

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// One request on a connection of its own.
async fn ask(server: &HttpServer, request: &str) -> Answer {
    let mut stream = TcpStream::connect(server.addresses()[0]).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    }
}

async fn get(server: &HttpServer, path: &str) -> Answer {
    ask(
        server,
        &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
    )
    .await
}

fn any_port() -> Vec<HttpListener> {
    vec![HttpListener {
        host: "127.0.0.1".into(),
        port: 0,
    }]
}

const LIMITS: Limits = Limits {
    partitions: 1000,
    groups: 1000,
};

async fn start() -> (HttpServer, Arc<HttpState>) {
    let readiness = Arc::new(Readiness::default());
    let state = Arc::new(HttpState::new(readiness, Arc::new(Metrics::new()), LIMITS));
    (
        HttpServer::start(&any_port(), state.clone()).await.unwrap(),
        state,
    )
}

fn offline_partition() -> PartitionSample {
    PartitionSample {
        topic: Arc::from("t"),
        partition: 0,
        leader: 1,
        preferred_leader: 1,
        replicas: 1,
        in_sync_replicas: 1,
        min_insync_replicas: 1,
        log: None,
        counts: crate::metrics::PartitionCounts::default(),
    }
}

#[tokio::test]
async fn readiness_follows_the_start_with_its_progress() {
    let (server, state) = start().await;
    assert_eq!(get(&server, "/live").await.status, 200);
    let before = get(&server, "/ready").await;
    assert_eq!(
        (before.status, &before.json()["phase"]),
        (503, &"starting".into())
    );

    state.readiness.enter(Phase::RecoveringLogs);
    state.readiness.logs_to_recover(3);
    state.readiness.log_recovered(4096);
    let during = get(&server, "/ready").await.json();
    assert_eq!(during["phase"], "recovering_logs");
    let recovery = &during["recovery"];
    assert_eq!(
        (&recovery["logs_total"], &recovery["logs_recovered"]),
        (&3.into(), &1.into())
    );
    assert_eq!(recovery["scanned_bytes"], 4096);

    state.readiness.enter(Phase::Ready);
    assert_eq!(get(&server, "/ready").await.status, 200);
    state.readiness.enter(Phase::Stopping);
    state.readiness.enter(Phase::Ready);
    assert_eq!(get(&server, "/ready").await.status, 503);
    assert_eq!(get(&server, "/health").await.json()["status"], "stopping");
    server.stop().await;
}

#[tokio::test]
async fn health_gives_reasons() {
    let (server, state) = start().await;
    assert_eq!(get(&server, "/health").await.status, 503);
    state.readiness.enter(Phase::Ready);
    let well = get(&server, "/health").await;
    assert_eq!((well.status, &well.json()["status"]), (200, &"ok".into()));
    state.observe_with(|| Observation {
        node_id: 1,
        partitions: vec![offline_partition()],
        ..Observation::default()
    });
    let ill = get(&server, "/health").await;
    assert_eq!(
        (ill.status, &ill.json()["status"]),
        (200, &"degraded".into())
    );
    assert!(
        ill.body.contains("1 partition(s) are offline here"),
        "{}",
        ill.body
    );
}

#[tokio::test]
async fn metrics_are_answered_before_and_after_there_is_a_broker() {
    let (server, state) = start().await;
    state.metrics.connection_opened();
    let before = get(&server, "/metrics").await;
    assert!(
        before
            .head
            .contains("content-type: application/openmetrics-text")
    );
    assert!(before.body.contains("ottla_ready 0.0"));
    assert!(before.body.contains("ottla_connections_opened_total 1"));
    assert!(before.body.contains("process_resident_memory_bytes "));
    state.observe_with(|| Observation {
        partitions: vec![offline_partition()],
        ..Observation::default()
    });
    state.readiness.enter(Phase::Ready);
    let after = get(&server, "/metrics?detail=partition").await.body;
    assert!(after.contains("ottla_ready 1.0"));
    assert!(after.contains(r#"kafka_topic_partition_leader{topic="t",partition="0"} 1.0"#));
    assert_eq!(get(&server, "/metrics?detail=everything").await.status, 400);
}

#[tokio::test]
async fn what_is_not_served_is_a_problem_in_json() {
    let (server, _) = start().await;
    let unknown = get(&server, "/nowhere").await;
    assert_eq!(
        (unknown.status, &unknown.json()["status"]),
        (404, &404.into())
    );
    assert!(
        unknown
            .head
            .contains("content-type: application/problem+json")
    );
    assert!(unknown.body.contains("/metrics"));
    let request = "POST /live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let wrong_method = ask(&server, request).await;
    assert_eq!(
        (wrong_method.status, &wrong_method.json()["status"]),
        (405, &405.into())
    );
    assert!(wrong_method.head.contains("allow: get"));
    assert_eq!(get(&server, "/").await.json()["name"], "ottla");
}

fn put_levels(body: &str) -> String {
    let length = body.len();
    format!(
        "PUT /api/v1/log-levels HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

#[tokio::test]
async fn log_levels_are_told_and_changed_all_or_nothing() {
    let (server, _) = start().await;
    let set = put_levels(r#"{"raft": "trace"}"#);
    assert_eq!(ask(&server, &set).await.json()["raft"], "TRACE");
    assert_eq!(
        get(&server, "/api/v1/log-levels").await.json()["raft"],
        "TRACE"
    );
    let half_wrong = put_levels(r#"{"raft": "debug", "typo": "debug"}"#);
    assert_eq!(ask(&server, &half_wrong).await.status, 400);
    assert_eq!(
        get(&server, "/api/v1/log-levels").await.json()["raft"],
        "TRACE"
    );
    let unset = put_levels(r#"{"raft": null}"#);
    assert_eq!(ask(&server, &unset).await.json()["raft"], "INFO");
}

#[tokio::test]
async fn malformed_and_oversized_bodies_are_refused() {
    let (server, _) = start().await;
    assert_eq!(ask(&server, &put_levels("{")).await.status, 400);
    let oversized = "PUT /api/v1/log-levels HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                     content-type: application/json\r\ncontent-length: 99999999\r\n\r\n";
    let answer = ask(&server, oversized).await;
    assert_eq!(answer.status, 413);
    assert!(answer.head.contains("problem+json"));
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (server, state) = start().await;
    let port = server.addresses()[0].port();
    let taken = [HttpListener {
        host: "127.0.0.1".into(),
        port,
    }];
    let error = HttpServer::start(&taken, state).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&format!("http://127.0.0.1:{port}")), "{text}");
    assert!(text.contains("ottla.http.listeners"), "{text}");
}

#[tokio::test]
async fn a_stop_ends_idle_connections_and_frees_the_port() {
    let (server, _) = start().await;
    let address = server.addresses()[0];
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /live HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0; 16];
    idle.read_exact(&mut first).await.unwrap();
    let started = tokio::time::Instant::now();
    server.stop().await;
    assert!(started.elapsed() < STOP_PATIENCE);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn compaction_is_accepted_for_topics_that_have_it_and_refused_with_the_reason() {
    let (server, state) = start().await;
    let compact = async |topic: &str| {
        let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let request = format!("POST /admin/topics/{topic}/compact {head}");
        ask(&server, &request).await
    };
    state.compact_with(|topic| match topic {
        "kept" => Ok(3),
        "deleted" => Err(CompactRefused::NotCompacted),
        _ => Err(CompactRefused::UnknownTopic),
    });
    assert_eq!(
        compact("kept").await.status,
        503,
        "not before the broker is ready"
    );
    state.readiness.enter(Phase::Ready);
    let accepted = compact("kept").await;
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.json()["partitions"], 3);
    let refused = compact("deleted").await;
    assert_eq!(refused.status, 409);
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("cleanup.policy"), "{detail}");
    assert_eq!(compact("nope").await.status, 404);
    assert_eq!(get(&server, "/admin/topics/kept/compact").await.status, 405);
    server.stop().await;
}
