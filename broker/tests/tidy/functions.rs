//! How long each function is, and the list of the few long ones that were accepted.
//!
//! Lengths are counted on formatted code: from the line of `fn` to the brace that closes it at the
//! same indentation. The list is a ratchet: an entry may shrink or go; a new or longer one fails
//! the test until somebody writes it down on purpose (`UPDATE=1`).

use super::source::SourceFile;
use std::collections::BTreeMap;

/// A function of more lines than this is long: more than fits on one screen.
pub(crate) const LONG_LINES: usize = 60;

/// `path::function` -> lines, for all functions longer than [`LONG_LINES`].
pub(crate) fn long_functions(files: &[SourceFile]) -> BTreeMap<String, usize> {
    let mut long = BTreeMap::new();
    for file in files {
        let code = file.code();
        let lines: Vec<&str> = code.lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let Some(name) = function_name(line) else {
                continue;
            };
            let length = function_length(&lines[start..]);
            if length > LONG_LINES {
                let entry = long.entry(format!("{}::{name}", file.path)).or_insert(0);
                *entry = length.max(*entry);
            }
        }
    }
    long
}

/// The name of the function that `line` starts, if it starts one.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let modifiers = [
        "pub",
        "pub(crate)",
        "pub(super)",
        "const",
        "async",
        "unsafe",
        "extern",
    ];
    if !before
        .split_whitespace()
        .all(|word| modifiers.contains(&word))
    {
        return None;
    }
    let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (end > 0).then(|| &after[..end])
}

/// Lines up to and including the closing brace; 1 for a declaration without body.
fn function_length(lines: &[&str]) -> usize {
    let first = lines[0];
    let indent = &first[..first.len() - first.trim_start().len()];
    for (index, line) in lines.iter().enumerate() {
        let trimmed = line.trim_end();
        let same_level = line.starts_with(indent) && !line[indent.len()..].starts_with(' ');
        if same_level && index > 0 && trimmed.trim_start() == "}" {
            return index + 1;
        }
        let one_line = index == 0 && trimmed.ends_with('}');
        if one_line || (same_level && trimmed.ends_with(';')) {
            return index + 1;
        }
    }
    1
}

/// Parses the checked-in list: `lines path::function`, with `#` comments.
pub(crate) fn parse_list(text: &str) -> BTreeMap<String, usize> {
    let entries = text
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let parse = |line: &str| {
        let (lines, name) = line.trim().split_once(' ')?;
        Some((name.trim().to_owned(), lines.parse().ok()?))
    };
    entries.filter_map(parse).collect()
}

pub(crate) fn format_list(long: &BTreeMap<String, usize>) -> String {
    let mut text = String::from(
        "# Functions longer than one screen that were accepted: lines, then file and name.\n\
         # This list normally only shrinks; `UPDATE=1 cargo test -p ottla-broker --test tidy`\n\
         # rewrites it, and a new entry is explained in its commit.\n",
    );
    for (name, lines) in long {
        text.push_str(&format!("{lines} {name}\n"));
    }
    text
}
