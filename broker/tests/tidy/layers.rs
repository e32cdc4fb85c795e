//! Who may name whom: crates by their manifests, things inside a crate by their words.

use std::fs;
use std::path::Path;

/// Crate folder -> the crates of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("storage", &["ottla-protocol"]),
    ("coordinator", &["ottla-protocol"]),
    ("controller", &["ottla-protocol", "ottla-storage"]),
    (
        "broker",
        &[
            "ottla-protocol",
            "ottla-storage",
            "ottla-coordinator",
            "ottla-controller",
        ],
    ),
    (
        "cli",
        &[
            "ottla-protocol",
            "ottla-storage",
            "ottla-controller",
            "ottla-broker",
            "ottla-bench",
        ],
    ),
    (
        "sim",
        &[
            "ottla-protocol",
            "ottla-storage",
            "ottla-coordinator",
            "ottla-controller",
            "ottla-broker",
        ],
    ),
    ("bench", &["ottla-protocol"]),
    ("compat-tests", &[]),
];

/// Crates of others that a pure crate must not even depend on.
const PURE: &[(&str, &[&str])] = &[
    ("protocol", &["tokio", "rustix", "socket2", "parking_lot"]),
    ("storage", &["tokio", "socket2", "axum"]),
    (
        "coordinator",
        &["tokio", "socket2", "axum", "rustix", "parking_lot"],
    ),
    ("controller", &["tokio", "socket2", "axum", "rustix"]),
];

pub(crate) fn wrong_dependencies(root: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for (folder, allowed) in ARROWS {
        let manifest = fs::read_to_string(root.join(folder).join("Cargo.toml")).unwrap_or_default();
        for name in dependencies(&manifest) {
            if name.starts_with("ottla-") && !allowed.contains(&name) {
                wrong.push(format!("{folder}/Cargo.toml: {name}"));
            }
            let forbidden = PURE.iter().find(|(pure, _)| pure == folder);
            if forbidden.is_some_and(|(_, crates)| crates.contains(&name)) {
                wrong.push(format!("{folder}/Cargo.toml: {name} (this crate is pure)"));
            }
        }
    }
    let members = fs::read_to_string(root.join("Cargo.toml")).unwrap_or_default();
    let members = members.lines().find(|line| line.starts_with("members"));
    let members = members.expect("the workspace lists its members on one line");
    for member in members.split('"').skip(1).step_by(2) {
        if !ARROWS.iter().any(|(folder, _)| *folder == member) {
            wrong.push(format!(
                "{member}: a new crate needs a line in broker/tests/tidy/layers.rs"
            ));
        }
    }
    wrong
}

/// The names in `[dependencies]`; tests may use more.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]";
        } else if inside && line.contains('=') {
            let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
            names.push(name);
        }
    }
    names
}

/// A word that only some files may say.
pub(crate) struct NameRule {
    pub(crate) word: &'static str,
    /// The rule holds below these paths ...
    below: &'static [&'static str],
    /// ... except below these, where the thing lives.
    home: &'static [&'static str],
    pub(crate) reason: &'static str,
}

impl NameRule {
    pub(crate) fn applies_to(&self, path: &str) -> bool {
        let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
        starts(self.below) && !starts(self.home)
    }
}

/// Where logic lives: nothing here may see a clock, a disk, a socket or chance.
const LOGIC: &[&str] = &[
    "protocol/src",
    "storage/src",
    "controller/src",
    "broker/src",
    "sim/src",
];
/// The edges inside those folders.
const EDGES: &[&str] = &[
    // An `Instant` has no other source; the simulator adds virtual time to one.
    "sim/src/clock.rs",
    "storage/src/disk",
    "storage/src/image/rocks.rs",
    "broker/src/net",
    "broker/src/http",
    "broker/src/start",
    "broker/src/clock",
    "broker/src/flusher",
    "broker/src/logging",
    "broker/src/config/load",
    "broker/src/server",
    "sim/src/bin",
    "sim/src/main.rs",
];

pub(crate) const NAMES: &[NameRule] = &[
    NameRule {
        word: "unsafe",
        below: &[""],
        home: &["storage/src/disk/mmap.rs"],
        reason: "mapped memory is the only unsafe code",
    },
    NameRule {
        word: "raft::",
        below: &[""],
        home: &["controller/src/raft"],
        reason: "raft-rs stays behind one folder",
    },
    NameRule {
        word: "rocksdb::",
        below: &[""],
        home: &["storage/src/image/rocks.rs"],
        reason: "RocksDB stays behind one file",
    },
    NameRule {
        word: "kafka_protocol::",
        below: &[""],
        home: &[
            "protocol/src/messages",
            "protocol/src/guard/shapes.rs",
            "protocol/src/lib.rs",
        ],
        reason: "its decoders trust the wire; messages.rs guards first",
    },
    NameRule {
        word: "ottla_protocol::messages",
        below: &["storage/src"],
        home: &[],
        reason: "a log stores batches and knows no requests",
    },
    NameRule {
        word: "ottla_broker",
        below: &["cli/src"],
        home: &[
            "cli/src/commands/server.rs",
            "cli/src/commands/dev.rs",
            "cli/src/commands/config",
            "cli/src/commands/storage/adopt.rs",
        ],
        reason: "online commands speak the protocol, offline ones open the storage",
    },
    NameRule {
        word: "tokio",
        below: LOGIC,
        home: EDGES,
        reason: "logic is synchronous",
    },
    NameRule {
        word: "std::fs",
        below: LOGIC,
        home: EDGES,
        reason: "go through the Disk seam",
    },
    NameRule {
        word: "Instant::now",
        below: LOGIC,
        home: EDGES,
        reason: "take `now` as an argument",
    },
    NameRule {
        word: "SystemTime::now",
        below: LOGIC,
        home: EDGES,
        reason: "take wall time as an argument",
    },
    NameRule {
        word: "thread::spawn",
        below: LOGIC,
        home: EDGES,
        reason: "only edges start threads",
    },
    NameRule {
        word: "rand::rng",
        below: LOGIC,
        home: EDGES,
        reason: "use the seeded generator you were given",
    },
];

/// Whether `line` says `word` as a word of its own, not as the end of a longer path.
pub(crate) fn names(line: &str, word: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let ends_in_word = word.ends_with(is_word);
        let joined_before = before.is_some_and(|c| is_word(c) || c == ':');
        let joined_after = ends_in_word && after.is_some_and(is_word);
        !joined_before && !joined_after
    })
}

/// Endings that make a token in prose a path of this repository.
const PATH_ENDINGS: &[&str] = &[".rs", ".md", ".toml", ".sh", ".tsv", ".py", ".mjs", ".yml"];

/// The tokens of a line of prose that name a file in a folder.
pub(crate) fn named_paths(line: &str) -> Vec<&str> {
    let is_path_char = |c: char| c.is_ascii_alphanumeric() || "_-./*{}<>~$".contains(c);
    let tokens = line.split(|c: char| !is_path_char(c));
    let tokens = tokens.map(|token| token.trim_matches('.').trim_start_matches("./"));
    tokens.filter(|token| is_named_path(token)).collect()
}

fn is_named_path(token: &str) -> bool {
    let pattern = token.contains(['*', '{', '}', '<', '>', '~', '$']);
    let named = PATH_ENDINGS.iter().any(|ending| token.ends_with(ending));
    token.contains('/') && named && !pattern && !token.starts_with('/') && !token.contains("//")
}

/// Whether `path`, as named in `from`, is a file seen from the root, from that file, or its crate.
pub(crate) fn path_exists(root: &Path, from: &str, path: &str) -> bool {
    let here = root.join(from);
    let crate_folder = root.join(from.split('/').next().unwrap_or_default());
    let bases = [
        root,
        here.parent().unwrap_or(root),
        &crate_folder,
        &crate_folder.join("src"),
    ];
    bases.iter().any(|base| base.join(path).exists())
}
