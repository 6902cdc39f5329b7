//! The engine under arbitrary input: one end against frames nobody would send (`connection`), and
//! both ends against each other (`pair`). The targets in `protocol/fuzz` and plain tests call them.

mod pair;
mod single;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use pair::pair;
pub use single::connection;

use super::{Config, Connection};
use crate::serial::SerialNumber;

/// What was exercised: a run that saw nothing shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Connections that were opened.
    pub opened: u32,
    /// Messages that arrived.
    pub deliveries: u32,
    /// Messages of more than one frame.
    pub long: u32,
    /// Outcomes that arrived.
    pub settled: u32,
    /// Drains that came to their end.
    pub drained: u32,
    /// Links that were detached.
    pub detached: u32,
    /// Sessions that were ended.
    pub ended: u32,
    /// Commands for something that was gone.
    pub stale: u32,
    /// Connections the engine closed because of the peer.
    pub fatal: u32,
}

fn config() -> Arc<Config> {
    Arc::new(Config {
        max_frame_size: 1024,
        channel_max: 3,
        handle_max: 7,
        incoming_window: 16,
        outgoing_window: 16,
        max_message_size: 4000,
        partial_bytes_max: 6000,
        pending_attach_max: 4,
        links_max: 6,
        output_bytes_max: 8000,
        first_serial: SerialNumber(0xFFFF_FFF0),
        ..Config::default()
    })
}

/// Decisions, drawn from the input until it is used up.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn is_used_up(&self) -> bool {
        self.0.is_empty()
    }

    fn octet(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number below `bound`, which is at most 256.
    fn below(&mut self, bound: u32) -> Option<u32> {
        Some(u32::from(self.octet()?) % bound)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.octet()? & 1 == 1)
    }

    fn octets(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The same among the last four only.
    fn pick_young<T: Copy>(&mut self, from: &[T], young: bool) -> Option<T> {
        let start = if young { from.len().saturating_sub(4) } else { 0 };
        self.pick(from.get(start..)?)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = usize::from(self.octet()?).checked_rem(from.len())?;
        from.get(index).copied()
    }
}
