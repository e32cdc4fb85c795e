//! One member of a consumer group in the classic protocol, as little of a client as takes part:
//! it joins, assigns if it is the leader, syncs, and heartbeats until it is told to rejoin.
//!
//! Many of them run in one tokio runtime, each with a connection of its own.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    self, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, LeaveGroupResponse, Request, Response, StrBytes, SyncGroupRequest,
    SyncGroupResponse,
};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::wire::text;

const REBALANCE_IN_PROGRESS: i16 = 27;
const MEMBER_ID_REQUIRED: i16 = 79;
const ILLEGAL_GENERATION: i16 = 22;
const UNKNOWN_MEMBER_ID: i16 = 25;
const PROTOCOL: &str = "range";

/// What all members of a group have in common.
#[derive(Clone, Debug)]
pub struct Membership {
    pub bootstrap: String,
    pub group: String,
    pub topic: String,
    pub partitions: i32,
    pub heartbeat_every: Duration,
}

/// Where a member stands; the generation is that of its last assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Joining,
    Assigned { generation: i32, partitions: usize },
    Left,
}

/// What a member is told to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Stay,
    Leave,
    /// The measurement is over.
    End,
}

struct Connection {
    stream: TcpStream,
}

impl Connection {
    async fn call<Q: Request, A: Response>(&mut self, version: i16, request: &Q) -> Result<A> {
        let frame = messages::encode_request(1, "ottla-bench", version, request)?;
        self.stream.write_all(&frame).await?;
        let length = usize::try_from(self.stream.read_i32().await?)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok(messages::decode_response(Bytes::from(body), version)?.1)
    }
}

/// One member from its first connection to its end.
pub async fn run(
    membership: Membership,
    standing: watch::Sender<Standing>,
    mut wish: watch::Receiver<Wish>,
) -> Result<()> {
    let stream = TcpStream::connect(&membership.bootstrap).await?;
    stream.set_nodelay(true)?;
    let mut member = Member {
        membership,
        connection: Connection { stream },
        id: StrBytes::default(),
        generation: -1,
    };
    loop {
        let partitions = member.join().await?;
        let generation = member.generation;
        let assigned = Standing::Assigned {
            generation,
            partitions,
        };
        standing.send_replace(assigned);
        loop {
            let heartbeat = tokio::time::sleep(member.membership.heartbeat_every);
            tokio::select! {
                _ = wish.changed() => {}
                () = heartbeat => {}
            }
            let wanted = *wish.borrow_and_update();
            match wanted {
                Wish::Stay => {}
                Wish::Leave => {
                    member.leave().await?;
                    standing.send_replace(Standing::Left);
                    return Ok(());
                }
                Wish::End => return Ok(()),
            }
            match member.heartbeat().await? {
                0 => {}
                REBALANCE_IN_PROGRESS => break,
                code => bail!("heartbeat: error {code}"),
            }
        }
        standing.send_replace(Standing::Joining);
    }
}

struct Member {
    membership: Membership,
    connection: Connection,
    id: StrBytes,
    generation: i32,
}

impl Member {
    fn group(&self) -> GroupId {
        GroupId(text(&self.membership.group))
    }

    /// Joins and syncs until a generation is complete; how many partitions it got.
    async fn join(&mut self) -> Result<usize> {
        loop {
            let joined = self.send_join().await?;
            match joined.error_code {
                0 => {}
                MEMBER_ID_REQUIRED => {
                    self.id = joined.member_id;
                    continue;
                }
                UNKNOWN_MEMBER_ID => {
                    self.id = StrBytes::default();
                    continue;
                }
                REBALANCE_IN_PROGRESS => continue,
                // Its coordinator is still being loaded.
                14..=16 => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                code => bail!("join: error {code}"),
            }
            self.id = joined.member_id.clone();
            self.generation = joined.generation_id;
            let synced = self.sync(&joined).await?;
            match synced.error_code {
                0 => return assigned_partitions(synced.assignment),
                REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => {}
                code => bail!("sync: error {code}"),
            }
        }
    }

    async fn send_join(&mut self) -> Result<JoinGroupResponse> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text(PROTOCOL))
            .with_metadata(subscription(&self.membership.topic));
        let request = JoinGroupRequest::default()
            .with_group_id(self.group())
            .with_session_timeout_ms(45_000)
            .with_rebalance_timeout_ms(300_000)
            .with_member_id(self.id.clone())
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        self.connection.call(5, &request).await
    }

    async fn sync(&mut self, joined: &JoinGroupResponse) -> Result<SyncGroupResponse> {
        let mut assignments = Vec::new();
        if joined.leader == self.id {
            let count = joined.members.len();
            for (index, member) in joined.members.iter().enumerate() {
                let partitions = self.share(index, count);
                let assignment = SyncGroupRequestAssignment::default()
                    .with_member_id(member.member_id.clone())
                    .with_assignment(assignment(&self.membership.topic, &partitions));
                assignments.push(assignment);
            }
        }
        let request = SyncGroupRequest::default()
            .with_group_id(self.group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone())
            .with_assignments(assignments);
        self.connection.call(3, &request).await
    }

    /// The partitions of the member with that index, round robin.
    fn share(&self, index: usize, members: usize) -> Vec<i32> {
        let all = 0..self.membership.partitions;
        all.skip(index).step_by(members.max(1)).collect()
    }

    async fn heartbeat(&mut self) -> Result<i16> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group())
            .with_generation_id(self.generation)
            .with_member_id(self.id.clone());
        let response: HeartbeatResponse = self.connection.call(3, &request).await?;
        Ok(response.error_code)
    }

    async fn leave(&mut self) -> Result<()> {
        let leaving = MemberIdentity::default().with_member_id(self.id.clone());
        let request = LeaveGroupRequest::default()
            .with_group_id(self.group())
            .with_members(vec![leaving]);
        let response: LeaveGroupResponse = self.connection.call(3, &request).await?;
        ensure!(
            response.error_code == 0,
            "leave: error {}",
            response.error_code
        );
        Ok(())
    }
}

/// ConsumerProtocolSubscription v0.
fn subscription(topic: &str) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(-1);
    bytes.freeze()
}

/// ConsumerProtocolAssignment v0.
fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(1);
    bytes.put_i16(topic.len() as i16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_i32(partitions.len() as i32);
    for partition in partitions {
        bytes.put_i32(*partition);
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

fn assigned_partitions(mut bytes: Bytes) -> Result<usize> {
    let short = "a short assignment";
    bytes.try_get_i16().context(short)?;
    let topics = bytes.try_get_i32().context(short)?;
    ensure!(topics == 1, "an assignment of {topics} topics");
    let name_bytes = usize::try_from(bytes.try_get_i16().context(short)?)?;
    ensure!(bytes.remaining() > name_bytes, short);
    bytes.advance(name_bytes);
    Ok(usize::try_from(bytes.try_get_i32().context(short)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_says_how_many_partitions_it_has() {
        assert_eq!(assigned_partitions(assignment("t", &[1, 5, 9])).unwrap(), 3);
        assert_eq!(assigned_partitions(assignment("t", &[])).unwrap(), 0);
        assert!(assigned_partitions(Bytes::from_static(b"\0\0")).is_err());
    }
}
