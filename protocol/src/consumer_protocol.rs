//! The bytes that consumers of the classic protocol embed in a group: what a member reads, and what
//! was assigned to it. They come from clients, so nothing in them is trusted. Only read here: the
//! members write them for each other.

use std::collections::{BTreeMap, BTreeSet};

/// Partitions by topic.
pub type Assignment = BTreeMap<String, BTreeSet<i32>>;

/// The topics of a subscription (`ConsumerProtocolSubscription`, any version); `None` when the
/// bytes are something else.
pub fn subscription(bytes: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(bytes);
    reader.version()?;
    let count = reader.count()?;
    (0..count).map(|_| reader.text()).collect()
}

/// The partitions of a `ConsumerProtocolAssignment` of any version; empty bytes are nothing.
pub fn assignment(bytes: &[u8]) -> Option<Assignment> {
    let mut assignment = Assignment::new();
    if bytes.is_empty() {
        return Some(assignment);
    }
    let mut reader = Reader(bytes);
    reader.version()?;
    for _ in 0..reader.count()? {
        let topic = reader.text()?;
        let count = reader.count()?;
        let partitions: Option<BTreeSet<i32>> = (0..count).map(|_| reader.int()).collect();
        assignment.entry(topic).or_default().extend(partitions?);
    }
    Some(assignment)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn short(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn version(&mut self) -> Option<i16> {
        self.short().filter(|version| *version >= 0)
    }

    /// How many elements follow; each takes at least two bytes, so more cannot.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(self.int()?).ok()?;
        (count <= self.0.len() / 2).then_some(count)
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.short()?).ok()?;
        let bytes = self.take(length)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNED: &[u8] = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\x02\0\0\0\x03\0\0\0\x01\0\0\0\0";

    #[test]
    fn topics_and_partitions_are_read_and_what_follows_is_left_alone() {
        let expected = Assignment::from([("orders".to_owned(), BTreeSet::from([1, 3]))]);
        assert_eq!(assignment(ASSIGNED), Some(expected));
        assert_eq!(assignment(b""), Some(Assignment::new()));
        let subscribed = b"\0\x01\0\0\0\x01\0\x06orders\0\0\0\0";
        assert_eq!(subscription(subscribed), Some(vec!["orders".to_owned()]));
    }

    #[test]
    fn other_bytes_are_no_assignment_and_take_no_memory() {
        for cut in 1..ASSIGNED.len() - 4 {
            assert_eq!(assignment(&ASSIGNED[..cut]), None, "{cut}");
        }
        assert_eq!(assignment(b"\0\x01\x7f\xff\xff\xff"), None);
        assert_eq!(assignment(b"\xff\xff\0\0\0\0"), None);
        assert_eq!(subscription(b"{\"connect\": 1}"), None);
    }
}
