//! Frames: every Kafka message is a four-byte length and that many bytes.
//!
//! [`frame_len`] looks at a connection's input and never allocates: the caller grows its buffer as
//! bytes arrive, not by what a peer claims. A reply is a list of [`Piece`]s, so that record data is
//! sent from where it lies.

use bytes::Bytes;
use thiserror::Error;

/// The bytes in front of every frame.
pub const FRAME_LEN_BYTES: usize = 4;

/// Why no frame can start here; the connection is beyond repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("the frame length {len} is not positive")]
    NotPositive { len: i32 },
    #[error("the frame of {len} bytes is larger than the {max_bytes} bytes allowed")]
    TooLarge { len: i32, max_bytes: u32 },
}

/// Reads the length at the start of `buf`: `Some(n)` means that `n` body bytes follow the four
/// length bytes (they may not have arrived yet), `None` that the length itself is incomplete.
pub fn frame_len(buf: &[u8], max_bytes: u32) -> Result<Option<usize>, FrameError> {
    let Some(len) = buf.first_chunk::<FRAME_LEN_BYTES>() else {
        return Ok(None);
    };
    let len = i32::from_be_bytes(*len);
    if len <= 0 {
        return Err(FrameError::NotPositive { len });
    }
    if len as u32 > max_bytes {
        return Err(FrameError::TooLarge { len, max_bytes });
    }
    Ok(Some(len as usize))
}

/// Something sent as it is, of known length: record data in memory or in a file.
pub trait Body {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Body for Bytes {
    fn len(&self) -> usize {
        Bytes::len(self)
    }
}

/// One part of a reply; the parts are written in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece<B> {
    /// Encoded bytes.
    Bytes(Bytes),
    /// Record data.
    Body(B),
}

impl<B: Body> Piece<B> {
    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Body(body) => body.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<B> From<Bytes> for Piece<B> {
    fn from(bytes: Bytes) -> Self {
        Piece::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_needs_four_bytes() {
        assert_eq!(frame_len(&[0, 0, 0], 100), Ok(None));
        assert_eq!(frame_len(&[0, 0, 0, 9], 100), Ok(Some(9)));
        assert_eq!(frame_len(&[0, 0, 0, 9, 1, 2], 100), Ok(Some(9)));
    }

    #[test]
    fn impossible_lengths_are_refused_without_waiting_for_the_body() {
        assert_eq!(
            frame_len(&[0; 4], 100),
            Err(FrameError::NotPositive { len: 0 })
        );
        assert_eq!(
            frame_len(&[0xff; 4], 100),
            Err(FrameError::NotPositive { len: -1 })
        );
        let huge = FrameError::TooLarge {
            len: i32::MAX,
            max_bytes: 100,
        };
        assert_eq!(frame_len(&[0x7f, 0xff, 0xff, 0xff], 100), Err(huge));
        assert_eq!(frame_len(&[0, 0, 0, 100], 100), Ok(Some(100)));
    }
}
