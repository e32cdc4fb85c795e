//! What a configuration makes us want to say without refusing it: unknown and removed keys, keys
//! without effect here, Java class names, clamped replication factors, risky choices. The server
//! logs them at start, `ottla config check` lists them per key.

use std::fmt;

use super::source::Origin;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    UnknownKey {
        key: String,
        origin: Origin,
        suggestion: Option<&'static str>,
    },
    /// A key that Kafka 4 no longer has but that files still carry.
    RemovedKey {
        key: String,
        origin: Origin,
        why: &'static str,
    },
    WithoutEffect {
        key: &'static str,
        origin: Origin,
        why: &'static str,
    },
    /// The value names a Java class; `meaning` says what happens instead.
    JavaClass {
        key: &'static str,
        origin: Origin,
        class: String,
        meaning: &'static str,
    },
    /// The same key twice in one file; the later one counts, as in Kafka.
    SetTwice {
        key: String,
        origin: Origin,
        earlier: Origin,
    },
    Clamped {
        key: &'static str,
        wanted: i32,
        brokers: usize,
    },
    /// Anybody who reaches this address may read and write everything.
    Unauthenticated {
        key: &'static str,
        listener: String,
        origin: Origin,
    },
    Dangerous {
        key: &'static str,
        origin: Origin,
        why: &'static str,
    },
}

impl Notice {
    pub fn key(&self) -> &str {
        match self {
            Notice::UnknownKey { key, .. }
            | Notice::RemovedKey { key, .. }
            | Notice::SetTwice { key, .. } => key,
            Notice::WithoutEffect { key, .. }
            | Notice::JavaClass { key, .. }
            | Notice::Clamped { key, .. }
            | Notice::Unauthenticated { key, .. }
            | Notice::Dangerous { key, .. } => key,
        }
    }

    /// Worth a warning in the server's log; the others are information.
    pub fn is_warning(&self) -> bool {
        !matches!(
            self,
            Notice::WithoutEffect { .. } | Notice::JavaClass { .. }
        )
    }

    pub fn origin(&self) -> Option<&Origin> {
        match self {
            Notice::UnknownKey { origin, .. }
            | Notice::RemovedKey { origin, .. }
            | Notice::WithoutEffect { origin, .. }
            | Notice::JavaClass { origin, .. }
            | Notice::SetTwice { origin, .. }
            | Notice::Unauthenticated { origin, .. }
            | Notice::Dangerous { origin, .. } => Some(origin),
            Notice::Clamped { .. } => None,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = self.origin() {
            write!(f, "{origin}: ")?;
        }
        match self {
            Notice::UnknownKey {
                key,
                suggestion: Some(name),
                ..
            } => {
                write!(
                    f,
                    "{key} is not a known key and is ignored; did you mean {name}?"
                )
            }
            Notice::UnknownKey {
                key,
                suggestion: None,
                ..
            } => {
                write!(f, "{key} is not a known key and is ignored")
            }
            Notice::RemovedKey { key, why, .. } => {
                write!(f, "{key} no longer exists in Kafka 4 and is ignored: {why}")
            }
            Notice::WithoutEffect { key, why, .. } => write!(f, "{key} has no effect: {why}"),
            Notice::JavaClass {
                key,
                class,
                meaning,
                ..
            } => {
                write!(f, "{key} names the Java class {class}: {meaning}")
            }
            Notice::SetTwice { key, earlier, .. } => {
                write!(f, "{key} is set again; the value at {earlier} is ignored")
            }
            Notice::Clamped {
                key,
                wanted,
                brokers,
            } => {
                write!(
                    f,
                    "{key} is {wanted}, but only {brokers} broker can hold replicas: "
                )?;
                write!(f, "internal topics are created with {brokers}")
            }
            Notice::Unauthenticated { key, listener, .. } => {
                write!(
                    f,
                    "{key}: {listener} is reachable from other machines without "
                )?;
                f.write_str(
                    "authentication: anybody who connects may read, write and delete everything",
                )
            }
            Notice::Dangerous { key, why, .. } => write!(f, "{key}: {why}"),
        }
    }
}
