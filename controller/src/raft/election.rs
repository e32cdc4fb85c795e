//! Raft's only use of chance, made a function of the seed, and its clock, made of what callers say.
//!
//! Raft draws election timeouts from the thread's generator whenever its role changes. After every
//! call into raft the timeout is overwritten with one computed here, so that a run depends on the
//! seed alone. It is computed, not drawn: how often raft asked does not matter.

use std::time::{Duration, Instant};

/// A tick is missed rather than made up for beyond this many: after a pause of the whole process,
/// catching up would look to raft as if everybody else had been silent.
const TICKS_AT_ONCE_MAX: u32 = 2;

pub(super) struct Ticks {
    interval: Duration,
    last: Instant,
}

impl Ticks {
    pub(super) fn new(interval: Duration, now: Instant) -> Ticks {
        Ticks {
            interval,
            last: now,
        }
    }

    pub(super) fn next_at(&self) -> Instant {
        self.last + self.interval
    }

    /// How many ticks are due.
    pub(super) fn take(&mut self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.last).as_nanos();
        let due = elapsed / self.interval.as_nanos().max(1);
        match u32::try_from(due) {
            Ok(due) if due <= TICKS_AT_ONCE_MAX => {
                self.last += self.interval * due;
                due
            }
            _ => {
                self.last = now;
                TICKS_AT_ONCE_MAX
            }
        }
    }
}

/// Chooses election timeouts for one node.
pub(super) struct Timeouts {
    seed: u64,
    /// Elections that this node has begun.
    round: u64,
}

impl Timeouts {
    pub(super) fn new(seed: u64, raft_id: u64) -> Timeouts {
        Timeouts {
            seed: mix(seed ^ mix(raft_id)),
            round: 0,
        }
    }

    /// The next timeout shall be another one, for the last election may have been a draw.
    pub(super) fn election_began(&mut self) {
        self.round += 1;
    }

    /// Ticks in `base..2 * base`, the same until the term or the round changes.
    pub(super) fn timeout(&self, term: u64, base: usize) -> usize {
        let drawn = mix(self.seed ^ mix(term) ^ mix(self.round.rotate_left(32)));
        base + (drawn % base as u64) as usize
    }
}

/// SplitMix64's finisher: equal inputs give equal outputs, others look unrelated.
pub(super) fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ticks = Ticks::new(Duration::from_millis(100), start);
        let taken: Vec<u32> = [50, 100, 199, 300, 10_000, 10_050, 10_100]
            .iter()
            .map(|ms| ticks.take(at(*ms)))
            .collect();
        assert_eq!(taken, [0, 1, 0, 2, 2, 0, 1]);
        assert_eq!(ticks.next_at(), at(10_200));
    }

    #[test]
    fn timeouts_stay_in_range_and_differ_between_nodes_and_rounds() {
        let timeouts = |id| {
            let mut node = Timeouts::new(7, id);
            (0..20)
                .map(|term| {
                    node.election_began();
                    node.timeout(term, 10)
                })
                .collect::<Vec<_>>()
        };
        let (one, two) = (timeouts(1), timeouts(2));
        assert!(
            one.iter()
                .chain(&two)
                .all(|timeout| (10..20).contains(timeout))
        );
        assert_ne!(one, two);
        assert!(one.iter().any(|timeout| *timeout != one[0]));
        assert_eq!(one, timeouts(1));
    }
}
