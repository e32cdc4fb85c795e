//! DescribeAcls, CreateAcls, DeleteAcls: there is no authorizer, so there is no list to read or
//! change.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::create_acls_response::AclCreationResult;
use ottla_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use ottla_protocol::messages::{
    CreateAclsRequest, CreateAclsResponse, DeleteAclsRequest, DeleteAclsResponse,
    DescribeAclsRequest, DescribeAclsResponse, StrBytes,
};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::reply::Reply;

const CODE: i16 = ErrorCode::SECURITY_DISABLED.0;

fn message() -> Option<StrBytes> {
    Some(StrBytes::from_static_str(
        "no authorizer is configured on the broker",
    ))
}

pub fn describe(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: DescribeAclsRequest,
) -> Reply<DescribeAclsResponse> {
    let response = DescribeAclsResponse::default();
    Reply::Now(response.with_error_code(CODE).with_error_message(message()))
}

pub fn create(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: CreateAclsRequest,
) -> Reply<CreateAclsResponse> {
    let refused = || {
        AclCreationResult::default()
            .with_error_code(CODE)
            .with_error_message(message())
    };
    let results = request.creations.iter().map(|_| refused());
    Reply::Now(CreateAclsResponse::default().with_results(results.collect()))
}

pub fn delete(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: DeleteAclsRequest,
) -> Reply<DeleteAclsResponse> {
    let refused = || {
        DeleteAclsFilterResult::default()
            .with_error_code(CODE)
            .with_error_message(message())
    };
    let results = request.filters.iter().map(|_| refused());
    Reply::Now(DeleteAclsResponse::default().with_filter_results(results.collect()))
}
