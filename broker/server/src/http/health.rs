//! What orchestrators and test tools ask: does it live, and would a send succeed?
//!
//! `/healthz` says that the core answers. `/readyz` and `/health` say in addition that the store takes
//! sends, as the ready line does; `/health` in the words of the Service Bus emulator.

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
    answer(ready, "application/json", text)
}

async fn alive(State(context): State<HttpContext>) -> Response {
    let alive = context.is_alive().await;
    answer(alive, "text/plain", if alive { "alive\n" } else { "the core does not answer\n" })
}

async fn ready(State(context): State<HttpContext>) -> Response {
    let ready = context.is_ready().await;
    answer(ready, "text/plain", if ready { "ready\n" } else { "sends are not taken\n" })
}

fn answer(good: bool, content_type: &'static str, text: &'static str) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")], text).into_response()
}

impl HttpContext {
    /// The core answers.
    async fn is_alive(&self) -> bool {
        let asked = tokio::time::timeout(ANSWER_WITHIN, self.shard.query(|_| ()));
        matches!(asked.await, Ok(Ok(())))
    }

    /// A send would succeed.
    pub(crate) async fn is_ready(&self) -> bool {
        self.store.sends_allowed() && self.is_alive().await
    }
}
