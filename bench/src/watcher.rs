//! A consumer at the end of every partition: one fetch session over all of them (KIP-227), long
//! polls that find nothing, as the Java client makes them.

use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::spread::Topics;

/// Fetch v11 names topics and is not flexible.
const FETCH: i16 = 1;
const FETCH_VERSION: i16 = 11;
/// The default of `fetch.max.wait.ms`.
const MAX_WAIT_MS: i32 = 500;
const FETCH_BYTES: i32 = 50 << 20;
const PARTITION_BYTES: i32 = 1 << 20;

/// A session that asks again and again.
pub struct Watcher {
    stream: TcpStream,
    session: i32,
    epoch: i32,
}

impl Watcher {
    /// Opens the session with a full request, every partition from `offset` on.
    pub fn open(bootstrap: &str, topics: &Topics, offset: i64) -> Result<Watcher> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut watcher = Watcher {
            stream,
            session: 0,
            epoch: 0,
        };
        let names = topics.names();
        let asked: Vec<(&str, i32)> = names
            .iter()
            .map(|name| (name.as_str(), topics.partitions))
            .collect();
        watcher.ask(&asked, offset)?;
        ensure!(watcher.session != 0, "the broker keeps no session");
        Ok(watcher)
    }

    /// Asks for anything new, and waits as long as the broker lets it.
    pub fn poll(&mut self) -> Result<()> {
        self.ask(&[], 0)
    }

    fn ask(&mut self, topics: &[(&str, i32)], offset: i64) -> Result<()> {
        let frame = frame((self.session, self.epoch), topics, offset)?;
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        self.stream.read_exact(&mut body)?;
        // Correlation id, throttle time, then the error and the session.
        let at = |from: usize, to: usize| body.get(from..to).context("a short answer");
        let code = i16::from_be_bytes(at(8, 10)?.try_into()?);
        ensure!(code == 0, "fetch: error {code}");
        self.session = i32::from_be_bytes(at(10, 14)?.try_into()?);
        self.epoch += 1;
        Ok(())
    }
}

fn frame((session, epoch): (i32, i32), topics: &[(&str, i32)], offset: i64) -> Result<Bytes> {
    let client_id = b"ottla-bench";
    let mut buf = BytesMut::with_capacity(160);
    buf.put_i32(0);
    buf.put_i16(FETCH);
    buf.put_i16(FETCH_VERSION);
    buf.put_i32(1);
    buf.put_i16(i16::try_from(client_id.len())?);
    buf.put_slice(client_id);
    buf.put_i32(-1); // a consumer
    buf.put_i32(MAX_WAIT_MS);
    buf.put_i32(1); // min bytes
    buf.put_i32(FETCH_BYTES);
    buf.put_i8(0); // read uncommitted
    buf.put_i32(session);
    buf.put_i32(epoch);
    buf.put_i32(i32::try_from(topics.len())?);
    for (name, partitions) in topics {
        buf.put_i16(i16::try_from(name.len())?);
        buf.put_slice(name.as_bytes());
        buf.put_i32(*partitions);
        for partition in 0..*partitions {
            buf.put_i32(partition);
            buf.put_i32(-1); // no leader epoch
            buf.put_i64(offset);
            buf.put_i64(-1); // log start offset: followers only
            buf.put_i32(PARTITION_BYTES);
        }
    }
    buf.put_i32(0); // nothing forgotten
    buf.put_i16(0); // no rack
    let length = i32::try_from(buf.len() - 4)?;
    buf[..4].copy_from_slice(&length.to_be_bytes());
    Ok(buf.freeze())
}
