//! Backups of the whole broker: begun, and looked at. Only in the default namespace.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

use super::{Control, Fault, answer};
use crate::backup::Refusal;

pub(super) fn routes(routes: Router<Control>, prefix: &str) -> Router<Control> {
    routes.route(&format!("{prefix}/backup"), get(show).post(begin))
}

/// Answered when it has begun: it may take longer than anybody waits.
async fn begin(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check_whole(&head)?;
    let name = control.backups.begin()?;
    Ok(answer(StatusCode::ACCEPTED, &json!({ "name": name })))
}

async fn show(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check_whole(&head)?;
    let backups = Arc::clone(&control.backups);
    let failed = |error: &dyn std::fmt::Display| {
        Fault::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    };
    let status = tokio::task::spawn_blocking(move || backups.status()).await;
    let status = status.map_err(|error| failed(&error))?;
    let body = serde_json::to_value(status).map_err(|error| failed(&error))?;
    Ok(answer(StatusCode::OK, &body))
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Off | Refusal::InMemory => StatusCode::FORBIDDEN,
            Refusal::Running(_) => StatusCode::CONFLICT,
            Refusal::Thread(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.to_string())
    }
}
