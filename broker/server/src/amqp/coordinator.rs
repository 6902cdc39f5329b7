//! The transaction coordinator: declaring and discharging, and how the rest of a connection names a
//! transaction.
//!
//! A transaction belongs to the link that declared it and may be used on the whole connection,
//! whatever the AMQP session: .NET has its coordinator in a session of its own.

use bytes::Bytes;
use peeklock_core::{Command, Error, Reply, TransactionId};
use peeklock_protocol::DeliveryState;
use peeklock_protocol::condition::{self, ErrorInfo};
use peeklock_protocol::connection::{AttachReply, LinkId};
use peeklock_protocol::delivery::{Delivery, DeliveryId};
use peeklock_protocol::transaction::Coordination;
use tracing::{debug, warn};

use super::condition::Refusal;
use super::endpoint::Endpoint;
use super::link::{CoordinatorLink, Link};

/// Requests that may wait for an answer. Clients have one under way for each thread that works with
/// transactions.
const COORDINATION_CREDIT: u32 = 100;

/// Octets of a request. It is a dozen, and a global id, which is refused, is short too.
const COORDINATION_SIZE_MAX: u64 = 4096;

/// Transactions that a peer may declare before it has shown any right. .NET declares the first one
/// before it sends a token.
const UNPROVEN_DECLARES_MAX: u32 = 16;

/// The id of a transaction on the wire.
pub(super) fn txn_id(transaction: TransactionId) -> Bytes {
    Bytes::copy_from_slice(&transaction.0.to_be_bytes())
}

/// The transaction a peer names. Zero names none, so it stands for what we never gave out.
pub(super) fn transaction(txn_id: &Bytes) -> TransactionId {
    TransactionId(<[u8; 8]>::try_from(&txn_id[..]).map_or(0, u64::from_be_bytes))
}

/// The transaction that the state of a delivery names, if it names one.
pub(super) fn transaction_of(state: Option<&DeliveryState>) -> Option<TransactionId> {
    match state {
        Some(DeliveryState::Transactional { txn_id, .. }) => Some(transaction(txn_id)),
        _ => None,
    }
}

/// An answer that may belong to a transaction: then it says so, around an outcome of the same type.
/// Java compares the type outside.
pub(super) fn provisional(
    outcome: DeliveryState,
    transaction: Option<TransactionId>,
) -> DeliveryState {
    match transaction {
        None => outcome,
        Some(transaction) => DeliveryState::Transactional {
            txn_id: txn_id(transaction),
            outcome: Some(Box::new(outcome)),
        },
    }
}

impl Endpoint {
    /// Whatever capabilities are asked for, what there is are local transactions, any number of them
    /// on a link, used on any AMQP session.
    pub(super) fn open_coordinator(&mut self, id: LinkId) {
        self.links.insert(id, Link::Coordinator(CoordinatorLink { waiting: 0 }));
        let max_message_size = Some(COORDINATION_SIZE_MAX);
        let reply = AttachReply { max_message_size, ..AttachReply::default() };
        // A peer that left meanwhile gets no answer.
        let _ = self.engine.accept_attach(id, reply);
        let _ = self.engine.set_credit(id, COORDINATION_CREDIT);
    }

    /// A request came.
    pub(super) fn coordinate(&mut self, delivery: &Delivery) {
        let id = delivery.link;
        if delivery.settled {
            // §4.2: there has to be an answer.
            let text = "Messages to the coordinator must not be settled.";
            self.detach(id, ErrorInfo::new(condition::NOT_ALLOWED, text));
            return;
        }
        let origin = self.origin(id, delivery.id);
        let command = match Coordination::decode(&delivery.payload) {
            Ok(Coordination::Declare { global_id: None }) if self.may_declare() => {
                Ok(Command::Declare { origin })
            }
            Ok(Coordination::Declare { global_id: None }) => {
                let text = "The connection has to be authorized before it declares more.";
                Err(ErrorInfo::new(condition::UNAUTHORIZED_ACCESS, text))
            }
            Ok(Coordination::Declare { global_id: Some(_) }) => {
                let text = "Distributed transactions are not supported.";
                Err(ErrorInfo::new(condition::NOT_IMPLEMENTED, text))
            }
            Ok(Coordination::Discharge { txn_id, fail }) => {
                Ok(Command::Discharge { origin, transaction: transaction(&txn_id), fail })
            }
            Err(error) => Err(Refusal::undecodable(&error).error_info(&self.host)),
        };
        match command {
            Ok(command) => {
                let Some(Link::Coordinator(link)) = self.links.get_mut(&id) else { return };
                link.waiting += 1;
                self.commands.push(command);
            }
            Err(error) => {
                debug!(link = id.to_u64(), condition = error.condition.as_str(), "refused");
                self.answer_coordination(id, delivery.id, DeliveryState::Rejected(Some(error)));
            }
        }
    }

    fn may_declare(&mut self) -> bool {
        if !self.claims.is_empty() {
            return true;
        }
        self.unproven_declares += 1;
        self.unproven_declares <= UNPROVEN_DECLARES_MAX
    }

    /// The core's answer to a request.
    pub(super) fn coordinated(
        &mut self,
        id: LinkId,
        delivery: DeliveryId,
        result: Result<Reply, Error>,
    ) {
        let Some(Link::Coordinator(link)) = self.links.get_mut(&id) else { return };
        link.waiting = link.waiting.saturating_sub(1);
        let state = match result {
            Ok(Reply::Declared { transaction }) => {
                DeliveryState::Declared { txn_id: txn_id(transaction) }
            }
            Ok(Reply::Discharged) => DeliveryState::Accepted,
            // Without the reply, which may hold messages.
            Ok(_) => {
                warn!(link = id.to_u64(), "an answer that fits no request of the link");
                DeliveryState::Rejected(Some(Refusal::internal().error_info(&self.host)))
            }
            Err(error) => {
                debug!(link = id.to_u64(), %error, "the coordinator refused");
                DeliveryState::Rejected(Some(Refusal::of(&error).error_info(&self.host)))
            }
        };
        self.answer_coordination(id, delivery, state);
    }

    fn answer_coordination(&mut self, id: LinkId, delivery: DeliveryId, state: DeliveryState) {
        // The link may have gone in the same turn.
        let _ = self.engine.settle_incoming(id, delivery, state, true);
        self.top_up_coordinator(id);
    }

    /// Renews the credit of a coordinator link. Requests that wait for the core count as used.
    pub(super) fn top_up_coordinator(&mut self, id: LinkId) {
        let Some(Link::Coordinator(link)) = self.links.get(&id) else { return };
        let credit = COORDINATION_CREDIT.saturating_sub(link.waiting);
        let _ = self.engine.set_credit(id, credit);
    }
}
