//! From a configuration and a disk to a broker that has joined its cluster: the part of starting
//! that needs no thread, socket or clock of its own, so that the simulator starts brokers the
//! same way.
//!
//! The controller opens its log, the broker registers (which bumps the leader epochs of its
//! partitions), and the core is put together. Opening the logs comes next, see `recovery.rs`.

use std::sync::Arc;

use ottla_controller::command::{RegisterBroker, RegisterBrokerError};
use ottla_controller::decide::supported_features;
use ottla_controller::record::BrokerEndpoint;
use ottla_controller::{
    Command, CommandReply, Controller, ControllerError, ControllerOptions, Refusal,
};
use ottla_protocol::types::BrokerId;
use ottla_storage::disk::Disk;
use ottla_storage::image::ImageHome;
use ottla_storage::layout::{DirectoryId, Identity, NewIds, Wanted};
use rand::Rng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::broker::{Broker, Seams};
use crate::clock::Clock;
use crate::config::{Config, Listener, SecurityProtocol};
use crate::controller_driver::ControllerDriver;
use crate::failures;
use crate::log_dirs::{LogDir, LogDirs};
use crate::metrics::Metrics;

/// Why a broker could not join its cluster.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    #[error("the cluster metadata cannot be opened: {0}")]
    Controller(#[from] ControllerError),
    #[error("the broker cannot join its cluster: {0}")]
    Registration(#[from] RegisterBrokerError),
    #[error("the controller refused the broker: {0}")]
    Refused(Refusal),
}

/// The prepared directories: where they are and whose they are.
pub struct Home {
    /// Of the directory with the metadata log.
    pub metadata: Arc<dyn Disk>,
    pub cluster_id: String,
    /// Of all log directories; those that cannot be used have failed already.
    pub log_dirs: Vec<Arc<LogDir>>,
    /// Where images of internal topics are kept; `None`: nowhere.
    pub images: Option<Arc<dyn ImageHome>>,
}

impl Home {
    /// One directory for everything.
    pub fn single(path: &str, disk: Arc<dyn Disk>, identity: &Identity) -> Home {
        let dir = LogDir::new(Arc::from(path), identity.directory_id, Arc::clone(&disk));
        dir.set_has_metadata();
        Home {
            metadata: disk,
            cluster_id: identity.cluster_id.clone(),
            log_dirs: vec![Arc::new(dir)],
            images: None,
        }
    }
}

/// What the directories have to agree with.
pub fn wanted(config: &Config) -> Wanted {
    Wanted {
        node_id: BrokerId(config.node_id),
        cluster_id: config.cluster_id.clone(),
        may_be_new: true,
    }
}

/// The ids that a new directory gets.
pub fn new_ids(chance: &mut StdRng) -> NewIds {
    NewIds {
        cluster_id: DirectoryId(random_uuid(chance)).to_string(),
        directory_id: DirectoryId(random_uuid(chance)),
    }
}

/// Opens the controller, registers and assembles. `port_of` says which port stands for an
/// advertised listener.
pub fn boot(
    config: &Arc<Config>,
    home: &Home,
    (clock, metrics): (Arc<dyn Clock>, Arc<Metrics>),
    chance: &mut StdRng,
    port_of: impl Fn(&Listener) -> u16,
) -> Result<(Arc<Broker>, ControllerDriver), BootError> {
    let mut options = ControllerOptions::single(BrokerId(config.node_id), chance.random());
    options.cluster_id = Some(Arc::from(home.cluster_id.as_str()));
    let controller = Controller::open(Arc::clone(&home.metadata), options, clock.now())?;
    let mut driver = ControllerDriver::new(controller);
    register(
        &mut driver,
        registration(config, home, chance, port_of),
        &*clock,
    )?;
    let broker = Broker::new(Seams {
        config: Arc::clone(config),
        clock,
        metrics,
        image: driver.controller().image(),
        controller: Arc::clone(driver.mailbox()) as _,
        log_dirs: LogDirs::new(home.log_dirs.clone()),
        images: home.images.clone(),
        seed: chance.random(),
    });
    let broker = Arc::new(broker);
    failures::watch(&broker);
    Ok((broker, driver))
}

fn registration(
    config: &Config,
    home: &Home,
    chance: &mut StdRng,
    port_of: impl Fn(&Listener) -> u16,
) -> RegisterBroker {
    RegisterBroker {
        broker_id: BrokerId(config.node_id),
        cluster_id: Some(Arc::from(home.cluster_id.as_str())),
        incarnation_id: random_uuid(chance),
        endpoints: config
            .advertised_listeners
            .iter()
            .map(|listener| endpoint(listener, port_of(listener)))
            .collect(),
        features: supported_features(),
        rack: config.broker_rack.as_deref().map(Arc::from),
        log_dirs: home
            .log_dirs
            .iter()
            .filter(|dir| dir.is_online())
            .map(|dir| dir.id.0)
            .collect(),
    }
}

/// What clients are told.
fn endpoint(listener: &Listener, port: u16) -> BrokerEndpoint {
    BrokerEndpoint {
        listener: Arc::clone(&listener.name.0),
        host: Arc::from(listener.host.as_str()),
        port,
        security_protocol: match listener.protocol {
            SecurityProtocol::Plaintext => 0,
            SecurityProtocol::Ssl => 1,
            SecurityProtocol::SaslPlaintext => 2,
            SecurityProtocol::SaslSsl => 3,
        },
    }
}

/// Tells the controller that this broker is there; its partitions get a new leader epoch each.
fn register(
    driver: &mut ControllerDriver,
    registration: RegisterBroker,
    clock: &dyn Clock,
) -> Result<(), BootError> {
    let command = Command::RegisterBroker(registration);
    match driver.run_command(command, clock.now(), clock.wall_ms())? {
        CommandReply::BrokerRegistered(registered) => {
            registered?;
            Ok(())
        }
        CommandReply::Refused(refusal) => Err(BootError::Refused(refusal)),
        _ => Err(BootError::Refused(Refusal::NotLeader { leader: None })),
    }
}

/// Random, and never with a leading '-', which looks like an option on a command line.
fn random_uuid(chance: &mut StdRng) -> Uuid {
    let mut bytes: [u8; 16] = chance.random();
    bytes[0] &= 0x7f;
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
