//! Who leads a partition: a pure choice among its replicas.
//!
//! Only a member of the ISR may lead, because only it has every acknowledged record; nobody is
//! elected otherwise.

use ottla_protocol::types::BrokerId;

/// The leader that `replicas` (in order of preference) should have: the current one while it is
/// valid, else the first replica that is alive and in the ISR, else nobody.
pub fn elect(
    replicas: &[BrokerId],
    isr: &[BrokerId],
    current: BrokerId,
    alive: impl Fn(BrokerId) -> bool,
) -> BrokerId {
    let valid = |id: BrokerId| isr.contains(&id) && alive(id);
    if current != BrokerId::NONE && valid(current) {
        return current;
    }
    replicas
        .iter()
        .copied()
        .find(|id| valid(*id))
        .unwrap_or(BrokerId::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_is_alive_in_sync_and_the_most_preferred_unless_it_leads_already() {
        // replicas, isr, current leader, alive, expected
        let table: &[(&[i32], &[i32], i32, &[i32], i32)] = &[
            (&[1, 2, 3], &[1, 2, 3], 2, &[1, 2, 3], 2),
            (&[1, 2, 3], &[1, 2, 3], 2, &[1, 3], 1),
            (&[1, 2, 3], &[3, 2], 1, &[1, 2, 3], 2),
            (&[1, 2, 3], &[3], 1, &[1, 2], -1),
            (&[1], &[1], -1, &[1], 1),
            (&[1], &[1], 1, &[], -1),
        ];
        for (replicas, isr, current, alive, expected) in table {
            let ids = |ids: &[i32]| ids.iter().copied().map(BrokerId).collect::<Vec<_>>();
            let alive = ids(alive);
            let leader = elect(&ids(replicas), &ids(isr), BrokerId(*current), |id| {
                alive.contains(&id)
            });
            assert_eq!(
                leader,
                BrokerId(*expected),
                "{replicas:?} {isr:?} {current}"
            );
        }
    }
}
