//! Who came to the wrong door: the first bytes of HTTP, TLS and Kafka are told apart, so that the
//! log can say what to change instead of "bad frame". At most one line per mistake and interval,
//! however often it is repeated; the lines left out are counted.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(10);
/// Beyond the keys of today, and far below what text looks like as a number.
const API_KEY_MAX: i16 = 1_000;

/// A protocol that is not spoken where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    HttpToKafka,
    TlsToKafka,
    KafkaToHttp,
    TlsToHttp,
}

impl Stranger {
    /// By the first bytes of what came instead of a Kafka request.
    pub fn at_kafka(head: &[u8]) -> Option<Stranger> {
        const METHODS: [&[u8]; 9] = [
            b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI ",
        ];
        if METHODS.iter().any(|method| head.starts_with(method)) {
            Some(Stranger::HttpToKafka)
        } else {
            is_tls(head).then_some(Stranger::TlsToKafka)
        }
    }

    /// By the first bytes of what came instead of an HTTP request.
    pub fn at_http(head: &[u8]) -> Option<Stranger> {
        let [0, _, _, _, key @ ..] = head else {
            return is_tls(head).then_some(Stranger::TlsToHttp);
        };
        let key = i16::from_be_bytes(*key.first_chunk()?);
        (0..API_KEY_MAX)
            .contains(&key)
            .then_some(Stranger::KafkaToHttp)
    }

    fn hint(self) -> &'static str {
        match self {
            Stranger::HttpToKafka => {
                "an HTTP request came to a Kafka listener; health and metrics are on the address \
                 of ottla.http.listeners"
            }
            Stranger::TlsToKafka => {
                "a TLS handshake came to a listener without TLS; set security.protocol=PLAINTEXT \
                 in the client"
            }
            Stranger::KafkaToHttp => {
                "a Kafka client came to the HTTP listener; its bootstrap.servers must name an \
                 address of listeners"
            }
            Stranger::TlsToHttp => {
                "a TLS handshake came to the HTTP listener, which has no TLS; use http://"
            }
        }
    }
}

/// A handshake record of any TLS version.
fn is_tls(head: &[u8]) -> bool {
    matches!(head, [0x16, 3, minor, ..] if *minor <= 4)
}

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    left_out: u64,
}

/// What was said lately, by kind.
#[derive(Debug, Default)]
pub struct Strangers {
    said: Mutex<[Said; 4]>,
}

impl Strangers {
    /// Says it in the log, if that was not done lately.
    pub fn note(&self, stranger: Stranger, peer: &dyn std::fmt::Display, now: Instant) {
        if let Some(left_out) = self.admit(stranger, now) {
            tracing::warn!(%peer, left_out, "{}", stranger.hint());
        }
    }

    /// How many were left out before this one; `None` leaves this one out.
    fn admit(&self, stranger: Stranger, now: Instant) -> Option<u64> {
        let said = &mut self.said.lock()[stranger as usize];
        let lately = |last: Instant| now.saturating_duration_since(last) < INTERVAL;
        if said.last.is_some_and(lately) {
            said.left_out += 1;
            return None;
        }
        said.last = Some(now);
        Some(std::mem::take(&mut said.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_who_came() {
        let tls = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
        let kafka = [0, 0, 0, 20, 0, 18, 0, 3, 0, 0, 0, 1];
        assert_eq!(
            Stranger::at_kafka(b"GET / HTTP/1.1\r\n"),
            Some(Stranger::HttpToKafka)
        );
        assert_eq!(
            Stranger::at_kafka(b"PRI * HTTP/2.0"),
            Some(Stranger::HttpToKafka)
        );
        assert_eq!(Stranger::at_kafka(&tls), Some(Stranger::TlsToKafka));
        assert_eq!(Stranger::at_kafka(&[0xff; 20]), None);
        assert_eq!(Stranger::at_kafka(b""), None);
        assert_eq!(Stranger::at_http(&kafka), Some(Stranger::KafkaToHttp));
        assert_eq!(Stranger::at_http(&tls), Some(Stranger::TlsToHttp));
        assert_eq!(Stranger::at_http(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(Stranger::at_http(&[0; 5]), None);
    }

    #[test]
    fn a_flood_of_strangers_is_one_line_in_ten_seconds_for_each_kind() {
        let strangers = Strangers::default();
        let now = Instant::now();
        assert_eq!(strangers.admit(Stranger::TlsToKafka, now), Some(0));
        for _ in 0..1_000 {
            assert_eq!(strangers.admit(Stranger::TlsToKafka, now), None);
        }
        assert_eq!(strangers.admit(Stranger::HttpToKafka, now), Some(0));
        let later = now + INTERVAL;
        assert_eq!(strangers.admit(Stranger::TlsToKafka, later), Some(1_000));
    }
}
