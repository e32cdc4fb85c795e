//! `kill -9` in the middle of rebalances and commits, again and again, with the image of the groups
//! kept, deleted or overwritten in between: no acknowledged offset is lost or moves back.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, Settings};
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{Raw, header};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: u32 = 50;
const PARTITIONS: i32 = 4;
const TOPIC: &str = "orders";
const TEAM: &str = "team";
const LONERS: usize = 4;
const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const RECORDS: usize = 20_000;

type Key = (String, i32);

/// What was promised about each offset: at least this was acknowledged, at most this was sent.
#[derive(Default)]
struct Promises {
    acknowledged: Mutex<BTreeMap<Key, i64>>,
    sent: Mutex<BTreeMap<Key, i64>>,
}

fn raise(to: &Mutex<BTreeMap<Key, i64>>, key: &Key, offset: i64) {
    let mut known = to.lock().expect("no test panics while it holds this");
    let entry = known.entry(key.clone()).or_insert(offset);
    *entry = offset.max(*entry);
}

impl Promises {
    fn acknowledged(&self) -> BTreeMap<Key, i64> {
        let known = self.acknowledged.lock();
        known.expect("no test panics while it holds this").clone()
    }

    fn total(&self) -> i64 {
        self.acknowledged().values().sum()
    }
}

/// OffsetCommit v2: a group without members, one offset.
fn commit_request(group: &str, partition: i32, offset: i64) -> Vec<u8> {
    let body = header(OFFSET_COMMIT, 2, 7).string(group).i32(-1).string("");
    let body = body.i64(-1).i32(1).string(TOPIC).i32(1).i32(partition);
    body.i64(offset).string("").framed()
}

fn commit_code(answer: &[u8]) -> Result<i16> {
    let at = 4 + 4 + 2 + TOPIC.len() + 4 + 4;
    let code = answer.get(at..at + 2).context("a short answer")?;
    Ok(i16::from_be_bytes(code.try_into()?))
}

/// OffsetFetch v1 of one partition: the offset, unless there is an error.
fn fetch(raw: &mut Raw, (group, partition): &Key) -> Result<(i16, i64)> {
    let body = header(OFFSET_FETCH, 1, 7)
        .string(group)
        .i32(1)
        .string(TOPIC);
    let answer = raw.call(&body.i32(1).i32(*partition).framed())?;
    let at = 4 + 4 + 2 + TOPIC.len() + 4 + 4;
    let offset = answer.get(at..at + 8).context("a short answer")?;
    let metadata_bytes = answer.get(at + 8..at + 10).context("a short answer")?;
    let metadata_bytes = i16::from_be_bytes(metadata_bytes.try_into()?).max(0);
    let code_at = at + 10 + usize::try_from(metadata_bytes)?;
    let code = answer.get(code_at..code_at + 2).context("a short answer")?;
    let offset = i64::from_be_bytes(offset.try_into()?);
    Ok((i16::from_be_bytes(code.try_into()?), offset))
}

/// Commits growing offsets, ten on the way at once, through every restart.
fn loner(bootstrap: &str, index: usize, promises: &Promises, stop: &AtomicBool) {
    let key = (format!("loner-{index}"), index as i32 % PARTITIONS);
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        // The connection ends with the broker.
        let _ = commit_until_it_breaks(bootstrap, &key, &mut next, promises, stop);
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn commit_until_it_breaks(
    bootstrap: &str,
    key: &Key,
    next: &mut i64,
    promises: &Promises,
    stop: &AtomicBool,
) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    raw.call(&header(FIND_COORDINATOR, 0, 7).string(&key.0).framed())?;
    while !stop.load(Ordering::Relaxed) {
        let offsets = *next..*next + 10;
        *next = offsets.end;
        raise(&promises.sent, key, offsets.end - 1);
        for offset in offsets.clone() {
            raw.send(&commit_request(&key.0, key.1, offset))?;
        }
        for offset in offsets {
            if commit_code(&raw.receive()?)? == 0 {
                raise(&promises.acknowledged, key, offset);
            }
        }
    }
    Ok(())
}

fn join(bootstrap: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = client::config(
        bootstrap,
        &[
            ("group.id", TEAM),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "200"),
            ("reconnect.backoff.ms", "10"),
            ("reconnect.backoff.max.ms", "50"),
            ("retry.backoff.ms", "10"),
            ("retry.backoff.max.ms", "50"),
        ],
    )
    .create()?;
    consumer.subscribe(&[TOPIC])?;
    Ok(consumer)
}

/// Consumes and commits after every record until its time is up.
fn work(consumer: &BaseConsumer, promises: &Promises, until: impl Fn() -> bool) -> Result<()> {
    while !until() {
        let Some(message) = consumer.poll(Duration::from_millis(20)) else {
            continue;
        };
        let Ok(message) = message else { continue };
        let key = (TEAM.to_owned(), message.partition());
        let mut offsets = TopicPartitionList::new();
        let next = message.offset() + 1;
        offsets.add_partition_offset(TOPIC, key.1, Offset::Offset(next))?;
        raise(&promises.sent, &key, next);
        if consumer.commit(&offsets, CommitMode::Sync).is_ok() {
            raise(&promises.acknowledged, &key, next);
        }
    }
    Ok(())
}

/// A member that stays, through every restart.
fn stayer(bootstrap: &str, promises: &Promises, stop: &AtomicBool) -> Result<()> {
    work(&join(bootstrap)?, promises, || stop.load(Ordering::Relaxed))
}

/// Members that come and go, so that the group is nearly always in a rebalance.
fn comers(bootstrap: &str, promises: &Promises, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let until = Instant::now() + Duration::from_millis(400);
        let done = || stop.load(Ordering::Relaxed) || Instant::now() > until;
        work(&join(bootstrap)?, promises, done)?;
    }
    Ok(())
}

/// Everything acknowledged `before` is still there, and nothing that was never sent.
fn check(bootstrap: &str, before: &BTreeMap<Key, i64>, promises: &Promises) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    for (key, acknowledged) in before {
        let deadline = Instant::now() + Duration::from_secs(20);
        let found = loop {
            match fetch(&mut raw, key)? {
                (0, offset) => break offset,
                (code, _) => ensure!(Instant::now() < deadline, "{key:?}: error {code}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let sent = promises.sent.lock().expect("no test panics");
        let sent = sent.get(key).copied().unwrap_or(-1);
        ensure!(
            (*acknowledged..=sent).contains(&found),
            "{key:?} is {found}; {acknowledged} was acknowledged, {sent} was sent last"
        );
    }
    Ok(())
}

/// What happens to the images while the broker is down.
fn harm_images(settings: &Settings, round: u32, rng: &mut StdRng) -> Result<&'static str> {
    let images = settings.data().join("ottla-images");
    match round % 3 {
        _ if !images.exists() => Ok("there was none"),
        1 => {
            std::fs::remove_dir_all(&images)?;
            Ok("deleted")
        }
        2 => {
            overwrite(&images, rng)?;
            Ok("overwritten")
        }
        _ => Ok("kept"),
    }
}

/// Garbage over a part of every file, or of one of them.
fn overwrite(images: &Path, rng: &mut StdRng) -> Result<()> {
    let files = std::fs::read_dir(images)?.collect::<std::io::Result<Vec<_>>>()?;
    let only = rng
        .random_bool(0.5)
        .then(|| rng.random_range(0..files.len()));
    for (index, file) in files.iter().enumerate() {
        let is_data = file.file_type()?.is_file() && file.file_name() != "LOCK";
        if !is_data || only.is_some_and(|only| only != index) {
            continue;
        }
        let mut content = std::fs::read(file.path())?;
        let from = rng.random_range(0..=content.len() / 2);
        let to = content.len().min(from + 200);
        rng.fill(&mut content[from..to]);
        std::fs::write(file.path(), content)?;
    }
    Ok(())
}

fn one_round(
    broker: Broker,
    promises: &Promises,
    run_for: Duration,
) -> Result<(Settings, BTreeMap<Key, i64>)> {
    // The kill must hit commits: wait until this broker has acknowledged something.
    let (before, deadline) = (promises.total(), Instant::now() + Duration::from_secs(60));
    while promises.total() == before {
        ensure!(Instant::now() < deadline, "nothing is acknowledged");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(run_for);
    let settings = broker.kill()?;
    Ok((settings, promises.acknowledged()))
}

fn rounds(mut broker: Broker, promises: &Promises) -> Result<Broker> {
    let bootstrap = broker.bootstrap().to_owned();
    let seed = StdRng::from_os_rng().random::<u64>();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        // Now and then it lives long enough for its image to follow.
        let longest_ms = if round % 4 == 0 { 1_800 } else { 200 };
        let run_for = Duration::from_millis(rng.random_range(longest_ms / 2..longest_ms));
        let (settings, acknowledged) = one_round(broker, promises, run_for)?;
        let image = harm_images(&settings, round, &mut rng)?;
        broker = Broker::start(settings).with_context(|| format!("round {round}"))?;
        check(&bootstrap, &acknowledged, promises)
            .with_context(|| format!("round {round}, image {image}"))?;
        let total = promises.total();
        println!("round {round}: the image was {image}; {total} acknowledged");
    }
    Ok(broker)
}

/// How often the broker says that it loaded groups from images.
fn starts_with_images(log: &str) -> usize {
    let lines = log
        .lines()
        .filter(|line| line.contains("loaded the groups"));
    let with_images = lines.filter(|line| {
        let after = line.split("from_images").nth(1).unwrap_or_default();
        let number = after.trim_start_matches(|c: char| !c.is_ascii_digit());
        !number.starts_with('0') && !number.is_empty()
    });
    with_images.count()
}

#[test]
fn fifty_kills_lose_no_committed_offset_and_move_none_back() -> Result<()> {
    let folder = tempfile::tempdir()?;
    // Small segments, so that kills also hit rolls.
    let settings = Settings::new(folder.path())?
        .with("offsets.topic.num.partitions", 4)
        .with("offsets.topic.segment.bytes", 1 << 20)
        .with("group.initial.rebalance.delay.ms", 0);
    let broker = Broker::start(settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, TOPIC, PARTITIONS, &[])?;
    for partition in 0..PARTITIONS {
        let records = vec![client::value_record(b"work"); RECORDS];
        client::produce(
            &bootstrap,
            TOPIC,
            partition,
            &records,
            &[("linger.ms", "5")],
        )?;
    }
    let (promises, stop) = (Promises::default(), AtomicBool::new(false));
    let broker = std::thread::scope(|scope| {
        for index in 0..LONERS {
            let (bootstrap, promises, stop) = (&bootstrap, &promises, &stop);
            scope.spawn(move || loner(bootstrap, index, promises, stop));
        }
        let staying = scope.spawn(|| stayer(&bootstrap, &promises, &stop));
        let coming = scope.spawn(|| comers(&bootstrap, &promises, &stop));
        let broker = rounds(broker, &promises);
        stop.store(true, Ordering::Relaxed);
        for member in [staying, coming] {
            member.join().expect("no member panics")?;
        }
        broker
    })?;
    let teams = promises.acknowledged();
    let team: i64 = teams
        .iter()
        .filter(|((g, _), _)| g == TEAM)
        .map(|(_, o)| o)
        .sum();
    ensure!(team > 0, "the group never committed");
    // After a clean shutdown the image alone knows everything.
    let settings = broker.stop()?;
    let broker = Broker::start(settings)?;
    check(&bootstrap, &promises.acknowledged(), &promises)?;
    let starts = starts_with_images(&broker.settings().log_text());
    println!("{starts} of {} starts used images", ROUNDS + 1);
    ensure!(starts > 2, "images are hardly ever used");
    broker.stop()?;
    Ok(())
}
