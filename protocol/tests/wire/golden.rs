//! Bytes written by Apache Kafka's own serializer, for each API and version the broker serves.
//!
//! The files are made by `gen/golden.sh`. Every field holds a number computed from its name, so a
//! field read from the wrong place is noticed, and what we encode must be the same bytes again.

use std::path::Path;

use bytes::Bytes;
use ottla_protocol::guard::Budget;
use ottla_protocol::record::{RecordLimits, Records};
use ottla_protocol::{Compression, RecordBatchView, api};
use uuid::Uuid;

use crate::any::{decode_any_request, decode_any_response};

struct Golden {
    key: i16,
    request: bool,
    version: i16,
    full: bool,
    values: usize,
    body: Bytes,
}

pub(crate) fn hex(text: &str) -> Bytes {
    let digits = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.as_bytes().chunks(2).map(digits).collect()
}

fn lines(name: &str) -> Vec<String> {
    lines_of("tests/golden", name)
}

/// The lines of a file of this crate, without comments.
pub(crate) fn lines_of(folder: &str, name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(folder)
        .join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

fn files() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    #[expect(
        clippy::disallowed_methods,
        reason = "the Disk seam is not for tests of bytes"
    )]
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name.ends_with(".hex") && name != "batches.hex");
    names.sort();
    names
}

fn parse(line: &str) -> Golden {
    let parts: Vec<&str> = line.split(' ').collect();
    Golden {
        key: parts[0].parse().unwrap(),
        request: parts[1] == "request",
        version: parts[2].parse().unwrap(),
        full: parts[3] == "full",
        values: parts[4].parse().unwrap(),
        body: hex(parts[5]),
    }
}

/// The bodies of all golden messages our codec has the version of: also seeds for fuzzing.
pub(crate) fn bodies() -> Vec<(i16, bool, i16, Bytes)> {
    let mut bodies = Vec::new();
    for file in files() {
        for golden in lines(&file).iter().map(|line| parse(line)) {
            if api::facts(golden.key).unwrap().has_version(golden.version) {
                bodies.push((golden.key, golden.request, golden.version, golden.body));
            }
        }
    }
    bodies
}

fn hash(name: &str) -> i64 {
    let fnv = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    i64::from(name.bytes().fold(0x811c_9dc5, fnv))
}

/// Whether a printed value is what Kafka was told to write under that name.
fn is_value_of(name: &str, value: &str) -> bool {
    let hash = hash(name);
    (0..2).any(|index| {
        let numbers = [
            (hash & 0x3f) + index,
            (hash & 0x3fff) + index,
            (hash & 0x3fff_ffff) + index,
            (hash & 0x3fff_ffff) * 1_000_003 + index,
        ];
        let id = (hash & 0x3fff_ffff) as u64;
        let id = Uuid::from_u64_pair(id, id + index as u64);
        value
            .parse()
            .is_ok_and(|number: i64| numbers.contains(&number))
            || value == format!("\"{name}-{index}\"")
            || value == id.to_string()
    })
}

/// The scalars in a message's debug output, each with the name of its field.
fn scalars(debug: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut name = "";
    let mut rest = debug;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || "\"-_".contains(c)) {
        rest = &rest[start..];
        let quoted = rest.starts_with('"');
        let end = match quoted {
            true => rest[1..].find('"').unwrap() + 2,
            false => rest
                .find(|c: char| !(c.is_alphanumeric() || "-_".contains(c)))
                .unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        if after.starts_with(": ") {
            name = token;
        } else if quoted || token.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            found.push((name, token));
        } else if let Ok(id) = Uuid::parse_str(token) {
            debug_assert!(!id.is_nil());
            found.push((name, token));
        }
        rest = after;
    }
    found
}

#[test]
fn what_kafka_writes_is_read_field_by_field_and_written_again() {
    let (mut checked, mut newer) = (0, 0);
    for file in files() {
        for line in lines(&file) {
            let golden = parse(&line);
            let what = &line[..line.len().min(60)];
            if !api::facts(golden.key).unwrap().has_version(golden.version) {
                newer += 1;
                continue;
            }
            let budget = Budget::default();
            let decode = if golden.request {
                decode_any_request
            } else {
                decode_any_response
            };
            let message = decode(golden.key, golden.version, golden.body.clone(), &budget);
            let message = message.unwrap_or_else(|error| panic!("{what}: {error}"));
            if golden.full {
                let debug = format!("{message:?}");
                let right = scalars(&debug)
                    .iter()
                    .filter(|(n, v)| is_value_of(n, v))
                    .count();
                assert_eq!(right, golden.values, "{what}: {debug}");
            }
            let again = message.encode_body(golden.key, golden.version).expect(what);
            assert_eq!(again, golden.body, "{what}");
            checked += 1;
        }
    }
    // InitProducerId 6, twice and both sides.
    assert_eq!(newer, 4);
    assert!(checked > 400, "{checked}");
}

#[test]
fn every_version_of_the_served_apis_has_golden_bytes() {
    let bodies = bodies();
    for key in [
        0, 1, 2, 3, 8, 9, 10, 18, 19, 20, 22, 23, 32, 33, 35, 37, 44, 55, 60, 68, 69, 75, 80,
    ] {
        let facts = api::facts(key).unwrap();
        for version in facts.min..=facts.max {
            let count = bodies
                .iter()
                .filter(|b| (b.0, b.2) == (key, version))
                .count();
            assert_eq!(count, 4, "{} {version}", facts.name);
        }
    }
}

#[test]
fn batches_written_by_kafka_are_read_with_every_codec() {
    let mut seen = 0;
    for line in lines("batches.hex") {
        let (name, bytes) = line.split_once(' ').unwrap();
        let bytes = hex(bytes);
        let view = RecordBatchView::parse(&bytes).unwrap();
        assert_eq!(view.size_bytes(), bytes.len());
        assert!(view.crc_is_valid(), "{name}");
        let records: Result<Vec<_>, _> = Records::open(view, RecordLimits::default())
            .unwrap()
            .collect();
        let records = records.unwrap();
        assert_eq!(view.header().producer_id.0, 77);
        assert_eq!(view.header().producer_epoch, 2);
        if name == "marker" {
            assert!(view.is_control() && view.is_transactional());
            assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, 1][..]));
            assert_eq!(records[0].value.as_deref(), Some(&[0, 0, 0, 0, 0, 9][..]));
            continue;
        }
        assert_eq!(
            view.compression(),
            Ok(Compression::from_name(name).unwrap())
        );
        assert_eq!(view.header().base_sequence, 10);
        assert_eq!(records.len(), 3, "{name}");
        let [first, second, third] = &records[..] else {
            unreachable!()
        };
        assert_eq!(first.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(first.value.as_deref(), Some("value".repeat(71).as_bytes()));
        let headers: Vec<_> = first
            .headers
            .iter()
            .map(|(k, v)| (&k[..], v.as_deref()))
            .collect();
        let expected = [
            (&b"same"[..], Some(&b"1"[..])),
            (b"same", None),
            (b"", Some(b"")),
        ];
        assert_eq!(headers, expected);
        assert_eq!(
            (second.key.as_deref(), second.value.as_deref()),
            (None, Some(&b""[..]))
        );
        assert_eq!(
            (third.key.as_deref(), third.value.as_deref()),
            (Some(&b""[..]), None)
        );
        let times: Vec<_> = records.iter().map(|record| record.timestamp).collect();
        assert_eq!(
            times,
            [1_700_000_000_000, 1_699_999_999_999, 1_700_000_000_500]
        );
        assert_eq!(view.header().max_timestamp, 1_700_000_000_500);
        seen += 1;
    }
    assert_eq!(seen, 5);
}
