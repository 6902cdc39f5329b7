//! The two attaches of the load generator.

use peeklock_protocol::performative::{Attach, ReceiverSettleMode, Role, SenderSettleMode};
use peeklock_protocol::serial::SerialNumber;
use peeklock_protocol::terminus::{Source, TargetNode};
use peeklock_protocol::value::{Map, Str, Symbol};

use super::arguments::{Mode, Plan, SettleMode};

/// The filter by which a link asks for a message session.
const SESSION_FILTER: &str = "com.microsoft:session-filter";

/// A link to send on: every message unsettled, to be settled by the broker with its outcome.
pub(super) fn sender(target: &str, run: u64, index: u32) -> Attach {
    let name = format!("bench-sender-{run:x}-{index}");
    let mut attach = Attach::new(name.clone(), 0, Role::Sender);
    attach.snd_settle_mode = Some(SenderSettleMode::Unsettled);
    attach.rcv_settle_mode = Some(ReceiverSettleMode::First);
    attach.source = Some(Source::new(Str::from(name)).into());
    attach.target = Some(TargetNode::new(Str::from(target)).into());
    attach.initial_delivery_count = Some(SerialNumber(0));
    attach
}

/// A link to receive on, in the mode the plan names.
pub(super) fn receiver(plan: &Plan, run: u64, index: u32) -> Attach {
    let name = format!("bench-receiver-{run:x}-{index}");
    let mut attach = Attach::new(name.clone(), 0, Role::Receiver);
    let (sender, receiver) = match (plan.mode, plan.settle_mode) {
        (Mode::ReceiveAndDelete, _) => (SenderSettleMode::Settled, ReceiverSettleMode::First),
        (Mode::PeekLock, SettleMode::First) => {
            (SenderSettleMode::Unsettled, ReceiverSettleMode::First)
        }
        (Mode::PeekLock, SettleMode::Second) => {
            (SenderSettleMode::Unsettled, ReceiverSettleMode::Second)
        }
    };
    attach.snd_settle_mode = Some(sender);
    attach.rcv_settle_mode = Some(receiver);
    let mut source = Source::new(Str::from(plan.source.as_str()));
    if plan.sessions.is_some() {
        let session = session_id(index);
        source = source.with_filter(Map::new().with(Symbol::from_static(SESSION_FILTER), session));
    }
    attach.source = Some(source.into());
    attach.target = Some(TargetNode::new(Str::from(name)).into());
    attach
}

/// The id of a message session of a run. Runs share them, so that one can drain what another left.
pub(super) fn session_id(index: u32) -> String {
    format!("bench-{index}")
}
