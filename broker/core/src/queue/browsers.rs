//! Receivers that only look: each sees the messages of a queue once, in the order of their numbers,
//! and leaves them where they are.
//!
//! ```text
//!   numbers:   seen, or not there ... │ not seen yet ...
//!                                   cursor
//! ```
//!
//! What is locked for others is seen too. What arrives below the cursor, as dead letters do, is late:
//! it is looked at by its number. So is what was shown and could not be sent.

use std::collections::{BTreeMap, BTreeSet};

use peeklock_storage::CommitPosition;

use super::Queue;
use super::receiver::{Demand, Wish};
use super::selecting::lets_through;
use crate::effect::Browsed;
use crate::filter::SqlFilter;
use crate::id::{EntityId, ReceiverId, SequenceNumber};
use crate::time::Timestamp;

/// Messages one look takes: a few looks a page, so that many browsers take turns.
const LOOK_MAX: u64 = 256;

/// Late messages kept in mind for one browser, at some 40 octets each. What is late beyond that is not
/// shown to it.
const LATE_MAX: usize = 4_096;

#[derive(Debug)]
struct Browser {
    selector: Option<Box<SqlFilter>>,
    cursor: SequenceNumber,
    /// Messages below the cursor that are not seen yet.
    late: BTreeSet<SequenceNumber>,
    demand: Demand,
}

impl Browser {
    fn has_seen_all(&self, next: SequenceNumber) -> bool {
        next <= self.cursor && self.late.is_empty()
    }
}

/// Part of a queue that a browser is about to see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Look {
    pub(crate) entity: EntityId,
    pub(crate) receiver: ReceiverId,
    /// The lowest number of interest.
    pub(crate) from: SequenceNumber,
    /// Messages to look at.
    pub(crate) count_max: usize,
    /// Whether it is about this one number, which is late.
    is_late: bool,
}

/// What there was to see.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) messages: Vec<Browsed>,
    /// Everything below this number was looked at.
    pub(crate) end: SequenceNumber,
}

/// A look that is not over.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    receiver: ReceiverId,
    /// Whether the store is being read for it.
    is_reading: bool,
}

/// The browsers of a queue. One of them looks at a time.
#[derive(Debug, Default)]
pub(crate) struct Browsers {
    all: BTreeMap<(u64, u64), Browser>,
    draining: BTreeSet<(u64, u64)>,
    /// Whose turn it was last.
    last: (u64, u64),
    under_way: Option<UnderWay>,
    /// All who want more have seen everything below this number.
    nothing_below: Option<SequenceNumber>,
    /// How many messages were looked at, ever.
    pub(crate) looks: u64,
    /// The turn ended before everything was looked at; go on then.
    pub(crate) again_at: Option<Timestamp>,
}

/// In which order they take turns.
const fn key(receiver: ReceiverId) -> (u64, u64) {
    (receiver.connection, receiver.link)
}

impl Browsers {
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// All of them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ReceiverId> {
        self.all
            .keys()
            .map(|(connection, link)| ReceiverId { connection: *connection, link: *link })
    }

    pub(crate) fn open(&mut self, receiver: ReceiverId, selector: Option<Box<SqlFilter>>) {
        let (cursor, late, demand) = (SequenceNumber::FIRST, BTreeSet::new(), Demand::default());
        self.all.insert(key(receiver), Browser { selector, cursor, late, demand });
    }

    pub(crate) fn close(&mut self, receiver: ReceiverId) {
        self.all.remove(&key(receiver));
        self.draining.remove(&key(receiver));
    }

    /// Changes the demand of a browser.
    pub(crate) fn demand(&mut self, receiver: ReceiverId, wish: Wish) {
        let Some(browser) = self.all.get_mut(&key(receiver)) else { return };
        browser.demand.set(wish);
        self.nothing_below = None;
        if browser.demand.is_draining() {
            self.draining.insert(key(receiver));
        } else {
            self.draining.remove(&key(receiver));
        }
    }

    /// A message comes to a place among others.
    pub(super) fn note_late(&mut self, sequence: SequenceNumber) {
        let looking = self.under_way.map(|look| key(look.receiver));
        for (id, browser) in &mut self.all {
            let may_be_missed = sequence < browser.cursor || looking == Some(*id);
            if may_be_missed && browser.late.len() < LATE_MAX {
                browser.late.insert(sequence);
                self.nothing_below = None;
            }
        }
    }

    /// A browser was shown a message and did not get it.
    pub(crate) fn give_back(&mut self, receiver: ReceiverId, sequence: SequenceNumber) {
        let Some(browser) = self.all.get_mut(&key(receiver)) else { return };
        if browser.cursor <= sequence {
            return;
        }
        if browser.late.len() < LATE_MAX {
            browser.late.insert(sequence);
        } else {
            // Rather twice than never.
            browser.cursor = sequence;
            let _ = browser.late.split_off(&sequence);
        }
        self.nothing_below = None;
    }

    /// The store is read for the look under way.
    pub(crate) fn begin_reading(&mut self) {
        if let Some(look) = &mut self.under_way {
            look.is_reading = true;
        }
    }

    /// The look is over. Says whether the store was read for it.
    pub(crate) fn end_look(&mut self) -> bool {
        self.under_way.take().is_some_and(|look| look.is_reading)
    }
}

impl Queue {
    /// Begins the next look of somebody who wants to see more.
    pub(crate) fn next_look(&mut self) -> Option<Look> {
        let (entity, next) = (self.id(), self.next_sequence);
        let browsers = &mut self.browsers;
        if browsers.under_way.is_some()
            || self.window.retry_at.is_some()
            || browsers.nothing_below == Some(next)
        {
            return None;
        }
        let wants = |(_, one): &(_, &Browser)| one.demand.is_open() && !one.has_seen_all(next);
        let after = browsers.all.range(browsers.last..).filter(|(id, _)| **id != browsers.last);
        let found = after.chain(browsers.all.range(..=browsers.last)).find(wants);
        let Some((id, browser)) = found else {
            browsers.nothing_below = Some(next);
            return None;
        };
        let late = browser.late.first().copied();
        // Who selects may want none of many.
        let wanted = if browser.selector.is_some() { LOOK_MAX } else { browser.demand.left() };
        let count_max = if late.is_some() { 1 } else { wanted.min(LOOK_MAX) };
        let receiver = ReceiverId { connection: id.0, link: id.1 };
        let look = Look {
            entity,
            receiver,
            from: late.unwrap_or(browser.cursor),
            count_max: usize::try_from(count_max).unwrap_or(1),
            is_late: late.is_some(),
        };
        browsers.last = *id;
        browsers.under_way = Some(UnderWay { receiver, is_reading: false });
        Some(look)
    }

    /// Takes what a browser has seen from it: what it is given, each with the commit that waits for.
    pub(crate) fn show(
        &mut self,
        look: Look,
        view: View,
        after: CommitPosition,
        now: Timestamp,
    ) -> Vec<(Browsed, CommitPosition)> {
        let expires = self.definition.dead_letter.is_some();
        self.browsers.nothing_below = None;
        let Some(browser) = self.browsers.all.get_mut(&key(look.receiver)) else {
            return Vec::new();
        };
        let mut end = view.end;
        let mut given = Vec::new();
        for browsed in view.messages {
            let sequence = browsed.sequence;
            if look.is_late && sequence != look.from {
                continue;
            }
            if !browser.demand.is_open() {
                end = end.min(sequence);
                break;
            }
            browser.late.remove(&sequence);
            self.browsers.looks += 1;
            let is_over = expires
                && browsed.message.header().expires_at.is_some_and(|expires_at| expires_at <= now);
            let is_wanted = browser.selector.as_ref().is_none_or(|selector| {
                let section = browsed.application_properties.as_deref();
                lets_through(selector, sequence, browsed.attempts, &browsed.message, section)
            });
            if is_wanted && !is_over {
                let after = browser.demand.given(browsed.message.size(), after);
                given.push((browsed, after));
            }
        }
        if !look.is_late {
            // The cursor may have gone back meanwhile. What is between is looked at again.
            if look.from <= browser.cursor {
                browser.cursor = browser.cursor.max(end);
            }
        } else if look.from < end {
            browser.late.remove(&look.from);
        }
        // What is not below the cursor is seen when it gets there.
        let _ = browser.late.split_off(&browser.cursor);
        given
    }

    /// Ends the demand of browsers that drain and have been given all they asked for, or have seen all
    /// there is.
    pub(crate) fn take_drained_browsers(&mut self) -> Vec<(ReceiverId, CommitPosition)> {
        let gives_up = self.window.retry_at.is_some();
        let next = self.next_sequence;
        let Browsers { all, draining, under_way, .. } = &mut self.browsers;
        let looking = under_way.map(|look| key(look.receiver));
        let mut drained = Vec::new();
        draining.retain(|id| {
            let Some(browser) = all.get_mut(id) else { return false };
            let nothing_left = gives_up || (browser.has_seen_all(next) && looking != Some(*id));
            let after = browser.demand.take_drained(nothing_left);
            let receiver = ReceiverId { connection: id.0, link: id.1 };
            drained.extend(after.map(|after| (receiver, after)));
            after.is_none()
        });
        drained
    }

    /// Says what does not fit together.
    pub(super) fn check_browsers(&self) -> Result<(), String> {
        let Browsers { all, draining, under_way, again_at, .. } = &self.browsers;
        let is_served = under_way.is_some() || again_at.is_some() || self.window.retry_at.is_some();
        for (id, browser) in all {
            if browser.demand.is_draining() != draining.contains(id) {
                return Err(format!("browser {id:?} drains, or does not"));
            }
            let waits = browser.demand.is_open() && !browser.has_seen_all(self.next_sequence);
            if waits && !is_served {
                return Err(format!("browser {id:?} waits, and nobody looks"));
            }
        }
        if under_way.is_some_and(|look| !look.is_reading) {
            return Err("a look that was begun was not ended".to_owned());
        }
        Ok(())
    }
}
