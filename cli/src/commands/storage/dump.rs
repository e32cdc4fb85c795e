//! `ottla storage dump`: what is in the files of a data directory. Reads only, and takes no lock:
//! it may look at a running broker's files, whose last batch may then be half written.

use std::path::{Path, PathBuf};

use clap::Args;
use ottla_protocol::batch::{BatchHeader, TimestampType};
use ottla_protocol::types::Offset;
use ottla_storage::checkpoint::{LEADER_EPOCHS, parse_leader_epochs, parse_offsets};
use ottla_storage::disk::{Disk, DiskFile, read_file};
use ottla_storage::layout::SegmentFile;
use ottla_storage::log::inspect::dump::{self, Item};
use serde_json::{Value, json};

use super::directory::{disk_fault, open};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::{OutputFormat, Table, put};
use crate::record_format::json_text;

/// No derived file is larger.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// A table is printed whenever it has so many lines: a segment may have millions.
const ROWS_MAX: usize = 1_000;

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Files of a data directory, or directories of which every file is shown
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Show the records of each batch with their keys, values and headers
    #[arg(short, long)]
    records: bool,
    /// Only batches and records from this offset on
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Only so many batches or records of each segment
    #[arg(short = 'n', long, value_name = "COUNT")]
    limit: Option<u64>,
}

pub(crate) fn run(args: &DumpArgs, output: OutputFormat) -> Outcome {
    let mut printer = Printer {
        output,
        documents: Vec::new(),
        file: String::new(),
        table: None,
        entries: Vec::new(),
    };
    let mut damaged = false;
    for path in &args.paths {
        let (root, name) = split(path)?;
        let disk = open(&root)?;
        let files = match &name {
            Some(name) => vec![name.clone()],
            None => dump::files(&*disk, "").map_err(|error| disk_fault(&error))?,
        };
        for file in files {
            printer.begin(root.join(&file).display().to_string());
            damaged |= one_file(args, &*disk, &file, name.is_some(), &mut printer)?;
        }
    }
    printer.finish();
    match damaged {
        false => Ok(()),
        true => {
            let what = "a file holds what cannot be read";
            Err(Fault::new("E1505", Exit::Unhealthy, what))
        }
    }
}

/// The directory to open, and the file in it if only one is meant.
fn split(path: &Path) -> Outcome<(PathBuf, Option<String>)> {
    if path.is_dir() {
        return Ok((path.to_owned(), None));
    }
    let name = path.file_name().filter(|_| path.exists());
    let Some(name) = name else {
        let what = format!("there is no file {}", path.display());
        return Err(Fault::new("E1501", Exit::NotFound, what));
    };
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new(".")).to_owned();
    Ok((parent, Some(name.to_string_lossy().into_owned())))
}

/// Whether there was something that cannot be read. `named`: the user asked for this very file.
fn one_file(
    args: &DumpArgs,
    disk: &dyn Disk,
    path: &str,
    named: bool,
    printer: &mut Printer,
) -> Outcome<bool> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let read = || read_file(disk, path, FILE_BYTES_MAX).map_err(|error| disk_fault(&error));
    match SegmentFile::parse(name) {
        Some((base, SegmentFile::Log)) => {
            let file = disk.open(path).map_err(|error| disk_fault(&error))?;
            return segment(args, &*file, base, printer);
        }
        Some((base, SegmentFile::OffsetIndex)) => {
            for (relative, position) in dump::offset_index(&read()?) {
                let offset = base.0 + i64::from(relative);
                printer.row(
                    &["offset", "position"],
                    vec![json!(offset), json!(position)],
                );
            }
        }
        Some((base, SegmentFile::TimeIndex)) => {
            for (timestamp, relative) in dump::time_index(&read()?) {
                let offset = base.0 + i64::from(relative);
                printer.row(
                    &["timestamp", "offset"],
                    vec![json!(timestamp), json!(offset)],
                );
            }
        }
        Some((_, SegmentFile::TransactionIndex)) => aborted(&read()?, printer),
        Some((offset, SegmentFile::ProducerSnapshot)) => {
            return Ok(!producers(&read()?, offset, printer));
        }
        None if name.ends_with("-checkpoint") => return Ok(!checkpoint(name, &read()?, printer)),
        None if named || name == "partition.metadata" || name == "meta.properties" => {
            for line in String::from_utf8_lossy(&read()?).lines() {
                printer.row(&["line"], vec![json!(line)]);
            }
        }
        None => {}
    }
    Ok(false)
}

/// False when it is damaged.
fn checkpoint(name: &str, bytes: &[u8], printer: &mut Printer) -> bool {
    if name == LEADER_EPOCHS {
        let Ok(entries) = parse_leader_epochs(bytes) else {
            return false;
        };
        for entry in entries {
            let cells = vec![json!(entry.epoch.0), json!(entry.start_offset.0)];
            printer.row(&["leader_epoch", "start_offset"], cells);
        }
        return true;
    }
    let Ok(offsets) = parse_offsets(bytes) else {
        return false;
    };
    for (partition, offset) in offsets {
        let (topic, index) = (json!(&*partition.topic), json!(partition.partition));
        let columns = &["topic", "partition", "offset"];
        printer.row(columns, vec![topic, index, json!(offset.0)]);
    }
    true
}

fn aborted(bytes: &[u8], printer: &mut Printer) {
    for entry in dump::transaction_index(bytes) {
        let cells = vec![
            json!(entry.producer_id.0),
            json!(entry.first_offset.0),
            json!(entry.last_offset.0),
            json!(entry.last_stable_offset.0),
        ];
        let columns = &[
            "producer_id",
            "first_offset",
            "last_offset",
            "last_stable_offset",
        ];
        printer.row(columns, cells);
    }
}

const PRODUCER: &[&str] = &[
    "producer_id",
    "producer_epoch",
    "coordinator_epoch",
    "last_timestamp",
    "transaction_first_offset",
    "last_sequence",
    "last_offset",
    "batches",
];

/// False when the snapshot is damaged.
fn producers(bytes: &[u8], offset: Offset, printer: &mut Printer) -> bool {
    let Some(producers) = dump::producer_snapshot(bytes, offset) else {
        return false;
    };
    for producer in producers {
        let last = producer.batches.last();
        let cells = vec![
            json!(producer.producer_id.0),
            json!(producer.epoch),
            json!(producer.coordinator_epoch),
            json!(producer.last_timestamp),
            json!(producer.transaction_first_offset.map(|offset| offset.0)),
            json!(last.map(|batch| batch.last_sequence)),
            json!(last.map(|batch| batch.last_offset.0)),
            json!(producer.batches.len()),
        ];
        printer.row(PRODUCER, cells);
    }
    true
}

fn segment(
    args: &DumpArgs,
    file: &dyn DiskFile,
    base: Offset,
    printer: &mut Printer,
) -> Outcome<bool> {
    let (mut damaged, mut left) = (false, args.limit.unwrap_or(u64::MAX));
    let mut failed = None;
    let walked = dump::segment(file, base, &mut |item| {
        let skipped = match item {
            Item::Batch { header, .. } => header.last_offset().0 < args.from,
            Item::Damage { .. } => false,
            // Not part of the log.
            Item::Zeros { .. } => true,
        };
        if skipped {
            return true;
        }
        if left == 0 {
            return false;
        }
        match (item, args.records) {
            (
                Item::Batch {
                    position,
                    header,
                    crc_is_valid,
                },
                true,
            ) => {
                let rows = records(file, *position, header, args.from, &mut left, printer);
                damaged |= !crc_is_valid || matches!(rows, Ok(false));
                failed = rows.err();
            }
            _ => {
                left -= 1;
                damaged |= batch(item, printer);
            }
        }
        failed.is_none()
    });
    walked.map_err(|error| disk_fault(&error))?;
    failed.map_or(Ok(damaged), Err)
}

const BATCH: &[&str] = &[
    "position",
    "base_offset",
    "last_offset",
    "records",
    "leader_epoch",
    "producer_id",
    "producer_epoch",
    "base_sequence",
    "codec",
    "base_timestamp",
    "max_timestamp",
    "timestamp_type",
    "flags",
    "size_bytes",
    "crc",
    "valid",
];

/// True when it is damaged.
fn batch(item: &Item, printer: &mut Printer) -> bool {
    let cells = match item {
        Item::Batch {
            position,
            header,
            crc_is_valid,
        } => {
            let mut cells = vec![json!(position)];
            cells.extend(header_cells(header));
            cells.push(json!(crc_is_valid));
            cells
        }
        Item::Damage {
            position,
            until,
            fault,
        } => {
            let mut cells = vec![Value::Null; BATCH.len()];
            cells[0] = json!(position);
            cells[12] = json!([fault.to_string()]);
            cells[13] = json!(until - position);
            cells[15] = json!(false);
            cells
        }
        Item::Zeros { .. } => return false,
    };
    let valid = cells[BATCH.len() - 1] == json!(true);
    printer.row(BATCH, cells);
    !valid
}

fn header_cells(header: &BatchHeader) -> Vec<Value> {
    let codec = header.compression().map_or("unknown", |codec| codec.name());
    let kind = match header.timestamp_type() {
        TimestampType::CreateTime => "CreateTime",
        TimestampType::LogAppendTime => "LogAppendTime",
    };
    let flags = [
        (header.is_transactional(), "transactional"),
        (header.is_control(), "control"),
        (header.has_delete_horizon(), "delete-horizon"),
    ];
    let flags: Vec<&str> = flags
        .iter()
        .filter(|flag| flag.0)
        .map(|flag| flag.1)
        .collect();
    vec![
        json!(header.base_offset.0),
        json!(header.last_offset().0),
        json!(header.record_count),
        json!(header.leader_epoch.0),
        json!(header.producer_id.0),
        json!(header.producer_epoch),
        json!(header.base_sequence),
        json!(codec),
        json!(header.base_timestamp),
        json!(header.max_timestamp),
        json!(kind),
        json!(flags),
        json!(header.size_bytes()),
        json!(header.crc),
    ]
}

const RECORD: &[&str] = &["offset", "timestamp", "control", "key", "value", "headers"];

/// False when the records cannot be read.
fn records(
    file: &dyn DiskFile,
    position: u64,
    header: &BatchHeader,
    from: i64,
    left: &mut u64,
    printer: &mut Printer,
) -> Outcome<bool> {
    let records = dump::records(file, position, header).map_err(|error| disk_fault(&error))?;
    let Ok(records) = records else {
        return Ok(false);
    };
    for record in records.iter().filter(|record| record.offset.0 >= from) {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let headers = record.headers.iter();
        let headers = headers.map(|(key, value)| {
            json!({ "key": json_text(Some(key)), "value": json_text(value.as_deref()) })
        });
        let cells = vec![
            json!(record.offset.0),
            json!(record.timestamp),
            json!(header.is_control()),
            json_text(record.key.as_deref()),
            json_text(record.value.as_deref()),
            json!(headers.collect::<Vec<_>>()),
        ];
        printer.row(RECORD, cells);
    }
    Ok(true)
}

/// Prints one table for each file. JSON is one document: a list of files with their entries; lines
/// of NDJSON and CSV name their file.
struct Printer {
    output: OutputFormat,
    documents: Vec<Value>,
    file: String,
    /// What is not printed yet, under which columns.
    table: Option<(Vec<&'static str>, Table, usize)>,
    entries: Vec<Value>,
}

impl Printer {
    fn begin(&mut self, file: String) {
        self.end_file();
        if self.output == OutputFormat::Table {
            put(&format!("# {file}\n"));
        }
        self.file = file;
    }

    fn row(&mut self, columns: &[&'static str], mut cells: Vec<Value>) {
        let named = matches!(self.output, OutputFormat::Ndjson | OutputFormat::Csv);
        let mut names = columns.to_vec();
        if named {
            names.insert(0, "file");
            cells.insert(0, json!(self.file));
        }
        let fits = |(known, _, rows): &(Vec<&'static str>, Table, usize)| {
            *known == names && *rows < ROWS_MAX
        };
        if !self.table.as_ref().is_some_and(fits) {
            self.flush();
            self.table = Some((names.clone(), Table::new(&names), 0));
        }
        if let Some((_, table, rows)) = &mut self.table {
            table.row(cells);
            *rows += 1;
        }
    }

    fn flush(&mut self) {
        let Some((_, table, _)) = self.table.take() else {
            return;
        };
        match self.output {
            OutputFormat::Json => self.entries.extend(table.objects()),
            other => table.print(other),
        }
    }

    fn end_file(&mut self) {
        self.flush();
        if self.output == OutputFormat::Json && !self.file.is_empty() {
            let entries = std::mem::take(&mut self.entries);
            self.documents
                .push(json!({ "file": self.file, "entries": entries }));
        }
    }

    fn finish(mut self) {
        self.end_file();
        if self.output == OutputFormat::Json {
            let text = serde_json::to_string_pretty(&self.documents).unwrap_or_default();
            put(&format!("{text}\n"));
        }
    }
}
