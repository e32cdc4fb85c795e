//! The oracle for groups: what was acknowledged stays, nothing appears that nobody sent, and a
//! generation that was handed out with its assignments is never handed out again as another one.
//!
//! The offsets of one partition of one group are sent in growing order, so "moved back" is a
//! comparison of numbers.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::model::Violation;

/// A group and a partition.
pub(crate) type Key = (String, i32);

#[derive(Debug, Default)]
pub(crate) struct GroupModel {
    offsets: BTreeMap<Key, Offsets>,
    groups: BTreeMap<String, Generations>,
    acknowledged: u64,
    joins: u64,
}

/// -1: none.
#[derive(Debug)]
struct Offsets {
    acknowledged: i64,
    sent: i64,
}

impl Default for Offsets {
    fn default() -> Offsets {
        Offsets {
            acknowledged: -1,
            sent: -1,
        }
    }
}

#[derive(Debug, Default)]
struct Generations {
    /// The highest whose assignments were told to somebody.
    synced: i32,
    /// Who has which partition in it.
    owners: BTreeMap<u8, String>,
}

impl GroupModel {
    /// Commits that were acknowledged so far.
    pub(crate) fn commits(&self) -> u64 {
        self.acknowledged
    }

    /// Joins that were answered so far.
    pub(crate) fn joins(&self) -> u64 {
        self.joins
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        self.offsets.keys().cloned().collect()
    }

    /// The offset that is committed next.
    pub(crate) fn next(&mut self, key: &Key) -> i64 {
        let known = self.offsets.entry(key.clone()).or_default();
        known.sent += 1;
        known.sent
    }

    pub(crate) fn at_least(&self, key: &Key) -> i64 {
        self.offsets.get(key).map_or(-1, |known| known.acknowledged)
    }

    pub(crate) fn acknowledged(&mut self, key: &Key, offset: i64) {
        self.acknowledged += 1;
        let known = self.offsets.entry(key.clone()).or_default();
        known.acknowledged = known.acknowledged.max(offset);
    }

    /// Somebody asked when `at_least` was acknowledged, and was told `offset`.
    pub(crate) fn observed(
        &mut self,
        key: &Key,
        offset: i64,
        at_least: i64,
    ) -> Result<(), Violation> {
        let known = self.offsets.entry(key.clone()).or_default();
        let at = format!("the offset of {}-{}", key.0, key.1);
        if offset < at_least {
            let (from, to) = (at_least, offset);
            let what = "a committed offset";
            return Err(Violation::WentBack { at, what, from, to });
        }
        if offset > known.sent {
            let what = format!("{at} is {offset}, and {} was sent last", known.sent);
            return Err(Violation::Answer { what });
        }
        // What somebody was told is as good as acknowledged.
        known.acknowledged = known.acknowledged.max(offset);
        Ok(())
    }

    /// The highest generation of the group whose assignments are known to somebody.
    pub(crate) fn synced(&self, group: &str) -> i32 {
        self.groups.get(group).map_or(0, |known| known.synced)
    }

    /// Somebody who asked when generation `synced` was known got into `generation`.
    pub(crate) fn joined(
        &mut self,
        group: &str,
        generation: i32,
        synced: i32,
    ) -> Result<(), Violation> {
        self.joins += 1;
        if generation >= synced {
            return Ok(());
        }
        Err(Violation::WentBack {
            at: format!("group {group}"),
            what: "a generation",
            from: synced.into(),
            to: generation.into(),
        })
    }

    /// A member was told what it has in a generation.
    pub(crate) fn assigned(
        &mut self,
        group: &str,
        (generation, member): (i32, &str),
        assignment: &Bytes,
    ) -> Result<(), Violation> {
        let known = self.groups.entry(group.to_owned()).or_default();
        if generation > known.synced {
            known.synced = generation;
            known.owners.clear();
        }
        if generation < known.synced {
            return Ok(());
        }
        for partition in assignment {
            let owner = known.owners.entry(*partition);
            let owner = owner.or_insert_with(|| member.to_owned());
            if owner != member {
                let what = format!("{group}-{partition} has two owners in {generation}");
                return Err(Violation::Answer { what });
            }
        }
        Ok(())
    }
}
