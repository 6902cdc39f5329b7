//! What the kernel writes of processes in `/proc`, as text.

use std::time::Duration;

pub(crate) fn clock_ticks_per_second() -> u32 {
    u32::try_from(rustix::param::clock_ticks_per_second()).ok().filter(|n| *n != 0).unwrap_or(100)
}

/// Clock ticks as a time.
pub(crate) fn ticks(count: u64) -> Duration {
    let tick = Duration::from_secs(1) / clock_ticks_per_second();
    tick.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The fields of `/proc/PID/stat` from the third on. The second is the program's name in parentheses,
/// which may hold spaces and parentheses itself: the fields are counted from the last one.
fn stat_fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_ascii_whitespace())
}

/// User and system time in `/proc/PID/stat`.
pub(crate) fn stat_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat_fields(stat)?.skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// When the process began in `/proc/PID/stat`, in ticks since the machine did.
pub(crate) fn stat_begun(stat: &str) -> Option<u64> {
    stat_fields(stat)?.nth(19)?.parse().ok()
}

/// When the machine began, in seconds since 1970, as `/proc/stat` says.
pub(crate) fn boot_seconds(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A line such as `Threads: 7` of `/proc/PID/status`.
pub(crate) fn status_number(status: &str, name: &str) -> Option<u64> {
    status_value(status, name)?.parse().ok()
}

/// A line such as `VmHWM:     1234 kB` of `/proc/PID/status`.
pub(crate) fn status_kib(status: &str, name: &str) -> Option<u64> {
    status_value(status, name)?.strip_suffix("kB")?.trim().parse().ok()
}

fn status_value<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_counted_from_the_end_of_the_name() {
        let stat =
            "42 (a (odd) name 1 2) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 9 0 1234";
        assert_eq!(stat_ticks(stat), Some(300));
        assert_eq!(stat_begun(stat), Some(1234));
        for short in ["42 (short) S 1 2", ""] {
            assert_eq!((stat_ticks(short), stat_begun(short)), (None, None));
        }
        assert_eq!(boot_seconds("cpu 1 2\nbtime 1700000000\nctxt 5\n"), Some(1_700_000_000));
        assert_eq!(boot_seconds("cpu 1 2\n"), None);
    }

    #[test]
    fn status_lines_are_found_by_their_whole_name() {
        let status = "Name:\tx\nVmHWMx:\t1 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 1024 kB\nThreads:\t3\n";
        assert_eq!(status_kib(status, "VmHWM"), Some(2048));
        assert_eq!(status_kib(status, "VmRSS"), Some(1024));
        assert_eq!(status_kib(status, "VmSwap"), None);
        assert_eq!(status_kib(status, "Threads"), None);
        assert_eq!(status_number(status, "Threads"), Some(3));
    }
}
