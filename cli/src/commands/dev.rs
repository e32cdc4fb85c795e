//! `ottla dev`: one broker with no configuration, for the first minute and for development.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use ottla_broker::config::load::Sources;
use ottla_broker::logging::Output;
use ottla_broker::start::Storage;

use super::server::{refused, start, until_stopped};
use crate::fault::Outcome;
use crate::output::say;

#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where the data is kept between runs
    #[arg(long, value_name = "DIR", default_value = "./ottla-data")]
    data: PathBuf,
    /// Keep nothing: all data is in memory and gone at the end
    #[arg(long, conflicts_with = "data")]
    memory: bool,
    /// Port of the Kafka protocol
    #[arg(long, default_value_t = 9092)]
    port: u16,
    /// Port of HTTP: health and metrics
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Set one key; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

pub(crate) fn run(args: DevArgs) -> Outcome {
    #[allow(clippy::disallowed_methods)] // how long the start took, for the banner
    let began = Instant::now();
    let mut sources = Sources::from_system(None, &args.overrides).map_err(refused)?;
    let pair = |key: &str, value: String| (key.to_owned(), value);
    sources.defaults = vec![
        pair("node.id", "1".into()),
        pair("process.roles", "broker,controller".into()),
        pair("listeners", format!("PLAINTEXT://localhost:{}", args.port)),
        pair(
            "ottla.http.listeners",
            format!("http://127.0.0.1:{}", args.http_port),
        ),
        pair("log.dirs", args.data.display().to_string()),
        pair("group.initial.rebalance.delay.ms", "0".into()),
        pair("log.segment.bytes", (128 << 20).to_string()),
        pair("ottla.log.level", "warn".into()),
    ];
    let storage = if args.memory {
        Storage::Memory
    } else {
        Storage::Disk
    };
    let running = start(sources.load().map_err(refused)?, storage, Output::Stderr)?;
    let ready_ms = began.elapsed().as_millis();
    let kept = match storage {
        Storage::Disk => format!("data in {} (kept)", args.data.display()),
        Storage::Memory => "data in memory (gone at the end)".to_owned(),
    };
    let kafka: Vec<String> = running
        .kafka_addresses()
        .iter()
        .map(|(_, address)| address.to_string())
        .collect();
    say(&format!(
        "  ottla {}  single node, {kept}, {ready_ms} ms to ready",
        env!("CARGO_PKG_VERSION")
    ));
    say(&format!("  Kafka    {}", kafka.join(", ")));
    for address in running.http_addresses() {
        say(&format!("  HTTP     http://{address}  /ready  /metrics"));
    }
    say("  Try:     echo hello | ottla produce greetings");
    say("           ottla consume greetings -n 1");
    say("  Ctrl-C stops it cleanly");
    until_stopped(running)
}
