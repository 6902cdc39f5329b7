//! Attaches: which node a link names, whether the peer may have it, and the answer once the core
//! has looked the entity up.
//!
//! An attach waits for the core; the engine holds it pending meanwhile and drops it when the peer
//! leaves first.

use std::collections::VecDeque;

use peeklock_core::{Command, EntityId, EntityPath, Error, ReceiveMode, SessionLock};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{AttachReply, LinkId};
use peeklock_protocol::delivery::DeliveryId;
use peeklock_protocol::performative::{Attach, Role, SenderSettleMode};
use peeklock_protocol::terminus::{Target, TargetNode};
use peeklock_protocol::value::{Map, Symbol, Value};
use tracing::debug;

use super::condition::Refusal;
use super::endpoint::Endpoint;
use super::filters::{self, Filters};
use super::jms;
use super::link::{Browse, IncomingLink, Link, Node, OutgoingLink, RequestLink, ResponseLink, Via};
use super::management::SessionHolder;
use super::session;
use crate::audit::{self, Outcome};
use crate::auth::{self, Operation, Resource};

/// Credit given to a link to a request node: requests are small and answered at once.
pub(super) const REQUEST_CREDIT: u32 = 100;

/// A request is a token or a list of lock tokens; 1 MiB leaves room for any SDK's largest.
const REQUEST_SIZE_MAX: u64 = 1024 * 1024;

/// What a request has besides a message that is to be scheduled.
const REQUEST_OVERHEAD: u64 = 64 * 1024;

/// Attach replies have no delivery; a link has one attach, so any constant will do.
pub(super) const ATTACH: DeliveryId = peeklock_protocol::serial::SerialNumber(0);

/// Link property that names where messages go in the end which are sent by way of another entity.
/// Transactions span entities here, so they go there at once; the way is a matter of rights.
const TRANSFER_DESTINATION: &str = "com.microsoft:transfer-destination-address";

/// Nodes that belong to no entity, as the log of denials names them.
const CBS: &str = "$cbs";
const COORDINATOR: &str = "$coordinator";

/// What the address of a link names.
pub(super) enum Named {
    Cbs,
    Management(EntityPath),
    Namespace,
    Entity(EntityPath),
}

impl Endpoint {
    pub(super) fn attach(&mut self, id: LinkId, attach: &Attach) {
        if !is_for_cbs(attach) {
            self.enter();
        }
        let admitted = self.admit_link();
        let outcome = admitted.and_then(|()| match attach.role {
            Role::Sender => self.attach_incoming(id, attach),
            Role::Receiver => self.attach_outgoing(id, attach),
        });
        if let Err(error) = outcome {
            self.reject(id, error);
        }
    }

    fn attach_incoming(&mut self, id: LinkId, attach: &Attach) -> Result<(), ErrorInfo> {
        let target = attach.target.as_ref().ok_or_else(|| invalid("The target is missing."))?;
        if let Target::Coordinator(_) = target.view() {
            self.authorize(Operation::LinkToCoordinator, Resource::Path(COORDINATOR))?;
            self.open_coordinator(id);
            return Ok(());
        }
        match target.view() {
            Target::Node(node) if node.dynamic => return self.attach_dynamic_target(id, node),
            Target::Node(TargetNode { address: None, .. }) => return self.open_relay(id),
            _ => {}
        }
        match named(target.view().address())? {
            Named::Cbs => {
                self.authorize(Operation::LinkToCbs, Resource::Path(CBS))?;
                self.open_requests(id, Node::Cbs);
            }
            Named::Namespace => {
                self.authorize(Operation::LinkToNamespaceNode, Resource::Namespace)?;
                self.open_requests(id, Node::Namespace);
            }
            Named::Management(path) => {
                self.authorize(Operation::LinkToManagement, Resource::Management(&path))?;
                self.may_consume(&path)?;
                self.commands.push(Command::OpenManagement {
                    origin: self.origin(id, ATTACH),
                    path: path.clone(),
                });
                let session = self.engine.session_of(id).ok_or_else(gone)?;
                let link = RequestLink { node: Node::Management(path), session, entity: None };
                self.links.insert(id, Link::Requests(link));
            }
            Named::Entity(path) => {
                self.authorize(Operation::LinkToSend, &path)?;
                let (path, via) = match destination(attach)? {
                    None => (path, None),
                    Some((destination, address)) => (destination, Some(Via { path, address })),
                };
                self.authorize(Operation::LinkToSend, &path)?;
                let origin = self.origin(id, ATTACH);
                self.commands.push(Command::OpenSender { origin, path: path.clone() });
                let path = Some(path);
                let heedless = jms::is_destination(target.view());
                let (target, entity, pending) = (None, None, VecDeque::new());
                let link = IncomingLink { path, target, via, entity, pending, credit: 0, heedless };
                self.links.insert(id, Link::Incoming(link));
            }
        }
        Ok(())
    }

    fn attach_outgoing(&mut self, id: LinkId, attach: &Attach) -> Result<(), ErrorInfo> {
        let Some(source) = &attach.source else { return self.look_up_subscription(id, attach) };
        if source.view().dynamic {
            return self.attach_dynamic_source(id, attach, source.view());
        }
        match named(source.view().address())? {
            Named::Cbs => {
                self.authorize(Operation::LinkToCbs, Resource::Path(CBS))?;
                self.open_responses(id, attach, Node::Cbs, true);
            }
            Named::Namespace => {
                self.authorize(Operation::LinkToNamespaceNode, Resource::Namespace)?;
                self.open_responses(id, attach, Node::Namespace, true);
            }
            Named::Management(path) => {
                self.authorize(Operation::LinkToManagement, Resource::Management(&path))?;
                self.may_consume(&path)?;
                self.commands.push(Command::OpenManagement {
                    origin: self.origin(id, ATTACH),
                    path: path.clone(),
                });
                self.open_responses(id, attach, Node::Management(path), false);
            }
            Named::Entity(path) => {
                self.authorize(Operation::LinkToReceive, &path)?;
                self.may_consume(&path)?;
                let (session, filter) = session::requested(attach, source.view())?
                    .map_or((None, None), |(one, two)| (Some(one), Some(two)));
                let Filters { selector, in_place } = filters::requested(source.view())?;
                if selector.is_some() && session.is_some() {
                    let text = "A selector for the messages of a session is not supported.";
                    return Err(ErrorInfo::new(condition::NOT_IMPLEMENTED, text));
                }
                let wanted = self.wanted_subscription(attach, source.view(), &path)?;
                // A durable subscriber asks for copies too, and means those of its subscription.
                let browses = filters::browses(source.view()) && wanted.is_none();
                let browse = browses.then(|| Browse {
                    unsettled: attach.snd_settle_mode == Some(SenderSettleMode::Unsettled),
                });
                if (browse.is_some() || wanted.is_some()) && session.is_some() {
                    let text = "A session is not looked at, and has no subscription of its own.";
                    return Err(ErrorInfo::new(condition::NOT_IMPLEMENTED, text));
                }
                let mode = match attach.snd_settle_mode {
                    Some(SenderSettleMode::Settled) => ReceiveMode::ReceiveAndDelete,
                    _ => ReceiveMode::PeekLock,
                };
                let receiver = self.receiver(id);
                let origin = self.origin(id, ATTACH);
                let at = path.clone();
                let jms = jms::link_of(source.view(), wanted.is_some());
                self.commands.push(match selector {
                    selector if let Some(wish) = wanted => Command::OpenSubscriber {
                        origin,
                        receiver,
                        path: at,
                        mode,
                        selector,
                        wish: Box::new(wish),
                    },
                    selector if browse.is_some() => {
                        Command::OpenBrowser { origin, receiver, path: at, selector }
                    }
                    None => Command::OpenReceiver { origin, receiver, path: at, mode, session },
                    Some(selector) => Command::OpenSelectingReceiver {
                        origin,
                        receiver,
                        path: at,
                        mode,
                        selector,
                    },
                });
                let link = OutgoingLink {
                    session_filter: filter.map(Box::new),
                    in_place,
                    browse,
                    jms,
                    ..OutgoingLink::new(path, receiver)
                };
                self.links.insert(id, Link::Outgoing(link));
            }
        }
        Ok(())
    }

    fn open_requests(&mut self, id: LinkId, node: Node) {
        let Some(session) = self.engine.session_of(id) else { return };
        self.links.insert(id, Link::Requests(RequestLink { node, session, entity: None }));
        self.accept_requests(id, REQUEST_SIZE_MAX);
    }

    fn accept_requests(&mut self, id: LinkId, size_max: u64) {
        let reply = AttachReply { max_message_size: Some(size_max), ..AttachReply::default() };
        // A peer that left meanwhile gets no answer.
        let _ = self.engine.accept_attach(id, reply);
        let _ = self.engine.set_credit(id, REQUEST_CREDIT);
    }

    fn open_responses(&mut self, id: LinkId, attach: &Attach, node: Node, open: bool) {
        let Some(session) = self.engine.session_of(id) else { return };
        let address = attach.target.as_ref().and_then(|target| target.view().address());
        let link = ResponseLink {
            node,
            session,
            name: attach.name.as_str().to_owned(),
            address: address.map(str::to_owned),
            open,
            backlog: VecDeque::new(),
        };
        self.links.insert(id, Link::Responses(link));
        if open {
            let _ = self.engine.accept_attach(id, AttachReply::default());
        }
    }

    /// The core knows the entity a sender link names.
    pub(super) fn sender_opened(&mut self, id: LinkId, entity: EntityId, max_message_size: u64) {
        self.link_span(id).in_scope(|| debug!("sender attached"));
        let Some(Link::Incoming(link)) = self.links.get_mut(&id) else { return };
        link.entity = Some(entity);
        // Python, .NET and Java size their batches by this property.
        let batch_max = Value::Ulong(max_message_size);
        let key = Symbol::from("com.microsoft:max-message-batch-size");
        let mut properties = Map::default().with(key, batch_max);
        if let Some(via) = &link.via {
            properties.insert(Symbol::from_static(TRANSFER_DESTINATION), via.address.clone());
        }
        let reply = AttachReply {
            target: link.target.take().map(|target| (*target).into()),
            max_message_size: Some(max_message_size),
            properties: Some(properties),
            ..AttachReply::default()
        };
        let _ = self.engine.accept_attach(id, reply);
        self.top_up(id);
    }

    /// The core knows the receiver, and has given it the session it asked for.
    pub(super) fn receiver_opened(
        &mut self,
        id: LinkId,
        entity: EntityId,
        session: Option<&SessionLock>,
    ) {
        self.link_span(id).in_scope(|| debug!("receiver attached"));
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        link.entity = Some(entity);
        let reply = if let (Some(filter), Some(lock)) = (link.session_filter.take(), session) {
            let session = lock.session.clone();
            link.holds = Some(SessionHolder { link: filter.link.clone(), session });
            session::granted(*filter, lock)
        } else {
            let source = link.in_place.take().map(|source| (*source).into());
            let offered_capabilities = link.jms.as_ref().and_then(|jms| jms.offers());
            AttachReply { source, offered_capabilities, ..AttachReply::default() }
        };
        let _ = self.engine.accept_attach(id, reply);
        self.update_demand(id);
    }

    pub(super) fn management_opened(
        &mut self,
        id: LinkId,
        entity: EntityId,
        message_bytes_max: u64,
    ) {
        match self.links.get_mut(&id) {
            Some(Link::Requests(link)) => {
                link.entity = Some(entity);
                let size_max = message_bytes_max.saturating_add(REQUEST_OVERHEAD);
                self.accept_requests(id, size_max.max(REQUEST_SIZE_MAX));
            }
            Some(Link::Responses(link)) => {
                link.open = true;
                let _ = self.engine.accept_attach(id, AttachReply::default());
                self.flush_responses(id);
            }
            Some(
                Link::Incoming(_) | Link::Outgoing(_) | Link::Lookup(_) | Link::Coordinator(_),
            )
            | None => {}
        }
    }

    /// The core refused what a link names.
    pub(super) fn attach_refused(&mut self, id: LinkId, error: &Error) {
        let error = Refusal::of(error).error_info(&self.host);
        self.reject(id, error);
    }

    pub(super) fn reject(&mut self, id: LinkId, error: ErrorInfo) {
        self.tell_of_link(id, &error, "attach refused");
        // A receiver the core has not opened yet is closed by the command behind it.
        self.lose(id);
        let _ = self.engine.reject_attach(id, error);
    }

    /// For links of which it turns out later what they are about, and so which right they take.
    pub(super) fn refuse_strangers(&self, what: &str) -> Result<(), ErrorInfo> {
        if !self.claims.is_empty() {
            return Ok(());
        }
        let text = format!("{what} takes a right, and none was shown on this connection.");
        Err(ErrorInfo::new(condition::UNAUTHORIZED_ACCESS, text))
    }

    /// Allows an operation by what was granted to this connection.
    pub(super) fn authorize<'a>(
        &self,
        operation: Operation,
        what: impl Into<Resource<'a>>,
    ) -> Result<(), ErrorInfo> {
        let what = what.into();
        let event = |outcome| {
            let event = self.audited(audit::Door::Amqp, operation.name(), outcome);
            event.about(&what.to_string())
        };
        match auth::authorize(&self.claims, operation, what, self.settings.clock.now()) {
            Ok(()) => {
                if changes_entities(operation) {
                    self.settings.audit.record(event(Outcome::Allowed));
                }
                Ok(())
            }
            Err(denied) => {
                self.settings.metrics.denied(operation);
                self.settings.audit.refused(|| event(Outcome::Denied).because(&denied));
                Err(Refusal::denied(&denied).error_info(&self.host))
            }
        }
    }

    /// Whether an operation would be allowed, for whoever does with less as well.
    pub(super) fn would_allow<'a>(
        &self,
        operation: Operation,
        what: impl Into<Resource<'a>>,
    ) -> bool {
        auth::authorize(&self.claims, operation, what, self.settings.clock.now()).is_ok()
    }
}

/// Whether a link makes or removes an entity.
const fn changes_entities(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::LinkToMake | Operation::LinkToUnsubscribe | Operation::LinkToDynamic
    )
}

/// Where a sender's messages go in the end, if not to the target: the entity, and its address as it
/// came.
fn destination(attach: &Attach) -> Result<Option<(EntityPath, Value)>, ErrorInfo> {
    let Some(properties) = &attach.properties else { return Ok(None) };
    let Some(address) = properties.get(TRANSFER_DESTINATION).filter(|one| !one.is_null()) else {
        return Ok(None);
    };
    match named(address.as_str())? {
        Named::Entity(path) => Ok(Some((path, address.clone()))),
        Named::Cbs | Named::Management(_) | Named::Namespace => {
            Err(invalid("The transfer destination is not an entity."))
        }
    }
}

pub(super) fn named(address: Option<&str>) -> Result<Named, ErrorInfo> {
    let Some(address) = address else {
        let text = "A link without an address is not supported.";
        return Err(ErrorInfo::new(condition::NOT_ALLOWED, text));
    };
    if is_cbs(address) {
        return Ok(Named::Cbs);
    }
    if is_namespace_node(address) {
        return Ok(Named::Namespace);
    }
    let parsed = EntityPath::parse(address).map_err(|error| invalid(&error.to_string()))?;
    Ok(if parsed.management { Named::Management(parsed.path) } else { Named::Entity(parsed.path) })
}

/// Whether a link is a way to show tokens.
fn is_for_cbs(attach: &Attach) -> bool {
    let address = match attach.role {
        Role::Sender => attach.target.as_ref().and_then(|target| target.view().address()),
        Role::Receiver => attach.source.as_ref().and_then(|source| source.view().address()),
    };
    address.is_some_and(is_cbs)
}

/// `$cbs` comes bare from every SDK, and with a host from clients that use URIs throughout.
fn is_cbs(address: &str) -> bool {
    let last = address.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let bare = address.trim_start_matches('/').len() == last.len();
    last.eq_ignore_ascii_case("$cbs") && (bare || address.contains("://"))
}

/// `$management` with no entity before it; the host of a URI is none.
fn is_namespace_node(address: &str) -> bool {
    let path = address
        .split_once("://")
        .map_or(address, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    path.trim_matches('/').eq_ignore_ascii_case("$management")
}

fn invalid(text: &str) -> ErrorInfo {
    ErrorInfo::new(condition::INVALID_FIELD, text)
}

fn gone() -> ErrorInfo {
    invalid("The AMQP session has ended.")
}
