//! One group for people and programs that ask over HTTP: `GET /admin/consumer-groups/{group}`.

use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::Offset;
use serde::Serialize;

use super::groups::{Look, look};
use super::unread;
use crate::broker::Broker;

/// Lag is what lies between the committed offset and the high watermark; in seconds it is the age
/// of the first record that is not read, 0 when all are, null when nothing is committed.
#[derive(Debug, Serialize)]
pub struct GroupReport {
    pub cluster_id: String,
    pub node_id: i32,
    pub group: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub state: &'static str,
    pub protocol_type: String,
    pub assignor: String,
    pub members: Vec<MemberReport>,
    pub offsets: Vec<OffsetReport>,
    pub lag: i64,
    pub lag_seconds: Option<f64>,
    /// Since this broker runs.
    pub last_rebalance: Option<RebalanceReport>,
}

#[derive(Debug, Serialize)]
pub struct MemberReport {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub assignment: Vec<TopicReport>,
}

#[derive(Debug, Serialize)]
pub struct TopicReport {
    pub topic: String,
    pub partitions: Vec<i32>,
}

#[derive(Debug, Serialize)]
pub struct OffsetReport {
    pub topic: String,
    pub partition: i32,
    pub committed: Option<i64>,
    pub end: Option<i64>,
    pub lag: Option<i64>,
    pub lag_seconds: Option<f64>,
    pub member_id: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct RebalanceReport {
    pub at_ms: i64,
    pub cause: &'static str,
    pub reason: String,
}

/// `None`: there is no such group. An error: its coordinator is not here.
pub fn report(broker: &Broker, group: &str) -> Result<Option<GroupReport>, ErrorCode> {
    let Some(look) = look(broker, group)? else {
        return Ok(None);
    };
    let offsets = offsets(broker, &look);
    let last = broker.metrics.groups.last_rebalance(group);
    Ok(Some(GroupReport {
        cluster_id: broker.metadata.image().cluster_id.to_string(),
        node_id: broker.node_id.0,
        group: group.to_owned(),
        lag: offsets.iter().filter_map(|offset| offset.lag).sum(),
        lag_seconds: offsets
            .iter()
            .filter_map(|offset| offset.lag_seconds)
            .max_by(f64::total_cmp),
        offsets,
        last_rebalance: last.map(|last| RebalanceReport {
            at_ms: last.at_ms,
            cause: last.cause.name(),
            reason: last.reason,
        }),
        kind: look.kind,
        state: look.state,
        protocol_type: look.protocol_type,
        assignor: look.protocol,
        members: look
            .members
            .into_iter()
            .map(|member| MemberReport {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                host: member.host,
                assignment: member
                    .assigned
                    .into_iter()
                    .map(|(topic, partitions)| TopicReport {
                        topic,
                        partitions: partitions.into_iter().collect(),
                    })
                    .collect(),
            })
            .collect(),
    }))
}

fn offsets(broker: &Broker, look: &Look) -> Vec<OffsetReport> {
    let now_ms = broker.clock.wall_ms();
    let offsets = look.partitions().into_iter().map(|(topic, index)| {
        let partition = broker.partitions.get(&topic, index);
        let end = partition
            .as_ref()
            .and_then(|partition| partition.marks().ok());
        let end = end.map(|marks| marks.high_watermark.0);
        let committed = look.offsets.get(&(topic.clone(), index)).copied();
        let lag = committed.zip(end).map(|(at, end)| (end - at).max(0));
        let lag_seconds = match (lag, &partition, committed) {
            (Some(0), _, _) => Some(0.0),
            (Some(_), Some(partition), Some(committed)) => {
                unread::record_time(partition, Offset(committed))
                    .map(|written_ms| unread::seconds_since(written_ms, now_ms))
            }
            _ => None,
        };
        let owns = |member: &&super::groups::Member| {
            let assigned = member.assigned.get(&topic);
            assigned.is_some_and(|partitions| partitions.contains(&index))
        };
        let owner = look.members.iter().find(owns);
        OffsetReport {
            member_id: owner.map(|member| member.member_id.clone()),
            topic,
            partition: index,
            committed,
            end,
            lag,
            lag_seconds,
        }
    });
    offsets.collect()
}
