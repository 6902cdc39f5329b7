//! `$management` of an entity: requests in, a command for the core or an answer at once. And
//! `$management` of the namespace, for operations that belong to no entity.
//!
//! `OPERATIONS` lists what there is; [`auth::Operation`] says which right each needs. What is not listed is
//! not implemented, and nothing is done before the right was checked.

mod add_rule;
mod batch_delete_messages;
mod cancel_scheduled_message;
mod clock;
mod enumerate_rules;
mod get_message_sessions;
mod get_session_state;
mod peek_message;
mod receive_by_sequence_number;
mod remove_rule;
mod renew_lock;
mod renew_session_lock;
mod request;
mod response;
mod schedule_message;
mod set_session_state;
#[cfg(test)]
mod tests;
mod update_disposition;

use std::time::Duration;

use peeklock_core::command::Command;
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::error::Error;
use peeklock_core::id::{EntityId, MessageSessionId, Origin, TransactionId};
use peeklock_core::time::Timestamp;
use peeklock_protocol::message::{Message, Properties};
use peeklock_protocol::value::Str;
use tracing::warn;

use self::clock::Done;
use self::request::Request;
use super::cbs::reply_properties;
use super::condition::Refusal;
use super::encode;
use crate::auth::{self, Claims, Resource};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// A link that holds a message session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionHolder {
    /// The link's name.
    pub link: Str,
    /// The session.
    pub session: MessageSessionId,
}

/// Who asks, about what.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Comes back with the core's reply.
    pub origin: Origin,
    /// The entity, as the core knows it.
    pub entity: EntityId,
    /// The entity, as rights know it.
    pub path: &'a EntityPath,
    /// What the peer may do.
    pub claims: &'a Claims,
    /// When.
    pub now: Timestamp,
    /// The links of the connection that hold a message session.
    pub holders: &'a [SessionHolder],
    /// With which transaction, if the request names one.
    pub transaction: Option<TransactionId>,
    /// What the peer calls the broker.
    pub host: &'a str,
    pub(crate) metrics: &'a Metrics,
}

/// What comes of a request.
#[derive(Debug)]
pub enum Answer {
    /// The response.
    Now(Message),
    /// The core has to be asked; [`Pending`] makes the response of its reply.
    Ask {
        /// For the core.
        command: Box<Command>,
        /// What is known of the response by now.
        pending: Pending,
    },
}

/// A request that waits for the core's reply.
#[derive(Clone, Debug)]
pub struct Pending {
    properties: Properties,
    operation: &'static Operation,
    timeout: Option<Duration>,
}

/// One operation: what it is to those who allow it, which also says its name on the wire and the right
/// it needs; and what to ask the core.
#[derive(Debug)]
struct Operation {
    what: auth::Operation,
    /// Whether it is for the holder of the session that the request names.
    by_holder: bool,
    command: fn(Request<'_>, &Context<'_>) -> Result<Command, Refusal>,
}

/// All operations there are.
static OPERATIONS: [Operation; 14] = [
    Operation { what: auth::Operation::RenewLock, by_holder: false, command: renew_lock::command },
    Operation {
        what: auth::Operation::RenewSessionLock,
        by_holder: true,
        command: renew_session_lock::command,
    },
    Operation {
        what: auth::Operation::PeekMessage,
        by_holder: false,
        command: peek_message::command,
    },
    Operation {
        what: auth::Operation::ReceiveBySequenceNumber,
        by_holder: true,
        command: receive_by_sequence_number::command,
    },
    Operation {
        what: auth::Operation::UpdateDisposition,
        by_holder: true,
        command: update_disposition::command,
    },
    Operation {
        what: auth::Operation::ScheduleMessage,
        by_holder: false,
        command: schedule_message::command,
    },
    Operation {
        what: auth::Operation::CancelScheduledMessage,
        by_holder: false,
        command: cancel_scheduled_message::command,
    },
    Operation {
        what: auth::Operation::SetSessionState,
        by_holder: true,
        command: set_session_state::command,
    },
    Operation {
        what: auth::Operation::GetSessionState,
        by_holder: true,
        command: get_session_state::command,
    },
    Operation {
        what: auth::Operation::GetMessageSessions,
        by_holder: false,
        command: get_message_sessions::command,
    },
    Operation {
        what: auth::Operation::BatchDeleteMessages,
        by_holder: false,
        command: batch_delete_messages::command,
    },
    Operation { what: auth::Operation::AddRule, by_holder: false, command: add_rule::command },
    Operation {
        what: auth::Operation::RemoveRule,
        by_holder: false,
        command: remove_rule::command,
    },
    Operation {
        what: auth::Operation::EnumerateRules,
        by_holder: false,
        command: enumerate_rules::command,
    },
];

/// Reads a request and decides what comes of it.
pub fn handle(message: &Message, context: &Context<'_>) -> Answer {
    let request = Request::new(message);
    let properties = reply_properties(message);
    match prepare(request, context) {
        Ok((operation, command)) => {
            let timeout = request.server_timeout();
            let pending = Pending { properties, operation, timeout };
            Answer::Ask { command: Box::new(command), pending }
        }
        Err(refusal) => Answer::Now(response::refused(properties, &refusal, context.host)),
    }
}

fn prepare(
    request: Request<'_>,
    context: &Context<'_>,
) -> Result<(&'static Operation, Command), Refusal> {
    let name = request.operation()?;
    let operation = OPERATIONS
        .iter()
        .find(|operation| operation.what.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| Refusal::not_implemented("The operation is not supported."))?;
    let resource = Resource::Management(context.path);
    auth::authorize(context.claims, operation.what, resource, context.now)
        .inspect_err(|_| context.metrics.denied(operation.what))
        .map_err(|denied| Refusal::denied(&denied))?;
    check_holder(operation, request, context)?;
    Ok((operation, (operation.command)(request, context)?))
}

/// What a request asks for, if it is something that there is: a name of ours, for logs.
pub fn operation_name(message: &Message) -> &'static str {
    let asked = Request::new(message).operation().unwrap_or_default();
    let names = OPERATIONS.iter().map(|one| one.what.name());
    let names = names.chain(clock::OPERATIONS.iter().map(|one| one.what.name()));
    names.into_iter().find(|name| name.eq_ignore_ascii_case(asked)).unwrap_or("unknown")
}

/// Whether a request names the link through which its client holds a session, and the session, or leaves
/// that to the link. Only then does [`Context::holders`] matter.
pub fn names_holder(message: &Message) -> bool {
    let request = Request::new(message);
    let by_link = auth::Operation::ReceiveBySequenceNumber.name();
    let names_session = request.field("session-id").is_some()
        || request.operation().is_ok_and(|name| name.eq_ignore_ascii_case(by_link));
    names_session && request.associated_link().is_some()
}

/// A client that names the link through which it holds the session must still hold it there: somebody
/// else may by now. Clients that name none are taken at their word; the core sees to it that anybody
/// holds it.
fn check_holder(
    operation: &Operation,
    request: Request<'_>,
    context: &Context<'_>,
) -> Result<(), Refusal> {
    let (Some(link), Some(session)) = (request.associated_link(), request.session()?) else {
        return Ok(());
    };
    let is_holder = |holder: &SessionHolder| *holder.link == *link && holder.session == session;
    if !operation.by_holder || context.holders.iter().any(is_holder) {
        return Ok(());
    }
    Err(Refusal::of(&Error::SessionLockLost))
}

/// Who asks the node of the namespace.
#[derive(Clone, Copy)]
pub struct NamespaceContext<'a> {
    /// What the peer may do.
    pub claims: &'a Claims,
    /// What the broker goes by.
    pub clock: &'a Clock,
    /// What the peer calls the broker.
    pub host: &'a str,
    pub(crate) metrics: &'a Metrics,
}

/// What comes of a request to the node of the namespace.
#[derive(Debug)]
pub enum NamespaceAnswer {
    /// The response.
    Now(Message),
    /// The response, once the driver has done all that is due.
    CaughtUp(Message),
}

/// Reads a request to the node of the namespace and carries it out. All its operations need the right
/// to manage.
pub fn handle_namespace(message: &Message, context: &NamespaceContext<'_>) -> NamespaceAnswer {
    let request = Request::new(message);
    let properties = reply_properties(message);
    let done = prepare_namespace(request, context)
        .and_then(|operation| clock::carry_out(operation, request, context.clock));
    match done {
        Ok(Done { body, steered }) => {
            let response = response::ok(properties, 200, "OK", body);
            if steered {
                NamespaceAnswer::CaughtUp(response)
            } else {
                NamespaceAnswer::Now(response)
            }
        }
        Err(refusal) => NamespaceAnswer::Now(response::refused(properties, &refusal, context.host)),
    }
}

fn prepare_namespace(
    request: Request<'_>,
    context: &NamespaceContext<'_>,
) -> Result<clock::Operation, Refusal> {
    let name = request.operation()?;
    let operation = clock::OPERATIONS
        .iter()
        .find(|operation| operation.what.name().eq_ignore_ascii_case(name))
        .ok_or_else(|| Refusal::not_implemented("The operation is not supported."))?;
    auth::authorize(context.claims, operation.what, Resource::Namespace, context.clock.now())
        .inspect_err(|_| context.metrics.denied(operation.what))
        .map_err(|denied| Refusal::denied(&denied))?;
    Ok(*operation)
}

impl Pending {
    /// How long the client is ready to wait, if it says so. An answer that has not come by then is
    /// [`Pending::timed_out`].
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Whether it changes an entity, or removes messages by the heap.
    pub fn is_change(&self) -> bool {
        matches!(
            self.operation.what,
            auth::Operation::AddRule
                | auth::Operation::RemoveRule
                | auth::Operation::BatchDeleteMessages
        )
    }

    /// The operation's name, for logs.
    pub fn operation(&self) -> &'static str {
        self.operation.what.name()
    }

    /// The response to what the core says.
    pub fn response(self, result: Result<Reply, Error>, host: &str) -> Message {
        let properties = self.properties;
        match result {
            Ok(Reply::Renewed { until }) => renew_lock::response(properties, &until),
            Ok(Reply::Browsed { messages }) => {
                peek_message::response(properties, messages.iter().map(encode::browsed))
            }
            Ok(Reply::Settled | Reply::Enlisted) => update_disposition::response(properties),
            Ok(Reply::Scheduled { sequences }) => {
                schedule_message::response(properties, &sequences)
            }
            Ok(Reply::ScheduledCancelled) => cancel_scheduled_message::response(properties),
            Ok(Reply::DeferredReceived { deliveries }) => {
                receive_by_sequence_number::response(properties, &deliveries, encode::received)
            }
            Ok(Reply::SessionRenewed { until }) => renew_session_lock::response(properties, until),
            Ok(Reply::SessionStateSet) => set_session_state::response(properties),
            Ok(Reply::SessionState { state }) => get_session_state::response(properties, state),
            Ok(Reply::Sessions { sessions, skip }) => {
                get_message_sessions::response(properties, &sessions, skip)
            }
            Ok(Reply::BatchDeleted { count }) => batch_delete_messages::response(properties, count),
            Ok(Reply::OfTopic(reply)) => add_rule::response(properties, &reply, host),
            Ok(
                Reply::QueueEnsured { .. }
                | Reply::QueueDeleted
                | Reply::QueueDescribed(_)
                | Reply::QueuesListed { .. }
                | Reply::SenderOpened { .. }
                | Reply::ReceiverOpened { .. }
                | Reply::ManagementOpened { .. }
                | Reply::SubscriptionFound { .. }
                | Reply::Accepted
                | Reply::Declared { .. }
                | Reply::Discharged,
            ) => {
                warn!(operation = self.operation.what.name(), "a reply that fits no request");
                response::refused(properties, &Refusal::internal(), host)
            }
            Err(error) => response::refused(properties, &Refusal::of(&error), host),
        }
    }

    /// The response when the core took longer than [`Pending::timeout`].
    pub fn timed_out(self, host: &str) -> Message {
        response::refused(self.properties, &Refusal::timeout(), host)
    }
}
