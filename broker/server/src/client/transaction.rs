//! Transactions of AMQP: what is sent and settled in one happens together or not at all.

use bytes::Bytes;
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
use peeklock_protocol::terminus::{Coordinator, Source};
use peeklock_protocol::transaction::Coordination;
use peeklock_protocol::value::{Str, Symbol};

use super::amqp::ANSWER_WITHIN;
use super::failure::Failure;
use super::messaging::{Messaging, refusal};

/// The way to the coordinator of a broker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transactions {
    link: LinkId,
}

impl Transactions {
    pub(super) async fn open(messaging: &mut Messaging<'_>) -> Result<Self, Failure> {
        let name = format!("cli-coordinator-{}", std::process::id());
        let mut attach = Attach::new(name.clone(), 0, Role::Sender);
        attach.snd_settle_mode = Some(SenderSettleMode::Unsettled);
        attach.rcv_settle_mode = Some(ReceiverSettleMode::First);
        attach.source = Some(Source::new(Str::from(name)).into());
        let capabilities = Some(vec![Symbol::from_static("amqp:local-transactions")]);
        attach.target = Some(Coordinator { capabilities }.into());
        let (link, _) = messaging.attach(attach, ANSWER_WITHIN).await?;
        Ok(Self { link })
    }

    /// Begins one, and gives its id.
    pub(super) async fn declare(self, messaging: &mut Messaging<'_>) -> Result<Bytes, Failure> {
        let request = Coordination::Declare { global_id: None };
        let id = messaging.send(self.link, request.to_bytes(), None).await?;
        match messaging.outcome(self.link, id).await? {
            Some(DeliveryState::Declared { txn_id }) => Ok(txn_id),
            state => Err(refusal(state.as_ref())),
        }
    }

    /// Ends one. It has taken effect, and is on disk, when this returns without a failure.
    pub(super) async fn discharge(
        self,
        messaging: &mut Messaging<'_>,
        transaction: Bytes,
        fail: bool,
    ) -> Result<(), Failure> {
        let request = Coordination::Discharge { txn_id: transaction, fail };
        let id = messaging.send(self.link, request.to_bytes(), None).await?;
        messaging.accepted(self.link, id).await
    }
}

/// A state that takes effect with a transaction.
pub(super) fn within(transaction: &Bytes, outcome: Option<DeliveryState>) -> DeliveryState {
    DeliveryState::Transactional { txn_id: transaction.clone(), outcome: outcome.map(Box::new) }
}
