//! Runs the controller for one broker: commands in, metadata and answers out.
//!
//! The controller itself is single-threaded; this file gives it a mailbox that any thread may post
//! to, and carries out its events in order: partitions are told of a change before the image is
//! published, and the image is published before the command that made it is answered. It has no
//! thread: the glue calls [`ControllerDriver::run_once`] in a loop, the simulator when it likes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use ottla_controller::{
    Command, CommandReply, Controller, ControllerError, Event, QuorumState, Refusal,
};
use parking_lot::Mutex;

use crate::assignments;
use crate::broker::{Broker, ControllerHandle, Done};

/// So many changes wait for a start to end.
const HELD_MAX: usize = 1_000;

/// Where commands wait for the controller, and where its quorum can be looked at.
pub struct Mailbox {
    /// `None` once the controller has stopped.
    commands: Mutex<Option<Vec<(Command, Done)>>>,
    /// Changes that concern partitions wait.
    held: AtomicBool,
    quorum: ArcSwap<QuorumState>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Mailbox {
    /// `wake` is called after every post. Only the first call counts.
    pub fn on_post(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// From now on changes that concern partitions wait: their logs are being opened.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    /// The logs are open: what waited is carried out, in its order.
    pub fn release(&self) {
        self.held.store(false, Ordering::Release);
        self.woken();
    }

    fn woken(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    /// What may be carried out now.
    fn take(&self) -> Vec<(Command, Done)> {
        let mut commands = self.commands.lock();
        let Some(waiting) = commands.as_mut() else {
            return Vec::new();
        };
        let posted = std::mem::take(waiting);
        if !self.held.load(Ordering::Acquire) {
            return posted;
        }
        let (held, now) = posted
            .into_iter()
            .partition(|(c, _)| concerns_partitions(c));
        *waiting = held;
        now
    }

    pub fn is_empty(&self) -> bool {
        self.commands.lock().as_ref().is_none_or(Vec::is_empty)
    }

    /// Nobody will read it any more: everything in it and everything to come is refused.
    fn close(&self) {
        let waiting = self.commands.lock().take().unwrap_or_default();
        for (_, done) in waiting {
            done(CommandReply::Refused(Refusal::NotLeader { leader: None }));
        }
    }
}

impl ControllerHandle for Mailbox {
    fn submit(&self, command: Command, done: Done) {
        let mut commands = self.commands.lock();
        let Some(waiting) = commands.as_mut() else {
            drop(commands);
            done(CommandReply::Refused(Refusal::NotLeader { leader: None }));
            return;
        };
        if waiting.len() >= HELD_MAX && self.held.load(Ordering::Acquire) {
            drop(commands);
            done(CommandReply::Refused(Refusal::Overloaded));
            return;
        }
        waiting.push((command, done));
        drop(commands);
        self.woken();
    }

    fn quorum(&self) -> QuorumState {
        QuorumState::clone(&self.quorum.load())
    }
}

/// Everything but what leaves all partitions as they are.
fn concerns_partitions(command: &Command) -> bool {
    !matches!(
        command,
        Command::AllocateProducerIds { .. } | Command::UpdateFeatures { .. }
    )
}

/// The controller and the answers it owes.
pub struct ControllerDriver {
    controller: Controller,
    mailbox: Arc<Mailbox>,
    owed: BTreeMap<u64, Done>,
}

impl ControllerDriver {
    pub fn new(controller: Controller) -> ControllerDriver {
        let mailbox = Arc::new(Mailbox {
            commands: Mutex::new(Some(Vec::new())),
            quorum: ArcSwap::from_pointee(controller.quorum()),
            held: AtomicBool::new(false),
            wake: OnceLock::new(),
        });
        ControllerDriver {
            controller,
            mailbox,
            owed: BTreeMap::new(),
        }
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    pub fn controller(&self) -> &Controller {
        &self.controller
    }

    /// Carries out one command before there is a broker; partitions are opened later, from the
    /// image that this leaves behind.
    pub fn run_command(
        &mut self,
        command: Command,
        now: Instant,
        now_ms: i64,
    ) -> Result<CommandReply, ControllerError> {
        let ticket = self.controller.submit(command, now_ms);
        loop {
            for event in self.controller.poll(now)? {
                if let Event::Reply {
                    ticket: answered,
                    reply,
                } = event
                    && answered == ticket
                {
                    self.mailbox
                        .quorum
                        .store(Arc::new(self.controller.quorum()));
                    return Ok(reply);
                }
            }
            self.controller.fail_if_stalled()?;
        }
    }

    /// Takes what was posted, lets the controller work and carries out what follows. After an error
    /// the controller has stopped for good.
    pub fn run_once(
        &mut self,
        broker: &Arc<Broker>,
        now: Instant,
        now_ms: i64,
    ) -> Result<(), ControllerError> {
        for (command, done) in self.mailbox.take() {
            let ticket = self.controller.submit(command, now_ms);
            self.owed.insert(ticket, done);
        }
        let events = match self.controller.poll(now) {
            Ok(events) => events,
            Err(error) => {
                self.stop();
                return Err(error);
            }
        };
        if !events.is_empty() {
            self.mailbox
                .quorum
                .store(Arc::new(self.controller.quorum()));
        }
        for event in events {
            match event {
                Event::Applied { image, delta } => assignments::apply(broker, &image, &delta, now),
                Event::Reply { ticket, reply } => {
                    if let Some(done) = self.owed.remove(&ticket) {
                        done(reply);
                    }
                }
                // A quorum of one has nobody to write to.
                Event::Send { to, .. } => {
                    tracing::error!(%to, "a message to an unknown controller")
                }
            }
        }
        Ok(())
    }

    /// Refuses everything that waits.
    pub fn stop(&mut self) {
        self.mailbox.close();
        for (_, done) in std::mem::take(&mut self.owed) {
            done(CommandReply::Refused(Refusal::LeadershipLost {
                leader: None,
            }));
        }
    }

    /// When [`ControllerDriver::run_once`] has something to do without a post.
    pub fn next_tick(&self) -> Instant {
        self.controller.next_tick()
    }
}

#[cfg(test)]
mod tests {
    use ottla_controller::record::BrokerEpoch;
    use ottla_protocol::types::{BrokerId, Offset};

    use super::*;

    fn quorum() -> QuorumState {
        QuorumState {
            leader: None,
            leader_epoch: 0,
            high_watermark: Offset::ZERO,
            voters: Vec::new(),
            observers: Vec::new(),
        }
    }

    #[test]
    fn while_logs_are_opened_changes_wait_in_their_order_and_producer_ids_do_not() {
        let mailbox = Mailbox {
            commands: Mutex::new(Some(Vec::new())),
            held: AtomicBool::new(false),
            quorum: ArcSwap::from_pointee(quorum()),
            wake: OnceLock::new(),
        };
        let delete = || Command::DeleteTopics { topics: Vec::new() };
        let create = || Command::CreatePartitions {
            topics: Vec::new(),
            validate_only: false,
        };
        let ids = || Command::AllocateProducerIds {
            broker_id: BrokerId(1),
            broker_epoch: BrokerEpoch(1),
        };
        let taken = || -> Vec<Command> { mailbox.take().into_iter().map(|(c, _)| c).collect() };
        mailbox.hold();
        for command in [delete(), ids(), create()] {
            mailbox.submit(command, Box::new(drop));
        }
        assert_eq!(taken(), [ids()]);
        assert_eq!(taken(), []);
        let refused = Arc::new(AtomicBool::new(false));
        for _ in 0..HELD_MAX {
            let refused = Arc::clone(&refused);
            let done = move |reply| {
                let overloaded = matches!(reply, CommandReply::Refused(Refusal::Overloaded));
                refused.store(overloaded, Ordering::Relaxed);
            };
            mailbox.submit(delete(), Box::new(done));
        }
        assert!(refused.load(Ordering::Relaxed), "they are bounded");
        mailbox.release();
        assert_eq!(taken()[..2], [delete(), create()]);
    }
}
