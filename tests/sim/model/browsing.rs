//! Messages that are looked at.

use super::receiving::{Sighting, fits};
use super::{At, Body, Model, Shelf, State, Turn};

/// What a client asked to see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Browse {
    pub(crate) at: At,
    pub(crate) from: u64,
    pub(crate) session: Option<u64>,
    pub(crate) asked_at: u64,
    pub(crate) asked_in: Turn,
}

pub(crate) type Shown = Sighting;

impl Model {
    /// Messages were shown, in order of their numbers. What left since the client asked may still be
    /// among them.
    pub(crate) fn browsed(&mut self, browse: &Browse, shown: &[Shown]) {
        let mut least = browse.from;
        for message in shown {
            let (body, number) = (message.body, message.number);
            self.seen.browsed += 1;
            assert!(least <= number, "browsing went back from {least} to {number}");
            least = number + 1;
            if let Some(session) = browse.session {
                self.seen.browsed_in_session += 1;
                let is_set_aside = matches!(message.shelf, Shelf::Deferred | Shelf::Scheduled);
                self.seen.browsed_aside_in_session += u64::from(is_set_aside);
                let own = self.known(body).sent.session;
                assert_eq!(own, Some(session), "message {body} is of another session");
            }
            match message.shelf {
                Shelf::Deferred => self.seen.browsed_deferred += 1,
                Shelf::Scheduled => self.seen.browsed_scheduled += 1,
                Shelf::Nowhere | Shelf::Underway | Shelf::Active | Shelf::Gone(_) => {}
            }
            self.looked_at(browse, message);
        }
        // Up to the last one shown nothing is left out.
        let until = shown.last().map_or(u64::MAX, |last| last.number);
        let numbers: Vec<u64> = shown.iter().map(|message| message.number).collect();
        let bodies: Vec<Body> = self.live.iter().copied().collect();
        for body in bodies {
            if let Some(number) = self.must_be_shown(body, browse)
                && (browse.from..=until).contains(&number)
            {
                assert!(
                    numbers.contains(&number),
                    "message {number} of {:?} was left out of {browse:?}, {numbers:?}: {:?}",
                    browse.at,
                    self.known(body)
                );
            }
        }
    }

    fn looked_at(&mut self, browse: &Browse, shown: &Shown) {
        let state = self.state(shown.body);
        let has_moved = browse.asked_in <= state.settled_in();
        let may_be =
            [self.outcomes(shown.body, self.now), self.outcomes(shown.body, browse.asked_at)]
                .concat();
        // Who looks does not learn whether a message is locked, so the count may be that of before
        // or of after the delivery under way. Deliveries that ended since it asked may be missing.
        let fitting = |state: &State| {
            fits(state, shown)
                || (state.lock.is_some() || browse.asked_in <= state.counted)
                    && fits(&State { attempts: (0, u32::MAX), ..state.clone() }, shown)
        };
        if !has_moved && !may_be.iter().any(fitting) {
            self.cannot_be(shown, &may_be);
        }
        // It is only known whose the number is: the look may be older than what is known by now.
        if let Some(owner) = self.owners.get(&(shown.at.0, shown.number)) {
            assert_eq!(*owner, shown.body, "number {} names two messages", shown.number);
        }
    }

    /// Whether what was shown is what it still is.
    pub(crate) fn is_unmoved(&self, body: Body, asked_in: Turn) -> bool {
        self.state(body).settled_in() < asked_in
    }

    /// The number of a message that was there, as it is, since the client asked.
    fn must_be_shown(&self, body: Body, browse: &Browse) -> Option<u64> {
        let state = self.state(body);
        let is_there = state.at == browse.at
            && matches!(state.shelf, Shelf::Active | Shelf::Deferred | Shelf::Scheduled)
            && state.settled_in() < browse.asked_in
            && browse.session.is_none_or(|session| self.known(body).sent.session == Some(session));
        if !is_there {
            return None;
        }
        let certain = self.certain(body)?;
        (certain.at == browse.at && certain.shelf == state.shelf)
            .then_some(certain.number)
            .flatten()
    }
}
