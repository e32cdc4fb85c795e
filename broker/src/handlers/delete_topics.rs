//! DeleteTopics: by name, or by id from version 6. Answers when the topics are gone here too; their
//! files follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_controller::command::{DeletedTopic, TopicRef};
use ottla_controller::{Command, CommandReply, MetadataImage};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::types::TopicId;

use crate::broker::Topics;
use crate::context::{RequestContext, TimedOut};
use crate::errors::Failure;
use crate::handlers::wire::{owned, text, unexpected, wire_name};
use crate::reply::Reply;

/// From here topics may be named by id.
const TOPIC_IDS_FROM: i16 = 6;
/// From here clients know what TOPIC_DELETION_DISABLED means.
const DELETION_DISABLED_FROM: i16 = 3;

/// One entry of the request: what it names, or why it names nothing.
struct Entry {
    name: Option<Arc<str>>,
    id: TopicId,
    target: Result<TopicRef, Failure>,
}

pub fn handle(
    topics: Topics<'_>,
    ctx: &RequestContext<'_>,
    request: DeleteTopicsRequest,
) -> Reply<DeleteTopicsResponse> {
    let mut entries = entries(&request, ctx.version);
    if !topics.config.delete_topics {
        refuse_all(&mut entries, ctx.version);
    }
    refuse_repeated(&mut entries, &topics.metadata.image());
    let targets: Vec<TopicRef> = entries
        .iter()
        .filter_map(|entry| entry.target.as_ref().ok().cloned())
        .collect();
    if targets.is_empty() {
        return Reply::Now(response(&entries, &BTreeMap::new()));
    }
    let asked = targets.clone();
    ctx.submit(
        Command::DeleteTopics { topics: targets },
        request.timeout_ms,
        move |reply| response(&entries, &outcomes(&asked, reply)),
    )
}

fn entries(request: &DeleteTopicsRequest, version: i16) -> Vec<Entry> {
    if version < TOPIC_IDS_FROM {
        let names = request.topic_names.iter().map(|name| owned(&name.0));
        return names.map(named).collect();
    }
    let entries = request.topics.iter().map(|topic| {
        let name = topic.name.as_ref().map(|name| owned(&name.0));
        let id = TopicId(topic.topic_id);
        match name {
            Some(name) if id == TopicId::ZERO => named(name),
            Some(name) => {
                let message = "a topic is named by its name or by its id, not by both";
                let target = Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
                Entry {
                    name: Some(name),
                    id,
                    target,
                }
            }
            None if id == TopicId::ZERO => {
                let message = "neither a name nor an id";
                Entry {
                    name,
                    id,
                    target: Err(Failure::new(ErrorCode::INVALID_REQUEST, message)),
                }
            }
            None => Entry {
                name,
                id,
                target: Ok(TopicRef::Id(id)),
            },
        }
    });
    entries.collect()
}

fn named(name: Arc<str>) -> Entry {
    Entry {
        name: Some(name.clone()),
        id: TopicId::ZERO,
        target: Ok(TopicRef::Name(name)),
    }
}

fn refuse_all(entries: &mut [Entry], version: i16) {
    let code = match version {
        DELETION_DISABLED_FROM.. => ErrorCode::TOPIC_DELETION_DISABLED,
        _ => ErrorCode::INVALID_REQUEST,
    };
    for entry in entries {
        entry.target = Err(Failure::new(code, "delete.topic.enable is false"));
    }
}

/// A topic that is meant twice, by its name or its id, is refused once; an entry that repeats
/// another is dropped, so that every topic has one answer.
fn refuse_repeated(entries: &mut Vec<Entry>, image: &MetadataImage) {
    let meant = |entry: &Entry| match entry.target.as_ref().ok()? {
        TopicRef::Name(name) => Some(match image.topics.by_name(name) {
            Some(topic) => TopicRef::Id(topic.id),
            None => TopicRef::Name(name.clone()),
        }),
        TopicRef::Id(id) => Some(TopicRef::Id(*id)),
    };
    let mut first = BTreeMap::<TopicRef, usize>::new();
    let mut kept = Vec::<Entry>::with_capacity(entries.len());
    for entry in entries.drain(..) {
        let Some(target) = meant(&entry) else {
            kept.push(entry);
            continue;
        };
        match first.get(&target) {
            Some(&index) => {
                let message = "the topic is named twice in the request";
                let first = &mut kept[index];
                first.name = first.name.take().or(entry.name);
                first.target = Err(Failure::new(ErrorCode::INVALID_REQUEST, message));
            }
            None => {
                first.insert(target, kept.len());
                kept.push(entry);
            }
        }
    }
    *entries = kept;
}

type Outcomes = BTreeMap<TopicRef, Result<DeletedTopic, Failure>>;

fn outcomes(asked: &[TopicRef], reply: Result<CommandReply, TimedOut>) -> Outcomes {
    let failure = match reply {
        Ok(CommandReply::TopicsDeleted(results)) => {
            let results = results.into_iter();
            return results
                .map(|(topic, result)| (topic, result.map_err(Failure::from)))
                .collect();
        }
        Ok(CommandReply::Refused(refusal)) => Failure::from(refusal),
        Ok(other) => unexpected(&other),
        Err(timed_out) => Failure::from(timed_out),
    };
    asked
        .iter()
        .map(|topic| (topic.clone(), Err(failure.clone())))
        .collect()
}

fn response(entries: &[Entry], outcomes: &Outcomes) -> DeleteTopicsResponse {
    let results = entries.iter().map(|entry| {
        let result = DeletableTopicResult::default()
            .with_name(entry.name.as_deref().map(wire_name))
            .with_topic_id(entry.id.0)
            .with_error_message(None);
        let outcome = match &entry.target {
            Ok(target) => outcomes.get(target).cloned(),
            Err(failure) => Some(Err(failure.clone())),
        };
        match outcome {
            Some(Ok(deleted)) => result
                .with_name(Some(wire_name(&deleted.name)))
                .with_topic_id(deleted.topic_id.0),
            Some(Err(failure)) => failed(result, failure),
            None => failed(result, Failure::unanswered()),
        }
    });
    DeleteTopicsResponse::default().with_responses(results.collect())
}

fn failed(result: DeletableTopicResult, failure: Failure) -> DeletableTopicResult {
    result
        .with_error_code(failure.code.0)
        .with_error_message(Some(text(&failure.message)))
}

#[cfg(test)]
mod tests;
