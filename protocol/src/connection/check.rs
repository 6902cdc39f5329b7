//! What must hold between any two calls, whatever the peer sends and the caller does. For fuzz
//! targets and tests.

use std::collections::BTreeSet;

use super::{Connection, LinkId};
use crate::link::LinkState;
use crate::performative::Role;

impl Connection {
    /// Panics when the books do not balance.
    pub(super) fn check(&self) {
        let (mut pending, mut partial) = (0, 0);
        let mut listed = BTreeSet::new();
        for (_, session) in self.sessions.iter() {
            let (mut sent, mut received, mut queued) = (0, 0, 0);
            let mut handles = BTreeSet::new();
            for id in &session.links {
                assert!(listed.insert(*id), "a link stands in two lists");
                let link = self.links.get(id.0).expect("a listed link exists");
                assert!(handles.insert(link.handle), "two links have one handle");
                pending += usize::from(link.state == LinkState::Pending);
                partial += link.assembly.as_ref().map_or(0, |assembly| assembly.payload.len());
                queued += link.queued;
                match link.role {
                    Role::Sender => sent += link.unsettled,
                    Role::Receiver => received += link.unsettled,
                }
                let detaching = matches!(link.state, LinkState::Detaching { .. });
                assert!(!detaching || (link.unsettled, link.queued) == (0, 0));
                let named = session.names.get(&(link.name.clone(), link.role)) == Some(id);
                assert!(named || detaching, "a link cannot be found by its name");
            }
            assert_eq!((session.sent.len(), session.received.len()), (sent, received));
            assert_eq!(session.queue.len(), queued);
            assert!(session.queue.is_empty() || session.outgoing_window_left() == 0);
            assert!(session.names.values().all(|id| session.links.contains(id)));
        }
        assert_eq!(listed.len(), self.links.len(), "a link stands in no list");
        assert!(self.links.iter().all(|(key, _)| listed.contains(&LinkId(key))));
        assert_eq!((self.pending_attaches, self.partial_bytes), (pending, partial));
        assert!(self.partial_bytes <= self.config.partial_bytes_max);
        assert!(self.links.len() <= 2 * self.config.links_max);
    }
}
