//! A client of one connection for tests that run a broker in their own process.
#![allow(clippy::unwrap_used, dead_code)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use ottla_broker::start::Running;
use ottla_protocol::BatchBuilder;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::{
    BrokerId, CreateTopicsRequest, FetchRequest, FetchResponse, ProduceRequest, ProduceResponse,
    Request, Response, StrBytes, TopicName, decode_response, encode_request,
};
use ottla_protocol::record::{RecordLimits, Records};

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(running: &Running) -> Client {
        Client::connect_to(running.kafka_addresses()[0].1)
    }

    pub(crate) fn connect_to(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client {
            stream,
            correlation_id: 0,
        }
    }

    pub(crate) fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response
    where
        R::Response: Response,
    {
        self.correlation_id += 1;
        let frame = encode_request(self.correlation_id, "boot-test", version, request).unwrap();
        self.stream.write_all(&frame).unwrap();
        let (correlation_id, response) = decode_response(self.frame(), version).unwrap();
        assert_eq!(correlation_id, self.correlation_id);
        response
    }

    pub(crate) fn frame(&mut self) -> Bytes {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).unwrap();
        Bytes::from(frame)
    }

    pub(crate) fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 16]), Ok(0) | Err(_))
    }

    pub(crate) fn create_topic(&mut self, name: &'static str, partitions: i32) {
        assert_eq!(self.try_create_topic(name, partitions), 0);
    }

    /// The error code.
    pub(crate) fn try_create_topic(&mut self, name: &'static str, partitions: i32) -> i16 {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000);
        let response = self.call(5, &request);
        response.topics[0].error_code
    }

    pub(crate) fn produce(
        &mut self,
        topic: &'static str,
        partition: i32,
        values: &[String],
    ) -> i64 {
        let (error_code, base_offset) = self.try_produce(topic, partition, values);
        assert_eq!(error_code, 0);
        base_offset
    }

    /// The error code and the offset.
    pub(crate) fn try_produce(
        &mut self,
        topic: &'static str,
        partition: i32,
        values: &[String],
    ) -> (i16, i64) {
        let mut builder = BatchBuilder::new();
        for value in values {
            builder.append(now_ms(), None, Some(value.as_bytes()), &[]);
        }
        let records = Bytes::copy_from_slice(builder.build().unwrap().bytes());
        let partition = PartitionProduceData::default()
            .with_index(partition)
            .with_records(Some(records));
        let topic = TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        let response: ProduceResponse = self.call(9, &request);
        let answer = &response.responses[0].partition_responses[0];
        (answer.error_code, answer.base_offset)
    }

    pub(crate) fn fetch(
        &mut self,
        topic: &'static str,
        partition: i32,
        offset: i64,
    ) -> FetchResponse {
        let partition = FetchPartition::default()
            .with_partition(partition)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default()
            .with_topic(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(100)
            .with_min_bytes(1)
            .with_max_bytes(1 << 24)
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        self.call(11, &request)
    }

    /// Every value of a partition, in order.
    pub(crate) fn read_all(&mut self, topic: &'static str, partition: i32) -> Vec<String> {
        let mut values = Vec::new();
        loop {
            let response = self.fetch(topic, partition, values.len() as i64);
            let answer = &response.responses[0].partitions[0];
            assert_eq!(answer.error_code, 0, "{response:?}");
            let records = answer.records.clone().unwrap();
            if records.is_empty() {
                return values;
            }
            let mut rest = &records[..];
            while !rest.is_empty() {
                let view = ottla_protocol::RecordBatchView::parse(rest).unwrap();
                assert!(view.crc_is_valid());
                rest = &rest[view.size_bytes()..];
                for record in Records::open(view, RecordLimits::default()).unwrap() {
                    let record = record.unwrap();
                    if record.offset.0 == values.len() as i64 {
                        values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    }
                }
            }
        }
    }
}

pub(crate) fn topic_name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

pub(crate) fn now_ms() -> i64 {
    std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_millis() as i64
}
