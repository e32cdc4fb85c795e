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
        state.flushed(to, now),
        (200, FlushDue::Now),
        "the rest needs another flush"
    );
    assert_eq!(state.high_watermark(), Offset(12));
    let to = state.flush_begins();
    assert_eq!(state.flushed(to, now), (50, FlushDue::No));
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
    assert_eq!(state.flushed(to, now), (0, FlushDue::No));
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
    assert_eq!(state.appended(Offset(12), 1, now), (1, FlushDue::No));
    // As in Kafka, whose append flushes by itself then: it is seen after that.
    assert_eq!(state.appended(Offset(13), 1, now), (0, FlushDue::Now));
    assert_eq!(
        state.appended(Offset(14), 1, now),
        (0, FlushDue::No),
        "already queued"
    );
    let to = state.flush_begins();
    assert_eq!(state.flushed(to, now), (2, FlushDue::No));
    assert_eq!(state.appended(Offset(15), 1, now), (1, FlushDue::No));
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
    assert_eq!(state.flushed(to, now), (5, FlushDue::No));
}

#[test]
fn a_weaker_class_does_not_acknowledge_what_still_waits_for_its_flush() {
    let now = Instant::now();
    let mut state = state(policy(Durability::Commit));
    state.appended(Offset(12), 20, now);
    let first = state.flush_begins();
    state.appended(Offset(14), 20, now);
    assert_eq!(
        state.set_policy(policy(Durability::Memory), now),
        (0, FlushDue::No)
    );
    assert_eq!(state.high_watermark(), Offset(10));
    // What comes now is behind what waits: readers see records in order.
    assert_eq!(state.appended(Offset(15), 5, now), (0, FlushDue::No));
    assert_eq!(state.flushed(first, now), (20, FlushDue::Now));
    assert_eq!(state.high_watermark(), Offset(12));
    let second = state.flush_begins();
    assert_eq!(state.flushed(second, now), (25, FlushDue::No));
    assert_eq!(state.appended(Offset(16), 5, now), (5, FlushDue::No));
}

#[test]
fn class_interval_bounds_also_what_comes_while_a_flush_runs() {
    let now = Instant::now();
    let age = Duration::from_millis(200);
    let mut state = state(FlushPolicy {
        age_max: Some(age),
        ..policy(Durability::Interval)
    });
    state.appended(Offset(11), 1, now);
    assert!(state.timer_rang());
    let to = state.flush_begins();
    assert_eq!(state.appended(Offset(12), 1, now), (1, FlushDue::No));
    let later = now + Duration::from_millis(30);
    assert_eq!(
        state.flushed(to, later),
        (0, FlushDue::At(later + age)),
        "nobody else would think of it"
    );
    assert!(state.timer_rang());
}

#[test]
fn a_shorter_interval_counts_at_once() {
    let now = Instant::now();
    let interval = |ms| FlushPolicy {
        age_max: Some(Duration::from_millis(ms)),
        ..policy(Durability::Interval)
    };
    let mut state = state(interval(60_000));
    state.appended(Offset(11), 1, now);
    let due = now + Duration::from_millis(100);
    assert_eq!(state.set_policy(interval(100), now), (0, FlushDue::At(due)));
    assert_eq!(state.set_policy(interval(100), now), (0, FlushDue::No));
}

#[test]
fn whoever_hurries_is_queued_once() {
    let now = Instant::now();
    let mut state = state(policy(Durability::Memory));
    assert!(!state.hurry(), "nothing to do");
    state.appended(Offset(11), 1, now);
    assert!(state.hurry());
    assert!(!state.hurry());
    let to = state.flush_begins();
    state.appended(Offset(12), 1, now);
    assert!(!state.hurry());
    assert_eq!(state.flushed(to, now), (0, FlushDue::Now));
    assert_eq!(state.flushed_to(), Offset(11));
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
                    let (bytes, due) = state.flushed(to, now);
                    told += bytes;
                    queued += u32::from(due == FlushDue::Now);
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
        while queued > 0 || running.is_some() {
            let to = running.take().unwrap_or_else(|| {
                queued -= 1;
                state.flush_begins()
            });
            let (bytes, due) = state.flushed(to, now);
            told += bytes;
            queued += u32::from(due == FlushDue::Now);
        }
        prop_assert_eq!(told, appended, "whatever was promised is flushed in the end");
    }
}
