//! The answer as the codec reads it, and what must not be in it.

use bytes::Buf;

use super::*;
use crate::messages::{ApiVersionsResponse, decode_response};

const APIS: &[ApiRange] = &[
    ApiRange {
        key: 0,
        min: 0,
        max: 13,
    },
    ApiRange {
        key: 18,
        min: 0,
        max: 4,
    },
];
const SUPPORTED: &[FeatureRange<'static>] = &[
    FeatureRange {
        name: "metadata.version",
        min: 7,
        max: 30,
    },
    FeatureRange {
        name: "kraft.version",
        min: 0,
        max: 1,
    },
];
const FINALIZED: &[FeatureRange<'static>] = &[FeatureRange {
    name: "metadata.version",
    min: 7,
    max: 30,
}];

fn answer() -> ApiVersionsAnswer<'static> {
    ApiVersionsAnswer {
        error: ErrorCode::NONE,
        throttle_time_ms: 0,
        apis: APIS,
        supported_features: SUPPORTED,
        finalized_features_epoch: 5,
        finalized_features: FINALIZED,
    }
}

fn read(version: i16, frame: &Bytes) -> ApiVersionsResponse {
    assert_eq!((&frame[..]).get_i32() as usize, frame.len() - 4);
    let (correlation_id, response) = decode_response(frame.slice(4..), version).unwrap();
    assert_eq!(correlation_id, 9);
    response
}

#[test]
fn the_codec_reads_every_version() {
    for version in 0..=4 {
        let frame = write_api_versions_response(9, version, &answer());
        let response = read(version, &frame);
        assert_eq!(response.error_code, 0);
        let ranges: Vec<_> = response
            .api_keys
            .iter()
            .map(|a| (a.api_key, a.min_version, a.max_version))
            .collect();
        assert_eq!(ranges, [(0, 0, 13), (18, 0, 4)]);
        let names: Vec<_> = response
            .supported_features
            .iter()
            .map(|f| &*f.name)
            .collect();
        let expected: &[&str] = match version {
            0..3 => &[],
            3 => &["metadata.version"],
            _ => &["metadata.version", "kraft.version"],
        };
        assert_eq!(names, expected, "version {version}");
        if version >= 3 {
            assert_eq!(response.finalized_features_epoch, 5);
            let finalized = &response.finalized_features[0];
            assert_eq!(
                (finalized.min_version_level, finalized.max_version_level),
                (7, 30)
            );
        }
    }
}

#[test]
fn an_unknown_version_is_answered_in_version_zero_with_the_list() {
    for version in [-1, 5, 99, i16::MAX] {
        let frame = write_api_versions_response(9, version, &answer());
        let response = read(0, &frame);
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION.code());
        assert_eq!(response.api_keys.len(), APIS.len());
    }
}

#[test]
fn default_valued_tags_are_not_written() {
    let bare = ApiVersionsAnswer {
        supported_features: &SUPPORTED[1..],
        finalized_features_epoch: -1,
        finalized_features: &[],
        ..answer()
    };
    let frame = write_api_versions_response(9, 3, &bare);
    // Length, correlation id, error, count, two rows with empty tags, throttle time, no tags.
    assert_eq!(frame.len(), 4 + 4 + 2 + 1 + 2 * 7 + 4 + 1);
    assert_eq!(frame[frame.len() - 1], 0);
}

#[test]
fn software_names_are_letters_digits_and_inner_punctuation() {
    for good in ["a", "confluent-kafka-python", "2.16.1-rdkafka-2.16.0", "7"] {
        assert!(is_valid_software_text(good), "{good}");
    }
    for bad in ["", "-a", "a-", ".", "a b", "a_b", "ä", "a\n", "a/b"] {
        assert!(!is_valid_software_text(bad), "{bad:?}");
    }
}
