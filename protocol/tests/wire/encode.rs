//! Every message type encodes at every version: a response that cannot be written is a dead client.

use std::fmt::Debug;

use ottla_protocol::api;
use ottla_protocol::messages::*;

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
