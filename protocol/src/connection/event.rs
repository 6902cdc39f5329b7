//! What a connection tells its caller, and what it refuses.

use bytes::Bytes;
use thiserror::Error;

use crate::condition::ErrorInfo;
use crate::delivery::{Delivery, DeliveryId, DeliveryTag};
use crate::delivery_state::DeliveryState;
use crate::performative::{Attach, Open};
use crate::sasl::SaslCode;
use crate::slots::Key;
use crate::value::{Str, Symbol};

/// An AMQP session of one connection. Never reused for another session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SessionId(pub(crate) Key);

/// A link of one connection. Never reused for another link.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LinkId(pub(crate) Key);

impl LinkId {
    /// The id as a number, for a caller that packs it into its own keys.
    pub fn to_u64(self) -> u64 {
        self.0.to_u64()
    }

    /// The reverse of [`to_u64`](Self::to_u64). A number that never was an id names nothing.
    pub fn from_u64(packed: u64) -> Self {
        Self(Key::from_u64(packed))
    }
}

impl SessionId {
    /// The id as a number.
    pub fn to_u64(self) -> u64 {
        self.0.to_u64()
    }
}

/// Something the caller has to know. Events come in the order of the frames that caused them.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Server: answer with `sasl_challenge` or `sasl_outcome`.
    SaslInit {
        /// One of those offered.
        mechanism: Symbol,
        /// Credentials, or nothing.
        initial_response: Option<Bytes>,
        /// The host the client believes it talks to.
        hostname: Option<Str>,
    },
    /// Server: the answer to a challenge.
    SaslResponse(Bytes),
    /// Client: how the authentication went. Anything but `Ok` is followed by `Closed`.
    SaslOutcome(SaslCode),
    /// The peer's open. A server has answered it already.
    Open(Box<Open>),
    /// A session is usable: the peer began it and we answered, or the peer answered our begin.
    Begin(SessionId),
    /// A session is gone; we have answered. It comes for a session the caller ended too, once the
    /// peer has confirmed.
    End {
        /// Stale from now on.
        session: SessionId,
        /// Why, if there was an error, the peer's or the peer's violation found here.
        error: Option<ErrorInfo>,
        /// The links that went with it, or with the caller's `end`; no `Detach` comes for them.
        links: Vec<LinkId>,
    },
    /// The peer attached: answer with `accept_attach` or `reject_attach`, now or much later.
    Attach {
        /// Pending until answered.
        link: LinkId,
        /// As received; `role` is the peer's.
        attach: Box<Attach>,
    },
    /// The peer answered our attach. A refusal has a null terminus and is followed by `Detach`.
    AttachReply {
        /// The link we asked for.
        link: LinkId,
        /// As received; `role` is the peer's.
        attach: Box<Attach>,
    },
    /// A link is gone; we have answered. It comes for a link the caller detached too, once the peer
    /// has confirmed, and then carries what the peer said.
    Detach {
        /// Stale from now on.
        link: LinkId,
        /// The peer will not resume it.
        closed: bool,
        /// Why, if there was an error, the peer's or the peer's violation found here.
        error: Option<ErrorInfo>,
    },
    /// The peer's flow for a link we send on.
    Credit {
        /// The link.
        link: LinkId,
        /// Deliveries that may still be sent.
        credit: u32,
        /// Send what there is, then call `drained`, even if the credit is 0.
        drain: bool,
    },
    /// A session window that had closed is open again, and nothing is queued behind it.
    SessionWindow(SessionId),
    /// A message has arrived.
    Delivery(Delivery),
    /// A message larger than the link's max-message-size has ended; its payload is gone. The caller
    /// rejects it, unless it is settled.
    Oversize {
        /// The link.
        link: LinkId,
        /// What to name in `settle_incoming`.
        id: DeliveryId,
        /// The sender wants no answer.
        settled: bool,
        /// What the sender says of it, which may name a transaction.
        state: Option<DeliveryState>,
    },
    /// A message has ended whose parts the caller had thrown away (`Connection::drop_partial`). The
    /// caller says so, unless it is settled.
    Dropped {
        /// The link.
        link: LinkId,
        /// What to name in `settle_incoming`.
        id: DeliveryId,
        /// The sender wants no answer.
        settled: bool,
        /// What the sender says of it, which may name a transaction.
        state: Option<DeliveryState>,
    },
    /// The sender gave up a message half way. It has used one credit and wants no answer.
    Aborted {
        /// The link.
        link: LinkId,
    },
    /// We drain a link (`set_credit_drain`), and the peer has used up or given up the credit.
    Drained {
        /// The link.
        link: LinkId,
    },
    /// The receiver's word about a delivery we sent and that was not settled: at most once with
    /// `settled: false`, and once with `settled: true`.
    Settled {
        /// The link.
        link: LinkId,
        /// What `send` returned.
        id: DeliveryId,
        /// The tag it was sent with.
        tag: DeliveryTag,
        /// The outcome.
        state: Option<DeliveryState>,
        /// The receiver has forgotten the delivery, and so has this connection.
        settled: bool,
    },
    /// The sender has settled a delivery we received and had not settled: the end of
    /// rcv-settle-mode second.
    SettledBySender {
        /// The link.
        link: LinkId,
        /// The id of its `Delivery`.
        id: DeliveryId,
        /// The final outcome.
        state: Option<DeliveryState>,
    },
    /// The connection is over; all sessions and links are gone. The last event, exactly once.
    Closed {
        /// The peer's error, or the peer's violation found here.
        error: Option<ErrorInfo>,
    },
}

/// The id names a session or link that is gone, or that is not in a state for this command. It
/// happens in good order: the peer may end anything while the caller is waiting for storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the session or link is gone")]
pub struct Stale;

/// There is no channel left for another session.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("no channel is left")]
pub struct LimitReached;

/// Why a link could not be attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AttachError {
    /// The session is gone.
    #[error("the session is gone")]
    Stale,
    /// The session has a link of this name and role.
    #[error("the session has a link of this name and role")]
    NameInUse,
    /// There is no handle left.
    #[error("no handle is left")]
    LimitReached,
    /// It does not fit a frame of the peer.
    #[error("the attach does not fit the peer's max-frame-size")]
    TooLong,
}

/// Why a delivery could not be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SendError {
    /// The link is gone, or it is not one we send on.
    #[error("the link is gone")]
    Stale,
    /// The receiver has given no credit for it.
    #[error("the link has no credit")]
    NoCredit,
    /// A delivery-tag has at most 32 octets.
    #[error("the delivery-tag is too long")]
    TagTooLong,
}

/// The peer broke the rules so badly that the connection is over. What the peer is told is in the
/// output already.
#[derive(Clone, PartialEq, Debug, Error)]
#[error("{}: {}", .error.condition.as_str(), .error.description.as_deref().unwrap_or_default())]
pub struct Fatal {
    /// What the peer is told, where there was a way to tell it.
    pub error: ErrorInfo,
}
