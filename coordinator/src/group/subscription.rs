//! The topics in the metadata of Kafka's consumer protocol. The bytes come from clients: what is
//! not understood is `None`, never an error.

use std::collections::BTreeSet;

use bytes::{Buf, Bytes};

/// The topics of all members; `None` if any of them is not understood.
pub(super) fn topics_of_all(
    subscriptions: impl Iterator<Item = Bytes>,
) -> Option<BTreeSet<String>> {
    let mut all = BTreeSet::new();
    for subscription in subscriptions {
        add_topics(subscription, &mut all)?;
    }
    Some(all)
}

/// `version: i16, topics: [string], ...`: later fields do not matter here.
fn add_topics(mut bytes: Bytes, all: &mut BTreeSet<String>) -> Option<()> {
    let version = bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    if version < 0 || count < 0 {
        return None;
    }
    for _ in 0..count {
        let len = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
        if bytes.remaining() < len {
            return None;
        }
        let name = bytes.split_to(len);
        all.insert(std::str::from_utf8(&name).ok()?.to_owned());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(bytes: &[u8]) -> Option<BTreeSet<String>> {
        topics_of_all([Bytes::copy_from_slice(bytes)].into_iter())
    }

    #[test]
    fn the_topics_are_read_and_later_fields_are_not() {
        let bytes = b"\0\x03\0\0\0\x02\0\x01a\0\x02bb\xff\xff\xff\xff";
        assert_eq!(
            topics(bytes),
            Some(BTreeSet::from(["a".to_owned(), "bb".to_owned()]))
        );
    }

    #[test]
    fn what_is_cut_off_or_claims_too_much_is_not_understood() {
        assert_eq!(topics(b""), None);
        assert_eq!(topics(b"\0\x01\x7f\xff\xff\xff"), None);
        assert_eq!(topics(b"\0\x01\0\0\0\x01\x7f\xffa"), None);
        assert_eq!(topics(b"\0\x01\0\0\0\x01\xff\xffa"), None);
        assert_eq!(topics(b"\xff\xff\0\0\0\0"), None);
        assert_eq!(topics(b"\0\x01\0\0\0\x01\0\x01\xff"), None);
    }
}
