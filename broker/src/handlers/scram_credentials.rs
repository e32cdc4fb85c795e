//! DescribeUserScramCredentials and AlterUserScramCredentials: no user has credentials here, and
//! none can be given any.

use std::collections::BTreeSet;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse, StrBytes,
    alter_user_scram_credentials_response as altered,
    describe_user_scram_credentials_response as described,
};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::handlers::wire::text;
use crate::reply::Reply;

const NO_CREDENTIAL: &str = "the user has no such credential";

pub fn describe(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: DescribeUserScramCredentialsRequest,
) -> Reply<DescribeUserScramCredentialsResponse> {
    let users: BTreeSet<String> = request
        .users
        .unwrap_or_default()
        .iter()
        .map(|user| user.name.to_string())
        .collect();
    let results = users.into_iter().map(|user| {
        described::DescribeUserScramCredentialsResult::default()
            .with_user(text(user))
            .with_error_code(ErrorCode::RESOURCE_NOT_FOUND.0)
            .with_error_message(Some(StrBytes::from_static_str(NO_CREDENTIAL)))
    });
    let response = DescribeUserScramCredentialsResponse::default().with_error_message(None);
    Reply::Now(response.with_results(results.collect()))
}

/// A user of whom something is deleted does not exist; one who gets something cannot.
pub fn alter(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: AlterUserScramCredentialsRequest,
) -> Reply<AlterUserScramCredentialsResponse> {
    let given: BTreeSet<String> = request
        .upsertions
        .iter()
        .map(|upsertion| upsertion.name.to_string())
        .collect();
    let deleted = request
        .deletions
        .iter()
        .map(|deletion| deletion.name.to_string());
    let all: BTreeSet<String> = given.iter().cloned().chain(deleted).collect();
    let results = all.into_iter().map(|user| {
        let (code, message) = match given.contains(&user) {
            true => (
                ErrorCode::UNSUPPORTED_VERSION,
                "this broker keeps no SCRAM credentials",
            ),
            false => (ErrorCode::RESOURCE_NOT_FOUND, NO_CREDENTIAL),
        };
        altered::AlterUserScramCredentialsResult::default()
            .with_user(text(user))
            .with_error_code(code.0)
            .with_error_message(Some(StrBytes::from_static_str(message)))
    });
    Reply::Now(AlterUserScramCredentialsResponse::default().with_results(results.collect()))
}
