//! UpdateFeatures: finalises the levels of features. All updates of a request happen, or none.

use ottla_controller::command::{FeatureUpdate, FeatureUpdateMode};
use ottla_controller::{Command, CommandReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::update_features_request::FeatureUpdateKey;
use ottla_protocol::messages::update_features_response::UpdatableFeatureResult;
use ottla_protocol::messages::{StrBytes, UpdateFeaturesRequest, UpdateFeaturesResponse};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::errors::Failure;
use crate::handlers::wire::{owned, unexpected};
use crate::reply::Reply;

/// From here the direction of an update is told by a number.
const UPGRADE_TYPE_FROM: i16 = 1;
/// From here there is one result for all.
const ONE_RESULT_FROM: i16 = 2;

pub fn handle(
    _cluster: Cluster<'_>,
    ctx: &RequestContext<'_>,
    request: UpdateFeaturesRequest,
) -> Reply<UpdateFeaturesResponse> {
    let version = ctx.version;
    let updates: Result<Vec<_>, Failure> = request
        .feature_updates
        .iter()
        .map(|update| feature_update(update, version))
        .collect();
    let updates = match updates {
        Ok(updates) => updates,
        Err(failure) => return Reply::Now(refused(failure)),
    };
    let command = Command::UpdateFeatures {
        updates,
        validate_only: request.validate_only,
    };
    let features: Vec<StrBytes> = request
        .feature_updates
        .into_iter()
        .map(|update| update.feature)
        .collect();
    ctx.submit(command, request.timeout_ms, move |reply| {
        match reply.map_err(Failure::from) {
            Ok(CommandReply::FeaturesUpdated(Ok(()))) => done(version, features),
            Ok(CommandReply::FeaturesUpdated(Err(error))) => refused(error.into()),
            Ok(CommandReply::Refused(refusal)) => refused(refusal.into()),
            Ok(other) => refused(unexpected(&other)),
            Err(failure) => refused(failure),
        }
    })
}

fn feature_update(update: &FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, Failure> {
    let mode = match update.upgrade_type {
        _ if version < UPGRADE_TYPE_FROM && update.allow_downgrade => {
            FeatureUpdateMode::SafeDowngrade
        }
        _ if version < UPGRADE_TYPE_FROM => FeatureUpdateMode::Upgrade,
        1 => FeatureUpdateMode::Upgrade,
        2 => FeatureUpdateMode::SafeDowngrade,
        3 => FeatureUpdateMode::UnsafeDowngrade,
        other => {
            let message = format!("there is no upgrade type {other}");
            return Err(Failure::new(ErrorCode::INVALID_UPDATE_VERSION, message));
        }
    };
    Ok(FeatureUpdate {
        name: owned(&update.feature),
        level: update.max_version_level,
        mode,
    })
}

fn done(version: i16, features: Vec<StrBytes>) -> UpdateFeaturesResponse {
    let response = UpdateFeaturesResponse::default().with_error_message(None);
    if version >= ONE_RESULT_FROM {
        return response;
    }
    let results = features.into_iter().map(|feature| {
        UpdatableFeatureResult::default()
            .with_feature(feature)
            .with_error_message(None)
    });
    response.with_results(results.collect())
}

fn refused(failure: Failure) -> UpdateFeaturesResponse {
    UpdateFeaturesResponse::default()
        .with_error_code(failure.code.0)
        .with_error_message(Some(failure.message))
}
