//! Deliveries to the peer: demand and drain, and what the peer makes of a message.
//!
//! Demand is told to the core as a total: so many deliveries may this link ever have been given.
//! What is on its way meanwhile then needs no account.

use peeklock_core::{
    Command, Delivery, Enlistment, Error, LockToken, ReceiverId, SequenceNumber, Settlement,
    Subqueue,
};
use peeklock_protocol::DeliveryState;
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery::{DeliveryId, OutgoingDelivery};
use peeklock_protocol::value::{Map, Str, Value};
use tracing::debug;

use super::condition::Refusal;
use super::coordinator;
use super::encode;
use super::endpoint::Endpoint;
use super::link::{Asked, Link, PendingSettle};
use crate::metrics::CreditRole;

/// What SDKs name as the condition of a rejection; the broker never sends it.
const DEAD_LETTER: &str = "com.microsoft:dead-letter";
const DEAD_LETTER_REASON: &str = "DeadLetterReason";
const DEAD_LETTER_DESCRIPTION: &str = "DeadLetterErrorDescription";

impl Endpoint {
    pub(super) fn credit_changed(&mut self, id: LinkId) {
        match self.links.get(&id) {
            Some(Link::Outgoing(_)) => self.update_demand(id),
            Some(Link::Responses(_)) => self.flush_responses(id),
            Some(
                Link::Incoming(_) | Link::Requests(_) | Link::Lookup(_) | Link::Coordinator(_),
            )
            | None => {}
        }
    }

    /// Tells the core how much the link can take now.
    pub(super) fn update_demand(&mut self, id: LinkId) {
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        let credit = self.engine.link_credit(id);
        self.credits.note(CreditRole::Receiver, &mut link.credit, credit);
        if link.entity.is_none() {
            return;
        }
        let sendable = if self.winding_down { 0 } else { self.engine.sendable(id) };
        let limit = link.returned + self.engine.delivered_count(id) + u64::from(sendable);
        let receiver = link.receiver;
        if sendable != 0 {
            self.update_bytes(id);
        }
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        if sendable < credit && !self.winding_down {
            self.blocked.insert(id);
        } else if self.engine.is_draining(id) {
            link.limit = limit;
            link.draining = true;
            self.commands.push(Command::Drain { receiver, limit });
            return;
        }
        // A drain the peer has thought better of ends the demand in the core all the same.
        if limit != link.limit || std::mem::take(&mut link.draining) {
            link.limit = limit;
            self.commands.push(Command::Demand { receiver, limit });
        }
    }

    /// Tells the core how many octets the link can take now.
    fn update_bytes(&mut self, id: LinkId) {
        let Some(limit) = self.more_bytes(id) else { return };
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        link.bytes_limit = limit;
        self.commands.push(Command::DemandBytes { receiver: link.receiver, limit });
    }

    pub(super) fn drained(&mut self, receiver: ReceiverId) {
        let id = LinkId::from_u64(receiver.link);
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        if self.engine.is_draining(id) {
            link.draining = false;
            let _ = self.engine.drained(id);
            link.limit = link.returned + self.engine.delivered_count(id);
            let left = self.engine.link_credit(id);
            self.credits.note(CreditRole::Receiver, &mut link.credit, left);
        }
    }

    pub(super) fn receiver_closed(&mut self, receiver: ReceiverId, error: &Error) {
        let id = LinkId::from_u64(receiver.link);
        let error = Refusal::of(error).error_info(&self.host);
        self.detach(id, error);
    }

    pub(super) fn deliver(&mut self, receiver: ReceiverId, delivery: &Delivery) {
        let id = LinkId::from_u64(receiver.link);
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else {
            self.give_back(delivery);
            return;
        };
        link.bytes_given += delivery.message.size();
        let (tag, settled) = match (&delivery.lock, link.browse) {
            (Some(lock), _) => (lock.token.0, false),
            (None, Some(browse)) => (tag_of(delivery.sequence), !browse.unsettled),
            (None, None) => ([0; 16], true),
        };
        if let (Some(jms), Some(lock)) = (&mut link.jms, &delivery.lock) {
            jms.note_given(lock.token);
        }
        let parts = encode::delivery(delivery, &mut self.scratch);
        let outgoing =
            OutgoingDelivery { tag: &tag, message_format: 0, settled, state: None, parts: &parts };
        if self.engine.send(id, outgoing).is_err() {
            // The peer took its credit back or left while the message was on its way.
            self.give_back(delivery);
            if let Some(Link::Outgoing(link)) = self.links.get_mut(&id) {
                link.returned += 1;
                if link.browse.is_some() {
                    let sequence = delivery.sequence;
                    self.commands.push(Command::ReturnBrowsed { receiver, sequence });
                }
                if let (Some(jms), Some(lock)) = (&mut link.jms, &delivery.lock) {
                    jms.note_settled(lock.token);
                }
            }
            self.update_demand(id);
            return;
        }
        self.credits.note_used(CreditRole::Receiver, &mut link.credit);
        self.trace(id, delivery);
        if self.more_bytes(id).is_some() {
            // Once what is to be written is on its way.
            self.blocked.insert(id);
        }
    }

    /// Tells a collector of a delivery, if there is one, and later of its settlement.
    fn trace(&mut self, id: LinkId, delivery: &Delivery) {
        if let Some(tracer) = &self.settings.tracer
            && let Some(Link::Outgoing(link)) = self.links.get(&id)
            && let given = tracer.delivered(&delivery.message, &link.path, delivery.attempts, None)
            && let (Some(given), Some(lock)) = (given, &delivery.lock)
        {
            self.unsettled.insert(lock.token, given);
        }
    }

    /// A locked message that cannot be sent goes back unharmed.
    fn give_back(&mut self, delivery: &Delivery) {
        let Some(lock) = &delivery.lock else { return };
        self.commands.push(Command::Settle {
            origin: None,
            entity: delivery.entity,
            token: lock.token,
            settlement: Settlement::Release,
            transaction: None,
        });
    }

    /// The peer says what became of a delivery.
    pub(super) fn settle(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        tag: &[u8],
        state: Option<DeliveryState>,
        settled: bool,
    ) {
        let origin = self.origin(id, delivery);
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        let Some(entity) = link.entity else { return };
        // Deliveries of receive-and-delete links are settled already; late dispositions for them
        // never get here. The tag is 16 bytes because we chose it.
        let Ok(token) = <[u8; 16]>::try_from(tag) else { return };
        let transaction = coordinator::transaction_of(state.as_ref());
        // Nobody at a JMS client could ask for what is deferred. It says so of what it has no use for,
        // which is over or has failed too often; a dead letter it would be given again and again.
        let defers = link.jms.is_none() || link.path.subqueue() != Subqueue::Main;
        let (asked, settlement) = match settlement(plain(state), settled, defers) {
            Ok(Some((asked, _))) if link.browse.is_some() => {
                if !settled {
                    let state = coordinator::provisional(success(asked), transaction);
                    let _ = self.engine.settle_outgoing(id, delivery, Some(state), true);
                }
                return;
            }
            Ok(Some(wish)) => wish,
            Ok(None) => return,
            Err(error) => {
                if !settled {
                    let state = DeliveryState::Rejected(Some(error));
                    let _ = self.engine.settle_outgoing(id, delivery, Some(state), true);
                }
                return;
            }
        };
        let token = LockToken(token);
        let traced = self.unsettled.remove(token).map(|given| given.settling(&settlement));
        if !settled {
            link.pending.push_back(PendingSettle { delivery, asked, transaction, traced });
        } else if let (Some(tracer), Some(given)) = (&self.settings.tracer, traced) {
            tracer.settled(given, &link.path, None);
        }
        // A transaction is known by who names it. Nobody waits for the answer all the same.
        let origin = (!settled || transaction.is_some()).then_some(origin);
        let enlist = |transaction| Enlistment { transaction, answered: !settled };
        if let Some(jms) = &mut link.jms {
            jms.note_settled(token);
        }
        self.commands.push(Command::Settle {
            origin,
            entity,
            token,
            settlement,
            transaction: transaction.map(enlist),
        });
    }

    /// The core's answer to a settlement that the peer waits for.
    pub(super) fn settle_answered(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        result: Result<(), Error>,
    ) {
        if let Err(error) = &result {
            self.link_span(id).in_scope(|| debug!(%error, "settlement refused"));
        }
        let Some(Link::Outgoing(link)) = self.links.get_mut(&id) else { return };
        let Some(position) = link.pending.iter().position(|one| one.delivery == delivery) else {
            return;
        };
        let Some(pending) = link.pending.remove(position) else { return };
        if let (Some(tracer), Some(given)) = (&self.settings.tracer, pending.traced) {
            let error = result.as_ref().err().map(ToString::to_string);
            tracer.settled(given, &link.path, error.as_deref());
        }
        let state = match result {
            Ok(()) => coordinator::provisional(success(pending.asked), pending.transaction),
            Err(error) => DeliveryState::Rejected(Some(Refusal::of(&error).error_info(&self.host))),
        };
        let _ = self.engine.settle_outgoing(id, delivery, Some(state), true);
    }
}

/// The tag of a message that is not locked: no two of a link are the same.
fn tag_of(sequence: SequenceNumber) -> [u8; 16] {
    u128::from(sequence.0).to_be_bytes()
}

/// The answer that says yes: always of the type that was asked for, and never with an error in it,
/// because an error in a rejected state means failure to every SDK.
fn success(asked: Asked) -> DeliveryState {
    match asked {
        Asked::Complete => DeliveryState::Accepted,
        Asked::DeadLetter => DeliveryState::Rejected(None),
        Asked::Release => DeliveryState::Released,
        Asked::Modify => DeliveryState::Modified {
            delivery_failed: None,
            undeliverable_here: None,
            message_annotations: None,
        },
    }
}

/// The outcome in a transactional state, or the state as it is.
fn plain(state: Option<DeliveryState>) -> Option<DeliveryState> {
    match state {
        Some(DeliveryState::Transactional { outcome, .. }) => outcome.map(|outcome| *outcome),
        state => state,
    }
}

/// What a delivery state asks for in Service Bus words; `None` when it asks for nothing.
fn settlement(
    state: Option<DeliveryState>,
    settled: bool,
    defers: bool,
) -> Result<Option<(Asked, Settlement)>, ErrorInfo> {
    let wish = match state {
        Some(DeliveryState::Accepted) => (Asked::Complete, Settlement::Complete),
        Some(DeliveryState::Rejected(error)) => (Asked::DeadLetter, dead_letter(error)),
        Some(DeliveryState::Modified { undeliverable_here, message_annotations, .. }) => {
            // The map holds application properties to change, whatever its name says.
            let changes = message_annotations.as_ref().map(changes).unwrap_or_default();
            let settlement = if undeliverable_here == Some(true) && defers {
                Settlement::Defer { changes }
            } else {
                Settlement::Abandon { changes }
            };
            (Asked::Modify, settlement)
        }
        Some(DeliveryState::Received { .. }) | None if !settled => return Ok(None),
        Some(
            DeliveryState::Declared { .. }
            | DeliveryState::Transactional { .. }
            | DeliveryState::Unknown(_),
        ) if !settled => {
            let text = "This outcome is not known to the broker.";
            return Err(ErrorInfo::new(condition::NOT_IMPLEMENTED, text));
        }
        // Settled without a final outcome: the peer has forgotten it, so it goes to the next.
        Some(
            DeliveryState::Released
            | DeliveryState::Received { .. }
            | DeliveryState::Declared { .. }
            | DeliveryState::Transactional { .. }
            | DeliveryState::Unknown(_),
        )
        | None => (Asked::Release, Settlement::Release),
    };
    Ok(Some(wish))
}

/// SDKs put reason and description into the error's info map, beside properties to change; generic
/// clients have only the condition and the description.
fn dead_letter(error: Option<ErrorInfo>) -> Settlement {
    let Some(error) = error else {
        return Settlement::DeadLetter { reason: None, description: None, changes: Vec::new() };
    };
    let from_sdk = error.condition.as_str() == DEAD_LETTER;
    let mut reason = (!from_sdk).then(|| Str::from(error.condition.as_str()));
    let mut description = if from_sdk { None } else { error.description };
    let mut rest = error.info.as_ref().map(changes).unwrap_or_default();
    rest.retain(|(key, value)| {
        let text = value.as_str().map(Str::from);
        match key.as_str() {
            DEAD_LETTER_REASON => reason = text.or(reason.take()),
            DEAD_LETTER_DESCRIPTION => description = text.or(description.take()),
            _ => return true,
        }
        false
    });
    Settlement::DeadLetter { reason, description, changes: rest }
}

fn changes(map: &Map) -> Vec<(Str, Value)> {
    map.iter()
        .filter_map(|(key, value)| key.as_str().map(|key| (Str::from(key), value.clone())))
        .collect()
}
