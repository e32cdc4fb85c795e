//! Kafka's consumer protocol as members of the classic protocol embed it in JoinGroup and
//! SyncGroup: a subscription from them, an assignment to them. The bytes come from clients.

use bytes::{BufMut, Bytes, BytesMut};
use ottla_protocol::error::DecodeError;
use ottla_protocol::wire::{Reader, put_array_len, put_null_array, put_string};

/// Partitions by the names of their topics.
pub(super) type Named = Vec<(String, Vec<i32>)>;

/// The newest version of both; newer ones only add fields at the end.
const NEWEST: i16 = 3;
const OWNED_FROM: i16 = 1;
const GENERATION_FROM: i16 = 2;
const RACK_FROM: i16 = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: Vec<String>,
    pub(super) owned: Named,
    pub(super) rack_id: Option<String>,
}

pub(super) struct Assigned {
    pub(super) partitions: Named,
    pub(super) has_user_data: bool,
}

/// A topic's name and its partitions, both empty.
const NAMED_MIN_BYTES: usize = 6;

pub(super) fn version(bytes: &Bytes) -> Option<i16> {
    let version = Reader::new(bytes).i16().ok()?;
    (version >= 0).then_some(version.min(NEWEST))
}

/// `None`: malformed.
pub(super) fn subscription(bytes: &Bytes) -> Option<Subscription> {
    let version = version(bytes)?;
    read_subscription(version, &mut Reader::at(bytes, 2)).ok()
}

fn read_subscription(version: i16, reader: &mut Reader<'_>) -> Result<Subscription, DecodeError> {
    let mut told = Subscription::default();
    for _ in 0..reader.array_len(false, 2)? {
        told.topics.push(reader.string(false)?.to_owned());
    }
    skip_bytes(reader)?;
    if version >= OWNED_FROM {
        told.owned = named(reader)?;
    }
    if version >= GENERATION_FROM {
        reader.i32()?;
    }
    if version >= RACK_FROM {
        told.rack_id = reader.nullable_string(false)?.map(str::to_owned);
    }
    Ok(told)
}

/// `None`: malformed.
pub(super) fn assigned(bytes: &Bytes) -> Option<Assigned> {
    version(bytes)?;
    let reader = &mut Reader::at(bytes, 2);
    let partitions = named(reader).ok()?;
    let user_data = skip_bytes(reader).ok()?;
    Some(Assigned {
        partitions,
        has_user_data: user_data > 0,
    })
}

fn named(reader: &mut Reader<'_>) -> Result<Named, DecodeError> {
    let mut named = Named::new();
    for _ in 0..reader.array_len(false, NAMED_MIN_BYTES)? {
        let topic = reader.string(false)?.to_owned();
        let count = reader.array_len(false, 4)?;
        let partitions = (0..count).map(|_| reader.i32()).collect::<Result<_, _>>()?;
        named.push((topic, partitions));
    }
    Ok(named)
}

/// Nullable bytes; how many there were.
fn skip_bytes(reader: &mut Reader<'_>) -> Result<usize, DecodeError> {
    let len = reader.bytes_len(false)?.unwrap_or(0);
    Ok(reader.take(len)?.len())
}

pub(super) fn put_assigned(version: i16, partitions: &Named) -> Bytes {
    let mut buf = BytesMut::new();
    buf.put_i16(version);
    put_array_len(&mut buf, false, partitions.len());
    for (topic, partitions) in partitions {
        put_string(&mut buf, false, topic);
        put_array_len(&mut buf, false, partitions.len());
        for partition in partitions {
            buf.put_i32(*partition);
        }
    }
    put_null_array(&mut buf, false);
    buf.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_of_every_version_are_read() {
        let topics = b"\0\0\0\x01\0\x01t\0\0\0\x02ud";
        let owned = b"\0\0\0\x01\0\x01o\0\0\0\x02\0\0\0\x04\0\0\0\x05";
        let mut told = Subscription {
            topics: vec!["t".to_owned()],
            ..Subscription::default()
        };
        let read = |parts: &[&[u8]]| subscription(&Bytes::from(parts.concat()));
        assert_eq!(read(&[b"\0\0", topics]), Some(told.clone()));
        told.owned = vec![("o".to_owned(), vec![4, 5])];
        assert_eq!(read(&[b"\0\x01", topics, owned]), Some(told.clone()));
        assert_eq!(
            read(&[b"\0\x02", topics, owned, b"\0\0\0\x07"]),
            Some(told.clone())
        );
        told.rack_id = Some("r".to_owned());
        let more = b"\0\0\0\x07\0\x01r";
        assert_eq!(read(&[b"\0\x03", topics, owned, more]), Some(told.clone()));
        assert_eq!(
            read(&[b"\0\x09", topics, owned, more, b"newer"]),
            Some(told)
        );
        assert_eq!(read(&[b"\0\x01", topics]), None);
        assert_eq!(read(&[b"\xff\xff", topics]), None);
        assert_eq!(read(&[b"\0"]), None);
        assert_eq!(read(&[b"\0\0\x7f\xff\xff\xff"]), None);
    }

    #[test]
    fn an_assignment_is_read_as_it_was_written() {
        let partitions = vec![("t".to_owned(), vec![0, 2])];
        let bytes = put_assigned(1, &partitions);
        let expected = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff";
        assert_eq!(&bytes[..], expected);
        let read = assigned(&bytes).unwrap();
        assert_eq!((read.partitions, read.has_user_data), (partitions, false));
        assert!(
            assigned(&Bytes::from_static(b"\0\0\0\0\0\0\0\0\0\x01u"))
                .unwrap()
                .has_user_data
        );
        assert!(assigned(&Bytes::from_static(b"\0\0\0\0\0\x01")).is_none());
    }
}
