//! Blocks of producer ids. A block is handed out by the record that moves the border behind it, so
//! it is never handed out twice; what a broker does not use of its block is lost, which costs
//! nothing.

use ottla_protocol::types::{BrokerId, ProducerId};

use crate::command::{
    AllocateProducerIdsError, BrokerNotRegistered, CommandReply, ProducerIdBlock,
};
use crate::decide::Decision;
use crate::image::MetadataImage;
use crate::record::{BrokerEpoch, MetadataRecord};

/// Ids per block, as in Kafka.
pub const PRODUCER_ID_BLOCK_COUNT: i32 = 1000;

pub(super) fn allocate(
    image: &MetadataImage,
    broker_id: BrokerId,
    broker_epoch: BrokerEpoch,
) -> Decision {
    match check(image, broker_id, broker_epoch) {
        Ok(next_producer_id) => {
            let block = ProducerIdBlock {
                first: image.next_producer_id,
                count: PRODUCER_ID_BLOCK_COUNT,
            };
            Decision {
                records: vec![MetadataRecord::ProducerIds { next_producer_id }],
                reply: CommandReply::ProducerIdsAllocated(Ok(block)),
            }
        }
        Err(error) => Decision {
            records: Vec::new(),
            reply: CommandReply::ProducerIdsAllocated(Err(error)),
        },
    }
}

fn check(
    image: &MetadataImage,
    broker_id: BrokerId,
    broker_epoch: BrokerEpoch,
) -> Result<ProducerId, AllocateProducerIdsError> {
    let broker = image
        .brokers
        .get(broker_id)
        .ok_or(BrokerNotRegistered(broker_id))?;
    if broker.epoch != broker_epoch {
        return Err(AllocateProducerIdsError::StaleBrokerEpoch);
    }
    let next = image
        .next_producer_id
        .0
        .checked_add(i64::from(PRODUCER_ID_BLOCK_COUNT));
    next.map(ProducerId)
        .ok_or(AllocateProducerIdsError::Exhausted)
}
