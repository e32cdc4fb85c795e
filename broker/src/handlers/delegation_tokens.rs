//! Create-, Renew-, Expire- and DescribeDelegationToken: this broker issues no tokens.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{
    CreateDelegationTokenRequest, CreateDelegationTokenResponse, DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse, ExpireDelegationTokenRequest, ExpireDelegationTokenResponse,
    RenewDelegationTokenRequest, RenewDelegationTokenResponse,
};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::reply::Reply;

const CODE: i16 = ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED.0;
const NO_TIME: i64 = -1;

pub fn create(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: CreateDelegationTokenRequest,
) -> Reply<CreateDelegationTokenResponse> {
    Reply::Now(
        CreateDelegationTokenResponse::default()
            .with_error_code(CODE)
            .with_issue_timestamp_ms(NO_TIME)
            .with_expiry_timestamp_ms(NO_TIME)
            .with_max_timestamp_ms(NO_TIME),
    )
}

pub fn renew(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: RenewDelegationTokenRequest,
) -> Reply<RenewDelegationTokenResponse> {
    let response = RenewDelegationTokenResponse::default();
    Reply::Now(
        response
            .with_error_code(CODE)
            .with_expiry_timestamp_ms(NO_TIME),
    )
}

pub fn expire(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: ExpireDelegationTokenRequest,
) -> Reply<ExpireDelegationTokenResponse> {
    let response = ExpireDelegationTokenResponse::default();
    Reply::Now(
        response
            .with_error_code(CODE)
            .with_expiry_timestamp_ms(NO_TIME),
    )
}

pub fn describe(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: DescribeDelegationTokenRequest,
) -> Reply<DescribeDelegationTokenResponse> {
    Reply::Now(DescribeDelegationTokenResponse::default().with_error_code(CODE))
}
