//! What a heartbeat must say for itself, before anybody looks at the group.

use ottla_protocol::error::ErrorCode;

use super::assignor::Assignor;
use super::member::{AWAY_EPOCH, LEFT_EPOCH};
use crate::command::{ConsumerHeartbeat, Refusal};
use crate::turn::ConsumerLimits;

/// What a record's key can hold.
const KEY_PART_MAX_BYTES: usize = 32_767;

fn invalid(message: &str) -> Refusal {
    Refusal::new(ErrorCode::INVALID_REQUEST, message)
}

pub(crate) fn check_heartbeat(
    request: &ConsumerHeartbeat,
    limits: &ConsumerLimits,
) -> Result<(), Refusal> {
    let epoch = request.member_epoch;
    let names_member = request.makes_own_id || epoch > 0 || epoch == LEFT_EPOCH;
    if names_member && request.member_id.trim().is_empty() {
        return Err(invalid("MemberId can't be empty."));
    }
    if request.group.trim().is_empty() {
        return Err(invalid("GroupId can't be empty."));
    }
    let is_blank = |text: &Option<String>| text.as_deref().is_some_and(|t| t.trim().is_empty());
    if is_blank(&request.instance_id) {
        return Err(invalid("InstanceId can't be empty."));
    }
    if is_blank(&request.rack_id) {
        return Err(invalid("RackId can't be empty."));
    }
    check_epoch(request)?;
    check_assignor(request, limits)?;
    let regex = request
        .subscribed_topic_regex
        .as_deref()
        .unwrap_or_default();
    let key_parts = [&request.group, &request.member_id, regex];
    if key_parts.iter().any(|part| part.len() > KEY_PART_MAX_BYTES) {
        return Err(invalid("A name is longer than 32767 bytes."));
    }
    Ok(())
}

fn check_epoch(request: &ConsumerHeartbeat) -> Result<(), Refusal> {
    match request.member_epoch {
        0 if request.rebalance_timeout_ms == -1 => Err(invalid(
            "RebalanceTimeoutMs must be provided in first request.",
        )),
        0 if request.owned.as_ref().is_none_or(|owned| !owned.is_empty()) => {
            Err(invalid("TopicPartitions must be empty when (re-)joining."))
        }
        0 if request.subscribed_topic_names.is_none()
            && request.subscribed_topic_regex.is_none() =>
        {
            Err(invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            ))
        }
        AWAY_EPOCH if request.instance_id.is_none() => Err(invalid("InstanceId can't be null.")),
        epoch if epoch < AWAY_EPOCH => Err(invalid("MemberEpoch is invalid.")),
        _ => Ok(()),
    }
}

fn check_assignor(request: &ConsumerHeartbeat, limits: &ConsumerLimits) -> Result<(), Refusal> {
    let Some(asked) = &request.server_assignor else {
        return Ok(());
    };
    let known: Vec<&str> = Assignor::all(limits).map(Assignor::name).collect();
    if known.contains(&asked.as_str()) {
        return Ok(());
    }
    let message = format!(
        "ServerAssignor {asked} is not supported. Supported assignors: {}.",
        known.join(", ")
    );
    Err(Refusal::new(ErrorCode::UNSUPPORTED_ASSIGNOR, message))
}
