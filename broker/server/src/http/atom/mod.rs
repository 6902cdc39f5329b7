//! The management API that every SDK's administration client speaks: Atom and XML over HTTP.
//!
//! A request is taken apart here (`paths`), allowed or not ([`super::authorize`]), and passed to the
//! kind of thing it is about: `queue`, `topic`, `subscription`, `rule`, `namespace`. Clients differ in
//! what they read of the answers, so elements, their order and their prefixes are as the service
//! writes them.

mod access;
mod call;
mod entry;
pub(crate) mod error;
mod feed;
mod limits;
mod namespace;
pub(super) mod paths;
mod properties;
mod queue;
pub(crate) mod rule;
mod subscription;
#[cfg(test)]
mod tests;
pub(crate) mod time;
mod topic;
pub(crate) mod values;
pub(crate) mod xml;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, HOST, IF_MATCH, SERVER};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;
use peeklock_core::entity::path::EntityPath;
use tracing::{debug, info};

use self::call::{Call, Found, Intent, Listed};
use self::entry::{Entry, Place};
use self::error::Fault;
use self::feed::Feed;
use self::limits::BODY_BYTES_MAX;
use self::paths::{Query, Target};
use self::xml::{Element, Space};
use super::HttpContext;
use super::authorize::Caller;
use super::body::read_body;
use crate::auth::Operation;

const ENTRY_TYPE: &str = "application/atom+xml;type=entry;charset=utf-8";
const FEED_TYPE: &str = "application/atom+xml;type=feed;charset=utf-8";
pub(super) const ERROR_TYPE: &str = "application/xml; charset=utf-8";

/// The name under which the broker answers.
pub(super) const SERVER_NAME: &str = "Peeklock";

/// A good answer.
enum Answer {
    Entry { status: StatusCode, entry: Entry },
    Page(Listed),
    Nothing,
    Deleted,
}

/// Answers whatever no other route takes: all paths are those of entities, or might be.
pub(super) async fn answer(State(context): State<HttpContext>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let host = host(&head).unwrap_or_default().to_owned();
    let path = paths::decode(head.uri.path()).unwrap_or_default();
    let answered = handle(&context, &head, body, &host, &path).await;
    let (status, content_type, etag, document) = match answered {
        Ok(rendered) => rendered,
        Err(fault) => {
            debug!(status = fault.status.as_u16(), method = %head.method, %path, "refused");
            (fault.status, ERROR_TYPE, None, fault.document(&host, &path))
        }
    };
    let mut response = Response::new(Body::from(document));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
    super::no_page(headers);
    if !content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(&etag).ok()) {
        headers.insert(ETAG, etag);
    }
    response
}

/// Status, type, entity tag and body of an answer.
type Rendered = (StatusCode, &'static str, Option<String>, String);

async fn handle(
    context: &HttpContext,
    head: &Parts,
    body: Body,
    host: &str,
    path: &str,
) -> Result<Rendered, Fault> {
    if host.is_empty() {
        return Err(Fault::invalid("The Host header is missing, or is not one."));
    }
    let now = context.settings.clock.now();
    let authority = &*context.settings.authority;
    let metrics = &*context.settings.metrics;
    let caller = Caller { headers: &head.headers, authority, host, now, metrics };
    let target = Target::of(path);
    caller.may(operation(target, &head.method), path)?;
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let call = Call { caller, gateway: &context.gateway, path, query };
    let answer = match head.method {
        Method::GET => get(&call, target, context).await?,
        Method::PUT => {
            let intent = intent(&head.headers)?;
            let body = read_body(body, BODY_BYTES_MAX).await.map_err(Fault::unread)?;
            let answer = put(&call, target, &xml::parse(&body)?, intent).await?;
            info!(%path, created = intent == Intent::Create, "an entity or rule was set");
            answer
        }
        Method::DELETE => {
            let answer = delete(&call, target).await?;
            info!(%path, "an entity or rule was deleted");
            answer
        }
        _ => return Err(Fault::method()),
    };
    Ok(render(&call, answer))
}

/// What a request asks for, in a word of ours.
pub(super) fn operation_name(path: &str, method: &Method) -> &'static str {
    operation(Target::of(path), method).name()
}

/// What a request is to those who allow it.
fn operation(target: Target<'_>, method: &Method) -> Operation {
    let other = Operation::OtherVerb;
    let [get, put, delete] = match target {
        Target::NamespaceInfo => [Operation::GetNamespaceInfo, other, other],
        Target::Queues => [Operation::ListQueues, other, other],
        Target::Topics => [Operation::ListTopics, other, other],
        Target::Entity(_) => [Operation::GetEntity, Operation::PutEntity, Operation::DeleteEntity],
        Target::Subscriptions(_) => [Operation::ListSubscriptions, other, other],
        Target::Subscription(..) => {
            [Operation::GetSubscription, Operation::PutSubscription, Operation::DeleteSubscription]
        }
        Target::Rules(..) => [Operation::ListRules, other, other],
        Target::Rule(..) => [Operation::GetRule, Operation::PutRule, Operation::DeleteRule],
    };
    match *method {
        Method::GET => get,
        Method::PUT => put,
        Method::DELETE => delete,
        _ => other,
    }
}

/// Whether a document is one.
#[cfg(test)]
pub(super) fn is_readable(document: &[u8]) -> bool {
    xml::parse(document).is_ok()
}

async fn get(call: &Call<'_>, target: Target<'_>, context: &HttpContext) -> Result<Answer, Fault> {
    let found = match target {
        Target::NamespaceInfo => Some(namespace::entry(call.host(), context.started_at)),
        Target::Queues => return Ok(Answer::Page(queue::list(call, call.query.page()?).await?)),
        Target::Topics => return Ok(Answer::Page(topic::list(call, call.query.page()?).await?)),
        Target::Subscriptions(topic) => {
            let topic = entity(topic).ok_or_else(|| Fault::missing(topic))?;
            let page = call.query.page()?;
            return Ok(Answer::Page(subscription::list(call, topic, page).await?));
        }
        Target::Rules(topic, name) => {
            let path = subscription_path(topic, name).ok_or_else(|| Fault::missing(name))?;
            return Ok(Answer::Page(rule::list(call, path, call.query.page()?).await?));
        }
        Target::Entity(name) => match entity(name) {
            Some(path) => match queue::find(call, path.clone()).await? {
                Some(entry) => Some(entry),
                None => topic::find(call, path).await?,
            },
            None => None,
        },
        Target::Subscription(topic, name) => match subscription_path(topic, name) {
            Some(path) => subscription::find(call, path).await?,
            None => None,
        },
        Target::Rule(topic, name, rule) => match subscription_path(topic, name) {
            Some(path) => rule::find(call, path, rule).await?,
            None => None,
        },
    };
    // Not 404: some tools ask for what is there by the status alone, and know this one.
    let found = found.map(|entry| Answer::Entry { status: StatusCode::OK, entry });
    Ok(found.unwrap_or(Answer::Nothing))
}

async fn put(
    call: &Call<'_>,
    target: Target<'_>,
    document: &Element,
    intent: Intent,
) -> Result<Answer, Fault> {
    let description = description(document)?;
    let name = description.name.as_str();
    let bad_name = || Fault::invalid("The name of the entity is not valid.");
    let entry = match target {
        Target::Entity(path) if name == queue::DESCRIPTION => {
            queue::put(call, entity(path).ok_or_else(bad_name)?, description, intent).await?
        }
        Target::Entity(path) if name == topic::DESCRIPTION => {
            topic::put(call, entity(path).ok_or_else(bad_name)?, description, intent).await?
        }
        Target::Subscription(topic, path) if name == subscription::DESCRIPTION => {
            let path = subscription_path(topic, path).ok_or_else(bad_name)?;
            subscription::put(call, path, description, intent).await?
        }
        Target::Rule(topic, path, rule) if name == rule::DESCRIPTION => {
            let path = subscription_path(topic, path).ok_or_else(bad_name)?;
            rule::put(call, path, rule, description, intent).await?
        }
        Target::Entity(_) | Target::Subscription(..) | Target::Rule(..) => {
            let text = format!("A {name} cannot be at this address.");
            return Err(Fault::invalid(text));
        }
        Target::NamespaceInfo
        | Target::Queues
        | Target::Topics
        | Target::Subscriptions(_)
        | Target::Rules(..) => return Err(Fault::method()),
    };
    let is_new = intent == Intent::Create;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Answer::Entry { status, entry })
}

async fn delete(call: &Call<'_>, target: Target<'_>) -> Result<Answer, Fault> {
    let found = match target {
        Target::Entity(name) => {
            let path = entity(name).ok_or_else(Fault::not_hosted)?;
            match queue::delete(call, path.clone()).await? {
                Found::Yes => Found::Yes,
                Found::No => topic::delete(call, path).await?,
            }
        }
        Target::Subscription(topic, name) => {
            let path = subscription_path(topic, name).ok_or_else(Fault::not_hosted)?;
            subscription::delete(call, path).await?
        }
        Target::Rule(topic, name, rule) => {
            let path = subscription_path(topic, name).ok_or_else(Fault::not_hosted)?;
            rule::delete(call, path, rule).await?
        }
        Target::NamespaceInfo
        | Target::Queues
        | Target::Topics
        | Target::Subscriptions(_)
        | Target::Rules(..) => return Err(Fault::method()),
    };
    match found {
        Found::Yes => Ok(Answer::Deleted),
        Found::No => Err(Fault::not_hosted()),
    }
}

fn render(call: &Call<'_>, answer: Answer) -> Rendered {
    let namespace = namespace::name(call.host());
    let now = call.caller.now;
    match answer {
        Answer::Entry { status, entry } => {
            // The service names these two by the scheme of AMQP, and SDKs were written to that.
            let is_below = !entry.has_author && status == StatusCode::OK;
            let id = call.url(if is_below { "sb" } else { "https" });
            let link = call.url("https");
            let document = entry.document(Place { id: &id, link: &link, namespace, base: None });
            let is_known = status == StatusCode::OK || !entry.has_author;
            let etag = is_known.then(|| time::ticks_of(entry.updated).to_string());
            (status, ENTRY_TYPE, etag, document)
        }
        Answer::Page(Listed { title, entries, next }) => {
            let base = format!("https://{}/", call.host());
            let address = |page| format!("{base}{}{}", call.path, call.query.with_page(page));
            // Subscriptions and rules stand below what was asked for, spelled as it was.
            let below = entries.first().is_some_and(|entry| !entry.has_author);
            let parent = if below { format!("{base}{}/", call.path) } else { base.clone() };
            let query = call.query.api_version();
            let feed = Feed {
                title,
                url: &call.url("https"),
                next: next.map(|page| address(Some(page))),
                parent: &parent,
                query: &query,
                namespace,
                updated: now,
                entries,
            };
            (StatusCode::OK, FEED_TYPE, None, feed.document())
        }
        Answer::Nothing => {
            (StatusCode::OK, FEED_TYPE, None, feed::nothing_here(now, rand::random()))
        }
        Answer::Deleted => (StatusCode::OK, "", None, String::new()),
    }
}

/// The description that a request brings.
fn description(document: &Element) -> Result<&Element, Fault> {
    let is_entry = document.space == Space::Atom && document.name == "entry";
    let content = document.child(Space::Atom, "content").filter(|_| is_entry);
    let description = content
        .and_then(|content| content.children.iter().find(|child| child.space == Space::ServiceBus));
    description.ok_or_else(|| Fault::invalid("The body is not an Atom entry with a description."))
}

/// Whether a request wants to create something, or to change it.
fn intent(headers: &HeaderMap) -> Result<Intent, Fault> {
    match headers.get(IF_MATCH) {
        None => Ok(Intent::Create),
        Some(value) if value.as_bytes().trim_ascii() == b"*" => Ok(Intent::Update),
        Some(_) => Err(Fault::precondition()),
    }
}

/// The host that the client believes to talk to, if it can be one.
pub(super) fn host(head: &Parts) -> Option<&str> {
    let given = match head.headers.get(HOST) {
        Some(host) => host.to_str().ok()?,
        None => head.uri.authority()?.as_str(),
    };
    let is_plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    (!given.is_empty() && given.chars().all(is_plain)).then_some(given)
}

fn entity(name: &str) -> Option<EntityPath> {
    EntityPath::for_new_entity(name).ok()
}

fn subscription_path(topic: &str, name: &str) -> Option<EntityPath> {
    EntityPath::for_subscription(&entity(topic)?, name).ok()
}
