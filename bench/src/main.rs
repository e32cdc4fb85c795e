//! `ottla-bench`: the benchmarks from the command line.

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use ottla_bench::peer::{Kind, Places};
use ottla_bench::report::Report;
use ottla_bench::{
    cold, commits, compaction, density, drain, fsync, groups, process, recovery, replay,
    side_by_side, spread, sync, wire,
};
use std::path::{Path, PathBuf};

/// Load generators, and Ottla beside Apache Kafka.
#[derive(Parser)]
#[command(name = "ottla-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start both brokers from nothing in turns and compare what they use
    SideBySide(SideBySide),
    /// Measure a clean restart with many partitions and one after kill -9
    Recovery(Recovery),
    /// Create, write to, hold and start again with very many partitions
    Density(Density),
    /// Many producers of small records, each synced before its acknowledgement
    Fsync(Fsync),
    /// What a sync costs on this disk, after appends to files that grow or were written before
    Sync(Sync),
    /// A consumer catches up on data that is not in memory while a producer goes on
    Cold(Cold),
    /// Compact a log while a producer writes to another
    Compaction(Compaction),
    /// Commit offsets of many groups and compare what that costs
    Commits(Commits),
    /// A large group until it is stable, and many small ones
    Groups(Groups),
    /// Send pre-encoded batches to a running broker
    Produce(Produce),
    /// Fetch and throw away what `produce` has written
    Fetch(Fetch),
}

#[derive(Args)]
struct Common {
    /// Only one of them: ottla or kafka
    #[arg(long)]
    only: Option<String>,
    /// Where the brokers keep their data while they are measured [default: the target folder]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Also print the figures as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SideBySide {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 3)]
    pairs: u32,
    /// GB that each measured row moves
    #[arg(long, default_value_t = 2.0)]
    gigabytes: f64,
    /// GB moved before each row, not counted
    #[arg(long, default_value_t = 0.5)]
    warm_up: f64,
    /// memory: what Kafka promises by default; commit: fsync before the acknowledgement on both
    #[arg(long, default_value = "memory")]
    durability: String,
    /// Messages of 100 bytes through librdkafka
    #[arg(long, default_value_t = 2_000_000)]
    messages: u64,
}

#[derive(Args)]
struct Recovery {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1)]
    pairs: u32,
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    #[arg(long, default_value_t = 4.0)]
    gigabytes: f64,
}

#[derive(Args)]
struct Density {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 100)]
    topics: i32,
    /// Of each topic
    #[arg(long, default_value_t = 100)]
    partitions: i32,
    /// Writes to each partition after the first
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Seconds that a broker is left alone before it is looked at
    #[arg(long, default_value_t = 45)]
    settle: u64,
    /// Seconds of idleness that are counted, without and with a consumer
    #[arg(long, default_value_t = 20)]
    idle: u64,
    /// memory: what Kafka promises by default; commit: what Ottla does
    #[arg(long, default_value = "memory")]
    durability: String,
}

#[derive(Args)]
struct Sync {
    /// A folder on the disk to measure
    #[arg(long, default_value = ".")]
    data: PathBuf,
    /// Appends to each file
    #[arg(long, default_value_t = 300)]
    rounds: u32,
}

#[derive(Args)]
struct Fsync {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 3)]
    pairs: u32,
    /// One connection each, one record on the way
    #[arg(long, default_value_t = 50)]
    producers: usize,
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// How long each turn is measured, about
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Args)]
struct Cold {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 3)]
    pairs: u32,
    /// What the consumer catches up on
    #[arg(long, default_value_t = 2.0)]
    gigabytes: f64,
    /// What the producer writes meanwhile
    #[arg(long, default_value_t = 20.0)]
    megabytes_per_second: f64,
    /// memory: what Kafka promises by default; commit: what Ottla does
    #[arg(long, default_value = "memory")]
    durability: String,
}

#[derive(Args)]
struct Compaction {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 3)]
    pairs: u32,
    #[arg(long, default_value_t = 1.0)]
    gigabytes: f64,
    /// How often a key is written, on average
    #[arg(long, default_value_t = 10)]
    versions: u64,
    /// memory: what Kafka promises by default; commit: what Ottla does
    #[arg(long, default_value = "memory")]
    durability: String,
}

#[derive(Args)]
struct Commits {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 3)]
    pairs: u32,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Groups that the connections speak for, in turns [default: one each]
    #[arg(long)]
    groups: Option<usize>,
    /// Requests on the way per connection
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Requests of one offset each
    #[arg(long, default_value_t = 1_000_000)]
    commits: u64,
    /// commit: fsync before the answer on both; memory: what Kafka promises by default; default:
    /// each as it comes
    #[arg(long, default_value = "default")]
    durability: String,
    /// Load a broker that runs already instead
    #[arg(long)]
    bootstrap: Option<String>,
    /// The running broker's process, to count its CPU time
    #[arg(long, requires = "bootstrap")]
    pid: Option<u32>,
}

#[derive(Args)]
struct Groups {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 3)]
    pairs: u32,
    #[arg(long, default_value_t = 1000)]
    members: usize,
    #[arg(long, default_value_t = 1000)]
    partitions: i32,
    /// How often members ask whether they must rejoin
    #[arg(long, default_value_t = 500)]
    heartbeat_ms: u64,
    /// Groups with one committed offset each
    #[arg(long, default_value_t = 100_000)]
    groups: usize,
}

#[derive(Args)]
struct Produce {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    /// Created when it does not exist
    #[arg(long, default_value = "bench")]
    topic: String,
    #[arg(long, default_value_t = 1)]
    partitions: i32,
    #[arg(long, default_value_t = 1)]
    connections: usize,
    #[arg(long, default_value_t = 16_384)]
    batch_bytes: usize,
    #[arg(long, default_value_t = 1000)]
    record_bytes: usize,
    #[arg(long, default_value_t = 5)]
    in_flight: usize,
    #[arg(long, default_value_t = 1.0)]
    gigabytes: f64,
    /// 1, or -1 for all
    #[arg(long, default_value_t = 1, allow_negative_numbers = true)]
    acks: i16,
    /// The broker's process, to count its CPU time
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Args)]
struct Fetch {
    #[arg(long, default_value = "127.0.0.1:9092")]
    bootstrap: String,
    #[arg(long, default_value = "bench")]
    topic: String,
    #[arg(long, default_value_t = 0)]
    partition: i32,
    /// As it was given to `produce`
    #[arg(long, default_value_t = 16_384)]
    batch_bytes: usize,
    /// As it was given to `produce`
    #[arg(long, default_value_t = 1000)]
    record_bytes: usize,
    #[arg(long, default_value_t = 4 << 20)]
    fetch_bytes: i32,
    #[arg(long, default_value_t = 1.0)]
    gigabytes: f64,
    #[arg(long)]
    pid: Option<u32>,
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Command::SideBySide(arguments) => compare(&arguments),
        Command::Recovery(arguments) => recover(&arguments),
        Command::Density(arguments) => crowd(&arguments),
        Command::Fsync(arguments) => synced(&arguments),
        Command::Sync(arguments) => sync::run(&arguments.data, arguments.rounds),
        Command::Cold(arguments) => catch_up(&arguments),
        Command::Compaction(arguments) => compact(&arguments),
        Command::Commits(arguments) => commit(&arguments),
        Command::Groups(arguments) => group(&arguments),
        Command::Produce(arguments) => produce(&arguments),
        Command::Fetch(arguments) => fetch(&arguments),
    }
}

/// The broker beside this program, and the scripts of the clone it was built from.
fn places(common: &Common) -> Result<Places> {
    let own = std::env::current_exe()?;
    let beside = own.parent().context("this program has a folder")?;
    // scripts/bench runs in the root of the clone; this program may have been built for another.
    let here = Path::new("scripts/kafka-server");
    let built_for = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka-server");
    let binary = std::env::var_os("OTTLA_BIN").map(PathBuf::from);
    Ok(Places {
        ottla: binary.unwrap_or_else(|| beside.join("ottla")),
        kafka_server: if here.exists() {
            here.to_path_buf()
        } else {
            built_for
        },
        data: common
            .data
            .clone()
            .unwrap_or_else(|| beside.join("bench-data")),
    })
}

fn kinds(common: &Common) -> Result<Vec<Kind>> {
    match common.only.as_deref() {
        None => Ok(vec![Kind::Ottla, Kind::ApacheKafka]),
        Some("ottla") => Ok(vec![Kind::Ottla]),
        Some("kafka") => Ok(vec![Kind::ApacheKafka]),
        Some(other) => anyhow::bail!("--only is ottla or kafka, not {other}"),
    }
}

fn print(report: &Report, common: &Common, load_before: f64) -> Result<()> {
    println!("{}", report.table());
    println!(
        "load average: {load_before:.1} before, {:.1} after",
        process::load_average()
    );
    if common.json {
        println!("{}", serde_json::to_string_pretty(&report.lines())?);
    }
    Ok(())
}

fn compare(arguments: &SideBySide) -> Result<()> {
    let load = process::load_average();
    let setting = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let kafka_topic = match arguments.durability.as_str() {
        "memory" => Vec::new(),
        "commit" => setting("flush.messages", "1"),
        other => anyhow::bail!("--durability is memory or commit, not {other}"),
    };
    let report = side_by_side::run(&side_by_side::Plan {
        places: places(&arguments.common)?,
        pairs: arguments.pairs,
        gigabytes: arguments.gigabytes,
        warm_up_gigabytes: arguments.warm_up,
        ottla_topic: setting("ottla.durability", &arguments.durability),
        kafka_topic,
        kinds: kinds(&arguments.common)?,
        messages: arguments.messages,
    })?;
    println!("durability class: {}", arguments.durability);
    print(&report, &arguments.common, load)
}

fn recover(arguments: &Recovery) -> Result<()> {
    let load = process::load_average();
    let report = recovery::run(&recovery::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        pairs: arguments.pairs,
        partitions: arguments.partitions,
        gigabytes: arguments.gigabytes,
    })?;
    print(&report, &arguments.common, load)
}

/// The setting of a topic on Ottla.
fn durability(class: &str) -> Vec<(String, String)> {
    vec![("ottla.durability".to_owned(), class.to_owned())]
}

fn synced(arguments: &Fsync) -> Result<()> {
    let load = process::load_average();
    let report = fsync::run(&fsync::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        pairs: arguments.pairs,
        producers: arguments.producers,
        partitions: arguments.partitions,
        seconds: arguments.seconds,
    })?;
    print(&report, &arguments.common, load)
}

fn catch_up(arguments: &Cold) -> Result<()> {
    let load = process::load_average();
    let report = cold::run(&cold::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        pairs: arguments.pairs,
        gigabytes: arguments.gigabytes,
        megabytes_per_second: arguments.megabytes_per_second,
        alone: std::time::Duration::from_secs(6),
        ottla_topic: durability(&arguments.durability),
    })?;
    println!("durability class: {}", arguments.durability);
    print(&report, &arguments.common, load)
}

fn compact(arguments: &Compaction) -> Result<()> {
    let load = process::load_average();
    let report = compaction::run(&compaction::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        pairs: arguments.pairs,
        gigabytes: arguments.gigabytes,
        versions: arguments.versions,
        ottla_topic: durability(&arguments.durability),
    })?;
    println!("durability class: {}", arguments.durability);
    print(&report, &arguments.common, load)
}

fn crowd(arguments: &Density) -> Result<()> {
    let load = process::load_average();
    let report = density::run(&density::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        topics: spread::Topics {
            name: "many".to_owned(),
            topics: arguments.topics,
            partitions: arguments.partitions,
        },
        rounds: arguments.rounds,
        settle: std::time::Duration::from_secs(arguments.settle),
        idle: std::time::Duration::from_secs(arguments.idle),
        ottla_topic: durability(&arguments.durability),
    })?;
    println!("durability class: {}", arguments.durability);
    print(&report, &arguments.common, load)
}

fn commit(arguments: &Commits) -> Result<()> {
    let load = process::load_average();
    let groups = arguments.groups.unwrap_or(arguments.connections);
    if let Some(bootstrap) = &arguments.bootstrap {
        return commit_to(bootstrap, groups, arguments);
    }
    let setting = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    let (ottla_topic, kafka_topic) = match arguments.durability.as_str() {
        "default" => (Vec::new(), Vec::new()),
        "memory" => (setting("ottla.durability", "memory"), Vec::new()),
        "commit" => (Vec::new(), setting("flush.messages", "1")),
        other => anyhow::bail!("--durability is default, memory or commit, not {other}"),
    };
    let report = commits::compare(&commits::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        pairs: arguments.pairs,
        connections: arguments.connections,
        groups,
        in_flight: arguments.in_flight,
        commits: arguments.commits,
        ottla_topic,
        kafka_topic,
    })?;
    println!("durability: {}", arguments.durability);
    print(&report, &arguments.common, load)
}

fn commit_to(bootstrap: &str, groups: usize, arguments: &Commits) -> Result<()> {
    commits::prepare(bootstrap, groups)?;
    let before = cpu(arguments.pid)?;
    let outcome = commits::run(&commits::Load {
        bootstrap: bootstrap.to_owned(),
        connections: arguments.connections,
        groups,
        in_flight: arguments.in_flight,
        commits: arguments.commits,
        first_offset: 1,
    })?;
    let after = cpu(arguments.pid)?;
    let millions = outcome.commits as f64 / 1e6;
    let rate = outcome.commits as f64 / outcome.elapsed.as_secs_f64();
    println!("{rate:.0} commits/s");
    println!(
        "CPU-s per million: client {:.2}",
        (after.1 - before.1) / millions
    );
    if !after.0.is_nan() {
        println!(
            "CPU-s per million: broker {:.2}",
            (after.0 - before.0) / millions
        );
    }
    for quantile in [0.5, 0.99, 0.999] {
        let micros = outcome.latency_us.value_at_quantile(quantile);
        println!(
            "answer p{}: {:.2} ms",
            quantile * 100.0,
            micros as f64 / 1000.0
        );
    }
    Ok(())
}

fn group(arguments: &Groups) -> Result<()> {
    let load = process::load_average();
    let report = groups::compare(&groups::Plan {
        places: places(&arguments.common)?,
        kinds: kinds(&arguments.common)?,
        pairs: arguments.pairs,
        members: arguments.members,
        partitions: arguments.partitions,
        heartbeat_every: std::time::Duration::from_millis(arguments.heartbeat_ms),
        groups: arguments.groups,
    })?;
    print(&report, &arguments.common, load)
}

/// CPU-seconds of the broker and of this process so far.
fn cpu(pid: Option<u32>) -> Result<(f64, f64)> {
    let broker = pid.map(process::cpu_seconds).transpose()?;
    Ok((
        broker.unwrap_or(f64::NAN),
        process::cpu_seconds(std::process::id())?,
    ))
}

fn print_rates(bytes: u64, seconds: f64, before: (f64, f64), after: (f64, f64)) {
    let gigabytes = bytes as f64 / 1e9;
    println!(
        "{gigabytes:.2} GB in {seconds:.2} s: {:.0} MB/s",
        gigabytes * 1000.0 / seconds
    );
    println!("CPU-s/GB: client {:.2}", (after.1 - before.1) / gigabytes);
    if !after.0.is_nan() {
        println!("CPU-s/GB: broker {:.2}", (after.0 - before.0) / gigabytes);
    }
}

fn produce(arguments: &Produce) -> Result<()> {
    let mut client = wire::Client::connect(&arguments.bootstrap)?;
    if client.end_offset(&arguments.topic, 0).is_err() {
        client.create_topic(&arguments.topic, arguments.partitions, &[])?;
    }
    let before = cpu(arguments.pid)?;
    let outcome = replay::run(&replay::Load {
        bootstrap: arguments.bootstrap.clone(),
        topic: arguments.topic.clone(),
        connections: arguments.connections,
        partitions: arguments.partitions,
        record_bytes: arguments.record_bytes,
        batch_bytes: arguments.batch_bytes,
        in_flight: arguments.in_flight,
        total_bytes: (arguments.gigabytes * 1e9) as u64,
        acks: arguments.acks,
    })?;
    print_rates(
        outcome.bytes,
        outcome.elapsed.as_secs_f64(),
        before,
        cpu(arguments.pid)?,
    );
    for quantile in [0.5, 0.99, 0.999] {
        let micros = outcome.latency_us.value_at_quantile(quantile);
        println!(
            "answer p{}: {:.2} ms",
            quantile * 100.0,
            micros as f64 / 1000.0
        );
    }
    Ok(())
}

fn fetch(arguments: &Fetch) -> Result<()> {
    let (batch, batch_records) = replay::batch(arguments.batch_bytes, arguments.record_bytes)?;
    let mut client = wire::Client::connect(&arguments.bootstrap)?;
    let end_offset = client.end_offset(&arguments.topic, arguments.partition)?;
    let before = cpu(arguments.pid)?;
    let outcome = drain::run(&drain::Load {
        bootstrap: arguments.bootstrap.clone(),
        topic: arguments.topic.clone(),
        partition: arguments.partition,
        fetch_bytes: arguments.fetch_bytes,
        total_bytes: (arguments.gigabytes * 1e9) as u64,
        batch_bytes: batch.len(),
        batch_records,
        end_offset,
    })?;
    print_rates(
        outcome.bytes,
        outcome.elapsed.as_secs_f64(),
        before,
        cpu(arguments.pid)?,
    );
    Ok(())
}
