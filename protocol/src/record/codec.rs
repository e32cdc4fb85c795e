//! The compression codecs of record batches, each as a stream that cannot grow without bound.
//!
//! A [`Decompressor`] yields at most its limit and then fails; it never allocates the size a header
//! claims for the data. The codecs' own buffers are bounded too: a few LZ4 blocks of at most 4 MiB,
//! and for zstd a window of at most 128 MiB of which only what is written becomes resident.
//! Framing is Kafka's: a gzip stream, an LZ4 frame, a zstd frame whose window is at most
//! 128 MiB, and for snappy either the framing of the xerial library (Java) or one raw block.

use std::io::{self, BufRead, BufReader, Read, Write};

use bytes::{BufMut, BytesMut};

use super::RecordLimits;
use crate::batch::Compression;

/// zstd frames may ask for a window of 2^27 bytes, as the highest level of its encoder does.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// Up to this window, which levels up to 19 stay within, a stream may expand as far as any other;
/// beyond, the whole window could become resident.
const ZSTD_PLAIN_WINDOW_LOG_MAX: u32 = 23;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// What we write has a window of 2 MiB at most: an encoder of the highest levels would otherwise
/// take a gigabyte for a batch that is rarely larger than one.
const ZSTD_WRITE_WINDOW_LOG_MAX: u32 = 21;
/// From this level on, zstd's own choice of a window is larger.
const ZSTD_WIDE_LEVEL: i32 = 6;
/// The block of xerial's writer.
const SNAPPY_BLOCK_BYTES: usize = 32 * 1024;
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER: &[u8; 16] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// A snappy element of three bytes copies at most 64: a block cannot claim more than this ratio.
const SNAPPY_RATIO_MAX: usize = 22;
const BUFFER_BYTES: usize = 16 * 1024;

/// A codec and how hard it tries, as `compression.type` and the keys of its level say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codec {
    pub compression: Compression,
    /// In the codec's own terms; of no meaning for those that have none.
    pub level: i32,
}

impl Codec {
    pub const GZIP_LEVEL: i32 = -1;
    /// Kafka's default, which stands for LZ4's fast compressor; any other level is one of the
    /// slower compressor.
    pub const LZ4_LEVEL: i32 = 9;
    pub const ZSTD_LEVEL: i32 = 3;

    /// With the level that Kafka's clients use when none is configured.
    pub fn of(compression: Compression) -> Codec {
        let level = match compression {
            Compression::Gzip => Codec::GZIP_LEVEL,
            Compression::Lz4 => Codec::LZ4_LEVEL,
            Compression::Zstd => Codec::ZSTD_LEVEL,
            Compression::None | Compression::Snappy => 0,
        };
        Codec { compression, level }
    }
}

/// A batch that grows at its end, up to a limit.
pub(crate) struct Output<'o> {
    bytes: &'o mut BytesMut,
    limit: usize,
    exceeded: bool,
}

impl<'o> Output<'o> {
    pub(crate) fn new(bytes: &'o mut BytesMut, limit: usize) -> Output<'o> {
        Output {
            bytes,
            limit,
            exceeded: false,
        }
    }

    /// True if writing failed because there was no room.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded
    }
}

impl Write for Output<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + buf.len() > self.limit {
            self.exceeded = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.put_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what it is given, compressed.
pub(crate) enum Compressor<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Snappy(Box<SnappyWriter<W>>),
    Lz4Fast(Box<lz4_flex::frame::FrameEncoder<W>>),
    Lz4High(lz4::Encoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    pub(crate) fn new(codec: Codec, out: W) -> io::Result<Compressor<W>> {
        Ok(match codec.compression {
            Compression::None => Compressor::Plain(out),
            Compression::Gzip => Compressor::Gzip(flate2::write::GzEncoder::new(
                out,
                match u32::try_from(codec.level) {
                    Ok(level) => flate2::Compression::new(level.min(9)),
                    Err(_) => flate2::Compression::default(),
                },
            )),
            Compression::Snappy => Compressor::Snappy(Box::new(SnappyWriter::new(out)?)),
            Compression::Lz4 if codec.level == Codec::LZ4_LEVEL => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .block_size(lz4_flex::frame::BlockSize::Max64KB)
                    .block_mode(lz4_flex::frame::BlockMode::Independent);
                Compressor::Lz4Fast(Box::new(lz4_flex::frame::FrameEncoder::with_frame_info(
                    info, out,
                )))
            }
            Compression::Lz4 => Compressor::Lz4High(
                lz4::EncoderBuilder::new()
                    .block_size(lz4::BlockSize::Max64KB)
                    .block_mode(lz4::BlockMode::Independent)
                    .checksum(lz4::ContentChecksum::NoChecksum)
                    // Below, a frame would be written by the fast compressor.
                    .level(u32::try_from(codec.level).unwrap_or(0).clamp(3, 12))
                    .build(out)?,
            ),
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(out, codec.level)?;
                if codec.level >= ZSTD_WIDE_LEVEL {
                    encoder.window_log(ZSTD_WRITE_WINDOW_LOG_MAX)?;
                }
                Compressor::Zstd(encoder)
            }
        })
    }

    /// Writes what is still held back, and the end of the stream.
    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Compressor::Plain(_) => {}
            Compressor::Gzip(encoder) => drop(encoder.finish()?),
            Compressor::Snappy(mut writer) => writer.write_block()?,
            Compressor::Lz4Fast(encoder) => drop(encoder.finish()?),
            Compressor::Lz4High(encoder) => encoder.finish().1?,
            Compressor::Zstd(encoder) => drop(encoder.finish()?),
        }
        Ok(())
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Compressor::Plain(out) => out.write(buf),
            Compressor::Gzip(encoder) => encoder.write(buf),
            Compressor::Snappy(writer) => writer.write(buf),
            Compressor::Lz4Fast(encoder) => encoder.write(buf),
            Compressor::Lz4High(encoder) => encoder.write(buf),
            Compressor::Zstd(encoder) => encoder.write(buf),
        }
    }

    /// Nothing: a block is written when it is full, or at the end.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Appends `input` to `out`, compressed.
pub(crate) fn compress(codec: Codec, input: &[u8], out: &mut BytesMut) -> io::Result<()> {
    let mut output = Output::new(out, usize::MAX);
    let mut compressor = Compressor::new(codec, &mut output)?;
    compressor.write_all(input)?;
    compressor.finish()
}

/// The framing of the xerial library: blocks of 32 KiB, each with its length.
pub(crate) struct SnappyWriter<W> {
    out: W,
    encoder: snap::raw::Encoder,
    plain: Vec<u8>,
    block: Vec<u8>,
}

impl<W: Write> SnappyWriter<W> {
    fn new(mut out: W) -> io::Result<SnappyWriter<W>> {
        out.write_all(XERIAL_HEADER)?;
        Ok(SnappyWriter {
            out,
            encoder: snap::raw::Encoder::new(),
            plain: Vec::with_capacity(SNAPPY_BLOCK_BYTES),
            block: vec![0; snap::raw::max_compress_len(SNAPPY_BLOCK_BYTES)],
        })
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        let len = self.encoder.compress(&self.plain, &mut self.block)?;
        self.plain.clear();
        self.out.write_all(&(len as i32).to_be_bytes())?;
        self.out.write_all(&self.block[..len])
    }
}

impl<W: Write> Write for SnappyWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = SNAPPY_BLOCK_BYTES - self.plain.len();
        let taken = buf.len().min(room);
        self.plain.extend_from_slice(&buf[..taken]);
        if taken == room {
            self.write_block()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The plain bytes of a compressed block, up to a limit.
pub(crate) struct Decompressor<'a> {
    limit_bytes: u64,
    reader: BufReader<Limited<Box<dyn Read + Send + 'a>>>,
}

impl<'a> Decompressor<'a> {
    pub(crate) fn new(
        codec: Compression,
        input: &'a [u8],
        limits: RecordLimits,
    ) -> io::Result<Self> {
        let mut limit = limits.for_compressed(input.len());
        let inner: Box<dyn Read + Send + 'a> = match codec {
            Compression::None => Box::new(input),
            Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Compression::Snappy => Box::new(SnappyReader::new(input)),
            Compression::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                match zstd_window_log(input) > ZSTD_PLAIN_WINDOW_LOG_MAX {
                    true => {
                        limit = limits.plain_bytes;
                        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                    }
                    false => decoder.window_log_max(ZSTD_PLAIN_WINDOW_LOG_MAX)?,
                }
                Box::new(decoder)
            }
        };
        let limited = Limited {
            inner,
            left: limit,
            exceeded: false,
        };
        Ok(Decompressor {
            limit_bytes: limit,
            reader: BufReader::with_capacity(BUFFER_BYTES, limited),
        })
    }

    /// What it yields at most.
    pub(crate) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
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

    /// What is at hand of the plain bytes; empty at the end.
    pub(crate) fn chunk(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    /// So many bytes of the chunk are read.
    pub(crate) fn consume(&mut self, len: usize) {
        self.reader.consume(len);
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

/// The window that the first frame asks for, as a power of two; 0 when there is no frame.
fn zstd_window_log(input: &[u8]) -> u32 {
    let Some((descriptor, rest)) = input
        .strip_prefix(&ZSTD_MAGIC)
        .and_then(<[u8]>::split_first)
    else {
        return 0;
    };
    let single_segment = descriptor & 1 << 5 != 0;
    if !single_segment {
        let window = u32::from(rest.first().copied().unwrap_or(0));
        return 10 + (window >> 3) + u32::from(window & 7 != 0);
    }
    // The window is the content itself; its size follows the id of a dictionary.
    let dictionary = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = 1usize << (descriptor >> 6);
    let size = rest.get(dictionary..dictionary + size_bytes).unwrap_or(&[]);
    let size = size
        .iter()
        .rev()
        .fold(0u64, |size, byte| size << 8 | u64::from(*byte));
    64 - size.saturating_add(256).leading_zeros()
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
