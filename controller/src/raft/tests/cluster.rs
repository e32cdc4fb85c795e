//! Three controllers on a bus that loses, repeats and reorders messages by seed: the same code
//! path as a cluster of one, with company.

use std::collections::BTreeMap;

use ottla_storage::disk::memory::Crash;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::reconstruct::diff;

const STEP_MS: u64 = 20;

/// How badly the bus treats a message, in percent.
#[derive(Clone, Copy)]
struct Weather {
    lost: u32,
    repeated: u32,
    late: u32,
}

const CALM: Weather = Weather {
    lost: 0,
    repeated: 0,
    late: 0,
};
const STORM: Weather = Weather {
    lost: 15,
    repeated: 10,
    late: 30,
};

struct Node {
    disk: MemoryDisk,
    /// `None` while it is down.
    controller: Option<Controller>,
    /// What it told last.
    told: MetadataImage,
    starts: u64,
}

struct Bus {
    nodes: Vec<Node>,
    messages: Vec<(u64, usize, usize, Vec<u8>)>,
    replies: BTreeMap<(usize, u64), CommandReply>,
    now_ms: u64,
    rng: StdRng,
    weather: Weather,
    /// Nobody hears or is heard by these.
    cut_off: Vec<usize>,
    seed: u64,
    trace: Vec<String>,
}

impl Bus {
    fn new(seed: u64, nodes: usize) -> Bus {
        let node = |_| Node {
            disk: MemoryDisk::new(),
            controller: None,
            told: MetadataImage::empty(),
            starts: 0,
        };
        let mut bus = Bus {
            nodes: (0..nodes).map(node).collect(),
            messages: Vec::new(),
            replies: BTreeMap::new(),
            now_ms: 0,
            rng: StdRng::seed_from_u64(seed),
            weather: CALM,
            cut_off: Vec::new(),
            seed,
            trace: Vec::new(),
        };
        (0..nodes).for_each(|node| bus.start(node));
        bus
    }

    fn start(&mut self, node: usize) {
        let voters = (0..self.nodes.len() as i32).map(BrokerId).collect();
        let options = ControllerOptions {
            snapshot_entries: 8,
            ..ControllerOptions::new(BrokerId(node as i32), voters, self.seed)
        };
        let now = at_ms(self.now_ms);
        let Node {
            disk,
            controller,
            told,
            starts,
        } = &mut self.nodes[node];
        *starts += 1;
        *told = MetadataImage::empty();
        *controller = Some(Controller::open(Arc::new(disk.clone()), options, now).unwrap());
    }

    fn stop(&mut self, node: usize, crash: Crash) {
        self.nodes[node].controller = None;
        self.nodes[node].disk.crash(crash);
        self.replies.retain(|(at, _), _| *at != node);
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        let now = at_ms(self.now_ms);
        let (due, later) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|(at, ..)| *at <= self.now_ms);
        self.messages = later;
        for (_, from, to, message) in due {
            let cut = self.cut_off.contains(&from) || self.cut_off.contains(&to);
            if let Some(controller) = &mut self.nodes[to].controller
                && !cut
            {
                // A late message may be refused; that is the receiver's right.
                let _ = controller.step(BrokerId(from as i32), &message);
            }
        }
        for node in 0..self.nodes.len() {
            let Some(controller) = &mut self.nodes[node].controller else {
                continue;
            };
            let Ok(events) = controller.poll(now) else {
                assert!(self.nodes[node].disk.halted());
                self.nodes[node].controller = None;
                continue;
            };
            for event in events {
                self.trace.push(format!("{} {node} {event:?}", self.now_ms));
                match event {
                    Event::Send { to, message } => self.post(node, to.0 as usize, message),
                    Event::Reply { ticket, reply } => {
                        self.replies.insert((node, ticket), reply);
                    }
                    Event::Applied { image, delta } => {
                        image.check_invariants();
                        let told = std::mem::replace(&mut self.nodes[node].told, (*image).clone());
                        assert!(delta.covers(&MetadataDelta::between(&told, &image)));
                    }
                }
            }
        }
    }

    fn post(&mut self, from: usize, to: usize, message: Vec<u8>) {
        let mut roll = |percent: u32| self.rng.random_range(0..100) < percent;
        let copies = u64::from(!roll(self.weather.lost)) + u64::from(roll(self.weather.repeated));
        for _ in 0..copies {
            let late = match self.rng.random_range(0..100) < self.weather.late {
                true => self.rng.random_range(0..300u64),
                false => 0,
            };
            self.messages
                .push((self.now_ms + late, from, to, message.clone()));
        }
    }

    fn run_ms(&mut self, ms: u64) {
        (0..ms / STEP_MS).for_each(|_| self.step());
    }

    fn leader(&self) -> Option<usize> {
        let leads = |node: &Node| node.controller.as_ref().is_some_and(Controller::is_leader);
        let heard = |node: &usize| !self.cut_off.contains(node);
        (0..self.nodes.len())
            .filter(heard)
            .find(|node| leads(&self.nodes[*node]))
    }

    fn wait_for_leader(&mut self) -> usize {
        for _ in 0..2_000 {
            if let Some(leader) = self.leader() {
                return leader;
            }
            self.step();
        }
        panic!("no leader in {} ms", 2_000 * STEP_MS);
    }

    /// Asks whoever leads until the command is carried out; the answer.
    fn run(&mut self, command: &Command) -> CommandReply {
        for _ in 0..100 {
            let leader = self.wait_for_leader();
            let controller = self.nodes[leader].controller.as_mut().unwrap();
            let ticket = controller.submit(command.clone(), self.now_ms as i64);
            for _ in 0..500 {
                self.step();
                match self.replies.remove(&(leader, ticket)) {
                    Some(CommandReply::Refused(_)) => break,
                    Some(reply) => return reply,
                    None => {}
                }
            }
        }
        panic!("never carried out: {command:?}");
    }

    fn image(&self, node: usize) -> Arc<MetadataImage> {
        self.nodes[node].controller.as_ref().unwrap().image()
    }

    /// Whether the leader has applied an entry of its own term, and so everything before.
    fn leader_is_ready(&self) -> bool {
        let leader = self
            .leader()
            .and_then(|leader| self.nodes[leader].controller.as_ref());
        leader.is_some_and(|leader| leader.image().term == leader.quorum().leader_epoch)
    }

    /// In good weather everybody comes to the same image.
    fn settle(&mut self) -> Arc<MetadataImage> {
        self.weather = CALM;
        self.cut_off.clear();
        for _ in 0..2_000 {
            self.step();
            let images: Vec<_> = (0..self.nodes.len()).map(|node| self.image(node)).collect();
            if self.leader_is_ready() && images.iter().all(|image| *image == images[0]) {
                return images[0].clone();
            }
        }
        let applied: Vec<_> = (0..self.nodes.len())
            .map(|node| self.image(node).applied)
            .collect();
        panic!("no agreement: {applied:?}");
    }
}

#[test]
fn three_controllers_elect_a_leader_and_agree_on_what_it_decides() {
    let mut bus = Bus::new(1, 3);
    bus.run(&Command::RegisterBroker(registration(0, 1)));
    let reply = bus.run(&create("a"));
    assert!(matches!(&reply, CommandReply::TopicsCreated(results) if results[0].1.is_ok()));
    let image = bus.settle();
    assert!(image.topics.by_name("a").is_some() && !image.cluster_id.is_empty());
    let quorum = bus.nodes[bus.leader().unwrap()]
        .controller
        .as_ref()
        .unwrap()
        .quorum();
    assert_eq!(quorum.voters.len(), 3);
    assert!(
        quorum
            .voters
            .iter()
            .all(|voter| voter.log_end_offset == Some(image.applied + 1))
    );
}

#[test]
fn only_the_leader_takes_commands_and_others_name_it() {
    let mut bus = Bus::new(2, 3);
    let leader = bus.wait_for_leader();
    bus.settle();
    let other = (leader + 1) % 3;
    let controller = bus.nodes[other].controller.as_mut().unwrap();
    let ticket = controller.submit(create("a"), 1);
    bus.step();
    let leader = Some(BrokerId(leader as i32));
    let refused = CommandReply::Refused(Refusal::NotLeader { leader });
    assert_eq!(bus.replies.get(&(other, ticket)), Some(&refused));
    // A follower knows how far it is itself, and no more.
    let quorum = bus.nodes[other].controller.as_ref().unwrap().quorum();
    assert_eq!(quorum.leader, leader);
    for voter in quorum.voters {
        assert_eq!(
            voter.log_end_offset.is_some(),
            voter.id == BrokerId(other as i32)
        );
    }
}

#[test]
fn a_node_whose_disk_was_replaced_refuses_messages_instead_of_dying_of_them() {
    let mut bus = Bus::new(12, 3);
    bus.run(&Command::RegisterBroker(registration(0, 1)));
    bus.settle();
    let leader = bus.wait_for_leader();
    let replaced = (leader + 1) % 3;
    bus.stop(replaced, Crash::Process);
    bus.nodes[replaced].disk = MemoryDisk::new();
    bus.start(replaced);
    bus.weather = CALM;
    bus.step();
    let committed = bus.image(leader).applied.0.unsigned_abs();
    let message = ::raft::eraftpb::Message {
        msg_type: MessageType::MsgHeartbeat as i32,
        from: raft_id(BrokerId(leader as i32)),
        to: raft_id(BrokerId(replaced as i32)),
        term: bus.nodes[leader]
            .controller
            .as_ref()
            .unwrap()
            .node
            .raft
            .term,
        commit: committed,
        ..::raft::eraftpb::Message::default()
    };
    let empty = bus.nodes[replaced].controller.as_mut().unwrap();
    let refused = empty.step(BrokerId(leader as i32), &wire::encode(&message));
    assert!(matches!(refused, Err(StepError::BeyondLog)), "{refused:?}");
    // The next leader knows nothing of what the node once had, and brings it up.
    bus.stop(leader, Crash::Process);
    bus.run_ms(4_000);
    bus.start(leader);
    bus.run(&create("after"));
    assert!(bus.settle().topics.by_name("after").is_some());
}

#[test]
fn a_leader_that_is_cut_off_steps_down_and_answers_what_was_under_way() {
    let mut bus = Bus::new(3, 3);
    bus.run(&Command::RegisterBroker(registration(0, 1)));
    let old = bus.wait_for_leader();
    bus.cut_off = vec![old];
    let controller = bus.nodes[old].controller.as_mut().unwrap();
    let ticket = controller.submit(create("unheard"), 1);
    bus.run_ms(5_000);
    let reply = bus.replies.get(&(old, ticket));
    let lost = CommandReply::Refused(Refusal::LeadershipLost { leader: None });
    assert_eq!(reply, Some(&lost));
    assert!(!bus.nodes[old].controller.as_ref().unwrap().is_leader());
    // The others went on, and what nobody heard is overwritten.
    let new = bus.wait_for_leader();
    assert_ne!(new, old);
    bus.run(&create("heard"));
    let image = bus.settle();
    assert!(image.topics.by_name("heard").is_some());
    assert!(image.topics.by_name("unheard").is_none());
}

#[test]
fn a_node_that_missed_too_much_is_brought_up_by_a_snapshot() {
    let mut bus = Bus::new(4, 3);
    bus.run(&Command::RegisterBroker(registration(0, 1)));
    let away = (bus.wait_for_leader() + 1) % 3;
    bus.stop(away, Crash::Process);
    (0..40).for_each(|i| drop(bus.run(&create(&format!("topic-{i}")))));
    bus.start(away);
    let image = bus.settle();
    assert_eq!(image.topics.len(), 40);
    let store = bus.nodes[away].controller.as_ref().unwrap().node.store();
    assert!(store.first_index() > 20, "it caught up by entries alone");
    // What it got that way survives its own restart.
    bus.stop(away, Crash::PowerLossOfAllUnsynced);
    bus.start(away);
    assert_eq!(bus.settle().topics.len(), 40);
}

/// Everybody is stopped and started in all weathers; what was acknowledged stays.
fn ordeal(seed: u64) -> (Arc<MetadataImage>, Vec<String>) {
    let mut bus = Bus::new(seed, 3);
    let mut chance = StdRng::seed_from_u64(seed ^ 0x0dea1);
    bus.run(&Command::RegisterBroker(registration(0, 1)));
    bus.weather = STORM;
    let mut acknowledged = Vec::new();
    for i in 0..25 {
        let name = format!("topic-{i}");
        // A command that was refused may have been carried out, and then exists already.
        let CommandReply::TopicsCreated(results) = bus.run(&create(&name)) else {
            panic!()
        };
        match &results[0].1 {
            Ok(created) => acknowledged.push((name, Some(created.topic_id))),
            Err(CreateTopicError::AlreadyExists { .. }) => acknowledged.push((name, None)),
            Err(other) => panic!("{other:?}"),
        }
        let victim = match chance.random_range(0..3) {
            0 => bus.wait_for_leader(),
            _ => chance.random_range(0..3),
        };
        match chance.random_range(0..5) {
            0 => {
                let power_loss = Crash::PowerLoss {
                    seed: chance.random(),
                };
                bus.stop(victim, power_loss);
                bus.run_ms(chance.random_range(0..3_000));
                bus.start(victim);
            }
            1 => {
                // The power goes in the middle of whatever it is writing.
                bus.nodes[victim]
                    .disk
                    .halt_after(chance.random_range(0..12));
                bus.run_ms(chance.random_range(0..3_000));
                let power_loss = Crash::PowerLoss {
                    seed: chance.random(),
                };
                bus.stop(victim, power_loss);
                bus.start(victim);
            }
            2 => {
                bus.cut_off = vec![victim];
                bus.run_ms(chance.random_range(0..4_000));
                bus.cut_off.clear();
            }
            _ => {}
        }
    }
    let image = bus.settle();
    for (name, id) in &acknowledged {
        let topic = image
            .topics
            .by_name(name)
            .unwrap_or_else(|| panic!("seed {seed}: {name}"));
        assert!(
            id.is_none_or(|id| id == topic.id),
            "seed {seed}: {name} is another"
        );
    }
    (image, bus.trace)
}

#[test]
fn what_was_acknowledged_survives_storms_and_restarts() {
    for seed in 0..20 {
        ordeal(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_events() {
    for seed in [7, 8] {
        let ((one, events), (two, same)) = (ordeal(seed), ordeal(seed));
        assert_eq!(diff(&one, &two), []);
        let differ = events.iter().zip(&same).position(|(one, two)| one != two);
        assert_eq!(differ.map(|at| (&events[at], &same[at])), None);
        assert_eq!(events.len(), same.len());
        assert!(events.len() > 1_000);
    }
}

/// The engine's issue 557: a late rejection that arrives while a peer is being probed makes the
/// leader forget what it knows the peer has. The next index may then fall to or below the matched
/// one, and the peer is sent entries, or even a snapshot, that it has. That costs traffic; it must
/// not stop replication or panic.
#[test]
fn a_late_rejection_does_not_stop_replication() {
    use ::raft::eraftpb::{Message, MessageType};

    let mut bus = Bus::new(11, 3);
    bus.run(&Command::RegisterBroker(registration(0, 1)));
    (0..20).for_each(|i| drop(bus.run(&create(&format!("topic-{i}")))));
    let leader = bus.wait_for_leader();
    bus.settle();
    let peer = (leader + 1) % 3;
    let peer_id = raft_id(BrokerId(peer as i32));
    let controller = bus.nodes[leader].controller.as_mut().unwrap();
    for rejected in (1..=controller.node.raft.raft_log.last_index()).rev() {
        // Unreachable: back to probing, at matched + 1.
        controller.node.report_unreachable(peer_id);
        let progress = controller.node.raft.prs().get(peer_id).unwrap();
        let (matched, next) = (progress.matched, progress.next_idx);
        let message = Message {
            msg_type: MessageType::MsgAppendResponse as i32,
            from: peer_id,
            to: raft_id(BrokerId(leader as i32)),
            term: controller.node.raft.term,
            index: next - 1,
            reject: true,
            reject_hint: rejected.min(matched) - 1,
            log_term: 1,
            ..Message::default()
        };
        controller
            .step(BrokerId(peer as i32), &wire::encode(&message))
            .unwrap();
    }
    bus.run(&create("after"));
    let image = bus.settle();
    assert_eq!(image.topics.len(), 21);
}
