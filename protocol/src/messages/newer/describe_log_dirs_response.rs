//! DescribeLogDirsResponse: version 5 tells which directories take no new partitions.

use anyhow::Result;
use bytes::{BufMut, BytesMut};
pub use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsTopic,
};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Message, StrBytes, VersionRange,
};

use super::{Body, known, message, put_array, put_parts, setters};
use crate::wire::{put_no_tags, put_string};

/// The last version of the parts that are kafka-protocol's.
const PARTS: i16 = 4;
const ERROR_FROM: i16 = 3;
const VOLUME_FROM: i16 = 4;
const CORDONED_FROM: i16 = 5;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeLogDirsResponse {
    pub throttle_time_ms: i32,
    /// From version 3.
    pub error_code: i16,
    pub results: Vec<DescribeLogDirsResult>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DescribeLogDirsResult {
    pub error_code: i16,
    pub log_dir: StrBytes,
    pub topics: Vec<DescribeLogDirsTopic>,
    /// From version 4.
    pub total_bytes: i64,
    /// From version 4.
    pub usable_bytes: i64,
    /// From version 5.
    pub is_cordoned: bool,
}

setters!(DescribeLogDirsResponse {
    with_throttle_time_ms throttle_time_ms: i32,
    with_error_code error_code: i16,
    with_results results: Vec<DescribeLogDirsResult>,
});

setters!(DescribeLogDirsResult {
    with_error_code error_code: i16,
    with_log_dir log_dir: StrBytes,
    with_topics topics: Vec<DescribeLogDirsTopic>,
    with_total_bytes total_bytes: i64,
    with_usable_bytes usable_bytes: i64,
    with_is_cordoned is_cordoned: bool,
});

message!(DescribeLogDirsResponse, 1 - 5, flexible from 2, header 0);

impl Default for DescribeLogDirsResult {
    fn default() -> DescribeLogDirsResult {
        DescribeLogDirsResult {
            error_code: 0,
            log_dir: StrBytes::default(),
            topics: Vec::new(),
            total_bytes: -1,
            usable_bytes: -1,
            is_cordoned: false,
        }
    }
}

impl DescribeLogDirsResponse {
    fn read(body: &mut Body, version: i16) -> Result<DescribeLogDirsResponse> {
        let mut response = DescribeLogDirsResponse {
            throttle_time_ms: body.i32()?,
            ..DescribeLogDirsResponse::default()
        };
        if version >= ERROR_FROM {
            response.error_code = body.i16()?;
        }
        response.results = body.array(|body| DescribeLogDirsResult::read(body, version))?;
        body.tags()?;
        Ok(response)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        out.put_i32(self.throttle_time_ms);
        if version >= ERROR_FROM {
            out.put_i16(self.error_code);
        }
        put_array(out, flexible, &self.results, |out, result| {
            result.write(out, flexible, version)
        })?;
        put_no_tags(out, flexible);
        Ok(())
    }
}

impl DescribeLogDirsResult {
    fn read(body: &mut Body, version: i16) -> Result<DescribeLogDirsResult> {
        let mut result = DescribeLogDirsResult {
            error_code: body.i16()?,
            log_dir: body.string()?,
            topics: body.array(|body| body.part(version.min(PARTS)))?,
            ..DescribeLogDirsResult::default()
        };
        if version >= VOLUME_FROM {
            result.total_bytes = body.i64()?;
            result.usable_bytes = body.i64()?;
        }
        if version >= CORDONED_FROM {
            result.is_cordoned = body.bool()?;
        }
        body.tags()?;
        Ok(result)
    }

    fn write(&self, out: &mut BytesMut, flexible: bool, version: i16) -> Result<()> {
        out.put_i16(self.error_code);
        put_string(out, flexible, &self.log_dir);
        put_parts(out, flexible, &self.topics, version.min(PARTS))?;
        if version >= VOLUME_FROM {
            out.put_i64(self.total_bytes);
            out.put_i64(self.usable_bytes);
        }
        if version >= CORDONED_FROM {
            out.put_u8(self.is_cordoned.into());
        }
        put_no_tags(out, flexible);
        Ok(())
    }
}
