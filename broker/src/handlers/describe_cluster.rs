//! DescribeCluster: the cluster's id, its brokers as one listener sees them, and whom to ask for
//! changes.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::handlers::wire::{
    ALL_CLUSTER_OPERATIONS, OPERATIONS_NOT_ASKED, address, broker_id, text,
};
use crate::reply::Reply;

/// Brokers; the other type, 2, asks a controller for the controllers.
const ENDPOINT_BROKER: i8 = 1;
const ENDPOINT_CONTROLLER: i8 = 2;
const FENCED_BROKERS_FROM: i16 = 2;

pub fn handle(
    cluster: Cluster<'_>,
    ctx: &RequestContext<'_>,
    request: DescribeClusterRequest,
) -> Reply<DescribeClusterResponse> {
    if request.endpoint_type != ENDPOINT_BROKER {
        return Reply::Now(wrong_endpoint(request.endpoint_type));
    }
    let image = cluster.metadata.image();
    let with_fenced = ctx.version >= FENCED_BROKERS_FROM && request.include_fenced_brokers;
    let brokers = image
        .brokers
        .iter()
        .filter(|broker| with_fenced || !broker.fenced);
    let brokers = brokers.filter_map(|broker| {
        let address = address(broker, ctx.listener)?;
        let told = DescribeClusterBroker::default()
            .with_broker_id(address.id)
            .with_host(address.host)
            .with_port(address.port)
            .with_rack(address.rack)
            .with_is_fenced(broker.fenced);
        Some(told)
    });
    let operations = match request.include_cluster_authorized_operations {
        true => ALL_CLUSTER_OPERATIONS,
        false => OPERATIONS_NOT_ASKED,
    };
    Reply::Now(
        DescribeClusterResponse::default()
            .with_cluster_id(text(&image.cluster_id))
            .with_controller_id(broker_id(cluster.node_id))
            .with_brokers(brokers.collect())
            .with_cluster_authorized_operations(operations),
    )
}

fn wrong_endpoint(endpoint_type: i8) -> DescribeClusterResponse {
    let (code, message) = match endpoint_type {
        ENDPOINT_CONTROLLER => (
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "this is the endpoint of a broker, the request wants one of a controller".to_owned(),
        ),
        other => (
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            format!("there is no endpoint type {other}"),
        ),
    };
    DescribeClusterResponse::default()
        .with_error_code(code.0)
        .with_error_message(Some(text(message)))
}

#[cfg(test)]
mod tests;
