//! Moments and spans as XML Schema writes them, and .NET reads them.

use std::fmt::Write as _;

use peeklock_core::time::{Span, Timestamp};

/// 100 ns, the unit of .NET.
const TICKS_PER_MILLISECOND: i128 = 10_000;
const TICKS_PER_SECOND: i128 = 10_000_000;
const TICKS_PER_DAY: i128 = 86_400 * TICKS_PER_SECOND;
/// Between the year 1 and 1970.
const TICKS_TO_1970: i128 = 621_355_968_000_000_000;

/// The longest span of .NET, which stands for ever. Some clients cannot hold all its digits, so that
/// everything of so many days is the same.
const SHOWN_FOREVER: &str = "P10675199DT2H48M5.4775807S";
const FOREVER_DAYS: i128 = 10_675_199;

/// A span that does not end.
pub(crate) const FOREVER: Span = Span(u64::MAX);

/// The moment before all others, which stands for never.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// Reads `P1DT2H3M4.5S` as ticks. Years and months count as .NET counts them, though nobody sends any.
pub(crate) fn parse_ticks(text: &str) -> Option<i128> {
    let text = text.trim();
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let rest = rest.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    let days = [('Y', 365), ('M', 30), ('D', 1)];
    let (date, rest) = components(date, &days.map(|(unit, days)| (unit, days * TICKS_PER_DAY)))?;
    if !rest.is_empty() {
        return None;
    }
    let minute = 60 * TICKS_PER_SECOND;
    let (time, rest) = components(time, &[('H', 60 * minute), ('M', minute)])?;
    let seconds = match rest.strip_suffix('S') {
        None if rest.is_empty() => 0,
        None => return None,
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
            number(whole)? * TICKS_PER_SECOND + fraction_ticks(fraction)?
        }
    };
    Some(sign * (date + time + seconds))
}

/// Numbers with these units, in this order, each at most once; and what follows them.
fn components<'a>(text: &'a str, units: &[(char, i128)]) -> Option<(i128, &'a str)> {
    let (mut ticks, mut rest) = (0, text);
    for (unit, size) in units {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (value, behind) = rest.split_at_checked(digits)?;
        if let Some(behind) = behind.strip_prefix(*unit) {
            ticks += number(value)? * size;
            rest = behind;
        }
    }
    Some((ticks, rest))
}

/// Few enough digits that no sum of them overflows.
fn number(digits: &str) -> Option<i128> {
    let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && digits.len() <= 18).then(|| digits.parse().ok()).flatten()
}

/// Digits behind the point, of which seven count.
fn fraction_ticks(digits: &str) -> Option<i128> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let seven: String = digits.chars().chain("0000000".chars()).take(7).collect();
    seven.parse().ok()
}

/// Reads a span that is not negative.
pub(crate) fn parse_span(text: &str) -> Option<Span> {
    let ticks = parse_ticks(text).filter(|ticks| 0 <= *ticks)?;
    if FOREVER_DAYS * TICKS_PER_DAY <= ticks {
        return Some(FOREVER);
    }
    u64::try_from(ticks / TICKS_PER_MILLISECOND).ok().map(Span)
}

pub(crate) fn show_span(span: Option<Span>) -> String {
    let ticks = span.map(|span| i128::from(span.0) * TICKS_PER_MILLISECOND);
    match ticks.filter(|ticks| *ticks < FOREVER_DAYS * TICKS_PER_DAY) {
        Some(ticks) => show_ticks(ticks),
        None => SHOWN_FOREVER.to_owned(),
    }
}

/// `P1DT2H3M4.5S`, without the parts that are zero.
pub(crate) fn show_ticks(ticks: i128) -> String {
    let mut out = String::from(if ticks < 0 { "-P" } else { "P" });
    let ticks = ticks.abs();
    let (days, rest) = (ticks / TICKS_PER_DAY, ticks % TICKS_PER_DAY);
    let (seconds, fraction) = (rest / TICKS_PER_SECOND, rest % TICKS_PER_SECOND);
    let part = |out: &mut String, count: i128, unit: char| {
        if count != 0 {
            let _ = write!(out, "{count}{unit}");
        }
    };
    part(&mut out, days, 'D');
    if rest != 0 || days == 0 {
        out.push('T');
        part(&mut out, seconds / 3600, 'H');
        part(&mut out, seconds / 60 % 60, 'M');
        if seconds % 60 != 0 || fraction != 0 || rest == 0 {
            let _ = write!(out, "{}", seconds % 60);
            if fraction != 0 {
                let digits = format!("{fraction:07}");
                let _ = write!(out, ".{}", digits.trim_end_matches('0'));
            }
            out.push('S');
        }
    }
    out
}

/// `2026-01-31T12:34:56.789Z`, without zeros at the end of the fraction.
pub(crate) fn show_moment(at: Timestamp) -> String {
    show_millis(at.as_amqp(), 0)
}

/// The same with seven digits behind the point, as rules have it.
pub(crate) fn show_exact_moment(at: Timestamp) -> String {
    show_millis(at.as_amqp(), 7)
}

/// A moment in milliseconds since 1970, with so many digits behind the point at least.
pub(crate) fn show_millis(millis: i64, digits_min: usize) -> String {
    let (days, of_day) = (millis.div_euclid(86_400_000), millis.rem_euclid(86_400_000));
    let (year, month, day) = date_of(days);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let mut fraction = format!("{millis:03}");
    fraction.truncate(fraction.trim_end_matches('0').len());
    while fraction.len() < digits_min {
        fraction.push('0');
    }
    let point = if fraction.is_empty() { "" } else { "." };
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{point}{fraction}Z")
}

/// Reads a moment as milliseconds since 1970. Without a zone it is in UTC.
pub(crate) fn parse_millis(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = fixed(date, '-', [4, 2, 2])?;
    let (time, offset) = match time.strip_suffix('Z') {
        Some(time) => (time, 0),
        None => match time.rfind(['+', '-']).and_then(|at| time.split_at_checked(at)) {
            Some((time, zone)) => {
                let sign = if zone.starts_with('-') { -1 } else { 1 };
                let [hours, minutes] = fixed(zone.get(1..)?, ':', [2, 2])?;
                (time, sign * (hours * 60 + minutes))
            }
            None => (time, 0),
        },
    };
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = fixed(time, ':', [2, 2, 2])?;
    let is_date = (1..=9999).contains(&year) && (1..=12).contains(&month);
    let is_time = hour < 24 && minute < 60 && second < 60;
    if !is_date || !is_time || day < 1 || days_of(year, month) < day {
        return None;
    }
    let millis = fraction_ticks(fraction)? / TICKS_PER_MILLISECOND;
    let minutes = (days_to(year, month, day) * 24 + hour) * 60 + minute - offset;
    Some((minutes * 60 + second) * 1000 + i64::try_from(millis).ok()?)
}

/// Numbers of so many digits each, with something between them.
fn fixed<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut numbers = [0; N];
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

pub(in crate::http) fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970. Years begin in March here, so that the day of a leap year is their last.
pub(in crate::http) fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The year, month and day, of days since 1970.
pub(in crate::http) fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// Ticks since the year 1, as `ETag` has them.
pub(crate) fn ticks_of(at: Timestamp) -> i128 {
    i128::from(at.0) * TICKS_PER_MILLISECOND + TICKS_TO_1970
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_span(text: &str, expected: Option<Span>, shown: &str) {
        let span = parse_span(text);
        assert_eq!(span, expected, "{text}");
        let again = span.map_or_else(String::new, |span| show_span(Some(span)));
        assert_eq!(again, shown, "{text}");
    }

    #[test]
    fn spans_as_clients_write_them() {
        check_span("PT1M", Some(Span(60_000)), "PT1M");
        check_span("PT300S", Some(Span(300_000)), "PT5M");
        check_span("P1DT2H3M4.5S", Some(Span(93_784_500)), "P1DT2H3M4.5S");
        check_span("P14D", Some(Span(14 * 86_400_000)), "P14D");
        check_span("PT0S", Some(Span(0)), "PT0S");
        check_span(" PT0.1234567S ", Some(Span(123)), "PT0.123S");
        check_span("P1Y", Some(Span(365 * 86_400_000)), "P365D");
        check_span("P10675198DT23H59M59.999S", Some(Span(922_337_193_599_999)), {
            "P10675198DT23H59M59.999S"
        });
        check_span(SHOWN_FOREVER, Some(FOREVER), SHOWN_FOREVER);
        assert_eq!(show_span(None), SHOWN_FOREVER);
        check_span("P10675199DT2H48M5.477539S", Some(FOREVER), SHOWN_FOREVER);
        check_span("P99999999D", Some(FOREVER), SHOWN_FOREVER);
        for wrong in [
            "",
            "P",
            "PT",
            "1D",
            "P1",
            "PT1",
            "P1D2H",
            "PT1M1H",
            "P-1D",
            "-PT1S",
            "PT1.S",
            "PT.5S",
            "PT1,5S",
            "P1W",
            "P1DT",
            "P1.5D",
            "P9999999999999999999D",
            "PéD",
        ] {
            check_span(wrong, None, "");
        }
    }

    #[test]
    fn ticks_keep_their_sign_and_all_their_digits() {
        for (text, ticks) in [
            ("-P1DT0.0000001S", -864_000_000_001),
            ("PT4H5M6.7000001S", 147_067_000_001),
            ("P2D", 1_728_000_000_000),
        ] {
            assert_eq!(parse_ticks(text), Some(ticks));
            assert_eq!(show_ticks(ticks), text);
        }
    }

    #[track_caller]
    fn check_moment(text: &str, millis: i64, shown: &str) {
        assert_eq!(parse_millis(text), Some(millis), "{text}");
        assert_eq!(show_millis(millis, 0), shown, "{text}");
    }

    #[test]
    fn moments_as_clients_write_them() {
        check_moment("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
        check_moment("2000-02-29T23:59:59.5Z", 951_868_799_500, "2000-02-29T23:59:59.5Z");
        check_moment("2020-08-21T14:44:26.14+02:00", 1_598_013_866_140, {
            "2020-08-21T12:44:26.14Z"
        });
        check_moment("2020-08-21T07:14:26.1400000-05:30", 1_598_013_866_140, {
            "2020-08-21T12:44:26.14Z"
        });
        check_moment("2020-08-21T12:44:26", 1_598_013_866_000, "2020-08-21T12:44:26Z");
        check_moment(NEVER, -62_135_596_800_000, NEVER);
        check_moment("9999-12-31T23:59:59.999Z", 253_402_300_799_999, "9999-12-31T23:59:59.999Z");
        check_moment("1900-03-01T00:00:00Z", -2_203_891_200_000, "1900-03-01T00:00:00Z");
        for wrong in [
            "",
            "2020-08-21",
            "2020-13-01T00:00:00Z",
            "2021-02-29T00:00:00Z",
            "2020-08-21T24:00:00Z",
            "2020-08-21T12:44Z",
            "20-08-21T12:44:26Z",
            "2020-08-21T12:44:26.Z",
            "2020-08-21T12:44:26+2",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_millis(wrong), None, "{wrong}");
        }
        assert_eq!(show_exact_moment(Timestamp(1_598_013_866_140)), "2020-08-21T12:44:26.1400000Z");
        assert_eq!(show_moment(Timestamp(60_000)), "1970-01-01T00:01:00Z");
    }

    #[test]
    fn every_day_of_400_years_has_a_date_of_its_own() {
        for days in -146_097..146_097 {
            let (year, month, day) = date_of(days);
            assert_eq!(days_to(year, month, day), days);
            assert!(day <= days_of(year, month));
        }
    }

    #[test]
    fn ticks_count_from_the_year_one() {
        assert_eq!(ticks_of(Timestamp(1_598_013_866_140)), 637_336_106_661_400_000);
    }
}
