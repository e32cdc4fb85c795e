//! Reads standard input line by line on a thread of its own.

use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, sync_channel};

use crate::fault::{Exit, Fault, Outcome};

/// A line longer than this is refused: it could not be produced with default limits anyway.
const LINE_SIZE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Lines read ahead of the sender.
const LINES_AHEAD: usize = 4096;

/// The lines of standard input without their line ends; the channel closes at the end of the input.
pub(super) fn lines_of_stdin() -> Receiver<Outcome<Vec<u8>>> {
    let (sender, receiver) = sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        while let Some(line) = next_line(&mut input) {
            let failed = line.is_err();
            if sender.send(line).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

fn next_line(input: &mut impl BufRead) -> Option<Outcome<Vec<u8>>> {
    let mut line = Vec::new();
    match input.take(LINE_SIZE_BYTES_MAX).read_until(b'\n', &mut line) {
        Ok(0) => None,
        Ok(_) if line.last() == Some(&b'\n') => {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            Some(Ok(line))
        }
        Ok(got) if got as u64 == LINE_SIZE_BYTES_MAX => Some(Err(Fault::new(
            "E1303",
            Exit::Failed,
            "an input line is longer than 64 MiB",
        ))),
        Ok(_) => Some(Ok(line)),
        Err(error) => Some(Err(Fault::new(
            "E1304",
            Exit::Failed,
            "cannot read standard input",
        )
        .why(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_removed_and_the_last_line_needs_none() {
        let mut input = &b"a\r\n\nlast"[..];
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input) {
            lines.push(line.unwrap());
        }
        assert_eq!(lines, [b"a".to_vec(), Vec::new(), b"last".to_vec()]);
    }
}
