//! Faults that tests ask for: what goes wrong the next so many times, and what goes wrong now.
//!
//! There are none without `--test-control`: connections then have nothing to look at.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peeklock_core::{EntityPath, MessageSessionId};

/// Faults that wait for their moment. Each is compared at each moment of any link.
const ARMED_MAX: usize = 100;

/// What a link is about to do when something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It is opened, to send or to receive.
    Attach,
    /// A message has come and is not kept yet.
    Send,
    /// A message goes out.
    Receive,
    /// The peer says what becomes of a message, and waits for the answer.
    Settle,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attach => "attach",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Settle => "settle",
        })
    }
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The connection ends without a word.
    DropConnection,
    /// The link is detached.
    DropLink,
    /// All answers of the connection come later.
    Delay(Duration),
    /// The broker says that it has too much to do.
    ServerBusy,
    /// The lock is gone; the message goes to the next, as after the end of a lock.
    LockLost,
}

impl Kind {
    /// Whether it can go wrong then.
    pub(crate) fn fits(self, on: Moment) -> bool {
        match self {
            Self::DropConnection | Self::DropLink | Self::Delay(_) => true,
            Self::ServerBusy => matches!(on, Moment::Attach | Moment::Send),
            Self::LockLost => on == Moment::Settle,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DropConnection => "drop-connection",
            Self::DropLink => "drop-link",
            Self::Delay(_) => "delay",
            Self::ServerBusy => "server-busy",
            Self::LockLost => "lock-lost",
        })
    }
}

/// A fault that waits for its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) kind: Kind,
    pub(crate) on: Moment,
    /// Of which entity; of any, if not said.
    pub(crate) entity: Option<EntityPath>,
    /// How many times more.
    pub(crate) left: u32,
}

/// A fault for all links that there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sudden {
    pub(crate) kind: SuddenKind,
    /// Of which entity; of any, if not said.
    pub(crate) entity: Option<EntityPath>,
}

/// What goes wrong at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SuddenKind {
    DropConnection,
    DropLink,
    /// Whoever holds this message session loses it; any, if not said.
    SessionLockLost(Option<MessageSessionId>),
}

/// There is no room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("There are {ARMED_MAX} faults already, which is all there may be.")]
pub(crate) struct TooManyFaults;

/// Those of one namespace.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    armed: Mutex<Vec<(u64, Armed)>>,
    /// How many there are, so that nobody waits for a lock while there are none.
    count: AtomicUsize,
    next: AtomicU64,
}

impl Faults {
    /// Adds one, behind those that are there; gives its number.
    pub(crate) fn arm(&self, fault: Armed) -> Result<u64, TooManyFaults> {
        let mut armed = self.armed();
        if ARMED_MAX <= armed.len() {
            return Err(TooManyFaults);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        armed.push((id, fault));
        self.count.store(armed.len(), Ordering::Relaxed);
        Ok(id)
    }

    /// All that wait, with their numbers.
    pub(crate) fn list(&self) -> Vec<(u64, Armed)> {
        self.armed().clone()
    }

    /// Forgets all that wait.
    pub(crate) fn clear(&self) {
        let mut armed = self.armed();
        armed.clear();
        self.count.store(0, Ordering::Relaxed);
    }

    /// Whether any waits. Others may arm one just now.
    pub(crate) fn any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// What goes wrong now, if anything does. It has happened once more then.
    pub(crate) fn take(&self, on: Moment, entity: &EntityPath) -> Option<Kind> {
        let mut armed = self.armed();
        let fits = |fault: &Armed| {
            fault.on == on && fault.entity.as_ref().is_none_or(|meant| meant == entity)
        };
        let at = armed.iter().position(|(_, fault)| fits(fault))?;
        let (_, fault) = armed.get_mut(at)?;
        let kind = fault.kind;
        fault.left = fault.left.saturating_sub(1);
        if fault.left == 0 {
            armed.remove(at);
            self.count.store(armed.len(), Ordering::Relaxed);
        }
        Some(kind)
    }

    fn armed(&self) -> MutexGuard<'_, Vec<(u64, Armed)>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> EntityPath {
        EntityPath::parse(text).unwrap().path
    }

    fn fault(kind: Kind, on: Moment, entity: Option<&str>, left: u32) -> Armed {
        Armed { kind, on, entity: entity.map(path), left }
    }

    #[test]
    fn a_fault_happens_as_often_as_it_should_and_where() {
        let faults = Faults::default();
        assert!(!faults.any());
        faults.arm(fault(Kind::ServerBusy, Moment::Send, Some("q"), 2)).unwrap();
        assert!(faults.any());
        assert_eq!(faults.take(Moment::Send, &path("other")), None);
        assert_eq!(faults.take(Moment::Settle, &path("q")), None);
        assert_eq!(faults.take(Moment::Send, &path("Q")), Some(Kind::ServerBusy));
        assert_eq!(faults.list()[0].1.left, 1);
        assert_eq!(faults.take(Moment::Send, &path("q")), Some(Kind::ServerBusy));
        assert_eq!(faults.take(Moment::Send, &path("q")), None);
        assert!(!faults.any() && faults.list().is_empty());
    }

    #[test]
    fn the_oldest_that_fits_comes_first_and_all_can_be_forgotten() {
        let faults = Faults::default();
        faults.arm(fault(Kind::DropLink, Moment::Send, None, 1)).unwrap();
        faults.arm(fault(Kind::DropConnection, Moment::Send, Some("q"), 1)).unwrap();
        assert_eq!(faults.take(Moment::Send, &path("q")), Some(Kind::DropLink));
        faults.clear();
        assert_eq!(faults.take(Moment::Send, &path("q")), None);
        assert!(!faults.any());
    }

    #[test]
    fn faults_are_bounded() {
        let faults = Faults::default();
        let one = || fault(Kind::LockLost, Moment::Settle, None, 1);
        for number in 1..=ARMED_MAX as u64 {
            assert_eq!(faults.arm(one()), Ok(number));
        }
        assert_eq!(faults.arm(one()), Err(TooManyFaults));
    }

    #[test]
    fn what_does_not_fit_together_is_known() {
        assert!(Kind::ServerBusy.fits(Moment::Send) && !Kind::ServerBusy.fits(Moment::Settle));
        assert!(Kind::LockLost.fits(Moment::Settle) && !Kind::LockLost.fits(Moment::Send));
        assert!(Kind::DropLink.fits(Moment::Receive));
    }
}
