//! Single samples of `/metrics`, for tests that wait for what the broker knows of itself.

use std::thread;
use std::time::{Duration, Instant};

use crate::TestBroker;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);

impl TestBroker {
    /// What a sample says, by its name and labels as they stand on the page. It is a whole number.
    #[track_caller]
    pub fn sample(&self, name: &str) -> u64 {
        let page = self.http().ask("GET", "/metrics", &[], b"").expect(200);
        let text = page.text();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = values.next().unwrap_or_else(|| panic!("no {name}"));
        value.parse().unwrap_or_else(|_| panic!("{name} {value}"))
    }

    /// Waits until a sample is as wanted.
    #[track_caller]
    pub fn await_sample(&self, name: &str, is_wanted: impl Fn(u64) -> bool) {
        let give_up_at = Instant::now() + PATIENCE;
        loop {
            let value = self.sample(name);
            if is_wanted(value) {
                return;
            }
            assert!(Instant::now() < give_up_at, "{name} stays {value}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
