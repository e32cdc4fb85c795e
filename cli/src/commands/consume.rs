//! `ottla consume`: records of topics to standard output, without a group.

mod reader;

use std::io::{BufWriter, Write};
use std::time::SystemTime;

use clap::Args;

use crate::arguments::ClientArgs;
use crate::fault::{Fault, Outcome};
use crate::output::OutputFormat;
use crate::record_format::RecordFormat;
use crate::values::time_ms;
use reader::Reader;

#[derive(Debug, Args)]
pub(crate) struct ConsumeArgs {
    /// Names of the topics
    #[arg(required = true)]
    topics: Vec<String>,
    /// Only these partitions, separated by commas
    #[arg(short, long, value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Where to begin: start, end, an offset, -N for the last N of each partition, @TIME
    #[arg(long, default_value = "start", allow_hyphen_values = true)]
    offset: String,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    count: Option<u64>,
    /// Stop at the end that each partition had when we began
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// Form of a record: %t topic %p partition %o offset %k key %v value %h headers %d timestamp
    /// %K %V lengths, %v{hex} %v{base64} %v{json}, \n \t
    #[arg(short, long, conflicts_with = "output")]
    format: Option<String>,
    /// Show only committed records of transactions
    #[arg(long)]
    read_committed: bool,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Beginning,
    End,
    Offset(i64),
    /// The last so many of each partition.
    Last(i64),
    TimeMs(i64),
}

impl Start {
    fn parse(text: &str, now: SystemTime) -> Outcome<Self> {
        match text {
            "start" | "beginning" | "earliest" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return time_ms(time, now).map(Self::TimeMs);
        }
        match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
            Ok(back) => Ok(Self::Last(back.saturating_neg())),
            Err(_) => Err(Fault::usage(format!("\"{text}\" is no place to begin"))
                .hint("write start, end, an offset, -10 for the last ten, or @2026-11-24T09:00")),
        }
    }
}

pub(crate) fn run(args: &ConsumeArgs, client: &ClientArgs) -> Outcome {
    let format = match (&args.format, client.output) {
        (Some(format), _) => Some(RecordFormat::parse(format)?),
        (None, OutputFormat::Table) => Some(RecordFormat::parse("%v\\n")?),
        (None, OutputFormat::Csv) => Some(RecordFormat::parse("%t,%p,%o,%d,%k,%v\\n")?),
        (None, OutputFormat::Json | OutputFormat::Ndjson) => None,
    };
    let start = Start::parse(&args.offset, SystemTime::now())?;
    let mut reader = Reader::start(client.connect()?, &args.topics, &args.partitions, start)?;
    reader.read_committed = args.read_committed;
    let mut output = BufWriter::new(std::io::stdout().lock());
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut line = Vec::new();
    while left > 0 && !(args.exit_at_end && reader.reached_end()) {
        for record in reader.poll(args.exit_at_end)? {
            line.clear();
            match &format {
                Some(format) => format.write(&record, &mut line),
                None => {
                    line.extend_from_slice(record.json().to_string().as_bytes());
                    line.push(b'\n');
                }
            }
            if output.write_all(&line).is_err() {
                return Ok(()); // The reader of our output has gone (`| head`).
            }
            left -= 1;
            if left == 0 {
                break;
            }
        }
        if output.flush().is_err() {
            return Ok(());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_may_be_a_word_an_offset_a_distance_or_a_time() {
        let parse = |text| Start::parse(text, SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!(parse("start"), Start::Beginning);
        assert_eq!(parse("end"), Start::End);
        assert_eq!(parse("42"), Start::Offset(42));
        assert_eq!(parse("-5"), Start::Last(5));
        assert_eq!(parse("@1700000000"), Start::TimeMs(1_700_000_000_000));
        assert!(Start::parse("middle", SystemTime::UNIX_EPOCH).is_err());
    }
}
