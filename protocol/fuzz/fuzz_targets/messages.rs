//! Any body of any API the broker serves (`apis.txt`): what the guard accepts, the codec decodes.
//! The first three bytes choose API, side and version; `OTTLA_FUZZ_API=Metadata` keeps to one API.
#![no_main]

use std::sync::OnceLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ottla_protocol::DecodeError;
use ottla_protocol::api::{self, ApiFacts};
use ottla_protocol::fetch_view::FetchRequest;
use ottla_protocol::guard::{Budget, check_request};
use ottla_protocol::produce_view::ProduceView;

#[path = "../../tests/wire/any.rs"]
mod any;

fn chosen() -> &'static [&'static ApiFacts] {
    static CHOSEN: OnceLock<Vec<&'static ApiFacts>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let only = std::env::var("OTTLA_FUZZ_API").ok();
        let wanted = |facts: &&ApiFacts| only.as_deref().is_none_or(|only| only == facts.name);
        let served = include_str!("../apis.txt").lines().skip(1);
        let key = |line: &str| line.split(' ').next().unwrap().parse().unwrap();
        let chosen: Vec<_> = served
            .map(|line| api::facts(key(line)).unwrap())
            .filter(wanted)
            .collect();
        assert!(!chosen.is_empty(), "OTTLA_FUZZ_API names no API");
        chosen
    })
}

fuzz_target!(|data: &[u8]| {
    let [choice, side, version, body @ ..] = data else {
        return;
    };
    let facts = chosen()[usize::from(*choice) % chosen().len()];
    let version = facts.min + i16::from(*version) % (facts.max - facts.min + 1);
    let budget = Budget::default();
    let bytes = Bytes::copy_from_slice(body);
    let decoded = match side % 2 {
        0 => any::decode_any_request(facts.key, version, bytes, &budget),
        _ => any::decode_any_response(facts.key, version, bytes, &budget),
    };
    assert!(
        !matches!(decoded, Err(DecodeError::Codec)),
        "the guard accepted {body:02x?}"
    );
    if side % 2 == 0 && facts.key <= 1 {
        let guarded = check_request(facts.key, version, body, &budget).is_ok();
        let ours = match facts.key {
            0 => ProduceView::parse(body, version).is_ok(),
            _ => FetchRequest::parse(body, version).is_ok(),
        };
        // The two count memory differently, so only large bodies may tell them apart.
        assert!(guarded == ours || body.len() > 1024, "{body:02x?}");
    }
});
