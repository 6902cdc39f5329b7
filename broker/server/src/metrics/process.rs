//! The process as the kernel sees it, under the names that all programs give these numbers.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::{Page, families};
use crate::proc;

/// What could be read; on systems without `/proc` nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    cpu: Option<Duration>,
    begun_at: Option<Duration>,
    resident_bytes: Option<u64>,
    threads: Option<u64>,
    open_files: Option<usize>,
}

impl Process {
    /// Reads it. That takes longer the more files are open, so it is not for a thread that serves.
    pub(super) fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = proc::boot_seconds(&machine).map(Duration::from_secs);
        let begun = proc::stat_begun(&stat).map(proc::ticks);
        Self {
            cpu: proc::stat_ticks(&stat).map(proc::ticks),
            begun_at: boot.zip(begun).map(|(boot, begun)| boot + begun),
            resident_bytes: proc::status_kib(&status, "VmRSS").map(|kib| kib * 1024),
            threads: proc::status_number(&status, "Threads"),
            // The folder itself is open meanwhile.
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| files.count() - 1),
        }
    }

    pub(super) fn resident_bytes(&self) -> Option<u64> {
        self.resident_bytes
    }

    pub(super) fn write(&self, page: &mut Page) {
        let mut write = |family, value: Option<f64>| {
            let mut samples = page.family(family);
            if let Some(value) = value {
                samples.add(&[], value);
            }
        };
        let seconds = |time: Duration| time.as_secs_f64();
        write(&families::PROCESS_CPU, self.cpu.map(seconds));
        write(&families::PROCESS_START_TIME, self.begun_at.map(seconds));
        let number = |number: u64| super::page::as_f64(number);
        write(&families::PROCESS_RESIDENT, self.resident_bytes.map(number));
        write(&families::PROCESS_THREADS, self.threads.map(number));
        write(&families::PROCESS_OPEN_FILES, self.open_files.map(|count| number(count as u64)));
        let files_max = getrlimit(Resource::Nofile).current;
        write(&families::PROCESS_FILES_MAX, Some(files_max.map_or(f64::INFINITY, number)));
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| 1 << 20 < bytes));
        assert!(process.threads.is_some_and(|count| 0 < count));
        assert!(process.open_files.is_some_and(|count| 2 < count));
        assert!(process.cpu.is_some());
        let now = crate::clock::time_of_day().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(process.begun_at.is_some_and(|at| at < now + Duration::from_secs(2)));
        let mut page = Page::default();
        process.write(&mut page);
        assert_eq!(page.into_text().lines().count(), 6 * 3);
    }
}
