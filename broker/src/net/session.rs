//! One connection's task: reads into the machine's buffer, lets it work, sends its output, keeps
//! its deadlines. A panic in a handler ends this connection and no other.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use ottla_protocol::frame::Piece;
use ottla_storage::disk::RecordData;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::ReadHalf;
use tokio::sync::{Notify, watch};
use tokio::time::Sleep;

use super::outbox::{Outbox, Sent};
use crate::broker::Broker;
use crate::config::ListenerName;
use crate::connection::{Connection, OUTPUT_BYTES_MAX};
use crate::purgatory::ConnectionSignal;
use crate::reply::CloseReason;

/// Requests begun before a shutdown may finish for this long.
const DRAIN_MAX: Duration = Duration::from_secs(1);
/// A connection that receives nothing for this long gives its read buffer back. At every pause
/// between two requests it would cost an allocation and cold memory a request.
const BUFFERS_KEPT: Duration = Duration::from_secs(1);
/// Stands for "no deadline".
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Serves one client until one of both sides ends it; says why.
pub(super) async fn serve(
    broker: Arc<Broker>,
    mut socket: TcpStream,
    peer: SocketAddr,
    listener: ListenerName,
    shutdown: watch::Receiver<bool>,
) -> CloseReason {
    let notify = Arc::new(Notify::new());
    let raised = Arc::clone(&notify);
    let signal = ConnectionSignal::new(move || raised.notify_one());
    let connection = Connection::new(Arc::clone(&broker), peer, listener, signal);
    let session = Session {
        connection,
        outbox: Outbox::default(),
        taken: Vec::new(),
        drain_until: None,
        broker,
    };
    session.run(&mut socket, &notify, shutdown).await
}

struct Session {
    broker: Arc<Broker>,
    connection: Connection,
    outbox: Outbox,
    /// Reused between turns.
    taken: Vec<Piece<RecordData>>,
    drain_until: Option<Instant>,
}

enum Event {
    Received,
    Ended,
    Writable,
    Signal,
    Deadline,
    Shutdown,
    ColdPart,
    Failed,
}

impl Session {
    async fn run(
        mut self,
        socket: &mut TcpStream,
        notify: &Notify,
        mut shutdown: watch::Receiver<bool>,
    ) -> CloseReason {
        let (mut reader, writer) = socket.split();
        let writer: &TcpStream = writer.as_ref();
        let mut sleep = pin!(tokio::time::sleep(FAR));
        loop {
            let now = self.broker.clock.now();
            let mut again = false;
            if self.outbox.pending_bytes() < OUTPUT_BYTES_MAX {
                again = self.connection.process(now);
                self.connection.take_output(&mut self.taken);
                self.outbox.push_all(&mut self.taken);
            }
            let sent = match self.send(writer, now) {
                Ok(sent) => sent,
                Err(_) => return CloseReason::Network,
            };
            if let Some(reason) = self.finished(now, sent) {
                return reason;
            }
            if again || sent == Sent::Turn {
                tokio::task::yield_now().await;
                continue;
            }
            if now >= self.connection.last_received() + BUFFERS_KEPT {
                self.connection.release_buffers();
            }
            set_deadline(sleep.as_mut(), self.deadline(now));
            let draining = self.drain_until.is_some();
            let reads = self.connection.wants_read() && !draining;
            let event = tokio::select! {
                biased;
                () = notify.notified() => Event::Signal,
                received = receive(&mut reader, &mut self.connection), if reads => match received {
                    Ok(0) => Event::Ended,
                    Ok(_) => Event::Received,
                    Err(_) => Event::Failed,
                },
                ready = writer.writable(), if sent == Sent::Blocked => match ready {
                    Ok(()) => Event::Writable,
                    Err(_) => Event::Failed,
                },
                read = self.outbox.cold_part(), if sent == Sent::Cold => match read {
                    Ok(()) => Event::ColdPart,
                    Err(_) => Event::Failed,
                },
                () = sleep.as_mut() => Event::Deadline,
                _ = shutdown.wait_for(|stop| *stop), if !draining => Event::Shutdown,
            };
            match event {
                Event::Received => self.connection.note_received(self.broker.clock.now()),
                Event::Ended => return CloseReason::ClientClosed,
                Event::Failed => return CloseReason::Network,
                Event::Shutdown => self.drain_until = Some(self.broker.clock.now() + DRAIN_MAX),
                Event::Writable | Event::Signal | Event::Deadline | Event::ColdPart => {}
            }
        }
    }

    fn send(&mut self, socket: &TcpStream, now: Instant) -> io::Result<Sent> {
        let before = self.outbox.sent_bytes();
        let sent = self.outbox.send(socket)?;
        let progressed = self.outbox.sent_bytes() > before;
        let (unsent, blocked) = (self.outbox.pending_bytes(), sent == Sent::Blocked);
        self.connection.note_sent(now, progressed, unsent, blocked);
        self.connection.watch_client(now);
        Ok(sent)
    }

    /// Why the connection ends now, if it does.
    fn finished(&self, now: Instant, sent: Sent) -> Option<CloseReason> {
        if let Some(reason) = self.connection.close_reason()
            && (sent == Sent::All || sent == Sent::Blocked)
        {
            return Some(reason);
        }
        let until = self.drain_until?;
        let drained = self.connection.in_flight() == 0 && sent == Sent::All;
        (now >= until || drained).then_some(CloseReason::Shutdown)
    }

    fn deadline(&self, now: Instant) -> Instant {
        let connection = self.connection.next_deadline();
        let received = self.connection.last_received();
        let buffers = (self.connection.holds_buffers()).then(|| received + BUFFERS_KEPT);
        let all = [connection, buffers, self.drain_until];
        all.into_iter().flatten().min().unwrap_or(now + FAR)
    }
}

/// Moves the timer only when it would ring too late: for every request it would cost more than a
/// wake-up that finds nothing to do.
fn set_deadline(sleep: std::pin::Pin<&mut Sleep>, deadline: Instant) {
    let deadline = tokio::time::Instant::from_std(deadline);
    if sleep.deadline() > deadline || sleep.is_elapsed() {
        sleep.reset(deadline);
    }
}

/// Waits for bytes before it asks for a buffer: an idle connection holds none. Cancel safe.
async fn receive(reader: &mut ReadHalf<'_>, connection: &mut Connection) -> io::Result<usize> {
    poll_fn(|cx| {
        let stream: &TcpStream = reader.as_ref();
        match stream.poll_read_ready(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
        let read = pin!(reader.read_buf(connection.read_buffer()));
        let read = ready!(read.poll(cx));
        Poll::Ready(read)
    })
    .await
}
