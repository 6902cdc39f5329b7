//! Links that send to no address: each message says in its properties where it goes (the anonymous
//! terminus of AMQP, which JMS clients use for producers without a destination).

use std::collections::VecDeque;

use peeklock_core::{EntityPath, IncomingMessage};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{AttachReply, LinkId};

use super::attach::{Named, named};
use super::endpoint::Endpoint;
use super::link::{IncomingLink, Link};
use crate::auth::Operation;

/// What the broker's open says of it.
pub(crate) const ANONYMOUS_RELAY: &str = "ANONYMOUS-RELAY";

impl Endpoint {
    /// Whoever has shown any right may attach; each message is judged by itself.
    pub(super) fn open_relay(&mut self, id: LinkId) -> Result<(), ErrorInfo> {
        self.refuse_strangers("Sending")?;
        let link = IncomingLink {
            path: None,
            via: None,
            target: None,
            entity: None,
            pending: VecDeque::new(),
            credit: 0,
            heedless: true,
        };
        self.links.insert(id, Link::Incoming(link));
        // A peer that left meanwhile gets no answer.
        let _ = self.engine.accept_attach(id, AttachReply::default());
        self.top_up(id);
        Ok(())
    }

    /// Where the messages of one transfer say that they go, which the peer must be allowed to send to.
    pub(super) fn named_by(&self, messages: &[IncomingMessage]) -> Result<EntityPath, ErrorInfo> {
        let [message] = messages else {
            let text = "A batch cannot be sent without an address.";
            return Err(ErrorInfo::new(condition::NOT_ALLOWED, text));
        };
        let to = message.facts().properties().and_then(|properties| properties.to);
        let Some(to) = to else {
            let text = "The message does not say where it goes, and neither does the link.";
            return Err(ErrorInfo::new(condition::INVALID_FIELD, text));
        };
        match named(Some(to.as_str()))? {
            Named::Entity(path) => {
                self.authorize(Operation::RelayTo, &path)?;
                Ok(path)
            }
            Named::Cbs | Named::Management(_) | Named::Namespace => {
                let text = "Requests are sent by links to the node that answers them.";
                Err(ErrorInfo::new(condition::NOT_ALLOWED, text))
            }
        }
    }
}
