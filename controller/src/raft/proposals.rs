//! The leader's side of commands: what waits to be decided, what is decided and under way, and the
//! image that decisions are made on.
//!
//! A decision sees everything decided before it, committed or not, so commands need not wait for
//! each other's disk writes. Replies wait: until what they promise is committed, and also until
//! what they merely saw is. With leadership everything here is lost; every ticket is answered.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_protocol::types::{BrokerId, Offset};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::election::mix;
use super::quorum::Event;
use crate::command::{Command, CommandReply, Refusal};
use crate::decide::{Decision, Limits, decide};
use crate::image::MetadataImage;
use crate::record::MetadataRecord;

/// A reply that is due when the entry at `index` is applied. It is of the leadership's own term:
/// otherwise leadership was lost before, and with it this.
struct InFlight {
    index: u64,
    ticket: u64,
    reply: CommandReply,
}

pub(super) struct Waiting {
    pub(super) ticket: u64,
    pub(super) command: Command,
    pub(super) now_ms: i64,
}

/// A leadership that is ready to decide.
struct Leadership {
    term: u64,
    /// The image of the last proposed entry.
    proposed: MetadataImage,
    rng: StdRng,
}

pub(super) struct Proposals {
    max: usize,
    seed: u64,
    waiting: VecDeque<Waiting>,
    in_flight: VecDeque<InFlight>,
    leadership: Option<Leadership>,
}

impl Proposals {
    pub(super) fn new(seed: u64, max: usize) -> Proposals {
        Proposals {
            max,
            seed,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            leadership: None,
        }
    }

    /// Queues a command; false if too many are there already.
    pub(super) fn push(&mut self, waiting: Waiting) -> bool {
        if self.waiting.len() + self.in_flight.len() >= self.max {
            return false;
        }
        self.waiting.push_back(waiting);
        true
    }

    pub(super) fn pop(&mut self) -> Option<Waiting> {
        self.waiting.pop_front()
    }

    /// Whether commands may be decided in `term`.
    pub(super) fn leads(&self, term: u64) -> bool {
        self.leadership
            .as_ref()
            .is_some_and(|leadership| leadership.term == term)
    }

    /// Whether commands were decided in an earlier term than `term`.
    pub(super) fn led_before(&self, term: u64) -> bool {
        self.leadership
            .as_ref()
            .is_some_and(|leadership| leadership.term != term)
    }

    /// This node leads, and everything in its log is applied to `image`. Chance depends on the
    /// term too, so that a restart with the same seed does not repeat itself.
    pub(super) fn begin(&mut self, term: u64, image: &Arc<MetadataImage>) {
        let rng = StdRng::seed_from_u64(mix(self.seed ^ mix(term)));
        self.leadership = Some(Leadership {
            term,
            proposed: (**image).clone(),
            rng,
        });
    }

    pub(super) fn decide(&mut self, limits: &Limits, command: &Command) -> Option<Decision> {
        let leadership = self.leadership.as_mut()?;
        Some(decide(
            &leadership.proposed,
            limits,
            command,
            &mut leadership.rng,
        ))
    }

    pub(super) fn rng(&mut self) -> Option<&mut StdRng> {
        self.leadership
            .as_mut()
            .map(|leadership| &mut leadership.rng)
    }

    /// The records are in raft's log at `index`.
    pub(super) fn proposed(&mut self, records: &[MetadataRecord], index: u64) {
        let Some(leadership) = &mut self.leadership else {
            return;
        };
        for record in records {
            leadership.proposed.apply(record);
        }
        leadership.proposed.applied = Offset(i64::try_from(index).unwrap_or(i64::MAX));
        leadership.proposed.term = leadership.term;
    }

    pub(super) fn reply_at(&mut self, index: u64, ticket: u64, reply: CommandReply) {
        self.in_flight.push_back(InFlight {
            index,
            ticket,
            reply,
        });
    }

    /// Where the last reply under way is due.
    pub(super) fn last_in_flight(&self) -> Option<u64> {
        self.in_flight.back().map(|last| last.index)
    }

    /// Everything up to the image's position is committed and applied: replies that waited for it
    /// are due.
    pub(super) fn applied(&mut self, image: &MetadataImage, replies: &mut Vec<Event>) {
        let index = image.applied.0.unsigned_abs();
        while self
            .in_flight
            .front()
            .is_some_and(|first| first.index <= index)
        {
            if let Some(InFlight { ticket, reply, .. }) = self.in_flight.pop_front() {
                replies.push(Event::Reply { ticket, reply });
            }
        }
        if let Some(leadership) = &mut self.leadership
            && leadership.proposed.applied <= image.applied
        {
            // Equal by the law of apply; taking the committed one shares its memory.
            debug_assert!(
                leadership.proposed.applied != image.applied || leadership.proposed == *image,
                "what was proposed is what was applied"
            );
            leadership.proposed = image.clone();
        }
    }

    /// Leadership of the term in which all this was proposed is lost.
    pub(super) fn end(&mut self, leader: Option<BrokerId>, replies: &mut Vec<Event>) {
        self.leadership = None;
        for InFlight { ticket, .. } in self.in_flight.drain(..) {
            let reply = CommandReply::Refused(Refusal::LeadershipLost { leader });
            replies.push(Event::Reply { ticket, reply });
        }
        for Waiting { ticket, .. } in self.waiting.drain(..) {
            let reply = CommandReply::Refused(Refusal::NotLeader { leader });
            replies.push(Event::Reply { ticket, reply });
        }
    }
}
