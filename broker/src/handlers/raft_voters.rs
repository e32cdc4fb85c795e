//! AddRaftVoter and RemoveRaftVoter: the voters of the metadata quorum are fixed when it forms.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{
    AddRaftVoterRequest, AddRaftVoterResponse, RemoveRaftVoterRequest, RemoveRaftVoterResponse,
    StrBytes,
};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::reply::Reply;

const CODE: i16 = ErrorCode::UNSUPPORTED_VERSION.0;

fn message() -> Option<StrBytes> {
    Some(StrBytes::from_static_str(
        "the voters of this quorum cannot be changed",
    ))
}

pub fn add(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: AddRaftVoterRequest,
) -> Reply<AddRaftVoterResponse> {
    let response = AddRaftVoterResponse::default();
    Reply::Now(response.with_error_code(CODE).with_error_message(message()))
}

pub fn remove(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: RemoveRaftVoterRequest,
) -> Reply<RemoveRaftVoterResponse> {
    let response = RemoveRaftVoterResponse::default();
    Reply::Now(response.with_error_code(CODE).with_error_message(message()))
}
