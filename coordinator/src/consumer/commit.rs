//! Whether a member of a consumer group may commit or fetch offsets.
//!
//! Each partition carries the epoch at which its owner got it: a commit with an older epoch of the
//! member is still good for the partitions that it had then.

use ottla_protocol::error::ErrorCode;

use super::ConsumerGroup;
use super::assignment::epoch_of;
use super::member::Member;
use crate::command::{CommitOffsets, TopicPartitionId};

/// The error of a member whose epoch is not what it says.
fn stale(member: &Member) -> ErrorCode {
    match member.classic {
        Some(_) => ErrorCode::ILLEGAL_GENERATION,
        None => ErrorCode::STALE_MEMBER_EPOCH,
    }
}

impl ConsumerGroup {
    /// An error for all, or what each partition is answered.
    pub(crate) fn check_commit(
        &self,
        request: &CommitOffsets,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        let told = request.member.generation;
        let all = |error: ErrorCode| vec![error; request.offsets.len()];
        if told < 0 && self.is_empty() {
            return Ok(all(ErrorCode::NONE));
        }
        let member = self.members.get(request.member.member_id.as_str());
        let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if member.classic.is_none() && !request.knows_member_epochs {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        if told == member.epoch {
            return Ok(all(ErrorCode::NONE));
        }
        if told > member.epoch {
            return Err(stale(member));
        }
        let had = |partition: &TopicPartitionId| {
            let (topic_id, partition) = (partition.topic_id, partition.partition);
            let since = epoch_of(&member.assigned, topic_id, partition)
                .or_else(|| epoch_of(&member.revoking, topic_id, partition));
            since.is_some_and(|since| told >= since)
        };
        let results = request
            .offsets
            .iter()
            .map(|(partition, _)| match had(partition) {
                true => ErrorCode::NONE,
                false => stale(member),
            });
        Ok(results.collect())
    }

    /// Members name themselves and their epoch, tools name neither.
    pub(crate) fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        if member_id.is_none() && epoch < 0 {
            return Ok(());
        }
        let member = member_id.and_then(|id| self.members.get(id));
        let member = member.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        match epoch == member.epoch {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }
}
