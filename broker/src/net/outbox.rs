//! What is on its way to a client: pieces in order, sent without copying. Memory goes out by
//! `writev`, resident ranges of files by `sendfile`. A range that is not in the page cache is
//! read on an I/O thread first, a bounded part at a time, so that no worker ever waits for a
//! disk.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes};
use ottla_protocol::frame::Piece;
use ottla_storage::disk::{FileRange, RecordData};
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// At most this much is sent before others get their turn.
const BYTES_PER_TURN: usize = 4 * 1024 * 1024;
/// A cold range is brought into memory in parts of this size.
const COLD_PART_BYTES: u32 = 512 * 1024;
/// Memory pieces gathered into one call.
const SLICES_MAX: usize = 64;

enum Part {
    Memory(Bytes),
    File { range: FileRange, resident: bool },
}

/// Why sending stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Nothing is left.
    All,
    /// The socket takes no more for now.
    Blocked,
    /// A part of a file is being read; see [`Outbox::cold_part`].
    Cold,
    /// Others should get their turn.
    Turn,
}

#[derive(Default)]
pub(super) struct Outbox {
    parts: VecDeque<Part>,
    pending_bytes: usize,
    sent_bytes: u64,
    cold: Option<JoinHandle<io::Result<Bytes>>>,
}

impl Outbox {
    pub(super) fn push_all(&mut self, pieces: &mut Vec<Piece<RecordData>>) {
        for piece in pieces.drain(..) {
            self.pending_bytes += piece.len();
            self.parts.push_back(match piece {
                Piece::Bytes(bytes) | Piece::Body(RecordData::Bytes(bytes)) => Part::Memory(bytes),
                Piece::Body(RecordData::File(range)) => Part::File {
                    range,
                    resident: false,
                },
            });
        }
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// All bytes that ever went out: a connection that makes no progress is told by it.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Sends as much as the socket takes.
    pub(super) fn send(&mut self, socket: &TcpStream) -> io::Result<Sent> {
        let mut turn = 0;
        loop {
            if self.cold.is_some() {
                return Ok(Sent::Cold);
            }
            if turn >= BYTES_PER_TURN {
                return Ok(Sent::Turn);
            }
            let sent = match self.parts.front_mut() {
                None => return Ok(Sent::All),
                Some(Part::Memory(_)) => self.send_memory(socket),
                Some(Part::File { range, resident }) => {
                    *resident = *resident || range.is_resident();
                    if range.fd().is_none() || !*resident {
                        self.read_cold_part();
                        continue;
                    }
                    send_file(socket, range)
                }
            };
            match sent {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    turn += bytes;
                    self.advance(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Sent::Blocked);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Gathers the memory parts at the front. When a file follows, the kernel is told that more
    /// comes, so that a small header does not travel alone.
    fn send_memory(&self, socket: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        let mut more = false;
        for part in &self.parts {
            match part {
                Part::Memory(bytes) if count < SLICES_MAX => {
                    slices[count] = IoSlice::new(bytes);
                    count += 1;
                }
                Part::Memory(_) => break,
                Part::File { .. } => {
                    more = true;
                    break;
                }
            }
        }
        socket.try_io(Interest::WRITABLE, || {
            if more && count == 1 {
                return Ok(rustix::net::send(socket, &slices[0], SendFlags::MORE)?);
            }
            Ok(rustix::io::writev(socket, &slices[..count])?)
        })
    }

    fn advance(&mut self, mut bytes: usize) {
        self.pending_bytes -= bytes;
        self.sent_bytes += bytes as u64;
        while let Some(part) = self.parts.front_mut() {
            let len = part.len();
            if bytes < len {
                part.advance(bytes);
                return;
            }
            bytes -= len;
            self.parts.pop_front();
        }
        debug_assert!(bytes == 0, "no more was sent than there was");
    }

    /// Hands the start of the range at the front to an I/O thread.
    #[expect(
        clippy::disallowed_methods,
        reason = "reads that block have a pool of their own"
    )]
    fn read_cold_part(&mut self) {
        let Some(Part::File { range, .. }) = self.parts.front() else {
            return;
        };
        let mut part = range.clone();
        part.len_bytes = part.len_bytes.min(COLD_PART_BYTES);
        self.cold = Some(tokio::task::spawn_blocking(move || part.read()));
    }

    /// Waits for the part of a file that is being read and puts it in front. Cancel safe.
    pub(super) async fn cold_part(&mut self) -> io::Result<()> {
        let Some(reading) = &mut self.cold else {
            return std::future::pending().await;
        };
        let read = reading
            .await
            .unwrap_or_else(|panic| Err(io::Error::other(panic)));
        self.cold = None;
        let bytes = read?;
        let Some(Part::File { range, .. }) = self.parts.front_mut() else {
            return Ok(());
        };
        if bytes.len() == range.len_bytes as usize {
            self.parts.pop_front();
        } else {
            range.position += bytes.len() as u64;
            range.len_bytes -= bytes.len() as u32;
        }
        self.parts.push_front(Part::Memory(bytes));
        Ok(())
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Part::Memory(bytes) => bytes.len(),
            Part::File { range, .. } => range.len_bytes as usize,
        }
    }

    fn advance(&mut self, bytes: usize) {
        match self {
            Part::Memory(memory) => memory.advance(bytes),
            Part::File { range, .. } => {
                range.position += bytes as u64;
                range.len_bytes -= bytes as u32;
            }
        }
    }
}

fn send_file(socket: &TcpStream, range: &FileRange) -> io::Result<usize> {
    let Some(file) = range.fd() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let mut position = range.position;
    let count = (range.len_bytes as usize).min(BYTES_PER_TURN);
    socket.try_io(Interest::WRITABLE, || {
        Ok(rustix::fs::sendfile(
            socket,
            file,
            Some(&mut position),
            count,
        )?)
    })
}
