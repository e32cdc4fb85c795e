//! The ApiVersions response, the first bytes every client reads, written by hand.
//!
//! Its rules are those of real clients: the header is version 0 whatever the body is; a request in
//! a version we do not know is answered in version 0 with UNSUPPORTED_VERSION and the full list;
//! features whose lowest level is 0 are left out below version 4, which cannot read them; and a tag
//! with its default value is never written, for librdkafka 2.0.2 mis-skips some of them.

use bytes::{BufMut, Bytes, BytesMut};

use crate::api::{API_VERSIONS_KEY, facts};
use crate::error::ErrorCode;
use crate::frame::FRAME_LEN_BYTES;
use crate::header::write_response_header;
use crate::wire::{put_array_len, put_no_tags, put_string, put_unsigned_varint};

#[cfg(test)]
mod tests;

const THROTTLE_FROM: i16 = 1;
const FLEXIBLE_FROM: i16 = 3;
const ZERO_LEVELS_FROM: i16 = 4;

/// A key with the versions a client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiRange {
    pub key: i16,
    pub min: i16,
    pub max: i16,
}

/// A feature with a range of levels: those supported, or those finalized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureRange<'a> {
    pub name: &'a str,
    pub min: i16,
    pub max: i16,
}

/// What the broker tells about itself.
#[derive(Clone, Copy, Debug)]
pub struct ApiVersionsAnswer<'a> {
    pub error: ErrorCode,
    pub throttle_time_ms: i32,
    pub apis: &'a [ApiRange],
    pub supported_features: &'a [FeatureRange<'a>],
    /// -1 is none.
    pub finalized_features_epoch: i64,
    pub finalized_features: &'a [FeatureRange<'a>],
}

/// The version to answer a request in: its own, or 0 when we do not know it.
pub fn answer_version(request_version: i16) -> i16 {
    let known = facts(API_VERSIONS_KEY).is_some_and(|facts| facts.has_version(request_version));
    if known { request_version } else { 0 }
}

/// Writes the whole frame. The error becomes UNSUPPORTED_VERSION if the version is not known.
pub fn write_api_versions_response(
    correlation_id: i32,
    request_version: i16,
    answer: &ApiVersionsAnswer<'_>,
) -> Bytes {
    let version = answer_version(request_version);
    let known = version == request_version;
    let error = if known {
        answer.error
    } else {
        ErrorCode::UNSUPPORTED_VERSION
    };
    let flexible = version >= FLEXIBLE_FROM;
    let mut buf = BytesMut::with_capacity(64 + 7 * answer.apis.len());
    buf.put_i32(0);
    write_response_header(&mut buf, correlation_id, false);
    buf.put_i16(error.code());
    put_array_len(&mut buf, flexible, answer.apis.len());
    for api in answer.apis {
        buf.put_i16(api.key);
        buf.put_i16(api.min);
        buf.put_i16(api.max);
        put_no_tags(&mut buf, flexible);
    }
    if version >= THROTTLE_FROM {
        buf.put_i32(answer.throttle_time_ms);
    }
    if flexible {
        put_features(&mut buf, version, answer);
    }
    let len = (buf.len() - FRAME_LEN_BYTES) as i32;
    buf[..FRAME_LEN_BYTES].copy_from_slice(&len.to_be_bytes());
    buf.freeze()
}

fn put_features(buf: &mut BytesMut, version: i16, answer: &ApiVersionsAnswer<'_>) {
    let readable = |feature: &&FeatureRange<'_>| version >= ZERO_LEVELS_FROM || feature.min > 0;
    let supported: Vec<_> = answer.supported_features.iter().filter(readable).collect();
    let has_epoch = answer.finalized_features_epoch != -1;
    let has_finalized = !answer.finalized_features.is_empty();
    buf.put_u8(u8::from(!supported.is_empty()) + u8::from(has_epoch) + u8::from(has_finalized));
    if !supported.is_empty() {
        let ranges = supported
            .iter()
            .map(|feature| (feature.name, feature.min, feature.max));
        put_feature_tag(buf, 0, ranges);
    }
    if has_epoch {
        put_unsigned_varint(buf, 1);
        put_unsigned_varint(buf, 8);
        buf.put_i64(answer.finalized_features_epoch);
    }
    if has_finalized {
        // Here the highest level comes first.
        let finalized = answer.finalized_features.iter();
        put_feature_tag(
            buf,
            2,
            finalized.map(|feature| (feature.name, feature.max, feature.min)),
        );
    }
}

fn put_feature_tag<'a>(
    buf: &mut BytesMut,
    tag: u32,
    features: impl ExactSizeIterator<Item = (&'a str, i16, i16)>,
) {
    let mut value = BytesMut::new();
    put_array_len(&mut value, true, features.len());
    for (name, first, second) in features {
        put_string(&mut value, true, name);
        value.put_i16(first);
        value.put_i16(second);
        value.put_u8(0);
    }
    put_unsigned_varint(buf, tag);
    put_unsigned_varint(buf, value.len() as u32);
    buf.put_slice(&value);
}

/// Whether a client software name or version may be kept: letters and digits, with `-` and `.`
/// between them. Anything else is an invalid request (ApiVersions version 3 and later).
pub fn is_valid_software_text(text: &str) -> bool {
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends(bytes.first())
        && ends(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
