//! What goes wrong on the memory disk, and when: injected errors, the crash point, and the fate of
//! each unsynced change at a power cut. Owns the operation counter and the trace hash.

use std::io::{self, IoSlice};

/// The operations an error can be injected into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    /// Of a file that is there; no crash point, and not traced.
    Open,
    Write,
    Preallocate,
    Truncate,
    Sync,
    SyncDir,
    Rename,
    Remove,
    Read,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedError {
    NoSpace,
    Io,
    ReadOnly,
    PermissionDenied,
    TooManyOpenFiles,
    OutOfMemory,
}

/// Makes matching operations fail: the first `skip` of them pass, the next `count` fail.
#[derive(Clone, Debug)]
pub struct Injection {
    pub operation: Operation,
    /// Only paths that contain this; the path a file was opened by.
    pub path_contains: String,
    pub skip: u64,
    pub count: u64,
    pub error: InjectedError,
}

impl Injection {
    /// Every such operation on every path fails.
    pub fn always(operation: Operation, error: InjectedError) -> Injection {
        Injection {
            operation,
            path_contains: String::new(),
            skip: 0,
            count: u64::MAX,
            error,
        }
    }

    /// The next such operation on every path fails.
    pub fn once(operation: Operation, error: InjectedError) -> Injection {
        Injection {
            count: 1,
            ..Injection::always(operation, error)
        }
    }

    pub fn on(mut self, path_contains: &str) -> Injection {
        self.path_contains = path_contains.to_owned();
        self
    }

    pub fn skip(mut self, skip: u64) -> Injection {
        self.skip = skip;
        self
    }
}

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// kill -9: the kernel lives on, nothing written is lost (nor synced).
    Process,
    /// Power loss; everything that was not synced is gone.
    PowerLossOfAllUnsynced,
    /// Power loss; the seed decides what of the unsynced changes survives and how it is torn.
    PowerLoss { seed: u64 },
}

/// What a crash does to one unsynced change.
pub(super) enum Fate {
    Keep,
    Drop,
    /// Pieces of `unit` bytes survive as the coin falls.
    Tear {
        unit: usize,
        coin: Rng,
    },
    /// The file's new length survives, its data reads as zeroes.
    Grow,
}

enum Profile {
    DropAll,
    KeepAll,
    /// Changes up to a sequence number survive, the one there is torn: an ordered journal.
    Prefix {
        cut: u64,
    },
    /// Each change for itself.
    Any,
}

pub(super) struct CrashPlan {
    profile: Profile,
    tear_unit: usize,
    rng: Rng,
}

impl CrashPlan {
    /// `None`: nothing is lost. `operations`: how many changes the disk has seen.
    pub(super) fn new(crash: Crash, operations: u64) -> Option<CrashPlan> {
        match crash {
            Crash::Process => None,
            Crash::PowerLossOfAllUnsynced => Some(CrashPlan {
                profile: Profile::DropAll,
                tear_unit: 1,
                rng: Rng(0),
            }),
            Crash::PowerLoss { seed } => {
                let mut rng = Rng(seed);
                let profile = match rng.below(6) {
                    0 => Profile::DropAll,
                    1 => Profile::KeepAll,
                    // Cuts near the end are the interesting ones: older changes are synced.
                    2 | 3 => {
                        let back = rng.below(operations.clamp(1, 32));
                        Profile::Prefix {
                            cut: operations.saturating_sub(back),
                        }
                    }
                    _ => Profile::Any,
                };
                let tear_unit = [512, 4096, 1][rng.below(3) as usize];
                Some(CrashPlan {
                    profile,
                    tear_unit,
                    rng,
                })
            }
        }
    }

    pub(super) fn fate(&mut self, sequence: u64) -> Fate {
        match self.profile {
            Profile::DropAll => Fate::Drop,
            Profile::KeepAll => Fate::Keep,
            Profile::Prefix { cut } if sequence < cut => Fate::Keep,
            Profile::Prefix { cut } if sequence > cut => Fate::Drop,
            Profile::Prefix { .. } => self.tear(),
            Profile::Any => match self.rng.below(4) {
                0 => Fate::Keep,
                1 => Fate::Drop,
                2 => Fate::Grow,
                _ => self.tear(),
            },
        }
    }

    /// The fate of a name: it survives or it does not.
    pub(super) fn survives(&mut self, sequence: u64) -> bool {
        match self.fate(sequence) {
            Fate::Keep => true,
            Fate::Drop | Fate::Grow => false,
            Fate::Tear { mut coin, .. } => coin.flip(),
        }
    }

    fn tear(&mut self) -> Fate {
        Fate::Tear {
            unit: self.tear_unit,
            coin: Rng(self.rng.next()),
        }
    }
}

pub(super) struct Faults {
    rng: Rng,
    operations: u64,
    halt_at: Option<u64>,
    halted: bool,
    injections: Vec<Injection>,
    read_only: bool,
    capacity_bytes: Option<u64>,
    trace: u64,
}

impl Faults {
    pub(super) fn new(seed: u64) -> Faults {
        Faults {
            rng: Rng(seed),
            operations: 0,
            halt_at: None,
            halted: false,
            injections: Vec::new(),
            read_only: false,
            capacity_bytes: None,
            trace: FNV_OFFSET,
        }
    }

    /// Admits one changing operation and gives it its sequence number.
    pub(super) fn begin(
        &mut self,
        operation: Operation,
        path: &str,
        parts: &[IoSlice<'_>],
    ) -> io::Result<u64> {
        if self.halted || self.halt_at.is_some_and(|at| self.operations >= at) {
            self.halted = true;
            return Err(gone());
        }
        self.operations += 1;
        self.trace(operation as u8, path, parts);
        if self.read_only {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.injected(operation, path)?;
        Ok(self.operations)
    }

    /// Reads are traced and may fail, but are not crash points: nothing changes between two.
    pub(super) fn begin_read(&mut self, path: &str) -> io::Result<()> {
        if self.halted {
            return Err(gone());
        }
        self.trace(Operation::Read as u8, path, &[]);
        self.injected(Operation::Read, path)
    }

    pub(super) fn begin_open(&mut self, path: &str) -> io::Result<()> {
        self.injected(Operation::Open, path)
    }

    fn injected(&mut self, operation: Operation, path: &str) -> io::Result<()> {
        for injection in &mut self.injections {
            if injection.operation != operation || !path.contains(&injection.path_contains) {
                continue;
            }
            if injection.skip > 0 {
                injection.skip -= 1;
            } else if injection.count > 0 {
                injection.count -= 1;
                return Err(injection.error.to_io_error());
            }
        }
        Ok(())
    }

    pub(super) fn restart(&mut self) {
        self.halt_at = None;
        self.halted = false;
        self.injections.clear();
    }

    pub(super) fn failed_sync_plan(&mut self) -> CrashPlan {
        CrashPlan {
            profile: Profile::Any,
            tear_unit: 4096,
            rng: Rng(self.rng.next()),
        }
    }

    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn halt_after(&mut self, count: u64) {
        self.halt_at = Some(self.operations + count);
    }

    pub(super) fn halted(&self) -> bool {
        self.halted
    }

    pub(super) fn inject(&mut self, injection: Injection) {
        self.injections.push(injection);
    }

    pub(super) fn clear_injections(&mut self) {
        self.injections.clear();
    }

    pub(super) fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    pub(super) fn set_capacity_bytes(&mut self, capacity_bytes: Option<u64>) {
        self.capacity_bytes = capacity_bytes;
    }

    pub(super) fn capacity_bytes(&self) -> Option<u64> {
        self.capacity_bytes
    }

    pub(super) fn trace(&mut self, tag: u8, path: &str, parts: &[IoSlice<'_>]) {
        let content = parts
            .iter()
            .fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let fields = [content.to_le_bytes(), (len as u32).to_le_bytes()];
        for byte in [tag]
            .iter()
            .chain(path.as_bytes())
            .chain(fields.as_flattened())
        {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    pub(super) fn trace_hash(&self) -> u64 {
        self.trace
    }
}

impl InjectedError {
    fn to_io_error(self) -> io::Error {
        use rustix::io::Errno;
        match self {
            InjectedError::NoSpace => Errno::NOSPC,
            InjectedError::Io => Errno::IO,
            InjectedError::ReadOnly => Errno::ROFS,
            InjectedError::PermissionDenied => Errno::ACCESS,
            InjectedError::TooManyOpenFiles => Errno::MFILE,
            InjectedError::OutOfMemory => Errno::NOMEM,
        }
        .into()
    }
}

/// The answer to a process that no longer exists.
pub(super) fn gone() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the simulated process has crashed",
    )
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// SplitMix64: a seed must mean the same in every release, so it is not a crate's choice.
pub(super) struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn flip(&mut self) -> bool {
        self.below(2) == 0
    }
}
