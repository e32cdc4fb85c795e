//! Messages between controllers: `[format u8][raft message]`, and the numbers that name nodes in
//! them.
//!
//! Raft trusts its peers: a message that breaks its rules makes it panic. Peers are authenticated
//! by the transport, but a peer of another release, a restored disk or a defect can break them as
//! well, so everything that raft assumes and that can be seen from outside is checked here first.
//! Decoding allocates no more than the message's own bytes.

use ottla_protocol::types::BrokerId;
use prost::Message as _;
use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};

use super::error::StepError;
use crate::record::decode_batch;

const FORMAT: u8 = 1;

/// Raft's name of a node: never 0, which means nobody there.
pub(super) fn raft_id(node: BrokerId) -> u64 {
    // Checked when the options are: broker ids are not negative.
    node.0.unsigned_abs() as u64 + 1
}

/// The node that raft calls `id`; `None` for nobody and for what no node is called.
pub(super) fn broker_id(id: u64) -> Option<BrokerId> {
    i32::try_from(id.checked_sub(1)?).ok().map(BrokerId)
}

pub(super) fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes
}

/// The message that `from` sent to `me`, checked as far as it can be without knowing the log.
pub(super) fn decode(from: BrokerId, me: BrokerId, bytes: &[u8]) -> Result<Message, StepError> {
    let (format, body) = bytes.split_first().ok_or(StepError::Malformed)?;
    if *format != FORMAT {
        return Err(StepError::UnknownFormat(*format));
    }
    let message = Message::decode(body).map_err(|_| StepError::Malformed)?;
    if from.0 < 0 || message.from != raft_id(from) {
        let claimed = broker_id(message.from);
        return Err(StepError::WrongSender {
            claimed,
            actual: from,
        });
    }
    if message.to != raft_id(me) {
        return Err(StepError::WrongReceiver);
    }
    check_kind(&message)?;
    Ok(message)
}

fn check_kind(message: &Message) -> Result<(), StepError> {
    let kind = MessageType::from_i32(message.msg_type).ok_or(StepError::UnexpectedKind)?;
    if message.term == 0 {
        return Err(StepError::Malformed);
    }
    match kind {
        MessageType::MsgAppend => return check_entries(message),
        MessageType::MsgSnapshot => check_snapshot(message.snapshot.as_ref())?,
        MessageType::MsgAppendResponse
        | MessageType::MsgRequestVote
        | MessageType::MsgRequestVoteResponse
        | MessageType::MsgRequestPreVote
        | MessageType::MsgRequestPreVoteResponse
        | MessageType::MsgHeartbeat
        | MessageType::MsgHeartbeatResponse
        | MessageType::MsgTimeoutNow => {}
        _ => return Err(StepError::UnexpectedKind),
    }
    match message.entries.is_empty() {
        true => Ok(()),
        false => Err(StepError::Malformed),
    }
}

fn check_entries(message: &Message) -> Result<(), StepError> {
    let mut term = message.log_term;
    let mut index = message.index;
    for entry in &message.entries {
        index = index.checked_add(1).ok_or(StepError::InconsistentEntries)?;
        let kind = raft::eraftpb::EntryType::from_i32(entry.entry_type);
        let in_order = entry.index == index && (term..=message.term).contains(&entry.term);
        if !in_order || entry.term == 0 || kind.is_none() {
            return Err(StepError::InconsistentEntries);
        }
        term = entry.term;
    }
    Ok(())
}

fn check_snapshot(snapshot: Option<&Snapshot>) -> Result<(), StepError> {
    let snapshot = snapshot.ok_or(StepError::Malformed)?;
    let metadata = snapshot.metadata.as_ref().ok_or(StepError::Malformed)?;
    let members = metadata.conf_state.as_ref().ok_or(StepError::Malformed)?;
    if metadata.index == 0 || metadata.term == 0 || !is_simple(members) {
        return Err(StepError::Malformed);
    }
    decode_batch(&snapshot.data).map_err(StepError::UnreadableRecords)?;
    Ok(())
}

/// At least one voter, nobody twice, and no change of membership under way.
pub(super) fn is_simple(members: &ConfState) -> bool {
    let mut ids = [members.voters.as_slice(), members.learners.as_slice()].concat();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    !members.voters.is_empty()
        && ids.len() == count
        && ids.iter().all(|id| broker_id(*id).is_some())
        && members.voters_outgoing.is_empty()
        && members.learners_next.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use raft::eraftpb::{Entry, SnapshotMetadata};

    use super::*;

    const ME: BrokerId = BrokerId(1);
    const PEER: BrokerId = BrokerId(2);

    fn message(kind: MessageType) -> Message {
        Message {
            msg_type: kind as i32,
            from: raft_id(PEER),
            to: raft_id(ME),
            term: 3,
            ..Message::default()
        }
    }

    fn append(entries: &[(u64, u64)]) -> Message {
        let entry = |(index, term): &(u64, u64)| Entry {
            index: *index,
            term: *term,
            ..Entry::default()
        };
        Message {
            index: 10,
            log_term: 2,
            entries: entries.iter().map(entry).collect(),
            ..message(MessageType::MsgAppend)
        }
    }

    fn snapshot(voters: &[u64], learners: &[u64], data: &[u8]) -> Message {
        let members = ConfState {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            ..ConfState::default()
        };
        let metadata = SnapshotMetadata {
            conf_state: Some(members),
            index: 5,
            term: 2,
        };
        let snapshot = Snapshot {
            data: data.to_vec(),
            metadata: Some(metadata),
        };
        Message {
            snapshot: Some(snapshot),
            ..message(MessageType::MsgSnapshot)
        }
    }

    #[test]
    fn messages_that_keep_the_rules_arrive_unchanged() {
        let no_records = crate::record::encode_batch(&[]);
        for sent in [
            message(MessageType::MsgHeartbeat),
            append(&[(11, 2), (12, 3)]),
            append(&[]),
            snapshot(&[2, 3], &[4], &no_records),
        ] {
            assert_eq!(decode(PEER, ME, &encode(&sent)).unwrap(), sent);
        }
    }

    #[test]
    fn messages_that_would_make_raft_panic_are_refused() {
        let refused = |sent: Message| decode(PEER, ME, &encode(&sent)).unwrap_err().to_string();
        let inconsistent = StepError::InconsistentEntries.to_string();
        for entries in [
            &[(12, 2)][..],
            &[(11, 2), (13, 2)],
            &[(11, 1)],
            &[(11, 4)],
            &[(11, 3), (12, 2)],
        ] {
            assert_eq!(refused(append(entries)), inconsistent, "{entries:?}");
        }
        let unexpected = StepError::UnexpectedKind.to_string();
        for kind in [
            MessageType::MsgHup,
            MessageType::MsgPropose,
            MessageType::MsgReadIndex,
        ] {
            assert_eq!(refused(message(kind)), unexpected);
        }
        let unknown = Message {
            msg_type: 99,
            ..message(MessageType::MsgHeartbeat)
        };
        assert_eq!(refused(unknown), unexpected);
        let malformed = StepError::Malformed.to_string();
        let no_term = Message {
            term: 0,
            ..message(MessageType::MsgHeartbeat)
        };
        assert_eq!(refused(no_term), malformed);
        assert_eq!(refused(message(MessageType::MsgSnapshot)), malformed);
        for (voters, learners) in [
            (&[][..], &[][..]),
            (&[1, 1], &[]),
            (&[1], &[1]),
            (&[0], &[]),
            (&[u64::MAX], &[]),
        ] {
            assert_eq!(refused(snapshot(voters, learners, &[1, 0])), malformed);
        }
        assert!(refused(snapshot(&[1], &[], &[9])).contains("records that cannot be read"));
    }

    #[test]
    fn messages_between_other_nodes_are_refused() {
        let bytes = encode(&message(MessageType::MsgHeartbeat));
        let wrong = decode(BrokerId(3), ME, &bytes);
        assert!(matches!(
            wrong,
            Err(StepError::WrongSender {
                claimed: Some(PEER),
                ..
            })
        ));
        assert!(matches!(
            decode(PEER, BrokerId(0), &bytes),
            Err(StepError::WrongReceiver)
        ));
        assert!(matches!(
            decode(BrokerId(-1), ME, &bytes),
            Err(StepError::WrongSender { .. })
        ));
    }

    proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(PEER, ME, &bytes);
            let _ = decode(PEER, ME, &[&[FORMAT][..], &bytes].concat());
        }

        #[test]
        fn ids_of_nodes_survive(id in 0i32..) {
            prop_assert_eq!(broker_id(raft_id(BrokerId(id))), Some(BrokerId(id)));
        }
    }
}
