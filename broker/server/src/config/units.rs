//! Spans of time and sizes as people write them.

use std::time::Duration;

/// `"60s"`, `"1m30s"`, `"500ms"`, `"2h"`: numbers with units, largest first not required.
pub(crate) fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a span of time: write it as \"60s\", \"1m30s\" or \"500ms\"");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(wrong)?;
        let unit_len = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" | "min" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            "d" => number.checked_mul(86_400_000),
            _ => None,
        };
        let part = Duration::from_millis(millis.ok_or_else(wrong)?);
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = next.trim_start();
    }
    Ok(total)
}

/// `"64 KiB"`, `"1MiB"`, `"80 GiB"`, `"1000"`: binary units only, so that nobody has to guess.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("{text:?} is not a size: write it as 1048576, \"64 KiB\", \"1 MiB\" or \"80 GiB\"")
    };
    let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim_start() {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).ok_or_else(wrong)
}

/// Writes a span the way [`parse_span`] reads it, for the bounds in a refusal.
pub(crate) fn show_span(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit, factor) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis != 0 && millis.is_multiple_of(factor) {
            return format!("{}{unit}", millis / factor);
        }
    }
    format!("{millis}ms")
}

/// Writes a size the way [`parse_size`] reads it.
pub(crate) fn show_size(size: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if size != 0 && size.trailing_zeros() >= shift {
            return format!("{} {unit}", size >> shift);
        }
    }
    format!("{size} B")
}

/// The decimal number at the start, and what follows it.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_span(text: &str, millis: Option<u64>) {
        assert_eq!(parse_span(text).ok(), millis.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn spans_of_time() {
        check_span("60s", Some(60_000));
        check_span(" 1m30s ", Some(90_000));
        check_span("1m 30s", Some(90_000));
        check_span("500ms", Some(500));
        check_span("2h", Some(7_200_000));
        check_span("14d", Some(1_209_600_000));
        check_span("", None);
        check_span("60", None);
        check_span("s", None);
        check_span("-5s", None);
        check_span("1.5s", None);
        check_span("5 minutes", None);
        check_span("99999999999999999999s", None);
        check_span("18446744073709551615h", None);
    }

    #[track_caller]
    fn check_size(text: &str, bytes: Option<u64>) {
        assert_eq!(parse_size(text).ok(), bytes, "{text}");
    }

    #[test]
    fn sizes() {
        check_size("1048576", Some(1 << 20));
        check_size("1 MiB", Some(1 << 20));
        check_size("64KiB", Some(65_536));
        check_size("80 GiB", Some(80 << 30));
        check_size("17 B", Some(17));
        check_size("1 MB", None);
        check_size("", None);
        check_size("-1", None);
        check_size("18446744073709551615 KiB", None);
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for millis in [500, 5_000, 60_000, 300_000, 3_600_000, 90_000] {
            let span = Duration::from_millis(millis);
            assert_eq!(parse_span(&show_span(span)), Ok(span));
        }
        for size in [1, 1023, 1024, 1 << 20, 100 << 20, 80 << 30] {
            assert_eq!(parse_size(&show_size(size)), Ok(size));
        }
    }
}
