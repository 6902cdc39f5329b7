//! What the kernel says of a process: CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{fs, io};

use super::failure::Failure;
use crate::proc::{stat_ticks, status_kib, ticks};

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Nanoseconds on a processor of each living thread, exact.
    thread_nanoseconds: BTreeMap<u32, u64>,
    /// CPU time of all threads, the ended ones included, to a clock tick (10 ms).
    process_time: Duration,
    pub(super) resident_kib: u64,
    pub(super) resident_peak_kib: u64,
}

impl Sample {
    pub(super) fn take(pid: u32) -> Result<Self, Failure> {
        Self::read(pid).map_err(|source| Failure::Process { pid, source })
    }

    fn read(pid: u32) -> io::Result<Self> {
        let folder = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let field = |name| status_kib(&status, name).ok_or_else(|| odd(name));
        let process_ticks = stat_ticks(&stat).ok_or_else(|| odd("stat"))?;
        let mut thread_nanoseconds = BTreeMap::new();
        for entry in fs::read_dir(format!("{folder}/task"))? {
            let entry = entry?;
            let Some(thread) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // A thread may end between the listing and the reading, and a kernel may be built
            // without schedstat; the process's own time covers both.
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            if let Some(nanoseconds) = schedstat_nanoseconds(&text) {
                thread_nanoseconds.insert(thread, nanoseconds);
            }
        }
        Ok(Self {
            thread_nanoseconds,
            process_time: ticks(process_ticks),
            resident_kib: field("VmRSS")?,
            resident_peak_kib: field("VmHWM")?,
        })
    }

    /// CPU time spent since `earlier`: the exact time of the threads that live, or the process's
    /// when that is more by over a tick, because threads ended in between.
    pub(super) fn cpu_since(&self, earlier: &Self) -> Duration {
        let spent = |(thread, now): (&u32, &u64)| {
            now.saturating_sub(earlier.thread_nanoseconds.get(thread).copied().unwrap_or(0))
        };
        let threads = Duration::from_nanos(self.thread_nanoseconds.iter().map(spent).sum());
        let process = self.process_time.saturating_sub(earlier.process_time);
        let tick = ticks(1);
        // Both user and system time are cut to a tick at either end.
        if threads + 2 * tick < process { process } else { threads }
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no {what} to be read in /proc"))
}

/// The first field of `/proc/PID/task/TID/schedstat`.
fn schedstat_nanoseconds(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// Lets this process open as many files as the machine allows it: each connection is one.
pub(super) fn raise_open_files_limit() -> io::Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};

    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_the_time_on_a_processor() {
        assert_eq!(schedstat_nanoseconds("123456789 55 10\n"), Some(123_456_789));
        assert_eq!(schedstat_nanoseconds(""), None);
    }

    fn sample(threads: &[(u32, u64)], process_milliseconds: u64) -> Sample {
        Sample {
            thread_nanoseconds: threads.iter().copied().collect(),
            process_time: Duration::from_millis(process_milliseconds),
            resident_kib: 0,
            resident_peak_kib: 0,
        }
    }

    #[test]
    fn cpu_time_adds_up_over_threads_old_and_new() {
        let before = sample(&[(1, 1_000_000), (2, 5_000_000)], 0);
        let after = sample(&[(1, 3_000_000), (2, 5_000_000), (3, 500_000)], 0);
        assert_eq!(after.cpu_since(&before), Duration::from_micros(2_500));
    }

    #[test]
    fn cpu_time_of_ended_threads_counts() {
        let before = sample(&[(1, 0), (2, 10_000_000)], 10);
        let after = sample(&[(1, 1_000_000)], 1_000);
        assert_eq!(after.cpu_since(&before), Duration::from_millis(990));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_spends_time() {
        let before = Sample::take(std::process::id()).expect("our own /proc is readable");
        assert!(0 < before.resident_kib && before.resident_kib <= before.resident_peak_kib);
        let mut sum = 0_u64;
        while Sample::take(std::process::id()).expect("readable").cpu_since(&before).is_zero() {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        let missing = Sample::take(u32::MAX).expect_err("no such process");
        assert!(missing.to_string().contains("4294967295"));
    }
}
