//! Lines as they come out of a subscriber, and levels that change under it.
#![allow(clippy::unwrap_used)]

use std::io::Write;

use parking_lot::Mutex;

use super::*;

/// Collects what is written.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap();
        text.lines().map(str::to_owned).collect()
    }
}

fn with_logging(json: bool, levels: &LogLevels, say: impl FnOnce(&Written)) {
    let written = Written::default();
    let writer = written.clone();
    let shape = Shape {
        json,
        ansi: false,
        node_id: Some(7),
    };
    let (subscriber, handle) = subscriber(shape, levels.targets(), move || writer.clone());
    levels.apply_to(handle);
    tracing::subscriber::with_default(subscriber, || say(&written));
}

#[test]
fn a_json_line_has_the_events_fields_beside_ours() {
    with_logging(true, &LogLevels::new(), |written| {
        tracing::info!(
            partition = 3,
            offset = -1_i64,
            ok = true,
            level = "mine",
            "log opened"
        );
        let lines = written.lines();
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["msg"], "log opened");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["level_"], "mine");
        assert_eq!(line["node_id"], 7);
        assert_eq!(
            (&line["partition"], &line["offset"]),
            (&3.into(), &(-1).into())
        );
        assert_eq!(line["ok"], true);
        assert_eq!(line["target"], "ottla_broker::logging::tests");
        assert!(line["ts"].as_str().unwrap().ends_with('Z'));
    });
}

#[test]
fn a_text_line_is_for_people() {
    with_logging(false, &LogLevels::new(), |written| {
        tracing::warn!(partition = 3, "log is slow");
        let lines = written.lines();
        assert!(lines[0].contains("WARN") && lines[0].contains("log is slow partition=3"));
    });
}

#[test]
fn repeated_warnings_are_left_out_and_other_lines_are_not() {
    with_logging(true, &LogLevels::new(), |written| {
        for _ in 0..50 {
            tracing::warn!("the same again");
            tracing::info!("news");
        }
        tracing::warn!("another problem");
        let lines = written.lines();
        let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
        assert_eq!(count("the same again"), 10);
        assert_eq!(count("news"), 50);
        assert_eq!(count("another problem"), 1);
    });
}

#[test]
fn levels_change_while_the_subscriber_is_in_use() {
    let levels = LogLevels::new();
    with_logging(true, &levels, |written| {
        let say = || {
            tracing::debug!(target: "ottla_broker::net::listener", "detail");
            written.lines().len()
        };
        assert_eq!(say(), 0);
        levels.set("ottla_broker.net", "debug").unwrap();
        assert_eq!(say(), 1);
        levels.unset("ottla_broker::net").unwrap();
        assert_eq!(say(), 0);
        levels.set("root", "TRACE").unwrap();
        assert_eq!(say(), 1);
        levels.set("ottla_broker", "OFF").unwrap();
        assert_eq!(say(), 0);
    });
}

#[test]
fn loggers_are_listed_with_the_level_they_inherit() {
    let levels = LogLevels::new();
    levels
        .replace("warn,ottla_broker=debug,ottla_broker::net::listener=trace")
        .unwrap();
    let rows = levels.rows();
    let level = |name: &str| rows.iter().find(|(row, _)| row == name).unwrap().1;
    assert_eq!(rows[0], ("root".to_owned(), "WARN"));
    assert_eq!(level("ottla_storage::log"), "WARN");
    assert_eq!(level("ottla_broker::net"), "DEBUG");
    assert_eq!(level("ottla_broker::net::listener"), "TRACE");
}

#[test]
fn typing_errors_are_refused_rather_than_silently_accepted() {
    let levels = LogLevels::new();
    assert!(matches!(
        levels.set("root", "loud"),
        Err(LevelError::Level { .. })
    ));
    assert!(matches!(
        levels.set("otla_broker", "INFO"),
        Err(LevelError::Logger { .. })
    ));
    assert!(matches!(
        levels.set("ottla_broker::", "INFO"),
        Err(LevelError::Logger { .. })
    ));
    assert_eq!(levels.unset("root"), Err(LevelError::RootIsNeeded));
    assert!(levels.replace("x=y=z").is_err());
    assert_eq!(levels.check("ROOT", "fatal"), Ok(()));
    for index in 0..300 {
        let _ = levels.set(&format!("raft::m{index}"), "INFO");
    }
    assert_eq!(
        levels.set("raft::one_more", "INFO"),
        Err(LevelError::TooMany)
    );
}

#[test]
fn format_auto_is_text_on_a_terminal_only() {
    assert!(!is_json(LogFormat::Auto, true) && is_json(LogFormat::Auto, false));
    assert!(is_json(LogFormat::Json, true) && !is_json(LogFormat::Text, false));
}
