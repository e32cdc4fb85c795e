//! A log directory that cannot be used: every operation fails, and says what was wrong with it.
//! So a broker that goes on without one of its directories needs no second kind of directory.

use std::io;
use std::sync::Arc;

use super::{DirEntry, Disk, DiskFile};

/// Stands where a disk should be.
#[derive(Debug)]
pub struct AbsentDisk {
    why: String,
}

impl AbsentDisk {
    pub fn new(why: String) -> AbsentDisk {
        AbsentDisk { why }
    }

    fn no<T>(&self) -> io::Result<T> {
        Err(io::Error::other(self.why.clone()))
    }
}

impl Disk for AbsentDisk {
    fn create(&self, _path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.no()
    }
    fn open(&self, _path: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.no()
    }
    fn exists(&self, _path: &str) -> io::Result<bool> {
        self.no()
    }
    fn create_dir(&self, _path: &str) -> io::Result<()> {
        self.no()
    }
    fn list(&self, _dir: &str) -> io::Result<Vec<DirEntry>> {
        self.no()
    }
    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        self.no()
    }
    fn remove(&self, _path: &str) -> io::Result<()> {
        self.no()
    }
    fn remove_dir_all(&self, _path: &str) -> io::Result<()> {
        self.no()
    }
    fn sync_dir(&self, _path: &str) -> io::Result<()> {
        self.no()
    }
    fn modified_ms(&self, _path: &str) -> io::Result<Option<i64>> {
        self.no()
    }
    fn set_modified_ms(&self, _path: &str, _modified_ms: i64) -> io::Result<()> {
        self.no()
    }
    fn free_bytes(&self) -> io::Result<u64> {
        self.no()
    }
    fn total_bytes(&self) -> io::Result<u64> {
        self.no()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_of_it_it_says_why_it_is_not_there() {
        let disk = AbsentDisk::new("the disk was taken out".to_owned());
        let said = [
            disk.create("a").map(drop).unwrap_err(),
            disk.list("").map(drop).unwrap_err(),
            disk.free_bytes().map(drop).unwrap_err(),
        ];
        for error in said {
            assert_eq!(error.to_string(), "the disk was taken out");
        }
    }
}
