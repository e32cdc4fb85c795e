//! Hands what raft logs to `tracing`, under the target `raft`. Raft speaks of every message at
//! debug level, so a line is put together only if somebody listens.

use std::fmt::{self, Write as _};

use slog::{Drain, KV, Level, Logger, Never, OwnedKVList, Record, Serializer, o};

/// The logger that raft is given.
pub(super) fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, context: &OwnedKVList) -> Result<(), Never> {
        match record.level() {
            Level::Critical | Level::Error => {
                tracing::error!(target: "raft", "{}", Line { record, context });
            }
            Level::Warning => tracing::warn!(target: "raft", "{}", Line { record, context }),
            // Every election and every restart says a dozen things at this level.
            Level::Info => tracing::debug!(target: "raft", "{}", Line { record, context }),
            Level::Debug | Level::Trace => {
                tracing::trace!(target: "raft", "{}", Line { record, context });
            }
        }
        Ok(())
    }
}

/// One line of raft's log, formatted only when it is printed.
struct Line<'a> {
    record: &'a Record<'a>,
    context: &'a OwnedKVList,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.record.msg())?;
        let mut pairs = Pairs {
            text: String::new(),
        };
        let _ = self.record.kv().serialize(self.record, &mut pairs);
        let _ = self.context.serialize(self.record, &mut pairs);
        f.write_str(&pairs.text)
    }
}

struct Pairs {
    text: String,
}

impl Serializer for Pairs {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.text, " {key}={value}").map_err(|_| slog::Error::Other)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Written;

        fn make_writer(&'a self) -> Written {
            self.clone()
        }
    }

    #[test]
    fn what_raft_logs_arrives_with_its_values() {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(written.clone())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            slog::warn!(super::logger(), "lost {}", "quorum"; "term" => 7, "peers" => ?[1, 2]);
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("WARN raft: lost quorum"), "{text}");
        assert!(
            text.contains("term=7") && text.contains("peers=[1, 2]"),
            "{text}"
        );
    }
}
