//! Programs that are run to their end within a time limit, and processes that never outlive a test.

use anyhow::{Context as _, Result, bail};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A client's program that takes longer than this is stuck.
pub const TIME_LIMIT: Duration = Duration::from_secs(90);

/// The root of the clone that cargo runs this test for (a binary may be shared between clones).
pub fn root() -> PathBuf {
    let here = std::env::var("CARGO_MANIFEST_DIR");
    let here = here.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let parent = Path::new(&here).parent();
    parent
        .expect("the crate lies in the workspace")
        .to_path_buf()
}

/// The cache outside the clone where `scripts/clients` puts things.
pub fn cache() -> PathBuf {
    if let Some(cache) = std::env::var_os("OTTLA_CACHE") {
        return PathBuf::from(cache);
    }
    let home = std::env::var_os("HOME").unwrap_or_default();
    PathBuf::from(home).join(".cache/ottla")
}

/// Whether a program of this name is on the path.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What a program that ended has said.
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Everything it said, for a message about a failure.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.stdout.trim_end(), self.stderr.trim_end())
    }
}

/// Runs `command` with `input` on its standard input; fails when it takes too long.
pub fn run(command: &mut Command, input: &[u8]) -> Result<Output> {
    // Through files, because a full pipe would block a program that nobody reads.
    let folder = tempfile::tempdir()?;
    let (stdout, stderr) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&stdout)?)
        .stderr(std::fs::File::create(&stderr)?)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let mut stdin = child.stdin.take().context("standard input was asked for")?;
    let input = input.to_vec();
    // A program that ends early leaves a broken pipe: its exit status says what happened.
    let writer = std::thread::spawn(move || stdin.write_all(&input).is_ok());
    let status = wait(&mut child, TIME_LIMIT);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let _ = writer.join();
    let text =
        |path: &Path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (stdout, stderr) = (text(&stdout)?, text(&stderr)?);
    match status {
        Some(status) => Ok(Output {
            status,
            stdout,
            stderr,
        }),
        None => bail!("no end after {TIME_LIMIT:?}: {command:?}\n{stdout}\n{stderr}"),
    }
}

/// Runs `command` and fails unless it ends with success.
pub fn run_ok(command: &mut Command, input: &[u8]) -> Result<Output> {
    let output = run(command, input)?;
    if !output.status.success() {
        bail!("{}: {command:?}\n{}", output.status, output.all());
    }
    Ok(output)
}

/// Waits for the end of `child`; `None` when it did not come in time.
pub fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

/// Asks a process of ours to end, as Ctrl-C or a service manager would.
pub fn terminate(child: &Child) -> Result<()> {
    run_ok(
        Command::new("kill")
            .arg("-TERM")
            .arg(child.id().to_string()),
        b"",
    )?;
    Ok(())
}
