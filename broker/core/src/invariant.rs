//! What must hold between any two commands, whatever they were.

use crate::broker::Broker;

impl Broker {
    /// Says what does not fit together. Looks at every message in memory: for tests and simulations.
    pub fn check(&self) -> Result<(), String> {
        self.check_queues()?;
        self.check_receivers()?;
        self.check_reads()?;
        self.check_duplicates()?;
        self.check_topics()?;
        self.check_transactions()?;
        self.check_tallies()
    }
}
