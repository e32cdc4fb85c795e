//! The one door to the message structs of kafka-protocol.
//!
//! That crate trusts lengths from the wire, so its decoders are called here and nowhere else, after
//! the guard has walked the body. Bytes after the last field are ignored, as Kafka does: clients in
//! wide use send some. Record batches, Produce and Fetch have their own codecs in this crate, and
//! messages that have a version which kafka-protocol lacks have their struct in `newer.rs`.

use std::any::Any;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

pub use kafka_protocol::messages::*;
pub use kafka_protocol::protocol::{Request, StrBytes};
// These take the place of their namesakes.
pub use newer::add_raft_voter_request::{self, AddRaftVoterRequest};
pub use newer::describe_log_dirs_request::{self, DescribeLogDirsRequest};
pub use newer::describe_log_dirs_response::{self, DescribeLogDirsResponse};
pub use newer::offset_commit_request::{self, OffsetCommitRequest};
pub use newer::offset_commit_response::{self, OffsetCommitResponse};
pub use newer::offset_fetch_request::{self, OffsetFetchRequest};
pub use newer::offset_fetch_response::{self, OffsetFetchResponse};
pub use newer::{has_same_bytes, struct_version};

use crate::api;
use crate::error::{DecodeError, EncodeError};
use crate::frame::FRAME_LEN_BYTES;
use crate::guard::{Budget, check_request, check_response};
use crate::header::{write_request_header, write_response_header};
use crate::wire::Reader;

mod newer;
mod table;

/// A response struct of one API.
pub trait Response: Message + Encodable + Decodable + HeaderVersion + Any {
    /// The API key it answers.
    const KEY: i16;
}

macro_rules! responses {
    ($($key:literal $name:ident $request:ident $response:ident;)*) => {
        $(impl Response for $response {
            const KEY: i16 = $key;
        })*
    };
}
crate::for_each_api!(responses);

/// Checks and decodes a request's body.
pub fn decode_request<R: Request>(body: Bytes, version: i16) -> Result<R, DecodeError> {
    check_request(R::KEY, version, &body, &Budget::default())?;
    decode_guarded(body, struct_version::<R>(R::KEY, version))
}

/// Checks and decodes a response frame (without its length): correlation id and body.
pub fn decode_response<R: Response>(
    mut frame: Bytes,
    version: i16,
) -> Result<(i32, R), DecodeError> {
    let mut reader = Reader::new(&frame);
    let correlation_id = reader.i32()?;
    if api::response_header_is_flexible(R::KEY, version) {
        reader.skip_tagged_fields()?;
    }
    let body_start = reader.position();
    let body = frame.split_off(body_start);
    check_response(R::KEY, version, &body, &Budget::default())?;
    let version = struct_version::<R>(R::KEY, version);
    Ok((correlation_id, decode_guarded(body, version)?))
}

/// The guard has accepted the body, so a refusal here is a fault of the guard.
fn decode_guarded<T: Decodable>(mut body: Bytes, version: i16) -> Result<T, DecodeError> {
    T::decode(&mut body, version).map_err(|_| DecodeError::Codec)
}

/// Writes a whole response frame: length, header and body.
pub fn encode_response<R: Response>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> Result<Bytes, EncodeError> {
    if has_null_records(response) {
        return Err(EncodeError::NullRecords);
    }
    let flexible = api::response_header_is_flexible(R::KEY, version);
    encode_frame(R::KEY, version, response, |buf| {
        write_response_header(buf, correlation_id, flexible);
    })
}

fn has_null_records(response: &dyn Any) -> bool {
    response
        .downcast_ref::<FetchResponse>()
        .is_some_and(|fetch| {
            let partitions = fetch.responses.iter().flat_map(|topic| &topic.partitions);
            partitions
                .into_iter()
                .any(|partition| partition.records.is_none())
        })
}

/// Writes a whole request frame: length, header and body.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: &str,
    version: i16,
    request: &R,
) -> Result<Bytes, EncodeError> {
    let flexible = api::request_is_flexible(R::KEY, version);
    encode_frame(R::KEY, version, request, |buf| {
        let client_id = Some(client_id);
        write_request_header(buf, (R::KEY, version), correlation_id, client_id, flexible);
    })
}

/// A header is small unless the client id is long.
const HEADER_BYTES: usize = 64;

fn encode_frame<T: Message + Encodable>(
    key: i16,
    version: i16,
    message: &T,
    header: impl FnOnce(&mut BytesMut),
) -> Result<Bytes, EncodeError> {
    let refused = |_| EncodeError::NotInVersion { key, version };
    let body_version = struct_version::<T>(key, version);
    let body_bytes = message.compute_size(body_version).map_err(refused)?;
    let mut buf = BytesMut::with_capacity(FRAME_LEN_BYTES + HEADER_BYTES + body_bytes);
    buf.put_i32(0);
    header(&mut buf);
    message.encode(&mut buf, body_version).map_err(refused)?;
    let size_bytes = buf.len() - FRAME_LEN_BYTES;
    let len = i32::try_from(size_bytes).map_err(|_| EncodeError::TooLarge { size_bytes })?;
    buf[..FRAME_LEN_BYTES].copy_from_slice(&len.to_be_bytes());
    Ok(buf.freeze())
}
