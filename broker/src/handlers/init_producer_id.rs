//! InitProducerId for idempotent producers: a fresh id, epoch 0, whatever the producer had before.
//! Transactions are not served; a producer that asks for one is told so in a way it does not retry.

use std::sync::Arc;

use ottla_controller::{Command, CommandReply};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse};
use ottla_protocol::types::ProducerId;

use crate::broker::Producers;
use crate::context::{RequestContext, TimedOut};
use crate::errors::ToErrorCode;
use crate::reply::Reply;

/// The request has no timeout of its own.
const ALLOCATE_TIMEOUT_MS: i32 = 10_000;

pub fn handle(
    producers: Producers<'_>,
    ctx: &RequestContext<'_>,
    request: InitProducerIdRequest,
) -> Reply<InitProducerIdResponse> {
    if let Some(id) = &request.transactional_id {
        let empty = id.0.is_empty();
        let error = if empty {
            ErrorCode::INVALID_REQUEST
        } else {
            ErrorCode::UNSUPPORTED_VERSION
        };
        return Reply::Now(failed(error));
    }
    if let Some(id) = producers.producer_ids.take() {
        return Reply::Now(allocated(id));
    }
    let image = producers.metadata.image();
    let Some(registered) = image.brokers.get(producers.node_id) else {
        return Reply::Now(failed(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
    };
    let command = Command::AllocateProducerIds {
        broker_id: producers.node_id,
        broker_epoch: registered.epoch,
    };
    let broker = Arc::clone(ctx.broker);
    ctx.submit(command, ALLOCATE_TIMEOUT_MS, move |reply| {
        match add_block(&broker, reply) {
            // Somebody else may have used the block up already; the client asks again.
            Ok(()) => broker.producer_ids.take().map_or_else(
                || failed(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS),
                allocated,
            ),
            Err(error) => failed(error),
        }
    })
}

fn add_block(
    broker: &crate::broker::Broker,
    reply: Result<CommandReply, TimedOut>,
) -> Result<(), ErrorCode> {
    match reply {
        Ok(CommandReply::ProducerIdsAllocated(Ok(block))) => {
            broker.producer_ids.add(block.first, block.count);
            Ok(())
        }
        Ok(CommandReply::ProducerIdsAllocated(Err(error))) => Err(error.error_code()),
        Ok(CommandReply::Refused(refusal)) => Err(refusal.error_code()),
        Ok(_) => Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        Err(timed_out) => Err(timed_out.error_code()),
    }
}

fn allocated(id: ProducerId) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_producer_id(id.0.into())
        .with_producer_epoch(0)
}

fn failed(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse::default()
        .with_error_code(error.code())
        .with_producer_id((-1).into())
        .with_producer_epoch(-1)
}
