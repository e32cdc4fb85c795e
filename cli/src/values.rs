//! The small grammars of values people type: `7d`, `128MiB`, `key=value`, points in time.
//!
//! Pure functions; the current time is an argument.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::fault::{Fault, Outcome};

/// `k=v` into its halves. An empty value is allowed, an empty key is not.
pub(crate) fn key_value(text: &str) -> Outcome<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => {
            Ok((key.trim().to_owned(), value.to_owned()))
        }
        _ => Err(Fault::usage(format!(
            "\"{text}\" is not of the form key=value"
        ))),
    }
}

/// Config values as Kafka wants them: `retention.ms=7d` becomes milliseconds,
/// `segment.bytes=128MiB` bytes. Anything that already is a number, and any other key, passes
/// unchanged.
pub(crate) fn config_value(key: &str, value: &str) -> Outcome<String> {
    if value.parse::<i64>().is_ok() {
        return Ok(value.to_owned());
    }
    if key.ends_with(".ms") {
        let duration = humantime::parse_duration(value).map_err(|error| {
            Fault::usage(format!("{key}: \"{value}\" is not a duration"))
                .why(error.to_string())
                .hint("write milliseconds, or a duration such as 90s, 12h, 7d")
        })?;
        return Ok(duration.as_millis().to_string());
    }
    if key.ends_with(".bytes") {
        return size_bytes(value)
            .map(|bytes| bytes.to_string())
            .ok_or_else(|| {
                Fault::usage(format!("{key}: \"{value}\" is not a size"))
                    .hint("write bytes, or a size such as 64KiB, 128MiB, 1GiB")
            });
    }
    Ok(value.to_owned())
}

fn size_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        "t" | "tb" | "tib" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Milliseconds since the epoch.
pub(crate) fn epoch_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A point in time in milliseconds: epoch seconds or milliseconds, RFC 3339, a date, or `-2h`
/// before `now`.
pub(crate) fn time_ms(text: &str, now: SystemTime) -> Outcome<i64> {
    if let Ok(number) = text.parse::<i64>()
        && number >= 0
    {
        // Ten digits are seconds until the year 2286; thirteen are milliseconds.
        return Ok(if number < 100_000_000_000 {
            number * 1000
        } else {
            number
        });
    }
    if let Some(ago) = text.strip_prefix('-')
        && let Ok(duration) = humantime::parse_duration(ago)
    {
        return Ok(epoch_ms(now.checked_sub(duration).unwrap_or(UNIX_EPOCH)));
    }
    let mut stamp = text.trim().replace(' ', "T");
    if !stamp.contains('T') {
        stamp.push_str("T00:00:00");
    }
    if stamp.matches(':').count() == 1 && !stamp.ends_with('Z') {
        stamp.push_str(":00");
    }
    if !stamp.ends_with('Z') {
        stamp.push('Z');
    }
    humantime::parse_rfc3339(&stamp)
        .map(epoch_ms)
        .map_err(|error| {
            Fault::usage(format!("\"{text}\" is not a point in time"))
                .why(error.to_string())
                .hint("write 2026-11-24T09:30:00Z, a date, epoch milliseconds, or -2h")
        })
}

/// Milliseconds since the epoch as RFC 3339 in UTC; `-` where a record has no time.
pub(crate) fn show_time(timestamp_ms: i64) -> String {
    match u64::try_from(timestamp_ms) {
        // Past the year 9999 RFC 3339 has no form.
        Ok(ms) if ms < 253_402_300_800_000 => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_translated_only_where_the_key_has_that_unit() {
        let value = |key, value| config_value(key, value).unwrap();
        assert_eq!(value("retention.ms", "7d"), "604800000");
        assert_eq!(value("retention.ms", "-1"), "-1");
        assert_eq!(value("segment.bytes", "128MiB"), "134217728");
        assert_eq!(value("cleanup.policy", "compact"), "compact");
        assert!(config_value("retention.ms", "soon").is_err());
        assert!(config_value("segment.bytes", "99999999999999TiB").is_err());
    }

    #[test]
    fn times_may_be_numbers_stamps_dates_or_relative() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ms = |text| time_ms(text, now).unwrap();
        assert_eq!(ms("1700000000"), 1_700_000_000_000);
        assert_eq!(ms("1700000000123"), 1_700_000_000_123);
        assert_eq!(ms("1970-01-02"), 86_400_000);
        assert_eq!(ms("1970-01-01 00:01"), 60_000);
        assert_eq!(ms("1970-01-01T00:01:02Z"), 62_000);
        assert_eq!(ms("-1h"), 1_000_000_000 - 3_600_000);
        assert!(time_ms("tomorrow", now).is_err());
    }

    #[test]
    fn a_record_without_time_shows_a_dash() {
        assert_eq!(show_time(-1), "-");
        assert_eq!(show_time(i64::MAX), "-");
        assert_eq!(show_time(1_000), "1970-01-01T00:00:01.000Z");
    }
}
