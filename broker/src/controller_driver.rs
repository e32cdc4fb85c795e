//! Runs the controller for one broker: commands in, metadata and answers out.
//!
//! The controller itself is single-threaded; this file gives it a mailbox that any thread may post
//! to, and carries out its events in order: partitions are told of a change before the image is
//! published, and the image is published before the command that made it is answered. It has no
//! thread: the glue calls [`ControllerDriver::run_once`] in a loop, the simulator when it likes.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use ottla_controller::{
    Command, CommandReply, Controller, ControllerError, Event, QuorumState, Refusal,
};
use parking_lot::Mutex;

use crate::assignments;
use crate::broker::{Broker, ControllerHandle, Done};

/// Where commands wait for the controller, and where its quorum can be looked at.
pub struct Mailbox {
    /// `None` once the controller has stopped.
    commands: Mutex<Option<Vec<(Command, Done)>>>,
    quorum: ArcSwap<QuorumState>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Mailbox {
    /// `wake` is called after every post. Only the first call counts.
    pub fn on_post(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
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
        waiting.push((command, done));
        drop(commands);
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }

    fn quorum(&self) -> QuorumState {
        QuorumState::clone(&self.quorum.load())
    }
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
        let posted = self
            .mailbox
            .commands
            .lock()
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        for (command, done) in posted {
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
