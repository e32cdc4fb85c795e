//! The compression codecs of record batches, each as a stream that cannot grow without bound.
//!
//! A [`Decompressor`] yields at most its limit and then fails; it never allocates the size a header
//! claims for the data. The codecs' own buffers are bounded too: a few LZ4 blocks of at most 4 MiB,
//! and for zstd a window of at most 128 MiB of which only what is written becomes resident.
//! Framing is Kafka's: a gzip stream, an LZ4 frame, a zstd frame whose window is at most
//! 128 MiB, and for snappy either the framing of the xerial library (Java) or one raw block.

use std::io::{self, BufRead, BufReader, Read, Write};

use bytes::{BufMut, BytesMut};

use crate::batch::Compression;

/// zstd frames may ask for a window of 2^27 bytes, as the highest level of its encoder does.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The level zstd calls its default.
const ZSTD_LEVEL: i32 = 3;
/// The block of xerial's writer.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// A snappy element of three bytes copies at most 64: a block cannot claim more than this ratio.
const SNAPPY_RATIO_MAX: usize = 64;
const BUFFER_BYTES: usize = 16 * 1024;

/// Appends `input` to `out`, compressed.
pub(crate) fn compress(codec: Compression, input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    match codec {
        Compression::None => out.put_slice(input),
        Compression::Gzip => {
            let level = flate2::Compression::default();
            let mut encoder = flate2::write::GzEncoder::new(out.writer(), level);
            encoder.write_all(input)?;
            encoder.finish()?;
        }
        Compression::Snappy => compress_snappy(input, out)?,
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_size(lz4_flex::frame::BlockSize::Max64KB)
                .block_mode(lz4_flex::frame::BlockMode::Independent);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out.writer());
            encoder.write_all(input)?;
            encoder.finish()?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::stream::write::Encoder::new(out.writer(), ZSTD_LEVEL)?;
            encoder.write_all(input)?;
            encoder.finish()?;
        }
    }
    Ok(())
}

fn compress_snappy(input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    let mut encoder = snap::raw::Encoder::new();
    let mut block = vec![0; snap::raw::max_compress_len(SNAPPY_BLOCK_BYTES)];
    out.put_slice(XERIAL_HEADER);
    for chunk in input.chunks(SNAPPY_BLOCK_BYTES) {
        let len = encoder.compress(chunk, &mut block)?;
        out.put_i32(len as i32);
        out.put_slice(&block[..len]);
    }
    Ok(())
}

/// The plain bytes of a compressed block, up to a limit.
pub(crate) struct Decompressor<'a> {
    reader: BufReader<Limited<Box<dyn Read + Send + 'a>>>,
}

impl<'a> Decompressor<'a> {
    pub(crate) fn new(codec: Compression, input: &'a [u8], limit: u64) -> io::Result<Self> {
        let inner: Box<dyn Read + Send + 'a> = match codec {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Snappy => Box::new(SnappyReader::new(input)),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        };
        let limited = Limited {
            inner,
            left: limit,
            exceeded: false,
        };
        Ok(Decompressor {
            reader: BufReader::with_capacity(BUFFER_BYTES, limited),
        })
    }

    /// True if reading failed because there was more than the limit.
    pub(crate) fn exceeded(&self) -> bool {
        self.reader.get_ref().exceeded
    }

    /// The next byte, or `None` at the end.
    pub(crate) fn byte(&mut self) -> io::Result<Option<u8>> {
        let byte = self.reader.fill_buf()?.first().copied();
        if byte.is_some() {
            self.reader.consume(1);
        }
        Ok(byte)
    }

    /// Replaces `into` by the next `len` bytes. The buffer grows as they arrive.
    pub(crate) fn fill(&mut self, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        let read = (&mut self.reader).take(len as u64).read_to_end(into)?;
        if read < len {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }
}

/// Fails as soon as the reader inside has yielded more than allowed.
struct Limited<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buf)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                self.exceeded = true;
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(read)
    }
}

/// Snappy blocks, one at a time: a block is at most 64 times the bytes it was read from.
struct SnappyReader<'a> {
    input: &'a [u8],
    framed: bool,
    block: Vec<u8>,
    position: usize,
}

impl<'a> SnappyReader<'a> {
    fn new(input: &'a [u8]) -> Self {
        let framed = input.starts_with(XERIAL_MAGIC);
        let input = if framed {
            input.get(XERIAL_HEADER.len()..).unwrap_or(&[])
        } else {
            input
        };
        SnappyReader {
            input,
            framed,
            block: Vec::new(),
            position: 0,
        }
    }

    fn next_block(&mut self) -> io::Result<()> {
        let compressed = if self.framed {
            let (len, rest) = self
                .input
                .split_first_chunk()
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let len = u32::from_be_bytes(*len) as usize;
            let block = rest.get(..len).ok_or(io::ErrorKind::UnexpectedEof)?;
            self.input = &rest[len..];
            block
        } else {
            std::mem::take(&mut self.input)
        };
        let len = snap::raw::decompress_len(compressed)?;
        if len > compressed.len().saturating_mul(SNAPPY_RATIO_MAX) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.position = 0;
        self.block.clear();
        self.block.resize(len, 0);
        snap::raw::Decoder::new().decompress(compressed, &mut self.block)?;
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.position == self.block.len() {
            if self.input.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let rest = &self.block[self.position..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        Ok(len)
    }
}
