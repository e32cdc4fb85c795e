//! The few calls that a benchmark makes besides its load: topics, leaders, offsets, groups.

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use ottla_protocol::messages::{
    self, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    FindCoordinatorRequest, FindCoordinatorResponse, GroupId, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse, ListGroupsRequest, ListGroupsResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, Request, Response, StrBytes,
    TopicName,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::ops::Range;
use std::time::{Duration, Instant};

const CLIENT_ID: &str = "ottla-bench";
/// Nothing takes longer than this on a broker that works.
const LIMIT: Duration = Duration::from_secs(60);

/// A blocking connection for single calls.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(bootstrap: &str) -> Result<Client> {
        let stream = TcpStream::connect(bootstrap)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Client { stream })
    }

    fn call<Q: Request, A: Response>(&mut self, version: i16, request: &Q) -> Result<A> {
        let frame = messages::encode_request(1, CLIENT_ID, version, request)?;
        self.stream.write_all(&frame)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut body = vec![0; usize::try_from(i32::from_be_bytes(length))?];
        self.stream.read_exact(&mut body)?;
        Ok(messages::decode_response(Bytes::from(body), version)?.1)
    }

    /// The broker answers at all.
    pub fn api_versions(&mut self) -> Result<ApiVersionsResponse> {
        self.call(0, &ApiVersionsRequest::default())
    }

    /// Creates a topic and waits until all its partitions have a leader.
    pub fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<()> {
        let refused = self.create_topics(&[topic.to_owned()], partitions, configs)?;
        ensure!(refused.is_empty(), "create {}", refused.join(", "));
        self.wait_for_leaders(topic, partitions)
    }

    /// Asks for topics of one shape in one request; which were refused, and why.
    pub fn create_topics(
        &mut self,
        names: &[String],
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<Vec<String>> {
        let configs = configs.iter().map(|(name, value)| {
            messages::create_topics_request::CreatableTopicConfig::default()
                .with_name(text(name))
                .with_value(Some(text(value)))
        });
        let configs: Vec<_> = configs.collect();
        let wanted = names.iter().map(|name| {
            messages::create_topics_request::CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(partitions)
                .with_replication_factor(1)
                .with_configs(configs.clone())
        });
        let request = CreateTopicsRequest::default()
            .with_topics(wanted.collect())
            .with_timeout_ms(60_000);
        let response: CreateTopicsResponse = self.call(4, &request)?;
        ensure!(
            response.topics.len() == names.len(),
            "not every topic is answered"
        );
        let refused = response.topics.iter().filter(|topic| topic.error_code != 0);
        let why = refused.map(|topic| {
            let message = topic
                .error_message
                .as_ref()
                .map_or("", |text| text.as_str());
            format!(
                "{}: error {} {message}",
                topic.name.as_str(),
                topic.error_code
            )
        });
        Ok(why.collect())
    }

    fn wait_for_leaders(&mut self, topic: &str, partitions: i32) -> Result<()> {
        let wanted = messages::metadata_request::MetadataRequestTopic::default()
            .with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![wanted]))
            .with_allow_auto_topic_creation(false);
        let deadline = Instant::now() + LIMIT;
        loop {
            let response: MetadataResponse = self.call(4, &request)?;
            let found = response.topics.first();
            let led = found.map_or(0, |topic| {
                topic
                    .partitions
                    .iter()
                    .filter(|partition| partition.leader_id.0 >= 0)
                    .count()
            });
            // A broker may know that it is the leader a moment before it acts as one.
            let all_led = led == usize::try_from(partitions)?;
            if all_led && self.end_offsets(topic, 0..partitions).is_ok() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{topic}: {led} of {partitions} have a leader"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of a partition's log.
    pub fn end_offset(&mut self, topic: &str, partition: i32) -> Result<i64> {
        self.end_offsets(topic, partition..partition + 1)?
            .pop()
            .context("an empty answer")
    }

    /// The ends of all partitions, once each of them is served.
    pub fn wait_for_ends(&mut self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let deadline = Instant::now() + 5 * LIMIT;
        loop {
            match self.end_offsets(topic, 0..partitions) {
                Err(_) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }

    /// The ends of several partitions; fails when one of them is not served.
    fn end_offsets(&mut self, topic: &str, partitions: Range<i32>) -> Result<Vec<i64>> {
        let wanted = partitions.map(|partition| {
            messages::list_offsets_request::ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_timestamp(-1)
        });
        let wanted = messages::list_offsets_request::ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(wanted.collect());
        let request = ListOffsetsRequest::default()
            .with_replica_id(messages::BrokerId(-1))
            .with_topics(vec![wanted]);
        let response: ListOffsetsResponse = self.call(1, &request)?;
        let found = response.topics.first().context("an empty answer")?;
        let end = |partition: &messages::list_offsets_response::ListOffsetsPartitionResponse| {
            match partition.error_code {
                0 => Ok(partition.offset),
                code => Err(anyhow!("list offsets of {topic}: error {code}")),
            }
        };
        found.partitions.iter().map(end).collect()
    }

    /// Sets keys of a topic.
    pub fn set_topic(&mut self, topic: &str, settings: &[(String, String)]) -> Result<()> {
        if settings.is_empty() {
            return Ok(());
        }
        let settings = settings.iter().map(|(key, value)| {
            messages::incremental_alter_configs_request::AlterableConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        });
        let resource = messages::incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(topic))
            .with_configs(settings.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response: IncrementalAlterConfigsResponse = self.call(0, &request)?;
        let result = response.responses.first().context("an empty answer")?;
        ensure!(
            result.error_code == 0,
            "configure {topic}: error {}",
            result.error_code
        );
        Ok(())
    }

    /// Waits until the group has a coordinator.
    pub fn find_coordinator(&mut self, group: &str) -> Result<()> {
        let request = FindCoordinatorRequest::default().with_key(text(group));
        until_ready(|| {
            let response: FindCoordinatorResponse = self.call(2, &request)?;
            Ok(response.error_code)
        })
        .with_context(|| format!("the coordinator of {group}"))
    }

    /// Commits one offset of a group without members.
    pub fn commit(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let wanted = messages::offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let wanted = messages::offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![wanted]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![wanted]);
        until_ready(|| {
            let response: OffsetCommitResponse = self.call(7, &request)?;
            let topic = response.topics.first().context("an empty answer")?;
            let partition = topic.partitions.first().context("an empty answer")?;
            Ok(partition.error_code)
        })
        .with_context(|| format!("a commit of {group}"))
    }

    /// The committed offset; -1 when there is none.
    pub fn committed(&mut self, group: &str, topic: &str, partition: i32) -> Result<i64> {
        let wanted = messages::offset_fetch_request::OffsetFetchRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partition_indexes(vec![partition]);
        let request = OffsetFetchRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_topics(Some(vec![wanted]));
        let response: OffsetFetchResponse = self.call(5, &request)?;
        let code = response.error_code;
        ensure!(code == 0, "the offsets of {group}: error {code}");
        let topic = response.topics.first().context("an empty answer")?;
        let partition = topic.partitions.first().context("an empty answer")?;
        Ok(partition.committed_offset)
    }

    /// How many groups are listed.
    pub fn list_groups(&mut self) -> Result<usize> {
        let response: ListGroupsResponse = self.call(4, &ListGroupsRequest::default())?;
        let code = response.error_code;
        ensure!(code == 0, "list groups: error {code}");
        Ok(response.groups.len())
    }
}

/// The kind of a topic among the things that are configured.
const TOPIC_RESOURCE: i8 = 2;

/// Calls until the answer is no longer that coordinators are on their way.
fn until_ready(mut call: impl FnMut() -> Result<i16>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match call()? {
            0 => return Ok(()),
            14..=16 if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            code => anyhow::bail!("error {code}"),
        }
    }
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
