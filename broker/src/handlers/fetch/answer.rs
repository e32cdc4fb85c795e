//! From what a fetch found to the pieces of its answer. With a session only news are written, and
//! the session remembers what was said.

use std::sync::Arc;

use ottla_protocol::error::ErrorCode;
use ottla_protocol::fetch_view::FETCH_KEY;
use ottla_protocol::fetch_writer::{
    AbortedTransaction, DivergingEpoch, FetchPartitionResponse, FetchResponseHead, FetchWriter,
};
use ottla_protocol::leader_hint::CurrentLeader;
use ottla_storage::disk::RecordData;
use ottla_storage::log;

use super::pass::{Found, Pass};
use crate::broker::Broker;
use crate::config::ListenerName;
use crate::context::RequestContext;
use crate::fetch_session::Target;
use crate::handlers::hosted;
use crate::partition::PartitionRead;
use crate::reply::{Answer, CloseReason};

/// The first version with an error code for the whole answer.
const TOP_LEVEL_ERROR_FROM: i16 = 7;

/// Everything about a request that its answer needs, kept while it waits.
pub(super) struct Writer {
    broker: Arc<Broker>,
    listener: ListenerName,
    version: i16,
    correlation_id: i32,
    read_committed: bool,
}

impl Writer {
    pub(super) fn new(ctx: &RequestContext<'_>, isolation_level: i8) -> Writer {
        Writer {
            broker: Arc::clone(ctx.broker),
            listener: ctx.listener.clone(),
            version: ctx.version,
            correlation_id: ctx.correlation_id,
            read_committed: isolation_level == 1,
        }
    }

    pub(super) fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// An answer that is one error and no partitions.
    pub(super) fn refuse(&self, error: ErrorCode) -> Answer {
        if self.version < TOP_LEVEL_ERROR_FROM {
            return Answer::Close(CloseReason::BadRequest);
        }
        let head = FetchResponseHead {
            error_code: error.code(),
            ..FetchResponseHead::default()
        };
        let writer = FetchWriter::<RecordData>::new(self.correlation_id, self.version, head, 0);
        Answer::Pieces(writer.finish(&[]))
    }

    /// The answer; consumes what was found.
    pub(super) fn write(&self, pass: Pass) -> Answer {
        let Pass { plan, found, .. } = pass;
        let told: Vec<(usize, Found)> = found
            .into_iter()
            .enumerate()
            .filter(|(index, found)| {
                let said = found.said();
                let news = !plan.incremental || plan.targets[*index].is_news(&said);
                if news {
                    plan.told(*index, &said);
                }
                news
            })
            .collect();
        let targets = &plan.targets;
        let same_topic =
            |a: &(usize, Found), b: &(usize, Found)| targets[a.0].topic == targets[b.0].topic;
        let topic_count = told.chunk_by(same_topic).count();
        let counts: Vec<usize> = told.chunk_by(same_topic).map(<[_]>::len).collect();
        let leaders: Vec<CurrentLeader> = told.iter().filter_map(|(_, f)| f.leader()).collect();
        let head = FetchResponseHead {
            session_id: plan.session_id,
            ..FetchResponseHead::default()
        };
        let mut writer = FetchWriter::new(self.correlation_id, self.version, head, topic_count);
        let mut told = told.into_iter();
        for count in counts {
            for (n, (index, found)) in told.by_ref().take(count).enumerate() {
                let target = &targets[index];
                if n == 0 {
                    writer.topic(target.topic.name(), target.topic.id(), count);
                }
                self.write_partition(&mut writer, target, found);
            }
        }
        let image = self.broker.metadata.image();
        let endpoints = hosted::endpoints(&image, &self.listener, leaders.into_iter());
        Answer::Pieces(writer.finish(&endpoints))
    }

    fn write_partition(&self, writer: &mut FetchWriter<RecordData>, target: &Target, found: Found) {
        match found {
            Found::Read(read) => {
                if let Some(partition) = &target.hosted {
                    let records = u64::try_from(read.next_offset.0 - target.offset.0).unwrap_or(0);
                    partition.counters.fetched(records, read.size_bytes);
                }
                let aborted: Vec<AbortedTransaction> = read.aborted.iter().map(aborted).collect();
                let response = self.read_response(target, &read, &aborted);
                writer.partition(&response, read.data);
            }
            Found::Failed(error, current_leader) => {
                self.broker.metrics.request_error(FETCH_KEY, error.code());
                if let Some(partition) = &target.hosted {
                    partition.counters.fetch_failed();
                }
                let failed = FetchPartitionResponse::failed(target.partition, error);
                writer.partition(
                    &FetchPartitionResponse {
                        current_leader,
                        ..failed
                    },
                    [],
                );
            }
            Found::NotRead => {
                let error = ErrorCode::UNKNOWN_SERVER_ERROR;
                writer.partition(&FetchPartitionResponse::failed(target.partition, error), []);
            }
        }
    }

    fn read_response<'a>(
        &self,
        target: &Target,
        read: &PartitionRead,
        aborted: &'a [AbortedTransaction],
    ) -> FetchPartitionResponse<'a> {
        FetchPartitionResponse {
            high_watermark: read.marks.high_watermark,
            last_stable_offset: read.marks.last_stable_offset,
            log_start_offset: read.marks.log_start_offset,
            aborted_transactions: self.read_committed.then_some(aborted),
            diverging_epoch: read
                .diverging
                .map(|(epoch, end_offset)| DivergingEpoch { epoch, end_offset }),
            ..FetchPartitionResponse::failed(target.partition, ErrorCode::NONE)
        }
    }
}

fn aborted(entry: &log::AbortedTransaction) -> AbortedTransaction {
    AbortedTransaction {
        producer_id: entry.producer_id,
        first_offset: entry.first_offset,
    }
}

impl Found {
    fn leader(&self) -> Option<CurrentLeader> {
        match self {
            Found::Failed(_, leader) => *leader,
            _ => None,
        }
    }
}
