//! The grammar of Java properties files: comments, continuation lines, `=`, `:` or a blank between
//! key and value, escapes. Every entry knows the line it begins on.
//!
//! Differs from Java only in refusing what Java would silently misread: a broken `\u` escape and an
//! entry without a key are errors with their line.

use std::iter::Peekable;
use std::str::Chars;

/// One `key=value`, unescaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    pub value: String,
    /// The first line of the entry, counted from 1.
    pub line: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    #[error("\\u must be followed by four hexadecimal digits")]
    UnicodeEscape { line: u32 },
    #[error("there is no key before the value")]
    NoKey { line: u32 },
}

impl PropertiesError {
    pub fn line(&self) -> u32 {
        match self {
            PropertiesError::UnicodeEscape { line } | PropertiesError::NoKey { line } => *line,
        }
    }
}

/// All entries in the order of the file, repeated keys included.
pub fn parse(text: &str) -> Result<Vec<Entry>, PropertiesError> {
    let mut entries = Vec::new();
    let mut lines = natural_lines(text).zip(1..).peekable();
    while let Some((first, line)) = lines.next() {
        let first = first.trim_start_matches(is_blank);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = first.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(is_blank));
        }
        if let Some(entry) = parse_entry(&logical, line)? {
            entries.push(entry);
        }
    }
    Ok(entries)
}

/// Lines as Java sees them: ended by `\n`, `\r` or `\r\n`.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split('\n')
        .flat_map(|line| line.strip_suffix('\r').unwrap_or(line).split('\r'))
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// An odd number of backslashes at the end escapes the line's end.
fn continues(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

fn parse_entry(logical: &str, line: u32) -> Result<Option<Entry>, PropertiesError> {
    let mut chars = logical.chars().peekable();
    let key = take_text(&mut chars, line, |c| is_blank(c) || c == '=' || c == ':')?;
    skip_blanks(&mut chars);
    let separated = chars.next_if(|c| matches!(c, '=' | ':')).is_some();
    skip_blanks(&mut chars);
    let value = take_text(&mut chars, line, |_| false)?;
    match (key.is_empty(), separated || !value.is_empty()) {
        (false, _) => Ok(Some(Entry { key, value, line })),
        (true, true) => Err(PropertiesError::NoKey { line }),
        (true, false) => Ok(None),
    }
}

fn skip_blanks(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| is_blank(*c)).is_some() {}
}

/// Unescapes until an unescaped character that `ends` the text.
fn take_text(
    chars: &mut Peekable<Chars<'_>>,
    line: u32,
    ends: impl Fn(char) -> bool,
) -> Result<String, PropertiesError> {
    let mut text = String::new();
    while let Some(c) = chars.next_if(|c| !ends(*c)) {
        if c != '\\' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => text.push('\t'),
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('f') => text.push('\u{c}'),
            Some('u') => text.push(unicode_escape(chars, line)?),
            Some(other) => text.push(other),
            None => {}
        }
    }
    Ok(text)
}

/// Four digits, or twice four for a character beyond the first 65,536.
fn unicode_escape(chars: &mut Peekable<Chars<'_>>, line: u32) -> Result<char, PropertiesError> {
    let broken = PropertiesError::UnicodeEscape { line };
    let unit = four_digits(chars).ok_or_else(|| broken.clone())?;
    if let Some(c) = char::from_u32(unit) {
        return Ok(c);
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return Err(broken);
    }
    let low = four_digits(chars).ok_or_else(|| broken.clone())?;
    let pair = [
        u16::try_from(unit).unwrap_or(0),
        u16::try_from(low).unwrap_or(0),
    ];
    char::decode_utf16(pair)
        .next()
        .and_then(Result::ok)
        .ok_or(broken)
}

fn four_digits(chars: &mut Peekable<Chars<'_>>) -> Option<u32> {
    (0..4).try_fold(0, |number, _| {
        Some(number * 16 + chars.next()?.to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String, u32)> {
        parse(text)
            .unwrap()
            .into_iter()
            .map(|e| (e.key, e.value, e.line))
            .collect()
    }

    fn pair(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{all:?}");
        let (key, value, _) = all.remove(0);
        (key, value)
    }

    #[test]
    fn key_and_value_are_separated_as_in_java() {
        for text in [
            "a.b=1",
            "a.b = 1",
            "a.b: 1",
            "a.b 1",
            "  a.b\t:\t1",
            "a.b\u{c}=1",
        ] {
            assert_eq!(pair(text), ("a.b".into(), "1".into()), "{text}");
        }
        assert_eq!(pair("a"), ("a".into(), String::new()));
        assert_eq!(pair("a=b=c"), ("a".into(), "b=c".into()));
        assert_eq!(pair("a= b c "), ("a".into(), "b c ".into()));
        assert_eq!(pair(r"a\=b\ c\:d=x"), ("a=b c:d".into(), "x".into()));
    }

    #[test]
    fn comments_and_empty_lines_are_skipped_and_lines_counted() {
        let text = "# one\r\n! two\n\n  # three\rkey=value\r\nlast=2";
        assert_eq!(
            pairs(text),
            [
                ("key".into(), "value".into(), 5),
                ("last".into(), "2".into(), 6)
            ]
        );
    }

    #[test]
    fn a_backslash_at_the_end_continues_the_line_and_two_do_not() {
        assert_eq!(
            pair("a=b,\\\n    c,\\\r\n\td"),
            ("a".into(), "b,c,d".into())
        );
        assert_eq!(
            pairs("a=b\\\\\nc=d"),
            [("a".into(), "b\\".into(), 1), ("c".into(), "d".into(), 2)]
        );
        assert_eq!(pair("a=b\\"), ("a".into(), "b".into()));
        assert_eq!(
            pair("a=b\\\n# not a comment"),
            ("a".into(), "b# not a comment".into())
        );
    }

    #[test]
    fn escapes_are_javas() {
        assert_eq!(
            pair(r"a=\t\n\r\f\q\\"),
            ("a".into(), "\t\n\r\u{c}q\\".into())
        );
        assert_eq!(pair(r"a=\u00e9\uD83D\uDE00"), ("a".into(), "é😀".into()));
        assert_eq!(
            parse("\na=\\u12"),
            Err(PropertiesError::UnicodeEscape { line: 2 })
        );
        assert_eq!(
            parse("a=\\uD83D"),
            Err(PropertiesError::UnicodeEscape { line: 1 })
        );
        assert_eq!(
            parse("a=\\uD83D\\u0041"),
            Err(PropertiesError::UnicodeEscape { line: 1 })
        );
    }

    #[test]
    fn a_value_without_a_key_is_an_error() {
        assert_eq!(parse("x=1\n=2"), Err(PropertiesError::NoKey { line: 2 }));
        assert_eq!(parse(" \t \\\n"), Ok(vec![]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[\\\\ua-f0-9=: \t\r\n#!]{0,80}") {
            let _ = parse(&text);
        }
    }
}
