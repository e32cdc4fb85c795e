//! A fresh `ottla dev` on ports of its own, and the binary run against it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub(crate) const OTTLA: &str = env!("CARGO_BIN_EXE_ottla");

pub(crate) struct Broker {
    pub(crate) process: Child,
    /// Of the Kafka listener.
    pub(crate) address: String,
    /// Of the HTTP listener.
    #[allow(dead_code, reason = "not every test asks over HTTP")]
    pub(crate) http: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _already_gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

impl Broker {
    /// On free ports; the banner says which.
    #[allow(dead_code, reason = "one test wants a port of its own")]
    pub(crate) fn start(data: &Path) -> Broker {
        Broker::start_with(data, 0)
    }

    /// With HTTP on a port that is known before, as others learn it from the configuration.
    pub(crate) fn start_with(data: &Path, http_port: u16) -> Broker {
        let http_port = http_port.to_string();
        let mut process = Command::new(OTTLA)
            .args(["dev", "--port", "0", "--http-port", &http_port, "--data"])
            .arg(data)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let banner = BufReader::new(process.stderr.take().unwrap());
        let mut lines = banner.lines().map_while(Result::ok);
        let mut last_word_of = |name: &str| {
            let line = lines.find(|line| line.trim_start().starts_with(name));
            line.expect("a banner")
                .split_whitespace()
                .nth(1)
                .unwrap()
                .to_owned()
        };
        let address = last_word_of("Kafka");
        let http = last_word_of("HTTP").replace("http://", "");
        // Nobody reads the rest, but the pipe must stay open.
        std::thread::spawn(move || lines.for_each(drop));
        Broker {
            process,
            address,
            http,
        }
    }

    /// Runs `ottla` with these arguments.
    #[allow(dead_code, reason = "the tour runs a shell instead")]
    pub(crate) fn ottla(&self, arguments: &[&str]) -> Output {
        Command::new(OTTLA)
            .args(arguments)
            .env("OTTLA_BOOTSTRAP", &self.address)
            .output()
            .unwrap()
    }
}
