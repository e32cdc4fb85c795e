//! How long a client may keep this broker waiting: to begin a request, to finish one, and to take
//! its answers. Each has its limit, its reason, and ends the connection.
//!
//! Only the client's own slowness counts. While requests are in flight nobody is idle, and a sender
//! is not blamed while the broker does not read.

use std::time::{Duration, Instant};

use crate::config::Config;
use crate::reply::CloseReason;

/// Large requests get more time to arrive, at this many bytes a second.
const FRAME_BYTES_PER_SECOND_MIN: usize = 16 * 1024;

/// What the connection does at the moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doing {
    /// No request is in flight and nothing waits to be sent.
    pub nothing: bool,
    /// The length of the request that is arriving, if one is and the broker reads.
    pub receiving: Option<usize>,
}

#[derive(Debug)]
pub(super) struct Patience {
    /// `connections.max.idle.ms`; `None` waits for ever.
    idle: Option<Duration>,
    sender: Duration,
    reader: Duration,
    received: Instant,
    /// Since when the socket has taken nothing, while something waits to be sent.
    blocked: Option<Instant>,
    /// When the request that is arriving must be there.
    frame: Option<Instant>,
}

impl Patience {
    pub(super) fn new(config: &Config, now: Instant) -> Patience {
        Patience {
            idle: config.connections_max_idle_ms.map(Duration::from_millis),
            sender: Duration::from_millis(config.slow_sender_timeout_ms),
            reader: Duration::from_millis(config.slow_reader_timeout_ms),
            received: now,
            blocked: None,
            frame: None,
        }
    }

    pub(super) fn note_received(&mut self, now: Instant) {
        self.received = now;
    }

    pub(super) fn note_sent(&mut self, now: Instant, progressed: bool, blocked: bool) {
        self.blocked = match self.blocked {
            Some(since) if blocked && !progressed => Some(since),
            _ => blocked.then_some(now),
        };
    }

    pub(super) fn note_frame(&mut self) {
        self.frame = None;
    }

    /// When bytes last came.
    pub(super) fn last_received(&self) -> Instant {
        self.received
    }

    /// Why the connection ends now, if it does.
    pub(super) fn check(&mut self, now: Instant, doing: Doing) -> Option<CloseReason> {
        self.frame = doing.receiving.map(|len| {
            let more = Duration::from_secs((len / FRAME_BYTES_PER_SECOND_MIN) as u64);
            self.frame.unwrap_or(now + self.sender + more)
        });
        let late = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if late(self.frame) {
            Some(CloseReason::SlowSender)
        } else if late(self.blocked.map(|since| since + self.reader)) {
            Some(CloseReason::SlowReader)
        } else if late(self.idle_deadline(doing)) {
            Some(CloseReason::Idle)
        } else {
            None
        }
    }

    /// When [`Patience::check`] must be called again.
    pub(super) fn deadline(&self, doing: Doing) -> Option<Instant> {
        let reader = self.blocked.map(|since| since + self.reader);
        [self.frame, reader, self.idle_deadline(doing)]
            .into_iter()
            .flatten()
            .min()
    }

    fn idle_deadline(&self, doing: Doing) -> Option<Instant> {
        let limit = self.idle.filter(|_| doing.nothing)?;
        Some(self.received + limit)
    }
}
