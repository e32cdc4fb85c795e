//! What came of a command, in words.

use bytes::{Buf, Bytes};
use ottla_coordinator::Answer;
use ottla_coordinator::command::{
    DescribedGroup, FetchedOffset, JoinReply, LeftMember, ListedGroup, SyncReply,
};
use ottla_coordinator::records::{GroupRecord, GroupValue};
use ottla_coordinator::turn::GroupEvent;
use ottla_protocol::error::ErrorCode;

/// Member ids without the zeros.
pub(crate) fn short(text: &str) -> String {
    let mut out = String::new();
    let mut parts = text.split("00000000-0000-0000-0000-");
    out.push_str(parts.next().unwrap());
    for part in parts {
        let number = u64::from_str_radix(&part[..12], 16).unwrap();
        out.push_str(&format!("{number}{}", &part[12..]));
    }
    out
}

pub(crate) fn code(error: ErrorCode) -> String {
    if error == ErrorCode::NONE {
        "ok".to_owned()
    } else {
        error.0.to_string()
    }
}

/// An assignment of the consumer protocol: `%t:0.1`. `None`: it is none.
fn embedded(mut bytes: &[u8]) -> Option<String> {
    let mut topics = Vec::new();
    if !(0..4).contains(&bytes.try_get_i16().ok()?) {
        return None;
    }
    for _ in 0..bytes.try_get_i32().ok()? {
        let len = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        let (name, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        let mut partitions = Vec::new();
        for _ in 0..bytes.try_get_i32().ok()? {
            partitions.push(bytes.try_get_i32().ok()?.to_string());
        }
        topics.push(format!(
            "{}:{}",
            std::str::from_utf8(name).ok()?,
            partitions.join(".")
        ));
    }
    (bytes == [255; 4]).then(|| format!("%{}", topics.join(";")))
}

/// Bytes as text, those that are none as dots.
pub(crate) fn text(bytes: &Bytes) -> String {
    if let Some(assigned) = embedded(bytes) {
        return assigned;
    }
    let shown = bytes
        .iter()
        .filter(|byte| byte.is_ascii_graphic())
        .map(|byte| char::from(*byte));
    shown.collect()
}

fn who(member_id: &str, instance_id: Option<&String>) -> String {
    match instance_id {
        Some(instance_id) => format!("{member_id}@{instance_id}"),
        None => member_id.to_owned(),
    }
}

fn or_none(text: Option<&String>) -> &str {
    text.map_or("none", String::as_str)
}

pub(crate) fn record(record: &GroupRecord) -> String {
    match record {
        GroupRecord::Offset {
            group,
            topic,
            partition,
            value,
        } => match value {
            None => format!("offset {group} {topic}-{partition} gone"),
            Some(value) => {
                let expires = value.expire_timestamp_ms;
                let expires = expires.map_or(String::new(), |at_ms| format!(" expires={at_ms}"));
                format!(
                    "offset {group} {topic}-{partition}={} epoch={} metadata={} at={}{expires}",
                    value.offset.0,
                    value.leader_epoch.0,
                    shortened(&value.metadata),
                    value.commit_timestamp_ms
                )
            }
        },
        GroupRecord::Group { group, value } => match value {
            None => format!("group {group} gone"),
            Some(value) => format!("group {group} {}", generation(value)),
        },
        GroupRecord::Consumer { group, record } => crate::consumer::record(group, record),
    }
}

fn shortened(text: &str) -> String {
    if text.len() > 20 {
        format!("({} bytes)", text.len())
    } else {
        format!("{text:?}")
    }
}

fn generation(value: &GroupValue) -> String {
    let members = value.members.iter().map(|member| {
        format!(
            " [{} {} -> {} session={} rebalance={}]",
            who(&member.member_id, member.instance_id.as_ref()),
            text(&member.subscription),
            text(&member.assignment),
            member.session_timeout_ms,
            member.rebalance_timeout_ms,
        )
    });
    format!(
        "gen={} type={} protocol={} leader={} since={}{}",
        value.generation,
        value.protocol_type,
        or_none(value.protocol.as_ref()),
        or_none(value.leader.as_ref()),
        value.current_state_timestamp_ms,
        members.collect::<String>()
    )
}

pub(crate) fn event(event: &GroupEvent) -> String {
    match event {
        GroupEvent::RebalanceStarted { group, reason, .. } => {
            format!("rebalance {group}: {reason}")
        }
        GroupEvent::GenerationCompleted {
            group,
            generation,
            members,
        } => {
            format!("generation {generation} of {group}: {members} members")
        }
        GroupEvent::MemberExpired {
            group,
            member,
            reason,
            ..
        } => {
            format!("expired {member} of {group}: {reason}")
        }
        GroupEvent::Converted { group, to } => format!("converted {group}: {to}"),
        GroupEvent::OffsetsExpired { group, count } => {
            format!("expired {count} offsets of {group}")
        }
    }
}

pub(crate) fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Join(reply) => format!("join {}", join(reply)),
        Answer::Sync(reply) => format!("sync {}", sync(reply)),
    }
}

fn join(reply: &JoinReply) -> String {
    if reply.error != ErrorCode::NONE {
        assert_eq!(reply.generation, -1);
        return format!("{} member={}", code(reply.error), reply.member_id);
    }
    let members = reply.members.iter().map(|member| {
        let who = who(&member.member_id, member.instance_id.as_ref());
        format!(" [{who} {}]", text(&member.metadata))
    });
    format!(
        "ok gen={} {}/{} leader={} member={}{}{}",
        reply.generation,
        or_none(reply.protocol_type.as_ref()),
        or_none(reply.protocol_name.as_ref()),
        reply.leader,
        reply.member_id,
        if reply.skip_assignment { " skip" } else { "" },
        members.collect::<String>()
    )
}

fn sync(reply: &SyncReply) -> String {
    if reply.error != ErrorCode::NONE {
        return code(reply.error);
    }
    let (kind, name) = (reply.protocol_type.as_ref(), reply.protocol_name.as_ref());
    format!(
        "ok {}/{} -> {}",
        or_none(kind),
        or_none(name),
        text(&reply.assignment)
    )
}

pub(crate) fn left(left: &[LeftMember]) -> String {
    let each = left.iter().map(|member| {
        let who = who(&member.member_id, member.instance_id.as_ref());
        format!("{who} {}", code(member.error))
    });
    each.collect::<Vec<_>>().join(", ")
}

pub(crate) fn results(results: &Result<Vec<ErrorCode>, ErrorCode>) -> String {
    match results {
        Ok(each) => each
            .iter()
            .map(|error| code(*error))
            .collect::<Vec<_>>()
            .join(", "),
        Err(error) => format!("all {}", code(*error)),
    }
}

pub(crate) fn fetched(fetched: &[FetchedOffset]) -> String {
    let each = fetched.iter().map(|offset| {
        let place = format!("{}-{}", offset.topic, offset.partition);
        match &offset.committed {
            None => format!("{place} none"),
            Some(committed) => format!(
                "{place}={} epoch={} metadata={}",
                committed.offset.0,
                committed.leader_epoch.0,
                shortened(&committed.metadata)
            ),
        }
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        "nothing".to_owned()
    } else {
        each.join("\n")
    }
}

pub(crate) fn listed(listed: &[ListedGroup]) -> String {
    let each = listed.iter().map(|group| {
        format!(
            "{} {:?} {} {}",
            group.group, group.protocol_type, group.state, group.group_type
        )
    });
    let each: Vec<String> = each.collect();
    if each.is_empty() {
        "nothing".to_owned()
    } else {
        each.join("\n")
    }
}

pub(crate) fn described(group: Option<&DescribedGroup>) -> String {
    let Some(group) = group else {
        return "unknown".to_owned();
    };
    let members = group.members.iter().map(|member| {
        let who = who(&member.member_id, member.instance_id.as_ref());
        let (metadata, assignment) = (text(&member.metadata), text(&member.assignment));
        format!(
            " [{who} {}{} {metadata:?} -> {assignment:?}]",
            member.client.id, member.client.host
        )
    });
    format!(
        "{} {:?}/{:?}{}",
        group.state,
        group.protocol_type,
        group.protocol,
        members.collect::<String>()
    )
}
