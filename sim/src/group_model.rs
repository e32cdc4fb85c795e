//! The oracle for groups: what was acknowledged stays, nothing appears that nobody sent, and a
//! generation that was handed out with its assignments is never handed out again as another one. In
//! the group of the newer protocol a partition has one owner at a time: who has it must have given
//! it up, or have been thrown out, before somebody else gets it. Answers overtake one another on
//! their ways; which of two members was given a partition later is told by their epochs.
//!
//! The offsets of one partition of one group are sent in growing order, so "moved back" is a
//! comparison of numbers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::model::Violation;

/// A group and a partition.
pub(crate) type Key = (String, i32);

#[derive(Debug, Default)]
pub(crate) struct GroupModel {
    offsets: BTreeMap<Key, Offsets>,
    groups: BTreeMap<String, Generations>,
    crew: BTreeMap<String, Owner>,
    /// Who was given each partition of the crew in the highest epoch.
    newest: BTreeMap<i32, Given>,
    /// Answers that gave something to somebody, up to now.
    answers: u64,
    /// The highest epoch of the crew that anybody was told.
    crew_epoch: i32,
    acknowledged: u64,
    joins: u64,
    handovers: u64,
}

/// A member of the newer protocol, as far as the coordinator can know.
#[derive(Debug, Default)]
struct Owner {
    /// What it has, and has not told that it gave up.
    holds: BTreeSet<i32>,
    /// Somebody else was given what it holds: it must have been thrown out by now.
    thrown_out: bool,
}

#[derive(Debug)]
struct Given {
    member: String,
    epoch: i32,
    /// Which one of the answers that gave something.
    answer: u64,
}

/// What was known when something was asked.
#[derive(Debug)]
pub(crate) struct Heard {
    thrown_out: bool,
    answers: u64,
    crew_epoch: i32,
    member_epoch: i32,
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

    /// Partitions that went from one member of the newer protocol to another.
    pub(crate) fn handovers(&self) -> u64 {
        self.handovers
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

    /// A member says what it has. What it leaves out is free from now on, whenever that arrives;
    /// joining anew with nothing does not ask whether it was thrown out.
    pub(crate) fn heartbeat_sent(
        &mut self,
        member: &str,
        member_epoch: i32,
        owned: &BTreeSet<i32>,
    ) -> Heard {
        let known = self.crew.entry(member.to_owned()).or_default();
        known.holds.retain(|partition| owned.contains(partition));
        if member_epoch <= 0 {
            known.thrown_out = false;
        }
        Heard {
            thrown_out: known.thrown_out,
            answers: self.answers,
            crew_epoch: self.crew_epoch,
            member_epoch,
        }
    }

    pub(crate) fn heard_by_now(&self, member: &str) -> Heard {
        Heard {
            thrown_out: self.crew.get(member).is_some_and(|known| known.thrown_out),
            answers: self.answers,
            crew_epoch: self.crew_epoch,
            member_epoch: 0,
        }
    }

    /// The coordinator took something from a member as from one of the group's.
    pub(crate) fn is_a_member(&self, member: &str, heard: &Heard) -> Result<(), Violation> {
        if !heard.thrown_out {
            return Ok(());
        }
        let what = format!("{member} is still a member, and another one has what it owns");
        Err(Violation::Answer { what })
    }

    /// A member's heartbeat was answered with this epoch.
    pub(crate) fn member_epoch(
        &mut self,
        member: &str,
        epoch: i32,
        heard: &Heard,
    ) -> Result<(), Violation> {
        self.is_a_member(member, heard)?;
        let least = match heard.member_epoch {
            // Who joins comes into the newest assignment.
            0 => heard.crew_epoch,
            epoch => epoch,
        };
        if epoch < least {
            return Err(Violation::WentBack {
                at: member.to_owned(),
                what: "a member epoch",
                from: least.into(),
                to: epoch.into(),
            });
        }
        self.crew_epoch = self.crew_epoch.max(epoch);
        Ok(())
    }

    /// A member was told what it has in its epoch.
    pub(crate) fn given(
        &mut self,
        member: &str,
        epoch: i32,
        given: &BTreeSet<i32>,
        heard: &Heard,
    ) -> Result<(), Violation> {
        if self.overtaken(member, epoch, given, heard)? {
            // Somebody was given later what it had not heard of yet, so it must be out by now.
            let known = self.crew.entry(member.to_owned()).or_default();
            known.thrown_out = true;
            known.holds.clear();
            return Ok(());
        }
        self.answers += 1;
        for partition in given {
            let newest = Given {
                member: member.to_owned(),
                epoch,
                answer: self.answers,
            };
            self.newest.insert(*partition, newest);
        }
        for (other, known) in &mut self.crew {
            if other != member && !known.holds.is_disjoint(given) {
                known.thrown_out = true;
                known.holds.clear();
            }
        }
        let known = self.crew.entry(member.to_owned()).or_default();
        self.handovers += given.difference(&known.holds).count() as u64;
        known.holds.extend(given);
        Ok(())
    }

    /// Whether somebody else was given one of them in a later epoch, and heard of it sooner.
    fn overtaken(
        &self,
        member: &str,
        epoch: i32,
        given: &BTreeSet<i32>,
        heard: &Heard,
    ) -> Result<bool, Violation> {
        let mut overtaken = false;
        for (partition, newest) in given.iter().filter_map(|at| self.newest.get_key_value(at)) {
            if newest.member == member || newest.epoch < epoch {
                continue;
            }
            if newest.epoch == epoch || newest.answer <= heard.answers {
                let (other, later) = (&newest.member, newest.epoch);
                let what = format!(
                    "{member} was given {partition} in epoch {epoch}, {other} had it in {later}"
                );
                return Err(Violation::Answer { what });
            }
            overtaken = true;
        }
        Ok(overtaken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(partitions: &[i32]) -> BTreeSet<i32> {
        partitions.iter().copied().collect()
    }

    /// Asked in `asked`, and given something in `epoch` at once.
    fn give(model: &mut GroupModel, member: &str, asked: i32, epoch: i32, given: &[i32]) {
        let heard = model.heartbeat_sent(member, asked, &set(&[]));
        assert!(model.given(member, epoch, &set(given), &heard).is_ok());
    }

    #[test]
    fn an_owner_that_did_not_give_up_must_have_been_thrown_out() {
        let mut model = GroupModel::default();
        give(&mut model, "a", 0, 3, &[0, 1]);
        let before = model.heartbeat_sent("a", 3, &set(&[0, 1]));
        give(&mut model, "b", 0, 4, &[1]);
        assert!(model.member_epoch("a", 3, &before).is_ok(), "asked before");
        let after = model.heartbeat_sent("a", 3, &set(&[0, 1]));
        assert!(model.member_epoch("a", 3, &after).is_err());
        assert!(model.is_a_member("a", &model.heard_by_now("a")).is_err());
        let again = model.heartbeat_sent("a", 0, &set(&[]));
        assert!(model.member_epoch("a", 4, &again).is_ok());
    }

    #[test]
    fn an_owner_that_gave_up_stays_a_member() {
        let mut model = GroupModel::default();
        give(&mut model, "a", 0, 3, &[0, 1]);
        let told = model.heartbeat_sent("a", 3, &set(&[0]));
        give(&mut model, "b", 0, 4, &[1]);
        assert!(model.member_epoch("a", 3, &told).is_ok());
        assert!(model.is_a_member("a", &model.heard_by_now("a")).is_ok());
    }

    #[test]
    fn an_answer_that_was_overtaken_throws_out_who_got_it_and_nobody_else() {
        let mut model = GroupModel::default();
        let slow = model.heartbeat_sent("a", 0, &set(&[]));
        give(&mut model, "b", 0, 4, &[1]);
        assert!(model.given("a", 3, &set(&[1]), &slow).is_ok());
        assert!(model.is_a_member("b", &model.heard_by_now("b")).is_ok());
        assert!(model.is_a_member("a", &model.heard_by_now("a")).is_err());
    }

    #[test]
    fn nothing_is_given_in_an_older_epoch_or_to_two_in_one() {
        let mut model = GroupModel::default();
        let slow = model.heartbeat_sent("a", 0, &set(&[]));
        give(&mut model, "b", 0, 4, &[1]);
        assert!(
            model.given("a", 4, &set(&[1]), &slow).is_err(),
            "two in one"
        );
        let asked_later = model.heartbeat_sent("a", 3, &set(&[]));
        assert!(model.given("a", 3, &set(&[1]), &asked_later).is_err());
    }

    #[test]
    fn epochs_do_not_go_back() {
        let mut model = GroupModel::default();
        let first = model.heartbeat_sent("a", 0, &set(&[]));
        assert!(model.member_epoch("a", 5, &first).is_ok());
        let joins = model.heartbeat_sent("b", 0, &set(&[]));
        assert!(model.member_epoch("b", 4, &joins).is_err());
        let stays = model.heartbeat_sent("a", 5, &set(&[]));
        assert!(model.member_epoch("a", 4, &stays).is_err());
    }
}
