//! A broker with very few descriptors (`ulimit -n`), many partitions, and a crowd of connections
//! that wants them all: nothing acknowledged is lost, what is refused is refused in words that
//! clients understand, and when the crowd has left everything works, also after a start.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::usage;
use ottla_compat_tests::wire::{self, Raw};
use ottla_compat_tests::witness::assert_serves_again;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::time::Duration;

const TOPIC: &str = "t";
/// More than there are descriptors.
const PARTITIONS: i32 = 300;
const CROWD: usize = 500;
/// Kafka's error code that clients answer by trying again.
const KAFKA_STORAGE_ERROR: i16 = 56;

/// What was acknowledged: of each partition the values by their offsets.
#[derive(Default)]
struct Acknowledged(BTreeMap<i32, BTreeMap<i64, Vec<u8>>>);

impl Acknowledged {
    /// Sends a record to each partition; how many were refused.
    fn produce_everywhere(&mut self, raw: &mut Raw, what: &str) -> Result<usize> {
        let mut refused = 0;
        for partition in 0..PARTITIONS {
            let value = format!("{what} {partition}").into_bytes();
            let request = wire::produce_request(TOPIC, partition, &wire::record_batch(&[&value]));
            let body = raw.call(&request);
            let body = body.with_context(|| format!("{what}: partition {partition}"))?;
            match wire::produce_result(&body, TOPIC)? {
                (0, offset) => {
                    self.0.entry(partition).or_default().insert(offset, value);
                }
                (KAFKA_STORAGE_ERROR, _) => refused += 1,
                (code, _) => anyhow::bail!("{what}: partition {partition}: error {code}"),
            }
        }
        Ok(refused)
    }

    /// Every acknowledged record is where the broker said it is; partitions are read in turn, so
    /// that one client does not need a connection for each.
    fn check(&self, bootstrap: &str) -> Result<()> {
        for (partition, records) in self.0.iter().step_by(23) {
            let found = client::read_all(bootstrap, TOPIC, *partition)?;
            for (offset, value) in records {
                let found = found.iter().find(|record| record.offset == *offset);
                ensure!(
                    found.and_then(|record| record.value.as_ref()) == Some(value),
                    "{TOPIC}-{partition} has {found:?} at {offset}"
                );
            }
        }
        Ok(())
    }
}

fn survives(limit: u32) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut settings = Settings::new(folder.path())?;
    settings.descriptors = Some(limit);
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, TOPIC, PARTITIONS, &[])?;
    let (mut known, mut acknowledged) = (Raw::connect(&bootstrap)?, Acknowledged::default());
    let refused = acknowledged.produce_everywhere(&mut known, "alone")?;
    ensure!(refused == 0, "alone: {refused} were refused");
    let alone = usage::descriptors(broker.pid()?)?;

    let crowd: Vec<_> = (0..CROWD)
        .filter_map(|_| TcpStream::connect(&bootstrap).ok())
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    let crowded = usage::descriptors(broker.pid()?)?;
    let refused = acknowledged.produce_everywhere(&mut known, "in the crowd")?;
    println!("limit {limit}: {alone} alone, {crowded} in the crowd, {refused} refused then");
    // Idle files of logs give their descriptors.
    ensure!(refused <= PARTITIONS as usize / 10, "{refused} refused");
    broker.assert_alive()?;
    drop(crowd);

    assert_serves_again(&mut broker, TOPIC)?;
    let refused = acknowledged.produce_everywhere(&mut known, "afterwards")?;
    ensure!(refused == 0, "afterwards: {refused} were refused");
    acknowledged.check(&bootstrap)?;
    drop(known);
    let settings = broker.stop()?;
    let told = settings.log_text();
    ensure!(!told.contains("offline"), "{}", settings.log_tail());
    let broker = Broker::start(settings)?;
    acknowledged.check(broker.bootstrap())?;
    let refused =
        acknowledged.produce_everywhere(&mut Raw::connect(broker.bootstrap())?, "again")?;
    ensure!(refused == 0, "after a start: {refused} were refused");
    let broker = Broker::start(broker.kill()?)?;
    acknowledged.check(broker.bootstrap())
}

#[test]
fn with_256_descriptors_a_crowd_costs_nothing_acknowledged_and_no_partition() -> Result<()> {
    survives(256)
}

#[test]
fn with_64_descriptors_a_crowd_costs_nothing_acknowledged_and_no_partition() -> Result<()> {
    survives(64)
}
