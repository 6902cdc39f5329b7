//! `/$peeklock/…`: what operators and tests do to a broker. JSON both ways.
//!
//! Each request needs the right Manage on the namespace that it is for.

mod backup;
mod clock;
mod faults;
mod life;
mod namespaces;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::HttpContext;
use super::authorize::Caller;
use super::body::{BodyError, read_body};
use crate::auth::Operation;
use crate::backup::Backups;
use crate::clock::Clock;
use crate::faults::Faults;
use crate::namespaces::WeakNamespaces;

/// Bytes of a body: hundreds of entities with all their settings.
const BODY_BYTES_MAX: usize = 256 * 1024;

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) http: HttpContext,
    /// All namespaces, given to the default one.
    pub(crate) namespaces: Arc<OnceLock<WeakNamespaces>>,
    /// What goes wrong in the namespace, if tests may want that.
    pub(crate) faults: Option<Arc<Faults>>,
    pub(crate) backups: Arc<Backups>,
}

/// Not all clients leave the dollar sign as it is.
const PREFIXES: [&str; 2] = ["/$peeklock", "/%24peeklock"];

/// Whether a path is below one of these.
pub(super) fn is_asked(path: &str) -> bool {
    let below = |prefix| path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    PREFIXES.into_iter().any(below)
}

pub(super) fn router(control: Control) -> Router {
    let mut routes = Router::new();
    for prefix in PREFIXES {
        routes = namespaces::routes(routes, prefix);
        routes = backup::routes(routes, prefix);
        routes = clock::routes(routes, prefix);
        routes = faults::routes(routes, prefix);
        routes = life::routes(routes, prefix);
    }
    routes.with_state(control)
}

/// What a request was answered with if not what it wanted.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    text: String,
}

impl Fault {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }

    fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        answer(self.status, &json!({ "error": self.text }))
    }
}

impl From<BodyError> for Fault {
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::Late | BodyError::Broken => StatusCode::BAD_REQUEST,
            BodyError::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let headers: [(HeaderName, &str); 2] =
        [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, format!("{body}\n")).into_response()
}

impl Control {
    /// Who may do this may do everything in the namespace. The token is judged by the time of day:
    /// whoever has moved the clock far ahead must be able to go on.
    fn check(&self, head: &Parts) -> Result<(), Fault> {
        let settings = &self.http.settings;
        let caller = Caller {
            headers: &head.headers,
            authority: &settings.authority,
            host: host(head),
            now: Clock::real().now(),
            metrics: &settings.metrics,
        };
        caller
            .may(Operation::Control, "$peeklock")
            .map_err(|error| Fault::new(StatusCode::UNAUTHORIZED, error.to_string()))
    }
}

impl Control {
    /// The same for what concerns the whole process: that is the default namespace's.
    fn check_whole(&self, head: &Parts) -> Result<(), Fault> {
        self.check(head)?;
        if self.namespaces.get().is_some() {
            return Ok(());
        }
        let text = "This is asked of the default namespace.";
        Err(Fault::new(StatusCode::NOT_FOUND, text))
    }
}

/// The host that a request is for, with its port.
fn host(head: &Parts) -> &str {
    let said = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    said.or(head.uri.authority().map(Authority::as_str)).unwrap_or_default()
}

async fn body(body: Body) -> Result<bytes::Bytes, Fault> {
    Ok(read_body(body, BODY_BYTES_MAX).await?)
}
