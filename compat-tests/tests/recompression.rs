//! Topics with a codec of their own: the same batches go to Ottla and to Apache Kafka, and what
//! both have stored is compared field by field. Then batches that must be refused.

use anyhow::{Context as _, Result, ensure};
use ottla_compat_tests::batch::{self, Batch, CODECS, Produced, Rec};
use ottla_compat_tests::broker::Broker;
use ottla_compat_tests::rust_client as client;
use ottla_compat_tests::wire::{Bytes, Raw};

/// The levels that are worth a topic of their own.
const LEVELS: [(&str, &str, &str); 6] = [
    ("gzip", "compression.gzip.level", "1"),
    ("gzip", "compression.gzip.level", "9"),
    ("lz4", "compression.lz4.level", "1"),
    ("lz4", "compression.lz4.level", "17"),
    ("zstd", "compression.zstd.level", "-7"),
    ("zstd", "compression.zstd.level", "22"),
];

const LOG_APPEND_TIME: i16 = 1 << 3;
/// Far enough for two brokers that are asked one after the other on a busy machine.
const CLOCKS_MS: i64 = 120_000;

struct Side {
    name: &'static str,
    broker: Broker,
    connection: Raw,
}

impl Side {
    fn new(name: &'static str, broker: Broker) -> Result<Side> {
        let connection = Raw::connect(broker.bootstrap())?;
        Ok(Side {
            name,
            broker,
            connection,
        })
    }

    fn create(&self, topic: &str, settings: &[(&str, &str)]) -> Result<()> {
        client::create_topic(self.broker.bootstrap(), topic, 1, settings)?;
        client::wait_for_topic(self.broker.bootstrap(), topic)
    }

    fn produce(&mut self, topic: &str, bytes: &[u8]) -> Result<Produced> {
        // A leader that is not elected yet is asked again.
        for _ in 0..50 {
            let produced = batch::produce(&mut self.connection, topic, bytes)?;
            if ![3, 5, 6].contains(&produced.error) {
                return Ok(produced);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        anyhow::bail!("{}: {topic} has no leader", self.name)
    }
}

fn both() -> Result<[Side; 2]> {
    let ours = Broker::start_ours(|settings| settings)?;
    let kafka = Broker::start_apache_kafka(&[])?;
    Ok([Side::new("ottla", ours)?, Side::new("kafka", kafka)?])
}

fn record(index: i64) -> Rec {
    Rec {
        timestamp_delta: index,
        key: Some(format!("key-{}", index % 3).into_bytes()),
        value: Some(format!("value {index} ").repeat(20).into_bytes()),
        ..Rec::default()
    }
}

/// Batches that both brokers must take, with what is special about each.
fn accepted(codec: i16) -> Result<Vec<(String, Batch)>> {
    let ordinary: Vec<Rec> = (0..50).map(record).collect();
    let mut odd = vec![record(0), record(-5_000), record(30), record(7)];
    odd[1].key = None;
    odd[2].value = None;
    odd[2].key = Some(Vec::new());
    odd[3].headers = vec![
        (b"same".to_vec(), Some(b"1".to_vec())),
        (b"same".to_vec(), None),
        (Vec::new(), Some(Vec::new())),
    ];
    let mut based = Batch::new(codec, &(3..9).map(record).collect::<Vec<_>>())?;
    // The first record is not at the base timestamp, and the header is wrong about the last.
    based.max_timestamp += 12_345;
    // As aiokafka does: a sequence, and no producer.
    let mut sequenced = Batch::new(codec, &ordinary[..2])?;
    sequenced.base_sequence = 0;
    let mut idempotent = Batch::new(codec, &ordinary[..5])?;
    (idempotent.producer_id, idempotent.producer_epoch) = (4_711, 0);
    idempotent.base_sequence = 0;
    let mut later = Batch::new(codec, &ordinary[5..9])?;
    (later.producer_id, later.producer_epoch) = (4_711, 0);
    later.base_sequence = 5;
    let mut timeless = Batch::new(codec, &[Rec::default(), Rec::default()])?;
    (timeless.base_timestamp, timeless.max_timestamp) = (-1, -1);
    let large: Vec<Rec> = (0..3_000).map(record).collect();
    let named = [
        ("ordinary", Batch::new(codec, &ordinary)?),
        ("one record", Batch::new(codec, &[Rec::default()])?),
        (
            "nulls, headers, times that go back",
            Batch::new(codec, &odd)?,
        ),
        ("another base, a wrong maximum", based),
        ("a sequence without a producer", sequenced),
        ("a producer", idempotent.clone()),
        ("its next batch", later),
        ("its first batch again", idempotent),
        ("no timestamps", timeless),
        ("large", Batch::new(codec, &large)?),
    ];
    Ok(named.map(|(name, batch)| (name.to_owned(), batch)).into())
}

fn topics() -> Vec<(String, Vec<(&'static str, &'static str)>)> {
    let mut topics = Vec::new();
    for (_, codec) in CODECS.into_iter().chain([(9, "producer")]) {
        for time in ["CreateTime", "LogAppendTime"] {
            let settings = vec![
                ("compression.type", codec),
                ("message.timestamp.type", time),
                // Kafka validates everything always; here it is asked for.
                ("ottla.validation", "strict"),
            ];
            topics.push((format!("{codec}-{time}"), settings));
        }
    }
    for (codec, key, level) in LEVELS {
        let name = format!("{codec}-level{}", level.replace('-', "minus"));
        let strict = ("ottla.validation", "strict");
        topics.push((
            name,
            vec![("compression.type", codec), (key, level), strict],
        ));
    }
    topics
}

/// Both stored the same; where the codec leaves no choice, byte for byte.
fn compare(topic: &str, ours: &Batch, kafkas: &Batch) -> Result<()> {
    let (mut left, mut right) = (ours.clone(), kafkas.clone());
    // The two have led for different times.
    (left.leader_epoch, right.leader_epoch) = (0, 0);
    if left.attributes & LOG_APPEND_TIME != 0 {
        let apart = (left.max_timestamp - right.max_timestamp).abs();
        ensure!(apart < CLOCKS_MS, "{topic}: append times {apart} ms apart");
        (left.max_timestamp, right.max_timestamp) = (0, 0);
    }
    if left.attributes & 7 != 0 {
        // Two compressors make different bytes of the same records; a consumer compares those.
        (left.records, right.records) = (Vec::new(), Vec::new());
    }
    ensure!(
        left == right,
        "{topic} at {}:\n ottla {left:?}\n kafka {right:?}",
        ours.base_offset
    );
    Ok(())
}

#[test]
fn what_is_stored_after_recompression_equals_what_apache_kafka_stores() -> Result<()> {
    let mut sides = both()?;
    let (mut answers, mut batches) = (0, 0);
    for (topic, settings) in topics() {
        for side in &sides {
            let own = settings
                .iter()
                .filter(|(key, _)| !key.starts_with("ottla."));
            match side.name {
                "ottla" => side.create(&topic, &settings)?,
                _ => side.create(&topic, &own.copied().collect::<Vec<_>>())?,
            }
        }
        for (source, _) in CODECS {
            for (name, mut batch) in accepted(source)? {
                if batch.producer_id >= 0 {
                    batch.producer_id += i64::from(source);
                }
                let mut results = Vec::new();
                for side in &mut sides {
                    results.push(side.produce(&topic, &batch.bytes())?);
                }
                let what = format!("{name} in codec {source} to {topic}: {results:?}");
                ensure!(results[0].error == 0 && results[1].error == 0, "{what}");
                ensure!(results[0].base_offset == results[1].base_offset, "{what}");
                // Kafka tells a repeated batch's own time on every topic; here it is told, as
                // for any batch, only where the broker gives it.
                if name == "its first batch again" {
                    continue;
                }
                let timed = results.iter().map(|result| result.log_append_time_ms >= 0);
                let timed: Vec<bool> = timed.collect();
                ensure!(timed[0] == timed[1], "{what}");
                answers += 1;
            }
        }
        let mut stored = Vec::new();
        for side in &mut sides {
            let mut all = Vec::new();
            let mut next = 0;
            loop {
                let bytes = batch::fetch(&mut side.connection, &topic, next)?;
                let found = Batch::parse_all(&bytes)?;
                let Some(last) = found.last() else { break };
                next = last.base_offset + i64::from(last.last_offset_delta) + 1;
                all.extend(found);
            }
            let records = client::read_all(side.broker.bootstrap(), &topic, 0)?;
            stored.push((all, records));
        }
        let [(ours, our_records), (kafkas, kafka_records)] = &stored[..] else {
            anyhow::bail!("two sides");
        };
        ensure!(
            ours.len() == kafkas.len(),
            "{topic}: another number of batches"
        );
        for (ours, kafkas) in ours.iter().zip(kafkas) {
            compare(&topic, ours, kafkas)?;
            batches += 1;
        }
        ensure!(
            our_records.len() == kafka_records.len(),
            "{topic}: another number of records"
        );
        let by_broker = topic.ends_with("LogAppendTime");
        for (ours, kafkas) in our_records.iter().zip(kafka_records) {
            let (mut ours, mut kafkas) = (ours.clone(), kafkas.clone());
            if by_broker {
                (ours.timestamp_ms, kafkas.timestamp_ms) = (None, None);
            }
            ensure!(ours == kafkas, "{topic}: {ours:?} and {kafkas:?}");
        }
    }
    println!("{answers} batches sent to each, {batches} stored batches compared");
    Ok(())
}

/// A message of the format before batches, with its own checksum.
fn old_format(magic: i8) -> Vec<u8> {
    let mut body = Bytes::default().i8(magic).i8(0);
    if magic == 1 {
        body = body.i64(client::an_hour_ago_ms());
    }
    let body = body.i32(-1).i32(1).raw(b"v").0;
    let crc = body.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(crc & 1))
        })
    });
    let message = Bytes::default().i32(!crc as i32).raw(&body).0;
    Bytes::default()
        .i64(0)
        .i32(message.len() as i32)
        .raw(&message)
        .0
}

const HOUR_MS: i64 = 3_600_000;
/// Records are an hour old.
const BOUNDS: [(&str, &str); 2] = [
    ("message.timestamp.before.max.ms", "7200000"),
    ("message.timestamp.after.max.ms", "600000"),
];

/// Whole batches that are too old or from the future, and one that is neither.
fn limits_of_headers(side: &mut Side) -> Result<Vec<i16>> {
    let plain: Vec<Rec> = (0..4).map(record).collect();
    let mut told = Vec::new();
    for codec in [0, 4] {
        for shift in [-2 * HOUR_MS, 2 * HOUR_MS, 0] {
            let mut batch = Batch::new(codec, &plain)?;
            batch.base_timestamp += shift;
            batch.max_timestamp += shift;
            told.push(side.produce("bounded-by-header", &batch.bytes())?.error);
        }
    }
    Ok(told)
}

/// Batches that both must refuse, with the topic they are for.
fn refused() -> Result<Vec<(&'static str, &'static str, Vec<u8>)>> {
    let mut keyless: Vec<Rec> = (0..6).map(record).collect();
    keyless[1].key = None;
    keyless[4].key = None;
    let future = |index| Rec {
        timestamp_delta: if index % 2 == 1 { 10 * 86_400_000 } else { 0 },
        ..record(0)
    };
    let future: Vec<Rec> = (0..4).map(future).collect();
    let beside = |delta| -> Vec<Rec> {
        let of = |index| Rec {
            timestamp_delta: if index % 2 == 1 { delta } else { 0 },
            ..record(0)
        };
        (0..4).map(of).collect()
    };
    let plain: Vec<Rec> = (0..4).map(record).collect();
    let mut rows = vec![
        ("magic 0", "plain", old_format(0)),
        ("magic 1", "plain", old_format(1)),
        ("magic 0 to be compressed", "lz4", old_format(0)),
        ("magic 1 to be compressed", "lz4", old_format(1)),
    ];
    for codec in [0, 1, 4] {
        for topic in ["plain", "lz4", "compact"] {
            let change = |change: &dyn Fn(&mut Batch)| -> Result<Vec<u8>> {
                let mut batch = Batch::new(codec, &plain)?;
                change(&mut batch);
                Ok(batch.bytes())
            };
            let mut damaged = Batch::new(codec, &plain)?.bytes();
            *damaged.last_mut().context("bytes")? ^= 1;
            rows.extend([
                ("a record too few", topic, change(&|b| b.count -= 1)?),
                (
                    "no records",
                    topic,
                    change(&|b| (b.count, b.last_offset_delta) = (0, -1))?,
                ),
                ("a base offset", topic, change(&|b| b.base_offset = 5)?),
                (
                    "a control batch",
                    topic,
                    change(&|b| b.attributes |= 1 << 5)?,
                ),
                (
                    "no sequence",
                    topic,
                    change(&|b| (b.producer_id, b.producer_epoch) = (9, 0))?,
                ),
                ("a wrong checksum", topic, damaged),
                (
                    "times of the future",
                    topic,
                    Batch::new(codec, &future)?.bytes(),
                ),
            ]);
        }
        rows.push((
            "keys are missing",
            "compact",
            Batch::new(codec, &keyless)?.bytes(),
        ));
        rows.extend([
            (
                "times before the limit",
                "bounded",
                Batch::new(codec, &beside(-2 * HOUR_MS))?.bytes(),
            ),
            (
                "times after the limit",
                "bounded",
                Batch::new(codec, &beside(HOUR_MS + HOUR_MS / 2))?.bytes(),
            ),
        ]);
        let mut claimed = Batch::new(codec, &plain)?;
        claimed.attributes |= LOG_APPEND_TIME;
        rows.push((
            "the broker's time is claimed",
            "append-time",
            claimed.bytes(),
        ));
    }
    // Compressed, it fits; in its topic's codec it does not.
    let zeros = Rec {
        value: Some(vec![0; 3_000]),
        ..Rec::default()
    };
    rows.push((
        "too large afterwards",
        "small",
        Batch::new(4, &[zeros])?.bytes(),
    ));
    Ok(rows)
}

#[test]
fn what_is_refused_has_apache_kafkas_error_and_names_the_same_records() -> Result<()> {
    let mut sides = both()?;
    for side in &sides {
        let strict = |settings: &[(&'static str, &'static str)]| {
            let mut settings = settings.to_vec();
            if side.name == "ottla" {
                settings.push(("ottla.validation", "strict"));
            }
            settings
        };
        side.create("plain", &strict(&[]))?;
        side.create("lz4", &strict(&[("compression.type", "lz4")]))?;
        side.create("compact", &strict(&[("cleanup.policy", "compact")]))?;
        let own_time = [("message.timestamp.type", "LogAppendTime")];
        side.create("append-time", &strict(&own_time))?;
        let small = [
            ("compression.type", "uncompressed"),
            ("max.message.bytes", "1000"),
        ];
        side.create("small", &strict(&small))?;
        side.create("bounded", &strict(&BOUNDS))?;
        // Here ours looks at headers only.
        side.create("bounded-by-header", &BOUNDS)?;
    }
    let mut differences = Vec::new();
    for (name, topic, bytes) in refused()? {
        let ours = sides[0].produce(topic, &bytes)?;
        let kafkas = sides[1].produce(topic, &bytes)?;
        println!(
            "{name} to {topic}: {}, {:?}",
            kafkas.error, kafkas.bad_records
        );
        let same = ours.error == kafkas.error && ours.bad_records == kafkas.bad_records;
        if !same || ours.error == 0 || ours.base_offset != -1 {
            differences.push(format!(
                "{name} to {topic}:\n ottla {ours:?}\n kafka {kafkas:?}"
            ));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    for side in &mut sides {
        let told = limits_of_headers(side)?;
        ensure!(told == [32, 32, 0, 32, 32, 0], "{}: {told:?}", side.name);
    }
    Ok(())
}
