//! `ottla.directories`: which log directories a broker of several had at its last start. It lies
//! beside the metadata log and answers one question: is an empty directory a new one, or a mount
//! point whose file system is missing?
//!
//! ```text
//! version=1
//! 8PJzh0uLQ3K7yLm1N2b3Uw=/disk1/ottla
//! ```

use super::identity::DirectoryId;
use super::{LayoutError, read_small};
use crate::disk::{Disk, write_file_atomically};

pub const DIRECTORIES: &str = "ottla.directories";
const FIRST_LINE: &str = "version=1";

/// A directory that the broker had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownDirectory {
    pub id: DirectoryId,
    /// As it was configured.
    pub path: String,
}

/// Empty when there is no such file.
pub fn read_directories(disk: &dyn Disk) -> Result<Vec<KnownDirectory>, LayoutError> {
    let Some(content) = read_small(disk, DIRECTORIES)? else {
        return Ok(Vec::new());
    };
    let malformed = |line, problem| LayoutError::Malformed {
        file: DIRECTORIES.to_owned(),
        line,
        problem,
    };
    let text = std::str::from_utf8(&content).map_err(|_| malformed(1, "not text"))?;
    let mut lines = (1u32..).zip(text.lines());
    if lines.next().is_none_or(|(_, line)| line != FIRST_LINE) {
        return Err(malformed(1, "expected \"version=1\""));
    }
    let parse = |(number, line): (u32, &str)| {
        let (id, path) = line
            .split_once('=')
            .ok_or_else(|| malformed(number, "expected an id, '=' and a path"))?;
        let id = DirectoryId::parse(id).ok_or_else(|| malformed(number, "not a directory id"))?;
        let path = path.to_owned();
        Ok(KnownDirectory { id, path })
    };
    lines.map(parse).collect()
}

/// Replaces the file. A path with a line break would not be read back: it is left out.
pub fn write_directories(disk: &dyn Disk, known: &[KnownDirectory]) -> Result<(), LayoutError> {
    let mut text = format!("{FIRST_LINE}\n");
    for KnownDirectory { id, path } in known {
        if !path.contains(['\n', '\r']) {
            text.push_str(&format!("{id}={path}\n"));
        }
    }
    write_file_atomically(disk, DIRECTORIES, text.as_bytes())
        .map_err(|error| LayoutError::io(DIRECTORIES, error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::IoSlice;

    use uuid::Uuid;

    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn what_was_written_is_read_and_no_file_means_nothing_is_known() {
        let disk = MemoryDisk::new();
        assert_eq!(read_directories(&disk).unwrap(), []);
        let known: Vec<_> = ["/a", "/b=c d", "relative/ä"]
            .into_iter()
            .zip(1..)
            .map(|(path, id)| KnownDirectory {
                id: DirectoryId(Uuid::from_u128(id)),
                path: path.to_owned(),
            })
            .collect();
        write_directories(&disk, &known).unwrap();
        assert_eq!(read_directories(&disk).unwrap(), known);
        write_directories(&disk, &known[1..]).unwrap();
        assert_eq!(read_directories(&disk).unwrap(), known[1..]);
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line() {
        for (content, line) in [
            ("", 1),
            ("version=2\n", 1),
            ("version=1\nno id\n", 2),
            ("version=1\nshort=/a\n", 2),
        ] {
            let disk = MemoryDisk::new();
            let file = disk.create(DIRECTORIES).unwrap();
            file.write_at(0, &[IoSlice::new(content.as_bytes())])
                .unwrap();
            let error = read_directories(&disk).unwrap_err().to_string();
            assert!(error.contains(&format!("line {line}:")), "{error}");
        }
    }
}
