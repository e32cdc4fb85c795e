//! `ottla produce`: records from standard input, arguments or files into a topic.
//!
//! A thread reads the input, so that records leave after a short linger although the next line has
//! not come. The sender is idempotent where the cluster allows it: a retry after a lost reply does
//! not write a record twice.

mod input;
mod sender;

use std::io::IsTerminal;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::arguments::ClientArgs;
use crate::fault::Outcome;
use crate::output::{OutputFormat, Table, say};
use crate::record_format::{Record, RecordFormat};
use crate::values::key_value;
use sender::{Sender, SenderOptions};

/// How long a record may wait for company before its batch is sent.
const LINGER: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Acks {
    /// Do not wait for any answer
    #[value(name = "0")]
    None,
    /// The leader has it
    #[value(name = "1")]
    Leader,
    /// Every in-sync replica has it
    All,
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// Name of the topic
    topic: String,
    /// Values to produce; without any, one record per line of standard input
    values: Vec<String>,
    /// Key of every record
    #[arg(short, long)]
    key: Option<String>,
    /// Split each input line into key and value at this text
    #[arg(short = 'K', long, value_name = "TEXT")]
    key_delimiter: Option<String>,
    /// Header of every record, may be repeated
    #[arg(short = 'H', long, value_name = "KEY=VALUE")]
    header: Vec<String>,
    /// Partition of every record
    #[arg(short, long)]
    partition: Option<i32>,
    /// Form of an input line, for example '%k:%v' (see `ottla consume --help` for the fields)
    #[arg(short, long, conflicts_with = "key_delimiter")]
    format: Option<String>,
    /// Compression of the batches
    #[arg(short = 'z', long, value_enum, default_value = "none")]
    compression: Codec,
    /// Whose confirmation to wait for
    #[arg(short, long, value_enum, default_value = "all")]
    acks: Acks,
    /// An empty value is a tombstone (null)
    #[arg(short = 'Z', long)]
    tombstone: bool,
    /// Do not create a missing topic
    #[arg(long)]
    no_create: bool,
}

pub(crate) fn run(args: &ProduceArgs, client: &ClientArgs) -> Outcome {
    let shape = Shape::of(args)?;
    let cluster = client.connect()?;
    let mut sender = Sender::start(
        cluster,
        SenderOptions {
            topic: args.topic.clone(),
            codec: args.compression,
            acks: args.acks,
            create_missing: !args.no_create,
        },
    )?;
    if args.values.is_empty() {
        if std::io::stdin().is_terminal() {
            say("one record per line; end with Ctrl-D");
        }
        from_input(&shape, &mut sender)?;
    } else {
        for value in &args.values {
            sender.add(shape.record(value.as_bytes())?)?;
        }
    }
    sender.flush()?;
    report(&sender, client.output);
    Ok(())
}

fn from_input(shape: &Shape, sender: &mut Sender) -> Outcome {
    let lines = input::lines_of_stdin();
    loop {
        match lines.recv_timeout(LINGER) {
            Ok(line) => sender.add(shape.record(&line?)?)?,
            Err(RecvTimeoutError::Timeout) => {
                sender.flush()?;
                // Nothing is waiting any more: sleep until the next line.
                match lines.recv() {
                    Ok(line) => sender.add(shape.record(&line?)?)?,
                    Err(_ended) => return Ok(()),
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
    }
}

fn report(sender: &Sender, output: OutputFormat) {
    if output == OutputFormat::Table {
        for (partition, written) in sender.written() {
            let at = match written.last_offset {
                Some(last) => format!("up to offset {last}"),
                None => "unconfirmed (acks=0)".to_owned(),
            };
            say(&format!(
                "{} records to partition {partition}, {at}",
                written.records
            ));
        }
        return;
    }
    let mut table = Table::new(&["topic", "partition", "records", "last_offset"]);
    for (partition, written) in sender.written() {
        table.row(vec![
            json!(sender.topic()),
            json!(partition),
            json!(written.records),
            json!(written.last_offset),
        ]);
    }
    table.print(output);
}

/// How one input line becomes a record.
struct Shape {
    format: RecordFormat,
    key: Option<Vec<u8>>,
    partition: Option<i32>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    tombstone: bool,
}

impl Shape {
    fn of(args: &ProduceArgs) -> Outcome<Self> {
        let format = match (&args.format, &args.key_delimiter) {
            (Some(format), _) => RecordFormat::parse(format)?,
            (None, Some(delimiter)) => {
                let plain = delimiter.replace('\\', "\\\\").replace('%', "%%");
                let plain = if delimiter == "\\t" {
                    "\\t".to_owned()
                } else {
                    plain
                };
                RecordFormat::parse(&format!("%k{plain}%v"))?
            }
            (None, None) => RecordFormat::parse("%v")?,
        };
        let mut headers = Vec::new();
        for header in &args.header {
            let (key, value) = key_value(header)?;
            headers.push((key.into_bytes(), Some(value.into_bytes())));
        }
        Ok(Self {
            format,
            key: args.key.as_ref().map(|key| key.clone().into_bytes()),
            partition: args.partition,
            headers,
            tombstone: args.tombstone,
        })
    }

    fn record(&self, line: &[u8]) -> Outcome<Record> {
        let mut record = self.format.read_line(line)?;
        if record.key.is_none() {
            record.key.clone_from(&self.key);
        }
        if let Some(partition) = self.partition {
            record.partition = partition;
        }
        if self.tombstone && record.value.as_ref().is_none_or(Vec::is_empty) {
            record.value = None;
        }
        record.headers.extend(self.headers.iter().cloned());
        Ok(record)
    }
}
