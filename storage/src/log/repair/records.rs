//! Taking damaged bytes out of segments: what is planned for which finding, and the two ways to
//! do it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};

use ottla_protocol::batch::BatchBuilder;
use ottla_protocol::types::Offset;

use super::{OnDamage, Repair, RepairError, segment_base};
use crate::disk::DiskFile;
use crate::layout::SegmentFile;
use crate::log::error::LogError;
use crate::log::inspect::{Finding, PartitionCheck, Severity, Subject};
use crate::log::scan::WALK_BYTES;
use crate::log::segment::{INDEX_FILES, path};

/// Bytes to take out, and the offsets that an empty batch covers instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    bytes: (u64, u64),
    offsets: (Offset, Offset),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Edit {
    /// The log ends at this position; later segments go.
    Cut {
        base: Offset,
        position: u64,
    },
    Replace {
        base: Offset,
        holes: Vec<Hole>,
    },
}

/// What is to be done about the records, in the order of the log.
pub(super) fn plan(check: &PartitionCheck, choice: OnDamage) -> Result<Vec<Edit>, RepairError> {
    let mut holes: BTreeMap<Offset, Vec<Hole>> = BTreeMap::new();
    let mut cut: Option<(Offset, u64)> = None;
    for finding in &check.findings {
        if finding.subject != Subject::Records || finding.severity < Severity::TornTail {
            continue;
        }
        if finding.severity == Severity::Damage && choice == OnDamage::Refuse {
            return Err(RepairError::Choice(Box::new(finding.clone())));
        }
        // Without a file it speaks of an end that is not there: nothing can be taken out.
        let Some(base) = segment_base(&finding.path) else {
            continue;
        };
        let position = finding.bytes.map_or(0, |bytes| bytes.0);
        let ends = matches!(finding.offsets, Some((_, None)));
        if ends || choice != OnDamage::Skip {
            let here = (base, position);
            cut = Some(cut.map_or(here, |earlier| earlier.min(here)));
            continue;
        }
        let (base, hole) = hole(check, finding, base)?;
        holes.entry(base).or_default().push(hole);
    }
    let mut edits: Vec<Edit> = holes
        .into_iter()
        .map(|(base, holes)| Edit::Replace { base, holes })
        .collect();
    if let Some((base, position)) = cut {
        // A replaced segment that is cut as well is shorter or longer then: cut it first.
        edits.push(Edit::Cut { base, position });
    }
    Ok(edits)
}

fn hole(
    check: &PartitionCheck,
    finding: &Finding,
    base: Offset,
) -> Result<(Offset, Hole), RepairError> {
    let impossible = || RepairError::Impossible(Box::new(finding.clone()));
    let (Some(bytes), Some((from, Some(to)))) = (finding.bytes, finding.offsets) else {
        return Err(impossible());
    };
    let missing_before = bytes == (0, 0);
    let (base, bytes) = match missing_before {
        false => (base, bytes),
        // The segment before takes the empty batch at its end.
        true => {
            let before = check.bases.iter().rev().find(|one| one.0 < base);
            let (before, size) = *before.ok_or_else(impossible)?;
            (before, (size, size))
        }
    };
    let fits = |offset: Offset| offset.0 - base.0 <= i64::from(i32::MAX);
    let offsets = (from, to);
    match to >= from && fits(to) {
        true => Ok((base, Hole { bytes, offsets })),
        false => Err(impossible()),
    }
}

impl Repair<'_> {
    /// Ends the log at a position: segments behind it first, the last one first.
    pub(super) fn cut(&mut self, base: Offset, position: u64) -> Result<(), LogError> {
        let entries = self.disk.list(self.dir);
        let entries = entries.map_err(|error| LogError::io(self.dir, error))?;
        let mut later: Vec<Offset> = entries
            .iter()
            .filter_map(|entry| match SegmentFile::parse(&entry.name)? {
                (at, SegmentFile::Log) if at > base || (at == base && position == 0) => Some(at),
                _ => None,
            })
            .collect();
        later.sort_unstable();
        for segment in later.into_iter().rev() {
            self.set_segment_aside(segment)?;
        }
        if position > 0 {
            self.cut_segment(base, position)?;
        }
        let beyond = |name: &str| match SegmentFile::parse(name) {
            Some((at, SegmentFile::ProducerSnapshot)) => at > base,
            _ => false,
        };
        for entry in entries.iter().filter(|entry| beyond(&entry.name)) {
            let file = format!("{}/{}", self.dir, entry.name);
            self.wrong.remove(&file);
            self.set_aside(&file, "speaks of offsets that are cut off")?;
        }
        Ok(())
    }

    fn set_segment_aside(&mut self, base: Offset) -> Result<(), LogError> {
        let log = path(self.dir, base, SegmentFile::Log);
        self.set_aside(&log, "is taken out of the log")?;
        self.rewrite.remove(&base);
        self.set_indexes_aside(base)
    }

    fn set_indexes_aside(&mut self, base: Offset) -> Result<(), LogError> {
        for kind in INDEX_FILES {
            let file = path(self.dir, base, kind);
            let there = self.disk.exists(&file);
            if there.map_err(|error| LogError::io(&*file, error))? {
                self.set_aside(&file, "belongs to bytes that are gone")?;
            }
        }
        Ok(())
    }

    fn cut_segment(&mut self, base: Offset, position: u64) -> Result<(), LogError> {
        let log = path(self.dir, base, SegmentFile::Log);
        let io = |error| LogError::io(path(self.dir, base, SegmentFile::Log), error);
        let file = self.disk.open(&log).map_err(io)?;
        let size = file.len_bytes().map_err(io)?;
        let kept = self.keep(&*file, base, (position, size))?;
        self.set_indexes_aside(base)?;
        if !self.options.dry_run {
            file.truncate(position)
                .and_then(|()| file.sync_data())
                .map_err(io)?;
        }
        self.rewrite.insert(base);
        let what = format!(
            "is cut at {position}; {} bytes are set aside",
            size - position
        );
        self.step(&log, &what, Some(kept));
        Ok(())
    }

    /// Copies some bytes of a segment into the quarantine; answers where.
    fn keep(
        &mut self,
        file: &dyn DiskFile,
        base: Offset,
        bytes: (u64, u64),
    ) -> Result<String, LogError> {
        let log = SegmentFile::Log.name(base);
        let kept = self.place_for(&format!("{log}.{}-{}", bytes.0, bytes.1))?;
        if !self.options.dry_run {
            let copy = || -> io::Result<()> {
                let to = self.disk.create(&kept)?;
                copy_bytes(file, bytes, &*to, 0)?;
                to.sync_data()?;
                self.disk.sync_dir(crate::disk::parent(&kept))
            };
            copy().map_err(|error| LogError::io(&*kept, error))?;
        }
        Ok(kept)
    }

    /// Writes a segment without its holes, and replaces it.
    pub(super) fn replace(&mut self, base: Offset, holes: &[Hole]) -> Result<(), LogError> {
        let log = path(self.dir, base, SegmentFile::Log);
        let io = |error| LogError::io(path(self.dir, base, SegmentFile::Log), error);
        let file = self.disk.open(&log).map_err(io)?;
        for hole in holes {
            let (from, until) = hole.bytes;
            let kept = match from < until {
                true => Some(self.keep(&*file, base, hole.bytes)?),
                false => None,
            };
            let what = format!(
                "bytes {from}..{until} become an empty batch of the offsets {}..{}",
                hole.offsets.0, hole.offsets.1
            );
            self.step(&log, &what, kept);
        }
        self.rewrite.insert(base);
        self.set_indexes_aside(base)?;
        if self.options.dry_run {
            return Ok(());
        }
        // A start removes files of this name.
        let new = format!("{log}.cleaned");
        let mended = self.write_mended(&*file, &new, holes);
        let replaced = mended.and_then(|()| {
            self.disk.rename(&new, &log)?;
            self.disk.sync_dir(self.dir)
        });
        replaced.map_err(io)
    }

    fn write_mended(&self, from: &dyn DiskFile, new: &str, holes: &[Hole]) -> io::Result<()> {
        super::super::checkpoint::remove_if_there(self.disk, new)?;
        let to = self.disk.create(new)?;
        let (mut read, mut written) = (0, 0);
        for hole in holes {
            written = copy_bytes(from, (read, hole.bytes.0), &*to, written)?;
            if hole.offsets.0 < hole.offsets.1 {
                let filler = self.filler(hole.offsets)?;
                to.write_at(written, &[IoSlice::new(&filler)])?;
                written += filler.len() as u64;
            }
            read = hole.bytes.1;
        }
        // The file may have been cut meanwhile.
        let end = from.len_bytes()?.max(read);
        copy_bytes(from, (read, end), &*to, written)?;
        to.sync_data()
    }

    /// An empty batch, as compaction leaves one where a producer's last records were.
    fn filler(&self, (from, to): (Offset, Offset)) -> io::Result<Vec<u8>> {
        let batch = BatchBuilder::new()
            .base_offset(from)
            .leader_epoch(self.epoch_at(from))
            .last_offset_delta((to.0 - from.0 - 1) as i32)
            .build();
        let batch = batch.map_err(io::Error::other)?;
        Ok(batch.bytes().to_vec())
    }
}

/// Answers where the copy ends.
fn copy_bytes(
    from: &dyn DiskFile,
    (mut at, until): (u64, u64),
    to: &dyn DiskFile,
    mut position: u64,
) -> io::Result<u64> {
    let mut buffer = vec![0; WALK_BYTES];
    while at < until {
        let want = buffer.len().min((until - at) as usize);
        let read = from.read_at(at, &mut buffer[..want])?;
        if read == 0 {
            break;
        }
        to.write_at(position, &[IoSlice::new(&buffer[..read])])?;
        at += read as u64;
        position += read as u64;
    }
    Ok(position)
}
