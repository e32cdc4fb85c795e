//! A whole broker over several log directories: where partitions go, that they stay there, and what
//! a start does with directories that are missing, empty, mixed up or somebody else's.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ottla_broker::broker::Broker;
use ottla_broker::config::Config;
use ottla_broker::start::{Running, StartError, Storage};
use ottla_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use ottla_protocol::messages::{
    AlterReplicaLogDirsRequest, DescribeLogDirsRequest, DescribeLogDirsResponse, StrBytes,
};
use ottla_storage::layout::LayoutError;

#[path = "support/client.rs"]
mod client;
#[path = "log_dirs/cordon.rs"]
mod cordon;

use client::Client;

const STORAGE_ERROR: i16 = 56;
const NOT_LEADER: i16 = 6;

/// Directories `0`, `1`, ... of one broker.
struct World {
    root: tempfile::TempDir,
    names: Vec<&'static str>,
    more: Vec<(&'static str, String)>,
}

impl World {
    fn new(names: &[&'static str]) -> World {
        World {
            root: tempfile::tempdir().unwrap(),
            names: names.to_vec(),
            more: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn config(&self) -> Config {
        let paths: Vec<_> = self.names.iter().map(|name| self.path(name)).collect();
        let paths: Vec<_> = paths.iter().map(|path| path.to_str().unwrap()).collect();
        let dirs = paths.join(",");
        let mut pairs = vec![
            ("log.dirs", &*dirs),
            ("node.id", "1"),
            ("listeners", "PLAINTEXT://127.0.0.1:0"),
            ("ottla.http.listeners", ""),
        ];
        pairs.extend(self.more.iter().map(|(key, value)| (*key, &**value)));
        Config::from_pairs(pairs).unwrap()
    }

    fn start(&self) -> Running {
        Broker::start(self.config(), Storage::Disk, None).unwrap()
    }

    fn refused(&self) -> StartError {
        match Broker::start(self.config(), Storage::Disk, None) {
            Ok(_) => panic!("the broker started"),
            Err(error) => error,
        }
    }

    /// The folders of a topic's partitions in a directory.
    fn folders(&self, name: &str, topic: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(name)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let prefix = format!("{topic}-");
        let mut names: Vec<_> = names.filter(|name| name.starts_with(&prefix)).collect();
        names.sort();
        names
    }
}

fn described(client: &mut Client) -> DescribeLogDirsResponse {
    client.call(4, &DescribeLogDirsRequest::default().with_topics(None))
}

/// Error code and partitions of each directory.
fn told(client: &mut Client) -> BTreeMap<String, (i16, Vec<String>)> {
    let response = described(client);
    let dirs = response.results.iter().map(|dir| {
        let mut partitions = Vec::new();
        for topic in &dir.topics {
            let indexes = topic.partitions.iter().map(|one| one.partition_index);
            partitions.extend(indexes.map(|index| format!("{}-{index}", &*topic.name.0)));
        }
        let name = Path::new(&*dir.log_dir).file_name().unwrap();
        let name = name.to_str().unwrap().to_owned();
        (name, (dir.error_code, partitions))
    });
    dirs.collect()
}

fn one(text: &str) -> Vec<String> {
    vec![text.to_owned()]
}

#[test]
fn partitions_spread_over_the_directories_and_stay_where_they_are() {
    let world = World::new(&["a", "b", "c"]);
    let running = world.start();
    let mut client = Client::connect(&running);
    client.create_topic("t", 7);
    for partition in 0..7 {
        client.produce("t", partition, &one(&format!("first {partition}")));
    }
    let placed = told(&mut client);
    let counts: Vec<_> = placed.values().map(|(_, folders)| folders.len()).collect();
    assert_eq!(counts, [3, 2, 2]);
    for (name, (_, folders)) in &placed {
        assert_eq!(&world.folders(name, "t"), folders, "in {name}");
    }
    running.stop().unwrap();
    for name in ["a", "b", "c"] {
        let file = |file: &str| world.path(name).join(file);
        assert!(file(".kafka_cleanshutdown").exists() && file("meta.properties").exists());
        let points = file("recovery-point-offset-checkpoint");
        let points = std::fs::read_to_string(points).unwrap();
        let listed = points.lines().filter(|line| line.starts_with("t ")).count();
        assert_eq!(
            listed,
            placed[name].1.len(),
            "{name} lists its own:\n{points}"
        );
    }
    // Once after a clean stop, once as after a crash.
    for _ in 0..2 {
        let running = world.start();
        let mut client = Client::connect(&running);
        assert_eq!(told(&mut client), placed);
        for partition in 0..7 {
            let values = client.read_all("t", partition);
            assert_eq!(values[0], format!("first {partition}"));
            client.produce("t", partition, &one("more"));
        }
        drop(running);
    }
    assert!(world.path("a").join("ottla-metadata").exists());
    assert!(!world.path("b").join("ottla-metadata").exists());
}

#[test]
fn every_directory_has_an_id_of_its_own_and_the_cluster_of_the_others() {
    let mut world = World::new(&["a"]);
    world.start().stop().unwrap();
    world.names.push("b");
    world.start().stop().unwrap();
    let identity = |name: &str| {
        let text = std::fs::read_to_string(world.path(name).join("meta.properties")).unwrap();
        let value = |key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap();
            line.to_owned()
        };
        (value("cluster.id="), value("directory.id="))
    };
    let (first, second) = (identity("a"), identity("b"));
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
    std::fs::copy(
        world.path("a").join("meta.properties"),
        world.path("b").join("meta.properties"),
    )
    .unwrap();
    let error = world.refused();
    assert!(matches!(error, StartError::SameDirectory { .. }), "{error}");
}

#[test]
fn a_directory_of_another_cluster_is_refused_by_name() {
    let world = World::new(&["a", "b"]);
    let other = World::new(&["x"]);
    other.start().stop().unwrap();
    std::fs::rename(other.path("x"), world.path("b")).unwrap();
    std::fs::create_dir(world.path("a")).unwrap();
    // `a` is new, and `b` has data of a broker: that would begin a second cluster.
    let error = world.refused();
    assert!(
        matches!(error, StartError::MetadataElsewhere { .. }),
        "{error}"
    );
    std::fs::rename(world.path("b"), other.path("x")).unwrap();
    world.start().stop().unwrap();
    std::fs::remove_dir_all(world.path("b")).unwrap();
    std::fs::rename(other.path("x"), world.path("b")).unwrap();
    match world.refused() {
        StartError::LogDir(error) => {
            assert_eq!(error.path, world.path("b"));
            let is_other = matches!(error.source, LayoutError::OtherCluster { .. });
            assert!(is_other, "{error}");
        }
        error => panic!("{error}"),
    }
}

#[test]
fn the_metadata_may_lie_in_a_directory_of_its_own() {
    let mut world = World::new(&["a", "b"]);
    world.more = vec![("metadata.log.dir", world.path("m").display().to_string())];
    let running = world.start();
    Client::connect(&running).create_topic("t", 2);
    running.stop().unwrap();
    assert!(world.path("m").join("ottla-metadata").exists());
    assert!(!world.path("a").join("ottla-metadata").exists());
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(told(&mut client).len(), 2, "it holds no partitions");
    client.produce("t", 1, &one("x"));
    running.stop().unwrap();
    // Without the key the first directory would be asked, and it has no metadata.
    world.more.clear();
    let (a, m) = (world.path("a"), world.path("m"));
    assert!(!a.join("ottla-metadata").exists() && m.exists());
}

#[test]
fn a_missing_directory_takes_its_partitions_offline_and_no_other() {
    let world = World::new(&["a", "b"]);
    let running = world.start();
    let mut client = Client::connect(&running);
    client.create_topic("t", 4);
    for partition in 0..4 {
        client.produce("t", partition, &one("kept"));
    }
    running.stop().unwrap();
    let away = world.path("away");
    std::fs::rename(world.path("b"), &away).unwrap();
    // A mount point without its file system, and a path where no directory can be.
    for missing in [true, false] {
        match missing {
            true => std::fs::create_dir(world.path("b")).unwrap(),
            false => std::fs::write(world.path("b"), b"").unwrap(),
        }
        let running = world.start();
        let mut client = Client::connect(&running);
        for partition in [0, 2] {
            assert_eq!(client.read_all("t", partition)[0], "kept");
            client.produce("t", partition, &one("more"));
        }
        for partition in [1, 3] {
            let (error, _) = client.try_produce("t", partition, &one("lost"));
            assert_eq!(error, STORAGE_ERROR);
            let fetched = client.fetch("t", partition, 0);
            let answer = &fetched.responses[0].partitions[0];
            assert_eq!(answer.error_code, STORAGE_ERROR);
        }
        let dirs = told(&mut client);
        assert_eq!(dirs["a"].0, 0);
        assert_eq!(dirs["b"], (STORAGE_ERROR, Vec::new()));
        // New partitions find a place.
        client.create_topic(if missing { "new" } else { "newer" }, 2);
        client.produce(if missing { "new" } else { "newer" }, 1, &one("x"));
        drop(running);
        match missing {
            true => {
                assert!(!world.path("b").join("meta.properties").exists());
                std::fs::remove_dir_all(world.path("b")).unwrap();
            }
            false => std::fs::remove_file(world.path("b")).unwrap(),
        }
    }
    std::fs::rename(&away, world.path("b")).unwrap();
    let running = world.start();
    let mut client = Client::connect(&running);
    for partition in 0..4 {
        assert_eq!(client.read_all("t", partition)[0], "kept");
    }
    client.produce("t", 1, &one("again"));
    running.stop().unwrap();
}

#[test]
fn without_any_directory_that_works_nothing_starts() {
    let mut world = World::new(&["a"]);
    world.more = vec![("metadata.log.dir", world.path("m").display().to_string())];
    std::fs::write(world.path("a"), b"").unwrap();
    let error = world.refused();
    let named =
        matches!(&error, StartError::NoUsableLogDir { path, .. } if *path == world.path("a"));
    assert!(named, "{error}");
}

#[test]
fn a_partition_found_twice_is_offline_until_somebody_decides() {
    let world = World::new(&["a", "b"]);
    let running = world.start();
    let mut client = Client::connect(&running);
    client.create_topic("t", 2);
    client.produce("t", 0, &one("x"));
    client.produce("t", 1, &one("y"));
    running.stop().unwrap();
    let copy = world.path("b").join("t-0");
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(world.path("a").join("t-0")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(client.try_produce("t", 0, &one("z")).0, STORAGE_ERROR);
    client.produce("t", 1, &one("z"));
    drop(running);
    std::fs::remove_dir_all(copy).unwrap();
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(client.read_all("t", 0), one("x"));
    drop(running);
}

fn move_to(client: &mut Client, partition: i32, dir: &Path) -> i16 {
    let topic = AlterReplicaLogDirTopic::default()
        .with_name(client::topic_name("t"))
        .with_partitions(vec![partition]);
    let path = StrBytes::from_string(dir.display().to_string());
    let dir = AlterReplicaLogDir::default()
        .with_path(path)
        .with_topics(vec![topic]);
    let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
    client.call(2, &request).results[0].partitions[0].error_code
}

/// Waits until a directory has the partition of t and no copy is on its way.
fn wait_until_in(client: &mut Client, name: &str, partition: i32) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let response = described(client);
        let mut places = Vec::new();
        for dir in &response.results {
            let here = dir.topics.iter().filter(|topic| &*topic.name.0 == "t");
            let here = here
                .flat_map(|topic| &topic.partitions)
                .filter(|one| one.partition_index == partition);
            let file_name = Path::new(&*dir.log_dir).file_name().unwrap();
            let file_name = file_name.to_str().unwrap().to_owned();
            places.extend(here.map(|one| (file_name.clone(), one.is_future_key)));
        }
        if places == [(name.to_owned(), false)] {
            return;
        }
        assert!(Instant::now() < deadline, "{places:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_partition_moves_to_and_fro_under_a_producer_and_loses_nothing() {
    let world = World::new(&["a", "b"]);
    let running = world.start();
    let address = running.kafka_addresses()[0].1;
    let mut client = Client::connect(&running);
    client.create_topic("t", 1);
    let done = AtomicBool::new(false);
    let (mut refused, mut expected) = (0, Vec::new());
    std::thread::scope(|scope| {
        let producing = scope.spawn(|| {
            let (mut client, mut acknowledged) = (Client::connect_to(address), Vec::new());
            let mut refused = 0;
            while !done.load(Ordering::Relaxed) {
                let value = format!("{}-{}", acknowledged.len(), "x".repeat(3_000));
                match client.try_produce("t", 0, &one(&value)) {
                    (0, offset) => {
                        assert_eq!(offset, acknowledged.len() as i64);
                        acknowledged.push(value);
                    }
                    (NOT_LEADER, _) => refused += 1,
                    (other, _) => panic!("error {other}"),
                }
            }
            (refused, acknowledged)
        });
        for round in 0..6 {
            std::thread::sleep(Duration::from_millis(150));
            let to = if round % 2 == 0 { "b" } else { "a" };
            assert_eq!(move_to(&mut client, 0, &world.path(to)), 0);
            wait_until_in(&mut client, to, 0);
        }
        done.store(true, Ordering::Relaxed);
        (refused, expected) = producing.join().unwrap();
    });
    assert!(
        expected.len() > 20,
        "{} records, {refused} retries",
        expected.len()
    );
    assert_eq!(client.read_all("t", 0), expected);
    drop(running);
    // As after a crash.
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(client.read_all("t", 0), expected);
    assert_eq!(world.folders("a", "t"), ["t-0"]);
    assert_eq!(world.folders("b", "t"), Vec::<String>::new());
    running.stop().unwrap();
}

#[test]
fn the_told_sizes_are_those_of_the_files() {
    let world = World::new(&["a", "b"]);
    let running = world.start();
    let mut client = Client::connect(&running);
    client.create_topic("t", 3);
    for partition in 0..3 {
        for _ in 0..=partition {
            client.produce("t", partition, &one(&"y".repeat(10_000)));
        }
    }
    let response = described(&mut client);
    let mut seen = 0;
    for dir in &response.results {
        assert!(dir.total_bytes > 0 && dir.usable_bytes > 0);
        for partition in dir.topics.iter().flat_map(|topic| &topic.partitions) {
            let folder = format!("t-{}", partition.partition_index);
            let entries = std::fs::read_dir(Path::new(&*dir.log_dir).join(folder)).unwrap();
            let logs = entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|end| end == "log"));
            let bytes: u64 = logs.map(|path| path.metadata().unwrap().len()).sum();
            assert_eq!(partition.partition_size as u64, bytes);
            assert_eq!(partition.offset_lag, 0);
            seen += 1;
        }
    }
    assert_eq!(seen, 3);
    drop(running);
}

/// How many bytes of a segment are batches: zeros and reserved space come behind them.
fn batch_bytes(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    while let Ok(view) = ottla_protocol::RecordBatchView::parse(rest) {
        rest = &rest[view.size_bytes()..];
    }
    assert!(rest.iter().all(|byte| *byte == 0), "{path:?}");
    (bytes.len() - rest.len()) as u64
}

/// What Kafka calls the size of a log: its batches, and nothing that lies behind them.
#[test]
fn the_told_size_is_that_of_the_batches_to_the_byte_through_rolls_zeros_moves_and_restarts() {
    let mut world = World::new(&["a", "b"]);
    world.more.push(("log.segment.bytes", "1048576".to_owned()));
    let running = world.start();
    let mut client = Client::connect(&running);
    client.create_topic("t", 1);
    // One after another, so that zeros are written ahead.
    for _ in 0..140 {
        client.produce("t", 0, &one(&"z".repeat(9_000)));
    }
    let told = |client: &mut Client| -> Vec<(PathBuf, i64)> {
        let response = described(client);
        let dirs = response.results.iter();
        let all = dirs.flat_map(|dir| {
            let topics = dir.topics.iter().flat_map(|topic| &topic.partitions);
            topics.map(|one| (PathBuf::from(&*dir.log_dir), one.partition_size))
        });
        all.collect()
    };
    let on_disk = |dir: &Path| {
        let entries = std::fs::read_dir(dir.join("t-0")).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let logs: Vec<_> = paths
            .filter(|path| path.extension().is_some_and(|end| end == "log"))
            .collect();
        let lengths = logs.iter().map(|path| path.metadata().unwrap().len());
        let batches = logs.iter().map(|path| batch_bytes(path));
        (logs.len(), lengths.sum::<u64>(), batches.sum::<u64>())
    };
    let (a, b) = (world.path("a"), world.path("b"));
    let (segments, length, batches) = on_disk(&a);
    assert!(
        segments >= 2 && length > batches,
        "{segments} {length} {batches}"
    );
    assert_eq!(told(&mut client), [(a.clone(), batches as i64)]);
    assert_eq!(move_to(&mut client, 0, &b), 0);
    wait_until_in(&mut client, "b", 0);
    assert_eq!(on_disk(&b).2, batches, "a copy has the same batches");
    assert_eq!(told(&mut client), [(b.clone(), batches as i64)]);
    running.stop().unwrap();
    assert_eq!(
        on_disk(&b),
        (segments, batches, batches),
        "nothing behind them"
    );
    let running = world.start();
    let mut client = Client::connect(&running);
    assert_eq!(told(&mut client), [(b, batches as i64)]);
    drop(running);
}
