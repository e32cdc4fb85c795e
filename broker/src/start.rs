//! From a configuration to a running broker, and back: the one place where the core, its threads,
//! its sockets and its directory are put together.
//!
//! Order: listening sockets are bound (a taken port is known first), the directory is locked and
//! checked, the controller opens its log, the broker registers (which bumps the leader epochs of
//! its partitions), connections are accepted, and logs are opened in parallel: each partition is
//! served when its log is open, and until then its requests get NOT_LEADER_OR_FOLLOWER, which
//! clients repeat. Changes of topics and configurations wait until all are open, and so does
//! everything that looks after logs. HTTP answers from the beginning. Stopping goes the other way
//! round and ends with the clean-shutdown marker. Dropping a [`Running`] without `stop` leaves the
//! directory as a crash would.

mod descriptors;
mod directories;
mod ending;
mod http;
mod threads;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ottla_controller::ControllerError;
use ottla_storage::image::ImageHome;
use ottla_storage::layout::{self, DirectoryId, LayoutError, OpenError};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::boot::{self, BootError};
use crate::broker::Broker;
use crate::cleaner::CompactRefused;
use crate::clock::{Clock, RealClock};
use crate::config::{Config, Listener, ListenerName, SecurityProtocol};
use crate::controller_driver::ControllerDriver;
use crate::housekeeper::{self, Housekeeper, Scope, StopError};
use crate::http::{HttpBindError, HttpState, Limits, Phase, Readiness};
use crate::log_dirs::LogDir;
use crate::metrics::Metrics;
use crate::net::{self, Admission, BindError, Bound};
use crate::observe::{GroupsOf, observe};
use crate::recovery::{Recovery, RecoveryError};
use descriptors::Descriptors;
use directories::Directories;
use http::HttpThread;
use threads::{Crew, LONG};

/// Maps of sealed segments.
const MAPS_MAX: usize = 32_000;
/// So few logs are opened and closed without help, if there is nothing to check.
const ALONE_MAX: usize = 8;
/// How often it is looked whether more logs are open.
const PUBLISH_STEP: Duration = Duration::from_millis(2);
/// To serve what is open takes one part in so many of the time.
const PUBLISH_PART: u32 = 20;
/// So many threads flush each of several directories, if there are so many at all; as many read
/// what is cold there.
const SHARE_MIN: usize = 2;
/// With several log directories: threads that bring parts of files into memory which are on their
/// way to sockets, so that a disk that hangs does not keep all of them.
const COLD_PARTS_MAX: usize = 256;
/// With several log directories: a disk that keeps a write to memory for longer hangs.
const HANG_PATIENCE: Duration = Duration::from_millis(500);
/// How long the sockets may be watched by nobody.
const WAKE_INTERVAL: Duration = Duration::from_millis(50);
/// After a shutdown began, connections that do not end by themselves are cut off.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Where the data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In `log.dirs`.
    Disk,
    /// Nowhere: everything is gone when the process ends.
    Memory,
}

/// Where the images of internal topics are kept, if anywhere.
pub type Images = Option<Arc<dyn ImageHome>>;

/// Why a broker did not start. Each text says what is wrong and where.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("listener {listener} wants {protocol}, and only PLAINTEXT is served")]
    Protocol {
        listener: String,
        protocol: &'static str,
    },
    #[error("no listener is configured")]
    NoListener,
    #[error("no log directory is configured")]
    NoLogDir,
    #[error(
        "the directory of the metadata log, {}, is empty, but {} has data of this broker: if the \
         metadata is there, list it first in log.dirs or name it in metadata.log.dir",
        metadata.display(), other.display()
    )]
    MetadataElsewhere { metadata: PathBuf, other: PathBuf },
    #[error(
        "log directories {} and {} have the same id, {id}: one is a copy of the other",
        first.display(), second.display()
    )]
    SameDirectory {
        first: PathBuf,
        second: PathBuf,
        id: DirectoryId,
    },
    #[error("no log directory can be used; {}: {why}", path.display())]
    NoUsableLogDir { path: PathBuf, why: String },
    #[error(transparent)]
    LogDir(#[from] OpenError),
    #[error("the log directory cannot be used: {0}")]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error("the logs cannot be opened: {0}")]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    Http(HttpBindError),
    #[error("the broker's threads cannot be started: {0}")]
    Threads(#[source] io::Error),
}

/// Why a running broker ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error("{0}")]
    LogDirs(String),
}

/// A broker that serves clients.
pub struct Running {
    broker: Arc<Broker>,
    kafka: Vec<(ListenerName, SocketAddr)>,
    shutdown: watch::Sender<bool>,
    /// Why the broker cannot go on.
    failed: watch::Receiver<Option<Arc<EndError>>>,
    accepting: Vec<JoinHandle<io::Result<()>>>,
    crews: Crews,
    runtime: Option<Runtime>,
    readiness: Arc<Readiness>,
    http: HttpThread,
    /// Declared last: the directories are unlocked when nothing can write to them any more.
    _directories: Vec<layout::LogDir>,
}

impl Broker {
    /// Starts a broker; returns when it is ready. `images` is where the images of internal topics
    /// are kept; without one every start replays their logs.
    pub fn start(config: Config, storage: Storage, images: Images) -> Result<Running, StartError> {
        check(&config)?;
        descriptors::raise_limit();
        let config = Arc::new(config);
        let bound = config
            .listeners
            .iter()
            .map(|listener| net::bind(listener, &config))
            .collect::<Result<Vec<_>, _>>()?;
        let (readiness, metrics) = (Arc::new(Readiness::default()), Arc::new(Metrics::new()));
        let shown = http_state(&config, &readiness, &metrics);
        let http = HttpThread::start(&config.http_listeners, Arc::clone(&shown))?;
        let mut chance = StdRng::from_os_rng();
        let directories = Directories::open(&config, storage, images, &mut chance)?;
        let clock: Arc<dyn Clock> = Arc::new(RealClock);
        let port_of = |listener: &Listener| port_of(listener, &bound);
        readiness.enter(Phase::LoadingMetadata);
        let (broker, driver) = boot::boot(
            &config,
            &directories.home,
            (clock, metrics),
            &mut chance,
            port_of,
        )?;
        show(&shown, &broker);
        let failed = watch::channel(None);
        tell_end(&broker, failed.0.clone());
        let changes = Arc::clone(driver.mailbox());
        changes.hold();
        let mut crews = Crews::start(&broker, driver, failed.0)?;
        readiness.enter(Phase::RecoveringLogs);
        let image = broker.metadata.image();
        let recovery = Recovery::begin(&broker, &image, Arc::clone(&readiness))?;
        housekeeper::look_first(&broker);
        crews.groups(&broker)?;
        let kafka = bound
            .iter()
            .map(|bound| (bound.name.clone(), bound.address))
            .collect();
        let runtime = network(&broker, &mut crews)?;
        let shutdown = watch::Sender::new(false);
        let descriptors = Descriptors::of_process(&config, directories.budget.as_ref());
        let accepting = listen(&runtime, &broker, bound, (&shutdown, descriptors));
        recover(&broker, recovery, &readiness);
        changes.release();
        crews.after_recovery(&broker)?;
        readiness.enter(Phase::Ready);
        Ok(Running {
            broker,
            kafka,
            shutdown,
            failed: failed.1,
            accepting,
            crews,
            runtime: Some(runtime),
            readiness,
            http,
            _directories: directories.locked,
        })
    }
}

impl Running {
    pub fn broker(&self) -> &Arc<Broker> {
        &self.broker
    }

    /// The address each listener is bound to, with the port that the system chose for 0.
    pub fn kafka_addresses(&self) -> &[(ListenerName, SocketAddr)] {
        &self.kafka
    }

    /// The addresses of the HTTP listeners, in the order of the configuration.
    pub fn http_addresses(&self) -> &[SocketAddr] {
        self.http.addresses()
    }

    /// Resolves if the broker cannot go on: its metadata could not be written, or no log directory
    /// is left.
    pub fn failure(&self) -> impl Future<Output = Arc<EndError>> + Send + 'static {
        let mut failed = self.failed.clone();
        async move {
            match failed
                .wait_for(Option::is_some)
                .await
                .map(|error| error.clone())
            {
                Ok(Some(error)) => error,
                // Its thread is gone without a word.
                _ => Arc::new(ControllerError::Stopped.into()),
            }
        }
    }

    /// Ends connections after the requests they have begun, closes the logs and leaves the marker
    /// of a clean shutdown.
    pub fn stop(mut self) -> Result<(), StopError> {
        self.readiness.enter(Phase::Stopping);
        self.end_connections();
        self.stop_crews();
        ending::close(&self.broker, ending::STOP_MAX)
    }

    fn stop_crews(&mut self) {
        // A round of compaction under way is given up: what it has swapped in stays.
        self.broker.cleaner.stop();
        self.broker.mover.stop();
        self.broker.scrubber.stop();
        self.crews.stop(self.broker.clock.now() + ending::STOP_MAX);
    }

    fn end_connections(&mut self) {
        let _ = self.shutdown.send(true);
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        let accepting = std::mem::take(&mut self.accepting);
        runtime.block_on(async {
            let all = async {
                for task in accepting {
                    if let Ok(Err(error)) = task.await {
                        tracing::error!(%error, "a listener ended with an error");
                    }
                }
            };
            if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
                tracing::warn!("connections were cut off because they did not end");
            }
        });
        runtime.shutdown_timeout(DRAIN_MAX);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        self.stop_crews();
    }
}

fn tell_end(broker: &Broker, ended: watch::Sender<Option<Arc<EndError>>>) {
    broker.on_end(move |why| {
        tracing::error!("the broker ends: {why}");
        ended.send_replace(Some(Arc::new(EndError::LogDirs(why.to_owned()))));
    });
}

fn listen(
    runtime: &Runtime,
    broker: &Arc<Broker>,
    bound: Vec<Bound>,
    (shutdown, descriptors): (&watch::Sender<bool>, Descriptors),
) -> Vec<JoinHandle<io::Result<()>>> {
    let (limited, descriptors) = (Arc::clone(broker), Arc::new(descriptors));
    let shared = Arc::clone(&descriptors);
    let admission = Admission::new(
        move || limits(&limited.live_config(), shared.connections_max()),
        move |connections| descriptors.give_way_to(connections),
    );
    let accept = |bound| {
        let (broker, admission) = (Arc::clone(broker), Arc::clone(&admission));
        runtime.spawn(net::accept(broker, bound, admission, shutdown.subscribe()))
    };
    bound.into_iter().map(accept).collect()
}

/// What this version of the broker does not serve is refused before anything is touched.
fn check(config: &Config) -> Result<(), StartError> {
    if config.listeners.is_empty() {
        return Err(StartError::NoListener);
    }
    for listener in &config.listeners {
        if listener.protocol != SecurityProtocol::Plaintext {
            let protocol = listener.protocol.name();
            return Err(StartError::Protocol {
                listener: listener.to_string(),
                protocol,
            });
        }
    }
    Ok(())
}

/// Port 0 stands for the bound port.
fn port_of(listener: &Listener, bound: &[Bound]) -> u16 {
    if listener.port != 0 {
        return listener.port;
    }
    bound
        .iter()
        .find(|bound| bound.name == listener.name)
        .map_or(0, |bound| bound.address.port())
}

fn http_state(
    config: &Config,
    readiness: &Arc<Readiness>,
    metrics: &Arc<Metrics>,
) -> Arc<HttpState> {
    let limits = Limits {
        partitions: config.metrics_partition_limit,
        groups: config.metrics_group_limit,
    };
    Arc::new(HttpState::new(
        Arc::clone(readiness),
        Arc::clone(metrics),
        limits,
    ))
}

/// From now on HTTP tells about this broker and passes wishes on, for as long as it is there.
fn show(shown: &HttpState, broker: &Arc<Broker>) {
    let observed = Arc::downgrade(broker);
    shown.observe_with(move || observed.upgrade().map(|b| observe(&b)).unwrap_or_default());
    shown.show_groups_of(GroupsOf(Arc::downgrade(broker)));
    let asked = Arc::downgrade(broker);
    shown.compact_with(move |topic| {
        let broker = asked.upgrade().ok_or(CompactRefused::UnknownTopic)?;
        broker.cleaner.compact_topic(&broker, topic)
    });
}

/// Opens all logs, in as many threads as configured when there is enough to share, and has each
/// partition served when its log is open.
fn recover(broker: &Arc<Broker>, recovery: Recovery, readiness: &Readiness) {
    let began = broker.clock.now();
    let partitions = recovery.partitions();
    let threads = broker.config.num_recovery_threads_per_data_dir;
    let threads = threads.saturating_mul(broker.log_dirs.online().count());
    match partitions <= 1 || (recovery.is_clean() && partitions <= ALONE_MAX) {
        true => while recovery.open_next() {},
        false => open_in_parallel(&recovery, threads.clamp(1, partitions), &*broker.clock),
    }
    recovery.finish();
    let took = broker.clock.now().saturating_duration_since(began);
    tracing::info!(
        partitions,
        checked_bytes = readiness.progress().scanned_bytes,
        took_ms = took.as_millis() as u64,
        "opened the logs"
    );
}

/// This thread has served what the others have opened.
fn open_in_parallel(recovery: &Recovery, threads: usize, clock: &dyn Clock) {
    #[allow(clippy::disallowed_methods)] // one of the few places that start threads
    std::thread::scope(|scope| {
        let open = || while recovery.open_next() {};
        let opening: Vec<_> = (0..threads).map(|_| scope.spawn(open)).collect();
        let mut next = clock.now();
        while !opening.iter().all(|thread| thread.is_finished()) {
            let now = clock.now();
            if now >= next && recovery.publish() {
                next = now + clock.now().saturating_duration_since(now) * PUBLISH_PART;
            }
            threads::pause(PUBLISH_STEP, || false);
        }
    });
}

/// Runs `work` on this thread and on so many helpers, until all of them return.
fn in_parallel(helpers: usize, work: impl Fn() + Sync) {
    #[allow(clippy::disallowed_methods)] // one of the few places that start threads
    std::thread::scope(|scope| {
        for _ in 0..helpers {
            scope.spawn(&work);
        }
        work();
    });
}

/// What looks after all logs does so in each directory for itself.
fn scopes(broker: &Broker, name: &str) -> Vec<(String, Scope)> {
    let dirs = broker.log_dirs.iter().enumerate();
    match broker.log_dirs.are_several() {
        true => dirs
            .map(|(n, dir)| (format!("{name}-{n}"), Scope::One(Arc::clone(dir))))
            .collect(),
        false => vec![(name.to_owned(), Scope::All)],
    }
}

struct Crews {
    controller: Crew,
    groups: Crew,
    images: Crew,
    /// One per log directory, and one for what belongs to none.
    flushers: Vec<Crew>,
    openers: Crew,
    /// One per log directory, with several.
    errands: Vec<Crew>,
    /// One per log directory.
    write_back: Vec<Crew>,
    housekeeper: Crew,
    /// One per log directory.
    cleaners: Vec<Crew>,
    mover: Crew,
    scrubber: Crew,
    /// With several log directories.
    waker: Crew,
}

impl Crews {
    fn start(
        broker: &Arc<Broker>,
        driver: ControllerDriver,
        failed: watch::Sender<Option<Arc<EndError>>>,
    ) -> Result<Crews, StartError> {
        let flushers = flushers(broker)?;
        let openers = openers(broker)?;
        let write_back = write_back(broker)?;
        let errands = errands(broker)?;
        let controller = controller(broker, driver, failed)?;
        Ok(Crews {
            controller,
            groups: Crew::new(),
            images: Crew::new(),
            flushers,
            openers,
            errands,
            write_back,
            housekeeper: Crew::new(),
            cleaners: Vec::new(),
            mover: Crew::new(),
            scrubber: Crew::new(),
            waker: Crew::new(),
        })
    }

    /// Ends them in this order. Threads that wait for a disk that hangs are left behind.
    fn stop(&mut self, until: Instant) {
        let flushers = self.flushers.iter_mut().map(|crew| ("flush", crew));
        let write_back = self.write_back.iter_mut().map(|crew| ("write-back", crew));
        let errands = self.errands.iter_mut().map(|crew| ("errands", crew));
        let cleaners = self.cleaners.iter_mut().map(|crew| ("cleaner", crew));
        let first = [
            ("groups", &mut self.groups),
            ("controller", &mut self.controller),
            ("openers", &mut self.openers),
        ];
        let last = [
            ("housekeeper", &mut self.housekeeper),
            ("images", &mut self.images),
            ("mover", &mut self.mover),
            ("scrubber", &mut self.scrubber),
            ("waker", &mut self.waker),
        ];
        let all = first
            .into_iter()
            .chain(errands)
            .chain(write_back)
            .chain(flushers);
        for (name, crew) in all.chain(last).chain(cleaners) {
            if !crew.stop_until(until) {
                tracing::error!(
                    threads = name,
                    "threads were left behind because they did not end: a disk hangs"
                );
            }
        }
    }

    /// Those that work on opened logs.
    fn after_recovery(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        self.housekeeper(broker)?;
        self.images(broker)?;
        self.cleaners(broker)?;
        self.mover(broker)?;
        self.scrubber(broker)
    }

    /// Nobody waits for it: it works for the next start.
    fn images(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        let bell = self.images.bell();
        broker.coordinators.on_image_change(move || bell.ring());
        let broker = Arc::clone(broker);
        let work = move || {
            let now = broker.clock.now();
            let next = broker.coordinators.apply_images(&broker, now);
            Some(next.unwrap_or(now + LONG))
        };
        self.images.add("images", work).map_err(StartError::Threads)
    }

    /// The clock of the groups: sessions, rebalances, offsets that expire.
    fn groups(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        let bell = self.groups.bell();
        broker.coordinators.on_alarm(move || bell.ring());
        let broker = Arc::clone(broker);
        let work = move || {
            let now = broker.clock.now();
            let next = broker.coordinators.tick(&broker, now);
            Some(next.unwrap_or(now + LONG))
        };
        self.groups.add("groups", work).map_err(StartError::Threads)
    }

    /// Compaction, out of everybody's way: it gets what time the other threads leave.
    fn cleaners(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        for (name, scope) in scopes(broker, "cleaner") {
            let mut crew = Crew::new();
            let broker = Arc::clone(broker);
            let mut began = false;
            let work = move || {
                if !std::mem::replace(&mut began, true) {
                    threads::lower_priority();
                }
                let mut pause = |wait| threads::pause(wait, || broker.cleaner.is_stopping());
                Some(broker.cleaner.run(&broker, &scope, &mut pause))
            };
            crew.add(&name, work).map_err(StartError::Threads)?;
            self.cleaners.push(crew);
        }
        let bells: Vec<_> = self.cleaners.iter().map(Crew::bell).collect();
        broker
            .cleaner
            .on_request(move || bells.iter().for_each(|bell| bell.ring()));
        Ok(())
    }

    /// A network thread that takes one event from the system and then waits for its disk does not
    /// tell the others that one of them must watch the sockets now. So one of those that sleep is
    /// woken now and then; before it sleeps again it watches.
    fn keep_awake(&mut self, broker: &Broker, runtime: &Runtime) -> Result<(), StartError> {
        if !broker.log_dirs.are_several() {
            return Ok(());
        }
        let (clock, handle) = (Arc::clone(&broker.clock), runtime.handle().clone());
        let work = move || {
            drop(handle.spawn(std::future::ready(())));
            Some(clock.now() + WAKE_INTERVAL)
        };
        self.waker.add("waker", work).map_err(StartError::Threads)
    }

    /// Moves of partitions between directories; asleep without any.
    fn mover(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        if !broker.log_dirs.are_several() {
            return Ok(());
        }
        let bell = self.mover.bell();
        broker.mover.on_wish(move || bell.ring());
        let broker = Arc::clone(broker);
        let work = move || {
            let mut pause = |wait| threads::pause(wait, || broker.cleaner.is_stopping());
            Some(broker.mover.run(&broker, &mut pause))
        };
        self.mover.add("mover", work).map_err(StartError::Threads)
    }

    /// Reads old data again; nobody waits for it.
    fn scrubber(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        for (name, scope) in scopes(broker, "scrubber") {
            let broker = Arc::clone(broker);
            let mut began = false;
            let work = move || {
                if !std::mem::replace(&mut began, true) {
                    threads::lower_priority();
                }
                let mut pause = |wait| threads::pause(wait, || broker.scrubber.is_stopping());
                let now = broker.clock.now();
                Some(broker.scrubber.run(&broker, &scope, now, &mut pause))
            };
            self.scrubber
                .add(&name, work)
                .map_err(StartError::Threads)?;
        }
        Ok(())
    }

    /// One for each log directory.
    fn housekeeper(&mut self, broker: &Arc<Broker>) -> Result<(), StartError> {
        let bell = self.housekeeper.bell();
        broker.retention.on_discard(move || bell.ring());
        for (n, dir) in broker.log_dirs.iter().enumerate() {
            let broker = Arc::clone(broker);
            let (scope, now) = (Scope::One(Arc::clone(dir)), broker.clock.now());
            let mut housekeeper = Housekeeper::of(&broker, scope, now);
            let work = move || Some(housekeeper.run(&broker, broker.clock.now()));
            self.housekeeper
                .add(&format!("housekeeper-{n}"), work)
                .map_err(StartError::Threads)?;
        }
        Ok(())
    }
}

/// The thread of the metadata: its failure is the end of the process, except where the disk can
/// still be read.
fn controller(
    broker: &Arc<Broker>,
    mut driver: ControllerDriver,
    failed: watch::Sender<Option<Arc<EndError>>>,
) -> Result<Crew, StartError> {
    let mut controller = Crew::new();
    let bell = controller.bell();
    driver.mailbox().on_post(move || bell.ring());
    let served = Arc::clone(broker);
    let work = move || {
        let (now, now_ms) = (served.clock.now(), served.clock.wall_ms());
        match driver.run_once(&served, now, now_ms) {
            Ok(()) => Some(driver.next_tick()),
            // Readers are served as long as the disk can be read; it takes no writes again
            // before it was repaired, and then the broker is started anew.
            Err(error) if error.is_of_a_read_only_disk() => {
                tracing::error!(
                    %error,
                    "the disk of the metadata log is read-only: until the broker is started \
                     again with a disk that takes writes, nothing can be changed"
                );
                None
            }
            Err(error) => {
                tracing::error!(%error, "the controller has stopped");
                failed.send_replace(Some(Arc::new(error.into())));
                None
            }
        }
    };
    controller
        .add("controller", work)
        .map_err(StartError::Threads)?;
    Ok(controller)
}

/// The threads of each directory that may wait for its disk, for flushes and again for reads.
fn io_share(broker: &Broker) -> usize {
    let most = broker.config.io_threads.max(1);
    let dirs = broker.log_dirs.iter().len();
    most.div_ceil(dirs).max(SHARE_MIN).min(most)
}

/// A crew for each log directory, which shares nothing with the others, and a thread for what
/// belongs to none.
fn flushers(broker: &Arc<Broker>) -> Result<Vec<Crew>, StartError> {
    let dirs = broker.log_dirs.iter().len();
    let threads = io_share(broker);
    broker.flush.shared_by(threads);
    (0..broker.flush.lines())
        .map(|line| match line < dirs {
            true => line_of_flushers(broker, line, threads),
            false => line_of_flushers(broker, line, 1),
        })
        .collect()
}

fn line_of_flushers(broker: &Arc<Broker>, line: usize, threads: usize) -> Result<Crew, StartError> {
    let mut crew = Crew::new();
    let bell = crew.bell();
    broker.flush.on_push(line, move || bell.ring());
    for n in 0..threads {
        let broker = Arc::clone(broker);
        let work = move || {
            // Whichever thread the bell wakes looks at the timers: none may sleep past one.
            let timer = broker.flush.ring_timers_of(line, broker.clock.now());
            while broker.flush.run_one_of(line) {}
            Some(timer.unwrap_or_else(|| broker.clock.now() + LONG))
        };
        crew.add(&format!("flush-{line}-{n}"), work)
            .map_err(StartError::Threads)?;
    }
    Ok(crew)
}

/// As many as there are cores: codecs need nothing else.
fn openers(broker: &Arc<Broker>) -> Result<Crew, StartError> {
    let mut openers = Crew::new();
    let bell = openers.bell();
    broker.openers.on_push(move || bell.ring());
    for n in 0..cores() {
        let broker = Arc::clone(broker);
        let work = move || {
            while broker.openers.run_one() {}
            Some(broker.clock.now() + LONG)
        };
        openers
            .add(&format!("open-{n}"), work)
            .map_err(StartError::Threads)?;
    }
    Ok(openers)
}

/// One per directory: it waits for the disk most of the time, and a disk needs no more to be busy.
fn write_back(broker: &Arc<Broker>) -> Result<Vec<Crew>, StartError> {
    let crew = |line: usize| {
        let mut crew = Crew::new();
        let bell = crew.bell();
        broker.flush.on_write_back(line, move || bell.ring());
        let broker = Arc::clone(broker);
        let work = move || {
            while broker.flush.run_write_backs_of(line) {}
            Some(broker.clock.now() + LONG)
        };
        crew.add(&format!("write-back-{line}"), work)
            .map_err(StartError::Threads)?;
        Ok(crew)
    };
    (0..broker.log_dirs.iter().len()).map(crew).collect()
}

/// One per directory, for what the controller's thread wants of its disk; with one directory that
/// thread does it itself.
fn errands(broker: &Arc<Broker>) -> Result<Vec<Crew>, StartError> {
    let crew = |(n, dir): (usize, &Arc<LogDir>)| {
        let mut crew = Crew::new();
        let bell = crew.bell();
        dir.errands.on_push(move || bell.ring());
        let (broker, dir) = (Arc::clone(broker), Arc::clone(dir));
        let work = move || {
            while dir.errands.run_one() {}
            Some(broker.clock.now() + LONG)
        };
        crew.add(&format!("errands-{n}"), work)
            .map_err(StartError::Threads)?;
        Ok(crew)
    };
    let dirs = broker.log_dirs.iter().enumerate();
    let dirs = dirs.filter(|_| broker.log_dirs.are_several());
    dirs.map(crew).collect()
}

/// The runtime's threads for what blocks carry them out, as they read cold ranges for sockets.
fn serve_cold_reads(broker: &Arc<Broker>, runtime: &Runtime) {
    let (weak, handle) = (Arc::downgrade(broker), runtime.handle().clone());
    broker.cold_reads.on_push(move || {
        let weak = Weak::clone(&weak);
        #[allow(clippy::disallowed_methods)] // reads that block have a pool of their own
        handle.spawn_blocking(move || weak.upgrade().map(|broker| broker.cold_reads.run_one()));
    });
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The threads of the network: as many as there are cores. With several log directories there is
/// one more, and one of them never waits for a disk that hangs.
fn workers(broker: &Broker) -> usize {
    let wanted = match broker.config.worker_threads {
        0 => cores(),
        configured => configured,
    };
    if !broker.log_dirs.are_several() {
        return wanted;
    }
    for dir in broker.log_dirs.iter() {
        dir.hang.bound(wanted, HANG_PATIENCE);
    }
    wanted + 1
}

/// Threads that read for the network what is not in memory; they are made when they are needed.
fn blocking(broker: &Broker) -> usize {
    if !broker.log_dirs.are_several() {
        return broker.config.io_threads.max(1);
    }
    let share = io_share(broker);
    broker.cold_reads.bound(share);
    share * broker.flush.lines() + COLD_PARTS_MAX
}

/// The threads of the network, and what depends on them.
fn network(broker: &Arc<Broker>, crews: &mut Crews) -> Result<Runtime, StartError> {
    let runtime = data_runtime(workers(broker), blocking(broker)).map_err(StartError::Threads)?;
    serve_cold_reads(broker, &runtime);
    crews.keep_awake(broker, &runtime)?;
    Ok(runtime)
}

fn data_runtime(workers: usize, blocking: usize) -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(blocking)
        .thread_name("net")
        .enable_all()
        .build()
}

fn limits(config: &Config, left: u32) -> net::Limits {
    net::Limits {
        connections_max: config.max_connections.min(left),
        connections_per_ip_max: config.max_connections_per_ip,
        per_ip_overrides: config.max_connections_per_ip_overrides.clone(),
        rate_max: config.max_connection_creation_rate,
    }
}
