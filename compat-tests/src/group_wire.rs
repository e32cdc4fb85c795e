//! Requests of the classic group protocol made by hand, and their answers: what no client would do.
//!
//! One old, non-flexible version each (the last before tagged fields), served by every broker.

use crate::wire::{Bytes, Raw, header};
use anyhow::{Context as _, Result, ensure};

pub const OFFSET_COMMIT: i16 = 8;
pub const JOIN_GROUP: i16 = 11;
pub const HEARTBEAT: i16 = 12;
pub const LEAVE_GROUP: i16 = 13;
pub const SYNC_GROUP: i16 = 14;
pub const DESCRIBE_GROUPS: i16 = 15;
pub const OFFSET_DELETE: i16 = 47;

/// Reads an answer field by field; never past its end.
pub struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    pub fn take(&mut self, count: usize) -> Result<&[u8]> {
        let from = self.at;
        self.at += count;
        self.bytes
            .get(from..self.at)
            .with_context(|| format!("the answer ends before byte {}", self.at))
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_be_bytes(self.take(2)?.try_into()?))
    }

    pub fn i32(&mut self) -> Result<i32> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }

    /// A string; null is empty.
    pub fn string(&mut self) -> Result<String> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    pub fn bytes(&mut self) -> Result<Vec<u8>> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        Ok(self.take(length)?.to_vec())
    }
}

impl Bytes {
    pub fn nullable(self, value: Option<&str>) -> Bytes {
        match value {
            Some(value) => self.string(value),
            None => self.i16(-1),
        }
    }

    pub fn bytes(self, value: &[u8]) -> Bytes {
        self.i32(value.len() as i32).raw(value)
    }
}

/// Sends a request and reads its answer past the correlation id.
pub fn call(raw: &mut Raw, request: &Bytes) -> Result<Answer> {
    let bytes = raw.call(&request.framed())?;
    let mut answer = Answer { bytes, at: 0 };
    ensure!(answer.i32()? == CORRELATION_ID, "another correlation id");
    Ok(answer)
}

/// Reads the answer to a request that was sent before.
pub fn receive(raw: &mut Raw) -> Result<Answer> {
    let bytes = raw.receive()?;
    let mut answer = Answer { bytes, at: 0 };
    ensure!(answer.i32()? == CORRELATION_ID, "another correlation id");
    Ok(answer)
}

const CORRELATION_ID: i32 = 7;

/// Who asks: a member in a generation of a group, or somebody who pretends to be.
#[derive(Clone, Debug)]
pub struct Who {
    pub group: String,
    pub member: String,
    pub instance: Option<String>,
    pub generation: i32,
}

impl Who {
    /// Nobody yet.
    pub fn in_group(group: &str) -> Who {
        Who {
            group: group.to_owned(),
            member: String::new(),
            instance: None,
            generation: -1,
        }
    }

    pub fn member(mut self, member: &str) -> Who {
        self.member = member.to_owned();
        self
    }

    pub fn instance(mut self, instance: &str) -> Who {
        self.instance = Some(instance.to_owned());
        self
    }

    pub fn generation(mut self, generation: i32) -> Who {
        self.generation = generation;
        self
    }

    fn start(&self, key: i16, version: i16) -> Bytes {
        header(key, version, CORRELATION_ID)
            .string(&self.group)
            .i32(self.generation)
            .string(&self.member)
            .nullable(self.instance.as_deref())
    }
}

/// What a member asks for when it joins.
#[derive(Clone, Debug)]
pub struct Join {
    pub session_ms: i32,
    pub rebalance_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<(String, Vec<u8>)>,
}

impl Default for Join {
    fn default() -> Join {
        Join {
            session_ms: 10_000,
            rebalance_ms: 10_000,
            protocol_type: "consumer".to_owned(),
            protocols: vec![("range".to_owned(), subscription("t"))],
        }
    }
}

/// Joined: the error code, and what comes with it.
#[derive(Debug)]
pub struct Joined {
    pub code: i16,
    pub generation: i32,
    pub protocol: String,
    pub leader: String,
    pub member: String,
    /// Ids and metadata, for the leader.
    pub members: Vec<(String, Vec<u8>)>,
}

/// A consumer's subscription to one topic, version 0.
pub fn subscription(topic: &str) -> Vec<u8> {
    Bytes::default().i16(0).i32(1).string(topic).bytes(b"").0
}

pub fn join_request(who: &Who, join: &Join) -> Bytes {
    let mut request = header(JOIN_GROUP, 5, CORRELATION_ID)
        .string(&who.group)
        .i32(join.session_ms)
        .i32(join.rebalance_ms)
        .string(&who.member)
        .nullable(who.instance.as_deref())
        .string(&join.protocol_type)
        .i32(join.protocols.len() as i32);
    for (name, metadata) in &join.protocols {
        request = request.string(name).bytes(metadata);
    }
    request
}

pub fn joined(mut answer: Answer) -> Result<Joined> {
    answer.i32()?;
    let mut joined = Joined {
        code: answer.i16()?,
        generation: answer.i32()?,
        protocol: answer.string()?,
        leader: answer.string()?,
        member: answer.string()?,
        members: Vec::new(),
    };
    for _ in 0..answer.i32()? {
        let member = answer.string()?;
        answer.string()?;
        joined.members.push((member, answer.bytes()?));
    }
    Ok(joined)
}

/// One JoinGroup, whatever comes of it.
pub fn join_once(raw: &mut Raw, who: &Who, join: &Join) -> Result<Joined> {
    joined(call(raw, &join_request(who, join))?)
}

pub const MEMBER_ID_REQUIRED: i16 = 79;

/// Joins as a client does: a second time with the id that it was given.
pub fn join(raw: &mut Raw, who: &Who, wanted: &Join) -> Result<Joined> {
    let first = join_once(raw, who, wanted)?;
    if first.code != MEMBER_ID_REQUIRED {
        return Ok(first);
    }
    join_once(raw, &who.clone().member(&first.member), wanted)
}

pub fn sync_request(who: &Who, assignments: &[(&str, &[u8])]) -> Bytes {
    let mut request = who.start(SYNC_GROUP, 3).i32(assignments.len() as i32);
    for (member, assignment) in assignments {
        request = request.string(member).bytes(assignment);
    }
    request
}

/// The code and the assignment.
pub fn synced(mut answer: Answer) -> Result<(i16, Vec<u8>)> {
    answer.i32()?;
    Ok((answer.i16()?, answer.bytes()?))
}

pub fn sync(raw: &mut Raw, who: &Who, assignments: &[(&str, &[u8])]) -> Result<(i16, Vec<u8>)> {
    synced(call(raw, &sync_request(who, assignments))?)
}

/// The only member of a new group, joined and synced.
pub fn alone(raw: &mut Raw, who: &Who, wanted: &Join) -> Result<Who> {
    let joined = join(raw, who, wanted)?;
    ensure!(joined.code == 0, "join: {joined:?}");
    let who = who
        .clone()
        .member(&joined.member)
        .generation(joined.generation);
    let (code, _) = sync(raw, &who, &[(&who.member, b"")])?;
    ensure!(code == 0, "sync: {code}");
    Ok(who)
}

pub fn heartbeat(raw: &mut Raw, who: &Who) -> Result<i16> {
    let mut answer = call(raw, &who.start(HEARTBEAT, 3))?;
    answer.i32()?;
    answer.i16()
}

/// The code of the group and the code of the member.
pub fn leave(raw: &mut Raw, who: &Who) -> Result<(i16, Option<i16>)> {
    let request = header(LEAVE_GROUP, 3, CORRELATION_ID)
        .string(&who.group)
        .i32(1)
        .string(&who.member)
        .nullable(who.instance.as_deref());
    let mut answer = call(raw, &request)?;
    answer.i32()?;
    let code = answer.i16()?;
    let mut of_member = None;
    if answer.i32()? == 1 {
        answer.string()?;
        answer.string()?;
        of_member = Some(answer.i16()?);
    }
    Ok((code, of_member))
}

/// Commits offset 1 of partition 0.
pub fn commit(raw: &mut Raw, who: &Who, topic: &str, metadata: &str) -> Result<i16> {
    let request = who
        .start(OFFSET_COMMIT, 7)
        .i32(1)
        .string(topic)
        .i32(1)
        .i32(0)
        .i64(1)
        .i32(-1)
        .string(metadata);
    let mut answer = call(raw, &request)?;
    answer.i32()?;
    only_partition(&mut answer)
}

/// The code of the one partition of the one topic.
fn only_partition(answer: &mut Answer) -> Result<i16> {
    ensure!(answer.i32()? == 1, "one topic");
    answer.string()?;
    ensure!(answer.i32()? == 1, "one partition");
    answer.i32()?;
    answer.i16()
}

/// Deletes the offset of partition 0: the code of the group, and of the partition.
pub fn delete_offset(raw: &mut Raw, group: &str, topic: &str) -> Result<(i16, Option<i16>)> {
    let request = header(OFFSET_DELETE, 0, CORRELATION_ID)
        .string(group)
        .i32(1)
        .string(topic)
        .i32(1)
        .i32(0);
    let mut answer = call(raw, &request)?;
    let code = answer.i16()?;
    answer.i32()?;
    let of_partition = (code == 0).then(|| only_partition(&mut answer));
    Ok((code, of_partition.transpose()?))
}

/// The code, the state and the number of members of a group (DescribeGroups version 0).
pub fn describe(raw: &mut Raw, group: &str) -> Result<(i16, String, i32)> {
    let request = header(DESCRIBE_GROUPS, 0, CORRELATION_ID)
        .i32(1)
        .string(group);
    let mut answer = call(raw, &request)?;
    ensure!(answer.i32()? == 1, "one group");
    let code = answer.i16()?;
    answer.string()?;
    let state = answer.string()?;
    answer.string()?;
    answer.string()?;
    Ok((code, state, answer.i32()?))
}
