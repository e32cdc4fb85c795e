//! Regular expressions that members subscribe with: checked when they come, resolved against the
//! names of all topics, and the result written down.
//!
//! The syntax is RE2's, the match is of the whole name, and time is linear in its length. Names of
//! topics are ASCII, so everything is.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::error::ErrorCode;
use regex::bytes::{Regex, RegexBuilder};

use super::re2::translated;
use super::{ConsumerGroup, Scene};
use crate::command::Refusal;
use crate::records::{ConsumerRecord, RegexValue};
use crate::topics::Topics;

/// A compiled expression is at most this large: clients choose them.
const SIZE_MAX_BYTES: usize = 1 << 20;
/// The shortest time between two looks at all topics for a group.
const REFRESH_MIN_MS: i64 = 10_000;

pub(super) fn compile(pattern: &str) -> Result<Regex, Refusal> {
    let translated = translated(pattern);
    let whole = build(&format!(r"\A(?:{translated})\z"))
        // A comment of the verbose syntax ends with its line.
        .or_else(|_| build(&format!("\\A(?:{translated}\n)\\z")));
    build(&translated).and(whole).map_err(|error| {
        let why = error.to_string();
        let why = why.lines().last().unwrap_or_default();
        let why = why
            .trim_start_matches("error:")
            .trim()
            .trim_end_matches('.');
        let message =
            format!("SubscribedTopicRegex `{pattern}` is not a valid regular expression: {why}.");
        Refusal::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message)
    })
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(SIZE_MAX_BYTES)
        .dfa_size_limit(SIZE_MAX_BYTES)
        .build()
}

/// The topics that each pattern matches, in order. A pattern that is not understood (it would
/// come from a log) matches none.
fn resolve<'p>(
    topics: &dyn Topics,
    patterns: impl Iterator<Item = &'p String>,
) -> BTreeMap<&'p str, Vec<String>> {
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut compiled = Vec::new();
    for pattern in patterns {
        found.insert(pattern, Vec::new());
        if let Ok(regex) = compile(pattern) {
            compiled.push((pattern.as_str(), regex));
        }
    }
    for name in topics.names() {
        for (pattern, regex) in &compiled {
            if regex.is_match(name.as_bytes())
                && let Some(names) = found.get_mut(pattern)
            {
                names.push(name.to_owned());
            }
        }
    }
    for names in found.values_mut() {
        names.sort();
        names.dedup();
    }
    found
}

impl ConsumerGroup {
    /// Whether it is time to look again which topics the expressions match.
    pub(crate) fn wants_refresh(&self, now_ms: i64, version: u64, interval_ms: i64) -> bool {
        if self.index.regexes.is_empty() {
            return false;
        }
        let newest = self.resolved.values().map(|value| value.timestamp_ms).max();
        let here = self.refreshed.map(|(at_ms, _)| at_ms);
        let last_ms = newest.max(here);
        let long_ago = |ms: i64| {
            // A time to come is of a clock that was set back.
            last_ms.is_none_or(|last| now_ms < last || now_ms > last.saturating_add(ms))
        };
        if !long_ago(REFRESH_MIN_MS) {
            return false;
        }
        let unresolved = |regex: &String| !self.resolved.contains_key(regex);
        let has_changed = self.refreshed.is_none_or(|(_, seen)| seen != version);
        has_changed || long_ago(interval_ms) || self.index.regexes.keys().any(unresolved)
    }

    /// What has to be written when the expressions are resolved now, and whether the group moves to
    /// a new epoch. Where the topics are what they were only new expressions are looked at.
    pub(crate) fn plan_refresh(&self, scene: &mut Scene<'_>) -> Vec<ConsumerRecord> {
        let version = scene.topics.version();
        let all = self.refreshed.is_none_or(|(_, seen)| seen != version);
        let (due, known): (Vec<&String>, Vec<&String>) = self
            .index
            .regexes
            .keys()
            .partition(|regex| all || !self.resolved.contains_key(*regex));
        let found = resolve(scene.topics, due.into_iter());
        let mut records = Vec::new();
        let mut changed = false;
        for (regex, topics) in &found {
            let known = self.resolved.get(*regex);
            let old = known
                .map(|value| value.topics.as_slice())
                .unwrap_or_default();
            changed |= old != topics.as_slice();
            if known.is_none() || old != topics.as_slice() {
                records.push(ConsumerRecord::Regex {
                    regex: (*regex).to_owned(),
                    value: Some(RegexValue {
                        topics: topics.clone(),
                        version: version.cast_signed(),
                        timestamp_ms: scene.now_ms,
                    }),
                });
            }
        }
        let named = self
            .index
            .topics
            .iter()
            .filter(|(_, readers)| readers.members > 0);
        let mut names: BTreeSet<&str> = named.map(|(name, _)| name.as_str()).collect();
        names.extend(found.values().flatten().map(String::as_str));
        let known = known
            .into_iter()
            .filter_map(|regex| self.resolved.get(regex));
        names.extend(known.flat_map(|value| &value.topics).map(String::as_str));
        let hash = scene.hashes.of_group(scene.topics, names.into_iter());
        if changed || hash != self.metadata_hash {
            records.push(self.epoch_record(self.epoch.saturating_add(1), hash));
        }
        records
    }

    /// The expressions have been resolved, and what came of it is written.
    pub(crate) fn refreshed(&mut self, now_ms: i64, version: u64) {
        self.refreshed = Some((now_ms, version));
        self.seen_topics = Some(version);
    }
}
