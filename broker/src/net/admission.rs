//! Who may connect: limits on all connections, on those of one address, and on how fast new ones
//! come. A connection holds a [`Permit`]; dropping it makes room.
//!
//! Whoever else needs descriptors is told how many connections there are, so that files give way to
//! sockets and take their place again later.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The limits of all listeners together.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections_max: u32,
    pub connections_per_ip_max: u32,
    pub per_ip_overrides: BTreeMap<IpAddr, u32>,
    /// New connections per second.
    pub rate_max: u32,
}

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    per_ip: BTreeMap<IpAddr, u32>,
    /// The running second of the rate limit.
    second_began: Option<Instant>,
    in_second: u32,
}

/// Counts connections.
pub struct Admission {
    /// Asked anew for every connection: limits change while the broker runs.
    limits: Box<dyn Fn() -> Limits + Send + Sync>,
    /// Told how many connections there are about to be, or are left.
    counted: Box<dyn Fn(u32) + Send + Sync>,
    counts: Mutex<Counts>,
}

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("max.connections is reached")]
    Total,
    #[error("max.connections.per.ip is reached for its address")]
    PerIp,
}

/// The right to be connected.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    ip: IpAddr,
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Admission {
    pub fn new(
        limits: impl Fn() -> Limits + Send + Sync + 'static,
        counted: impl Fn(u32) + Send + Sync + 'static,
    ) -> Arc<Admission> {
        Arc::new(Admission {
            limits: Box::new(limits),
            counted: Box::new(counted),
            counts: Mutex::new(Counts::default()),
        })
    }

    pub fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Permit, Refused> {
        (self.counted)(self.connections().saturating_add(1));
        let limits = (self.limits)();
        let per_ip_max = *limits
            .per_ip_overrides
            .get(&ip)
            .unwrap_or(&limits.connections_per_ip_max);
        let mut counts = self.counts.lock();
        if counts.total >= limits.connections_max {
            return Err(Refused::Total);
        }
        let of_ip = counts.per_ip.entry(ip).or_insert(0);
        if *of_ip >= per_ip_max {
            return Err(Refused::PerIp);
        }
        *of_ip += 1;
        counts.total += 1;
        Ok(Permit {
            admission: Arc::clone(self),
            ip,
        })
    }

    /// How long to wait before the next connection is accepted, to keep to the rate.
    pub fn pause(&self, now: Instant) -> Option<Duration> {
        const SECOND: Duration = Duration::from_secs(1);
        let rate_max = (self.limits)().rate_max;
        let mut counts = self.counts.lock();
        let since = counts
            .second_began
            .map(|began| now.saturating_duration_since(began));
        match since {
            Some(since) if since < SECOND => {
                counts.in_second = counts.in_second.saturating_add(1);
                (counts.in_second > rate_max).then(|| SECOND - since)
            }
            _ => {
                counts.second_began = Some(now);
                counts.in_second = 1;
                None
            }
        }
    }

    pub fn connections(&self) -> u32 {
        self.counts.lock().total
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let left = {
            let mut counts = self.admission.counts.lock();
            counts.total -= 1;
            if let Some(of_ip) = counts.per_ip.get_mut(&self.ip) {
                *of_ip -= 1;
                if *of_ip == 0 {
                    counts.per_ip.remove(&self.ip);
                }
            }
            counts.total
        };
        (self.admission.counted)(left);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn admission(total: u32, per_ip: u32, rate: u32) -> Arc<Admission> {
        let limits = move || Limits {
            connections_max: total,
            connections_per_ip_max: per_ip,
            per_ip_overrides: BTreeMap::from([("10.0.0.9".parse().unwrap(), 0)]),
            rate_max: rate,
        };
        Admission::new(limits, |_| {})
    }

    #[test]
    fn a_closed_connection_makes_room_for_the_next() {
        let admission = admission(2, 1, 100);
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Refused::PerIp);
        let _second = admission.admit(b).unwrap();
        assert_eq!(
            admission.admit("10.0.0.3".parse().unwrap()).unwrap_err(),
            Refused::Total
        );
        drop(first);
        assert!(admission.admit(a).is_ok());
    }

    #[test]
    fn an_override_of_zero_shuts_an_address_out() {
        let admission = admission(10, 10, 100);
        assert_eq!(
            admission.admit("10.0.0.9".parse().unwrap()).unwrap_err(),
            Refused::PerIp
        );
    }

    #[test]
    fn more_connections_per_second_than_allowed_wait_for_the_next_second() {
        let admission = admission(10, 10, 2);
        let now = Instant::now();
        assert_eq!(admission.pause(now), None);
        assert_eq!(admission.pause(now), None);
        let wait = admission.pause(now + Duration::from_millis(400)).unwrap();
        assert_eq!(wait, Duration::from_millis(600));
        assert_eq!(admission.pause(now + Duration::from_millis(1001)), None);
    }
}
