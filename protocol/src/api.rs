//! Facts about the APIs on the wire: keys, names, versions, where flexible versions start.
//!
//! The versions are those the message codec of this crate can decode and encode. Which of them the
//! broker serves and advertises is the broker's own table; it is checked against this one.

mod facts;
use facts::{FACTS, NEVER};

/// One API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiFacts {
    pub key: i16,
    /// Kafka's name without `Request`.
    pub name: &'static str,
    pub min: i16,
    pub max: i16,
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: i16,
}

impl ApiFacts {
    pub fn has_version(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    pub fn has_flexible_versions(&self) -> bool {
        self.flexible_from != NEVER
    }
}

/// The key whose response header never is flexible: a client must be able to read the answer before
/// it knows which versions the broker speaks.
pub const API_VERSIONS_KEY: i16 = 18;

/// The facts of one API, `None` for a key the codec does not have.
pub fn facts(key: i16) -> Option<&'static ApiFacts> {
    // Few, and sorted by key.
    FACTS
        .binary_search_by_key(&key, |facts| facts.key)
        .ok()
        .map(|index| &FACTS[index])
}

/// All APIs, by key.
pub fn all() -> &'static [ApiFacts] {
    FACTS
}

/// True if the request has compact lengths and tagged fields, and so header version 2.
pub fn request_is_flexible(key: i16, version: i16) -> bool {
    facts(key).is_some_and(|facts| version >= facts.flexible_from)
}

/// True if the response header ends in tagged fields.
pub fn response_header_is_flexible(key: i16, version: i16) -> bool {
    key != API_VERSIONS_KEY && request_is_flexible(key, version)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::{HeaderVersion, Message};

    use super::*;
    use crate::messages::*;

    #[test]
    fn keys_ascend_and_are_found() {
        assert!(FACTS.is_sorted_by(|a, b| a.key < b.key));
        for expected in FACTS {
            assert_eq!(facts(expected.key), Some(expected));
        }
        assert_eq!(facts(-1), None);
        assert_eq!(facts(4), None);
        assert_eq!(facts(999), None);
    }

    macro_rules! codec_agrees {
        ($($key:literal $name:ident $request:ident $response:ident;)*) => {$({
            let facts = facts($key).unwrap();
            assert_eq!(facts.name, stringify!($name));
            let range = <$request as Message>::VERSIONS;
            let max = struct_version::<$request>($key, facts.max);
            assert_eq!((facts.min, max), (range.min, range.max), "{}", facts.name);
            let range = <$response as Message>::VERSIONS;
            let max = struct_version::<$response>($key, facts.max);
            assert!(facts.min >= range.min && max <= range.max, "{}", facts.name);
            for version in facts.min..=facts.max {
                let flexible = request_is_flexible($key, version);
                let header = <$request as HeaderVersion>::header_version(version);
                assert_eq!(flexible, header == 2, "{} {version}", facts.name);
                let flexible = response_header_is_flexible($key, version);
                let header = <$response as HeaderVersion>::header_version(version);
                assert_eq!(flexible, header == 1, "{} {version}", facts.name);
            }
        })*};
    }

    #[test]
    fn versions_are_those_the_structs_decode() {
        crate::for_each_api!(codec_agrees);
    }
}
