//! Every message type encodes at every version: a response that cannot be written is a dead client.

use std::fmt::Debug;

use bytes::Bytes;
use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::*;
use ottla_protocol::{EncodeError, api};

fn check<Q: Request + Default, R: Response + Default + PartialEq + Debug>() {
    let facts = api::facts(R::KEY).unwrap();
    for version in facts.min..=facts.max {
        let what = format!("{} {version}", facts.name);
        let frame = encode_response(5, version, &R::default()).expect(&what);
        let (correlation_id, again) = decode_response(frame.slice(4..), version).expect(&what);
        assert_eq!(correlation_id, 5);
        assert_eq!(R::default(), again, "{what}");
        encode_request(5, "test", version, &Q::default()).expect(&what);
    }
}

macro_rules! check_all {
    ($($key:literal $name:ident $request:ident $response:ident;)*) => {
        $(check::<$request, $response>();)*
    };
}

#[test]
fn every_default_response_encodes_and_decodes_at_every_version() {
    ottla_protocol::for_each_api!(check_all);
}

#[test]
fn null_records_are_never_sent() {
    let response = |records| {
        let partition = PartitionData::default().with_records(records);
        let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
        FetchResponse::default().with_responses(vec![topic])
    };
    for version in 4..=18 {
        let refused = encode_response(5, version, &response(None));
        assert_eq!(refused, Err(EncodeError::NullRecords), "{version}");
        assert!(
            encode_response(5, version, &response(Some(Bytes::new()))).is_ok(),
            "{version}"
        );
    }
}
