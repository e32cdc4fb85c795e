//! Scenarios with kcat, the command line tool over the oldest librdkafka in use.
//!
//! It has no admin calls, so its topics are made by the Rust client.

use super::Target;
use crate::process::{Output, is_installed, run, run_ok};
use crate::rust_client::{self as client, create_topic, delete_topic};
use crate::scenario::Scenario;
use anyhow::{Result, bail, ensure};
use std::process::Command;

pub(super) fn missing() -> Option<String> {
    (!is_installed("kcat")).then(|| "no kcat: scripts/setup --all".to_owned())
}

fn scenario_topic(target: &Target<'_>, partitions: i32) -> Result<String> {
    let topic = target.topic("kcat");
    create_topic(target.bootstrap, &topic, partitions, &[])?;
    Ok(topic)
}

pub(super) fn run_scenario(scenario: Scenario, target: &Target<'_>) -> Result<()> {
    let topic = scenario_topic(target, 3)?;
    match scenario {
        Scenario::Metadata => metadata(target, &topic),
        Scenario::ProduceConsume => produce_consume(target, &topic),
        Scenario::Codecs => codecs(target, &topic),
        Scenario::Offsets => offsets(target, &topic),
        Scenario::Idempotent => idempotent(target, &topic),
        Scenario::Large => large(target, &topic),
        Scenario::Acks => acks(target, &topic),
        Scenario::Errors => errors(target, &topic),
        Scenario::TopicAdmin | Scenario::Configs => bail!("kcat has no admin calls"),
    }?;
    delete_topic(target.bootstrap, &topic)
}

/// kcat with `arguments`, separated by spaces, then the topic.
fn kcat(target: &Target<'_>, arguments: &str, topic: &str) -> Command {
    let mut command = Command::new("kcat");
    command
        .args(["-b", target.bootstrap])
        .args(arguments.split(' '))
        .args(["-t", topic]);
    command
}

fn produce(target: &Target<'_>, arguments: &str, topic: &str, input: &str) -> Result<Output> {
    run_ok(
        &mut kcat(target, &format!("-P -p 0 {arguments}"), topic),
        input.as_bytes(),
    )
}

/// The values in partition 0 from `from` to the end, one a line.
fn consume(target: &Target<'_>, from: &str, topic: &str) -> Result<String> {
    let arguments = format!("-C -p 0 -e -q -X check.crcs=true -o {from}");
    Ok(run_ok(&mut kcat(target, &arguments, topic), b"")?.stdout)
}

fn lines(prefix: &str, count: usize) -> String {
    (0..count)
        .map(|index| format!("{prefix}-{index}\n"))
        .collect()
}

fn metadata(target: &Target<'_>, topic: &str) -> Result<()> {
    let listed = run_ok(&mut kcat(target, "-L", topic), b"")?.stdout;
    ensure!(
        listed.contains(" 1 brokers:") && listed.contains("(controller)"),
        "{listed}"
    );
    ensure!(
        listed.contains(&format!("topic \"{topic}\" with 3 partitions:")),
        "{listed}"
    );
    ensure!(listed.contains("partition 2, leader "), "{listed}");
    let everything = run_ok(&mut kcat(target, "-L -J", topic), b"")?.stdout;
    let json: serde_json::Value = serde_json::from_str(&everything)?;
    ensure!(
        json["topics"][0]["partitions"].as_array().map(Vec::len) == Some(3),
        "{json}"
    );
    Ok(())
}

fn produce_consume(target: &Target<'_>, topic: &str) -> Result<()> {
    let input = "k1:v1\nk1:second\n:no key\ntombstone:\nключ:värde ✓\n";
    produce(target, "-K: -Z -H a=1 -H a=2 -H empty=", topic, input)?;
    produce(
        target,
        "-K:",
        topic,
        &(0..2000)
            .map(|i| format!("k{i}:v{i}\n"))
            .collect::<String>(),
    )?;
    let mut read = kcat(target, "-C -p 0 -e -q -Z -o beginning", topic);
    read.args(["-f", "%o|%k|%s|%S|%h\\n"]);
    let output = run_ok(&mut read, b"")?.stdout;
    let found: Vec<&str> = output.lines().collect();
    ensure!(found.len() == 2005, "{} messages", found.len());
    let expected = [
        "0|k1|v1|2|a=1,a=2,empty=",
        "1|k1|second|6|a=1,a=2,empty=",
        "2|NULL|no key|6|a=1,a=2,empty=",
        "3|tombstone|NULL|-1|a=1,a=2,empty=",
        "4|ключ|värde ✓|10|a=1,a=2,empty=",
    ];
    for (expected, found) in expected.iter().zip(&found) {
        // kcat prints a length of 0 or -1 for null, by version, and may quote an empty header.
        let same = |a: &str, b: &str| a.split('|').take(3).eq(b.split('|').take(3));
        ensure!(same(expected, found), "expected {expected}, found {found}");
        ensure!(found.contains("a=1,a=2,empty="), "headers: {found}");
    }
    ensure!(
        found[2004].starts_with("2004|k1999|v1999|"),
        "{}",
        found[2004]
    );
    let last = consume(target, "-3", topic)?;
    ensure!(last == "v1997\nv1998\nv1999\n", "the last three: {last}");
    Ok(())
}

fn codecs(target: &Target<'_>, topic: &str) -> Result<()> {
    let mut expected = String::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let input = lines(&format!("{codec}{}", "x".repeat(500)), 200);
        produce(
            target,
            &format!("-X compression.codec={codec}"),
            topic,
            &input,
        )?;
        expected.push_str(&input);
    }
    ensure!(
        consume(target, "beginning", topic)? == expected,
        "what was read differs"
    );
    Ok(())
}

fn offsets(target: &Target<'_>, topic: &str) -> Result<()> {
    let base_ms = client::an_hour_ago_ms();
    for index in 0..10 {
        // kcat cannot set timestamps.
        let mut record = client::value_record(format!("v{index}").as_bytes());
        record.timestamp_ms = Some(base_ms + index * 1000);
        client::produce(target.bootstrap, topic, 0, &[record], &[])?;
    }
    for (timestamp_ms, expected) in [
        (-2, 0),
        (-1, 10),
        (base_ms + 4500, 5),
        (base_ms + 5000, 5),
        (base_ms + 60_000, -1),
    ] {
        let mut query = Command::new("kcat");
        query.args([
            "-b",
            target.bootstrap,
            "-Q",
            "-t",
            &format!("{topic}:0:{timestamp_ms}"),
        ]);
        let answer = run_ok(&mut query, b"")?.stdout;
        let wanted = format!("{topic} [0] offset {expected}");
        ensure!(answer.contains(&wanted), "at {timestamp_ms}: {answer}");
    }
    let from_time = consume(target, &format!("s@{}", base_ms + 7500), topic)?;
    ensure!(from_time == "v8\nv9\n", "from a timestamp: {from_time}");
    Ok(())
}

fn idempotent(target: &Target<'_>, topic: &str) -> Result<()> {
    let input = lines("i", 5000);
    let settings = "-X enable.idempotence=true -X acks=all -X batch.size=2000";
    produce(target, settings, topic, &input)?;
    ensure!(
        consume(target, "beginning", topic)? == input,
        "number or order differs"
    );
    Ok(())
}

fn large(target: &Target<'_>, topic: &str) -> Result<()> {
    let value = "0123456789".repeat(90_000);
    produce(
        target,
        "-c 3",
        topic,
        &format!("{value}\n{value}\n{value}\n"),
    )?;
    let read = consume(target, "beginning -X fetch.message.max.bytes=1000", topic)?;
    ensure!(
        read == format!("{value}\n{value}\n{value}\n"),
        "what was read differs"
    );
    Ok(())
}

fn acks(target: &Target<'_>, topic: &str) -> Result<()> {
    let mut expected = String::new();
    for level in ["0", "1", "all"] {
        let input = lines(level, 100);
        produce(target, &format!("-X acks={level}"), topic, &input)?;
        expected.push_str(&input);
        let count = expected.lines().count();
        // Without acknowledgement the next producer may overtake: wait until it is there.
        client::consume(target.bootstrap, topic, 0, 0, count)?;
    }
    ensure!(
        consume(target, "beginning", topic)? == expected,
        "what was read differs"
    );
    Ok(())
}

fn errors(target: &Target<'_>, topic: &str) -> Result<()> {
    produce(target, "-X acks=all", topic, "one\n")?;
    let arguments = "-C -p 0 -o 99 -e -X auto.offset.reset=error";
    let output = run(&mut kcat(target, arguments, topic), b"")?;
    let said = output.all();
    let out_of_range = said.contains("out of range") || said.contains("auto.offset.reset");
    ensure!(out_of_range, "reading past the end: {said}");
    let unknown = target.topic("never-made");
    let output = run(&mut kcat(target, "-C -p 0 -e", &unknown), b"")?;
    let said = output.all();
    ensure!(
        said.contains("Unknown topic or partition"),
        "an unknown topic: {said}"
    );
    Ok(())
}
