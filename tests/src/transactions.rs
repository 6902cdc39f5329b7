//! Transactions (AMQP §4): the coordinator link, and what is done with a transaction on other links.

use bytes::Bytes;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{
    Attach, Disposition, ReceiverSettleMode, Role, SenderSettleMode, Transfer,
};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::terminus::{Coordinator, Source};
use peeklock_protocol::transaction::Coordination;
use peeklock_protocol::value::Symbol;

use crate::link::{Link, Received, disposition, sender};
use crate::peer::Peer;

/// The attach of a client that wants transactions, in the modes .NET uses.
pub fn coordinator(capabilities: Option<Vec<Symbol>>) -> Attach {
    Attach {
        source: Some(Source::new("controller").into()),
        target: Some(Coordinator { capabilities }.into()),
        snd_settle_mode: Some(SenderSettleMode::Unsettled),
        rcv_settle_mode: Some(ReceiverSettleMode::First),
        ..sender("coordinator")
    }
}

/// A state that belongs to a transaction.
pub fn within(txn: &Bytes, outcome: DeliveryState) -> DeliveryState {
    DeliveryState::Transactional { txn_id: txn.clone(), outcome: Some(Box::new(outcome)) }
}

impl Peer {
    /// Attaches a coordinator link the way most clients do.
    #[track_caller]
    pub fn attach_coordinator(&mut self) -> Link {
        let local = Symbol::from_static("amqp:local-transactions");
        self.attach_for_sending(coordinator(Some(vec![local])))
    }

    /// Asks the coordinator.
    #[track_caller]
    pub fn coordinate(&mut self, link: &mut Link, request: &Coordination) -> DeliveryState {
        let id = self.transfer(link, &request.to_bytes());
        self.expect_outcome(id)
    }

    /// Declares a transaction and gives its id.
    #[track_caller]
    pub fn declare(&mut self, link: &mut Link) -> Bytes {
        match self.coordinate(link, &Coordination::Declare { global_id: None }) {
            DeliveryState::Declared { txn_id } => {
                assert!((1..=32).contains(&txn_id.len()), "{txn_id:?}");
                txn_id
            }
            other => panic!("Java takes nothing but declared, found {other:?}"),
        }
    }

    /// Ends a transaction.
    #[track_caller]
    pub fn discharge(&mut self, link: &mut Link, txn: &Bytes, fail: bool) -> DeliveryState {
        self.coordinate(link, &Coordination::Discharge { txn_id: txn.clone(), fail })
    }

    /// Commits a transaction.
    #[track_caller]
    pub fn commit(&mut self, link: &mut Link, txn: &Bytes) {
        assert_eq!(self.discharge(link, txn, false), DeliveryState::Accepted);
    }

    /// Rolls a transaction back.
    #[track_caller]
    pub fn roll_back(&mut self, link: &mut Link, txn: &Bytes) {
        assert_eq!(self.discharge(link, txn, true), DeliveryState::Accepted);
    }

    /// Sends a short message with a transaction and gives its delivery-id.
    #[track_caller]
    pub fn transfer_within(
        &mut self,
        link: &mut Link,
        txn: &Bytes,
        message: &[u8],
        settled: bool,
    ) -> SerialNumber {
        let first = self.first_transfer(link, 0, settled);
        let state = DeliveryState::Transactional { txn_id: txn.clone(), outcome: None };
        let id = first.delivery_id.expect("just set");
        self.send_with(Transfer { state: Some(state), ..first }, message);
        id
    }

    /// Sends a message with a transaction, which has to be taken for the time being.
    #[track_caller]
    pub fn send_within(&mut self, link: &mut Link, txn: &Bytes, message: &[u8]) {
        let id = self.transfer_within(link, txn, message, false);
        assert_eq!(self.expect_outcome(id), within(txn, DeliveryState::Accepted));
    }

    /// Settles with a transaction and gives the answer.
    #[track_caller]
    pub fn settle_within(
        &mut self,
        received: &Received,
        txn: &Bytes,
        outcome: DeliveryState,
    ) -> DeliveryState {
        self.settle(received, within(txn, outcome))
    }

    /// The same the way JMS does it: settled, so that there is no answer.
    #[track_caller]
    pub fn settle_within_at_once(
        &mut self,
        received: &Received,
        txn: &Bytes,
        outcome: DeliveryState,
    ) {
        let disposition: Disposition = disposition(received.id, within(txn, outcome), true);
        assert_eq!(disposition.role, Role::Receiver);
        self.send(disposition);
    }
}
