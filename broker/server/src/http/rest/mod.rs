//! Messages over HTTP, for programs without AMQP: send, one or many at once; receive under a lock or
//! for good; complete, unlock and renew by the lock's token.
//!
//! `target` says which requests these are, `incoming` and `outgoing` are messages as HTTP has them. A
//! lock is no connection's: it can be settled by any request, and by AMQP.

mod error;
mod incoming;
mod json;
pub(super) mod limits;
mod moment;
mod outgoing;
mod permission;
mod properties;
mod target;
#[cfg(test)]
mod tests;
mod trace;

use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, EXPECT, HeaderMap, RETRY_AFTER, SERVER};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use peeklock_core::Delivery;
use peeklock_core::command::{Command, Settlement};
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::error::Error;
use peeklock_core::id::{EntityId, LockToken};
use tracing::{debug, warn};

use self::error::{fault, gone, too_large};
use self::incoming::Messages;
use self::limits::{AT_ONCE_BYTES_MAX, UNWANTED_BYTES_MAX, WAIT_MAX};
use self::permission::Permission;
pub(super) use self::target::Target;
use self::target::Wish;
use self::trace::Traced;
use super::atom::error::Fault;
use super::atom::{self, ERROR_TYPE, SERVER_NAME, paths};
use super::body::{BodyError, discard, read_body_in, skip_body};
use super::gateway::{NotReceived, Room};
use super::{HttpContext, HttpPeer, no_page};
use crate::auth::Claims;
use crate::metrics::Limit;

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
    if let Some(seconds) = fault.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
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
    let permission = Permission::new(&context.settings, &head.headers, host, target);
    permission.check()?;
    let entity = target.entity.as_ref().map_err(|path| Fault::missing(path))?;
    if target.wish != Wish::Send && entity.temporary().is_some() {
        return Err(fault(Error::NotAllowed(TEMPORARY)));
    }
    let traced = Traced::new(context, &head.headers, entity);
    match target.wish {
        Wish::Send => {
            send(context, &permission, entity, &head.headers, body, traced.as_ref()).await
        }
        Wish::PeekLock | Wish::Take => {
            let wait = wait(head.uri.query().unwrap_or_default())?;
            // hyper sees that a peer has left only where it has read all of the request.
            skip_body(body, UNWANTED_BYTES_MAX).await.map_err(Fault::unread)?;
            let peer = head.extensions.get::<HttpPeer>().cloned().unwrap_or_default();
            let delivery = receive(context, &permission, target.wish, entity, wait, &peer).await?;
            let Some(delivery) = delivery else { return Ok(empty(StatusCode::NO_CONTENT)) };
            if let Some(traced) = &traced {
                traced.delivered(&delivery);
            }
            let is_secure = peer.secure || is_behind_tls(&head.headers);
            let scheme = if is_secure { "https" } else { "http" };
            let mut response =
                outgoing::response(&delivery, &format!("{scheme}://{host}/{entity}"));
            let is_locked = target.wish == Wish::PeekLock;
            *response.status_mut() = if is_locked { StatusCode::CREATED } else { StatusCode::OK };
            Ok(response)
        }
        Wish::Complete(token) => {
            settle(context, entity, token, Settlement::Complete, traced.as_ref()).await
        }
        Wish::Unlock(token) => {
            let settlement = Settlement::Abandon { changes: Vec::new() };
            settle(context, entity, token, settlement, traced.as_ref()).await
        }
        Wish::Renew(token) => renew(context, entity, token).await,
    }
}

async fn send(
    context: &HttpContext,
    permission: &Permission<'_>,
    entity: &EntityPath,
    headers: &HeaderMap,
    body: &mut Body,
    traced: Option<&Traced<'_>>,
) -> Result<Response, Fault> {
    let gateway = &context.gateway;
    let path = entity.clone();
    let opened = gateway.ask(|origin| Command::OpenSender { origin, path }).await.map_err(fault)?;
    let Reply::SenderOpened { entity, message_bytes_max } = opened else {
        return Err(unfitting(&opened));
    };
    let bytes_max = usize::try_from(message_bytes_max).unwrap_or(usize::MAX);
    let (body, room) = read(context, body, bytes_max).await?;
    let (messages, mut room) = understand(context, headers, body, room).await?;
    let sizes =
        messages.iter().map(|message| usize::try_from(message.size()).unwrap_or(usize::MAX));
    let size = sizes.fold(size_of_val(messages.as_slice()), usize::saturating_add);
    if !room.grow_to(size) {
        return Err(Fault::unread(BodyError::NoRoom));
    }
    // All of this took its time.
    let claims = permission.claims()?;
    admit(context, &claims, messages.len())?;
    let taken = traced.and_then(|traced| traced.taken(&messages));
    let command = move |origin| Command::Send { origin, entity, messages, transaction: None };
    let answer = gateway.ask_in(room, command).await;
    if let (Some(traced), Some(taken)) = (traced, taken) {
        traced.accepted(*taken, &answer);
    }
    match answer.map_err(gone)? {
        Reply::Accepted => Ok(empty(StatusCode::CREATED)),
        other => Err(unfitting(&other)),
    }
}

/// Counts messages for whoever sends them, if that is limited.
fn admit(context: &HttpContext, claims: &Claims, messages: usize) -> Result<(), Fault> {
    let settings = &context.settings;
    if !settings.identities.counts_sends() {
        return Ok(());
    }
    let Some(identity) = claims.identity() else { return Ok(()) };
    let count = u32::try_from(messages).unwrap_or(u32::MAX);
    settings.identities.take_sends(&identity, count, Instant::now()).map_err(|too_fast| {
        let limit = Limit::SendRatePerIdentity;
        settings.metrics.limit_hit(limit);
        debug!(limit = limit.name(), identity, count, "messages are refused");
        error::too_fast(too_fast)
    })
}

/// Reads a body of at most so many octets, as far as there is room for it among all that have come.
async fn read(
    context: &HttpContext,
    body: &mut Body,
    bytes_max: usize,
) -> Result<(Bytes, Room), Fault> {
    // What is said to be too long is not waited for. Nothing else depends on what is said.
    let least = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if bytes_max < least {
        return Err(too_large(bytes_max));
    }
    let mut room = context.gateway.room();
    let read = read_body_in(body, bytes_max, |octets| room.grow_to(octets)).await;
    match read {
        Ok(body) => Ok((body, room)),
        Err(BodyError::TooLarge) => Err(too_large(bytes_max)),
        Err(error) => Err(Fault::unread(error)),
    }
}

/// Makes messages of a body, which has its room until that is done.
async fn understand(
    context: &HttpContext,
    headers: &HeaderMap,
    body: Bytes,
    room: Room,
) -> Result<(Messages, Room), Fault> {
    let now = context.settings.clock.now();
    if body.len() <= AT_ONCE_BYTES_MAX {
        return Ok((incoming::messages(headers, body, now)?, room));
    }
    let turn = context.gateway.turn().await;
    let headers = headers.clone();
    let work = move || {
        let messages = incoming::messages(&headers, body, now);
        drop(turn);
        (messages, room)
    };
    let (messages, room) = tokio::task::spawn_blocking(work).await.map_err(|error| {
        warn!(%error, "a body was not understood");
        Fault::internal()
    })?;
    Ok((messages?, room))
}

/// The next message, if one comes in time to a peer that is still there and still may have it.
async fn receive(
    context: &HttpContext,
    permission: &Permission<'_>,
    wish: Wish,
    entity: &EntityPath,
    wait: Duration,
    peer: &HttpPeer,
) -> Result<Option<Delivery>, Fault> {
    let gateway = &context.gateway;
    let presence = peer.presence.watch();
    // What is dropped here gives back what it may have got.
    let held = tokio::select! {
        held = gateway.receive(entity.clone(), wait) => held,
        why = permission.withdrawn() => return Err(why.into()),
        () = presence.left() => return Err(left()),
        () = peer.stopping() => return Err(fault(Error::ServerBusy("The broker is stopping."))),
    };
    let held = held.map_err(|why| match why {
        NotReceived::Refused(error) => fault(error),
        NotReceived::Ended(error) => gone(error),
    })?;
    let Some(held) = held else { return Ok(None) };
    // It may have come at the very moment.
    if presence.has_left().await {
        return Err(left());
    }
    permission.check()?;
    if wish == Wish::PeekLock {
        return Ok(Some(held.keep()));
    }
    gateway.complete(held).await.map(Some).map_err(fault)
}

/// For the log alone: nobody reads it.
fn left() -> Fault {
    Fault::new(StatusCode::REQUEST_TIMEOUT, 40800, "The peer has closed its connection.")
}

async fn settle(
    context: &HttpContext,
    entity: &EntityPath,
    token: LockToken,
    settlement: Settlement,
    traced: Option<&Traced<'_>>,
) -> Result<Response, Fault> {
    let entity = settled_at(context, entity).await?;
    let given = traced.and_then(|traced| traced.settling(token, &settlement));
    let settled = context.gateway.ask(|origin| {
        let origin = Some(origin);
        Command::Settle { origin, entity, token, settlement, transaction: None }
    });
    let settled = settled.await;
    if let (Some(traced), Some(given)) = (traced, given) {
        traced.settled(given, &settled);
    }
    match settled.map_err(gone)? {
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
