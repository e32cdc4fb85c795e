//! How long clients may keep a connection waiting, in virtual time.

use super::*;

const IDLE_MS: u64 = 600_000;
const SENDER_MS: u64 = 30_000;
const READER_MS: u64 = 120_000;

impl Wire {
    /// The machine's own deadline, in milliseconds from now.
    fn deadline_ms(&self) -> Option<u64> {
        let at = self.connection.next_deadline()?;
        Some(at.saturating_duration_since(self.now).as_millis() as u64)
    }

    /// The socket took some of the answers, all of them, or no more for now.
    fn sent(&mut self, progressed: bool, all: bool) {
        let unsent = if all { 0 } else { 2 * OUTPUT_BYTES_MAX };
        self.connection
            .note_sent(self.now, progressed, unsent, !all);
        self.connection.watch_client(self.now);
    }
}

#[test]
fn a_connection_without_requests_is_closed_after_connections_max_idle_ms() {
    let mut wire = wire("memory");
    wire.call(0, &ApiVersionsRequest::default());
    assert_eq!(wire.deadline_ms(), Some(IDLE_MS), "it asks to be called");
    wire.sleep(IDLE_MS - 1);
    assert_eq!(wire.closed(), None);
    wire.call(0, &ApiVersionsRequest::default());
    wire.sleep(IDLE_MS - 1);
    assert_eq!(wire.closed(), None, "a request starts the time anew");
    wire.sleep(1);
    assert_eq!(wire.closed(), Some(CloseReason::Idle));
}

#[test]
fn a_negative_connections_max_idle_ms_closes_nobody() {
    let mut wire = wire_with(&[("connections.max.idle.ms", "-1")]);
    wire.call(0, &ApiVersionsRequest::default());
    assert_eq!(wire.deadline_ms(), None);
    wire.sleep(IDLE_MS * 1_000);
    assert_eq!(wire.closed(), None);
}

#[test]
fn a_client_that_waits_for_its_answer_is_not_idle() {
    let mut wire = wire_with(&[("connections.max.idle.ms", "1000")]);
    let polled = wire.send(11, &fetch(vec![fetch_at(0, 0)]).with_max_wait_ms(60_000));
    wire.sleep(59_999);
    assert_eq!(wire.closed(), None);
    // The answer is on its way, too: the client reads it slowly, and that has its own limit.
    wire.sent(true, false);
    wire.sleep(1);
    wire.sent(true, false);
    wire.answer::<FetchResponse>(polled, 11);
    wire.sleep(5_000);
    assert_eq!(wire.closed(), None);
    wire.sent(true, true);
    assert_eq!(wire.closed(), Some(CloseReason::Idle));
}

#[test]
fn a_request_that_does_not_arrive_ends_its_connection() {
    let mut wire = wire("memory");
    wire.send_bytes(&[0, 0, 0, 100, 0, 3]);
    assert_eq!(wire.deadline_ms(), Some(SENDER_MS));
    wire.sleep(SENDER_MS - 1_000);
    wire.send_bytes(&[0]);
    assert_eq!(wire.closed(), None);
    wire.sleep(1_000);
    assert_eq!(
        wire.closed(),
        Some(CloseReason::SlowSender),
        "a byte now and then is not enough"
    );
}

#[test]
fn half_a_length_is_a_request_that_has_begun() {
    let mut wire = wire("memory");
    wire.send_bytes(&[0, 0]);
    wire.sleep(SENDER_MS);
    assert_eq!(wire.closed(), Some(CloseReason::SlowSender));
}

#[test]
fn a_large_request_has_more_time_and_each_request_its_own() {
    let mut wire = wire_with(&[("ottla.slow.sender.timeout.ms", "2000")]);
    let request = ApiVersionsRequest::default();
    for id in 1..=5 {
        let frame = encode_request(id, "test", 0, &request).unwrap();
        wire.send_bytes(&frame[..7]);
        wire.sleep(1_999);
        wire.send_bytes(&frame[7..]);
        wire.answer::<ApiVersionsResponse>(id, 0);
    }
    wire.send_bytes(&(160 * 1024i32).to_be_bytes());
    wire.sleep(2_000 + 10_000 - 1);
    assert_eq!(wire.closed(), None, "10 seconds for 160 KiB");
    wire.sleep(1);
    assert_eq!(wire.closed(), Some(CloseReason::SlowSender));
}

#[test]
fn a_client_that_takes_nothing_of_its_answers_is_closed() {
    let mut wire = wire("memory");
    wire.send(0, &ApiVersionsRequest::default());
    wire.sent(true, false);
    assert_eq!(wire.deadline_ms(), Some(READER_MS));
    for _ in 0..10 {
        wire.sleep(READER_MS - 1);
        assert_eq!(wire.closed(), None);
        wire.sent(true, false);
    }
    assert_eq!(wire.closed(), None, "it reads, slowly");
    for _ in 0..10 {
        wire.sleep(READER_MS / 10);
        wire.sent(false, false);
    }
    assert_eq!(wire.closed(), Some(CloseReason::SlowReader));
}

#[test]
fn a_client_that_has_taken_everything_may_rest() {
    let mut wire = wire("memory");
    wire.send(0, &ApiVersionsRequest::default());
    wire.sent(true, false);
    wire.sleep(READER_MS - 1);
    wire.sent(true, true);
    wire.sleep(READER_MS * 2);
    assert_eq!(wire.closed(), None);
}

#[test]
fn half_a_request_is_not_blamed_on_a_client_that_is_not_read_from() {
    let mut wire = wire("memory");
    wire.send(0, &ApiVersionsRequest::default());
    wire.send_bytes(&[0, 0, 0, 100, 0, 3]);
    wire.sent(true, false);
    assert!(!wire.connection.wants_read(), "too much waits to be sent");
    for _ in 0..3 {
        wire.sleep(SENDER_MS);
        wire.sent(true, false);
    }
    assert_eq!(wire.closed(), None);
    wire.sent(true, true);
    assert_eq!(wire.deadline_ms(), Some(SENDER_MS), "now it is");
}
