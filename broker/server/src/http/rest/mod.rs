//! Messages over HTTP, for programs without AMQP: send, one or many at once; receive under a lock or
//! for good; complete, unlock and renew by the lock's token.
//!
//! `target` says which requests these are, `incoming` and `outgoing` are messages as HTTP has them. A
//! lock is no connection's: it can be settled by any request, and by AMQP.

mod error;
mod incoming;
pub(super) mod limits;
mod moment;
mod outgoing;
mod properties;
mod target;

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, EXPECT, HeaderMap, RETRY_AFTER, SERVER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use peeklock_core::command::{Command, Settlement};
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::error::Error;
use peeklock_core::id::{EntityId, LockToken};
use tracing::{debug, warn};

use self::error::{fault, gone, too_large};
use self::limits::WAIT_MAX;
pub(super) use self::target::Target;
use self::target::Wish;
use super::atom::error::Fault;
use super::atom::{self, ERROR_TYPE, SERVER_NAME, paths};
use super::authorize::Caller;
use super::body::{BodyError, discard, read_body};
use super::gateway::NotReceived;
use super::{HttpContext, HttpPeer, no_page};

/// Answers a request about messages.
pub(super) async fn answer(context: &HttpContext, target: &Target, request: Request) -> Response {
    let (head, mut body) = request.into_parts();
    let host = atom::host(&head).unwrap_or_default();
    let mut response = match handle(context, target, &head, &mut body, host).await {
        Ok(response) => response,
        Err(fault) => {
            let path = paths::decode(head.uri.path()).unwrap_or_default();
            debug!(status = fault.status.as_u16(), method = %head.method, %path, "refused");
            // Who asks first does not send it.
            if !head.headers.contains_key(EXPECT) {
                discard(body).await;
            }
            refusal(&fault, host, &path)
        }
    };
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    // A message is what its sender made it.
    no_page(headers);
    response
}

fn refusal(fault: &Fault, host: &str, path: &str) -> Response {
    let mut response = Response::new(Body::from(fault.document(host, path)));
    *response.status_mut() = fault.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(ERROR_TYPE));
    if fault.status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// What was made for a link of AMQP is its connection's.
const TEMPORARY: &str =
    "Only the connection that a temporary entity was made for receives from it.";

async fn handle(
    context: &HttpContext,
    target: &Target,
    head: &Parts,
    body: &mut Body,
    host: &str,
) -> Result<Response, Fault> {
    if host.is_empty() {
        return Err(Fault::invalid("The Host header is missing, or is not one."));
    }
    let now = context.settings.clock.now();
    let authority = &*context.settings.authority;
    let caller = Caller { headers: &head.headers, authority, host, now };
    let (operation, address) = (target.wish.operation(), target.resource());
    let entity = match &target.entity {
        Ok(entity) => {
            caller.may_touch(operation, entity, &address)?;
            entity
        }
        Err(path) => {
            caller.may(operation, &address)?;
            return Err(Fault::missing(path));
        }
    };
    if target.wish != Wish::Send && entity.temporary().is_some() {
        return Err(fault(Error::NotAllowed(TEMPORARY)));
    }
    match target.wish {
        Wish::Send => send(context, entity, &head.headers, body).await,
        Wish::PeekLock | Wish::Take => receive(context, target.wish, entity, head, host).await,
        Wish::Complete(token) => settle(context, entity, token, Settlement::Complete).await,
        Wish::Unlock(token) => {
            let settlement = Settlement::Abandon { changes: Vec::new() };
            settle(context, entity, token, settlement).await
        }
        Wish::Renew(token) => renew(context, entity, token).await,
    }
}

async fn send(
    context: &HttpContext,
    entity: &EntityPath,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<Response, Fault> {
    let gateway = &context.gateway;
    let path = entity.clone();
    let opened = gateway.ask(|origin| Command::OpenSender { origin, path }).await.map_err(fault)?;
    let Reply::SenderOpened { entity, message_bytes_max } = opened else {
        return Err(unfitting(&opened));
    };
    let body =
        read(context, body, usize::try_from(message_bytes_max).unwrap_or(usize::MAX)).await?;
    let messages = incoming::messages(headers, body, context.settings.clock.now())?;
    let sent =
        gateway.ask(|origin| Command::Send { origin, entity, messages, transaction: None }).await;
    match sent.map_err(gone)? {
        Reply::Accepted => Ok(empty(StatusCode::CREATED)),
        other => Err(unfitting(&other)),
    }
}

/// Reads a body of at most so many octets, as far as there is room for it among all that are read.
async fn read(context: &HttpContext, body: &mut Body, bytes_max: usize) -> Result<Bytes, Fault> {
    let hint = body.size_hint();
    let least = usize::try_from(hint.lower()).unwrap_or(usize::MAX);
    if bytes_max < least {
        return Err(too_large(bytes_max));
    }
    let most = hint.upper().and_then(|most| usize::try_from(most).ok()).unwrap_or(bytes_max);
    let Some(_room) = context.gateway.room_for(most.min(bytes_max)) else {
        return Err(fault(Error::ServerBusy("Too many messages are on their way in.")));
    };
    read_body(body, bytes_max).await.map_err(|error| match error {
        BodyError::TooLarge => too_large(bytes_max),
        BodyError::Late | BodyError::Broken => Fault::invalid(error.to_string()),
    })
}

async fn receive(
    context: &HttpContext,
    wish: Wish,
    entity: &EntityPath,
    head: &Parts,
    host: &str,
) -> Result<Response, Fault> {
    let wait = wait(head.uri.query().unwrap_or_default())?;
    let peer = head.extensions.get::<HttpPeer>().cloned().unwrap_or_default();
    let (gateway, path) = (&context.gateway, entity.clone());
    let scheme = if peer.secure || is_behind_tls(&head.headers) { "https" } else { "http" };
    let address = format!("{scheme}://{host}/{entity}");
    let work = async {
        if wish == Wish::Take {
            let taken = gateway.take(path, wait).await?;
            return Ok::<_, NotReceived>(taken.map(|delivery| (StatusCode::OK, delivery)));
        }
        let held = gateway.receive(path, wait).await?;
        Ok(held.map(|held| (StatusCode::CREATED, held.keep())))
    };
    let received = tokio::select! {
        // Dropped when the peer goes away: then nothing is taken.
        received = work => received,
        () = peer.stopping() => Err(Error::ServerBusy("The broker is stopping.").into()),
    };
    let received = received.map_err(|why| match why {
        NotReceived::Refused(error) => fault(error),
        NotReceived::Ended(error) => gone(error),
    });
    let Some((status, delivery)) = received? else {
        return Ok(empty(StatusCode::NO_CONTENT));
    };
    let mut response = outgoing::response(&delivery, &address);
    *response.status_mut() = status;
    Ok(response)
}

async fn settle(
    context: &HttpContext,
    entity: &EntityPath,
    token: LockToken,
    settlement: Settlement,
) -> Result<Response, Fault> {
    let entity = settled_at(context, entity).await?;
    let settled = context.gateway.ask(|origin| {
        let origin = Some(origin);
        Command::Settle { origin, entity, token, settlement, transaction: None }
    });
    match settled.await.map_err(gone)? {
        Reply::Settled => Ok(empty(StatusCode::OK)),
        other => Err(unfitting(&other)),
    }
}

async fn renew(
    context: &HttpContext,
    entity: &EntityPath,
    token: LockToken,
) -> Result<Response, Fault> {
    let entity = settled_at(context, entity).await?;
    let tokens = vec![token];
    let renewed = context.gateway.ask(|origin| Command::RenewLocks { origin, entity, tokens });
    match renewed.await.map_err(gone)? {
        Reply::Renewed { .. } => Ok(empty(StatusCode::OK)),
        other => Err(unfitting(&other)),
    }
}

/// The number of an entity whose locks are meant.
async fn settled_at(context: &HttpContext, path: &EntityPath) -> Result<EntityId, Fault> {
    let path = path.clone();
    let opened = context.gateway.ask(|origin| Command::OpenManagement { origin, path }).await;
    match opened.map_err(fault)? {
        Reply::ManagementOpened { entity, .. } => Ok(entity),
        other => Err(unfitting(&other)),
    }
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn unfitting(reply: &Reply) -> Fault {
    warn!(?reply, "a reply that fits no request");
    Fault::internal()
}

/// How long a request waits for a message.
fn wait(query: &str) -> Result<Duration, Fault> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let given = pairs.into_iter().find(|(key, _)| key.eq_ignore_ascii_case("timeout"));
    let Some((_, seconds)) = given else { return Ok(WAIT_MAX) };
    let seconds: u32 =
        seconds.parse().map_err(|_| Fault::invalid("The timeout is not a number of seconds."))?;
    Ok(Duration::from_secs(seconds.into()).min(WAIT_MAX))
}

/// Whether a proxy says that the peer came to it by TLS. Nothing but the peer's own links depends on it.
fn is_behind_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https")
}
