//! What orchestrators and test tools ask: does it live, and would a send and a receive succeed?
//!
//! `/healthz` says that the core answers. `/readyz` and `/health` say that a message was sent and
//! received a moment ago ([`crate::probe`]) and that the broker is not about to stop; `/health` in the
//! words of the Service Bus emulator.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::HttpContext;

/// A core that takes longer for the smallest question is no help to anybody who waits for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

const HEALTHY: &str = r#"{"status":"healthy","message":"Service is healthy."}"#;
const UNHEALTHY: &str =
    r#"{"status":"unhealthy","message":"Service not available. Please try after some time."}"#;

/// Where it is.
pub(super) const PATHS: [&str; 3] = [HEALTH, ALIVE, READY];
const HEALTH: &str = "/health";
const ALIVE: &str = "/healthz";
const READY: &str = "/readyz";

pub(super) fn router() -> Router<HttpContext> {
    Router::new().route(HEALTH, get(health)).route(ALIVE, get(alive)).route(READY, get(ready))
}

async fn health(State(context): State<HttpContext>) -> Response {
    let ready = context.is_ready().await;
    let text = if ready { HEALTHY } else { UNHEALTHY };
    answer(ready, "application/json", text.to_owned())
}

async fn alive(State(context): State<HttpContext>) -> Response {
    let alive = context.is_alive().await;
    let text = if alive { "alive\n" } else { "the core does not answer\n" };
    answer(alive, "text/plain", text.to_owned())
}

async fn ready(State(context): State<HttpContext>) -> Response {
    match context.readiness().await {
        Ok(()) => answer(true, "text/plain", "ready\n".to_owned()),
        Err(reason) => answer(false, "text/plain", format!("{reason}\n")),
    }
}

fn answer(good: bool, content_type: &'static str, text: String) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], text).into_response()
}

impl HttpContext {
    /// The core answers.
    async fn is_alive(&self) -> bool {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.shard.query(|_| ()));
        matches!(asked.await, Ok(Ok(())))
    }

    /// Whether clients should come.
    pub(crate) async fn is_ready(&self) -> bool {
        self.readiness().await.is_ok()
    }

    /// The same, or why not.
    async fn readiness(&self) -> Result<(), String> {
        if self.life.is_draining() {
            return Err("the broker is draining".to_owned());
        }
        self.probe.outcome().await.map_err(|unready| unready.to_string())
    }
}
