//! The requests of every API the broker serves: the corpus that fuzzing left is replayed, and
//! mutated for as long as `OTTLA_FUZZ_SECONDS` says (`protocol/fuzz/run` sets it).
//!
//! `protocol/fuzz/apis.txt` is the list of targets. It is generated from the broker's table of
//! APIs, and a test of the broker keeps the two equal.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla_protocol::api::{self, ApiFacts};
use ottla_protocol::fetch_view::FetchRequest;
use ottla_protocol::messages::{MetadataRequest, decode_request};
use ottla_protocol::metadata_view::MetadataView;
use ottla_protocol::produce_view::ProduceView;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::allocation::allocated;
use crate::golden::{self, hex, lines_of};
use crate::guard::{Side, damage, hold};

/// Fuzzed in every run of the suite, all targets together.
const SECONDS: f64 = 2.0;
/// Mutations kept as seeds of further ones, per target.
const KEPT_MAX: usize = 4_000;
const BODY_BYTES_MAX: usize = 16 * 1024;

/// The request type of one API at the versions that are served.
struct Target {
    facts: &'static ApiFacts,
    min: i16,
    max: i16,
    seeds: Vec<(i16, Vec<u8>)>,
}

fn targets() -> Vec<Target> {
    let only = std::env::var("OTTLA_FUZZ_API").ok();
    let mut targets: Vec<Target> = lines_of("fuzz", "apis.txt")
        .iter()
        .map(|line| target(line))
        .filter(|target| only.as_deref().is_none_or(|only| only == target.facts.name))
        .collect();
    assert!(!targets.is_empty(), "OTTLA_FUZZ_API names no API");
    for (key, request, version, body) in golden::bodies() {
        let target = targets.iter_mut().find(|target| target.facts.key == key);
        if let Some(target) = target.filter(|target| request && target.serves(version)) {
            target.seeds.push((version, body.to_vec()));
        }
    }
    targets
}

/// A line is "key name min max".
fn target(line: &str) -> Target {
    let words: Vec<&str> = line.split(' ').collect();
    let number = |at: usize| words[at].parse::<i16>().unwrap();
    let mut target = Target {
        facts: api::facts(number(0)).unwrap(),
        min: number(2),
        max: number(3),
        seeds: Vec::new(),
    };
    assert_eq!(target.facts.name, words[1]);
    let mut rng = StdRng::seed_from_u64(1);
    for version in target.min..=target.max {
        for _ in 0..4 {
            let body = Side::Request.sample(target.facts.key, version, &mut rng);
            target.seeds.push((version, body.to_vec()));
        }
    }
    let name = format!("{}.hex", target.facts.name.to_lowercase());
    for line in lines_of("tests/corpus/requests", &name) {
        let (version, body) = line.split_once(' ').unwrap();
        let body = if body == "-" { Bytes::new() } else { hex(body) };
        target.seeds.push((version.parse().unwrap(), body.to_vec()));
    }
    target
}

impl Target {
    fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// The property of the guard, and that our own codecs agree with it. True if accepted.
    fn check(&self, version: i16, body: &[u8]) -> bool {
        let guarded = hold(Side::Request, self.facts, version, body);
        let ours = match self.facts.key {
            0 => ProduceView::parse(body, version).is_ok(),
            1 => FetchRequest::parse(body, version).is_ok(),
            3 => metadata_agrees(version, body),
            _ => guarded,
        };
        // They count memory differently, so only large bodies may tell them apart.
        assert!(
            guarded == ours || body.len() > 1024,
            "{version} {body:02x?}"
        );
        guarded
    }

    /// Mutates seeds until `until`; what is accepted becomes a seed. Returns how many were tried.
    #[expect(
        clippy::disallowed_methods,
        reason = "fuzzing lasts as long as it is told"
    )]
    fn fuzz(&mut self, rng: &mut StdRng, until: Instant) -> u64 {
        let mut tried = 0;
        while tried % 64 != 0 || Instant::now() < until {
            tried += 1;
            let (mut version, mut body) = self.seeds[rng.random_range(0..self.seeds.len())].clone();
            if rng.random_range(0..8) == 0 {
                version = rng.random_range(self.min..=self.max);
            }
            damage(&mut body, rng);
            body.truncate(BODY_BYTES_MAX);
            if self.check(version, &body) && self.seeds.len() < KEPT_MAX {
                self.seeds.push((version, body));
            }
        }
        tried
    }
}

/// The view of a Metadata request says what the codec says; it refuses less, as it needs no memory.
fn metadata_agrees(version: i16, body: &[u8]) -> bool {
    let decoded = decode_request::<MetadataRequest>(Bytes::copy_from_slice(body), version);
    let (view, by_view) = allocated(|| MetadataView::parse(body, version));
    assert_eq!(by_view, 0, "the view allocated");
    let Ok(request) = decoded else {
        return view.is_ok() && body.len() > 1024;
    };
    let view = view.unwrap_or_else(|error| panic!("{error}: {version} {body:02x?}"));
    let topics = request.topics.as_ref().map(|topics| {
        let pairs = topics.iter().map(|topic| {
            let name = topic.name.as_ref().map(|name| name.as_str());
            (topic.topic_id, name)
        });
        pairs.collect::<Vec<_>>()
    });
    let seen: Vec<_> = view
        .topics()
        .map(|topic| (topic.topic_id.0, topic.name))
        .collect();
    assert_eq!(view.topic_count(), topics.as_ref().map(Vec::len));
    assert_eq!(seen, topics.unwrap_or_default(), "{version} {body:02x?}");
    let flags = (
        view.allow_auto_topic_creation,
        view.include_cluster_authorized_operations,
        view.include_topic_authorized_operations,
    );
    let expected = (
        request.allow_auto_topic_creation,
        request.include_cluster_authorized_operations,
        request.include_topic_authorized_operations,
    );
    assert_eq!(flags, expected, "{version} {body:02x?}");
    true
}

#[test]
fn the_corpus_of_every_served_api_holds() {
    for target in targets() {
        for (version, body) in target.seeds.iter().filter(|seed| target.serves(seed.0)) {
            target.check(*version, body);
        }
        for version in target.min..=target.max {
            let seeds = target.seeds.iter().filter(|seed| seed.0 == version);
            assert!(seeds.count() >= 4, "{} {version}", target.facts.name);
        }
    }
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "fuzzing lasts as long as it is told"
)]
fn mutations_of_every_served_request_hold() {
    let seconds = std::env::var("OTTLA_FUZZ_SECONDS").ok();
    let seconds: f64 = seconds.map_or(SECONDS, |text| text.parse().expect("a number"));
    // The suite repeats itself; whoever fuzzes wants something new.
    let seed = match seconds > SECONDS {
        true => StdRng::from_os_rng().random(),
        false => 0,
    };
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut targets = targets();
    let each = Duration::from_secs_f64(seconds / targets.len() as f64);
    for target in &mut targets {
        target
            .seeds
            .retain(|seed| (target.min..=target.max).contains(&seed.0));
        let tried = target.fuzz(&mut rng, Instant::now() + each);
        println!("{}: {tried} requests held", target.facts.name);
    }
}
