//! One AMQP session: its windows, its ids, its handles and what it has to say at the next flush.
//!
//! Two counters are easily mixed up. A *transfer-id* counts frames and belongs to the windows
//! (`next_outgoing_id`, `next_incoming_id`). A *delivery-id* counts deliveries and is what a
//! disposition names. A delivery of three frames uses three of the former and one of the latter.

use std::collections::{HashMap, VecDeque};

use smallvec::SmallVec;

use crate::connection::{Config, LinkId};
use crate::delivery::{DeliveryId, QueuedDelivery, Received, Sent, Unsettled};
use crate::delivery_state::DeliveryState;
use crate::limits;
use crate::numbers::{NumberMap, NumberPool};
use crate::performative::{Begin, Flow, Role};
use crate::serial::SerialNumber;
use crate::value::Str;

/// ```text
///            peer's begin, answered
///  (none) ───────────────────────────▶ Mapped ──── our end ────▶ Ending ── peer's end ─▶ (none)
///     │ our begin          peer's begin  ▲  │
///     └───────▶ Beginning ───────────────┘  └── peer's end, answered ─▶ (none)
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SessionState {
    /// Our begin is out. Attaches may follow it at once; transfers wait for the peer's window.
    Beginning,
    /// Both begins are exchanged.
    Mapped,
    /// Our end is out: DISCARDING, whatever comes is dropped until the peer's end (§2.5.5).
    Ending {
        /// The caller asked for it and is told when the peer has confirmed.
        confirm: bool,
    },
}

/// Links are found by name and our own role: the same name may be used once in each direction.
pub(crate) type LinkName = (Str, Role);

/// A disposition not written yet: consecutive deliveries with one outcome.
#[derive(Debug)]
pub(crate) struct PendingDisposition {
    pub(crate) role: Role,
    pub(crate) first: DeliveryId,
    pub(crate) last: DeliveryId,
    pub(crate) settled: bool,
    pub(crate) state: Option<DeliveryState>,
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: SessionState,
    /// The channel we send on.
    pub(crate) channel: u16,
    /// The channel the peer sends on, from its begin on.
    pub(crate) remote_channel: Option<u16>,

    first_outgoing_id: SerialNumber,
    next_outgoing_id: SerialNumber,
    /// Transfer frames the peer will still take.
    remote_incoming_window: u32,
    next_delivery_id: DeliveryId,

    next_incoming_id: SerialNumber,
    /// Transfer frames we still take before the peer oversteps what it was told.
    incoming_window_left: u32,
    last_incoming_delivery: Option<DeliveryId>,

    /// The peer's handles.
    pub(crate) handles: NumberMap<LinkId>,
    /// Our handles.
    pub(crate) handle_pool: NumberPool,
    pub(crate) remote_handle_max: u32,
    pub(crate) names: HashMap<LinkName, LinkId>,
    pub(crate) links: Vec<LinkId>,
    /// The links that went when the caller ended the session, for the event that confirms it.
    pub(crate) ended_links: Vec<LinkId>,
    /// The last handles whose links were detached with an error, for amqp:session:errant-link.
    errant_handles: SmallVec<[u32; limits::ERRANT_HANDLES_KEPT]>,

    /// Unsettled deliveries we sent.
    pub(crate) sent: Unsettled<Sent>,
    /// Unsettled deliveries we received.
    pub(crate) received: Unsettled<Received>,
    /// Deliveries waiting for the window, in the order of their ids.
    pub(crate) queue: VecDeque<QueuedDelivery>,

    pub(crate) dispositions: Vec<PendingDisposition>,
    /// Links with a flow to write.
    pub(crate) flow_links: Vec<LinkId>,
    /// A flow of the session itself is to be written.
    pub(crate) flow_due: bool,
    /// It is in the connection's list of sessions with something to write.
    pub(crate) flush_due: bool,
}

impl Session {
    pub(crate) fn new(config: &Config, channel: u16) -> Self {
        Self {
            state: SessionState::Beginning,
            channel,
            remote_channel: None,
            first_outgoing_id: config.first_serial,
            next_outgoing_id: config.first_serial,
            remote_incoming_window: 0,
            next_delivery_id: config.first_serial,
            next_incoming_id: SerialNumber(0),
            incoming_window_left: config.incoming_window,
            last_incoming_delivery: None,
            handles: NumberMap::default(),
            handle_pool: NumberPool::default(),
            remote_handle_max: u32::MAX,
            names: HashMap::new(),
            links: Vec::new(),
            ended_links: Vec::new(),
            errant_handles: SmallVec::new(),
            sent: Unsettled::default(),
            received: Unsettled::default(),
            queue: VecDeque::new(),
            dispositions: Vec::new(),
            flow_links: Vec::new(),
            flow_due: false,
            flush_due: false,
        }
    }

    /// Takes over what the peer's begin says.
    pub(crate) fn handle_begin(&mut self, channel: u16, begin: &Begin) {
        if self.state == SessionState::Beginning {
            self.state = SessionState::Mapped;
        }
        self.remote_channel = Some(channel);
        self.next_incoming_id = begin.next_outgoing_id;
        self.remote_incoming_window = begin.incoming_window;
        self.remote_handle_max = begin.handle_max.unwrap_or(u32::MAX);
    }

    /// Our begin: an answer when the peer's has come, else the first word.
    pub(crate) fn begin(&self, config: &Config) -> Begin {
        Begin {
            remote_channel: self.remote_channel,
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: config.incoming_window,
            outgoing_window: config.outgoing_window,
            handle_max: Some(config.handle_max),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        }
    }

    // ---- outgoing

    pub(crate) fn take_delivery_id(&mut self) -> DeliveryId {
        let id = self.next_delivery_id;
        self.next_delivery_id = id.advanced_by(1);
        id
    }

    pub(crate) fn outgoing_window_left(&self) -> u32 {
        if self.state == SessionState::Mapped { self.remote_incoming_window } else { 0 }
    }

    /// A transfer frame has been written.
    pub(crate) fn count_outgoing_frame(&mut self) {
        self.next_outgoing_id = self.next_outgoing_id.advanced_by(1);
        self.remote_incoming_window = self.remote_incoming_window.saturating_sub(1);
    }

    /// §2.5.6: the peer's window as it was when it wrote the flow, less the frames it had not seen.
    pub(crate) fn handle_window(&mut self, flow: &Flow) {
        let seen = flow.next_incoming_id.unwrap_or(self.first_outgoing_id);
        // A peer that claims to have seen frames of the future has seen all there are.
        let unseen = if self.next_outgoing_id.is_before(seen) {
            0
        } else {
            self.next_outgoing_id.distance_from(seen)
        };
        self.remote_incoming_window = flow.incoming_window.saturating_sub(unseen);
    }

    // ---- incoming

    /// A transfer frame has come. `false`: it was one more than the peer was allowed.
    #[must_use]
    pub(crate) fn count_incoming_frame(&mut self, config: &Config) -> bool {
        let Some(left) = self.incoming_window_left.checked_sub(1) else { return false };
        self.incoming_window_left = left;
        self.next_incoming_id = self.next_incoming_id.advanced_by(1);
        // .NET and Go stop at the end of the window, so it is renewed well before.
        if left <= config.incoming_window / 2 {
            self.flow_due = true;
        }
        true
    }

    /// Ids of new deliveries come in order. Gaps are fine: pyamqp numbers a delivery by its first
    /// frame. `false`: it does not come after the last.
    #[must_use]
    pub(crate) fn count_incoming_delivery(&mut self, id: DeliveryId) -> bool {
        if self.last_incoming_delivery.is_some_and(|last| !last.is_before(id)) {
            return false;
        }
        self.last_incoming_delivery = Some(id);
        true
    }

    /// The session part of a flow. Writing it renews the peer's window.
    pub(crate) fn flow(&mut self, config: &Config) -> Flow {
        let mapped = self.state == SessionState::Mapped;
        self.flow_due = false;
        self.incoming_window_left = config.incoming_window;
        Flow {
            next_incoming_id: mapped.then_some(self.next_incoming_id),
            incoming_window: config.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: config.outgoing_window,
            handle: None,
            delivery_count: None,
            link_credit: None,
            available: None,
            drain: false,
            echo: false,
            properties: None,
        }
    }

    // ---- links

    /// Forgets all links and deliveries: the session is at its end.
    pub(crate) fn empty(&mut self) -> Vec<LinkId> {
        self.handles = NumberMap::default();
        self.names = HashMap::new();
        self.sent = Unsettled::default();
        self.received = Unsettled::default();
        self.queue = VecDeque::new();
        self.dispositions = Vec::new();
        self.flow_links = Vec::new();
        self.flow_due = false;
        std::mem::take(&mut self.links)
    }

    pub(crate) fn remember_errant(&mut self, handle: u32) {
        if self.errant_handles.len() == limits::ERRANT_HANDLES_KEPT {
            self.errant_handles.remove(0);
        }
        self.errant_handles.push(handle);
    }

    pub(crate) fn forget_errant(&mut self, handle: u32) {
        self.errant_handles.retain(|kept| *kept != handle);
    }

    pub(crate) fn is_errant(&self, handle: u32) -> bool {
        self.errant_handles.contains(&handle)
    }

    /// Adds to what has to be said, as a range where it continues the last one.
    pub(crate) fn add_disposition(
        &mut self,
        role: Role,
        id: DeliveryId,
        settled: bool,
        state: Option<DeliveryState>,
    ) {
        if let Some(last) = self.dispositions.last_mut()
            && last.role == role
            && last.settled == settled
            && last.last.advanced_by(1) == id
            && last.state == state
        {
            last.last = id;
            return;
        }
        self.dispositions.push(PendingDisposition { role, first: id, last: id, settled, state });
    }
}
