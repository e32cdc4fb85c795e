//! `ottla topic compact` against a real broker.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[path = "running/mod.rs"]
mod running;

use running::{Broker, OTTLA};

/// One that the kernel gives to nobody by itself.
fn free_port() -> u16 {
    let first = 10_000 + u16::try_from(std::process::id() % 20_000).unwrap();
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..first + 1_000).find(is_free).unwrap()
}

fn ok(broker: &Broker, arguments: &[&str]) -> String {
    let output = broker.ottla(arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn produce(broker: &Broker, topic: &str, lines: &str) {
    let mut producer = Command::new(OTTLA)
        .args(["produce", topic, "-K", ":"])
        .env("OTTLA_BOOTSTRAP", &broker.address)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = producer.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    assert!(producer.wait().unwrap().success());
}

fn consumed(broker: &Broker, topic: &str) -> String {
    ok(
        broker,
        &["consume", topic, "--exit-at-end", "-f", "%k:%v\n"],
    )
}

#[test]
fn a_topic_is_compacted_by_command_and_what_is_not_compacted_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start_with(folder.path(), free_port());
    let policy = ["-c", "cleanup.policy=compact"];
    ok(
        &broker,
        &[&["topic", "create", "kept", "-p", "1"], &policy[..]].concat(),
    );
    ok(&broker, &["topic", "create", "plain", "-p", "1"]);
    produce(&broker, "kept", "a:1\nb:1\n");
    produce(&broker, "kept", "a:2\n");
    produce(&broker, "kept", "b:2\nc:1\n");
    assert_eq!(consumed(&broker, "kept"), "a:1\nb:1\na:2\nb:2\nc:1\n");
    // Once where the broker tells its HTTP address, once where it is given.
    for more in [&[][..], &["--http", &broker.http]] {
        let asked = [&["topic", "compact", "kept", "-o", "csv"], more].concat();
        let told = ok(&broker, &asked);
        assert!(told.contains("kept,1,COMPACTION ASKED FOR"), "{told}");
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while consumed(&broker, "kept") != "a:2\nb:2\nc:1\n" {
        assert!(Instant::now() < deadline, "{}", consumed(&broker, "kept"));
        #[allow(
            clippy::disallowed_methods,
            reason = "a test waits for another process"
        )]
        std::thread::sleep(Duration::from_millis(100));
    }
    let refused = broker.ottla(&["topic", "compact", "plain"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("does not contain compact"),
        "{said}"
    );
    let missing = broker.ottla(&["topic", "compact", "nothing"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
}
