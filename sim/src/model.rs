//! The oracle: what every broker must agree with, however it crashed.
//!
//! It remembers, per partition, which value was seen at which offset (by an acknowledgement or by a
//! read) and judges every later sight against that: one offset never has two values, a value of an
//! idempotent producer has one offset, what was acknowledged or read stays, and a read skips
//! nothing. Topics of the class `memory` may lose a tail in a power cut; the world says when that
//! happened, and then the leader epoch must have grown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A value is unique over the whole run; the producer's number is part of it.
pub type Value = u64;

/// Something a correct broker never does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// One offset, two values.
    TwoValues {
        at: String,
        offset: i64,
        first: Value,
        then: Value,
    },
    /// One value of an idempotent producer at two offsets.
    Duplicate {
        at: String,
        value: Value,
        first: i64,
        then: i64,
    },
    /// Values of one producer came in another order than it sent them.
    Reordered {
        at: String,
        value: Value,
        after: Value,
    },
    /// A read jumped over offsets that it had to show.
    Skipped { at: String, expected: i64, got: i64 },
    /// Acknowledged or read before, gone now.
    Lost {
        at: String,
        offset: i64,
        value: Value,
    },
    /// An answer that no request of ours deserves.
    Answer { what: String },
    /// A leader epoch, high watermark or log start that went back.
    WentBack {
        at: String,
        what: &'static str,
        from: i64,
        to: i64,
    },
    /// Nothing moved although nothing stood in the way.
    Stuck { what: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

/// What is known of one partition.
#[derive(Debug, Default)]
struct Known {
    by_offset: BTreeMap<i64, Value>,
    by_value: BTreeMap<Value, i64>,
    leader_epoch: i32,
    high_watermark: i64,
    log_start_offset: i64,
}

/// Judges acknowledgements and reads; see the module's description.
#[derive(Debug, Default)]
pub struct Model {
    partitions: BTreeMap<(String, i32), Known>,
    /// Topics that lost a tail in a power cut, as they are allowed to.
    lossy: BTreeSet<String>,
    acked: u64,
    observed: u64,
}

impl Model {
    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Records seen by consumers so far.
    pub fn observed(&self) -> u64 {
        self.observed
    }

    /// `values` were acknowledged at `base_offset` and the offsets after it.
    pub fn ack(
        &mut self,
        topic: &str,
        partition: i32,
        base_offset: i64,
        values: &[Value],
    ) -> Result<(), Violation> {
        self.acked += values.len() as u64;
        let known = self.known(topic, partition);
        for (offset, value) in (base_offset..).zip(values) {
            known.see(&at(topic, partition), offset, *value)?;
        }
        Ok(())
    }

    /// A consumer that expected `expected` next read `value` at `offset`.
    pub fn observe(
        &mut self,
        topic: &str,
        partition: i32,
        expected: i64,
        offset: i64,
        value: Value,
    ) -> Result<(), Violation> {
        self.observed += 1;
        let at = at(topic, partition);
        if offset != expected {
            return Err(Violation::Skipped {
                at,
                expected,
                got: offset,
            });
        }
        self.known(topic, partition).see(&at, offset, value)
    }

    /// The marks of one answer. They never go back while the leader epoch stays, and the epoch
    /// never does.
    pub fn marks(
        &mut self,
        topic: &str,
        partition: i32,
        leader_epoch: Option<i32>,
        high_watermark: i64,
        log_start_offset: i64,
    ) -> Result<(), Violation> {
        let known = self.known(topic, partition);
        let back = |what, from, to| Violation::WentBack {
            at: at(topic, partition),
            what,
            from,
            to,
        };
        if let Some(epoch) = leader_epoch {
            if epoch < known.leader_epoch {
                return Err(back(
                    "leader epoch",
                    known.leader_epoch.into(),
                    epoch.into(),
                ));
            }
            known.leader_epoch = epoch;
        }
        if high_watermark < known.high_watermark {
            return Err(back("high watermark", known.high_watermark, high_watermark));
        }
        if log_start_offset < known.log_start_offset {
            return Err(back(
                "log start offset",
                known.log_start_offset,
                log_start_offset,
            ));
        }
        known.high_watermark = high_watermark;
        known.log_start_offset = log_start_offset;
        Ok(())
    }

    /// The end: `contents` is all that the partition holds now.
    pub fn finish(
        &self,
        topic: &str,
        partition: i32,
        contents: &BTreeMap<i64, Value>,
    ) -> Result<(), Violation> {
        let Some(known) = self.partitions.get(&(topic.to_owned(), partition)) else {
            return Ok(());
        };
        for (offset, value) in &known.by_offset {
            if contents.get(offset) != Some(value) {
                let at = at(topic, partition);
                return Err(Violation::Lost {
                    at,
                    offset: *offset,
                    value: *value,
                });
            }
        }
        Ok(())
    }

    /// A power cut took what this topic had not promised to keep: everything from `end_offset` on.
    pub fn tail_lost(&mut self, topic: &str, partition: i32, end_offset: i64) {
        self.lossy.insert(topic.to_owned());
        let known = self.known(topic, partition);
        let lost = known.by_offset.split_off(&end_offset);
        for value in lost.values() {
            known.by_value.remove(value);
        }
        known.high_watermark = known.high_watermark.min(end_offset);
    }

    /// Whether a power cut may have made the broker forget producers of this topic.
    pub fn has_lost_a_tail(&self, topic: &str) -> bool {
        self.lossy.contains(topic)
    }

    /// The topic was deleted: a new one of that name starts from nothing.
    pub fn topic_deleted(&mut self, topic: &str) {
        self.partitions.retain(|(name, _), _| name != topic);
    }

    fn known(&mut self, topic: &str, partition: i32) -> &mut Known {
        self.partitions
            .entry((topic.to_owned(), partition))
            .or_default()
    }
}

impl Known {
    fn see(&mut self, at: &str, offset: i64, value: Value) -> Result<(), Violation> {
        let at = || at.to_owned();
        if let Some(first) = self.by_offset.get(&offset) {
            if *first == value {
                return Ok(());
            }
            return Err(Violation::TwoValues {
                at: at(),
                offset,
                first: *first,
                then: value,
            });
        }
        if let Some(first) = self.by_value.get(&value) {
            return Err(Violation::Duplicate {
                at: at(),
                value,
                first: *first,
                then: offset,
            });
        }
        // A producer numbers its values upwards, so within a partition they must lie in that order.
        let producer = value >> 32;
        let (first, last) = (producer << 32, (producer << 32) | 0xffff_ffff);
        let before = self.by_value.range(first..value).next_back();
        let after = self.by_value.range(value..=last).next();
        if let Some((other, _)) = before.filter(|(_, o)| **o > offset) {
            return Err(Violation::Reordered {
                at: at(),
                value,
                after: *other,
            });
        }
        if let Some((other, _)) = after.filter(|(_, o)| **o < offset) {
            return Err(Violation::Reordered {
                at: at(),
                value: *other,
                after: value,
            });
        }
        self.by_offset.insert(offset, value);
        self.by_value.insert(value, offset);
        Ok(())
    }
}

fn at(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const A1: Value = 1 << 32 | 1;
    const A2: Value = 1 << 32 | 2;

    #[test]
    fn every_kind_of_wrong_sight_is_noticed() {
        let mut model = Model::default();
        model.ack("t", 0, 10, &[A1]).unwrap();
        let two = model.observe("t", 0, 10, 10, A2).unwrap_err();
        assert!(matches!(two, Violation::TwoValues { .. }), "{two}");
        let duplicate = model.ack("t", 0, 11, &[A1]).unwrap_err();
        assert!(
            matches!(duplicate, Violation::Duplicate { .. }),
            "{duplicate}"
        );
        let reordered = model.ack("t", 0, 3, &[A2]).unwrap_err();
        assert!(
            matches!(reordered, Violation::Reordered { .. }),
            "{reordered}"
        );
        let skipped = model.observe("t", 0, 11, 12, A2).unwrap_err();
        assert!(matches!(skipped, Violation::Skipped { .. }), "{skipped}");
        let lost = model.finish("t", 0, &BTreeMap::new()).unwrap_err();
        assert!(matches!(lost, Violation::Lost { .. }), "{lost}");
    }

    #[test]
    fn marks_never_go_back() {
        let mut model = Model::default();
        model.marks("t", 0, Some(3), 10, 0).unwrap();
        assert!(model.marks("t", 0, Some(2), 10, 0).is_err());
        assert!(model.marks("t", 0, Some(3), 9, 0).is_err());
        model.marks("t", 0, None, 11, 5).unwrap();
        assert!(model.marks("t", 0, None, 11, 4).is_err());
    }

    #[test]
    fn a_lost_tail_is_forgotten_and_its_offsets_may_be_used_again() {
        let mut model = Model::default();
        model.ack("t", 0, 0, &[A1, A2]).unwrap();
        model.tail_lost("t", 0, 1);
        model.ack("t", 0, 1, &[1 << 32 | 9]).unwrap();
        let contents = BTreeMap::from([(0, A1), (1, 1 << 32 | 9)]);
        model.finish("t", 0, &contents).unwrap();
    }
}
