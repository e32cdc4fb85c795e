//! All members read the same: each gets the same number of partitions, or one more. Who has more
//! than that gives up what is over; who has less is filled up with what is free.

use std::collections::BTreeMap;

use ottla_protocol::types::TopicId;

use super::{Reader, free, kept, target_of};
use crate::consumer::assignment::Target;

pub(super) fn assign(readers: &[Reader<'_>], reads: &[(TopicId, i32)]) -> Vec<Target> {
    if readers.is_empty() {
        return Vec::new();
    }
    let total: usize = reads
        .iter()
        .map(|(_, count)| usize::try_from(*count).unwrap_or(0))
        .sum();
    let least = total / readers.len();
    let mut taken = BTreeMap::new();
    let mut shares: Vec<Vec<(TopicId, i32)>> = readers
        .iter()
        .map(|reader| kept(reader.before, reads, &mut taken))
        .collect();
    let quotas = quotas(&shares, least, total % readers.len());
    for (share, quota) in shares.iter_mut().zip(&quotas) {
        for (topic_id, partition) in share.drain((*quota).min(share.len())..) {
            if let Some(taken) = taken.get_mut(&topic_id) {
                taken.remove(&partition);
            }
        }
    }
    let mut free = free(reads, &taken);
    for (share, quota) in shares.iter_mut().zip(quotas) {
        let missing = quota - share.len();
        share.extend(free.by_ref().take(missing));
    }
    shares.into_iter().map(target_of).collect()
}

/// `least` for each and one more for `extra` of them: those that have it already, then those that
/// have most.
fn quotas(shares: &[Vec<(TopicId, i32)>], least: usize, extra: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..shares.len()).collect();
    let size = |at: &usize| shares.get(*at).map_or(0, Vec::len).min(least + 1);
    order.sort_by_key(|at| (std::cmp::Reverse(size(at)), *at));
    let mut quotas = vec![least; shares.len()];
    for at in order.into_iter().take(extra) {
        if let Some(quota) = quotas.get_mut(at) {
            *quota += 1;
        }
    }
    quotas
}
