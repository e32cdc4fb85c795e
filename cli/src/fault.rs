//! What a command says when it fails: what happened, why, and what to type next.
//!
//! Owns the exit codes (documented in `docs/reference/cli.md`) and the stable ids of client-side
//! errors. Commands build a [`Fault`]; only `main` prints it.

use std::fmt;

use ottla_protocol::error::ErrorCode;

/// Process exit codes; programs may rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Auth = 5,
    Unreachable = 6,
    Partial = 7,
    Unhealthy = 8,
}

/// A failure, told in up to three sentences.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Stable id, `E1101` and so on; listed in `docs/reference/cli.md`.
    pub(crate) id: &'static str,
    pub(crate) exit: Exit,
    pub(crate) what: String,
    pub(crate) why: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Fault {
    pub(crate) fn new(id: &'static str, exit: Exit, what: impl Into<String>) -> Self {
        Self {
            id,
            exit,
            what: what.into(),
            why: None,
            hint: None,
        }
    }

    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self::new("E1001", Exit::Usage, what)
    }

    #[must_use]
    pub(crate) fn why(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An error code that a broker answered to `doing`, with its own message where it sent one.
    pub(crate) fn broker(doing: &str, code: i16, message: Option<&str>) -> Self {
        let error = ErrorCode(code);
        let (id, exit, hint) = match code {
            3 | 69 | 100 => (
                "E1204",
                Exit::NotFound,
                Some("`ottla topic list` shows what exists"),
            ),
            36 => (
                "E1205",
                Exit::Conflict,
                Some("add --if-not-exists when an existing topic is fine"),
            ),
            29..=31 | 53 | 58 => ("E1206", Exit::Auth, None),
            7 => (
                "E1207",
                Exit::Unreachable,
                Some("the change may still happen; look again, or raise --timeout"),
            ),
            38 => (
                "E1208",
                Exit::Failed,
                Some("the cluster has fewer brokers than asked replicas"),
            ),
            _ => ("E1200", Exit::Failed, None),
        };
        let mut fault = Self::new(id, exit, format!("{doing}: {}", error.name()));
        fault.why = message
            .map(str::to_owned)
            .or_else(|| Some(format!("Kafka error code {code}")));
        fault.hint = hint.map(str::to_owned);
        fault
    }

    /// The machine-readable form, for `-o json`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": { "id": self.id, "what": self.what, "why": self.why, "hint": self.hint,
                       "exit_code": self.exit as i32 }
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "error[{}]: {}", self.id, self.what)?;
        if let Some(why) = &self.why {
            write!(out, "\n  why:  {why}")?;
        }
        if let Some(hint) = &self.hint {
            write!(out, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// The result of every command.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;
