//! ApiVersions: which requests this broker answers, and which features are finalized. Derived
//! from `APIS`.
//!
//! Clients send it first on each connection and switch features on by what it says, so a range
//! that is not complete is not advertised, and default-valued tagged fields are never written:
//! librdkafka 2.0 cannot skip them.

use ottla_controller::MetadataImage;
use ottla_controller::decide::FEATURES;
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::StrBytes;
use ottla_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use crate::api::APIS;
use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::reply::Reply;

/// From this version on a feature may have a minimum level of 0; older clients fail to read that.
const ZERO_LEVELS_FROM: i16 = 4;
/// From this version on clients name their software.
const SOFTWARE_NAME_FROM: i16 = 3;

/// Levels of Kafka's own quorum protocol: tools ask for them, and nothing here depends on them.
const KRAFT_VERSION: (&str, i16, i16) = ("kraft.version", 0, 1);

pub fn handle(
    cluster: Cluster<'_>,
    ctx: &RequestContext<'_>,
    request: ApiVersionsRequest,
) -> Reply<ApiVersionsResponse> {
    if ctx.version >= SOFTWARE_NAME_FROM
        && !(is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version))
    {
        let response = ApiVersionsResponse::default()
            .with_error_code(ErrorCode::INVALID_REQUEST.0)
            .with_api_keys(api_keys());
        return Reply::Now(response);
    }
    let mut response = ApiVersionsResponse::default().with_api_keys(api_keys());
    if ctx.version >= SOFTWARE_NAME_FROM {
        let image = cluster.metadata.image();
        response = response
            .with_supported_features(supported_features(ctx.version))
            .with_finalized_features_epoch(image.applied.0)
            .with_finalized_features(finalized_features(&image));
    }
    Reply::Now(response)
}

/// The answer, in version 0, to a version newer than ours.
pub fn unsupported_version() -> ApiVersionsResponse {
    ApiVersionsResponse::default()
        .with_error_code(ErrorCode::UNSUPPORTED_VERSION.0)
        .with_api_keys(api_keys())
}

fn api_keys() -> Vec<ApiVersion> {
    APIS.iter()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key)
                .with_min_version(api.advertise.min)
                .with_max_version(api.advertise.max)
        })
        .collect()
}

fn supported_features(version: i16) -> Vec<SupportedFeatureKey> {
    let ours = FEATURES
        .iter()
        .map(|feature| (feature.name, feature.min, feature.max));
    [KRAFT_VERSION]
        .into_iter()
        .chain(ours)
        .filter(|(_, min, _)| *min > 0 || version >= ZERO_LEVELS_FROM)
        .map(|(name, min, max)| {
            SupportedFeatureKey::default()
                .with_name(StrBytes::from_static_str(name))
                .with_min_version(min)
                .with_max_version(max)
        })
        .collect()
}

/// What the cluster agreed on. `metadata.version` is always there: tools take a cluster without it
/// for a very old one.
fn finalized_features(image: &MetadataImage) -> Vec<FinalizedFeatureKey> {
    let finalized = image.features.iter().filter(|(_, level)| *level > 0);
    finalized
        .map(|(name, level)| {
            FinalizedFeatureKey::default()
                .with_name(StrBytes::from_string(name.to_string()))
                .with_min_version_level(level)
                .with_max_version_level(level)
        })
        .collect()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    ends_well(bytes.first())
        && ends_well(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_follow_kafkas_pattern() {
        for good in [
            "a",
            "librdkafka",
            "2.16.0",
            "confluent-kafka-python",
            "A-.9",
        ] {
            assert!(is_software_name(good), "{good}");
        }
        for bad in ["", "-a", "a-", ".", "a b", "a_b", "é"] {
            assert!(!is_software_name(bad), "{bad}");
        }
    }

    #[test]
    fn features_that_start_at_level_zero_are_hidden_from_old_clients() {
        let old: Vec<_> = supported_features(3)
            .iter()
            .map(|f| f.min_version)
            .collect();
        assert!(!old.is_empty() && old.iter().all(|&min| min > 0));
        assert!(supported_features(4).len() > old.len());
    }

    #[test]
    fn the_answer_to_a_future_version_lists_every_row() {
        let response = unsupported_version();
        assert_eq!(response.error_code, 35);
        assert_eq!(response.api_keys.len(), APIS.len());
        assert!(response.api_keys.iter().any(|key| key.api_key == 18));
    }
}
