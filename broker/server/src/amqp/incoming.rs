//! Messages from the peer to an entity: checked and copied here, so that the shard's one task need
//! not; answered when they are on disk.

use bytes::Bytes;
use peeklock_core::{Command, Enlistment, Error, IncomingMessage, TransactionId};
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery::{Delivery, DeliveryId};
use peeklock_protocol::message::envelope;
use peeklock_protocol::{DecodeError, DeliveryState};
use smallvec::{SmallVec, smallvec};
use std::time::Instant;
use tracing::debug;

use super::condition::Refusal;
use super::coordinator;
use super::endpoint::Endpoint;
use super::link::{Link, PendingSend};
use crate::metrics::{CreditRole, Limit};

/// Messages a sender may have on the way. Enough to cover a slow disk (5 ms a sync needs about a
/// thousand in flight for full speed); bytes are bounded per connection.
const SEND_CREDIT: u32 = 1000;

/// The service's message format of a batch: each data section is a message.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// Messages in one batch; at the 5 bytes an SDK counts for each, a 1 MiB batch cannot hold more
/// useful ones than this.
const BATCH_MESSAGES_MAX: usize = 20_000;

impl Endpoint {
    /// A message arrived, for an entity or for a request node.
    pub(super) fn receive(&mut self, delivery: Delivery, now: Instant) {
        match self.links.get_mut(&delivery.link) {
            Some(Link::Incoming(link)) => {
                self.credits.note_used(CreditRole::Sender, &mut link.credit);
                self.receive_message(delivery);
            }
            Some(Link::Requests(_)) => self.receive_request(&delivery, now),
            Some(Link::Coordinator(_)) => self.coordinate(&delivery),
            Some(Link::Outgoing(_) | Link::Responses(_) | Link::Lookup(_)) | None => {}
        }
    }

    fn receive_message(&mut self, delivery: Delivery) {
        let Delivery { link: id, id: delivery_id, message_format, settled, state, payload, .. } =
            delivery;
        let transaction = coordinator::transaction_of(state.as_ref());
        let messages = match messages(&payload, message_format) {
            Ok(messages) => messages,
            Err(error) => {
                let error = Refusal::undecodable(&error).error_info(&self.host);
                return self.refuse_sent(id, delivery_id, settled, transaction, error);
            }
        };
        let is_relay =
            matches!(self.links.get(&id), Some(Link::Incoming(link)) if link.path.is_none());
        let named = is_relay.then(|| self.named_by(&messages)).transpose();
        let named = match named
            .and_then(|named| self.admit(messages.len(), payload.len()).map(|()| named))
        {
            Ok(named) => named,
            Err(error) => {
                return self.refuse_sent(id, delivery_id, settled, transaction, error);
            }
        };
        let origin = self.origin(id, delivery_id);
        let Some(Link::Incoming(link)) = self.links.get_mut(&id) else { return };
        let answered = !settled && !link.heedless;
        let enlist = |transaction| Enlistment { transaction, answered };
        let enlistment = transaction.map(enlist);
        let traced =
            self.settings.tracer.as_ref().and_then(|tracer| tracer.taken(messages.iter(), None));
        let command = match (named, link.entity) {
            (Some(path), _) => Command::SendTo { origin, path, messages, transaction: enlistment },
            (None, Some(entity)) => {
                Command::Send { origin, entity, messages, transaction: enlistment }
            }
            // The engine delivers nothing on a link that is not attached.
            (None, None) => return,
        };
        let bytes = payload.len();
        link.pending.push_back(PendingSend {
            delivery: delivery_id,
            settled,
            bytes,
            transaction,
            traced,
        });
        self.pending_bytes += bytes;
        self.commands.push(command);
    }

    /// Refuses what came with a transaction, or without.
    fn refuse_sent(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        settled: bool,
        transaction: Option<TransactionId>,
        error: ErrorInfo,
    ) {
        if let Some(transaction) = transaction {
            let heedless =
                matches!(self.links.get(&id), Some(Link::Incoming(link)) if link.heedless);
            if settled || heedless {
                // The peer would commit what is not there.
                let why = error.description.as_ref().map(|text| text.as_str().to_owned());
                let why = why.unwrap_or_else(|| error.condition.as_str().to_owned());
                self.commands.push(Command::Spoil { connection: self.id, transaction, why });
            }
            if settled {
                return self.detach(id, error);
            }
        }
        self.refuse_message(id, delivery, settled, error);
    }

    fn refuse_message(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        settled: bool,
        error: ErrorInfo,
    ) {
        let condition = error.condition.as_str();
        self.link_span(id).in_scope(|| debug!(condition, "message refused"));
        if !settled {
            let state = DeliveryState::Rejected(Some(error));
            // The link may have gone in the same turn.
            let _ = self.engine.settle_incoming(id, delivery, state, true);
        }
        self.top_up(id);
    }

    pub(super) fn refuse_oversize(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        settled: bool,
        state: Option<&DeliveryState>,
    ) {
        self.settings.metrics.limit_hit(Limit::MessageSize);
        let text = "The message is larger than the maximum the link was attached with.";
        let error = ErrorInfo::new(condition::LINK_MESSAGE_SIZE_EXCEEDED, text);
        self.refuse_sent(id, delivery, settled, coordinator::transaction_of(state), error);
        self.top_up_coordinator(id);
    }

    /// A message has ended that there was no room for.
    pub(super) fn refuse_dropped(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        settled: bool,
        state: Option<&DeliveryState>,
    ) {
        let error = self.no_room();
        self.refuse_sent(id, delivery, settled, coordinator::transaction_of(state), error);
        self.top_up_coordinator(id);
    }

    /// The core's answer to a send: it is on disk, or refused.
    pub(super) fn send_answered(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        result: Result<(), Error>,
    ) {
        if let Err(error) = &result {
            self.link_span(id).in_scope(|| debug!(%error, "message refused"));
        }
        let Some(Link::Incoming(link)) = self.links.get_mut(&id) else { return };
        let Some(position) = link.pending.iter().position(|send| send.delivery == delivery) else {
            return;
        };
        let Some(send) = link.pending.remove(position) else { return };
        self.pending_bytes -= send.bytes;
        if let (Some(tracer), Some(taken)) = (&self.settings.tracer, send.traced) {
            let error = result.as_ref().err().map(ToString::to_string);
            tracer.accepted(*taken, link.path.as_ref(), error.as_deref());
        }
        let state = match result {
            Ok(()) => coordinator::provisional(DeliveryState::Accepted, send.transaction),
            Err(error) => DeliveryState::Rejected(Some(Refusal::of(&error).error_info(&self.host))),
        };
        if !send.settled {
            let _ = self.engine.settle_incoming(id, delivery, state, true);
        }
        self.top_up(id);
    }

    /// Renews a sender's credit once half of it is used. Messages not yet on disk count as used, so
    /// it may be little that can be given: then it waits until it is worth a frame.
    pub(super) fn top_up(&mut self, id: LinkId) {
        if self.winding_down {
            return;
        }
        let Some(Link::Incoming(link)) = self.links.get_mut(&id) else { return };
        let pending = u32::try_from(link.pending.len()).unwrap_or(u32::MAX);
        let left = self.engine.credit(id);
        self.credits.note(CreditRole::Sender, &mut link.credit, left);
        if SEND_CREDIT / 2 < left {
            return;
        }
        let Some(most) = self.credit_for(id, SEND_CREDIT) else { return };
        let wanted = most.saturating_sub(pending);
        let is_worth_it = left <= most / 2 && left + most / 4 <= wanted && left < wanted;
        if is_worth_it
            && self.engine.set_credit(id, wanted).is_ok()
            && let Some(Link::Incoming(link)) = self.links.get_mut(&id)
        {
            self.credits.note(CreditRole::Sender, &mut link.credit, wanted);
        }
    }
}

/// The message of a transfer, or the messages of a batch.
fn messages(payload: &Bytes, format: u32) -> Result<SmallVec<[IncomingMessage; 1]>, DecodeError> {
    if format == BATCH_FORMAT {
        envelope::split(payload, BATCH_MESSAGES_MAX)?
            .iter()
            .map(|message| IncomingMessage::from_wire(message))
            .collect()
    } else {
        Ok(smallvec![IncomingMessage::from_wire(payload)?])
    }
}
