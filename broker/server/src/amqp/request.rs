//! The request links `$cbs` and `$management`: requests in, and the way of each response back.
//!
//! `reply-to` alone does not name a link: Python leaves it out on `$cbs`, Java uses the same one on
//! every connection.

use std::time::Instant;

use bytes::Bytes;
use peeklock_core::{Command, EntityId, Error, Origin, Reply};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{LinkId, SessionId};
use peeklock_protocol::delivery::{Delivery, DeliveryId, OutgoingDelivery};
use peeklock_protocol::message::Message;
use peeklock_protocol::value::Value;
use peeklock_protocol::{DeliveryState, SerialNumber};
use tracing::{debug, warn};

use super::attach::REQUEST_CREDIT;
use super::cbs;
use super::coordinator;
use super::endpoint::{Endpoint, EndpointSettings};
use super::link::{Link, Node};
use super::management::{self, Answer, NamespaceAnswer, SessionHolder};
use crate::audit::{self, Outcome};
use crate::traces::{Given, Taken};

/// Responses that may wait for credit on one link; a peer that asks and never reads loses it.
const BACKLOG_MAX: usize = 100;

/// The same in bytes, since one peek can fill a megabyte.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What a management request waits for.
#[derive(Debug)]
enum Awaited {
    /// The core's reply, of which the response is made.
    Reply {
        pending: management::Pending,
        /// When the client stops waiting, if it said so.
        due: Option<Instant>,
        /// What a collector is told with the answer.
        traced: Option<Traced>,
    },
    /// That the driver has done all that is due; then this is the response.
    CatchUp(Message),
}

/// What of a request is traced.
#[derive(Debug)]
enum Traced {
    /// Messages that it brings.
    Sent(Box<Taken>),
    /// Deliveries that it settles.
    Settled(Vec<Given>),
}

/// A management request that is not answered yet.
#[derive(Debug)]
pub(super) struct PendingRequest {
    node: Node,
    session: SessionId,
    reply_to: Option<String>,
    awaited: Awaited,
}

impl Awaited {
    /// A catch-up is waited for however long: no time-out of the client's undoes the step.
    fn due(&self) -> Option<Instant> {
        match self {
            Self::Reply { due, .. } => *due,
            Self::CatchUp(_) => None,
        }
    }
}

impl Endpoint {
    pub(super) fn receive_request(&mut self, delivery: &Delivery, now: Instant) {
        let id = delivery.link;
        let Some(Link::Requests(link)) = self.links.get(&id) else { return };
        let (node, session, entity) = (link.node.clone(), link.session, link.entity);
        let request = match Message::decode(&delivery.payload) {
            Ok(request) => request,
            Err(error) => {
                self.link_span(id).in_scope(|| debug!(%error, "a request could not be read"));
                let error = ErrorInfo::new(condition::DECODE_ERROR, error.to_string());
                self.settle_request(delivery, DeliveryState::Rejected(Some(error)));
                self.top_up_requests(id);
                return;
            }
        };
        self.settle_request(delivery, DeliveryState::Accepted);
        let properties = request.properties.as_ref();
        let reply_to = properties.and_then(|all| all.reply_to.as_ref()).map(ToString::to_string);
        match &node {
            Node::Cbs => {
                if let Some((token, audience)) = cbs::shown(&request) {
                    self.find_place(|place| place.show_token(&token, audience));
                }
                let EndpointSettings { authority, clock, metrics, .. } = &*self.settings;
                let answered =
                    cbs::answer(&request, authority, clock.now(), &mut self.claims, metrics);
                self.claims_changed(now);
                if !self.claims.is_empty() {
                    self.note_identity();
                    self.enter();
                }
                if let Some(denied) = &answered.denied {
                    let event = || {
                        let event = self.audited(audit::Door::Cbs, "put-token", Outcome::Denied);
                        event.because(denied)
                    };
                    self.settings.audit.refused(event);
                }
                self.respond(&node, session, reply_to.as_deref(), &answered.message);
            }
            Node::Management(path) => {
                let Some(entity) = entity else { return };
                let is_by_holder = management::names_holder(&request);
                let holders = if is_by_holder { self.session_holders(entity) } else { Vec::new() };
                let context = management::Context {
                    origin: self.origin(id, delivery.id),
                    entity,
                    path,
                    claims: &self.claims,
                    now: self.settings.clock.now(),
                    holders: &holders,
                    transaction: coordinator::transaction_of(delivery.state.as_ref()),
                    host: &self.host,
                    metrics: &self.settings.metrics,
                };
                match management::handle(&request, &context) {
                    Answer::Now(response) => {
                        self.audit_refused(&request, &response, &path.to_string());
                        self.respond(&node, session, reply_to.as_deref(), &response);
                    }
                    Answer::Ask { command, pending } => {
                        if let Err(busy) = self.admit_command(&command) {
                            let response = pending.response(Err(busy), &self.host);
                            self.respond(&node, session, reply_to.as_deref(), &response);
                            return self.top_up_requests(id);
                        }
                        let due = pending.timeout().and_then(|timeout| now.checked_add(timeout));
                        self.requests_due = [self.requests_due, due].into_iter().flatten().min();
                        let traced = self.traced_by(&command);
                        let awaited = Awaited::Reply { pending, due, traced };
                        let waiting = PendingRequest { node, session, reply_to, awaited };
                        self.requests.insert((id, delivery.id), waiting);
                        self.commands.push(*command);
                    }
                }
            }
            Node::Namespace => {
                let context = management::NamespaceContext {
                    claims: &self.claims,
                    clock: &self.settings.clock,
                    host: &self.host,
                    metrics: &self.settings.metrics,
                };
                match management::handle_namespace(&request, &context) {
                    NamespaceAnswer::Now(response) => {
                        self.audit_refused(&request, &response, "");
                        self.respond(&node, session, reply_to.as_deref(), &response);
                    }
                    NamespaceAnswer::CaughtUp(response) => {
                        let operation = management::operation_name(&request);
                        let door = audit::Door::Management;
                        let event = self.audited(door, operation, Outcome::Allowed);
                        self.settings.audit.record(event);
                        let awaited = Awaited::CatchUp(response);
                        let waiting = PendingRequest { node, session, reply_to, awaited };
                        self.requests.insert((id, delivery.id), waiting);
                        self.catch_ups.push(self.origin(id, delivery.id));
                    }
                }
            }
        }
        self.top_up_requests(id);
    }

    /// Whether what a request brings is taken in now.
    fn admit_command(&self, command: &Command) -> Result<(), Error> {
        match command {
            Command::Schedule { messages, .. } => {
                let octets: usize = messages.iter().map(|message| message.bytes().len()).sum();
                self.admit_requested(messages.len(), octets)
            }
            _ => Ok(()),
        }
    }

    /// What a request brings or settles that is traced.
    fn traced_by(&mut self, command: &Command) -> Option<Traced> {
        let tracer = self.settings.tracer.as_ref()?;
        match command {
            Command::Schedule { messages, .. } => {
                tracer.taken(messages.iter(), None).map(Traced::Sent)
            }
            Command::UpdateDisposition { tokens, settlement, .. } => {
                let mut find = |token| self.unsettled.remove(token).or_else(|| tracer.find(token));
                let found = tokens.iter().filter_map(|token| find(*token));
                let given: Vec<_> = found.map(|given| given.settling(settlement)).collect();
                (!given.is_empty()).then_some(Traced::Settled(given))
            }
            _ => None,
        }
    }

    /// Tells a collector what came of a request, if there is one.
    fn tell_of_request(
        &mut self,
        node: &Node,
        traced: Option<Traced>,
        result: &Result<Reply, Error>,
    ) {
        let (Some(tracer), Some(path)) = (&self.settings.tracer, node.path()) else { return };
        let error = result.as_ref().err().map(ToString::to_string);
        match traced {
            Some(Traced::Sent(taken)) => tracer.accepted(*taken, Some(path), error.as_deref()),
            Some(Traced::Settled(all)) => {
                for given in all {
                    tracer.settled(given, path, error.as_deref());
                }
            }
            None => {}
        }
        let Ok(Reply::DeferredReceived { deliveries }) = result else { return };
        for delivery in deliveries {
            let given = tracer.delivered(&delivery.message, path, delivery.attempts, None);
            if let (Some(given), Some(lock)) = (given, &delivery.lock) {
                self.unsettled.insert(lock.token, given);
            }
        }
    }

    /// Remembers that a request was refused for want of a right.
    fn audit_refused(&self, request: &Message, response: &Message, entity: &str) {
        let condition = response.application_property("errorCondition").and_then(Value::as_str);
        if condition != Some(condition::UNAUTHORIZED_ACCESS) {
            return;
        }
        self.settings.audit.refused(|| {
            let operation = management::operation_name(request);
            let event = self.audited(audit::Door::Management, operation, Outcome::Denied);
            event.about(entity).because(condition::UNAUTHORIZED_ACCESS)
        });
    }

    fn session_holders(&self, entity: EntityId) -> Vec<SessionHolder> {
        let holder = |link: &Link| match link {
            Link::Outgoing(link) if link.entity == Some(entity) => link.holds.clone(),
            _ => None,
        };
        self.links.values().filter_map(holder).collect()
    }

    fn settle_request(&mut self, delivery: &Delivery, state: DeliveryState) {
        if !delivery.settled {
            // The link may have gone in the same turn.
            let _ = self.engine.settle_incoming(delivery.link, delivery.id, state, true);
        }
    }

    /// Renews the credit of a request link. Requests that wait for the core count as used, or a peer
    /// could have any number of them waiting.
    fn top_up_requests(&mut self, id: LinkId) {
        let waiting = self.requests.keys().filter(|(link, _)| *link == id).count();
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        // The link may have gone in the same turn.
        let _ = self.engine.set_credit(id, REQUEST_CREDIT.saturating_sub(waiting));
    }

    /// Every answer of the core lands here and goes on to the kind of link that asked.
    pub(super) fn handle_reply(&mut self, to: Origin, result: Result<Reply, Error>) {
        let id = LinkId::from_u64(to.link);
        let delivery: DeliveryId = SerialNumber(to.delivery);
        match self.links.get(&id) {
            Some(Link::Incoming(link)) if link.entity.is_some() || link.path.is_none() => {
                self.send_answered(id, delivery, result.map(|_| ()));
            }
            Some(Link::Outgoing(link)) if link.entity.is_some() => {
                self.settle_answered(id, delivery, result.map(|_| ()));
            }
            Some(Link::Requests(link)) if link.entity.is_some() => {
                self.management_answered(id, delivery, result);
            }
            Some(Link::Coordinator(_)) => self.coordinated(id, delivery, result),
            Some(_) => self.attach_answered(id, result),
            None => {}
        }
    }

    fn attach_answered(&mut self, id: LinkId, result: Result<Reply, Error>) {
        match result {
            Ok(Reply::SenderOpened { entity, message_bytes_max }) => {
                self.sender_opened(id, entity, message_bytes_max);
            }
            Ok(Reply::ReceiverOpened { entity, session, .. }) => {
                self.receiver_opened(id, entity, session.as_ref());
            }
            Ok(Reply::SubscriptionFound { path, selector, in_use }) => {
                self.subscription_found(id, path, selector.as_ref(), in_use);
            }
            Ok(Reply::ManagementOpened { entity, message_bytes_max }) => {
                self.management_opened(id, entity, message_bytes_max);
            }
            // Without the reply, which may hold messages.
            Ok(_) => warn!(link = id.to_u64(), "an answer that fits no request of the link"),
            Err(error) => self.attach_refused(id, &error),
        }
    }

    fn management_answered(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        result: Result<Reply, Error>,
    ) {
        let Some(waiting) = self.requests.remove(&(id, delivery)) else { return };
        let PendingRequest { node, session, reply_to, awaited } = waiting;
        let Awaited::Reply { pending, traced, .. } = awaited else { return };
        self.tell_of_request(&node, traced, &result);
        if pending.is_change() {
            let path = node.path().map(ToString::to_string).unwrap_or_default();
            let door = audit::Door::Management;
            let event = |outcome| self.audited(door, pending.operation(), outcome).about(&path);
            self.settings.audit.record(match &result {
                Ok(_) => event(Outcome::Allowed),
                Err(error) => event(Outcome::Failed).because(error),
            });
        }
        let response = pending.response(result, &self.host);
        self.respond(&node, session, reply_to.as_deref(), &response);
        self.top_up_requests(id);
    }

    /// The driver has done what was due when this was asked.
    pub(super) fn caught_up(&mut self, to: Origin) {
        let (id, delivery) = (LinkId::from_u64(to.link), SerialNumber(to.delivery));
        // The link may have gone meanwhile.
        let Some(waiting) = self.requests.remove(&(id, delivery)) else { return };
        let PendingRequest { node, session, reply_to, awaited } = waiting;
        let Awaited::CatchUp(response) = awaited else { return };
        self.respond(&node, session, reply_to.as_deref(), &response);
        self.top_up_requests(id);
    }

    /// Tells clients whose time is over, before they find out by themselves.
    pub(super) fn give_up_requests(&mut self, now: Instant) {
        let due = |request: &PendingRequest| request.awaited.due();
        let over = |request: &mut PendingRequest| due(request).is_some_and(|due| due <= now);
        let given_up: Vec<_> = self.requests.extract_if(|_, request| over(request)).collect();
        self.requests_due = self.requests.values().filter_map(due).min();
        for ((id, _), PendingRequest { node, session, reply_to, awaited }) in given_up {
            let Awaited::Reply { pending, .. } = awaited else { continue };
            let response = pending.timed_out(&self.host);
            self.respond(&node, session, reply_to.as_deref(), &response);
            self.top_up_requests(id);
        }
    }

    fn respond(
        &mut self,
        node: &Node,
        session: SessionId,
        reply_to: Option<&str>,
        response: &Message,
    ) {
        let Some(id) = self.route(node, session, reply_to) else {
            debug!(?node, "a response has no link to go to");
            return;
        };
        let Some(Link::Responses(link)) = self.links.get_mut(&id) else { return };
        let waiting: usize = link.backlog.iter().map(Bytes::len).sum();
        if BACKLOG_MAX <= link.backlog.len() || BACKLOG_BYTES_MAX <= waiting {
            let text = "Too many responses wait for credit.";
            self.detach(id, ErrorInfo::new(condition::RESOURCE_LIMIT_EXCEEDED, text));
            return;
        }
        link.backlog.push_back(response.to_bytes());
        self.flush_responses(id);
    }

    /// The link a response goes to: by the address the peer gave its end, by the link's name, or
    /// the only one to the node; first in the AMQP session of the request, then in the connection.
    fn route(&self, node: &Node, session: SessionId, reply_to: Option<&str>) -> Option<LinkId> {
        let candidates = || {
            self.links.iter().filter_map(|(id, link)| match link {
                Link::Responses(link) if link.node == *node => Some((*id, link)),
                _ => None,
            })
        };
        for same_session in [true, false] {
            let here = || candidates().filter(|(_, link)| !same_session || link.session == session);
            if let Some(reply_to) = reply_to {
                let by_address = here().find(|(_, link)| link.address.as_deref() == Some(reply_to));
                let by_name = || here().find(|(_, link)| link.name == reply_to);
                if let Some((id, _)) = by_address.or_else(by_name) {
                    return Some(id);
                }
            }
            let mut all = here();
            if let (Some((id, _)), None) = (all.next(), all.next()) {
                return Some(id);
            }
        }
        None
    }

    pub(super) fn flush_responses(&mut self, id: LinkId) {
        let Some(Link::Responses(link)) = self.links.get_mut(&id) else { return };
        while link.open && 0 < self.engine.sendable(id) {
            let Some(response) = link.backlog.pop_front() else { break };
            let parts = [response];
            let sequence = self.engine.delivered_count(id).to_be_bytes();
            let delivery = OutgoingDelivery {
                tag: &sequence,
                message_format: 0,
                settled: true,
                state: None,
                parts: &parts,
            };
            if self.engine.send(id, delivery).is_err() {
                return;
            }
        }
        if !link.open {
            return;
        }
        if !link.backlog.is_empty() && 0 < self.engine.link_credit(id) {
            // Not for want of credit: the session window or the output is full.
            self.blocked.insert(id);
        } else if self.engine.is_draining(id) {
            let _ = self.engine.drained(id);
        }
    }
}
