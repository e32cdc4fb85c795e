//! The timers of a consumer group's members. Soft: a coordinator that loads the group begins all
//! of them anew.

use std::sync::Arc;

use super::ConsumerGroup;
use super::member::MemberState;
use crate::timers::{Kind, Timers};

/// A deadline that was moved is looked at when its first timer fires.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    session: Deadline,
    /// A member that must give partitions back at this epoch.
    rebalance: Option<(i64, i32)>,
    /// A classic member that must join again.
    join_ms: Option<i64>,
    /// A classic member that must sync.
    sync_ms: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Deadline {
    at_ms: i64,
    armed_ms: Option<i64>,
}

impl Watch {
    pub(super) fn is_watching(&self) -> bool {
        self.session.armed_ms.is_some()
    }
}

/// Why a member is removed.
pub(crate) const SILENT: &str = "nothing was heard of it for its session timeout";
const UNREVOKED: &str = "it did not give its partitions back within the rebalance timeout";
const NOT_JOINED: &str = "it did not join again within the rebalance timeout";
const NOT_SYNCED: &str = "it joined but did not sync within the rebalance timeout";

/// When the timers of a failed removal are tried again.
const RETRY_MS: i64 = 500;

impl ConsumerGroup {
    /// The member lives: its session begins anew.
    pub(crate) fn hear_of(&mut self, timers: &mut Timers, member_id: &str, until_ms: i64) {
        let Some((id, _)) = self.members.get_key_value(member_id) else {
            return;
        };
        let session = &mut self.watches.entry(Arc::clone(id)).or_default().session;
        session.at_ms = until_ms;
        if session.armed_ms.is_none_or(|armed_ms| until_ms < armed_ms) {
            session.armed_ms = Some(until_ms);
            timers.add(
                until_ms,
                &self.id,
                Kind::MemberSession(member_id.to_owned()),
            );
        }
    }

    /// After its assignment has changed: a member that must give partitions back has the
    /// rebalance timeout for it. Classic members have their own timers for that.
    pub(super) fn watch_revocation(&mut self, timers: &mut Timers, member_id: &str, now_ms: i64) {
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        if member.classic.is_some() {
            return;
        }
        let watch = self.watches.entry(Arc::clone(&member.id)).or_default();
        watch.rebalance = None;
        if member.state == MemberState::Unrevoked {
            let at_ms = now_ms.saturating_add(i64::from(member.rebalance_timeout_ms.max(0)));
            watch.rebalance = Some((at_ms, member.epoch));
            timers.add(at_ms, &self.id, Kind::MemberRebalance(member_id.to_owned()));
        }
    }

    /// The classic member was told to join again.
    pub(super) fn expect_join(&mut self, timers: &mut Timers, member_id: &str, now_ms: i64) {
        let Some(member) = self.members.get(member_id) else {
            return;
        };
        let watch = self.watches.entry(Arc::clone(&member.id)).or_default();
        if watch.join_ms.is_none() {
            let at_ms = now_ms.saturating_add(i64::from(member.rebalance_timeout_ms.max(0)));
            watch.join_ms = Some(at_ms);
            timers.add(at_ms, &self.id, Kind::MemberJoin(member_id.to_owned()));
        }
    }

    /// The classic member has joined: it must sync.
    pub(super) fn expect_sync(
        &mut self,
        timers: &mut Timers,
        member_id: &str,
        (now_ms, timeout_ms): (i64, i32),
    ) {
        let Some((id, _)) = self.members.get_key_value(member_id) else {
            return;
        };
        let watch = self.watches.entry(Arc::clone(id)).or_default();
        watch.join_ms = None;
        let at_ms = now_ms.saturating_add(i64::from(timeout_ms.max(0)));
        watch.sync_ms = Some(at_ms);
        timers.add(at_ms, &self.id, Kind::MemberSync(member_id.to_owned()));
    }

    /// The member speaks the new protocol: it neither joins nor syncs any more.
    pub(super) fn forget_classic(&mut self, member_id: &str) {
        if let Some(watch) = self.watches.get_mut(member_id) {
            watch.join_ms = None;
            watch.sync_ms = None;
        }
    }

    pub(super) fn synced(&mut self, member_id: &str) {
        if let Some(watch) = self.watches.get_mut(member_id) {
            watch.sync_ms = None;
        }
    }

    /// A timer fired: the member that it means and why it must go.
    pub(crate) fn overdue(
        &mut self,
        timers: &mut Timers,
        (at_ms, now_ms): (i64, i64),
        kind: &Kind,
    ) -> Option<(String, &'static str)> {
        let due = |deadline: Option<i64>| deadline.is_some_and(|deadline| deadline <= now_ms);
        let (member_id, reason) = match kind {
            Kind::MemberSession(member_id) => {
                let session = &mut self.watches.get_mut(member_id.as_str())?.session;
                if session.armed_ms != Some(at_ms) {
                    return None;
                }
                session.armed_ms = None;
                let until_ms = session.at_ms;
                if until_ms > now_ms {
                    self.hear_of(timers, member_id, until_ms);
                    return None;
                }
                (member_id, SILENT)
            }
            Kind::MemberRebalance(member_id) => {
                let (deadline, epoch) = self.watches.get(member_id.as_str())?.rebalance?;
                if !due(Some(deadline)) || self.members.get(member_id.as_str())?.epoch != epoch {
                    return None;
                }
                (member_id, UNREVOKED)
            }
            Kind::MemberJoin(member_id) => {
                let deadline = self.watches.get(member_id.as_str())?.join_ms;
                due(deadline).then_some((member_id, NOT_JOINED))?
            }
            Kind::MemberSync(member_id) => {
                let deadline = self.watches.get(member_id.as_str())?.sync_ms;
                due(deadline).then_some((member_id, NOT_SYNCED))?
            }
            _ => return None,
        };
        Some((member_id.clone(), reason))
    }

    /// The member could not be removed now.
    pub(crate) fn try_again(&mut self, timers: &mut Timers, now_ms: i64, kind: Kind) {
        let at_ms = now_ms.saturating_add(RETRY_MS);
        if let Kind::MemberSession(member_id) = &kind {
            self.hear_of(timers, member_id, at_ms);
        } else {
            timers.add(at_ms, &self.id, kind);
        }
    }

    /// Classic members that have no session yet: they came with their group.
    pub(crate) fn watch_classic(&mut self, timers: &mut Timers, now_ms: i64) {
        let unwatched = self.members.values().filter_map(|member| {
            let classic = member.classic.as_ref()?;
            let is_watched = self.watches.get(&member.id).is_some_and(Watch::is_watching);
            let until_ms = now_ms.saturating_add(i64::from(classic.session_timeout_ms));
            (!is_watched).then(|| (Arc::clone(&member.id), until_ms))
        });
        let unwatched: Vec<(Arc<str>, i64)> = unwatched.collect();
        for (id, until_ms) in unwatched {
            self.hear_of(timers, &id, until_ms);
        }
    }

    /// The log is replayed: everybody counts as heard of now. What follows from the members is
    /// counted anew, whatever order their records were in.
    pub(crate) fn finish_loading(
        &mut self,
        timers: &mut Timers,
        (now_ms, session_timeout_ms): (i64, i32),
    ) {
        self.count_anew();
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.hear_of(
                timers,
                &id,
                now_ms.saturating_add(i64::from(session_timeout_ms)),
            );
            self.watch_revocation(timers, &id, now_ms);
        }
    }
}
