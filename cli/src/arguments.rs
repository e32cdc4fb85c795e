//! Options that every client command shares, and how they become [`ClientOptions`].
//!
//! Precedence: flag, then environment (`OTTLA_BOOTSTRAP`), then `-X`, then the `--command-config`
//! file, then `localhost:9092`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::client::{ClientOptions, Cluster};
use crate::fault::{Exit, Fault, Outcome};
use crate::output::OutputFormat;
use crate::values::key_value;

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// Brokers to ask first, as host:port, separated by commas [default: localhost:9092]
    #[arg(
        short = 'b',
        long = "bootstrap-server",
        env = "OTTLA_BOOTSTRAP",
        global = true
    )]
    bootstrap: Option<String>,
    /// A Kafka client property, for example -X client.id=me
    #[arg(short = 'X', value_name = "KEY=VALUE", global = true)]
    property: Vec<String>,
    /// A Kafka client properties file, used as it is
    #[arg(long, value_name = "FILE", global = true)]
    command_config: Option<PathBuf>,
    /// How long one step may take
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration, global = true)]
    pub(crate) timeout: Duration,
    /// How results are shown
    #[arg(short = 'o', long = "output", default_value = "table", global = true)]
    pub(crate) output: OutputFormat,
}

impl ClientArgs {
    pub(crate) fn connect(&self) -> Outcome<Cluster> {
        Cluster::connect(self.options()?)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn options(&self) -> Outcome<ClientOptions> {
        let mut properties = BTreeMap::new();
        if let Some(path) = &self.command_config {
            let text = std::fs::read_to_string(path).map_err(|error| {
                Fault::new(
                    "E1002",
                    Exit::NotFound,
                    format!("cannot read {}", path.display()),
                )
                .why(error.to_string())
            })?;
            let lines = text.lines().map(str::trim);
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '!'])) {
                let (key, value) = key_value(line)?;
                properties.insert(key, value.trim().to_owned());
            }
        }
        for property in &self.property {
            let (key, value) = key_value(property)?;
            properties.insert(key, value);
        }
        if let Some(protocol) = properties.get("security.protocol")
            && protocol != "PLAINTEXT"
        {
            return Err(Fault::new(
                "E1003",
                Exit::Usage,
                format!("{protocol} is not spoken yet"),
            )
            .why("this client connects in plain text only")
            .hint("use a PLAINTEXT listener, or another client for now"));
        }
        let bootstrap = self
            .bootstrap
            .clone()
            .or_else(|| properties.get("bootstrap.servers").cloned())
            .unwrap_or_else(|| "localhost:9092".to_owned());
        let with_port = |address: &str| {
            if address
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
            {
                address.to_owned()
            } else {
                format!("{address}:9092")
            }
        };
        Ok(ClientOptions {
            bootstrap: bootstrap.split(',').map(str::trim).map(with_port).collect(),
            client_id: properties
                .get("client.id")
                .cloned()
                .unwrap_or_else(|| "ottla-cli".into()),
            timeout: self.timeout,
        })
    }
}
