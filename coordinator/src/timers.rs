//! The deadlines of a coordinator, in order. A deadline that was moved is not taken out: when it
//! comes, its owner looks whether it still means something. So a heartbeat costs no search here.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Whose time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The initial delay or the rebalance timeout of the group.
    Join,
    /// Members of the generation that did not sync.
    Sync,
    /// A member that must have been heard of.
    Session(String),
    /// An id that was given out and not used.
    Pending(String),
    /// A consumer group was loaded: its members' sessions begin.
    Loaded,
    /// A consumer group's member that must have been heard of.
    MemberSession(String),
    /// One that must have given partitions back.
    MemberRebalance(String),
    /// A classic one that must have joined again.
    MemberJoin(String),
    /// A classic one that must have synced.
    MemberSync(String),
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(i64, Arc<str>, Kind)>,
}

impl Timers {
    pub(crate) fn add(&mut self, at_ms: i64, group: &Arc<str>, kind: Kind) {
        self.set.insert((at_ms, Arc::clone(group), kind));
    }

    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.set.first().map(|(at_ms, _, _)| *at_ms)
    }

    /// The earliest one that is due.
    pub(crate) fn pop_due(&mut self, now_ms: i64) -> Option<(i64, Arc<str>, Kind)> {
        if self.next_ms()? > now_ms {
            return None;
        }
        self.set.pop_first()
    }
}
