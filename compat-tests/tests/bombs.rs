//! Small batches that expand to gigabytes: refused as invalid records, in bounded memory, while
//! others are served.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::batch::{self, Batch, Rec};
use ottla_compat_tests::broker::Broker;
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{Bytes, Raw};
use std::io::Write as _;

/// What a batch may have at most, less its header and a little.
const BATCH_BYTES: usize = (1 << 20) - 100;
/// What the process may take with all the bombs.
const RESIDENT_BYTES_MAX: u64 = 100 << 20;
const SENDERS: usize = 4;

/// The beginning of a record whose value is as long as a length can say.
fn endless_record() -> Vec<u8> {
    let length = i64::from(i32::MAX) - 100;
    let head = Bytes::default().varint(length).i8(0).varint(0).varint(0);
    head.varint(-1).varint(length - 20).0
}

fn gzip() -> Result<(Vec<u8>, u64)> {
    let member = |plain: &[&[u8]]| -> Result<Vec<u8>> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        for part in plain {
            encoder.write_all(part)?;
        }
        Ok(encoder.finish()?)
    };
    let zeros = vec![0; 16 << 20];
    let mut stream = member(&[&endless_record(), &zeros])?;
    let more = member(&[&zeros])?;
    let mut plain = zeros.len() as u64;
    while stream.len() + more.len() < BATCH_BYTES {
        stream.extend(&more);
        plain += zeros.len() as u64;
    }
    Ok((stream, plain))
}

fn snappy() -> Result<(Vec<u8>, u64)> {
    let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
    let mut plain = 0;
    let mut push = |bytes: &[u8]| -> Result<bool> {
        let block = snap::raw::Encoder::new().compress_vec(bytes)?;
        if stream.len() + block.len() + 4 > BATCH_BYTES {
            return Ok(false);
        }
        stream.extend((block.len() as i32).to_be_bytes());
        stream.extend(block);
        plain += bytes.len() as u64;
        Ok(true)
    };
    push(&endless_record())?;
    let zeros = vec![0; 4 << 20];
    while push(&zeros)? {}
    Ok((stream, plain))
}

fn lz4() -> Result<(Vec<u8>, u64)> {
    let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max4MB);
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&endless_record())?;
    let zeros = vec![0; 4 << 20];
    let mut plain = 0;
    while encoder.get_ref().len() + (40 << 10) < BATCH_BYTES {
        encoder.write_all(&zeros)?;
        plain += zeros.len() as u64;
    }
    Ok((encoder.finish()?, plain))
}

/// Blocks that repeat one byte, in a frame that asks for the largest window.
fn zstd() -> Result<(Vec<u8>, u64)> {
    const BLOCK_BYTES: u32 = 128 << 10;
    const WINDOW_OF_128_MIB: u8 = 17 << 3;
    let start = endless_record();
    let mut stream = vec![0x28, 0xb5, 0x2f, 0xfd, 0, WINDOW_OF_128_MIB];
    let block = |kind: u32, size: u32| ((size << 3) | (kind << 1)).to_le_bytes();
    stream.extend(&block(0, start.len() as u32)[..3]);
    stream.extend(&start);
    let mut plain = 0;
    while stream.len() + 4 < BATCH_BYTES {
        stream.extend(&block(1, BLOCK_BYTES)[..3]);
        stream.push(0);
        plain += u64::from(BLOCK_BYTES);
    }
    Ok((stream, plain))
}

/// The most memory the process ever had.
fn peak_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(kb.context("a peak")?.parse::<u64>()? * 1024)
}

#[test]
fn bombs_of_every_codec_are_refused_in_bounded_memory() -> Result<()> {
    let mut broker = Broker::start_ours(|settings| settings)?;
    let bootstrap = broker.bootstrap().to_owned();
    let topics = [
        ("strict", ("ottla.validation", "strict")),
        ("compacted", ("cleanup.policy", "compact")),
        ("to-lz4", ("compression.type", "lz4")),
        ("to-gzip", ("compression.type", "gzip")),
        ("to-zstd", ("compression.type", "zstd")),
        ("to-plain", ("compression.type", "uncompressed")),
    ];
    for (topic, setting) in topics {
        client::create_topic(&bootstrap, topic, 1, &[setting])?;
    }
    let idle = peak_bytes(broker.pid()?)?;
    let bombs = [(1, gzip()?), (2, snappy()?), (3, lz4()?), (4, zstd()?)];
    for (codec, (stream, plain)) in bombs {
        let mut bomb = Batch::new(0, &[Rec::default()])?;
        (bomb.attributes, bomb.records) = (codec, stream);
        let bytes = bomb.bytes();
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..SENDERS)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let mut connection = Raw::connect(&bootstrap)?;
                        for (topic, (key, _)) in topics {
                            if codec == 3 && topic == "to-lz4" || codec == 1 && topic == "to-gzip" {
                                continue; // stored as it is, and never opened
                            }
                            if codec == 4 && topic == "to-zstd" {
                                continue;
                            }
                            let answer = batch::produce(&mut connection, topic, &bytes)?;
                            // It is too large for its topic long before it is too large to open.
                            let expected = if topic == "to-plain" { 10 } else { 87 };
                            let what = format!("{codec} to {topic} ({key}): {answer:?}");
                            ensure!(answer.error == expected, what);
                        }
                        Ok(())
                    })
                })
                .collect();
            for sender in senders {
                sender.join().expect("senders do not panic")?;
            }
            anyhow::Ok(())
        })?;
        let peak = peak_bytes(broker.pid()?)?;
        println!(
            "codec {codec}: {} bytes for {} MiB; at most {} MiB resident, {} when idle",
            bytes.len(),
            plain >> 20,
            peak >> 20,
            idle >> 20
        );
        ensure!(
            peak < RESIDENT_BYTES_MAX,
            "codec {codec}: {} MiB",
            peak >> 20
        );
    }
    broker.assert_alive()
}
