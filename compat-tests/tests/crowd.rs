//! Crowds of connections that say nothing, little, or nothing for long: as many as the descriptor
//! limit allows. Others are served meanwhile, memory is bounded, and each kind of slowness ends at
//! its own limit.
//!
//! `cargo test -p ottla-compat-tests --test crowd -- --nocapture` prints what was measured.

use anyhow::{Context as _, Result, bail, ensure};
use ottla_compat_tests::broker::{Broker, resident_bytes};
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{self, Raw};
use ottla_compat_tests::witness::{assert_serves, assert_serves_again, unharmed};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Resident memory of the broker for each connection of the crowd.
const CONNECTION_BYTES_MAX: u64 = 12 << 10;

/// How many connections this process can open beside what it has.
fn own_descriptor_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
        .unwrap_or(1024)
}

/// What one of the crowd does.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Connected, and not a byte since.
    Silent,
    /// Half a length.
    HalfLength,
    /// A request without its last byte.
    HalfRequest,
    /// Was answered once.
    Served,
    /// A byte of its request now and then.
    Trickle,
}

const KINDS: [Kind; 5] = [
    Kind::Silent,
    Kind::HalfLength,
    Kind::HalfRequest,
    Kind::Served,
    Kind::Trickle,
];

struct Member {
    kind: Kind,
    raw: Raw,
    sent: usize,
}

fn gather(bootstrap: &str, size: usize) -> Result<Vec<Member>> {
    let frame = wire::metadata_request(1);
    let mut crowd = Vec::with_capacity(size);
    for index in 0..size {
        let kind = KINDS[index % KINDS.len()];
        let mut raw =
            Raw::connect(bootstrap).with_context(|| format!("connection {index} of {size}"))?;
        let sent = match kind {
            Kind::Silent => 0,
            Kind::HalfLength => 2,
            Kind::HalfRequest => frame.len() - 1,
            Kind::Served => frame.len(),
            Kind::Trickle => 1,
        };
        raw.send(&frame[..sent])?;
        if kind == Kind::Served {
            raw.receive()
                .with_context(|| format!("connection {index}"))?;
        }
        crowd.push(Member { kind, raw, sent });
    }
    Ok(crowd)
}

/// One more byte from each of the slow ones.
fn trickle(crowd: &mut [Member], frame: &[u8]) -> Result<()> {
    for member in crowd.iter_mut().filter(|m| m.kind == Kind::Trickle) {
        if let Some(byte) = frame.get(member.sent..member.sent + 1) {
            member.raw.send(byte)?;
            member.sent += 1;
        }
    }
    Ok(())
}

#[test]
fn a_crowd_of_silent_and_slow_connections_leaves_the_others_alone() -> Result<()> {
    let mut broker = Broker::start_fresh(|settings| settings)?;
    client::create_topic(broker.bootstrap(), "t", 1, &[])?;
    // As many as this process may hold beside the other tests; the broker's limit is the same.
    let limit = own_descriptor_limit().min(20_000);
    let size = limit.saturating_sub(limit / 14).max(100);
    let pid = broker.pid()?;
    let before = resident_bytes(pid)?;
    let frame = wire::metadata_request(1);
    let latencies = unharmed(&mut broker, |bootstrap| {
        let mut crowd = gather(bootstrap, size)?;
        let began = Instant::now();
        while crowd.iter().any(|member| {
            member.kind == Kind::Trickle
                && member.sent < frame.len()
                && began.elapsed().as_secs() < 3
        }) {
            trickle(&mut crowd, &frame)?;
            std::thread::sleep(Duration::from_millis(50));
        }
        let grown = resident_bytes(pid)?.saturating_sub(before) / size as u64;
        println!("{size} connections, {grown} bytes resident each");
        ensure!(
            grown < CONNECTION_BYTES_MAX,
            "{grown} bytes for each connection of the crowd"
        );
        assert_serves(bootstrap, "t").context("a newcomer beside the crowd")?;
        // The slow ones finish their request at last, and are answered; nobody was thrown out.
        for (index, member) in crowd.iter_mut().enumerate().step_by(7) {
            member.raw.send(&frame[member.sent % frame.len()..])?;
            let answer = member.raw.receive();
            answer.with_context(|| format!("connection {index} of the crowd"))?;
        }
        Ok(())
    })?;
    println!("beside them: {latencies}");
    ensure!(
        latencies.percentile(50) < Duration::from_millis(100),
        "others had to wait: {latencies}"
    );
    assert_serves_again(&mut broker, "t")
}

#[test]
fn at_the_descriptor_limit_the_broker_waits_and_recovers() -> Result<()> {
    let mut broker = Broker::start_fresh(|mut settings| {
        settings.descriptors = Some(600);
        settings
    })?;
    let bootstrap = broker.bootstrap().to_owned();
    // More partitions than files may stay open beside the crowd.
    client::create_topic(&bootstrap, "t", 300, &[])?;
    let batch = wire::record_batch(&[b"full house"]);
    let mut served = Raw::connect(&bootstrap)?;
    let mut produce_everywhere = |what: &'static str| -> Result<()> {
        for partition in 0..300 {
            let body = served.call(&wire::produce_request("t", partition, &batch));
            let body = body.with_context(|| format!("{what}: partition {partition}"))?;
            let (code, _) = wire::produce_result(&body, "t")?;
            ensure!(code == 0, "{what}: partition {partition}: error {code}");
        }
        Ok(())
    };
    produce_everywhere("alone")?;
    // More than the process has descriptors for: some are refused, or wait in the kernel's queue.
    let crowd: Vec<_> = (0..1500)
        .filter_map(|_| TcpStream::connect(&bootstrap).ok())
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    broker.assert_alive()?;
    produce_everywhere("in the crowd")?;
    drop(crowd);
    assert_serves_again(&mut broker, "t")
}

/// The time until the broker ends the connection, whatever it sends before.
fn time_to_close(mut stream: TcpStream) -> Result<Duration> {
    let began = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(began.elapsed()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                return Ok(began.elapsed());
            }
            Err(error) => bail!("still open after {:?}: {error}", began.elapsed()),
        }
    }
}

/// How many connections were closed for `reason`.
fn closed_for(broker: &Broker, reason: &str) -> Result<u64> {
    let (_, metrics) = broker.http_get("/metrics")?;
    let label = format!("ottla_connections_closed_total{{reason=\"{reason}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&label));
    Ok(line.map_or(Ok(0.0), str::parse::<f64>)? as u64)
}

#[test]
fn idle_slow_and_deaf_connections_are_each_cut_off_after_their_own_time() -> Result<()> {
    let mut broker = Broker::start_fresh(|settings| {
        settings
            .with("connections.max.idle.ms", 1_500)
            .with("ottla.slow.sender.timeout.ms", 700)
            .with("ottla.slow.reader.timeout.ms", 1_000)
    })?;
    client::create_topic(broker.bootstrap(), "t", 1, &[])?;
    unharmed(&mut broker, |bootstrap| {
        let idle = TcpStream::connect(bootstrap)?;
        let took = time_to_close(idle)?;
        ensure!(took >= Duration::from_millis(1_400), "idle: {took:?}");
        let mut slow = Raw::connect(bootstrap)?;
        let began = Instant::now();
        let frame = wire::metadata_request(1);
        // A byte every 100 ms: it is never idle, and never done.
        while began.elapsed() < Duration::from_secs(10) {
            let at = (began.elapsed().as_millis() / 100) as usize % (frame.len() - 1);
            if slow.send(&frame[at..at + 1]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let took = began.elapsed();
        ensure!(took < Duration::from_secs(10), "a slow sender may go on");
        Ok(())
    })?;
    ensure!(closed_for(&broker, "idle")? > 0, "nobody was idle");
    ensure!(closed_for(&broker, "slow_sender")? > 0, "nobody was slow");
    let bootstrap = broker.bootstrap().to_owned();
    let mut deaf = Raw::connect(&bootstrap)?;
    deaf.stream.set_nonblocking(true)?;
    // Requests for long answers, none of which is read, until the broker takes no more.
    let request = wire::api_versions_request(0).repeat(1000);
    let began = Instant::now();
    let (mut cut_off, mut at) = (false, 0);
    while began.elapsed() < Duration::from_secs(20) && !cut_off {
        match deaf.stream.write(&request[at..]) {
            Ok(count) => at = (at + count) % request.len(),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(_) => cut_off = true,
        }
    }
    ensure!(cut_off, "a client that never reads may go on");
    ensure!(closed_for(&broker, "slow_reader")? > 0, "nobody was deaf");
    assert_serves(&bootstrap, "t")
}
