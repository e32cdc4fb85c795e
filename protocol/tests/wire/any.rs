//! Decodes a message known only by its API key.
//!
//! Not part of the crate: the code of 174 message types belongs into no broker.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message};
use ottla_protocol::DecodeError;
use ottla_protocol::guard::{Budget, check_request, check_response};
use ottla_protocol::messages::*;

/// A decoded message of any type.
pub(crate) trait AnyMessage: Debug {
    /// The body in the given version.
    fn encode_body(&self, key: i16, version: i16) -> Option<Bytes>;
}

impl<T: Message + Encodable + Debug> AnyMessage for T {
    fn encode_body(&self, key: i16, version: i16) -> Option<Bytes> {
        let mut buf = BytesMut::new();
        let version = struct_version::<T>(key, version);
        self.encode(&mut buf, version).ok()?;
        Some(buf.freeze())
    }
}

fn decode<T: Message + Decodable + Encodable + Debug + 'static>(
    key: i16,
    mut body: Bytes,
    version: i16,
) -> Result<Box<dyn AnyMessage>, DecodeError> {
    match T::decode(&mut body, struct_version::<T>(key, version)) {
        Ok(message) => Ok(Box::new(message)),
        Err(_) => Err(DecodeError::Codec),
    }
}

macro_rules! decode_any {
    ($($key:literal $name:ident $request:ident $response:ident;)*) => {
        /// Checks and decodes the body of a request.
        pub(crate) fn decode_any_request(
            key: i16,
            version: i16,
            body: Bytes,
            budget: &Budget,
        ) -> Result<Box<dyn AnyMessage>, DecodeError> {
            check_request(key, version, &body, budget)?;
            match key {
                $($key => decode::<$request>(key, body, version),)*
                _ => Err(DecodeError::UnknownApi { key }),
            }
        }

        /// Checks and decodes the body of a response.
        pub(crate) fn decode_any_response(
            key: i16,
            version: i16,
            body: Bytes,
            budget: &Budget,
        ) -> Result<Box<dyn AnyMessage>, DecodeError> {
            check_response(key, version, &body, budget)?;
            match key {
                $($key => decode::<$response>(key, body, version),)*
                _ => Err(DecodeError::UnknownApi { key }),
            }
        }
    };
}
ottla_protocol::for_each_api!(decode_any);
