//! `APIS`: one row per API this broker serves. Dispatch, the ApiVersions answer, the version
//! check, metric labels, the reference page of the APIs and the fuzz list are all derived from it.
//!
//! A row is made by [`Api::of`] (through the `row!` macro: guard, decode, handler, encode) or by
//! [`Api::raw`] for the hot paths that read their frames in place. Rows are sorted by key; a test
//! checks that, and that every range lies inside what the codec decodes is checked while
//! compiling.

pub mod document;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use ottla_protocol::error::DecodeError;
use ottla_protocol::header::RequestHeader;
use ottla_protocol::messages::{self, ApiVersionsRequest, Request};
use ottla_protocol::metadata_view::{METADATA_KEY, MetadataView};
use ottla_protocol::produce_view::PRODUCE_KEY;
use ottla_protocol::{api as wire, messages::decode_request, messages::encode_response};

use crate::broker::Broker;
use crate::config::ListenerName;
use crate::context::RequestContext;
use crate::handlers;
use crate::handlers::produce::gather::Gather;
use crate::purgatory::ConnectionSignal;
use crate::reply::{Answer, CloseReason, Reply};

/// An inclusive range of request versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

impl Versions {
    pub const fn new(min: i16, max: i16) -> Versions {
        assert!(min >= 0 && min <= max, "a version range is not empty");
        Versions { min, max }
    }

    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

type Run = fn(&RequestContext<'_>, BytesMut) -> Reply<Answer>;

/// One row of [`APIS`].
pub struct Api {
    pub key: i16,
    /// Kafka's name without "Request": the metric label and the name in the docs.
    pub name: &'static str,
    /// What is decoded and answered.
    pub serve: Versions,
    /// What ApiVersions says. Wider than `serve` only where old clients need to see a 0 (Produce,
    /// JoinGroup).
    pub advertise: Versions,
    run: Run,
}

impl Api {
    const fn of<R: Request>(type_name: &'static str, serve: Versions, run: Run) -> Api {
        assert!(
            R::VERSIONS.min <= serve.min
                && (serve.max <= R::VERSIONS.max || messages::has_same_bytes(R::KEY, serve.max)),
            "the codec does not decode every version of this row"
        );
        let (name, suffix) = type_name.split_at(type_name.len() - "Request".len());
        assert!(suffix.len() == "Request".len());
        Api {
            key: R::KEY,
            name,
            serve,
            advertise: serve,
            run,
        }
    }

    const fn raw(key: i16, name: &'static str, serve: Versions, run: Run) -> Api {
        Api {
            key,
            name,
            serve,
            advertise: serve,
            run,
        }
    }

    const fn advertise(self, advertise: Versions) -> Api {
        assert!(advertise.min <= self.serve.min && advertise.max <= self.serve.max);
        Api { advertise, ..self }
    }
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}({}) {}-{}",
            self.name, self.key, self.serve.min, self.serve.max
        )
    }
}

/// `row!(Request, versions, bundle => handler)`: the handler gets the capability bundle that the
/// broker's method of that name makes, so a row shows what its API may touch.
macro_rules! row {
    ($request:ident, $min:literal - $max:literal, $bundle:ident => $handler:path) => {
        Api::of::<messages::$request>(
            stringify!($request),
            Versions::new($min, $max),
            |ctx, body| {
                run_decoded::<messages::$request>(ctx, body, |request| {
                    $handler(ctx.broker.$bundle(), ctx, request)
                })
            },
        )
    };
}

/// Everything this broker answers.
pub const APIS: &[Api] = &[
    // Old clients switch compression and groups off unless they see a minimum of 0 here.
    Api::raw(
        0,
        "Produce",
        Versions::new(3, 13),
        handlers::produce::handle,
    )
    .advertise(Versions::new(0, 13)),
    Api::raw(1, "Fetch", Versions::new(4, 18), handlers::fetch::handle),
    row!(ListOffsetsRequest, 1 - 11, logs => handlers::list_offsets::handle),
    Api::raw(3, "Metadata", Versions::new(0, 13), metadata),
    row!(OffsetCommitRequest, 2 - 10, groups => handlers::offset_commit::handle),
    row!(OffsetFetchRequest, 1 - 10, groups => handlers::offset_fetch::handle),
    row!(FindCoordinatorRequest, 0 - 6, topics => handlers::find_coordinator::handle),
    row!(JoinGroupRequest, 0 - 9, groups => handlers::join_group::handle),
    row!(HeartbeatRequest, 0 - 4, groups => handlers::heartbeat::handle),
    row!(LeaveGroupRequest, 0 - 5, groups => handlers::leave_group::handle),
    row!(SyncGroupRequest, 0 - 5, groups => handlers::sync_group::handle),
    row!(DescribeGroupsRequest, 0 - 6, groups => handlers::describe_groups::handle),
    row!(ListGroupsRequest, 0 - 5, groups => handlers::list_groups::handle),
    row!(ApiVersionsRequest, 0 - 4, cluster => handlers::api_versions::handle),
    row!(CreateTopicsRequest, 2 - 7, topics => handlers::create_topics::handle),
    row!(DeleteTopicsRequest, 1 - 6, topics => handlers::delete_topics::handle),
    row!(DeleteRecordsRequest, 0 - 2, logs => handlers::delete_records::handle),
    row!(InitProducerIdRequest, 0 - 5, producers => handlers::init_producer_id::handle),
    row!(OffsetForLeaderEpochRequest, 2 - 4, logs => handlers::offset_for_leader_epoch::handle),
    row!(DescribeAclsRequest, 1 - 3, cluster => handlers::acls::describe),
    row!(CreateAclsRequest, 1 - 3, cluster => handlers::acls::create),
    row!(DeleteAclsRequest, 1 - 3, cluster => handlers::acls::delete),
    row!(DescribeConfigsRequest, 1 - 4, configs => handlers::describe_configs::handle),
    row!(AlterConfigsRequest, 0 - 2, configs => handlers::alter_configs::replace),
    row!(AlterReplicaLogDirsRequest, 1 - 2, logs => handlers::alter_replica_log_dirs::handle),
    row!(DescribeLogDirsRequest, 1 - 5, logs => handlers::describe_log_dirs::handle),
    row!(CreatePartitionsRequest, 0 - 3, topics => handlers::create_partitions::handle),
    row!(CreateDelegationTokenRequest, 1 - 3, cluster => handlers::delegation_tokens::create),
    row!(RenewDelegationTokenRequest, 1 - 2, cluster => handlers::delegation_tokens::renew),
    row!(ExpireDelegationTokenRequest, 1 - 2, cluster => handlers::delegation_tokens::expire),
    row!(DescribeDelegationTokenRequest, 1 - 3, cluster => handlers::delegation_tokens::describe),
    row!(DeleteGroupsRequest, 0 - 2, groups => handlers::delete_groups::handle),
    row!(ElectLeadersRequest, 0 - 2, topics => handlers::elect_leaders::handle),
    row!(IncrementalAlterConfigsRequest, 0 - 1, configs => handlers::alter_configs::incremental),
    row!(
        AlterPartitionReassignmentsRequest, 0 - 1,
        topics => handlers::partition_reassignments::alter
    ),
    row!(
        ListPartitionReassignmentsRequest, 0 - 0,
        topics => handlers::partition_reassignments::list
    ),
    row!(OffsetDeleteRequest, 0 - 0, groups => handlers::offset_delete::handle),
    row!(DescribeClientQuotasRequest, 0 - 1, cluster => handlers::client_quotas::describe),
    row!(AlterClientQuotasRequest, 0 - 1, cluster => handlers::client_quotas::alter),
    row!(
        DescribeUserScramCredentialsRequest, 0 - 0,
        cluster => handlers::scram_credentials::describe
    ),
    row!(AlterUserScramCredentialsRequest, 0 - 0, cluster => handlers::scram_credentials::alter),
    row!(DescribeQuorumRequest, 0 - 2, cluster => handlers::describe_quorum::handle),
    row!(UpdateFeaturesRequest, 0 - 2, cluster => handlers::update_features::handle),
    row!(DescribeClusterRequest, 0 - 2, cluster => handlers::describe_cluster::handle),
    row!(UnregisterBrokerRequest, 0 - 0, cluster => handlers::unregister_broker::handle),
    row!(DescribeTransactionsRequest, 0 - 0, cluster => handlers::transactions::describe),
    row!(ListTransactionsRequest, 0 - 2, cluster => handlers::transactions::list),
    row!(
        ConsumerGroupHeartbeatRequest, 0 - 1,
        groups => handlers::consumer_group_heartbeat::handle
    ),
    row!(
        ConsumerGroupDescribeRequest, 0 - 1,
        groups => handlers::consumer_group_describe::handle
    ),
    row!(ListConfigResourcesRequest, 0 - 1, configs => handlers::list_config_resources::handle),
    row!(
        DescribeTopicPartitionsRequest, 0 - 0,
        topics => handlers::describe_topic_partitions::handle
    ),
    row!(AddRaftVoterRequest, 0 - 1, cluster => handlers::raft_voters::add),
    row!(RemoveRaftVoterRequest, 0 - 0, cluster => handlers::raft_voters::remove),
];

/// Metadata is read in place: names of a few letters would take too much memory as structs.
fn metadata(ctx: &RequestContext<'_>, body: BytesMut) -> Reply<Answer> {
    let (version, correlation_id) = (ctx.version, ctx.correlation_id);
    match MetadataView::parse(&body, version) {
        Ok(view) => handlers::metadata::handle(ctx.broker.topics(), ctx, &view)
            .map(move |response| encode(correlation_id, version, &response)),
        Err(error) => refuse_body(ctx, METADATA_KEY, &error),
    }
}

fn refuse_body(ctx: &RequestContext<'_>, api: i16, error: &DecodeError) -> Reply<Answer> {
    let version = ctx.version;
    tracing::debug!(api, version, peer = %ctx.peer, %error, "undecodable request");
    Reply::Close(CloseReason::BadRequest)
}

fn run_decoded<R: Request>(
    ctx: &RequestContext<'_>,
    body: BytesMut,
    handle: impl FnOnce(R) -> Reply<R::Response>,
) -> Reply<Answer>
where
    R::Response: messages::Response + 'static,
{
    let version = ctx.version;
    let correlation_id = ctx.correlation_id;
    match decode_request::<R>(body.freeze(), version) {
        Ok(request) => {
            handle(request).map(move |response| encode(correlation_id, version, &response))
        }
        Err(error) => refuse_body(ctx, R::KEY, &error),
    }
}

fn encode<T: messages::Response>(correlation_id: i32, version: i16, response: &T) -> Answer {
    match encode_response(correlation_id, version, response) {
        Ok(bytes) => Answer::Bytes(bytes),
        Err(error) => {
            tracing::warn!(version, %error, "an answer does not fit the protocol");
            Answer::Close(CloseReason::Unencodable)
        }
    }
}

/// The row of `key`.
pub fn find(key: i16) -> Option<&'static Api> {
    APIS.binary_search_by_key(&key, |api| api.key)
        .ok()
        .map(|index| &APIS[index])
}

/// What a connection knows about itself; the part of a request's context that is the same for all
/// of them.
pub struct Caller<'a> {
    pub broker: &'a Arc<Broker>,
    pub peer: SocketAddr,
    pub listener: &'a ListenerName,
    pub signal: &'a Arc<ConnectionSignal>,
    pub now: Instant,
}

/// Answers one frame (without its length prefix): header, version check, the row's handler. The
/// row is `None` when the frame was refused before one was found.
///
/// Given a [`Gather`], a simple produce is only gathered: the reply is `None` and comes from there.
/// Whatever was gathered before is appended before another request is handled.
pub fn dispatch(
    caller: &Caller<'_>,
    mut frame: BytesMut,
    gather: Option<&mut Gather>,
) -> (Option<&'static Api>, Option<Reply<Answer>>) {
    let Ok((key, version, correlation_id)) = RequestHeader::peek_key_version(&frame) else {
        return (None, Some(Reply::Close(CloseReason::BadHeader)));
    };
    let Some(api) = find(key) else {
        tracing::debug!(key, version, peer = %caller.peer, "unknown api key");
        return (None, Some(Reply::Close(CloseReason::UnknownApi)));
    };
    if !api.serve.contains(version) {
        return (
            Some(api),
            Some(refuse_version(caller, api, version, correlation_id)),
        );
    }
    let flexible = wire::facts(key).is_some_and(|facts| version >= facts.flexible_from);
    let Ok((header, body_start)) = RequestHeader::parse(&frame, flexible) else {
        return (Some(api), Some(Reply::Close(CloseReason::BadHeader)));
    };
    let mut body = frame.split_off(body_start);
    let ctx = RequestContext {
        broker: caller.broker,
        version,
        correlation_id,
        client_id: header
            .client_id
            .as_deref()
            .and_then(|id| std::str::from_utf8(id).ok()),
        peer: caller.peer,
        listener: caller.listener,
        now: caller.now,
        signal: caller.signal,
    };
    if let Some(gather) = gather {
        if key == PRODUCE_KEY {
            body = match gather.take(&ctx, body) {
                Ok(()) => return (Some(api), None),
                Err(body) => body,
            };
        }
        gather.append(caller.signal);
    }
    (Some(api), Some((api.run)(&ctx, body)))
}

/// An ApiVersions request of a version we do not know is answered in version 0 with our list, so
/// that newer clients find the common version; any other one ends the connection, because its
/// answer would have a shape nobody here knows.
fn refuse_version(
    caller: &Caller<'_>,
    api: &Api,
    version: i16,
    correlation_id: i32,
) -> Reply<Answer> {
    if api.key == <ApiVersionsRequest as Request>::KEY && version > api.serve.max {
        let response = handlers::api_versions::unsupported_version();
        return Reply::Now(encode(correlation_id, 0, &response));
    }
    tracing::debug!(api = api.name, version, peer = %caller.peer, "unsupported version");
    Reply::Close(CloseReason::UnsupportedVersion)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_by_key_and_no_key_has_two() {
        assert!(APIS.windows(2).all(|pair| pair[0].key < pair[1].key));
    }

    #[test]
    fn every_row_lies_inside_what_the_wire_facts_say() {
        for api in APIS {
            let facts = wire::facts(api.key).expect("every row has wire facts");
            assert_eq!(facts.name, api.name);
            assert!(
                facts.min <= api.serve.min && api.serve.max <= facts.max,
                "{api:?}"
            );
        }
    }
}
