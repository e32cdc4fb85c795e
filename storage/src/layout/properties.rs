//! The format of `meta.properties` and `ottla.format`: `key=value` lines, `#` comments, and the
//! escapes that Java's writer uses. Only what such a writer produces: no continued lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::LayoutError;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Properties {
    file: &'static str,
    /// Key to line number and value.
    entries: BTreeMap<String, (u32, String)>,
}

impl Properties {
    pub(super) fn parse(file: &'static str, content: &[u8]) -> Result<Properties, LayoutError> {
        let malformed = |line, problem| LayoutError::Malformed {
            file: file.to_owned(),
            line,
            problem,
        };
        let text = std::str::from_utf8(content).map_err(|_| malformed(1, "not text"))?;
        let mut entries = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', '!']) {
                continue;
            }
            let Some((key, value)) = split(line) else {
                return Err(malformed(number, "expected key=value"));
            };
            let (Some(key), Some(value)) = (unescape(key), unescape(value)) else {
                return Err(malformed(number, "unknown escape"));
            };
            if entries.insert(key, (number, value)).is_some() {
                return Err(malformed(number, "this key appears twice"));
            }
        }
        Ok(Properties { file, entries })
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|(_, value)| value.as_str())
    }

    pub(super) fn required(&self, key: &str, missing: &'static str) -> Result<&str, LayoutError> {
        self.get(key).ok_or_else(|| self.malformed_at(0, missing))
    }

    pub(super) fn malformed(&self, key: &str, problem: &'static str) -> LayoutError {
        self.malformed_at(self.entries.get(key).map_or(0, |(line, _)| *line), problem)
    }

    fn malformed_at(&self, line: u32, problem: &'static str) -> LayoutError {
        LayoutError::Malformed {
            file: self.file.to_owned(),
            line,
            problem,
        }
    }
}

pub(super) fn format(comment: &str, entries: &[(&str, &str)]) -> String {
    let mut text = format!("# {comment}\n");
    for (key, value) in entries {
        let _ = writeln!(text, "{}={}", escape(key), escape(value));
    }
    text
}

/// At the first `=` or `:` that is not escaped.
fn split(line: &str) -> Option<(&str, &str)> {
    let mut escaped = false;
    for (at, byte) in line.bytes().enumerate() {
        match byte {
            b'\\' if !escaped => escaped = true,
            b'=' | b':' if !escaped => return Some((line[..at].trim(), line[at + 1..].trim())),
            _ => escaped = false,
        }
    }
    None
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        match characters.next()? {
            escaped @ ('=' | ':' | '#' | '!' | '\\' | ' ') => plain.push(escaped),
            _ => return None,
        }
    }
    Some(plain)
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '=' | ':' | '#' | '!' | '\\' | ' ') {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}
