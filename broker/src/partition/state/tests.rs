//! The rules of the high watermark and of the flush phases, step by step.

use super::*;
use proptest::prelude::*;

fn policy(durability: Durability) -> FlushPolicy {
    FlushPolicy {
        durability,
        records_max: None,
        age_max: None,
    }
}

fn state(policy: FlushPolicy) -> PartitionState {
    PartitionState::new(policy, LeaderEpoch(3), Offset(10))
}

#[test]
fn class_commit_shows_records_only_after_the_flush() {
    let now = Instant::now();
    let mut state = state(policy(Durability::Commit));
    assert_eq!(state.appended(Offset(12), 200, now), (0, FlushDue::Now));
    assert_eq!(state.high_watermark(), Offset(10));
    let to = state.flush_begins();
    assert_eq!(
        state.appended(Offset(15), 50, now),
        (0, FlushDue::No),
        "one flush at a time"
    );
    assert_eq!(
        state.flushed(to),
        (200, true),
        "the rest needs another flush"
    );
    assert_eq!(state.high_watermark(), Offset(12));
    let to = state.flush_begins();
    assert_eq!(state.flushed(to), (50, false));
    assert_eq!(state.high_watermark(), Offset(15));
}

#[test]
fn class_memory_shows_records_at_once_and_never_asks_for_a_flush() {
    let now = Instant::now();
    let mut state = state(policy(Durability::Memory));
    assert_eq!(state.appended(Offset(11), 70, now), (70, FlushDue::No));
    assert_eq!(state.high_watermark(), Offset(11));
}

#[test]
fn class_interval_sets_one_timer_for_many_appends() {
    let now = Instant::now();
    let age = Duration::from_millis(200);
    let mut state = state(FlushPolicy {
        age_max: Some(age),
        ..policy(Durability::Interval)
    });
    assert_eq!(
        state.appended(Offset(11), 1, now),
        (1, FlushDue::At(now + age))
    );
    assert_eq!(state.appended(Offset(12), 1, now), (1, FlushDue::No));
    assert!(state.timer_rang());
    let to = state.flush_begins();
    assert_eq!(state.flushed(to), (0, false));
    assert!(!state.timer_rang(), "nothing is left to flush");
    assert_eq!(
        state.appended(Offset(13), 1, now).1,
        FlushDue::At(now + age)
    );
}

#[test]
fn flush_messages_counts_records() {
    let now = Instant::now();
    let mut state = state(FlushPolicy {
        records_max: Some(3),
        ..policy(Durability::Memory)
    });
    assert_eq!(state.appended(Offset(12), 1, now).1, FlushDue::No);
    assert_eq!(state.appended(Offset(13), 1, now).1, FlushDue::Now);
    assert_eq!(
        state.appended(Offset(14), 1, now).1,
        FlushDue::No,
        "already queued"
    );
}

#[test]
fn a_stricter_class_does_not_take_back_what_readers_saw() {
    let now = Instant::now();
    let mut state = state(policy(Durability::Memory));
    state.appended(Offset(20), 10, now);
    assert_eq!(
        state.set_policy(policy(Durability::Commit), now),
        (0, FlushDue::Now)
    );
    assert_eq!(state.high_watermark(), Offset(20));
    assert_eq!(state.appended(Offset(21), 5, now), (0, FlushDue::No));
    let to = state.flush_begins();
    assert_eq!(state.flushed(to), (5, false));
}

#[test]
fn leader_epochs_never_decrease() {
    let mut state = state(policy(Durability::Commit));
    assert!(state.lead(LeaderEpoch(4)));
    assert!(!state.lead(LeaderEpoch(4)));
    assert!(!state.lead(LeaderEpoch(1)));
    assert_eq!(state.leader_epoch(), LeaderEpoch(4));
}

proptest! {
    /// Whatever order appends, flushes and class changes come in: the high watermark never passes
    /// the log end nor goes back, bytes are told exactly once, and a queued partition is flushed.
    #[test]
    fn readable_bytes_are_told_exactly_once(steps in prop::collection::vec(0u8..4, 1..60)) {
        let now = Instant::now();
        let mut state = state(policy(Durability::Commit));
        let (mut end, mut told, mut appended, mut queued) = (10i64, 0u64, 0u64, 0u32);
        let mut running: Option<Position> = None;
        for step in steps {
            let before = state.high_watermark();
            match step {
                0 => {
                    end += 1;
                    appended += 7;
                    let (bytes, due) = state.appended(Offset(end), 7, now);
                    told += bytes;
                    queued += u32::from(due == FlushDue::Now);
                }
                1 if running.is_none() && queued > 0 => {
                    queued -= 1;
                    running = Some(state.flush_begins());
                }
                2 => if let Some(to) = running.take() {
                    let (bytes, again) = state.flushed(to);
                    told += bytes;
                    queued += u32::from(again);
                },
                3 => {
                    let class = if end % 2 == 0 { Durability::Memory } else { Durability::Commit };
                    let (bytes, due) = state.set_policy(policy(class), now);
                    told += bytes;
                    queued += u32::from(due == FlushDue::Now);
                }
                _ => {}
            }
            prop_assert!(queued <= 1);
            prop_assert!(state.high_watermark() >= before);
            prop_assert!(state.high_watermark() <= Offset(end));
            prop_assert!(told <= appended);
        }
        told += state.set_policy(policy(Durability::Memory), now).0;
        prop_assert_eq!(told, appended);
    }
}
