//! What a handler gives back: an answer now, an answer later, none, or the end of the connection.
//!
//! A parked reply is polled by its connection when its waiter fired or its deadline passed;
//! replies leave in request order whatever order they become ready in. Nothing here blocks or
//! spawns.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use ottla_protocol::frame::Piece;
use ottla_storage::disk::RecordData;

use crate::purgatory::Waiter;

/// The answer of a handler.
pub enum Reply<T> {
    /// Ready.
    Now(T),
    /// Waits for something; see [`Parked`].
    Parked(Box<dyn Parked<T>>),
    /// The client expects none (acks=0).
    NoReply,
    /// The connection is closed instead.
    Close(CloseReason),
}

/// A request that waits. Dropping it (the connection went away) must take it out of whatever it
/// waits on.
pub trait Parked<T>: Send {
    fn waiter(&self) -> &Arc<Waiter>;
    /// When it is resumed at the latest; `None` waits for the waiter only.
    fn deadline(&self) -> Option<Instant>;
    /// Called when the waiter fired or the deadline passed. `None`: not yet, keep waiting. Past
    /// the deadline it must answer.
    fn resume(&mut self, now: Instant) -> Option<T>;
    /// True while no later request of the connection may begin: what this one does with its
    /// partitions is not done yet, and its client counts on the order.
    fn holds_back(&self) -> bool {
        false
    }
}

/// One encoded answer as the connection sends it: length prefix, header and body included.
#[derive(Debug)]
pub enum Answer {
    Bytes(Bytes),
    Pieces(Vec<Piece<RecordData>>),
    /// The answer could not be made (it does not fit the protocol); the client is better off
    /// reconnecting.
    Close(CloseReason),
}

/// Why a connection was closed by this broker; one counter each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CloseReason {
    #[error("the client closed the connection")]
    ClientClosed,
    #[error("the length of a request is zero, negative or above socket.request.max.bytes")]
    BadFrameLength,
    #[error("a request header cannot be read")]
    BadHeader,
    #[error("an api key this broker does not serve")]
    UnknownApi,
    #[error("a version this broker does not serve")]
    UnsupportedVersion,
    #[error("a request body that is not what its version says")]
    BadRequest,
    #[error("a produce request with acks=0 failed")]
    ProduceFailedWithoutAcks,
    #[error("an answer does not fit the protocol")]
    Unencodable,
    #[error("no request for connections.max.idle.ms")]
    Idle,
    #[error("a request does not arrive")]
    SlowSender,
    #[error("the client does not read its answers")]
    SlowReader,
    #[error("too many connections")]
    TooManyConnections,
    #[error("the broker shuts down")]
    Shutdown,
    #[error("an error of the network")]
    Network,
    #[error("a defect of the broker")]
    Panic,
}

impl CloseReason {
    /// Every reason, in the order of the enum: for metric rows.
    pub const ALL: &[CloseReason] = &[
        CloseReason::ClientClosed,
        CloseReason::BadFrameLength,
        CloseReason::BadHeader,
        CloseReason::UnknownApi,
        CloseReason::UnsupportedVersion,
        CloseReason::BadRequest,
        CloseReason::ProduceFailedWithoutAcks,
        CloseReason::Unencodable,
        CloseReason::Idle,
        CloseReason::SlowSender,
        CloseReason::SlowReader,
        CloseReason::TooManyConnections,
        CloseReason::Shutdown,
        CloseReason::Network,
        CloseReason::Panic,
    ];

    /// The metric label.
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::ClientClosed => "client_closed",
            CloseReason::BadFrameLength => "bad_frame_length",
            CloseReason::BadHeader => "bad_header",
            CloseReason::UnknownApi => "unknown_api",
            CloseReason::UnsupportedVersion => "unsupported_version",
            CloseReason::BadRequest => "bad_request",
            CloseReason::ProduceFailedWithoutAcks => "produce_failed_without_acks",
            CloseReason::Unencodable => "unencodable",
            CloseReason::Idle => "idle",
            CloseReason::SlowSender => "slow_sender",
            CloseReason::SlowReader => "slow_reader",
            CloseReason::TooManyConnections => "too_many_connections",
            CloseReason::Shutdown => "shutdown",
            CloseReason::Network => "network",
            CloseReason::Panic => "panic",
        }
    }
}

impl<T: 'static> Reply<T> {
    /// Translates the answer, now or when it comes.
    pub fn map<U: 'static>(self, translate: impl FnOnce(T) -> U + Send + 'static) -> Reply<U> {
        match self {
            Reply::Now(answer) => Reply::Now(translate(answer)),
            Reply::Parked(inner) => Reply::Parked(Box::new(Translated {
                inner,
                translate: Some(translate),
            })),
            Reply::NoReply => Reply::NoReply,
            Reply::Close(reason) => Reply::Close(reason),
        }
    }
}

struct Translated<T, F> {
    inner: Box<dyn Parked<T>>,
    translate: Option<F>,
}

impl<T, U, F: FnOnce(T) -> U + Send> Parked<U> for Translated<T, F> {
    fn waiter(&self) -> &Arc<Waiter> {
        self.inner.waiter()
    }

    fn deadline(&self) -> Option<Instant> {
        self.inner.deadline()
    }

    fn holds_back(&self) -> bool {
        self.inner.holds_back()
    }

    fn resume(&mut self, now: Instant) -> Option<U> {
        let answer = self.inner.resume(now)?;
        let translate = self.translate.take()?;
        Some(translate(answer))
    }
}
