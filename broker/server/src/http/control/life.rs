//! The life of the process: drain, read the configuration again, change what is logged. In the default
//! namespace alone.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::{Control, Fault, answer, body};
use crate::life::NotReloaded;
use crate::telemetry::LevelError;

pub(super) fn routes(routes: Router<Control>, prefix: &str) -> Router<Control> {
    routes
        .route(&format!("{prefix}/drain"), post(drain))
        .route(&format!("{prefix}/reload"), post(reload))
        .route(&format!("{prefix}/log-level"), get(level).put(set_level))
}

/// A level, as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    level: String,
}

/// Answered before anything ends.
async fn drain(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check_whole(&head)?;
    control.http.life.drain();
    Ok(answer(StatusCode::ACCEPTED, &json!({ "draining": true })))
}

async fn reload(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check_whole(&head)?;
    let reloaded = control.http.life.reload().await?;
    Ok(answer(StatusCode::OK, &json!(reloaded)))
}

async fn level(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check_whole(&head)?;
    Ok(answer(StatusCode::OK, &json!({ "level": control.http.life.log_level().now() })))
}

async fn set_level(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, rest) = request.into_parts();
    control.check_whole(&head)?;
    let asked: Asked = serde_json::from_slice(&body(rest).await?)
        .map_err(|error| Fault::bad(format!("no level: {error}")))?;
    let before = control.http.life.log_level().set(&asked.level)?;
    info!(before, level = asked.level, "the level of the log was changed");
    Ok(answer(StatusCode::OK, &json!({ "level": asked.level, "before": before })))
}

impl From<NotReloaded> for Fault {
    fn from(error: NotReloaded) -> Self {
        let status = match error {
            NotReloaded::NoFile => StatusCode::CONFLICT,
            NotReloaded::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            NotReloaded::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<LevelError> for Fault {
    fn from(error: LevelError) -> Self {
        let status = match error {
            LevelError::Wrong => StatusCode::BAD_REQUEST,
            LevelError::NoLog => StatusCode::CONFLICT,
        };
        Self::new(status, error.to_string())
    }
}
