//! How much memory there is, and how much of it this process has.

use std::fs;

use crate::proc::status_kib;

/// Octets that this process may have: those of the machine, or of the container it is in.
pub(super) fn memory() -> Option<u64> {
    let machine = status_kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")? * 1024;
    Some(container().map_or(machine, |container| container.min(machine)))
}

/// What a control group lets it have, of either version. Inside a container its own is the root.
fn container() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // Without a limit it says `max`, or a number that no machine has.
    files.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Octets of memory that this process has now.
pub(super) fn resident() -> Option<u64> {
    Some(status_kib(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_system_are_understood() {
        let text = "MemTotal:       24597392 kB\nVmRSS:\t  4 kB\nOdd: 5\n";
        assert_eq!(status_kib(text, "MemTotal"), Some(24_597_392));
        assert_eq!(status_kib(text, "VmRSS"), Some(4));
        assert_eq!(status_kib(text, "Odd"), None);
        assert_eq!(status_kib(text, "Mem"), None, "a whole word");
    }

    #[test]
    fn this_process_has_some_of_what_there_is() {
        let (resident, memory) = (resident().unwrap(), memory().unwrap());
        assert!(0 < resident && resident < memory, "{resident} of {memory}");
    }
}
