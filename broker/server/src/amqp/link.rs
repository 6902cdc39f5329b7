//! What the broker keeps for each link of a connection.

use std::collections::VecDeque;

use bytes::Bytes;
use peeklock_core::{Command, EntityId, EntityPath, ReceiverId, Settlement, TransactionId};
use peeklock_protocol::connection::SessionId;
use peeklock_protocol::delivery::DeliveryId;
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::Value;

use super::jms::{JmsLink, LookupLink};
use super::management::SessionHolder;
use super::session::SessionFilter;

use crate::auth::{Operation, Resource};
use crate::traces::{Given, Taken};

/// A link, named as seen from the broker.
#[derive(Debug)]
pub(super) enum Link {
    /// The peer sends to an entity.
    Incoming(IncomingLink),
    /// The peer receives from an entity.
    Outgoing(OutgoingLink),
    /// The peer sends requests to `$cbs` or a `$management` node.
    Requests(RequestLink),
    /// The peer receives the responses.
    Responses(ResponseLink),
    /// The peer has looked up a subscription.
    Lookup(LookupLink),
    /// The peer declares and discharges transactions.
    Coordinator(CoordinatorLink),
}

impl Link {
    /// What the peer does with it, for the log.
    pub(super) const fn role(&self) -> &'static str {
        match self {
            Self::Incoming(_) => "sender",
            Self::Outgoing(_) => "receiver",
            Self::Requests(_) => "requests",
            Self::Responses(_) => "responses",
            Self::Lookup(_) => "lookup",
            Self::Coordinator(_) => "coordinator",
        }
    }

    /// The entity a link is about; none for `$cbs` and the node of the namespace.
    pub(super) fn path(&self) -> Option<&EntityPath> {
        match self {
            Self::Incoming(link) => link.path.as_ref(),
            Self::Outgoing(link) => Some(&link.path),
            Self::Requests(RequestLink { node, .. })
            | Self::Responses(ResponseLink { node, .. }) => node.path(),
            Self::Lookup(link) => link.path.as_ref(),
            Self::Coordinator(_) => None,
        }
    }
}

/// A message that the core has not answered yet.
#[derive(Debug)]
pub(super) struct PendingSend {
    pub(super) delivery: DeliveryId,
    /// Sent settled: the peer wants no answer.
    pub(super) settled: bool,
    pub(super) bytes: usize,
    /// With which transaction, if with one.
    pub(super) transaction: Option<TransactionId>,
    /// What of it is traced.
    pub(super) traced: Option<Box<Taken>>,
}

/// The entity by way of which a peer sends to another one. It needs the right for both.
#[derive(Debug)]
pub(super) struct Via {
    pub(super) path: EntityPath,
    /// The other one's address, as the peer wrote it.
    pub(super) address: Value,
}

#[derive(Debug)]
pub(super) struct IncomingLink {
    /// Where its messages go. None where each message says it.
    pub(super) path: Option<EntityPath>,
    /// The target to answer with, until that is done, if it is not as it was asked for.
    pub(super) target: Option<Box<TargetNode>>,
    /// Which entity the peer sends by way of, if it does.
    pub(super) via: Option<Via>,
    /// None until the core has answered the attach.
    pub(super) entity: Option<EntityId>,
    /// In the order of arrival; answers come nearly in that order.
    pub(super) pending: VecDeque<PendingSend>,
    /// What it may still send, as far as it is reckoned with.
    pub(super) credit: u32,
    /// A JMS client's, as far as can be told: what it sends with a transaction it sends without waiting,
    /// and commits whatever was refused of it.
    pub(super) heedless: bool,
}

/// The kind of settlement asked for: the answer must be of the same type, or Java takes it for a
/// failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Complete,
    DeadLetter,
    Release,
    Modify,
}

/// A settlement that the core has not answered yet.
#[derive(Debug)]
pub(super) struct PendingSettle {
    pub(super) delivery: DeliveryId,
    pub(super) asked: Asked,
    /// With which transaction, if with one.
    pub(super) transaction: Option<TransactionId>,
    /// If it is traced.
    pub(super) traced: Option<Given>,
}

#[derive(Debug)]
pub(super) struct OutgoingLink {
    pub(super) path: EntityPath,
    pub(super) entity: Option<EntityId>,
    pub(super) receiver: ReceiverId,
    /// What to answer with the session, until that is done.
    pub(super) session_filter: Option<Box<SessionFilter>>,
    /// The source to answer with, until that is done, if not all its filters are in place.
    pub(super) in_place: Option<Box<Source>>,
    /// Whether it only looks, and how what it sees is sent.
    pub(super) browse: Option<Browse>,
    /// What is kept of it because a JMS client has it.
    pub(super) jms: Option<Box<JmsLink>>,
    /// The session it holds.
    pub(super) holds: Option<SessionHolder>,
    /// Octets of the messages it was given.
    pub(super) bytes_given: u64,
    /// Octets last announced to the core, as a total.
    pub(super) bytes_limit: u64,
    /// What it may still be given, as far as it is reckoned with.
    pub(super) credit: u32,
    /// The demand last announced to the core, as a total of deliveries.
    pub(super) limit: u64,
    /// Deliveries that could not be sent. The core has counted them as given.
    pub(super) returned: u64,
    /// A drain was passed to the core and is not answered yet.
    pub(super) draining: bool,
    pub(super) pending: VecDeque<PendingSettle>,
}

impl OutgoingLink {
    /// One that was not opened yet.
    pub(super) fn new(path: EntityPath, receiver: ReceiverId) -> Self {
        OutgoingLink {
            path,
            entity: None,
            receiver,
            session_filter: None,
            in_place: None,
            browse: None,
            jms: None,
            holds: None,
            bytes_given: 0,
            bytes_limit: 0,
            credit: 0,
            limit: 0,
            returned: 0,
            draining: false,
            pending: VecDeque::new(),
        }
    }

    /// What its end comes to.
    pub(super) fn last_commands(&self) -> impl Iterator<Item = Command> {
        let held = self.jms.iter().flat_map(|jms| jms.held());
        let release = self.entity.into_iter().flat_map(move |entity| {
            held.clone().map(move |token| Command::Settle {
                origin: None,
                entity,
                token,
                settlement: Settlement::Release,
                transaction: None,
            })
        });
        std::iter::once(Command::CloseReceiver { receiver: self.receiver }).chain(release)
    }
}

/// A link that only looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Browse {
    /// The peer wants everything unsettled; what it makes of it means nothing.
    pub(super) unsettled: bool,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Cbs,
    Management(EntityPath),
    /// `$management` of the namespace, for what belongs to no entity.
    Namespace,
}

impl Node {
    pub(super) fn path(&self) -> Option<&EntityPath> {
        match self {
            Self::Cbs | Self::Namespace => None,
            Self::Management(path) => Some(path),
        }
    }

    /// What must be allowed, and where; `$cbs` is open to everybody.
    pub(super) fn asked(&self) -> Option<(Operation, Resource<'_>)> {
        match self {
            Self::Cbs => None,
            Self::Management(path) => {
                Some((Operation::LinkToManagement, Resource::Management(path)))
            }
            Self::Namespace => Some((Operation::LinkToNamespaceNode, Resource::Namespace)),
        }
    }
}

#[derive(Debug)]
pub(super) struct RequestLink {
    pub(super) node: Node,
    pub(super) session: SessionId,
    /// None for nodes that are no entity's, and until the core has answered the attach.
    pub(super) entity: Option<EntityId>,
}

#[derive(Debug)]
pub(super) struct ResponseLink {
    pub(super) node: Node,
    pub(super) session: SessionId,
    pub(super) name: String,
    /// The address the peer gave its own end, which `reply-to` may repeat.
    pub(super) address: Option<String>,
    /// False until the core has answered the attach.
    pub(super) open: bool,
    /// Responses that wait for credit.
    pub(super) backlog: VecDeque<Bytes>,
}

#[derive(Debug)]
pub(super) struct CoordinatorLink {
    /// Requests that the core has not answered yet.
    pub(super) waiting: u32,
}
