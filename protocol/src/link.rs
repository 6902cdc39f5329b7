//! One link: its standing, its credit arithmetic and the delivery that is coming in on it.

use crate::connection::SessionId;
use crate::delivery::Assembly;
use crate::performative::{Attach, Flow, Role};
use crate::serial::SerialNumber;
use crate::value::Str;

/// ```text
///          peer's attach            accept
///  (none) ───────────────▶ Pending ────────▶ Attached ── our detach ──▶ Detaching ─▶ (none)
///     │ our attach            │ reject           ▲  │                       ▲  peer's detach
///     └─────▶ Attaching ──────┼─ peer's attach ──┘  └─ peer's detach ─▶ (none)
///                  │          └─────────────────────────────────────────────┤
///                  └── our detach ──────────────────────────────────────────┘
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LinkState {
    /// The peer attached and the caller has not answered.
    Pending,
    /// We attached and the peer has not answered.
    Attaching,
    /// Both attaches are exchanged.
    Attached,
    /// Our detach is out; whatever comes for the link is dropped until the peer's.
    Detaching {
        /// The caller asked for it and is told when the peer has confirmed.
        confirm: bool,
        /// It was detached with an error, so later frames on its handle are an errant link's.
        errant: bool,
    },
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) session: SessionId,
    pub(crate) state: LinkState,
    /// Our role.
    pub(crate) role: Role,
    pub(crate) name: Str,
    /// Our handle.
    pub(crate) handle: u32,
    /// The peer's handle, from its attach on.
    pub(crate) remote_handle: Option<u32>,
    /// What the peer asked for, until it is answered.
    pub(crate) request: Option<Box<Attach>>,
    pub(crate) max_message_size: u64,
    pub(crate) credit: Credit,
    /// The flow to write for it, if any.
    pub(crate) flow: FlowDue,
    /// Deliveries of this link in the session's `sent` and `received`.
    pub(crate) unsettled: usize,
    /// Deliveries of this link in the session's queue.
    pub(crate) queued: usize,
    pub(crate) assembly: Option<Box<Assembly>>,
}

/// What has to be written about a link's flow state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FlowDue {
    No,
    /// Its present state.
    State,
    /// The answer to a drain: after what is queued, with drain = true.
    Drained,
}

/// The credit of a link (§2.6.7), in terms of the sender's delivery-count.
#[derive(Debug)]
pub(crate) enum Credit {
    /// We send.
    Sender {
        delivery_count: SerialNumber,
        /// Where the count began, for a receiver that has not seen it.
        initial_count: SerialNumber,
        credit: u32,
        drain: bool,
        /// Deliveries ever sent.
        delivered: u64,
        /// A flow came while the attach was pending; the caller hears of it after the reply.
        unreported: bool,
    },
    /// We receive.
    Receiver {
        delivery_count: SerialNumber,
        credit: u32,
        /// We asked the sender to use up or give up its credit.
        drain: bool,
        /// Credit the peer has been told of and may still use. It is more than `credit` after a
        /// cut, because transfers may be on their way that were sent before the peer heard of it.
        granted: u32,
        /// What the last flow said, to leave out a flow that says nothing new.
        told: Option<u32>,
    },
}

impl Credit {
    pub(crate) fn sender(initial_count: SerialNumber) -> Self {
        Self::Sender {
            delivery_count: initial_count,
            initial_count,
            credit: 0,
            drain: false,
            delivered: 0,
            unreported: false,
        }
    }

    pub(crate) fn receiver(initial_count: SerialNumber) -> Self {
        Self::Receiver {
            delivery_count: initial_count,
            credit: 0,
            drain: false,
            granted: 0,
            told: None,
        }
    }

    pub(crate) fn left(&self) -> u32 {
        match self {
            Self::Sender { credit, .. } | Self::Receiver { credit, .. } => *credit,
        }
    }

    /// What the peer's attach says about its delivery-count. azure-amqp leaves it out on some of
    /// its senders, which then start at 0.
    pub(crate) fn handle_initial_count(&mut self, count: Option<SerialNumber>) {
        if let Self::Receiver { delivery_count, .. } = self {
            *delivery_count = count.unwrap_or_default();
        }
    }

    /// We have begun to send a delivery. `false`: there was no credit for it.
    #[must_use]
    pub(crate) fn use_outgoing(&mut self) -> bool {
        let Self::Sender { delivery_count, credit, delivered, .. } = self else { return false };
        let Some(left) = credit.checked_sub(1) else { return false };
        *credit = left;
        *delivery_count = delivery_count.advanced_by(1);
        *delivered += 1;
        true
    }

    /// The first frame of a delivery has come. `false`: it was one more than the peer had credit for.
    #[must_use]
    pub(crate) fn use_incoming(&mut self) -> bool {
        let Self::Receiver { delivery_count, credit, granted, told, .. } = self else {
            return false;
        };
        let Some(left) = granted.checked_sub(1) else { return false };
        *granted = left;
        *credit = credit.saturating_sub(1);
        *told = told.map(|told| told.saturating_sub(1));
        *delivery_count = delivery_count.advanced_by(1);
        true
    }

    /// The receiver's flow: its credit counts from the delivery-count it had seen.
    pub(crate) fn handle_receiver_flow(&mut self, flow: &Flow) {
        let Self::Sender { delivery_count, initial_count, credit, drain, .. } = self else {
            return;
        };
        let seen = flow.delivery_count.unwrap_or(*initial_count);
        // A receiver that claims to have seen deliveries of the future has seen all there are.
        let unseen =
            if delivery_count.is_before(seen) { 0 } else { delivery_count.distance_from(seen) };
        if let Some(link_credit) = flow.link_credit {
            *credit = link_credit.saturating_sub(unseen);
        }
        *drain = flow.drain;
    }

    /// The sender's flow: it may give up credit by advancing its delivery-count. Says whether a
    /// drain of ours has come to its end by it.
    pub(crate) fn handle_sender_flow(&mut self, flow: &Flow) -> bool {
        let Self::Receiver { delivery_count, credit, drain, granted, told } = self else {
            return false;
        };
        let Some(count) = flow.delivery_count else { return false };
        if delivery_count.is_before(count) {
            let given_up = count.distance_from(*delivery_count);
            *delivery_count = count;
            *credit = credit.saturating_sub(given_up);
            *granted = granted.saturating_sub(given_up);
            *told = told.map(|told| told.saturating_sub(given_up));
        }
        if *drain && *credit == 0 {
            *drain = false;
            return true;
        }
        false
    }

    /// We receive: the credit is `wanted` from now on. `false`: the peer knows that already.
    pub(crate) fn set(&mut self, wanted: u32, draining: bool) -> bool {
        let Self::Receiver { credit, drain, told, .. } = self else { return false };
        let news = *told != Some(wanted) || *drain != draining || draining;
        *credit = wanted;
        *drain = draining;
        news
    }

    /// We send: what credit is left is given up. `false`: no drain is under way.
    pub(crate) fn give_up(&mut self) -> bool {
        let Self::Sender { delivery_count, credit, drain, .. } = self else { return false };
        if !*drain {
            return false;
        }
        *delivery_count = delivery_count.advanced_by(*credit);
        *credit = 0;
        *drain = false;
        true
    }

    /// What a flow says about the link. Writing it makes the credit the peer's to use. Of the
    /// deliveries counted here the peer is yet to see `unsent`.
    pub(crate) fn write_to(&mut self, flow: &mut Flow, drained: bool, unsent: u32) {
        match self {
            Self::Sender { delivery_count, credit, .. } => {
                flow.delivery_count = Some(delivery_count.advanced_by(unsent.wrapping_neg()));
                flow.link_credit = Some(credit.saturating_add(unsent));
                // Only the answer to a drain says drain = true; rhea takes any other for an error.
                flow.drain = drained;
            }
            Self::Receiver { delivery_count, credit, drain, granted, told } => {
                flow.delivery_count = Some(*delivery_count);
                flow.link_credit = Some(*credit);
                flow.drain = *drain;
                *granted = (*granted).max(*credit);
                *told = Some(*credit);
            }
        }
    }
}
