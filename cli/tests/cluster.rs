//! `ottla cluster` against a real broker.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use serde_json::Value;

#[path = "running/mod.rs"]
mod running;

use running::Broker;

fn json(broker: &Broker, arguments: &[&str]) -> Vec<Value> {
    let output = broker.ottla(&[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn log_bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap();
    let logs = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.map(|path| path.metadata().unwrap().len()).sum()
}

#[test]
fn log_directories_are_shown_with_what_is_in_them() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path());
    let made = broker.ottla(&["topic", "create", "orders", "-p", "2"]);
    assert!(made.status.success(), "{made:?}");
    let mut producer = std::process::Command::new(running::OTTLA)
        .args(["produce", "orders", "-p", "1"])
        .env("OTTLA_BOOTSTRAP", &broker.address)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(producer.stdin.as_mut().unwrap(), &[b'x'; 5_000]).unwrap();
    assert!(producer.wait_with_output().unwrap().status.success());

    let dirs = json(&broker, &["cluster", "logdirs"]);
    assert_eq!(dirs.len(), 1);
    let dir = &dirs[0];
    assert_eq!(
        (&dir["broker"], &dir["state"]),
        (&1.into(), &"online".into())
    );
    assert_eq!(dir["partitions"], 2);
    let written = log_bytes_in(&folder.path().join("orders-1"));
    assert!(written > 5_000);
    assert_eq!(dir["log_bytes"], written);
    assert!(dir["free_bytes"].as_u64().unwrap() <= dir["total_bytes"].as_u64().unwrap());

    let partitions = json(&broker, &["cluster", "logdirs", "--partitions"]);
    let told: Vec<_> = partitions
        .iter()
        .map(|one| {
            (
                one["partition"].as_i64().unwrap(),
                one["log_bytes"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(told, [(1, written), (0, 0)], "the largest first");
    assert_eq!(partitions[0]["log_dir"], dir["log_dir"]);
    assert_eq!(partitions[0]["moving_here"], false);
}

#[test]
fn a_broker_that_is_not_there_is_told_and_the_others_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Broker::start(folder.path());
    let output = broker.ottla(&["cluster", "logdirs", "--broker", "1,7", "-o", "csv"]);
    assert_eq!(output.status.code(), Some(7), "some of it worked");
    let (shown, said) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(
        shown
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("1,")),
        "{shown}"
    );
    assert!(said.contains("broker 7 is not known"), "{said}");
}
