//! Moments as HTTP writes them, and spans as .NET does.

use peeklock_core::time::{Span, Timestamp};

use super::super::atom::time::{date_of, days_of, days_to, parse_millis};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// From the first of 1970 on.
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
/// The end of the year 9999, behind which these forms have no words.
const LATEST: i64 = 253_402_300_799_999;
/// The longest span of .NET, in milliseconds: it stands for ever.
const FOREVER: u64 = 922_337_203_685_477;

/// `Sat, 21 Nov 2026 14:00:00 GMT`, of milliseconds since 1970.
pub(super) fn show(millis: i64) -> Option<String> {
    if !(0..=LATEST).contains(&millis) {
        return None;
    }
    let (days, seconds) = (millis / 86_400_000, millis / 1000 % 86_400);
    let (year, month, day) = date_of(days);
    let month = MONTHS.get(usize::try_from(month - 1).ok()?)?;
    let name = DAYS.get(usize::try_from(days % 7).ok()?)?;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    Some(format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"))
}

/// Reads that, also with another zone than GMT, and what ISO 8601 writes.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let millis = parse_rfc(text).or_else(|| parse_millis(text))?;
    u64::try_from(millis).ok().map(Timestamp)
}

/// A text that is exactly what [`show`] writes.
pub(super) fn parse_exact(text: &str) -> Option<i64> {
    let millis = parse_rfc(text)?;
    (show(millis).as_deref() == Some(text)).then_some(millis)
}

fn parse_rfc(text: &str) -> Option<i64> {
    let mut words = text.split_ascii_whitespace().peekable();
    words.next_if(|word| word.ends_with(','));
    let day = number(words.next()?, 2)?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| name.eq_ignore_ascii_case(month))?;
    let month = i64::try_from(month).ok()? + 1;
    let year = number(words.next()?, 4)?;
    let mut time = words.next()?.split(':');
    let (hour, minute) = (number(time.next()?, 2)?, number(time.next()?, 2)?);
    let second = time.next().map_or(Some(0), |second| number(second, 2))?;
    let zone = minutes_east(words.next()?)?;
    let is_date = (1..=9999).contains(&year) && (1..=days_of(year, month)).contains(&day);
    let is_time = hour < 24 && minute < 60 && second < 60 && time.next().is_none();
    if !is_date || !is_time || words.next().is_some() {
        return None;
    }
    let minutes = (days_to(year, month, day) * 24 + hour) * 60 + minute - zone;
    Some((minutes * 60 + second) * 1000)
}

fn minutes_east(zone: &str) -> Option<i64> {
    if ["GMT", "UTC", "UT", "Z"].iter().any(|name| name.eq_ignore_ascii_case(zone)) {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_at_checked(2).filter(|_| digits.len() == 4)?;
    Some(sign * (number(hours, 2)? * 60 + number(minutes, 2)?))
}

fn number(text: &str, digits_max: usize) -> Option<i64> {
    let is_number = !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && text.len() <= digits_max).then(|| text.parse().ok()).flatten()
}

/// How long a message is to be of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lifetime {
    For(Span),
    Forever,
}

impl Lifetime {
    fn of_millis(millis: u64) -> Self {
        if FOREVER <= millis { Self::Forever } else { Self::For(Span(millis)) }
    }

    /// Of seconds with a fraction.
    pub(super) fn of_seconds(seconds: f64) -> Option<Self> {
        if seconds.is_nan() || seconds <= 0.0 {
            return None;
        }
        let Ok(span) = std::time::Duration::try_from_secs_f64(seconds) else {
            return Some(Self::Forever);
        };
        // A life that ends before it begins cannot be meant.
        u64::try_from(span.as_millis()).ok().map(|millis| Self::of_millis(millis.max(1)))
    }

    /// Of `d.hh:mm:ss.fffffff`, where days and fraction may be missing.
    pub(super) fn parse_time_span(text: &str) -> Option<Self> {
        let (days, time) = match text.split_once('.') {
            Some((days, time)) if !days.contains(':') => (days, time),
            _ => ("0", text),
        };
        let mut parts = time.split(':');
        let (hours, minutes) = (number(parts.next()?, 2)?, number(parts.next()?, 2)?);
        let (seconds, fraction) = match parts.next() {
            Some(seconds) => seconds.split_once('.').unwrap_or((seconds, "0")),
            None => ("0", "0"),
        };
        let (days, seconds) = (number(days, 8)?, number(seconds, 2)?);
        number(fraction, 7)?;
        let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
        if 24 <= hours || 60 <= minutes || 60 <= seconds || parts.next().is_some() {
            return None;
        }
        let seconds = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
        let millis = u64::try_from(seconds * 1000 + number(&thousandths, 3)?).ok()?;
        (0 < millis).then(|| Self::of_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_as_http_writes_them() {
        for (millis, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (1_404_264_747_000, "Wed, 02 Jul 2014 01:32:27 GMT"),
            (1_709_164_800_000, "Thu, 29 Feb 2024 00:00:00 GMT"),
            (253_402_300_799_000, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(show(millis).as_deref(), Some(text));
            assert_eq!(parse_exact(text), Some(millis));
        }
        assert_eq!(show(-1), None);
        assert_eq!(show(i64::MAX), None);
    }

    #[test]
    fn moments_as_clients_write_them() {
        let at = Some(Timestamp(1_404_264_747_000));
        for text in [
            "Wed, 02 Jul 2014 01:32:27 GMT",
            "Wed, 2 Jul 2014 01:32:27 +0000",
            "02 jul 2014 03:32:27 +0200",
            "Tue, 01 Jul 2014 20:02:27 -0530",
            "2014-07-02T01:32:27Z",
        ] {
            assert_eq!(parse(text), at, "{text}");
            assert_eq!(parse_exact(text).is_some(), text.ends_with("GMT"), "{text}");
        }
        for wrong in [
            "",
            "Wed,",
            "soon",
            "Wed, 32 Jul 2014 01:32:27 GMT",
            "Wed, 29 Feb 2023 01:32:27 GMT",
            "Wed, 02 Jul 2014 24:00:00 GMT",
            "Wed, 02 Jul 2014 01:32:27 GMT GMT",
            "Wed, 02 Jul 2014 01:32:27 PST",
            "Wed, 02 Jul 2014 01:32:27 +é0",
            "Wed, 02 Jul 99999 01:32:27 GMT",
            "Wed, 02 Jul 1914 01:32:27 GMT",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        // The 2nd of July 2014 was a Wednesday.
        assert_eq!(parse_exact("Thu, 02 Jul 2014 01:32:27 GMT"), None);
    }

    #[test]
    fn spans_as_clients_write_them() {
        let span = |millis| Some(Lifetime::For(Span(millis)));
        for (text, expected) in [
            ("0.00:00:40", span(40_000)),
            ("00:00:40", span(40_000)),
            ("1.02:03:04.5", span(93_784_500)),
            ("12:30", span(45_000_000)),
            ("00:00:00.001", span(1)),
            ("10675199.02:48:05.4775807", Some(Lifetime::Forever)),
        ] {
            assert_eq!(Lifetime::parse_time_span(text), expected, "{text}");
        }
        for wrong in
            ["", "40", "00:00:00", "24:00:00", "0.0.0:1:2", "1:2:3:4", "-00:01:00", "é.00:00:01"]
        {
            assert_eq!(Lifetime::parse_time_span(wrong), None, "{wrong}");
        }
        assert_eq!(Lifetime::of_seconds(4.444), span(4_444));
        assert_eq!(Lifetime::of_seconds(0.000_1), span(1));
        assert_eq!(Lifetime::of_seconds(922_337_203_685.477_5), Some(Lifetime::Forever));
        assert_eq!(Lifetime::of_seconds(1e300), Some(Lifetime::Forever));
        assert_eq!(Lifetime::of_seconds(0.0), None);
        assert_eq!(Lifetime::of_seconds(-1.0), None);
    }
}
