//! What a handler knows about the request it answers, and the one way to wait for the controller.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use ottla_controller::{Command, CommandReply};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::clock::deadline_after_ms;
use crate::config::ListenerName;
use crate::purgatory::{ConnectionSignal, Waiter};
use crate::reply::{Parked, Reply};

/// One request's surroundings. Handlers get it beside the capability bundle that their row names.
pub struct RequestContext<'a> {
    pub broker: &'a Arc<Broker>,
    pub version: i16,
    pub correlation_id: i32,
    /// As the client sent it: any text, at most a frame long. Never a metric label.
    pub client_id: Option<&'a str>,
    pub peer: SocketAddr,
    pub listener: &'a ListenerName,
    pub now: Instant,
    /// To make waiters from.
    pub signal: &'a Arc<ConnectionSignal>,
}

/// The controller did not answer in the time the client gave; what was asked may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the controller did not answer in time; the change may still be made")]
pub struct TimedOut;

impl RequestContext<'_> {
    /// Hands `command` to the controller and answers with what `translate` makes of its reply.
    /// The reply comes after the change is durable and visible in this broker's metadata.
    pub fn submit<T: Send + 'static>(
        &self,
        command: Command,
        timeout_ms: i32,
        translate: impl FnOnce(Result<CommandReply, TimedOut>) -> T + Send + 'static,
    ) -> Reply<T> {
        let slot = Arc::new(Slot {
            reply: Mutex::new(None),
            waiter: Waiter::new(self.signal),
        });
        let filled = Arc::clone(&slot);
        self.broker.controller.submit(
            command,
            Box::new(move |reply| {
                *filled.reply.lock() = Some(reply);
                filled.waiter.fire();
            }),
        );
        Reply::Parked(Box::new(AwaitController {
            slot,
            deadline: deadline_after_ms(self.now, timeout_ms),
            translate: Some(translate),
        }))
    }
}

struct Slot {
    reply: Mutex<Option<CommandReply>>,
    waiter: Arc<Waiter>,
}

struct AwaitController<F> {
    slot: Arc<Slot>,
    deadline: Instant,
    translate: Option<F>,
}

impl<T, F> Parked<T> for AwaitController<F>
where
    F: FnOnce(Result<CommandReply, TimedOut>) -> T + Send,
{
    fn waiter(&self) -> &Arc<Waiter> {
        &self.slot.waiter
    }

    fn deadline(&self) -> Option<Instant> {
        Some(self.deadline)
    }

    fn resume(&mut self, now: Instant) -> Option<T> {
        self.slot.waiter.rearm();
        let outcome = match self.slot.reply.lock().take() {
            Some(reply) => Ok(reply),
            None if now >= self.deadline => Err(TimedOut),
            None => return None,
        };
        let translate = self.translate.take()?;
        Some(translate(outcome))
    }
}
