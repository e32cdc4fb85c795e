//! Rules that hold for all handlers.

use std::collections::BTreeSet;

use ottla_protocol::messages;

use crate::api::APIS;
use crate::handlers::testing::TestBroker;

/// Asks each API, in every version it is served in, for what an empty request asks for. `call`
/// panics when the answer does not fit the version.
macro_rules! ask_everything {
    ($broker:expr, $($request:ident)*) => {{
        let mut asked = BTreeSet::new();
        $(
            let key = <messages::$request as messages::Request>::KEY;
            let api = crate::api::find(key).expect("a row");
            for version in api.serve.min..=api.serve.max {
                $broker.call(version, messages::$request::default());
            }
            asked.insert(key);
        )*
        asked
    }};
}

/// Served by the handlers of records, which have tests of their own in every version.
const RECORDS: &[i16] = &[0, 1, 2, 18, 22, 23];

#[test]
fn every_answer_fits_every_version_it_is_served_in() {
    let broker = TestBroker::new();
    broker.create_topic("a", 2);
    let asked = ask_everything!(
        broker,
        MetadataRequest
        FindCoordinatorRequest
        OffsetCommitRequest
        OffsetFetchRequest
        JoinGroupRequest
        HeartbeatRequest
        LeaveGroupRequest
        SyncGroupRequest
        DescribeGroupsRequest
        ListGroupsRequest
        DeleteGroupsRequest
        OffsetDeleteRequest
        CreateTopicsRequest
        DeleteTopicsRequest
        DeleteRecordsRequest
        DescribeAclsRequest
        CreateAclsRequest
        DeleteAclsRequest
        DescribeConfigsRequest
        AlterConfigsRequest
        AlterReplicaLogDirsRequest
        DescribeLogDirsRequest
        CreatePartitionsRequest
        CreateDelegationTokenRequest
        RenewDelegationTokenRequest
        ExpireDelegationTokenRequest
        DescribeDelegationTokenRequest
        ElectLeadersRequest
        IncrementalAlterConfigsRequest
        AlterPartitionReassignmentsRequest
        ListPartitionReassignmentsRequest
        DescribeClientQuotasRequest
        AlterClientQuotasRequest
        DescribeUserScramCredentialsRequest
        AlterUserScramCredentialsRequest
        DescribeQuorumRequest
        UpdateFeaturesRequest
        DescribeClusterRequest
        UnregisterBrokerRequest
        DescribeTransactionsRequest
        ListTransactionsRequest
        ConsumerGroupHeartbeatRequest
        ConsumerGroupDescribeRequest
        ListConfigResourcesRequest
        DescribeTopicPartitionsRequest
        AddRaftVoterRequest
        RemoveRaftVoterRequest
    );
    for api in APIS {
        assert!(
            asked.contains(&api.key) || RECORDS.contains(&api.key),
            "{api:?} is not asked"
        );
    }
}

/// APIs that Kafka 4.3 serves and this broker does not yet: clients change what they do when they
/// see them.
const SWITCHES: &[i16] = &[71, 72, 76, 77, 78, 79, 88, 89];

#[test]
fn nothing_that_switches_clients_is_served() {
    for api in APIS {
        assert!(!SWITCHES.contains(&api.key), "{api:?}");
    }
}

#[test]
fn what_is_switched_off_is_refused_entry_by_entry() {
    use messages::*;
    let broker = TestBroker::new();
    let acls = broker.call(3, DescribeAclsRequest::default());
    assert_eq!(acls.error_code, 54);
    let creations = vec![create_acls_request::AclCreation::default(); 2];
    let created = broker.call(3, CreateAclsRequest::default().with_creations(creations));
    assert_eq!(
        created
            .results
            .iter()
            .map(|r| r.error_code)
            .collect::<Vec<_>>(),
        [54, 54]
    );
    let filters = vec![delete_acls_request::DeleteAclsFilter::default(); 3];
    let deleted = broker.call(3, DeleteAclsRequest::default().with_filters(filters));
    assert_eq!(
        deleted
            .filter_results
            .iter()
            .map(|r| r.error_code)
            .collect::<Vec<_>>(),
        [54; 3]
    );

    assert_eq!(
        broker
            .call(3, CreateDelegationTokenRequest::default())
            .error_code,
        61
    );
    assert_eq!(
        broker
            .call(2, RenewDelegationTokenRequest::default())
            .error_code,
        61
    );
    assert_eq!(
        broker
            .call(2, ExpireDelegationTokenRequest::default())
            .error_code,
        61
    );
    assert_eq!(
        broker
            .call(3, DescribeDelegationTokenRequest::default())
            .error_code,
        61
    );

    assert_eq!(
        broker.call(0, AddRaftVoterRequest::default()).error_code,
        35
    );
    assert_eq!(
        broker.call(0, RemoveRaftVoterRequest::default()).error_code,
        35
    );
}

#[test]
fn nobody_has_quotas_and_nobody_can_be_given_any() {
    use messages::*;
    let broker = TestBroker::new();
    let component = |kind: &'static str| {
        describe_client_quotas_request::ComponentData::default()
            .with_entity_type(StrBytes::from_static_str(kind))
    };
    for (kind, code, entries) in [
        ("user", 0, Some(0)),
        ("client-id", 0, Some(0)),
        ("planet", 35, None),
    ] {
        let request = DescribeClientQuotasRequest::default().with_components(vec![component(kind)]);
        let response = broker.call(1, request);
        assert_eq!(response.error_code, code);
        assert_eq!(response.entries.map(|entries| entries.len()), entries);
    }
    let entity = alter_client_quotas_request::EntityData::default()
        .with_entity_type(StrBytes::from_static_str("user"))
        .with_entity_name(None);
    let entry = alter_client_quotas_request::EntryData::default().with_entity(vec![entity]);
    let response = broker.call(
        1,
        AlterClientQuotasRequest::default().with_entries(vec![entry]),
    );
    assert_eq!(response.entries[0].error_code, 35);
    assert_eq!(&*response.entries[0].entity[0].entity_type, "user");
}

#[test]
fn nobody_has_scram_credentials() {
    use messages::*;
    let broker = TestBroker::new();
    let name = StrBytes::from_static_str;
    let user =
        |text| describe_user_scram_credentials_request::UserName::default().with_name(name(text));
    let describe = |users| {
        let request = DescribeUserScramCredentialsRequest::default().with_users(users);
        let response = broker.call(0, request);
        assert_eq!(response.error_code, 0);
        let told = response
            .results
            .iter()
            .map(|r| (r.user.to_string(), r.error_code));
        told.collect::<Vec<_>>()
    };
    assert!(describe(None).is_empty());
    let asked = Some(vec![user("b"), user("a"), user("b")]);
    assert_eq!(
        describe(asked),
        [("a".to_owned(), 91), ("b".to_owned(), 91)]
    );
    let gone = alter_user_scram_credentials_request::ScramCredentialDeletion::default()
        .with_name(name("gone"));
    let given = alter_user_scram_credentials_request::ScramCredentialUpsertion::default()
        .with_name(name("given"));
    let request = AlterUserScramCredentialsRequest::default()
        .with_deletions(vec![gone])
        .with_upsertions(vec![given]);
    let told: Vec<_> = broker
        .call(0, request)
        .results
        .iter()
        .map(|r| (r.user.to_string(), r.error_code))
        .collect();
    assert_eq!(told, [("given".to_owned(), 35), ("gone".to_owned(), 91)]);
}

#[test]
fn no_group_is_coordinated_here() {
    use messages::*;
    let broker = TestBroker::new();
    for version in 0..=5 {
        let response = broker.call(version, ListGroupsRequest::default());
        assert_eq!((response.error_code, response.groups.len()), (0, 0));
    }
}

#[test]
fn no_transaction_exists() {
    use messages::*;
    let broker = TestBroker::new();
    let ids = vec![TransactionalId(StrBytes::from_static_str("t"))];
    let response = broker.call(
        0,
        DescribeTransactionsRequest::default().with_transactional_ids(ids),
    );
    assert_eq!(response.transaction_states[0].error_code, 105);
    let states = ["Ongoing", "Sleeping"]
        .map(StrBytes::from_static_str)
        .to_vec();
    let response = broker.call(
        2,
        ListTransactionsRequest::default().with_state_filters(states),
    );
    assert_eq!(
        (response.error_code, response.transaction_states.len()),
        (0, 0)
    );
    assert_eq!(
        response.unknown_state_filters,
        ["Sleeping"].map(StrBytes::from_static_str)
    );
}

#[test]
fn a_running_broker_is_not_forgotten_and_an_unknown_one_is_not_known() {
    use messages::*;
    let broker = TestBroker::new();
    let unregister = |id: i32| {
        let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(id));
        broker.call(0, request).error_code
    };
    assert_eq!((unregister(1), unregister(77)), (42, 102));
    broker.fence();
    assert_eq!(unregister(1), 0);
    assert!(broker.image().brokers.iter().next().is_none());
}

#[test]
fn features_are_updated_all_or_none() {
    use messages::*;
    let broker = TestBroker::new();
    let update = |version: i16, updates: &[(&'static str, i16, i8)]| {
        let updates = updates.iter().map(|(name, level, kind)| {
            let update = update_features_request::FeatureUpdateKey::default()
                .with_feature(StrBytes::from_static_str(name))
                .with_max_version_level(*level);
            if version == 0 {
                update
            } else {
                update.with_upgrade_type(*kind)
            }
        });
        let request = UpdateFeaturesRequest::default().with_feature_updates(updates.collect());
        broker.call(version, request)
    };
    for version in 0..=2 {
        assert_eq!(update(version, &[("nope", 1, 1)]).error_code, 95);
        assert_eq!(
            update(version, &[("metadata.version", 99, 1)]).error_code,
            95
        );
    }
    assert_eq!(update(2, &[("metadata.version", 30, 9)]).error_code, 95);
    let response = update(1, &[("metadata.version", 30, 1)]);
    assert_eq!((response.error_code, response.results.len()), (0, 1));
    assert_eq!(broker.image().features.level("metadata.version"), 30);
    assert_eq!(update(1, &[("metadata.version", 20, 1)]).error_code, 95);
    assert_eq!(update(1, &[("metadata.version", 20, 2)]).error_code, 0);
    let software = StrBytes::from_static_str("test");
    let request = ApiVersionsRequest::default()
        .with_client_software_name(software.clone())
        .with_client_software_version(software);
    let told = broker.call(3, request).finalized_features;
    let told: Vec<_> = told
        .iter()
        .map(|f| (&*f.name, f.max_version_level))
        .collect();
    assert_eq!(told, [("group.version", 1), ("metadata.version", 20)]);
}
