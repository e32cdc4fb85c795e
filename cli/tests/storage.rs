//! `ottla storage`, run as a user runs it, on the directory that a real broker left behind.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod running;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use running::{Broker, OTTLA};
use serde_json::Value;

fn ottla(arguments: &[&str]) -> Output {
    Command::new(OTTLA).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn produce(broker: &Broker, topic: &str, lines: &str) {
    let mut child = Command::new(OTTLA)
        .args(["produce", topic])
        .env("OTTLA_BOOTSTRAP", &broker.address)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, lines.as_bytes()).unwrap();
    drop(input);
    assert!(child.wait().unwrap().success());
}

/// Twenty batches in one partition, and a broker that is gone without a word.
fn directory(data: &Path) -> PathBuf {
    let broker = Broker::start(data);
    assert!(
        broker
            .ottla(&["topic", "create", "orders", "-p", "1"])
            .status
            .success()
    );
    for batch in 0..20 {
        produce(
            &broker,
            "orders",
            &format!("first of {batch}\nsecond of {batch}\n"),
        );
    }
    let held = ottla(&["storage", "check", data.to_str().unwrap()]);
    assert_eq!(held.status.code(), Some(4), "{held:?}");
    let text = String::from_utf8_lossy(&held.stderr).into_owned();
    assert!(
        text.contains(&format!("process {}", broker.process.id())),
        "{text}"
    );
    drop(broker);
    data.join("orders-0/00000000000000000000.log")
}

#[test]
fn a_directory_is_checked_and_shown_and_damage_has_a_place_and_an_exit_code() {
    let data = tempfile::tempdir().unwrap();
    let log = directory(data.path());
    let dir = data.path().to_str().unwrap();
    let sound = ottla(&[
        "storage", "check", dir, "--topic", "orders", "--all", "-o", "json",
    ]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let sound = json(&sound);
    assert_eq!(sound[0]["records"], 40, "{sound}");

    let file = log.to_str().unwrap();
    let batches = json(&ottla(&["storage", "dump", file, "-o", "json"]));
    let batches = batches[0]["entries"].as_array().unwrap().clone();
    assert!(batches.len() >= 20 && batches.iter().all(|batch| batch["valid"] == true));
    let records = json(&ottla(&[
        "storage",
        "dump",
        file,
        "--records",
        "-o",
        "json",
    ]));
    let records = records[0]["entries"].as_array().unwrap();
    assert_eq!(records.len(), 40);
    assert_eq!(
        (&records[3]["offset"], &records[3]["value"]),
        (&3.into(), &"second of 1".into())
    );
    let tail = [
        "storage", "dump", file, "-r", "--from", "38", "-n", "1", "-o", "ndjson",
    ];
    let tail = String::from_utf8(ottla(&tail).stdout).unwrap();
    assert!(
        tail.contains("first of 19") && tail.lines().count() == 1,
        "{tail}"
    );

    let position = batches[5]["position"].as_u64().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[position as usize + 65] ^= 0xff;
    std::fs::write(&log, bytes).unwrap();
    let damaged = ottla(&["storage", "check", dir, "-o", "json"]);
    assert_eq!(damaged.status.code(), Some(8), "{damaged:?}");
    let findings = json(&damaged);
    let finding = findings
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["severity"] == "damage");
    let finding = finding.unwrap();
    assert_eq!(finding["position"], position, "{finding}");
    assert_eq!(finding["first_offset"], batches[5]["base_offset"]);
    assert_eq!(finding["readable_after"], batches.len() - 6);
    let shown = ottla(&["storage", "dump", file, "-o", "json"]);
    assert_eq!(shown.status.code(), Some(8));
    assert_eq!(json(&shown)[0]["entries"][5]["valid"], false);
}

#[test]
fn every_file_of_a_directory_can_be_shown() {
    let data = tempfile::tempdir().unwrap();
    directory(data.path());
    let all = ottla(&[
        "storage",
        "dump",
        data.path().to_str().unwrap(),
        "-o",
        "json",
    ]);
    let all = json(&all);
    let of = |suffix: &str| {
        let files = all.as_array().unwrap().iter();
        let mut files = files.filter(|file| file["file"].as_str().unwrap().ends_with(suffix));
        files
            .next()
            .unwrap_or_else(|| panic!("no {suffix} in {all}"))["entries"]
            .clone()
    };
    assert!(of("meta.properties").to_string().contains("cluster.id"));
    assert!(of("partition.metadata").to_string().contains("topic_id"));
    assert_eq!(of("orders-0/00000000000000000000.log")[0]["base_offset"], 0);
    let missing = ottla(&["storage", "dump", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(3));
}

fn values(broker: &Broker) -> Vec<String> {
    let read = broker.ottla(&["consume", "orders", "-e", "-f", "%v\\n"]);
    assert!(read.status.success(), "{read:?}");
    let text = String::from_utf8(read.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_damaged_log_is_repaired_as_the_user_chooses_and_the_broker_serves_the_rest() {
    let data = tempfile::tempdir().unwrap();
    let log = directory(data.path());
    let dir = data.path().to_str().unwrap();
    let batches = json(&ottla(&[
        "storage",
        "dump",
        log.to_str().unwrap(),
        "-o",
        "json",
    ]));
    let position = batches[0]["entries"][5]["position"].as_u64().unwrap() as usize;
    let mut bytes = std::fs::read(&log).unwrap();
    // The length: where the next batch starts is not told any more.
    bytes[position + 9] ^= 0x55;
    std::fs::write(&log, bytes).unwrap();

    let refused = ottla(&["storage", "repair", dir]);
    assert_eq!(refused.status.code(), Some(8), "{refused:?}");
    let dry = ottla(&["storage", "repair", dir, "--skip-damaged", "--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{dry:?}");
    assert_eq!(ottla(&["storage", "check", dir]).status.code(), Some(8));
    let done = ottla(&["storage", "repair", dir, "--skip-damaged", "-o", "json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let steps = json(&done);
    let kept = steps
        .as_array()
        .unwrap()
        .iter()
        .find_map(|step| step["kept"].as_str());
    assert!(data.path().join(kept.unwrap()).is_file(), "{steps}");
    assert_eq!(ottla(&["storage", "check", dir]).status.code(), Some(0));
    let both = ottla(&["storage", "repair", dir, "--skip-damaged", "--truncate"]);
    assert_eq!(both.status.code(), Some(2));

    let broker = Broker::start(data.path());
    let values = values(&broker);
    assert_eq!(values.len(), 38, "{values:?}");
    assert!(
        values.iter().all(|value| !value.ends_with(" of 5")),
        "{values:?}"
    );
    produce(&broker, "orders", "later\n");
    assert_eq!(self::values(&broker).len(), 39);
}

#[test]
fn zeros_that_a_killed_broker_had_written_ahead_are_worth_a_note_and_no_damage() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let log = data.path().join("orders-0/00000000000000000000.log");
    let broker = Broker::start(data.path());
    let create = ["topic", "create", "orders", "-p", "1"];
    assert!(broker.ottla(&create).status.success());
    for batch in 0..20 {
        produce(
            &broker,
            "orders",
            &format!("{}{batch}\n", "x".repeat(9_000)),
        );
    }
    drop(broker);
    let zeros = || {
        let bytes = std::fs::read(&log).unwrap();
        bytes.iter().rev().take_while(|byte| **byte == 0).count()
    };
    assert!(zeros() > 8_000, "{}", zeros());

    let checked = ottla(&["storage", "check", dir, "-o", "json"]);
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let said = json(&checked);
    let note = said.as_array().unwrap().iter();
    let mut note = note.filter(|f| f["what"].to_string().contains("zeros behind the records"));
    let note = note.next().unwrap_or_else(|| panic!("{said}"));
    assert_eq!(note["severity"], "note", "{said}");
    let all = json(&ottla(&["storage", "check", dir, "--all", "-o", "json"]));
    let orders = all.as_array().unwrap().iter();
    let mut orders = orders.filter(|partition| partition["partition"] == "orders-0");
    assert_eq!(orders.next().unwrap()["bytes"], note["position"], "{all}");
    let shown = ottla(&["storage", "dump", log.to_str().unwrap(), "-o", "json"]);
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    let batches = json(&shown)[0]["entries"].as_array().unwrap().clone();
    assert!(batches.len() == 20 && batches.iter().all(|batch| batch["valid"] == true));
    let repaired = ottla(&["storage", "repair", dir]);
    assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");

    let broker = Broker::start(data.path());
    assert_eq!(values(&broker).len(), 20);
    produce(&broker, "orders", "later\n");
    assert_eq!(values(&broker).len(), 21);
}

#[test]
fn only_a_directory_of_kafka_is_adopted() {
    let data = tempfile::tempdir().unwrap();
    directory(data.path());
    let ours = ottla(&["storage", "adopt", data.path().to_str().unwrap()]);
    assert_eq!(ours.status.code(), Some(4), "{ours:?}");
    let empty = tempfile::tempdir().unwrap();
    let nobodys = ottla(&["storage", "adopt", empty.path().to_str().unwrap()]);
    assert_eq!(nobodys.status.code(), Some(3), "{nobodys:?}");
    let identity = "version=1\ncluster.id=c\nnode.id=1\ndirectory.id=AAAAAAAAQAAAAAAAAAAAAQ\n";
    std::fs::write(empty.path().join("meta.properties"), identity).unwrap();
    let without = ottla(&["storage", "adopt", empty.path().to_str().unwrap()]);
    assert_eq!(without.status.code(), Some(3), "{without:?}");
    let said = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(said.contains("has no __cluster_metadata-0"), "{said}");
}

#[test]
fn the_metadata_of_a_directory_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    directory(folder.path());
    let data = folder.path();
    let dir = data.to_str().unwrap();
    let sound = ottla(&["storage", "check", dir]);
    assert!(sound.status.success(), "{sound:?}");
    let metadata = data.join("ottla-metadata");
    let state = metadata.join("hard-state");
    let mut bytes = std::fs::read(&state).unwrap();
    bytes[7] ^= 0xff;
    std::fs::write(&state, bytes).unwrap();
    let checked = ottla(&["storage", "check", dir, "-o", "json"]);
    assert_eq!(checked.status.code(), Some(8), "{checked:?}");
    let found = json(&checked);
    let of_metadata: Vec<_> = found
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["file"] == "ottla-metadata")
        .collect();
    assert_eq!(of_metadata.len(), 1, "{found}");
    assert_eq!(of_metadata[0]["severity"], "damage");
    let what = of_metadata[0]["what"].as_str().unwrap();
    assert!(what.contains("hard-state is damaged"), "{what}");
    // Who asks for a topic is told about that topic.
    let one = ottla(&["storage", "check", dir, "-t", "orders"]);
    assert!(one.status.success(), "{one:?}");
}
