//! ListTransactions and DescribeTransactions: this broker coordinates none, so none exists.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::describe_transactions_response::TransactionState;
use ottla_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest,
    ListTransactionsResponse,
};

use crate::broker::Cluster;
use crate::context::RequestContext;
use crate::reply::Reply;

/// Kafka's names of the states a transaction can be in.
const STATES: &[&str] = &[
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub fn list(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: ListTransactionsRequest,
) -> Reply<ListTransactionsResponse> {
    let filters = request.state_filters.into_iter();
    let unknown = filters.filter(|state| !STATES.contains(&&**state));
    Reply::Now(ListTransactionsResponse::default().with_unknown_state_filters(unknown.collect()))
}

pub fn describe(
    _cluster: Cluster<'_>,
    _ctx: &RequestContext<'_>,
    request: DescribeTransactionsRequest,
) -> Reply<DescribeTransactionsResponse> {
    let states = request.transactional_ids.into_iter().map(|id| {
        TransactionState::default()
            .with_error_code(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND.0)
            .with_transactional_id(id)
    });
    Reply::Now(DescribeTransactionsResponse::default().with_transaction_states(states.collect()))
}
