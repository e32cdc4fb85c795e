//! Over every request and response type at every version: what the guard accepts, the codec decodes
//! without panic or abort, and within the memory the guard computed and the budget allows.
//!
//! Well-formed random messages come from the shapes; the damaged ones are those with bytes changed,
//! cut, doubled or overwritten with the numbers that hurt. A counting allocator measures.

use bytes::{Bytes, BytesMut};
use ottla_protocol::DecodeError;
use ottla_protocol::api::{self, ApiFacts};
use ottla_protocol::guard::{Budget, Cost, measure_request, measure_response, sample};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::allocation::allocated;
use crate::any::{AnyMessage, decode_any_request, decode_any_response};
use crate::golden::{hex, lines_of};

/// The message's own struct in its box, the reference count of the body.
const STRUCT_BYTES: u64 = 2048;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Side {
    pub(crate) fn sample(self, key: i16, version: i16, rng: &mut StdRng) -> BytesMut {
        let mut choose = |n: u32| rng.random_range(0..n);
        match self {
            Side::Request => sample::request(key, version, &mut choose).unwrap(),
            Side::Response => sample::response(key, version, &mut choose).unwrap(),
        }
    }

    fn measure(self, key: i16, version: i16, body: &[u8]) -> Result<Cost, DecodeError> {
        match self {
            Side::Request => measure_request(key, version, body, &Budget::default()),
            Side::Response => measure_response(key, version, body, &Budget::default()),
        }
    }

    fn decode(
        self,
        key: i16,
        version: i16,
        body: Bytes,
    ) -> Result<Box<dyn AnyMessage>, DecodeError> {
        match self {
            Side::Request => decode_any_request(key, version, body, &Budget::default()),
            Side::Response => decode_any_response(key, version, body, &Budget::default()),
        }
    }
}

/// The property. Tells whether the body was accepted.
pub(crate) fn hold(side: Side, facts: &ApiFacts, version: i16, body: &[u8]) -> bool {
    let what = || format!("{side:?} {} {version}: {body:02x?}", facts.name);
    let (cost, by_guard) = allocated(|| side.measure(facts.key, version, body));
    assert_eq!(by_guard, 0, "the guard allocated: {}", what());
    let bytes = Bytes::copy_from_slice(body);
    let (decoded, by_decode) = allocated(|| side.decode(facts.key, version, bytes));
    match (cost, decoded) {
        (Ok(cost), Ok(_)) => {
            let allowed = Budget::default().allowed_bytes(body.len());
            assert!(cost.memory_bytes <= allowed, "{}", what());
            let modelled = cost.memory_bytes + STRUCT_BYTES;
            assert!(
                by_decode <= modelled,
                "{by_decode} > {modelled}: {}",
                what()
            );
            true
        }
        (Err(refused), Err(error)) => {
            assert_eq!(refused, error);
            assert_eq!(by_decode, 0, "a refusal allocated: {}", what());
            false
        }
        (accepted, decoded) => panic!("{accepted:?} but {decoded:?}: {}", what()),
    }
}

fn for_each_version(mut test: impl FnMut(Side, &ApiFacts, i16, &mut StdRng)) {
    for facts in api::all() {
        let mut rng = StdRng::seed_from_u64(facts.key as u64);
        for version in facts.min..=facts.max {
            test(Side::Request, facts, version, &mut rng);
            test(Side::Response, facts, version, &mut rng);
        }
    }
}

#[test]
fn well_formed_messages_are_accepted_decoded_and_survive_encoding() {
    for_each_version(|side, facts, version, rng| {
        for _ in 0..20 {
            let body = side.sample(facts.key, version, rng).freeze();
            let what = format!("{side:?} {} {version}", facts.name);
            assert!(hold(side, facts, version, &body), "{what}: {body:02x?}");
            let message = side.decode(facts.key, version, body).unwrap();
            let again = message.encode_body(facts.key, version).expect(&what);
            assert!(hold(side, facts, version, &again), "{what}: {again:02x?}");
            let decoded = side.decode(facts.key, version, again).unwrap();
            assert_eq!(format!("{message:?}"), format!("{decoded:?}"), "{what}");
        }
    });
}

#[test]
fn every_cut_of_a_message_is_refused() {
    for_each_version(|side, facts, version, rng| {
        let body = side.sample(facts.key, version, rng);
        for len in 0..body.len() {
            let cut = hold(side, facts, version, &body[..len]);
            assert!(!cut, "{side:?} {} {version} cut at {len}", facts.name);
        }
    });
}

const HURTFUL: [&[u8]; 8] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
    &[0x00, 0x0f, 0x42, 0x41],
    &[0x7f, 0xff],
    &[0xff, 0x7f],
    &[0x00, 0x00, 0x00, 0x00],
];

pub(crate) fn damage(body: &mut Vec<u8>, rng: &mut StdRng) {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=body.len());
        match rng.random_range(0..6) {
            0 if at < body.len() => body[at] = rng.random(),
            1 if at < body.len() => body[at] ^= 1 << rng.random_range(0..8),
            2 => body.truncate(at),
            3 => {
                let copy = body[at..].to_vec();
                body.extend_from_slice(&copy);
            }
            4 => drop(body.splice(at..at, std::iter::repeat_n(0, rng.random_range(0..64)))),
            _ => {
                let bytes = HURTFUL[rng.random_range(0..HURTFUL.len())];
                let end = body.len().min(at + bytes.len());
                drop(body.splice(at..end, bytes.iter().copied()));
            }
        }
    }
}

/// How often each version is damaged; `protocol/fuzz/run` tells how to do it for longer.
fn rounds() -> u32 {
    let rounds = std::env::var("OTTLA_FUZZ_ROUNDS");
    rounds.map_or(300, |rounds| {
        rounds.parse().expect("OTTLA_FUZZ_ROUNDS is a number")
    })
}

#[test]
fn the_hostile_corpus_is_refused() {
    for line in lines_of("tests/corpus", "hostile.hex") {
        let parts: Vec<&str> = line.split(' ').collect();
        let facts = api::facts(parts[0].parse().unwrap()).unwrap();
        let side = if parts[1] == "request" {
            Side::Request
        } else {
            Side::Response
        };
        let version = parts[2].parse().unwrap();
        assert!(facts.has_version(version), "{line}");
        assert!(!hold(side, facts, version, &hex(parts[3])), "{line}");
    }
}

#[test]
fn damaged_messages_are_refused_or_decoded_within_the_budget() {
    let (mut accepted, mut refused) = (0, 0);
    for_each_version(|side, facts, version, rng| {
        for _ in 0..rounds() {
            let mut body = side.sample(facts.key, version, rng).to_vec();
            damage(&mut body, rng);
            match hold(side, facts, version, &body) {
                true => accepted += 1,
                false => refused += 1,
            }
        }
    });
    // Both happen often, or the damage is too gentle or too rough to find anything.
    assert!(
        accepted > 10_000 && refused > 10_000,
        "{accepted} accepted, {refused} refused"
    );
}

#[test]
fn damaged_golden_messages_are_refused_or_decoded_within_the_budget() {
    let mut rng = StdRng::seed_from_u64(7);
    for (key, request, version, body) in crate::golden::bodies() {
        let side = if request {
            Side::Request
        } else {
            Side::Response
        };
        let facts = api::facts(key).unwrap();
        assert!(hold(side, facts, version, &body));
        for _ in 0..100 {
            let mut body = body.to_vec();
            damage(&mut body, &mut rng);
            hold(side, facts, version, &body);
        }
    }
}

#[test]
fn large_frames_of_tiny_elements_stay_within_the_budget() {
    for_each_version(|side, facts, version, _| {
        // Every array is as long as it can be made with so many bytes of one value.
        for fill in [0u8, 1, 2] {
            for count in [1_000u32, 20_000] {
                let mut body = vec![fill; 40_000];
                for at in 0..12 {
                    body[at..at + 4].copy_from_slice(&count.to_be_bytes());
                    hold(side, facts, version, &body);
                    // The same count as a varint.
                    let [low, middle, high] = [count, count >> 7, count >> 14].map(|n| n as u8);
                    body[at..at + 3].copy_from_slice(&[low | 0x80, middle | 0x80, high]);
                    hold(side, facts, version, &body);
                    body[at..at + 4].fill(fill);
                }
            }
        }
    });
}

#[test]
fn unknown_tagged_fields_are_charged_for_the_map_that_keeps_them() {
    for count in [1u32, 5, 11, 12, 100, 500, 1_000, 9_999] {
        // Metadata 12 without topics; tags from 1000 on, empty.
        let mut body = vec![0, 0, 0];
        let varint = |body: &mut Vec<u8>, value: u32| {
            body.extend_from_slice(&[value as u8 | 0x80, (value >> 7) as u8 | 0x80]);
            body.push((value >> 14) as u8);
        };
        varint(&mut body, count);
        for tag in 0..count {
            varint(&mut body, 1_000 + tag);
            body.push(0);
        }
        let facts = api::facts(3).unwrap();
        let accepted = hold(Side::Request, facts, 12, &body);
        assert_eq!(accepted, count <= 500, "{count}");
    }
}
