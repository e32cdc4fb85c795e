//! Consumer groups in scripts: the topics there are, the words of a heartbeat, and what is shown of
//! records and answers. A topic's id is made of its name, so that it can be shown as one.

use std::collections::BTreeMap;

use ottla_coordinator::command::{
    AssignedTopic, Client, ConsumerHeartbeat, ConsumerHeartbeatReply, DescribedConsumerGroup,
    Refusal, TopicPartitions,
};
use ottla_coordinator::records::{ConsumerMemberValue, ConsumerRecord, CurrentValue, OwnedTopic};
use ottla_coordinator::{Topic, Topics};
use ottla_protocol::error::ErrorCode;
use ottla_protocol::types::TopicId;
use uuid::Uuid;

use crate::show::{code, text};
use crate::words::Words;

#[derive(Default)]
pub(crate) struct Cluster {
    version: u64,
    topics: BTreeMap<String, (u8, i32)>,
    incarnations: BTreeMap<String, u8>,
}

impl Cluster {
    /// `None`: deleted.
    pub(crate) fn set(&mut self, name: &str, partitions: Option<i32>) {
        self.version += 1;
        let Some(partitions) = partitions else {
            self.topics.remove(name);
            return;
        };
        let incarnations = &mut self.incarnations;
        let topic = self.topics.entry(name.to_owned()).or_insert_with(|| {
            let incarnation = incarnations.entry(name.to_owned()).or_default();
            *incarnation += 1;
            (*incarnation, partitions)
        });
        topic.1 = partitions;
    }

    pub(crate) fn id(&self, name: &str) -> TopicId {
        let incarnation = self
            .topics
            .get(name)
            .map_or(1, |(incarnation, _)| *incarnation);
        id(name, incarnation)
    }
}

fn id(name: &str, incarnation: u8) -> TopicId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes[15] = incarnation;
    TopicId(Uuid::from_bytes(bytes))
}

fn name(id: TopicId) -> String {
    let bytes = id.0.as_bytes();
    let name = bytes[..15].split(|byte| *byte == 0).next().unwrap();
    let again = "'".repeat(usize::from(bytes[15].saturating_sub(1)));
    format!("{}{again}", std::str::from_utf8(name).unwrap())
}

impl Topics for Cluster {
    fn version(&self) -> u64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<Topic<'_>> {
        let (name, (incarnation, partitions)) = self.topics.get_key_value(name)?;
        Some(Topic {
            id: id(name, *incarnation),
            name,
            partitions: *partitions,
        })
    }

    fn by_id(&self, id: TopicId) -> Option<Topic<'_>> {
        self.by_name(&name(id)).filter(|topic| topic.id == id)
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.topics.keys().map(String::as_str))
    }
}

fn list(text: &str) -> Vec<String> {
    let parts = text
        .split(',')
        .filter(|part| !part.is_empty() && *part != "none");
    parts.map(str::to_owned).collect()
}

/// `t:0,1;u:2` or `none`.
fn partitions(cluster: &Cluster, text: &str) -> Vec<TopicPartitions> {
    let topics = text.split(';').filter(|topic| *topic != "none");
    let topics = topics.map(|topic| {
        let (name, partitions) = topic.split_once(':').unwrap();
        TopicPartitions {
            topic_id: cluster.id(name),
            partitions: list(partitions)
                .iter()
                .map(|p| p.parse().unwrap())
                .collect(),
        }
    });
    topics.collect()
}

/// `m epoch=0`, and what else the heartbeat tells. A join tells what it must, if nothing is said.
pub(crate) fn heartbeat(words: &mut Words, cluster: &Cluster) -> ConsumerHeartbeat {
    let group = words.next();
    let member_id = words.next();
    let member_epoch = words.number("epoch", 0);
    let joins = member_epoch == 0;
    let (regex, names) = (words.get("regex"), words.get("names"));
    let defaults = joins && !words.flag("bare");
    let names = names.or_else(|| (defaults && regex.is_none()).then(|| "t".to_owned()));
    let owned = words.get("owned");
    let owned = owned.or_else(|| defaults.then(|| "none".to_owned()));
    ConsumerHeartbeat {
        group,
        member_id,
        member_epoch,
        instance_id: words.get("instance"),
        rack_id: words.get("rack"),
        client: Client {
            id: "c".to_owned(),
            host: "/127.0.0.1".to_owned(),
        },
        rebalance_timeout_ms: words.number("rebalance", if joins { 60_000 } else { -1 }),
        subscribed_topic_names: names.map(|names| list(&names)),
        subscribed_topic_regex: regex.map(|regex| {
            if regex == "none" {
                String::new()
            } else {
                regex
            }
        }),
        server_assignor: words.get("assignor"),
        owned: owned.map(|owned| partitions(cluster, &owned)),
        makes_own_id: !words.flag("v0"),
    }
}

fn shown<'a>(topics: impl Iterator<Item = (String, &'a [i32])>) -> String {
    let topics = topics.map(|(name, partitions)| {
        let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        format!("{name}:{}", partitions.join(","))
    });
    let mut topics: Vec<String> = topics.collect();
    topics.sort();
    if topics.is_empty() {
        "none".to_owned()
    } else {
        topics.join(";")
    }
}

fn shown_partitions(topics: &[TopicPartitions]) -> String {
    shown(
        topics
            .iter()
            .map(|topic| (name(topic.topic_id), topic.partitions.as_slice())),
    )
}

fn shown_assigned(topics: &[AssignedTopic]) -> String {
    shown(
        topics
            .iter()
            .map(|topic| (topic.topic.clone(), topic.partitions.as_slice())),
    )
}

/// Partitions with their epochs: `t:0@2,1@3`.
fn shown_owned(topics: &[OwnedTopic]) -> String {
    let topics = topics.iter().map(|topic| {
        let each = topic.partitions.iter().zip(&topic.epochs);
        let each: Vec<String> = each.map(|(p, epoch)| format!("{p}@{epoch}")).collect();
        format!("{}:{}", name(topic.topic_id), each.join(","))
    });
    let topics: Vec<String> = topics.collect();
    if topics.is_empty() {
        "none".to_owned()
    } else {
        topics.join(";")
    }
}

pub(crate) fn reply(reply: &ConsumerHeartbeatReply) -> String {
    if reply.error != ErrorCode::NONE {
        assert_eq!(reply.member_id, None);
        return format!("{}: {}", code(reply.error), reply.message.clone().unwrap());
    }
    let assignment = reply.assignment.as_deref();
    format!(
        "ok member={} epoch={}{}{}",
        reply.member_id.clone().unwrap(),
        reply.member_epoch,
        match reply.heartbeat_interval_ms {
            5_000 => String::new(),
            other => format!(" interval={other}"),
        },
        assignment.map_or(String::new(), |topics| format!(
            " -> {}",
            shown_partitions(topics)
        ))
    )
}

pub(crate) fn record(group: &str, record: &ConsumerRecord) -> String {
    let what = match record {
        ConsumerRecord::GroupEpoch(None) => "epoch gone".to_owned(),
        ConsumerRecord::GroupEpoch(Some(value)) => match value.metadata_hash {
            0 => format!("epoch {} of no topics", value.epoch),
            _ => format!("epoch {}", value.epoch),
        },
        ConsumerRecord::PartitionMetadata(None) => "partition-metadata gone".to_owned(),
        ConsumerRecord::PartitionMetadata(Some(_)) => "partition-metadata".to_owned(),
        ConsumerRecord::Member { member_id, value } => {
            format!("member {member_id} {}", or_gone(value.as_ref().map(member)))
        }
        ConsumerRecord::TargetEpoch(value) => {
            let value = value
                .as_ref()
                .map(|value| format!("{} at={}", value.epoch, value.timestamp_ms));
            format!("target-epoch {}", or_gone(value))
        }
        ConsumerRecord::Target { member_id, value } => {
            let value = value.as_deref().map(shown_partitions);
            format!("target {member_id} {}", or_gone(value))
        }
        ConsumerRecord::Current { member_id, value } => {
            format!(
                "current {member_id} {}",
                or_gone(value.as_ref().map(current))
            )
        }
        ConsumerRecord::Regex { regex, value } => {
            let value = value.as_ref().map(|value| {
                format!(
                    "{:?} version={} at={}",
                    value.topics, value.version, value.timestamp_ms
                )
            });
            format!("regex {regex} {}", or_gone(value))
        }
    };
    format!("consumer {group} {what}")
}

fn or_gone(value: Option<String>) -> String {
    value.unwrap_or_else(|| "gone".to_owned())
}

fn member(value: &ConsumerMemberValue) -> String {
    let mut out = format!("reads={}", value.subscribed_topic_names.join(","));
    for (name, field) in [
        ("regex", value.subscribed_topic_regex.as_ref()),
        ("instance", value.instance_id.as_ref()),
        ("rack", value.rack_id.as_ref()),
        ("assignor", value.server_assignor.as_ref()),
    ] {
        if let Some(field) = field.filter(|field| !field.is_empty()) {
            out.push_str(&format!(" {name}={field}"));
        }
    }
    out.push_str(&format!(" rebalance={}", value.rebalance_timeout_ms));
    if let Some(classic) = &value.classic {
        let protocols = classic.protocols.iter();
        let protocols: Vec<String> = protocols
            .map(|(name, metadata)| format!("{name}:{}", text(metadata)))
            .collect();
        out.push_str(&format!(
            " classic session={} {}",
            classic.session_timeout_ms,
            protocols.join(" ")
        ));
    }
    out
}

fn current(value: &CurrentValue) -> String {
    let state = ["stable", "unrevoked", "unreleased"];
    let state = state
        .get(usize::try_from(value.state).unwrap())
        .unwrap_or(&"unknown");
    format!(
        "epoch={}<{} {state} has {}{}",
        value.epoch,
        value.previous_epoch,
        shown_owned(&value.assigned),
        match value.pending_revocation.is_empty() {
            true => String::new(),
            false => format!(" revoking {}", shown_owned(&value.pending_revocation)),
        }
    )
}

pub(crate) fn described(group: Result<DescribedConsumerGroup, Refusal>) -> String {
    let group = match group {
        Ok(group) => group,
        Err(refusal) => return format!("{}: {}", code(refusal.error), refusal.message),
    };
    let mut out = format!(
        "{} epoch={} target-epoch={} {}",
        group.state, group.group_epoch, group.assignment_epoch, group.assignor
    );
    for member in group.members {
        out.push_str(&format!(
            "\n  {}{} epoch={}{} has {} shall have {}",
            member.member_id,
            member
                .instance_id
                .map(|id| format!("@{id}"))
                .unwrap_or_default(),
            member.member_epoch,
            if member.is_classic { " classic" } else { "" },
            shown_assigned(&member.assignment),
            shown_assigned(&member.target)
        ));
    }
    out
}
