//! What no client sends: broken frames, claims that are lies, wrong checksums, crowds of
//! connections that say nothing. Each is refused or closed; nobody else notices, and memory stays
//! where it was.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::{Broker, resident_bytes};
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{self, Bytes, Raw};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const UNSUPPORTED_VERSION: i16 = 35;
const CORRUPT_MESSAGE: i16 = 2;

/// The broker serves a newcomer: metadata, one record in, the same record out.
fn assert_serves(bootstrap: &str, topic: &str) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    let body = raw.call(&wire::metadata_request(4711))?;
    ensure!(body[..4] == 4711i32.to_be_bytes(), "another correlation id");
    let batch = wire::record_batch(&[b"alive"]);
    let (code, offset) =
        wire::produce_result(&raw.call(&wire::produce_request(topic, 0, &batch))?, topic)?;
    ensure!(code == 0, "produce: error {code}");
    let found = client::consume(bootstrap, topic, 0, offset, 1)?;
    ensure!(
        found[0].value.as_deref() == Some(b"alive"),
        "found {found:?}"
    );
    Ok(())
}

/// A well-behaved connection that goes on all the time; counts its answers.
fn neighbour(bootstrap: &str, stop: &AtomicBool, answers: &AtomicU64) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    for correlation_id in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let body = raw.call(&wire::metadata_request(correlation_id))?;
        ensure!(
            body[..4] == correlation_id.to_be_bytes(),
            "another correlation id"
        );
        answers.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Runs `attack` beside a neighbour, who must not notice, and checks the broker afterwards.
fn unharmed(broker: &mut Broker, attack: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    let bootstrap = broker.bootstrap().to_owned();
    let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| neighbour(&bootstrap, &stop, &answers));
        // It was there first: wait for its first answer.
        while answers.load(Ordering::Relaxed) == 0 && !neighbour.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let attacked = attack(&bootstrap);
        stop.store(true, Ordering::Relaxed);
        neighbour
            .join()
            .expect("the neighbour does not panic")
            .context("the neighbour")?;
        attacked
    })?;
    broker.assert_alive()?;
    ensure!(
        answers.load(Ordering::Relaxed) > 0,
        "the neighbour got no answer at all"
    );
    Ok(())
}

fn started() -> Result<(Broker, String)> {
    let broker = Broker::start_fresh(|settings| settings)?;
    client::create_topic(broker.bootstrap(), "t", 1, &[])?;
    Ok((broker, "t".to_owned()))
}

/// Sends `bytes` on a connection of its own, which the broker must close.
fn expect_close(bootstrap: &str, what: &str, bytes: &[u8]) -> Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    raw.send(bytes)?;
    ensure!(raw.is_closed_by_peer(), "{what}: the connection stays open");
    Ok(())
}

#[test]
fn broken_frames_close_their_own_connection_only() -> Result<()> {
    let (mut broker, topic) = started()?;
    unharmed(&mut broker, |bootstrap| {
        expect_close(bootstrap, "a negative length", &(-1i32).to_be_bytes())?;
        expect_close(
            bootstrap,
            "the most negative length",
            &i32::MIN.to_be_bytes(),
        )?;
        expect_close(bootstrap, "2 GB announced", &i32::MAX.to_be_bytes())?;
        expect_close(
            bootstrap,
            "one byte over 100 MiB",
            &((100 << 20) + 1i32).to_be_bytes(),
        )?;
        expect_close(
            bootstrap,
            "HTTP",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )?;
        expect_close(
            bootstrap,
            "TLS",
            &[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3, 9, 9, 9, 9, 9],
        )?;
        expect_close(bootstrap, "an empty frame", &0i32.to_be_bytes())?;
        expect_close(
            bootstrap,
            "a frame shorter than a header",
            &Bytes::default().i16(3).framed(),
        )?;
        expect_close(
            bootstrap,
            "an unknown api key",
            &wire::header(9999, 0, 1).framed(),
        )?;
        expect_close(
            bootstrap,
            "a negative api key",
            &wire::header(-1, 0, 1).framed(),
        )?;
        expect_close(
            bootstrap,
            "an unknown Metadata version",
            &wire::header(3, 999, 1).framed(),
        )?;
        let long_client_id = Bytes::default()
            .i16(3)
            .i16(1)
            .i32(1)
            .i16(i16::MAX)
            .raw(b"x");
        expect_close(
            bootstrap,
            "a client id past the end",
            &long_client_id.framed(),
        )?;
        // Half a frame and then the end of the stream.
        for cut in [1, 3, 4, 5, 9, 14] {
            let mut raw = Raw::connect(bootstrap)?;
            raw.send(&wire::metadata_request(1)[..cut])?;
            raw.stream.shutdown(std::net::Shutdown::Write)?;
            ensure!(raw.is_closed_by_peer(), "half a frame of {cut} bytes");
        }
        Ok(())
    })?;
    assert_serves(broker.bootstrap(), &topic)
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_so_that_the_client_can_go_down() -> Result<()> {
    let (broker, _) = started()?;
    for version in [99, i16::MAX] {
        let mut raw = Raw::connect(broker.bootstrap())?;
        let body = raw.call(&wire::api_versions_request(version))?;
        ensure!(wire::api_versions_error(&body)? == UNSUPPORTED_VERSION);
        let body = raw.call(&wire::api_versions_request(0))?;
        ensure!(
            wire::api_versions_error(&body)? == 0,
            "the same connection goes on"
        );
        ensure!(wire::parse_api_versions(&body)?.len() >= 10);
    }
    Ok(())
}

#[test]
fn a_length_that_lies_allocates_nothing() -> Result<()> {
    let (mut broker, topic) = started()?;
    let before = broker.resident_bytes()?;
    unharmed(&mut broker, |bootstrap| {
        for count in [i32::MAX, i32::MAX / 2, 20_000_000, 1] {
            let frame = wire::metadata_request_claiming(count);
            expect_close(bootstrap, &format!("{count} topics claimed"), &frame)?;
        }
        for count in [-2, i32::MIN] {
            // Kafka reads any negative length as null; closing is as good an answer.
            let mut raw = Raw::connect(bootstrap)?;
            raw.send(&wire::metadata_request_claiming(count))?;
            ensure!(
                raw.receive().is_ok() || raw.is_closed_by_peer(),
                "{count}: silence"
            );
        }
        // Frames that announce 90 MB and never bring them must not be paid for in advance.
        let mut waiting = Vec::new();
        for _ in 0..200 {
            let mut raw = Raw::connect(bootstrap)?;
            raw.send(&90_000_000i32.to_be_bytes())?;
            raw.send(&[0, 3, 0, 1])?;
            waiting.push(raw);
        }
        std::thread::sleep(Duration::from_millis(300));
        Ok(())
    })?;
    let grown = broker.resident_bytes()?.saturating_sub(before);
    ensure!(grown < 100 << 20, "resident memory grew by {grown} bytes");
    assert_serves(broker.bootstrap(), &topic)
}

#[test]
fn a_wrong_checksum_is_refused_with_kafkas_code_and_nothing_is_stored() -> Result<()> {
    let (broker, topic) = started()?;
    let good = wire::record_batch(&[b"one", b"two"]);
    let mut raw = Raw::connect(broker.bootstrap())?;
    let mut produce = |batch: &[u8]| {
        let body = raw.call(&wire::produce_request(&topic, 0, batch))?;
        wire::produce_result(&body, &topic)
    };
    for damaged in [17, 25, good.len() - 1] {
        let mut bad = good.clone();
        bad[damaged] ^= 1;
        let (code, _) = produce(&bad)?;
        ensure!(code == CORRUPT_MESSAGE, "byte {damaged}: error {code}");
    }
    ensure!(
        produce(&good)? == (0, 0),
        "a good batch follows on the same connection"
    );
    for (what, bad) in [
        ("cut short", good[..good.len() - 3].to_vec()),
        ("only half a header", good[..30].to_vec()),
        ("twice", [&good[..], &good[..]].concat()),
        ("a record count that lies", {
            let mut bad = good.clone();
            bad[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
            let crc = crc32c::crc32c(&bad[21..]);
            bad[17..21].copy_from_slice(&crc.to_be_bytes());
            bad
        }),
        ("a length that lies", {
            let mut bad = good.clone();
            bad[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
            bad
        }),
    ] {
        let (code, _) = produce(&bad).with_context(|| what.to_owned())?;
        ensure!(code != 0, "{what}: it was accepted");
    }
    ensure!(
        client::watermarks(broker.bootstrap(), &topic, 0)? == (0, 2),
        "something was stored"
    );
    Ok(())
}

#[test]
fn thousands_of_damaged_requests_are_survived() -> Result<()> {
    let (mut broker, topic) = started()?;
    let before = broker.resident_bytes()?;
    let seed = StdRng::from_os_rng().random::<u64>();
    println!("seed {seed}");
    let apis = wire::api_versions(broker.bootstrap())?;
    unharmed(&mut broker, |bootstrap| {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut raw = Raw::connect(bootstrap)?;
        for _ in 0..10_000 {
            let (key, min, max) = apis[rng.random_range(0..apis.len())];
            let mut body = wire::header(key, rng.random_range(min..=max), 1);
            let noise = rng.random_range(0..64);
            // Small numbers are the interesting ones: counts, lengths, tags, nulls.
            body.0
                .extend((0..noise).map(|_| match rng.random_range(0..4) {
                    0 => rng.random::<u8>(),
                    1 => 0xff,
                    _ => rng.random_range(0..4u8),
                }));
            // An answer, a close and silence (acks=0, or a wait) are all fine.
            if raw.send(&body.framed()).is_err() || !drain(&mut raw) {
                raw = Raw::connect(bootstrap)?;
            }
        }
        Ok(())
    })
    .with_context(|| format!("seed {seed}"))?;
    let grown = broker.resident_bytes()?.saturating_sub(before);
    ensure!(
        grown < 100 << 20,
        "resident memory grew by {grown} bytes, seed {seed}"
    );
    // A damaged request may by chance have been a good one that deletes the topic.
    let _ = client::create_topic(broker.bootstrap(), &topic, 1, &[]);
    assert_serves(broker.bootstrap(), &topic).with_context(|| format!("seed {seed}"))
}

/// Reads what has arrived without waiting; false when the connection is gone.
fn drain(raw: &mut Raw) -> bool {
    let mut buffer = [0; 4096];
    if raw.stream.set_nonblocking(true).is_err() {
        return false;
    }
    let open = match raw.stream.read(&mut buffer) {
        Ok(count) => count > 0,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    };
    open && raw.stream.set_nonblocking(false).is_ok()
}

/// How many connections this process can open beside what it has.
fn own_descriptor_limit() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok())
        .unwrap_or(1024)
}

/// Opens `size` connections: a third says nothing, a third half a length, a third half a request.
fn gather(bootstrap: &str, size: usize) -> Result<Vec<TcpStream>> {
    let frame = wire::metadata_request(1);
    let mut crowd = Vec::with_capacity(size);
    for index in 0..size {
        let connected = TcpStream::connect(bootstrap);
        let mut stream = connected.with_context(|| format!("connection {index}"))?;
        let said = [0, 2, frame.len() - 1][index % 3];
        // Past its limit the broker closes newcomers, and then there is nobody to say it to.
        let _ = stream.write_all(&frame[..said]);
        crowd.push(stream);
    }
    Ok(crowd)
}

#[test]
fn a_crowd_of_silent_and_slow_connections_leaves_the_others_alone() -> Result<()> {
    let (mut broker, topic) = started()?;
    // As many as this process may hold beside the other tests; the broker's limit is the same.
    let size = own_descriptor_limit()
        .min(20_000)
        .saturating_sub(2_500)
        .max(100);
    let pid = broker.pid()?;
    let before = resident_bytes(pid)?;
    unharmed(&mut broker, |bootstrap| {
        let mut crowd = gather(bootstrap, size)?;
        let grown = resident_bytes(pid)?.saturating_sub(before) / size as u64;
        println!("{size} connections, {grown} bytes resident each");
        ensure!(grown < 32 << 10, "{grown} bytes per idle connection");
        // Slow senders finish their request at last, and are answered.
        let frame = wire::metadata_request(1);
        for stream in crowd.iter_mut().skip(2).step_by(3).take(50) {
            stream.write_all(&frame[frame.len() - 1..])?;
            let mut raw = Raw {
                stream: stream.try_clone()?,
            };
            raw.stream.set_read_timeout(Some(wire::READ_LIMIT))?;
            raw.receive().context("a slow request")?;
        }
        Ok(())
    })?;
    expect_recovery(&mut broker, &topic)
}

/// After a crowd has left there is room for newcomers again, soon.
fn expect_recovery(broker: &mut Broker, topic: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Err(error) = assert_serves(broker.bootstrap(), topic) {
        ensure!(
            Instant::now() < deadline,
            "no recovery after the crowd left: {error:#}"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    broker.assert_alive()
}

#[test]
fn at_the_descriptor_limit_the_broker_waits_and_recovers() -> Result<()> {
    let mut broker = Broker::start_fresh(|mut settings| {
        settings.descriptors = Some(600);
        settings
    })?;
    let bootstrap = broker.bootstrap().to_owned();
    client::create_topic(&bootstrap, "t", 1, &[])?;
    let mut served = Raw::connect(&bootstrap)?;
    served.call(&wire::metadata_request(1))?;
    // More than the process has descriptors for: some are refused, or wait in the kernel's queue.
    let crowd: Vec<_> = (0..1500)
        .filter_map(|_| TcpStream::connect(&bootstrap).ok())
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    broker.assert_alive()?;
    served
        .call(&wire::metadata_request(2))
        .context("the connection that was there first")?;
    let batch = wire::record_batch(&[b"full house"]);
    let body = served.call(&wire::produce_request("t", 0, &batch))?;
    ensure!(
        wire::produce_result(&body, "t")?.0 == 0,
        "producing at the limit"
    );
    drop(crowd);
    expect_recovery(&mut broker, "t")
}
