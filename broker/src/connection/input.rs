//! The bytes a client has sent and nobody has handled: framing without trusting lengths.
//!
//! Small frames share one buffer, so that one read takes many pipelined requests. A frame above
//! [`SMALL_FRAME_BYTES_MAX`] gets a buffer of its own that grows as bytes arrive and ends exactly
//! where the frame does: its record batches are then cut out of it without a copy. Memory follows
//! what was received, never what a length field claims: the shared buffer of a connection that
//! sends little stays small, and one that sends nothing for a while gives it back. Beyond
//! [`FREE_BYTES`] a connection claims its memory from what all connections share.

use std::sync::Arc;

use bytes::{Buf, BytesMut};
use ottla_protocol::frame::{FRAME_LEN_BYTES, FrameError, frame_len};

use crate::request_memory::{Claim, RequestMemory};

/// Frames up to here are read into the shared buffer.
const SMALL_FRAME_BYTES_MAX: usize = 64 * 1024;
/// The shared buffer starts here and doubles while reads fill it.
const READ_BYTES_MIN: usize = 4 * 1024;
const READ_BYTES_MAX: usize = 256 * 1024;
/// What every connection may hold without asking.
const FREE_BYTES: usize = 8 * 1024;
/// What a large frame gets before more of it has arrived.
const LARGE_FIRST_BYTES: usize = 1024 * 1024;
/// The least room offered to a read.
const ROOM_BYTES_MIN: usize = 512;

/// A frame being received into its own buffer.
#[derive(Debug)]
struct Large {
    frame: BytesMut,
    len: usize,
    _claim: Claim,
}

#[derive(Debug)]
pub(super) struct Input {
    small: BytesMut,
    large: Option<Large>,
    read_bytes: usize,
    /// How much `small` holds once the read that is under way fills it.
    full_bytes: Option<usize>,
    frame_bytes_max: u32,
    memory: Arc<RequestMemory>,
    /// For reads of more than `READ_BYTES_MIN`.
    reads: Option<Claim>,
    /// For a frame in the shared buffer that this had to grow for.
    frame: Option<Claim>,
    /// A frame waits for memory; nothing is read meanwhile.
    starved: bool,
}

impl Input {
    pub(super) fn new(frame_bytes_max: u32, memory: Arc<RequestMemory>) -> Input {
        Input {
            small: BytesMut::new(),
            large: None,
            read_bytes: READ_BYTES_MIN,
            full_bytes: None,
            frame_bytes_max,
            memory,
            reads: None,
            frame: None,
            starved: false,
        }
    }

    /// Where the next bytes go; has room.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        if self.large.is_none() {
            self.make_room();
        }
        match &mut self.large {
            Some(large) => {
                if large.frame.len() == large.frame.capacity() {
                    let missing = large.len.saturating_sub(large.frame.len());
                    large
                        .frame
                        .reserve(missing.clamp(1, large.frame.len().max(1)));
                }
                &mut large.frame
            }
            None => &mut self.small,
        }
    }

    /// Makes room for a read. The same memory is used again and again: frames are gone once they
    /// are handled, so what lies before an incomplete one is free. One read then takes all that
    /// the socket has, and neither allocations nor cold memory are part of a request's cost.
    fn make_room(&mut self) {
        let len = self.small.len();
        let room = self.small.capacity() - len;
        if len == 0 || room < ROOM_BYTES_MIN.max(self.read_bytes / 2) {
            let wanted = self.read_bytes.saturating_sub(len);
            self.small.reserve(wanted.max(ROOM_BYTES_MIN));
        }
        self.full_bytes = Some(self.small.capacity());
    }

    /// A read that filled the buffer: the client sends faster than it is read.
    fn note_read(&mut self) {
        if self.full_bytes.take() != Some(self.small.len()) || self.read_bytes >= READ_BYTES_MAX {
            return;
        }
        if let Some(claim) = self.memory.claim_spare(2 * self.read_bytes) {
            self.reads = Some(claim);
            self.read_bytes *= 2;
        }
    }

    /// The next whole frame without its length prefix, if it has arrived.
    pub(super) fn next_frame(&mut self) -> Result<Option<BytesMut>, FrameError> {
        if self.large.is_some() {
            return Ok(self.finish_large());
        }
        self.note_read();
        let Some(len) = frame_len(&self.small, self.frame_bytes_max)? else {
            return Ok(None);
        };
        let whole = FRAME_LEN_BYTES + len;
        if self.small.len() >= whole {
            self.frame = None;
            self.small.advance(FRAME_LEN_BYTES);
            return Ok(Some(self.small.split_to(len)));
        }
        if len > SMALL_FRAME_BYTES_MAX {
            let claim = self.memory.claim(len);
            self.starved = claim.is_none();
            if let Some(claim) = claim {
                self.start_large(len, claim);
            }
            return Ok(None);
        }
        let missing = whole - self.small.len();
        if missing > self.small.capacity() - self.small.len() {
            self.grow(whole, missing);
        }
        Ok(None)
    }

    /// Room for the rest of a frame in the shared buffer, if there is memory.
    fn grow(&mut self, whole: usize, missing: usize) {
        if whole > FREE_BYTES && self.frame.is_none() {
            self.frame = self.memory.claim(whole);
            self.starved = self.frame.is_none();
        }
        if !self.starved {
            self.small.reserve(missing.max(self.read_bytes));
        }
    }

    fn start_large(&mut self, len: usize, claim: Claim) {
        self.small.advance(FRAME_LEN_BYTES);
        let capacity = len.min(LARGE_FIRST_BYTES.max(2 * self.small.len()));
        let mut frame = BytesMut::with_capacity(capacity);
        frame.extend_from_slice(&self.small);
        self.small.clear();
        self.large = Some(Large {
            frame,
            len,
            _claim: claim,
        });
    }

    fn finish_large(&mut self) -> Option<BytesMut> {
        let large = self.large.take_if(|large| large.frame.len() >= large.len)?;
        let mut frame = large.frame;
        if frame.len() > large.len {
            // The buffer had grown beyond the frame: what follows are the next requests.
            let rest = frame.split_off(large.len);
            self.small.extend_from_slice(&rest);
        }
        Some(frame)
    }

    /// What came and is not a frame, as far as it is there.
    pub(super) fn head(&self) -> &[u8] {
        &self.small
    }

    /// True while a frame waits for memory: nothing must be read, `next_frame` tries again.
    pub(super) fn is_starved(&self) -> bool {
        self.starved
    }

    /// The length of the frame that has begun, as far as it is known; `None` between frames.
    pub(super) fn partial_len(&self) -> Option<usize> {
        match &self.large {
            Some(large) => Some(large.len),
            None if self.small.is_empty() => None,
            None => frame_len(&self.small, self.frame_bytes_max)
                .ok()
                .flatten()
                .or(Some(0)),
        }
    }

    /// False when a frame has begun and not ended, or whole frames wait.
    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_none()
    }

    /// Nothing arrived for a while: give back what holds nothing.
    pub(super) fn release(&mut self) {
        self.read_bytes = READ_BYTES_MIN;
        self.reads = None;
        self.full_bytes = None;
        if self.small.capacity() > 2 * self.small.len() {
            self.small = BytesMut::from(&self.small[..]);
        }
    }

    /// True while there is something that [`Input::release`] could give back.
    pub(super) fn is_releasable(&self) -> bool {
        self.read_bytes > READ_BYTES_MIN || self.small.capacity() > 2 * self.small.len()
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;
    use proptest::prelude::*;

    use super::*;

    fn held_bytes(input: &Input) -> usize {
        input.small.capacity()
            + input
                .large
                .as_ref()
                .map_or(0, |large| large.frame.capacity())
    }

    fn feed(input: &mut Input, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let buffer = input.buffer();
            let room = buffer.capacity() - buffer.len();
            assert!(room > 0, "the buffer always has room");
            let (now, later) = rest.split_at(rest.len().min(room));
            buffer.put_slice(now);
            rest = later;
        }
    }

    #[test]
    fn a_lying_length_costs_no_memory() {
        let mut input = Input::new(100 * 1024 * 1024, RequestMemory::new(None));
        feed(&mut input, &(100 * 1024 * 1024i32).to_be_bytes());
        assert_eq!(input.next_frame(), Ok(None));
        feed(&mut input, b"xyz");
        assert_eq!(input.next_frame(), Ok(None));
        assert!(
            held_bytes(&input) <= 2 * LARGE_FIRST_BYTES,
            "{}",
            held_bytes(&input)
        );
    }

    #[test]
    fn lengths_out_of_bounds_are_refused() {
        for bad in [-1i32, 0, 1001, i32::MIN] {
            let mut input = Input::new(1000, RequestMemory::new(None));
            feed(&mut input, &bad.to_be_bytes());
            assert!(input.next_frame().is_err(), "{bad}");
        }
    }

    #[test]
    fn small_requests_of_many_connections_are_bounded_together() {
        let memory = RequestMemory::new(Some(1 << 20));
        let mut frame = 60_000i32.to_be_bytes().to_vec();
        frame.resize(60_000, 7);
        let mut inputs: Vec<Input> = (0..200)
            .map(|_| Input::new(1 << 20, Arc::clone(&memory)))
            .collect();
        for input in &mut inputs {
            for part in frame.chunks(1_000) {
                if !input.is_starved() {
                    feed(input, part);
                    assert_eq!(input.next_frame(), Ok(None));
                }
            }
        }
        let starved = inputs.iter().filter(|input| input.is_starved()).count();
        assert!((180..200).contains(&starved), "{starved}");
        let held: usize = inputs.iter().map(held_bytes).sum();
        assert!(held < 200 * 2 * FREE_BYTES + (1 << 20), "{held}");
        // Who waits gets through when others are gone, and nothing stays claimed.
        let mut last = inputs.pop().expect("200");
        assert!(last.is_starved());
        drop(inputs);
        assert_eq!(last.next_frame(), Ok(None));
        assert!(!last.is_starved());
        feed(&mut last, &[7; 60_004]);
        assert_eq!(last.next_frame().unwrap().unwrap().len(), 60_000);
        last.release();
        assert_eq!(memory.claimed_bytes(), 0);
    }

    #[test]
    fn a_connection_that_gets_no_memory_reads_in_smaller_pieces() {
        let memory = RequestMemory::new(Some(100));
        let mut input = Input::new(1 << 20, memory);
        let frames = [0, 0, 0, 1, 7].repeat(50_000);
        for part in frames.chunks(2_000) {
            feed(&mut input, part);
            while input.next_frame().unwrap().is_some() {}
        }
        assert!(input.is_empty());
        assert_eq!(input.read_bytes, READ_BYTES_MIN);
    }

    #[test]
    fn an_idle_connection_gives_its_buffer_back() {
        let mut input = Input::new(1000, RequestMemory::new(None));
        feed(&mut input, &[0, 0, 0, 1, 7]);
        assert_eq!(input.next_frame().unwrap().unwrap()[..], [7]);
        assert!(held_bytes(&input) > 0 && input.is_releasable());
        input.release();
        assert_eq!(held_bytes(&input), 0);
        assert!(!input.is_releasable());
    }

    #[test]
    fn half_a_frame_keeps_no_more_than_itself_for_long() {
        let mut input = Input::new(1000, RequestMemory::new(None));
        feed(&mut input, &[0, 0, 0, 3, 7, 8]);
        assert_eq!(input.next_frame(), Ok(None));
        input.release();
        assert!(held_bytes(&input) <= 12, "{}", held_bytes(&input));
        feed(&mut input, &[9]);
        assert_eq!(input.next_frame().unwrap().unwrap()[..], [7, 8, 9]);
    }

    #[test]
    fn a_busy_connection_reads_into_the_same_memory() {
        let mut input = Input::new(1 << 20, RequestMemory::new(None));
        let frames: Vec<u8> = [&[0, 0, 0x40, 0][..], &[1; 0x4000]].concat().repeat(16);
        // After the first rounds the buffer has its size; a cut frame in it does not change that.
        let mut held = Vec::new();
        for round in 0..40 {
            feed(&mut input, &frames[..frames.len() - round]);
            while input.next_frame().unwrap().is_some() {}
            feed(&mut input, &frames[frames.len() - round..]);
            while input.next_frame().unwrap().is_some() {}
            assert!(input.is_empty());
            input.buffer();
            held.push(input.small.capacity());
        }
        assert!(
            held[20..].iter().all(|bytes| *bytes == held[20]),
            "{held:?}"
        );
        assert!(held[20] <= 2 * READ_BYTES_MAX, "{held:?}");
    }

    proptest! {
        /// However the stream is cut into reads, the same frames come out.
        #[test]
        fn frames_survive_any_segmentation(
            lens in prop::collection::vec(prop_oneof![1usize..300, 60_000usize..200_000], 1..8),
            cuts in prop::collection::vec(1usize..100_000, 1..40),
        ) {
            let mut stream = Vec::new();
            for (n, len) in lens.iter().enumerate() {
                stream.extend_from_slice(&(*len as i32).to_be_bytes());
                stream.extend(std::iter::repeat_n(n as u8, *len));
            }
            let mut input = Input::new(1 << 20, RequestMemory::new(None));
            let mut frames = Vec::new();
            let (mut rest, mut cuts) = (&stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let at = (*cuts.next().unwrap()).min(rest.len());
                let room = { let b = input.buffer(); b.capacity() - b.len() };
                let (now, later) = rest.split_at(at.min(room));
                input.buffer().put_slice(now);
                rest = later;
                while let Some(frame) = input.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            prop_assert_eq!(frames.len(), lens.len());
            for (n, (frame, len)) in frames.iter().zip(&lens).enumerate() {
                prop_assert_eq!(frame.len(), *len);
                prop_assert!(frame.iter().all(|&byte| byte == n as u8));
            }
            prop_assert!(input.is_empty());
        }
    }
}
