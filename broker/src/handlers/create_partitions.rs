//! CreatePartitions: more partitions for topics that exist. The count asked for is the total
//! afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_controller::command::MorePartitions;
use ottla_controller::{Command, CommandReply};
use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use crate::broker::Topics;
use crate::context::{RequestContext, TimedOut};
use crate::errors::Failure;
use crate::handlers::wire::{our_broker_ids, owned, unexpected, wire_name};
use crate::log_dirs::NoRoom;
use crate::reply::Reply;

pub fn handle(
    topics: Topics<'_>,
    ctx: &RequestContext<'_>,
    request: CreatePartitionsRequest,
) -> Reply<CreatePartitionsResponse> {
    let names = names_in_order(&request.topics);
    if names.is_empty() {
        return Reply::Now(CreatePartitionsResponse::default());
    }
    if let Err(no_room) = topics.log_dirs.room_for_more() {
        return Reply::Now(refused(&names, &no_room.into()));
    }
    let cordoned = topics.log_dirs.takes_more().err();
    let needs_place = |topic: &&CreatePartitionsTopic| cordoned.is_some() && grows(&topics, topic);
    let (placeless, placed): (Vec<_>, Vec<_>) = request.topics.iter().partition(needs_place);
    let placeless = placeless.iter().map(|topic| owned(&topic.name.0)).collect();
    let command = Command::CreatePartitions {
        topics: placed.into_iter().map(more_partitions).collect(),
        validate_only: request.validate_only,
    };
    ctx.submit(command, request.timeout_ms, move |reply| {
        response(&names, reply, &placeless, cordoned)
    })
}

/// Partitions are asked for that the topic has not, and nobody says where.
fn grows(topics: &Topics<'_>, topic: &CreatePartitionsTopic) -> bool {
    let image = topics.metadata.image();
    let has = image
        .topics
        .by_name(&topic.name.0)
        .map(|t| t.partitions.len());
    let more = has.is_some_and(|has| usize::try_from(topic.count).is_ok_and(|count| count > has));
    more && topic.assignments.as_ref().is_none_or(Vec::is_empty)
}

fn refused(names: &[Arc<str>], failure: &Failure) -> CreatePartitionsResponse {
    let results = names.iter().map(|name| {
        let result = CreatePartitionsTopicResult::default().with_name(wire_name(name));
        failed(result, failure)
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn names_in_order(topics: &[CreatePartitionsTopic]) -> Vec<Arc<str>> {
    let mut seen = BTreeSet::new();
    let names = topics.iter().map(|topic| owned(&topic.name.0));
    names.filter(|name| seen.insert(name.clone())).collect()
}

fn more_partitions(topic: &CreatePartitionsTopic) -> MorePartitions {
    // Some clients send an empty list where they mean "place them yourself".
    let assignments = topic
        .assignments
        .as_ref()
        .filter(|assignments| !assignments.is_empty());
    MorePartitions {
        name: owned(&topic.name.0),
        count: topic.count,
        assignments: assignments.map(|assignments| {
            assignments
                .iter()
                .map(|assigned| our_broker_ids(&assigned.broker_ids))
                .collect()
        }),
    }
}

/// `placeless` are the topics that were not asked for, for want of a place.
fn response(
    names: &[Arc<str>],
    reply: Result<CommandReply, TimedOut>,
    placeless: &BTreeSet<Arc<str>>,
    cordoned: Option<NoRoom>,
) -> CreatePartitionsResponse {
    let cordoned = cordoned.map(Failure::from);
    let (outcomes, otherwise) = match reply {
        Ok(CommandReply::PartitionsCreated(results)) => {
            let results = results.into_iter();
            let outcomes: BTreeMap<Arc<str>, Result<(), Failure>> = results
                .map(|(name, result)| (name, result.map_err(Failure::from)))
                .collect();
            (outcomes, Failure::unanswered())
        }
        Ok(CommandReply::Refused(refusal)) => (BTreeMap::new(), Failure::from(refusal)),
        Ok(other) => (BTreeMap::new(), unexpected(&other)),
        Err(timed_out) => (BTreeMap::new(), Failure::from(timed_out)),
    };
    let results = names.iter().map(|name| {
        let result = CreatePartitionsTopicResult::default().with_name(wire_name(name));
        if let Some(failure) = cordoned.as_ref().filter(|_| placeless.contains(name)) {
            return failed(result, failure);
        }
        match outcomes.get(name) {
            Some(Ok(())) => result.with_error_message(None),
            Some(Err(failure)) => failed(result, failure),
            None => failed(result, &otherwise),
        }
    });
    CreatePartitionsResponse::default().with_results(results.collect())
}

fn failed(result: CreatePartitionsTopicResult, failure: &Failure) -> CreatePartitionsTopicResult {
    result
        .with_error_code(failure.code.0)
        .with_error_message(Some(failure.message.clone()))
}

#[cfg(test)]
mod tests;
