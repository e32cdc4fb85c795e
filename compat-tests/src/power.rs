//! Power cuts on the real file system: an ext4 image, mounted through a loop device, whose file
//! system is shut down without writing its journal. What was not synced is gone afterwards, as
//! after a power cut or a crash of the kernel. And a disk that hangs: the same, frozen.
//!
//! Needs root, and a kernel that mounts images; where it may not, tests say so and do nothing. The
//! image is unmounted when its value is dropped.

use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const IMAGE_BYTES: u64 = 400 << 20;

/// Tells the kernel to shut down the file system that a directory is on: `EXT4_IOC_SHUTDOWN`
/// without a flush of the journal. The process named after it is frozen first: it must not see how
/// its calls end, because an `fdatasync` that the shutdown overtakes can return 0 (the extents it
/// waits for are not converted any more, and nobody tells it), which no power cut could do.
const SHUTDOWN: &str = r#"
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* A thread that was told to stop is stopped, or sleeps in a call that it will not return from. */
static int runs(const char *pid, const char *thread) {
    char path[300], line[512];
    snprintf(path, sizeof path, "/proc/%s/task/%s/stat", pid, thread);
    FILE *file = fopen(path, "r");
    if (file == NULL) return 0;
    char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    fclose(file);
    return name_end == NULL || strchr("TDtZX", name_end[2]) == NULL;
}

static int freeze(const char *pid) {
    char path[100];
    snprintf(path, sizeof path, "/proc/%s/task", pid);
    DIR *threads = opendir(path);
    if (threads == NULL || kill(atoi(pid), SIGSTOP) != 0) return -1;
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;)
        while (entry->d_name[0] != '.' && runs(pid, entry->d_name)) {}
    return 0;
}

int main(int count, char **words) {
    uint32_t without_log = 2;
    int fd = count >= 2 ? open(words[1], O_RDONLY) : -1;
    if (fd < 0 || (count == 3 && freeze(words[2]) != 0)
        || ioctl(fd, _IOR('X', 125, uint32_t), &without_log) != 0) {
        perror("shutdown");
        return 1;
    }
    return 0;
}
"#;

/// Whether this process may mount images and cut their power; says so loudly when it may not.
pub fn is_possible(test: &str) -> bool {
    static WHY_NOT: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    let why_not = WHY_NOT.get_or_init(|| {
        let tried = || -> Result<()> {
            let folder = tempfile::tempdir()?;
            let mut disk = Disk::new(folder.path())?;
            disk.cut(None)?;
            disk.restore()
        };
        tried().err().map(|error| format!("{error:#}"))
    });
    match why_not {
        None => true,
        Some(why) => {
            eprintln!("NOT RUN: {test} needs a file system that it may mount: {why}");
            false
        }
    }
}

/// Whether the calls of a broker can be made to fail; says so loudly when they cannot.
pub fn can_inject(test: &str) -> bool {
    let traced = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .output();
    let possible = traced.is_ok_and(|traced| traced.status.success());
    if !possible {
        eprintln!("NOT RUN: {test} needs strace, and to be allowed to trace");
    }
    possible
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A file system that can lose its power.
pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    shutdown: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes one in `folder` and mounts it.
    pub fn new(folder: &Path) -> Result<Disk> {
        let mut disk = Disk {
            image: folder.join("disk.img"),
            mount: folder.join("disk"),
            shutdown: folder.join("shutdown"),
            mounted: false,
        };
        let source = folder.join("shutdown.c");
        std::fs::write(&source, SHUTDOWN)?;
        run(Command::new("cc")
            .arg("-o")
            .arg(&disk.shutdown)
            .arg(&source))?;
        std::fs::File::create(&disk.image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F"])
            .arg(&disk.image))?;
        std::fs::create_dir(&disk.mount)?;
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    fn mount(&mut self) -> Result<()> {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).arg(&self.image).arg(&self.mount))?;
        self.mounted = true;
        Ok(())
    }

    /// From now on nothing reaches the disk. The process of this number is frozen in that moment,
    /// as in a power cut; it can only be killed.
    pub fn cut(&self, frozen: Option<u32>) -> Result<()> {
        let mut shutdown = Command::new(&self.shutdown);
        shutdown.arg(&self.mount);
        shutdown.args(frozen.map(|pid| pid.to_string()));
        run(&mut shutdown)
    }

    /// From now on every write and sync of the file system waits, until the value is dropped, as
    /// on a disk that hangs.
    pub fn freeze(&self) -> Result<Frozen> {
        run(Command::new("fsfreeze").arg("-f").arg(&self.mount))?;
        Ok(Frozen(self.mount.clone()))
    }

    /// The power is back; nobody may have a file open.
    pub fn restore(&mut self) -> Result<()> {
        run(Command::new("umount").arg(&self.mount))?;
        self.mounted = false;
        self.mount()
    }
}

/// A file system that keeps its writers waiting.
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).output();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let _ = Command::new("umount").arg("-l").arg(&self.mount).output();
        }
    }
}
