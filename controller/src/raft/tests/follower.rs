//! A follower of a leader that exists only as messages: what it must not forget.

use ::raft::eraftpb::{Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use ottla_storage::disk::memory::Crash;

use super::*;

const ME: i32 = 0;
const TERM: u64 = 5;

fn open(disk: &MemoryDisk) -> Result<Controller, ControllerError> {
    let voters = (0..3).map(BrokerId).collect();
    let options = ControllerOptions::new(BrokerId(ME), voters, 1);
    Controller::open(Arc::new(disk.clone()), options, base_time())
}

fn message(from: i32, kind: MessageType) -> Message {
    Message {
        msg_type: kind as i32,
        from: raft_id(BrokerId(from)),
        to: raft_id(BrokerId(ME)),
        term: TERM,
        ..Message::default()
    }
}

/// What the follower answers to a message.
fn answers(
    controller: &mut Controller,
    from: i32,
    message: &Message,
) -> Result<Vec<Message>, ControllerError> {
    let stepped = controller.step(BrokerId(from), &wire::encode(message));
    assert!(stepped.is_ok(), "{stepped:?}");
    let events = controller.poll(base_time())?;
    let answer = |event| match event {
        Event::Send { to, message } if to == BrokerId(from) => {
            Some(Message::decode(&message[1..]).unwrap())
        }
        _ => None,
    };
    Ok(events.into_iter().filter_map(answer).collect())
}

fn request_vote(from: i32) -> Message {
    Message {
        index: 100,
        log_term: TERM - 1,
        ..message(from, MessageType::MsgRequestVote)
    }
}

fn granted(answers: &[Message]) -> bool {
    let vote = answers
        .iter()
        .find(|m| m.get_msg_type() == MessageType::MsgRequestVoteResponse);
    vote.is_some_and(|vote| !vote.reject)
}

#[test]
fn a_vote_is_not_given_twice_in_a_term_whatever_happens_in_between() {
    for crash in [Crash::Process, Crash::PowerLossOfAllUnsynced] {
        let disk = MemoryDisk::new();
        let mut controller = open(&disk).unwrap();
        assert!(granted(
            &answers(&mut controller, 1, &request_vote(1)).unwrap()
        ));
        disk.crash(crash);
        let mut controller = open(&disk).unwrap();
        assert!(!granted(
            &answers(&mut controller, 2, &request_vote(2)).unwrap()
        ));
        assert!(granted(
            &answers(&mut controller, 1, &request_vote(1)).unwrap()
        ));
    }
}

fn entry(index: u64, term: u64, topic: u128) -> Entry {
    let topic_id = ottla_protocol::types::TopicId(Uuid::from_u128(topic));
    let record = MetadataRecord::Topic {
        topic_id,
        name: Arc::from(format!("topic-{topic}")),
    };
    Entry {
        index,
        term,
        data: encode_batch(&[record]),
        ..Entry::default()
    }
}

/// Entries after the bootstrap, and word that all of them are committed.
fn append(term: u64, topics: std::ops::Range<u64>) -> Message {
    let entries: Vec<Entry> = topics
        .map(|n| entry(n, TERM, u128::from(n + 1000 * term)))
        .collect();
    Message {
        term,
        index: 1,
        log_term: 1,
        commit: entries.last().unwrap().index,
        entries,
        ..message(1, MessageType::MsgAppend)
    }
}

fn snapshot() -> Message {
    let topics: Vec<MetadataRecord> = (0..3)
        .map(|n| MetadataRecord::Topic {
            topic_id: ottla_protocol::types::TopicId(Uuid::from_u128(n)),
            name: Arc::from(format!("topic-{n}")),
        })
        .collect();
    let voters = (0..3).map(|id| raft_id(BrokerId(id))).collect();
    let members = ConfState {
        voters,
        ..ConfState::default()
    };
    let metadata = SnapshotMetadata {
        conf_state: Some(members),
        index: 50,
        term: TERM,
    };
    Message {
        snapshot: Some(Snapshot {
            data: encode_batch(&topics),
            metadata: Some(metadata),
        }),
        ..message(1, MessageType::MsgSnapshot)
    }
}

/// Cuts the power at every operation that `message` causes. Afterwards the node must open, hold
/// what it said that it holds, and take the message again.
fn cut_power_during(before: &[Message], message: &Message) {
    let prepare = || {
        let disk = MemoryDisk::new();
        let mut controller = open(&disk).unwrap();
        before
            .iter()
            .for_each(|m| drop(answers(&mut controller, 1, m).unwrap()));
        (disk, controller)
    };
    let (disk, mut controller) = prepare();
    let start = disk.operations();
    let complete = answers(&mut controller, 1, message).unwrap();
    let acknowledged = |answers: &[Message]| {
        let accepted =
            |m: &&Message| m.get_msg_type() == MessageType::MsgAppendResponse && !m.reject;
        answers.iter().filter(accepted).map(|m| m.index).max()
    };
    assert!(acknowledged(&complete).is_some());
    let after = controller.image();
    for point in 0..disk.operations() - start {
        for seed in 0..4 {
            let (disk, mut controller) = prepare();
            disk.halt_after(point);
            assert!(answers(&mut controller, 1, message).is_err());
            disk.crash(Crash::PowerLoss { seed });
            let mut controller = open(&disk).unwrap();
            let again = answers(&mut controller, 1, message).unwrap();
            assert_eq!(
                acknowledged(&again),
                acknowledged(&complete),
                "{point} {seed}"
            );
            assert_eq!(controller.image().topics, after.topics, "{point} {seed}");
        }
    }
    disk.crash(Crash::PowerLossOfAllUnsynced);
    let controller = open(&disk).unwrap();
    assert_eq!(
        Some(controller.node.store().last_index()),
        acknowledged(&complete)
    );
}

#[test]
fn a_power_cut_while_entries_of_a_new_term_arrive_leaves_a_node_that_starts() {
    cut_power_during(&[], &append(TERM, 2..8));
}

#[test]
fn a_power_cut_while_entries_are_overwritten_leaves_a_node_that_starts() {
    let mut uncommitted = append(TERM, 2..8);
    uncommitted.commit = 1;
    let mut newer = append(TERM + 1, 2..5);
    newer
        .entries
        .iter_mut()
        .for_each(|entry| entry.term = TERM + 1);
    cut_power_during(&[uncommitted], &newer);
}

#[test]
fn a_power_cut_while_a_snapshot_is_installed_leaves_a_node_that_starts() {
    cut_power_during(&[], &snapshot());
    let mut uncommitted = append(TERM - 1, 2..8);
    uncommitted.commit = 1;
    uncommitted
        .entries
        .iter_mut()
        .for_each(|entry| entry.term = TERM - 1);
    cut_power_during(&[uncommitted], &snapshot());
    // The log reaches beyond the snapshot, with entries that were never committed.
    let mut longer = append(TERM - 1, 2..70);
    longer.commit = 1;
    longer
        .entries
        .iter_mut()
        .for_each(|entry| entry.term = TERM - 1);
    cut_power_during(&[longer], &snapshot());
}
