//! UnregisterBroker: forgets a broker that will not come back. One that is running is not
//! forgotten.

use ottla_controller::{Command, CommandReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{UnregisterBrokerRequest, UnregisterBrokerResponse};
use ottla_protocol::types::BrokerId;

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::errors::Failure;
use crate::handlers::wire::unexpected;
use crate::reply::Reply;

/// The request has no timeout of its own.
const TIMEOUT_MS: i32 = 30_000;

pub fn handle(
    cluster: Cluster<'_>,
    ctx: &RequestContext<'_>,
    request: UnregisterBrokerRequest,
) -> Reply<UnregisterBrokerResponse> {
    let broker_id = BrokerId(request.broker_id.0);
    if cluster.metadata.image().brokers.is_alive(broker_id) {
        let message = format!("broker {broker_id} is running; stop it first");
        return Reply::Now(refused(Failure::new(ErrorCode::INVALID_REQUEST, message)));
    }
    ctx.submit(
        Command::UnregisterBroker { broker_id },
        TIMEOUT_MS,
        |reply| match reply.map_err(Failure::from) {
            Ok(CommandReply::BrokerUnregistered(Ok(()))) => {
                UnregisterBrokerResponse::default().with_error_message(None)
            }
            Ok(CommandReply::BrokerUnregistered(Err(error))) => refused(error.into()),
            Ok(CommandReply::Refused(refusal)) => refused(refusal.into()),
            Ok(other) => refused(unexpected(&other)),
            Err(failure) => refused(failure),
        },
    )
}

fn refused(failure: Failure) -> UnregisterBrokerResponse {
    UnregisterBrokerResponse::default()
        .with_error_code(failure.code.0)
        .with_error_message(Some(failure.message))
}
