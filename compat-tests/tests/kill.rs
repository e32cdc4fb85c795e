//! `kill -9` in the middle of production, again and again: nothing acknowledged is lost, nothing is
//! there twice, and the order is kept.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::rust_client::{self as client, Delivery, Producer};
use rand::{Rng as _, SeedableRng as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 20;
const PARTITIONS: i32 = 3;
const TOPIC: &str = "survivor";

/// Sends the numbers 0, 1, 2, ... round robin over the partitions until it is told to stop.
fn send_numbers(producer: &Producer, next: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let partition = (number % PARTITIONS as u64) as i32;
        producer.send_value(TOPIC, partition, number.to_string().as_bytes())?;
        if number % 50 == 49 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Everything that is in the log now: each partition dense, in order, nothing twice.
fn read_numbers(bootstrap: &str) -> Result<Vec<Vec<u64>>> {
    let mut partitions = Vec::new();
    for partition in 0..PARTITIONS {
        let mut numbers: Vec<u64> = Vec::new();
        for (expected, record) in (0..).zip(client::read_all(bootstrap, TOPIC, partition)?) {
            ensure!(
                record.offset == expected,
                "offset {} follows {expected}",
                record.offset
            );
            let value = String::from_utf8(record.value.context("a value")?)?;
            numbers.push(value.parse()?);
        }
        for pair in numbers.windows(2) {
            let step = PARTITIONS as u64;
            ensure!(
                pair[1] == pair[0] + step,
                "partition {partition}: {} after {}",
                pair[1],
                pair[0]
            );
        }
        partitions.push(numbers);
    }
    Ok(partitions)
}

/// Every acknowledged number is where the broker said it is.
fn check_acknowledged(deliveries: &[Delivery], partitions: &[Vec<u64>]) -> Result<usize> {
    for delivery in deliveries {
        let number: u64 = std::str::from_utf8(&delivery.value)?.parse()?;
        let offset = match delivery.offset {
            // A retry that the broker knew already: librdkafka does not learn the offset.
            Ok(offset) if offset < 0 => (number / PARTITIONS as u64) as i64,
            Ok(offset) => offset,
            Err(code) => anyhow::bail!("{number} was given up: {code}"),
        };
        let partition = &partitions[delivery.partition as usize];
        let found = partition.get(offset as usize);
        ensure!(
            found == Some(&number),
            "{number} at {offset} was acknowledged, found {found:?}"
        );
    }
    Ok(deliveries.len())
}

fn one_round(
    broker: Broker,
    producer: &Producer,
    next: &AtomicU64,
    run_for: Duration,
) -> Result<Settings> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_numbers(producer, next, &stop));
        let acknowledged = producer.deliveries.len();
        let deadline = Instant::now() + Duration::from_secs(60);
        // The kill must hit production: wait until this broker has acknowledged something.
        while producer.deliveries.len() == acknowledged && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        let progressed = producer.deliveries.len() > acknowledged;
        std::thread::sleep(run_for);
        let settings = broker.kill();
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender does not panic")?;
        ensure!(progressed, "nothing was acknowledged in a minute");
        settings
    })
}

#[test]
fn twenty_kills_lose_nothing_acknowledged_and_duplicate_nothing() -> Result<()> {
    kills(ROUNDS, "commit")
}

/// The kernel has what was acknowledged, whether or not the disk has it.
#[test]
fn kills_lose_nothing_acknowledged_in_classes_interval_and_memory() -> Result<()> {
    kills(ROUNDS / 4, "interval")?;
    kills(ROUNDS / 4, "memory")
}

fn kills(rounds: u32, class: &str) -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Small segments, so that kills also hit rolls.
    let settings = Settings::new(folder.path())?
        .with("log.segment.bytes", 1 << 20)
        .with("ottla.durability", class);
    let mut broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, TOPIC, PARTITIONS, &[])?;
    let producer = Producer::patient(&bootstrap)?;
    let seed = rand::rngs::StdRng::from_os_rng().random::<u64>();
    println!("seed {seed}");
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    let next = AtomicU64::new(0);
    for round in 0..rounds {
        let run_for = Duration::from_millis(rng.random_range(1..200));
        let settings = one_round(broker, &producer, &next, run_for)?;
        let started = Instant::now();
        broker = Broker::start(settings).with_context(|| format!("round {round}"))?;
        let ready = started.elapsed();
        // Taken before reading: the producer goes on by itself.
        let deliveries = producer.deliveries.all();
        let partitions = read_numbers(&bootstrap).with_context(|| format!("round {round}"))?;
        let acknowledged = check_acknowledged(&deliveries, &partitions)
            .with_context(|| format!("round {round}"))?;
        println!("{class}, round {round}: {acknowledged} acknowledged, ready again in {ready:?}");
    }
    producer.flush(Duration::from_secs(60))?;
    let partitions = read_numbers(&bootstrap)?;
    let acknowledged = check_acknowledged(&producer.deliveries.all(), &partitions)?;
    let stored: usize = partitions.iter().map(Vec::len).sum();
    ensure!(
        stored == acknowledged,
        "{stored} stored, {acknowledged} acknowledged in the end"
    );
    ensure!(
        stored as u64 == next.load(Ordering::Relaxed),
        "not everything sent has arrived"
    );
    broker.stop()?;
    Ok(())
}
