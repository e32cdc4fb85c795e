//! One simulated broker: the real cores on a simulated disk, without a thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ottla_broker::boot::{self, Home};
use ottla_broker::broker::Broker;
use ottla_broker::clock::Clock;
use ottla_broker::config::Config;
use ottla_broker::controller_driver::ControllerDriver;
use ottla_broker::housekeeper::{self, Housekeeper};
use ottla_broker::metrics::Metrics;
use ottla_broker::recovery::Recovery;
use ottla_storage::disk::Disk;
use ottla_storage::image::ImageHome;
use ottla_storage::layout;
use rand::Rng;
use rand::rngs::StdRng;

use crate::clock::SimClock;

pub(crate) struct Node {
    pub(crate) broker: Arc<Broker>,
    driver: ControllerDriver,
    housekeeper: Housekeeper,
    next_housekeeping: Instant,
}

/// What a broker is put on.
pub(crate) struct Seams {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) images: Arc<dyn ImageHome>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) zeros_from_bytes: u32,
}

impl Node {
    /// Starts a broker on what is on the disk. The text says why it did not start.
    pub(crate) fn boot(
        config: &Arc<Config>,
        seams: Seams,
        clock: &Arc<SimClock>,
        rng: &mut StdRng,
    ) -> Result<Node, String> {
        let clock = Arc::clone(clock) as Arc<dyn Clock>;
        let (wanted, new) = (boot::wanted(config), boot::new_ids(rng));
        let (identity, _) =
            layout::prepare(&*seams.disk, &wanted, &new).map_err(|error| error.to_string())?;
        let home = Home {
            images: Some(seams.images),
            ..Home::single("simulated", seams.disk, &identity)
        };
        let (broker, driver) = boot::boot(config, &home, (clock, seams.metrics), rng, |listener| {
            listener.port
        })
        .map_err(|error| error.to_string())?;
        let zeros_from_bytes = &broker.zeros_from_bytes;
        zeros_from_bytes.store(seams.zeros_from_bytes, Ordering::Relaxed);
        let image = broker.metadata.image();
        // The world carries them out in its turns.
        broker.cold_reads.on_push(|| {});
        let recovery =
            Recovery::begin(&broker, &image, Arc::default()).map_err(|error| error.to_string())?;
        while recovery.open_next() {}
        recovery.finish();
        let now = broker.clock.now();
        let housekeeper = Housekeeper::new(&broker, now);
        Ok(Node {
            broker,
            driver,
            housekeeper,
            next_housekeeping: now,
        })
    }

    /// Lets the controller work. An error means that this broker has ended.
    pub(crate) fn run_controller(&mut self) -> Result<(), String> {
        if let Some(why) = self.broker.ended() {
            return Err(why.to_owned());
        }
        let (now, now_ms) = (self.broker.clock.now(), self.broker.clock.wall_ms());
        self.driver
            .run_once(&self.broker, now, now_ms)
            .map_err(|error| error.to_string())
    }

    /// Carries out one queued piece of disk work, if there is any.
    pub(crate) fn run_flusher(&mut self, rng: &mut StdRng) {
        // Flusher threads race: now and then the second job is done before the first.
        match self.broker.flush.take() {
            Some(first) if rng.random_bool(0.2) => {
                if let Some(second) = self.broker.flush.take() {
                    self.broker.flush.run(second);
                }
                self.broker.flush.run(first);
            }
            Some(job) => self.broker.flush.run(job),
            None => {}
        }
    }

    /// Carries out one read that waits for the disk, if there is any.
    pub(crate) fn run_cold_read(&self) {
        self.broker.cold_reads.run_one();
    }

    /// Timers and housekeeping that are due.
    pub(crate) fn tick(&mut self) {
        let now = self.broker.clock.now();
        self.broker.flush.ring_timers(now);
        self.broker.coordinators.tick(&self.broker, now);
        self.broker.coordinators.apply_images(&self.broker, now);
        if now >= self.next_housekeeping {
            self.next_housekeeping = self.housekeeper.run(&self.broker, now);
        }
    }

    /// Ends as an operator would end it; false when the disk did not let it.
    pub(crate) fn stop(mut self) -> bool {
        self.driver.stop();
        while let Some(job) = self.broker.flush.take() {
            self.broker.flush.run(job);
        }
        self.broker.coordinators.finish_images(&self.broker);
        let partitions = self.broker.partitions.all();
        let failed = partitions
            .iter()
            .filter(|partition| partition.close().is_err())
            .count();
        housekeeper::finish(&self.broker, failed).is_ok()
    }
}
