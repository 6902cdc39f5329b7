//! The links of a connection, each counted as long as it is there.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use peeklock_protocol::connection::LinkId;

use super::link::{Link, Node, RequestLink, ResponseLink};
use crate::metrics::{CountedLink, LinkRole, Metrics};

/// A map of links. What is taken out of it, or goes with it, is not counted any more.
pub(super) struct Links {
    each: HashMap<LinkId, Link>,
    counted: HashMap<LinkId, CountedLink>,
    metrics: Arc<Metrics>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as maps have it")]
impl Links {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { each: HashMap::new(), counted: HashMap::new(), metrics }
    }

    pub(super) fn insert(&mut self, id: LinkId, link: Link) {
        self.counted.insert(id, self.metrics.link(role(&link)));
        self.each.insert(id, link);
    }

    pub(super) fn get_mut(&mut self, id: &LinkId) -> Option<&mut Link> {
        self.each.get_mut(id)
    }

    pub(super) fn remove(&mut self, id: &LinkId) -> Option<Link> {
        self.counted.remove(id);
        self.each.remove(id)
    }
}

impl Deref for Links {
    type Target = HashMap<LinkId, Link>;

    fn deref(&self) -> &Self::Target {
        &self.each
    }
}

fn role(link: &Link) -> LinkRole {
    match link {
        Link::Incoming(_) => LinkRole::Sender,
        Link::Outgoing(_) | Link::Lookup(_) => LinkRole::Receiver,
        Link::Coordinator(_) => LinkRole::Coordinator,
        Link::Requests(RequestLink { node, .. }) | Link::Responses(ResponseLink { node, .. }) => {
            match node {
                Node::Cbs => LinkRole::Cbs,
                Node::Management(_) | Node::Namespace => LinkRole::Management,
            }
        }
    }
}
