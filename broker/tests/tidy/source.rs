//! The repository as text: which files there are, and what in a Rust file is code or comment.
//!
//! Reads the work tree, never git, so that a new file is checked before it is committed. Knows just
//! enough of Rust's lexical rules to blank out strings and comments; it does not parse.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that hold nothing written here.
const SKIPPED: &[&str] = &[
    "target",
    ".git",
    "node_modules",
    "ottla-data",
    "__pycache__",
];

/// The root of the clone that cargo runs this test for (a binary may be shared between clones).
pub(crate) fn root() -> PathBuf {
    let broker = std::env::var("CARGO_MANIFEST_DIR");
    let broker = broker.unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let parent = Path::new(&broker).parent();
    parent
        .expect("the crate lies in the workspace")
        .to_path_buf()
}

/// One file of the work tree: its path from the root with '/', and its text.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    /// The text with comments and the inside of strings replaced by spaces, line by line.
    pub(crate) fn code(&self) -> String {
        split(&self.text).0
    }

    /// The comments alone (without their slashes), line by line.
    pub(crate) fn comments(&self) -> String {
        split(&self.text).1
    }

    /// The code without its `#[cfg(test)]` modules, which may open doors that logic may not.
    pub(crate) fn code_outside_tests(&self) -> String {
        let code = self.code();
        let mut kept = String::with_capacity(code.len());
        let mut lines = code.lines();
        while let Some(line) = lines.next() {
            let opens = line.trim() == "#[cfg(test)]";
            kept.push_str(if opens { "" } else { line });
            kept.push('\n');
            if opens {
                skip_item(line, &mut lines, &mut kept);
            }
        }
        kept
    }
}

/// The files that exist for tests only: below `tests/`, named so, or declared under `#[cfg(test)]`.
pub(crate) fn test_files(sources: &[SourceFile]) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for file in sources {
        let path = &file.path;
        if path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/") {
            tests.insert(path.clone());
        }
        let folder = match path.rsplit_once('/') {
            Some((folder, "lib.rs" | "main.rs" | "mod.rs")) => folder.to_owned(),
            _ => path.trim_end_matches(".rs").to_owned(),
        };
        let code = file.code();
        let lines: Vec<&str> = code.lines().map(str::trim).collect();
        for pair in lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]") {
            let declared = pair[1]
                .rsplit_once("mod ")
                .and_then(|(_, name)| name.strip_suffix(';'));
            tests.extend(declared.map(|name| format!("{folder}/{name}.rs")));
        }
    }
    tests
}

/// Drops the item after a `#[cfg(test)]`: up to the line that closes it at the same indentation.
fn skip_item<'a>(attribute: &str, lines: &mut impl Iterator<Item = &'a str>, kept: &mut String) {
    let indent = &attribute[..attribute.len() - attribute.trim_start().len()];
    let closing = format!("{indent}}}");
    for line in lines {
        kept.push('\n');
        let at_same_level = line.starts_with(indent) && !line[indent.len()..].starts_with(' ');
        if line.trim_end() == closing || (at_same_level && line.trim_end().ends_with(';')) {
            return;
        }
    }
}

/// Every file of the work tree whose name ends in one of `endings`, sorted by path.
pub(crate) fn files(endings: &[&str]) -> Vec<SourceFile> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let wanted = |path: &PathBuf| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        endings.iter().any(|ending| name.ends_with(ending))
    };
    let read = |path: PathBuf| {
        let relative = path.strip_prefix(&root).expect("walked from the root");
        SourceFile {
            path: relative.to_string_lossy().into_owned(),
            text: fs::read_to_string(&path).unwrap_or_default(),
        }
    };
    found.into_iter().filter(wanted).map(read).collect()
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder)
        .expect("the work tree is readable")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if SKIPPED.contains(&name.as_str()) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

/// Splits Rust text into (code, comments), both of the same length in lines.
fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut comments) = (String::new(), String::new());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < chars.len() {
        let (next, taken) = step(&chars[at..], inside, at > 0 && is_word(chars[at - 1]));
        for &c in &chars[at..at + taken] {
            let comment = matches!(inside, Inside::LineComment | Inside::BlockComment(_));
            let plain = inside == Inside::Code && next == Inside::Code;
            code.push(if c == '\n' || plain { c } else { ' ' });
            comments.push(if c == '\n' || comment { c } else { ' ' });
        }
        inside = next;
        at += taken;
    }
    (code, comments)
}

/// What follows `rest` inside `inside`: the next state, and how many characters were consumed.
fn step(rest: &[char], inside: Inside, after_word: bool) -> (Inside, usize) {
    match inside {
        Inside::Code => step_code(rest, after_word),
        Inside::LineComment if rest[0] == '\n' => (Inside::Code, 1),
        Inside::LineComment => (Inside::LineComment, 1),
        Inside::BlockComment(depth) if rest.starts_with(&['/', '*']) => {
            (Inside::BlockComment(depth + 1), 2)
        }
        Inside::BlockComment(depth) if rest.starts_with(&['*', '/']) => (
            if depth == 1 {
                Inside::Code
            } else {
                Inside::BlockComment(depth - 1)
            },
            2,
        ),
        Inside::BlockComment(depth) => (Inside::BlockComment(depth), 1),
        Inside::Text if rest[0] == '\\' => (Inside::Text, rest.len().min(2)),
        Inside::Text => (
            if rest[0] == '"' {
                Inside::Code
            } else {
                Inside::Text
            },
            1,
        ),
        Inside::RawText(hashes) if closes_raw(rest, hashes) => (Inside::Code, hashes + 1),
        Inside::RawText(hashes) => (Inside::RawText(hashes), 1),
    }
}

fn step_code(rest: &[char], after_word: bool) -> (Inside, usize) {
    if rest.starts_with(&['/', '/']) {
        return (Inside::LineComment, 2);
    }
    if rest.starts_with(&['/', '*']) {
        return (Inside::BlockComment(1), 2);
    }
    if rest[0] == '"' {
        return (Inside::Text, 1);
    }
    if rest[0] == 'r' && !after_word {
        let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
        if rest.get(1 + hashes) == Some(&'"') {
            return (Inside::RawText(hashes), hashes + 2);
        }
    }
    if rest[0] == '\'' {
        return (Inside::Code, char_literal_len(rest));
    }
    (Inside::Code, 1)
}

/// The length of a character literal, or 1 for the quote of a lifetime.
fn char_literal_len(rest: &[char]) -> usize {
    if rest.get(1) == Some(&'\\') {
        let close = rest.iter().skip(3).position(|c| *c == '\'');
        return close.map_or(1, |position| position + 4);
    }
    if rest.get(2) == Some(&'\'') { 3 } else { 1 }
}

fn closes_raw(rest: &[char], hashes: usize) -> bool {
    rest[0] == '"' && rest.len() > hashes && rest[1..=hashes].iter().all(|c| *c == '#')
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
