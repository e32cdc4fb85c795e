//! The limit on repeated warnings: each place in the code may say a few warnings or errors per
//! window; what is left out is counted and told with the next line that is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

const WINDOW: Duration = Duration::from_secs(10);
const LINES_PER_WINDOW: u32 = 10;

/// A place in the code.
type Place = (&'static str, u32);

#[derive(Debug)]
struct Window {
    since: Instant,
    said: u32,
    left_out: u64,
    /// Of earlier windows, not told yet.
    untold: u64,
}

/// How often each place warned lately. Bounded by the number of places in the code.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    windows: Mutex<BTreeMap<Place, Window>>,
}

impl Repeats {
    /// Whether a line of this place may be said now.
    fn admit(&self, place: Place, now: Instant) -> bool {
        let mut windows = self.windows.lock();
        let fresh = Window {
            since: now,
            said: 0,
            left_out: 0,
            untold: 0,
        };
        let window = windows.entry(place).or_insert(fresh);
        if now.saturating_duration_since(window.since) >= WINDOW {
            let untold = window.untold + window.left_out;
            *window = Window {
                since: now,
                said: 0,
                left_out: 0,
                untold,
            };
        }
        if window.said < LINES_PER_WINDOW {
            window.said += 1;
            return true;
        }
        window.left_out += 1;
        false
    }

    /// How many lines of this place were left out since one was said; told once.
    pub(super) fn take_untold(&self, metadata: &Metadata<'_>) -> u64 {
        let Some(place) = place_of(metadata) else {
            return 0;
        };
        let mut windows = self.windows.lock();
        windows
            .get_mut(&place)
            .map_or(0, |window| std::mem::take(&mut window.untold))
    }
}

/// Only warnings and errors are limited: other levels are chosen by who wants them.
fn place_of(metadata: &Metadata<'_>) -> Option<Place> {
    if *metadata.level() > Level::WARN {
        return None;
    }
    // The callsite lives as long as the program, and with it the name of its file.
    let file = metadata.callsite().0.metadata().file()?;
    Some((file, metadata.line()?))
}

/// The filter of the subscriber.
pub(super) struct Limit(pub(super) Arc<Repeats>);

impl<S> Filter<S> for Limit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "an edge: lines are said in real time"
    )]
    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        match place_of(event.metadata()) {
            Some(place) => self.0.admit(place, Instant::now()),
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_says_a_few_lines_per_window_and_counts_the_rest() {
        let repeats = Repeats::default();
        let start = Instant::now();
        let admitted = (0..100)
            .filter(|_| repeats.admit(("a.rs", 1), start))
            .count();
        assert_eq!(admitted, LINES_PER_WINDOW as usize);
        assert!(
            repeats.admit(("a.rs", 2), start),
            "another place is not concerned"
        );
        assert!(!repeats.admit(("a.rs", 1), start + WINDOW / 2));
        assert!(repeats.admit(("a.rs", 1), start + WINDOW));
        assert_eq!(repeats.windows.lock()[&("a.rs", 1)].untold, 91);
    }
}
