//! Request and response headers, by hand: they are read before anything about the peer is known.
//!
//! The client id keeps its two-byte length in both header versions; only the tagged fields after it
//! belong to flexible versions. Nothing here panics on a short frame.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::DecodeError;
use crate::wire::{Reader, put_no_tags};

/// A request header that owns its client id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    /// Valid UTF-8. A copy: keeping it does not keep the frame.
    pub client_id: Option<Bytes>,
}

/// A request header that borrows from its frame; reading it allocates nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeaderView<'a> {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

impl RequestHeader {
    /// The key, version and correlation id alone: enough to choose how to read the rest.
    pub fn peek_key_version(frame: &[u8]) -> Result<(i16, i16, i32), DecodeError> {
        let mut reader = Reader::new(frame);
        Ok((reader.i16()?, reader.i16()?, reader.i32()?))
    }

    /// Reads the header and says where the body starts.
    pub fn parse(frame: &[u8], flexible: bool) -> Result<(RequestHeader, usize), DecodeError> {
        let (view, body_start) = RequestHeaderView::parse(frame, flexible)?;
        Ok((view.to_owned(), body_start))
    }

    /// The client id as text.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id
            .as_ref()
            .and_then(|id| std::str::from_utf8(id).ok())
    }
}

impl<'a> RequestHeaderView<'a> {
    /// Reads the header and says where the body starts.
    pub fn parse(
        frame: &'a [u8],
        flexible: bool,
    ) -> Result<(RequestHeaderView<'a>, usize), DecodeError> {
        let mut reader = Reader::new(frame);
        let header = RequestHeaderView {
            api_key: reader.i16()?,
            api_version: reader.i16()?,
            correlation_id: reader.i32()?,
            client_id: reader.nullable_string(false)?,
        };
        if flexible {
            reader.skip_tagged_fields()?;
        }
        Ok((header, reader.position()))
    }

    pub fn to_owned(&self) -> RequestHeader {
        RequestHeader {
            api_key: self.api_key,
            api_version: self.api_version,
            correlation_id: self.correlation_id,
            client_id: self
                .client_id
                .map(|id| Bytes::copy_from_slice(id.as_bytes())),
        }
    }
}

/// Writes a request header; `client_id` is at most `i16::MAX` bytes long or is cut.
pub fn write_request_header(
    buf: &mut BytesMut,
    (api_key, api_version): (i16, i16),
    correlation_id: i32,
    client_id: Option<&str>,
    flexible: bool,
) {
    buf.put_i16(api_key);
    buf.put_i16(api_version);
    buf.put_i32(correlation_id);
    crate::wire::put_nullable_string(buf, false, client_id);
    put_no_tags(buf, flexible);
}

/// Writes a response header; ask [`crate::api::response_header_is_flexible`] for the last argument.
pub fn write_response_header(buf: &mut BytesMut, correlation_id: i32, flexible: bool) {
    buf.put_i32(correlation_id);
    put_no_tags(buf, flexible);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(client_id: Option<&str>, flexible: bool) -> BytesMut {
        let mut buf = BytesMut::new();
        write_request_header(&mut buf, (3, 12), 77, client_id, flexible);
        buf
    }

    #[test]
    fn a_header_survives_write_and_parse() {
        for flexible in [false, true] {
            for client_id in [None, Some(""), Some("größe")] {
                let mut frame = frame(client_id, flexible);
                let end = frame.len();
                frame.extend_from_slice(b"body");
                let (header, body_start) = RequestHeader::parse(&frame, flexible).unwrap();
                assert_eq!(body_start, end);
                assert_eq!(header.client_id(), client_id);
                assert_eq!((header.api_key, header.api_version), (3, 12));
                assert_eq!(RequestHeader::peek_key_version(&frame), Ok((3, 12, 77)));
            }
        }
    }

    #[test]
    fn every_cut_header_is_an_error() {
        let frame = frame(Some("client"), true);
        for len in 0..frame.len() {
            let cut = RequestHeader::parse(&frame[..len], true);
            assert!(
                matches!(cut, Err(DecodeError::Truncated { .. })),
                "{len}: {cut:?}"
            );
        }
    }

    #[test]
    fn unknown_tags_are_skipped_but_must_ascend() {
        let mut good = frame(None, false);
        good.extend_from_slice(&[2, 0, 1, 9, 5, 0]);
        assert_eq!(RequestHeader::parse(&good, true).unwrap().1, good.len());
        let mut bad = frame(None, false);
        bad.extend_from_slice(&[2, 5, 0, 5, 0]);
        assert_eq!(
            RequestHeader::parse(&bad, true),
            Err(DecodeError::TagOrder { tag: 5 })
        );
    }

    #[test]
    fn a_client_id_must_be_utf8() {
        let mut frame = frame(Some("xx"), false);
        let end = frame.len();
        frame[end - 1] = 0xff;
        assert_eq!(
            RequestHeader::parse(&frame, false),
            Err(DecodeError::InvalidUtf8)
        );
    }
}
