//! A simulated TCP connection: bytes on their way in both directions, delivered in pieces of any
//! size.
//!
//! The server's end is the broker's own `Connection` machine. Nothing is reordered or lost within a
//! link, as in TCP; a link breaks as a whole, and what was on its way is gone.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ottla_broker::broker::Broker;
use ottla_broker::config::ListenerName;
use ottla_broker::connection::Connection;
use ottla_broker::purgatory::ConnectionSignal;
use ottla_protocol::frame::{self, Piece};
use ottla_storage::disk::RecordData;

/// Larger than any reply of a simulation.
const REPLY_SIZE_BYTES_MAX: u32 = 64 * 1024 * 1024;

pub(crate) struct Link {
    server: Connection,
    to_server: BytesMut,
    to_client: BytesMut,
}

impl Link {
    pub(crate) fn open(broker: &Arc<Broker>, client: u16, listener: ListenerName) -> Link {
        // Nobody has to be woken: the world looks at every link in its turn.
        let signal = ConnectionSignal::new(|| {});
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + client));
        let server = Connection::new(Arc::clone(broker), peer, listener, signal);
        Link {
            server,
            to_server: BytesMut::new(),
            to_client: BytesMut::new(),
        }
    }

    /// The client sends.
    pub(crate) fn send(&mut self, frame: &Bytes) {
        self.to_server.put_slice(frame);
    }

    /// Bytes on their way to the server.
    pub(crate) fn outstanding_bytes(&self) -> usize {
        self.to_server.len()
    }

    /// Delivers up to `max_bytes` to the server and lets it work. False when the server has closed.
    pub(crate) fn deliver(&mut self, max_bytes: usize, now: Instant) -> bool {
        if self.server.wants_read() {
            let count = max_bytes.min(self.to_server.len());
            self.server
                .read_buffer()
                .put_slice(&self.to_server[..count]);
            self.to_server.advance(count);
            if count > 0 {
                self.server.note_received(now);
            }
        }
        let mut pieces = Vec::new();
        while self.server.process(now) {
            self.server.take_output(&mut pieces);
        }
        self.server.take_output(&mut pieces);
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => self.to_client.put_slice(&bytes),
                Piece::Body(RecordData::Bytes(bytes)) => self.to_client.put_slice(&bytes),
                Piece::Body(RecordData::File(range)) => {
                    let mut data = vec![0; range.len_bytes as usize];
                    // A log that was deleted under a reader ends the connection, as sendfile would.
                    match range.file.read_at(range.position, &mut data) {
                        Ok(got) if got == data.len() => self.to_client.put_slice(&data),
                        _ => return false,
                    }
                }
            }
        }
        self.server.close_reason().is_none()
    }

    /// The next whole reply, if it has arrived.
    pub(crate) fn receive(&mut self) -> Option<Bytes> {
        let length = frame::frame_len(&self.to_client, REPLY_SIZE_BYTES_MAX)
            .ok()
            .flatten()?;
        if self.to_client.len() < 4 + length {
            return None;
        }
        self.to_client.advance(4);
        Some(self.to_client.split_to(length).freeze())
    }
}
