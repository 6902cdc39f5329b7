//! Queues and topics that a link asks to be made for it (`dynamic`, AMQP §3.5.3): they go with the link,
//! and only the connection that has it receives from them.

use std::collections::VecDeque;

use peeklock_core::{Command, EntityPath, Origin, ReceiveMode, TopicCommand};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::performative::{Attach, SenderSettleMode};
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::{Map, Symbol, Value};

use super::attach::ATTACH;
use super::endpoint::Endpoint;
use super::jms;
use super::link::{IncomingLink, Link, OutgoingLink};
use crate::auth::{Operation, Resource};

const LIFETIME_POLICY: &str = "lifetime-policy";
/// The only policy there is here, whatever was asked for.
const DELETE_ON_CLOSE: u64 = 0x2b;

/// What was made for a link.
#[derive(Debug)]
pub(super) struct Temporary {
    path: EntityPath,
    is_topic: bool,
}

impl Temporary {
    /// What becomes of it when the link goes.
    pub(super) fn delete(self, origin: Origin) -> Command {
        let path = self.path;
        if self.is_topic {
            return Command::OfTopic(Box::new(TopicCommand::DeleteTopic { origin, path }));
        }
        Command::DeleteQueue { origin, path }
    }
}

impl Endpoint {
    /// A link that sends to what is made for it.
    pub(super) fn attach_dynamic_target(
        &mut self,
        id: LinkId,
        target: &TargetNode,
    ) -> Result<(), ErrorInfo> {
        let is_topic = jms::means_topic(target.capabilities.as_deref());
        let path = self.make_temporary(id, is_topic)?;
        let target = TargetNode {
            address: Some(path.name().into()),
            dynamic_node_properties: Some(in_place()),
            ..target.clone()
        };
        let (origin, at) = (self.origin(id, ATTACH), path.clone());
        self.commands.push(Command::OpenTemporary { origin, path: at, is_topic, receiver: None });
        let link = IncomingLink {
            path: Some(path),
            via: None,
            target: Some(Box::new(target)),
            entity: None,
            pending: VecDeque::new(),
            credit: 0,
            heedless: true,
        };
        self.links.insert(id, Link::Incoming(link));
        Ok(())
    }

    /// A link that receives from what is made for it.
    pub(super) fn attach_dynamic_source(
        &mut self,
        id: LinkId,
        attach: &Attach,
        source: &Source,
    ) -> Result<(), ErrorInfo> {
        if jms::means_topic(source.capabilities.as_deref()) {
            let text = "A topic is made for a link that sends, not for one that receives.";
            return Err(ErrorInfo::new(condition::NOT_IMPLEMENTED, text));
        }
        let path = self.make_temporary(id, false)?;
        let in_place = Source {
            address: Some(path.name().into()),
            dynamic_node_properties: Some(in_place()),
            filter: None,
            ..source.clone()
        };
        let mode = match attach.snd_settle_mode {
            Some(SenderSettleMode::Settled) => ReceiveMode::ReceiveAndDelete,
            _ => ReceiveMode::PeekLock,
        };
        let receiver = self.receiver(id);
        self.commands.push(Command::OpenTemporary {
            origin: self.origin(id, ATTACH),
            path: path.clone(),
            is_topic: false,
            receiver: Some((receiver, mode)),
        });
        let jms = jms::link_of(source, false);
        let in_place = Some(Box::new(in_place));
        let link = OutgoingLink { in_place, jms, ..OutgoingLink::new(path, receiver) };
        self.links.insert(id, Link::Outgoing(link));
        Ok(())
    }

    /// Names what is made for a link. To make something takes the right Manage for all there is.
    fn make_temporary(&mut self, id: LinkId, is_topic: bool) -> Result<EntityPath, ErrorInfo> {
        self.authorize(Operation::LinkToDynamic, Resource::Path(""))?;
        let path = EntityPath::for_temporary(is_topic, rand::random());
        self.temporaries.insert(id, Temporary { path: path.clone(), is_topic });
        Ok(path)
    }

    /// Refuses to others what was made for a link of one connection. After the end of that connection
    /// it is nobody's.
    pub(super) fn may_consume(&self, path: &EntityPath) -> Result<(), ErrorInfo> {
        let Some(root) = path.temporary() else { return Ok(()) };
        if self.temporaries.values().any(|one| one.path == root) {
            return Ok(());
        }
        let text = "Only the connection that a temporary entity was made for receives from it.";
        Err(ErrorInfo::new(condition::NOT_ALLOWED, text))
    }
}

/// The properties of what was made.
fn in_place() -> Map {
    let policy =
        Value::Described(Box::new((Value::Ulong(DELETE_ON_CLOSE), Value::List(Vec::new()))));
    Map::new().with(Symbol::from_static(LIFETIME_POLICY), policy)
}
