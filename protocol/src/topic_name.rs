//! Which topic names are legal, and which two names may not live side by side.
//!
//! The rules are Kafka's: at most 249 characters of `[a-zA-Z0-9._-]`, neither `.` nor `..`. Names
//! that differ only in `.` and `_` collide, because Kafka's metric names replace one by the other.
//! A valid name is safe as part of a file name: no separator, no control character, no Unicode.

use thiserror::Error;

/// The longest legal name; leaves room for `-<partition>` and a suffix in a 255-byte file name.
pub const MAX_NAME_LEN: usize = 249;

/// Why a name is not legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicNameError {
    #[error("the topic name is empty")]
    Empty,
    #[error("the topic name cannot be \".\" or \"..\"")]
    Dots,
    #[error("the topic name is longer than {MAX_NAME_LEN} characters")]
    TooLong,
    #[error(
        "the topic name may contain only ASCII letters, digits, '.', '_' and '-', not {found:?}"
    )]
    Character { found: char },
}

/// Checks a name that is to become a topic.
pub fn validate(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(TopicNameError::TooLong);
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        Some(found) => Err(TopicNameError::Character { found }),
        None => Ok(()),
    }
}

/// True if the two names are equal once `.` and `_` are taken for the same character.
pub fn collides(a: &str, b: &str) -> bool {
    let same = |c: u8| if c == b'.' { b'_' } else { c };
    a.len() == b.len() && a.bytes().map(same).eq(b.bytes().map(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_pass() {
        let longest = "x".repeat(MAX_NAME_LEN);
        for name in [
            "a",
            "orders",
            "a.b_c-D9",
            "...",
            "__consumer_offsets",
            longest.as_str(),
        ] {
            assert_eq!(validate(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn illegal_names_are_told_why() {
        assert_eq!(validate(""), Err(TopicNameError::Empty));
        assert_eq!(validate("."), Err(TopicNameError::Dots));
        assert_eq!(validate(".."), Err(TopicNameError::Dots));
        assert_eq!(validate(&"x".repeat(250)), Err(TopicNameError::TooLong));
        for name in ["a b", "a/b", "../x", "a\0", "topic\n", "ä", "a:b"] {
            assert!(
                matches!(validate(name), Err(TopicNameError::Character { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert!(collides("a.b", "a_b"));
        assert!(collides("a.b", "a.b"));
        assert!(!collides("a.b", "a-b"));
        assert!(!collides("a.b", "a.bc"));
    }
}
