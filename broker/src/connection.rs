//! One client's connection as a machine: bytes in, answers out in the order of the requests.
//!
//! It frames, dispatches, parks what must wait and bounds everything: requests in flight (then it
//! stops reading), work per call (then it asks to be called again), the bytes of a frame, and how
//! long a client may keep it waiting. It owns no socket and no clock: tokio's glue and the
//! simulator drive the same machine. They feed `read_buffer` and say so (`note_received`), call
//! `process` when bytes came, the signal was raised or `next_deadline` passed, send what
//! `take_output` gives and say how that went (`note_sent`). When `close_reason` says something,
//! what was taken is still sent and then the connection ends.

mod input;
mod patience;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use ottla_protocol::frame::{FRAME_LEN_BYTES, Piece};
use ottla_storage::disk::RecordData;

use crate::api::{self, Api, Caller};
use crate::broker::Broker;
use crate::config::ListenerName;
use crate::handlers::produce::gather::Gather;
use crate::purgatory::ConnectionSignal;
use crate::reply::{Answer, CloseReason, Parked, Reply};
use crate::strangers::Stranger;
use input::Input;
use patience::{Doing, Patience};

/// Requests of one connection that are begun and not yet answered.
const IN_FLIGHT_MAX: usize = 64;
/// Work per call of `process`, so that one connection never delays another.
const FRAMES_PER_CALL: usize = 128;
const BYTES_PER_CALL: usize = 1024 * 1024;
/// How often a connection that waits for memory asks again.
const STARVED_RETRY: Duration = Duration::from_millis(20);
/// With this much to send, no further request is begun and none is read.
pub const OUTPUT_BYTES_MAX: usize = 1024 * 1024;

/// A begun request, in its place in the order of answers.
struct InFlight {
    api: Option<&'static Api>,
    started: Instant,
    answer: Pending,
}

enum Pending {
    Ready(Answer),
    Parked(Box<dyn Parked<Answer>>),
    /// A produce that is appended together with what came behind it.
    Gathered,
    /// acks=0: nothing is sent.
    Silent,
}

impl Pending {
    fn of(reply: Reply<Answer>) -> Result<Pending, CloseReason> {
        match reply {
            Reply::Now(Answer::Close(reason)) | Reply::Close(reason) => Err(reason),
            Reply::Now(answer) => Ok(Pending::Ready(answer)),
            Reply::Parked(parked) => Ok(Pending::Parked(parked)),
            Reply::NoReply => Ok(Pending::Silent),
        }
    }

    fn is_settled(&self) -> bool {
        matches!(self, Pending::Ready(_) | Pending::Silent)
    }
}

pub struct Connection {
    broker: Arc<Broker>,
    peer: SocketAddr,
    listener: ListenerName,
    signal: Arc<ConnectionSignal>,
    input: Input,
    in_flight: VecDeque<InFlight>,
    gather: Gather,
    /// When a parked request must be looked at, or memory asked for again.
    work_deadline: Option<Instant>,
    patience: Patience,
    /// Bytes of answers that were taken and have not left.
    unsent_bytes: usize,
    output: Vec<Piece<RecordData>>,
    output_bytes: usize,
    close: Option<CloseReason>,
}

impl Connection {
    pub fn new(
        broker: Arc<Broker>,
        peer: SocketAddr,
        listener: ListenerName,
        signal: Arc<ConnectionSignal>,
    ) -> Connection {
        let memory = Arc::clone(&broker.request_memory);
        let input = Input::new(broker.config.socket_request_max_bytes, memory);
        let patience = Patience::new(&broker.config, broker.clock.now());
        Connection {
            broker,
            peer,
            listener,
            signal,
            input,
            in_flight: VecDeque::new(),
            gather: Gather::default(),
            work_deadline: None,
            patience,
            unsent_bytes: 0,
            output: Vec::new(),
            output_bytes: 0,
            close: None,
        }
    }

    /// Where received bytes go; always has room.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        self.input.buffer()
    }

    /// Bytes came.
    pub fn note_received(&mut self, now: Instant) {
        self.patience.note_received(now);
    }

    /// What became of the answers: whether some of their bytes went out, how many are left, and
    /// whether the socket takes no more of them for now.
    pub fn note_sent(&mut self, now: Instant, progressed: bool, unsent: usize, blocked: bool) {
        self.unsent_bytes = unsent;
        self.patience.note_sent(now, progressed, blocked);
    }

    /// False while enough requests are in flight or enough answers wait to be sent.
    pub fn wants_read(&self) -> bool {
        self.close.is_none() && self.has_room() && !self.input.is_starved() && !self.is_held_back()
    }

    /// The request begun last must get further before the next one may begin.
    fn is_held_back(&self) -> bool {
        let last = self.in_flight.back().map(|request| &request.answer);
        matches!(last, Some(Pending::Parked(parked)) if parked.holds_back())
    }

    fn has_room(&self) -> bool {
        let to_send = self.output_bytes + self.unsent_bytes;
        self.in_flight.len() < IN_FLIGHT_MAX && to_send < OUTPUT_BYTES_MAX
    }

    /// Handles what has arrived and what has become ready. True when it stopped only to let others
    /// work or its output be taken: take it and call again without waiting.
    pub fn process(&mut self, now: Instant) -> bool {
        if self.close.is_some() {
            return false;
        }
        self.resume(now);
        // Answers that are ready make room for requests that were read long ago.
        self.collect(now);
        let more = self.begin_requests(now);
        self.append_gathered();
        self.collect(now);
        self.watch_client(now);
        self.work_deadline = self.earliest_work(now);
        more && self.close.is_none()
    }

    fn begin_requests(&mut self, now: Instant) -> bool {
        let (mut frames, mut bytes) = (0, 0);
        while self.close.is_none() && self.in_flight.len() < IN_FLIGHT_MAX {
            if self.output_bytes >= OUTPUT_BYTES_MAX {
                return !self.input.is_empty();
            }
            if self.is_held_back() {
                return false;
            }
            if frames >= FRAMES_PER_CALL || bytes >= BYTES_PER_CALL {
                return true;
            }
            match self.input.next_frame() {
                Ok(Some(frame)) => {
                    frames += 1;
                    self.patience.note_frame();
                    bytes += frame.len();
                    self.broker
                        .metrics
                        .received_bytes(frame.len() + FRAME_LEN_BYTES);
                    self.begin(frame, now);
                    if self.in_flight.len() >= IN_FLIGHT_MAX {
                        self.append_gathered();
                        self.collect(now);
                    }
                }
                Ok(None) => return false,
                Err(error) => {
                    tracing::debug!(peer = %self.peer, %error, "closing: no frame can start here");
                    if let Some(stranger) = Stranger::at_kafka(self.input.head()) {
                        self.broker.strangers.note(stranger, &self.peer, now);
                    }
                    self.close = Some(CloseReason::BadFrameLength);
                }
            }
        }
        false
    }

    /// Ends the connection of a client that keeps it waiting too long. `process` does it, too; this
    /// is for when nothing can be processed because the client does not take its answers.
    pub fn watch_client(&mut self, now: Instant) {
        let reason = self.patience.check(now, self.doing());
        self.close = self.close.or(reason);
    }

    fn doing(&self) -> Doing {
        Doing {
            nothing: self.in_flight.is_empty() && !self.has_output() && self.unsent_bytes == 0,
            receiving: self.input.partial_len().filter(|_| self.wants_read()),
        }
    }

    fn begin(&mut self, frame: BytesMut, now: Instant) {
        let caller = Caller {
            broker: &self.broker,
            peer: self.peer,
            listener: &self.listener,
            signal: &self.signal,
            now,
        };
        let (api, reply) = api::dispatch(&caller, frame, Some(&mut self.gather));
        let answer = match reply.map(Pending::of) {
            None => Pending::Gathered,
            Some(Ok(answer)) => answer,
            Some(Err(reason)) => {
                self.close = Some(reason);
                return;
            }
        };
        self.in_flight.push_back(InFlight {
            api,
            started: now,
            answer,
        });
        self.settle_gathered();
    }

    /// Appends the produces that came together.
    fn append_gathered(&mut self) {
        if !self.gather.is_empty() {
            self.gather.append(&self.signal);
            self.settle_gathered();
        }
    }

    /// Gives the answers of gathered requests their places.
    fn settle_gathered(&mut self) {
        let gathered = self
            .in_flight
            .iter_mut()
            .filter(|request| matches!(request.answer, Pending::Gathered));
        for (request, reply) in gathered.zip(self.gather.take_done()) {
            match Pending::of(reply) {
                Ok(answer) => request.answer = answer,
                Err(reason) => request.answer = Pending::Ready(Answer::Close(reason)),
            }
        }
    }

    /// Looks again at the parked requests that were fired or whose time is over.
    fn resume(&mut self, now: Instant) {
        let due = self.work_deadline.is_some_and(|at| at <= now);
        if !self.signal.take() && !due {
            return;
        }
        for request in &mut self.in_flight {
            let Pending::Parked(parked) = &mut request.answer else {
                continue;
            };
            let over = parked.deadline().is_some_and(|at| at <= now);
            if !over && !parked.waiter().fired() {
                continue;
            }
            if let Some(answer) = parked.resume(now) {
                request.answer = Pending::Ready(answer);
            }
        }
    }

    /// Moves answers from the front of the queue to the output, as far as they are ready.
    fn collect(&mut self, now: Instant) {
        while let Some(request) = self
            .in_flight
            .pop_front_if(|request| request.answer.is_settled())
        {
            if let Some(api) = request.api {
                self.broker
                    .metrics
                    .request(api.key, now.saturating_duration_since(request.started));
            }
            match request.answer {
                Pending::Ready(Answer::Bytes(bytes)) => self.send(Piece::Bytes(bytes)),
                Pending::Ready(Answer::Pieces(pieces)) => {
                    for piece in pieces {
                        self.send(piece);
                    }
                }
                Pending::Ready(Answer::Close(reason)) => {
                    self.close = Some(reason);
                    return;
                }
                Pending::Silent | Pending::Parked(_) | Pending::Gathered => {}
            }
        }
    }

    fn send(&mut self, piece: Piece<RecordData>) {
        self.broker.metrics.sent_bytes(piece.len());
        self.output_bytes += piece.len();
        self.output.push(piece);
    }

    /// Moves everything there is to send to the end of `into`.
    pub fn take_output(&mut self, into: &mut Vec<Piece<RecordData>>) {
        self.output_bytes = 0;
        into.append(&mut self.output);
    }

    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    fn earliest_work(&self, now: Instant) -> Option<Instant> {
        let parked = self
            .in_flight
            .iter()
            .filter_map(|request| match &request.answer {
                Pending::Parked(parked) => parked.deadline(),
                _ => None,
            });
        let retry = self.input.is_starved().then(|| now + STARVED_RETRY);
        parked.chain(retry).min()
    }

    /// When `process` must be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let client = self.patience.deadline(self.doing());
        self.work_deadline.into_iter().chain(client).min()
    }

    /// When bytes last came.
    pub fn last_received(&self) -> Instant {
        self.patience.last_received()
    }

    /// Requests begun and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// True between requests: nothing begun, nothing half received.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.input.is_empty() && self.output.is_empty()
    }

    /// Nothing arrived for a while: gives back buffers that hold nothing.
    pub fn release_buffers(&mut self) {
        self.input.release();
    }

    /// True while [`Connection::release_buffers`] would give something back.
    pub fn holds_buffers(&self) -> bool {
        self.input.is_releasable()
    }

    pub fn close_reason(&self) -> Option<CloseReason> {
        self.close
    }
}

#[cfg(test)]
mod tests;
