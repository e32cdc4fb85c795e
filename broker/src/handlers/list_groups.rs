//! ListGroups: the groups this broker coordinates. It coordinates none yet; tools that list the
//! configuration of groups ask for them first.

use ottla_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::reply::Reply;

pub fn handle(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    _request: ListGroupsRequest,
) -> Reply<ListGroupsResponse> {
    Reply::Now(ListGroupsResponse::default())
}
