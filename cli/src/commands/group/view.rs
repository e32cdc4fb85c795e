//! One group as its coordinator describes it, whichever protocol it speaks.
//!
//! ConsumerGroupDescribe is asked first, as Kafka's own tools do: a group of the other kind is then
//! described by DescribeGroups.

use ottla_protocol::consumer_protocol::{self, Assignment};
use ottla_protocol::messages as api;

use crate::client::{Cluster, str_bytes};
use crate::commands::said;
use crate::fault::{Exit, Fault, Outcome};

const CONSUMER_GROUP_DESCRIBE: i16 = 69;
const CONSUMER_GROUP_DESCRIBE_VERSION_MAX: i16 = 1;
const DESCRIBE_GROUPS_VERSION_MAX: i16 = 6;
const OFFSET_FETCH_VERSION_MAX: i16 = 9;
const UNSUPPORTED_VERSION: i16 = 35;
const GROUP_ID_NOT_FOUND: i16 = 69;
/// The protocol type whose assignments are understood.
const CONSUMER: &str = "consumer";

pub(super) struct GroupView {
    pub(super) group: String,
    pub(super) state: String,
    /// "classic" or "consumer".
    pub(super) kind: &'static str,
    pub(super) protocol_type: String,
    /// The assignor, or the protocol that the members of a classic group agreed on.
    pub(super) protocol: String,
    pub(super) coordinator: i32,
    pub(super) coordinator_address: String,
    /// Only of consumer groups: the group's and the assignment's.
    pub(super) epochs: Option<(i32, i32)>,
    pub(super) members: Vec<MemberView>,
}

pub(super) struct MemberView {
    pub(super) member_id: String,
    pub(super) instance_id: Option<String>,
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) epoch: Option<i32>,
    /// The protocol that this member speaks: "classic" or "consumer".
    pub(super) protocol: Option<&'static str>,
    pub(super) subscribed: Vec<String>,
    pub(super) subscribed_regex: Option<String>,
    /// `None`: not of a consumer, or not understood.
    pub(super) assigned: Option<Assignment>,
    /// Where it is going; only of consumer groups.
    pub(super) target: Option<Assignment>,
}

impl GroupView {
    /// A group that does not exist is a fault with a suggestion.
    pub(super) fn of(cluster: &mut Cluster, group: &str) -> Outcome<GroupView> {
        if cluster.coordinator_serves(group, CONSUMER_GROUP_DESCRIBE)?
            && let Some(view) = consumer(cluster, group)?
        {
            return Ok(view);
        }
        match classic(cluster, group)? {
            Some(view) => Ok(view),
            None => Err(other_kind(cluster, group)),
        }
    }

    /// The member that a partition is assigned to.
    pub(super) fn owner(&self, topic: &str, partition: i32) -> Option<&MemberView> {
        let owns = |member: &&MemberView| {
            let assigned = member.assigned.as_ref().and_then(|all| all.get(topic));
            assigned.is_some_and(|partitions| partitions.contains(&partition))
        };
        self.members.iter().find(owns)
    }
}

/// Share and streams groups are listed like all others, and described by requests of their own.
fn other_kind(cluster: &mut Cluster, group: &str) -> Fault {
    let listed = cluster.list_groups(&[], &[]).unwrap_or_default();
    let kind = listed
        .into_iter()
        .find(|listed| listed.group == group)
        .and_then(|listed| listed.kind);
    match kind {
        Some(kind) => {
            let what = format!("group \"{group}\" is a {kind} group");
            Fault::new("E1212", Exit::Failed, what)
                .why("only classic and consumer groups are shown here")
        }
        None => cluster.unknown_group(group),
    }
}

fn described(group: &str, code: i16, message: Option<&str>) -> Fault {
    Fault::broker(&format!("describing group \"{group}\""), code, message)
}

fn texts(names: &[api::TopicName]) -> Vec<String> {
    names.iter().map(|name| name.0.to_string()).collect()
}

fn consumer(cluster: &mut Cluster, group: &str) -> Outcome<Option<GroupView>> {
    let response = cluster.on_coordinator(
        group,
        CONSUMER_GROUP_DESCRIBE_VERSION_MAX,
        |_version| {
            let mut request = api::ConsumerGroupDescribeRequest::default();
            request.group_ids = vec![api::GroupId(str_bytes(group))];
            request
        },
        |response: &api::ConsumerGroupDescribeResponse| {
            response.groups.first().map_or(0, |group| group.error_code)
        },
    )?;
    let Some(found) = response.groups.into_iter().next() else {
        return Ok(None);
    };
    match found.error_code {
        0 => {}
        GROUP_ID_NOT_FOUND | UNSUPPORTED_VERSION => return Ok(None),
        code => return Err(described(group, code, said(found.error_message.as_ref()))),
    }
    let coordinator = cluster.coordinator(group)?;
    Ok(Some(GroupView {
        group: group.to_owned(),
        state: found.group_state.to_string(),
        kind: "consumer",
        protocol_type: CONSUMER.to_owned(),
        protocol: found.assignor_name.to_string(),
        coordinator,
        coordinator_address: cluster.address(coordinator).to_owned(),
        epochs: Some((found.group_epoch, found.assignment_epoch)),
        members: found.members.iter().map(consumer_member).collect(),
    }))
}

fn consumer_member(member: &api::consumer_group_describe_response::Member) -> MemberView {
    let assigned = |from: &api::consumer_group_describe_response::Assignment| {
        let mut assignment = Assignment::new();
        for topic in &from.topic_partitions {
            let partitions = assignment
                .entry(topic.topic_name.0.to_string())
                .or_default();
            partitions.extend(topic.partitions.iter().copied());
        }
        assignment
    };
    let regex = member.subscribed_topic_regex.as_ref();
    MemberView {
        member_id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: Some(member.member_epoch),
        protocol: match member.member_type {
            0 => Some("classic"),
            1 => Some("consumer"),
            _ => None,
        },
        subscribed: texts(&member.subscribed_topic_names),
        subscribed_regex: regex
            .map(ToString::to_string)
            .filter(|text| !text.is_empty()),
        assigned: Some(assigned(&member.assignment)),
        target: Some(assigned(&member.target_assignment)),
    }
}

fn classic(cluster: &mut Cluster, group: &str) -> Outcome<Option<GroupView>> {
    let response = cluster.on_coordinator(
        group,
        DESCRIBE_GROUPS_VERSION_MAX,
        |_version| {
            let mut request = api::DescribeGroupsRequest::default();
            request.groups = vec![api::GroupId(str_bytes(group))];
            request
        },
        |response: &api::DescribeGroupsResponse| {
            response.groups.first().map_or(0, |group| group.error_code)
        },
    )?;
    let Some(found) = response.groups.into_iter().next() else {
        return Ok(None);
    };
    match found.error_code {
        // Before version 6 a group that does not exist is "Dead".
        0 if found.group_state.as_str() == "Dead" => return Ok(None),
        0 => {}
        GROUP_ID_NOT_FOUND => return Ok(None),
        code => return Err(described(group, code, said(found.error_message.as_ref()))),
    }
    let coordinator = cluster.coordinator(group)?;
    let is_consumer = found.protocol_type.as_str() == CONSUMER;
    Ok(Some(GroupView {
        group: group.to_owned(),
        state: found.group_state.to_string(),
        kind: "classic",
        protocol_type: found.protocol_type.to_string(),
        protocol: found.protocol_data.to_string(),
        coordinator,
        coordinator_address: cluster.address(coordinator).to_owned(),
        epochs: None,
        members: found
            .members
            .iter()
            .map(|member| classic_member(member, is_consumer))
            .collect(),
    }))
}

fn classic_member(
    member: &api::describe_groups_response::DescribedGroupMember,
    is_consumer: bool,
) -> MemberView {
    let subscribed =
        consumer_protocol::subscription(&member.member_metadata).filter(|_| is_consumer);
    let assigned = consumer_protocol::assignment(&member.member_assignment).filter(|_| is_consumer);
    MemberView {
        member_id: member.member_id.to_string(),
        instance_id: member.group_instance_id.as_ref().map(ToString::to_string),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        epoch: None,
        protocol: Some("classic"),
        subscribed: subscribed.unwrap_or_default(),
        subscribed_regex: None,
        assigned,
        target: None,
    }
}

/// Everything the group has committed: topic, partition and offset.
pub(super) fn committed(
    cluster: &mut Cluster,
    group: &str,
) -> Outcome<std::collections::BTreeMap<(String, i32), i64>> {
    let response = cluster.on_coordinator(
        group,
        OFFSET_FETCH_VERSION_MAX,
        |version| {
            let mut request = api::OffsetFetchRequest::default();
            if version >= 8 {
                let asked = api::offset_fetch_request::OffsetFetchRequestGroup {
                    group_id: api::GroupId(str_bytes(group)),
                    member_id: None,
                    member_epoch: -1,
                    topics: None,
                };
                request.groups = vec![asked];
            } else {
                request.group_id = api::GroupId(str_bytes(group));
                request.topics = None;
            }
            request
        },
        |response: &api::OffsetFetchResponse| {
            let of_group = response.groups.first().map(|group| group.error_code);
            of_group.unwrap_or(response.error_code)
        },
    )?;
    let code = response
        .groups
        .first()
        .map_or(response.error_code, |group| group.error_code);
    if code != 0 && code != GROUP_ID_NOT_FOUND {
        let doing = format!("reading the offsets of group \"{group}\"");
        return Err(Fault::broker(&doing, code, None));
    }
    let mut offsets = std::collections::BTreeMap::new();
    for topic in response.groups.iter().flat_map(|group| &group.topics) {
        for p in topic.partitions.iter().filter(|p| p.error_code == 0) {
            offsets.insert(
                (topic.name.0.to_string(), p.partition_index),
                p.committed_offset,
            );
        }
    }
    for topic in &response.topics {
        for p in topic.partitions.iter().filter(|p| p.error_code == 0) {
            offsets.insert(
                (topic.name.0.to_string(), p.partition_index),
                p.committed_offset,
            );
        }
    }
    offsets.retain(|_, offset| *offset >= 0);
    Ok(offsets)
}
