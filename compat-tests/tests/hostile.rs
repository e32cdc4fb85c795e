//! What no client sends: broken frames, claims that are lies, wrong checksums. Each is refused or
//! closed; nobody else notices, and memory stays where it was. Crowds are in `crowd.rs`.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::broker::Broker;
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{self, Bytes, Raw};
use ottla_compat_tests::witness::{assert_serves, unharmed};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use std::io::Read as _;
use std::time::Duration;

const UNSUPPORTED_VERSION: i16 = 35;
const CORRUPT_MESSAGE: i16 = 2;

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
