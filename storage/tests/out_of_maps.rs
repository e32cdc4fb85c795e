//! The kernel refuses to map a file (ENOMEM: too many maps, or no address space): then it is read.
//!
//! One test in a process of its own: the limit is the process's.

use std::io::IoSlice;

use ottla_storage::disk::{Budget, Disk, RealDisk};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Address space that this process has.
fn address_space_bytes() -> u64 {
    let sizes = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = sizes.split(' ').next().unwrap().parse().unwrap();
    pages * rustix::param::page_size() as u64
}

fn limit_address_space(current: Option<u64>) {
    let maximum = getrlimit(Resource::As).maximum;
    setrlimit(Resource::As, Rlimit { current, maximum }).unwrap();
}

#[test]
fn what_cannot_be_mapped_is_read_and_mapped_again_when_it_can_be() {
    let (dir, budget) = (tempfile::tempdir().unwrap(), Budget::new(100, 100));
    let disk = RealDisk::open(dir.path(), &budget).unwrap();
    let file = disk.create("segment").unwrap();
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n / 7) as u8).collect();
    file.write_at(0, &[IoSlice::new(&bytes)]).unwrap();
    let before = getrlimit(Resource::As).current;

    // A map takes 32 MiB of it, a copy of the bytes a fraction of one.
    limit_address_space(Some(address_space_bytes() + (8 << 20)));
    for start in [0, 50_000, 100_000] {
        let view = file.view(start..start + 100_000).unwrap();
        assert_eq!(view, bytes[start as usize..start as usize + 100_000]);
    }
    assert_eq!(budget.maps(), 0, "nothing could be mapped");

    limit_address_space(before);
    assert_eq!(file.view(0..100_000).unwrap(), bytes[..100_000]);
    assert_eq!(budget.maps(), 1);
}
