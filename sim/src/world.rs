//! One world: a broker on a simulated disk, its clients, and everything that can happen to them, by
//! seed.
//!
//! Every step is chosen by the one random generator; nothing else decides anything. Equal seeds
//! give equal traces, which a test checks. The world ends with a healing phase: faults stop,
//! everything in flight must finish, and then the whole content of every partition is read and held
//! against the model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_broker::clock::Clock;
use ottla_broker::config::{Config, ListenerName};
use ottla_broker::coordinators::OFFSETS_TOPIC;
use ottla_broker::metrics::Metrics;
use ottla_storage::disk::memory::{Crash, InjectedError, Injection, MemoryDisk, Operation};
use ottla_storage::image::{ImageStore as _, MemoryStore};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::admin::Admin;
use crate::clock::SimClock;
use crate::consumer::Consumer;
use crate::consumer_member::ConsumerMember;
use crate::group_model::GroupModel;
use crate::link::Link;
use crate::member::{self, Member};
use crate::model::{Model, Violation};
use crate::node::{Node, Seams};
use crate::producer::Producer;

/// Steps in which things go wrong, and steps in which they may finish.
const STORMY_STEPS: u32 = 600;
const CALM_STEPS_MAX: u32 = 20_000;

/// What the swarm chose for this seed.
#[derive(Debug, Clone)]
struct Plan {
    producers: u32,
    consumers: u32,
    members: u32,
    loners: u32,
    consumer_members: u32,
    crash_every: u32,
    power_loss: bool,
    disk_faults: bool,
    /// One of so many looks into the page cache finds nothing; 0: none.
    cold_every: u64,
    piece_bytes_max: usize,
    /// Zeros are written ahead in segments from this size on.
    zeros_from_bytes: u32,
}

impl Plan {
    fn of(seed: u64, rng: &mut StdRng) -> Plan {
        Plan {
            producers: rng.random_range(1..=3),
            consumers: rng.random_range(1..=2),
            members: rng.random_range(0..=3),
            loners: rng.random_range(0..=2),
            consumer_members: rng.random_range(0..=3),
            crash_every: [60, 150, 400][rng.random_range(0..3)],
            power_loss: rng.random_bool(0.6),
            disk_faults: rng.random_bool(0.3),
            piece_bytes_max: [40, 500, 100_000][rng.random_range(0..3)],
            cold_every: [0, 1, 2, 20][rng.random_range(0..4)],
            zeros_from_bytes: [100, 300, 1_000, u32::MAX][(seed % 4) as usize],
        }
    }
}

/// The number of the client that reads everything at the end.
const JUDGE: u16 = 9_999;

enum Role {
    Producer(Producer),
    Consumer(Consumer),
    Admin(Admin),
    Member(Member),
    ConsumerMember(ConsumerMember),
}

struct Client {
    role: Role,
    link: Option<Link>,
}

/// What a run did; for reports and coverage marks.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Summary {
    pub trace_hash: u64,
    pub acked: u64,
    pub observed: u64,
    pub crashes: u32,
    pub power_losses: u32,
    pub clean_stops: u32,
    pub disk_faults: u32,
    pub tails_lost: u32,
    pub commits: u64,
    pub joins: u64,
    pub handovers: u64,
    pub images_lost: u32,
    pub images_set_back: u32,
    /// Written ahead.
    pub zeros_bytes: u64,
    pub topics_created: u32,
    pub topics_deleted: u32,
    pub simulated_ms: u64,
}

struct World {
    rng: StdRng,
    plan: Plan,
    config: Arc<Config>,
    clock: Arc<SimClock>,
    disk: MemoryDisk,
    images: MemoryStore,
    /// Of all brokers of this world, one after another.
    metrics: Arc<Metrics>,
    node: Option<Node>,
    clients: Vec<Client>,
    model: Model,
    groups: GroupModel,
    epochs: BTreeMap<(String, i32), i32>,
    /// And what that took is not known before the next start.
    tail_at_risk: bool,
    summary: Summary,
    trace: u64,
}

/// Runs the world of one seed to its end.
pub fn run(seed: u64) -> Result<Summary, Violation> {
    let mut world = World::new(seed);
    for _ in 0..STORMY_STEPS {
        world.stormy_step()?;
    }
    world.calm_down()?;
    world.judge()?;
    world.summary.trace_hash = world.trace ^ world.disk.trace_hash();
    world.summary.acked = world.model.acked();
    world.summary.observed = world.model.observed();
    world.summary.commits = world.groups.commits();
    world.summary.joins = world.groups.joins();
    world.summary.handovers = world.groups.handovers();
    world.summary.zeros_bytes = world.metrics.snapshot().zeros_bytes;
    world.summary.simulated_ms =
        u64::try_from(world.clock.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(world.summary)
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let plan = Plan::of(seed, &mut rng);
        let disk = MemoryDisk::with_seed(seed);
        disk.set_cold_every(plan.cold_every, seed);
        let mut clients = Vec::new();
        for number in 1..=plan.producers {
            let acks = if rng.random_bool(0.7) { -1 } else { 1 };
            clients.push(Role::Producer(Producer::new(number, acks)));
        }
        clients.extend((0..plan.consumers).map(|_| Role::Consumer(Consumer::default())));
        clients.push(Role::Admin(Admin::default()));
        clients.extend((0..plan.members).map(|_| Role::Member(Member::of_group("team"))));
        for number in 0..plan.loners {
            clients.push(Role::Member(Member::loner(&format!("loner-{number}"))));
        }
        if plan.consumer_members > 0 {
            // Has the topic made, and the topic of offsets with the search for a coordinator.
            clients.push(Role::Member(Member::loner("loner-of-the-crew")));
        }
        let crew = (0..plan.consumer_members).map(ConsumerMember::new);
        clients.extend(crew.map(Role::ConsumerMember));
        let mut world = World {
            config: Arc::new(config()),
            clock: Arc::new(SimClock::default()),
            disk,
            images: MemoryStore::new(),
            metrics: Arc::default(),
            node: None,
            clients: clients
                .into_iter()
                .map(|role| Client { role, link: None })
                .collect(),
            model: Model::default(),
            groups: GroupModel::default(),
            epochs: BTreeMap::new(),
            tail_at_risk: false,
            summary: Summary::default(),
            trace: seed,
            plan,
            rng,
        };
        world.boot();
        world
    }

    fn stormy_step(&mut self) -> Result<(), Violation> {
        if self.rng.random_ratio(1, self.plan.crash_every) {
            self.go_down()?;
        }
        if self.node.is_none() && self.rng.random_bool(0.3) {
            self.disk.clear_injections();
            self.boot_and_check()?;
        }
        if self.plan.disk_faults && self.rng.random_ratio(1, 150) {
            self.break_the_disk();
        }
        if self.rng.random_ratio(1, 60) {
            let victim = self.rng.random_range(0..self.clients.len());
            self.disconnect(victim);
        }
        self.step()
    }

    /// One thing happens that is nobody's fault.
    fn step(&mut self) -> Result<(), Violation> {
        match self.rng.random_range(0..10) {
            0 => self.let_time_pass(),
            1 => {
                if let Some(node) = &mut self.node {
                    node.run_flusher(&mut self.rng);
                    node.run_cold_read();
                }
            }
            2 => {
                let failed = self
                    .node
                    .as_mut()
                    .and_then(|node| node.run_controller().err());
                if failed.is_some() {
                    self.crash(Crash::Process)?;
                }
            }
            _ => {
                let at = self.rng.random_range(0..self.clients.len());
                self.visit(at)?;
            }
        }
        Ok(())
    }

    fn let_time_pass(&mut self) {
        let ms = [1, 5, 20, 200, 3_000][self.rng.random_range(0..5)];
        self.clock
            .advance(Duration::from_millis(self.rng.random_range(0..=ms)));
        if let Some(node) = &mut self.node {
            node.tick();
        }
        // The state that a power cut, or an old copy of the directory, goes back to.
        if self.rng.random_bool(0.2) {
            let _ = self.images.sync();
        }
    }

    /// A client does something, bytes travel, replies are judged.
    fn visit(&mut self, at: usize) -> Result<(), Violation> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        let client = &mut self.clients[at];
        let number = u16::try_from(at).unwrap_or(u16::MAX);
        let link = client.link.get_or_insert_with(|| {
            Link::open(&node.broker, number, ListenerName::new("PLAINTEXT"))
        });
        client.role.act(link, &mut self.groups, &mut self.rng);
        let piece = self.rng.random_range(1..=self.plan.piece_bytes_max);
        let open = link.deliver(piece, self.clock.now());
        self.trace = mix(self.trace, link.outstanding_bytes() as u64);
        while let Some(frame) = link.receive() {
            self.trace = frame
                .iter()
                .fold(self.trace, |hash, byte| mix(hash, u64::from(*byte)));
            match &mut client.role {
                Role::Producer(producer) => producer.receive(frame, &mut self.model)?,
                Role::Consumer(consumer) => consumer.receive(frame, &mut self.model)?,
                Role::Admin(admin) => admin.receive(frame)?,
                Role::Member(member) => member.receive(frame, &mut self.groups)?,
                Role::ConsumerMember(member) => member.receive(frame, &mut self.groups)?,
            }
        }
        if !open {
            self.disconnect(at);
        }
        self.spread_news();
        Ok(())
    }

    /// What the administrator learnt reaches the other clients.
    fn spread_news(&mut self) {
        let mut created = Vec::new();
        let mut deleted = Vec::new();
        for client in &mut self.clients {
            if let Role::Admin(admin) = &mut client.role {
                created.append(&mut admin.created);
                deleted.append(&mut admin.deleting);
            }
        }
        for topic in deleted {
            self.summary.topics_deleted += 1;
            self.model.topic_deleted(&topic);
            self.epochs.retain(|(name, _), _| *name != topic);
            for client in &mut self.clients {
                match &mut client.role {
                    Role::Producer(producer) => producer.topic_deleted(&topic),
                    Role::Consumer(consumer) => consumer.topic_deleted(&topic),
                    Role::Admin(_) | Role::Member(_) | Role::ConsumerMember(_) => {}
                }
            }
        }
        for (topic, partitions) in created {
            self.summary.topics_created += 1;
            for client in &mut self.clients {
                match &mut client.role {
                    Role::Producer(producer) => producer.topic_created(&topic, partitions),
                    Role::Consumer(consumer) => {
                        for partition in 0..partitions {
                            consumer
                                .positions
                                .entry((topic.clone(), partition))
                                .or_insert(0);
                        }
                    }
                    Role::Admin(_) | Role::Member(_) | Role::ConsumerMember(_) => {}
                }
            }
        }
    }

    fn disconnect(&mut self, at: usize) {
        let client = &mut self.clients[at];
        if client.link.take().is_none() {
            return;
        }
        match &mut client.role {
            Role::Producer(producer) => producer.disconnected(),
            Role::Consumer(consumer) => consumer.disconnected(),
            Role::Admin(admin) => admin.disconnected(),
            Role::Member(member) => member.disconnected(),
            Role::ConsumerMember(member) => member.disconnected(),
        }
    }

    fn break_the_disk(&mut self) {
        let (operation, error) = [
            (Operation::Write, InjectedError::NoSpace),
            (Operation::Write, InjectedError::Io),
            (Operation::Sync, InjectedError::Io),
            (Operation::Create, InjectedError::NoSpace),
        ][self.rng.random_range(0..4)];
        self.disk.inject(Injection::once(operation, error));
        self.summary.disk_faults += 1;
    }

    fn go_down(&mut self) -> Result<(), Violation> {
        let Some(node) = self.node.take() else {
            return Ok(());
        };
        match self.rng.random_range(0..3) {
            0 => {
                self.disconnect_all();
                node.stop();
                self.summary.clean_stops += 1;
                self.tail_at_risk |= self.plan.disk_faults;
                self.harm_images();
                // The process is over either way; what it left is what counts.
                self.disk.crash(Crash::Process);
                Ok(())
            }
            1 if self.plan.power_loss => {
                self.node = Some(node);
                let seed = self.rng.random();
                self.crash(Crash::PowerLoss { seed })
            }
            _ => {
                self.node = Some(node);
                self.crash(Crash::Process)
            }
        }
    }

    fn crash(&mut self, crash: Crash) -> Result<(), Violation> {
        self.disconnect_all();
        self.node = None;
        self.disk.crash(crash);
        // What a failed sync did not bring to the disk is gone with the process, too.
        self.tail_at_risk |= self.plan.disk_faults;
        match crash {
            Crash::Process => {
                self.harm_images();
                self.summary.crashes += 1;
            }
            _ => {
                // What the store had not synced is gone.
                self.images.crash();
                self.harm_images();
                self.summary.power_losses += 1;
                self.tail_at_risk = true;
                self.boot_and_check()?;
            }
        }
        Ok(())
    }

    /// Nobody promises that an image is there, or that it is new.
    fn harm_images(&mut self) {
        match self.rng.random_range(0..4) {
            0 => {
                self.images.lose_everything();
                self.summary.images_lost += 1;
            }
            1 => {
                self.images.crash();
                self.summary.images_set_back += 1;
            }
            _ => {}
        }
    }

    fn disconnect_all(&mut self) {
        (0..self.clients.len()).for_each(|at| self.disconnect(at));
    }

    fn boot(&mut self) -> bool {
        let (disk, images) = (Arc::new(self.disk.clone()), Arc::new(self.images.clone()));
        let seams = Seams {
            disk,
            images,
            metrics: Arc::clone(&self.metrics),
            zeros_from_bytes: self.plan.zeros_from_bytes,
        };
        match Node::boot(&self.config, seams, &self.clock, &mut self.rng) {
            Ok(node) => {
                self.node = Some(node);
                true
            }
            Err(_) => {
                self.disk.crash(Crash::Process);
                false
            }
        }
    }

    /// A broker that starts has a new leader epoch for everything it leads.
    fn boot_and_check(&mut self) -> Result<(), Violation> {
        if !self.boot() {
            return Ok(());
        }
        if std::mem::take(&mut self.tail_at_risk) {
            self.forget_lost_tails();
        }
        let Some(node) = &self.node else {
            return Ok(());
        };
        if let Some(partition) = node
            .broker
            .coordinators
            .unlike_their_logs(&node.broker)
            .first()
        {
            let what = format!("the groups of partition {partition} are not what its log says");
            return Err(Violation::Answer { what });
        }
        for partition in node.broker.partitions.all() {
            let Ok(marks) = partition.marks() else {
                continue;
            };
            let key = (partition.topic.to_string(), partition.index);
            let epoch = marks.leader_epoch.0;
            if let Some(before) = self.epochs.insert(key.clone(), epoch)
                && epoch <= before
            {
                let at = format!("{}-{}", key.0, key.1);
                let (from, to) = (before.into(), epoch.into());
                return Err(Violation::WentBack {
                    at,
                    what: "leader epoch at start",
                    from,
                    to,
                });
            }
        }
        Ok(())
    }

    /// Only topics that promise nothing beyond the page cache may lose a tail in a power cut.
    fn forget_lost_tails(&mut self) {
        let Some(node) = &self.node else { return };
        for partition in node.broker.partitions.all() {
            if !crate::admin::may_lose_its_tail(&partition.topic) {
                continue;
            }
            let Ok(marks) = partition.marks() else {
                continue;
            };
            let end = marks.log_end_offset.0;
            self.summary.tails_lost += 1;
            self.model.tail_lost(&partition.topic, partition.index, end);
            for client in &mut self.clients {
                if let Role::Consumer(consumer) = &mut client.role {
                    let key = (partition.topic.to_string(), partition.index);
                    consumer
                        .positions
                        .entry(key)
                        .and_modify(|at| *at = (*at).min(end));
                }
            }
        }
    }

    /// No more faults: everything must finish.
    fn calm_down(&mut self) -> Result<(), Violation> {
        self.disk.clear_injections();
        // A partition that went offline after a disk fault comes back with the broker.
        if self.plan.disk_faults || self.node.is_none() {
            self.crash(Crash::Process)?;
            self.boot_and_check()?;
        }
        for _ in 0..CALM_STEPS_MAX {
            self.step()?;
            let done = self.clients.iter().all(|client| match &client.role {
                Role::Producer(producer) => producer.is_done(),
                Role::Consumer(_) => true,
                Role::Admin(admin) => admin.is_done(),
                Role::Member(member) => member.is_done(),
                Role::ConsumerMember(member) => member.is_done(),
            });
            if done {
                return Ok(());
            }
            for client in &mut self.clients {
                match &mut client.role {
                    Role::Producer(producer) => producer.retire(),
                    Role::Admin(admin) => admin.retire(),
                    Role::Member(member) => member.retire(),
                    Role::ConsumerMember(member) => member.retire(),
                    Role::Consumer(_) => {}
                }
            }
        }
        Err(Violation::Stuck {
            what: "requests did not finish after all faults had ended".into(),
        })
    }

    /// Reads everything from the beginning and compares, and every committed offset.
    fn judge(&mut self) -> Result<(), Violation> {
        self.judge_groups()?;
        self.judge_logs()
    }

    fn judge_groups(&mut self) -> Result<(), Violation> {
        let Some(node) = &mut self.node else {
            return Ok(());
        };
        let mut link = Link::open(&node.broker, JUDGE, ListenerName::new("PLAINTEXT"));
        for key in self.groups.keys() {
            let at_least = self.groups.at_least(&key);
            link.send(&member::encode_fetch(&key));
            for _ in 0..CALM_STEPS_MAX {
                link.deliver(usize::MAX, self.clock.now());
                if let Some(frame) = link.receive() {
                    member::fetched(frame, &key, at_least, &mut self.groups)?;
                    break;
                }
                node.run_flusher(&mut self.rng);
            }
        }
        Ok(())
    }

    /// Every partition that clients produce to, and its end.
    fn ends(&self) -> Result<Vec<(String, i32, i64)>, Violation> {
        let Some(node) = &self.node else {
            return Err(Violation::Stuck {
                what: "the broker does not start".into(),
            });
        };
        let mut ends = Vec::new();
        for partition in node.broker.partitions.all() {
            let name = partition.topic.to_string();
            // Its content is judged by what the groups say.
            if name == OFFSETS_TOPIC {
                continue;
            }
            match partition.marks() {
                Ok(marks) => ends.push((name, partition.index, marks.high_watermark.0)),
                Err(error) => {
                    let what = format!("{name} is offline: {error}");
                    return Err(Violation::Stuck { what });
                }
            }
        }
        Ok(ends)
    }

    fn judge_logs(&mut self) -> Result<(), Violation> {
        let partitions = self.ends()?;
        let Some(node) = &self.node else {
            return Ok(());
        };
        let mut reader = Consumer::default();
        for (topic, index, _) in &partitions {
            reader.positions.insert((topic.clone(), *index), 0);
        }
        let mut link = Link::open(&node.broker, JUDGE, ListenerName::new("PLAINTEXT"));
        for _ in 0..CALM_STEPS_MAX {
            let behind = |(topic, index, end): &(String, i32, i64)| {
                reader
                    .positions
                    .get(&(topic.clone(), *index))
                    .is_some_and(|at| at < end)
            };
            if !partitions.iter().any(behind) {
                break;
            }
            reader.pump(&mut link, &mut self.rng);
            node.run_cold_read();
            link.deliver(usize::MAX, self.clock.now());
            while let Some(frame) = link.receive() {
                reader.receive(frame, &mut self.model)?;
            }
            self.clock.advance(Duration::from_millis(50));
        }
        for (topic, index, end) in &partitions {
            let read_to = reader
                .positions
                .get(&(topic.clone(), *index))
                .copied()
                .unwrap_or(0);
            if read_to < *end {
                let what =
                    format!("{topic}-{index} can be read to {read_to}, not to its end {end}");
                return Err(Violation::Stuck { what });
            }
            self.model
                .finish(topic, *index, reader.contents(topic, *index))?;
        }
        Ok(())
    }
}

impl Role {
    fn act(&mut self, link: &mut Link, groups: &mut GroupModel, rng: &mut StdRng) {
        match self {
            Role::Producer(producer) => producer.act(link, rng),
            Role::Consumer(consumer) => consumer.pump(link, rng),
            Role::Admin(admin) => admin.act(link, rng),
            Role::Member(member) => member.act(link, groups, rng),
            Role::ConsumerMember(member) => member.act(link, groups, rng),
        }
    }
}

/// A broker with Kafka's defaults; small limits, so that they are met.
fn config() -> Config {
    let pairs = [
        ("node.id", "1"),
        ("process.roles", "broker,controller"),
        ("listeners", "PLAINTEXT://localhost:9092"),
        ("log.dirs", "simulated"),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.num.partitions", "2"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.consumer.min.heartbeat.interval.ms", "500"),
        ("group.consumer.heartbeat.interval.ms", "1000"),
        ("group.consumer.min.session.timeout.ms", "5000"),
        ("group.consumer.session.timeout.ms", "10000"),
    ];
    Config::from_pairs(pairs).expect("the simulated configuration is valid")
}

fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value)
        .wrapping_mul(0x0000_0100_0000_01b3)
        .rotate_left(5)
}
