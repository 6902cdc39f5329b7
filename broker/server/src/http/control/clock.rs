//! The clock of a namespace, as `docs/VIRTUAL-TIME.md` has it for AMQP.

use std::time::UNIX_EPOCH;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use peeklock_core::time::{Span, Timestamp};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::{Control, Fault, answer, body};
use crate::clock::{Reading, SteerError, Step};

pub(super) fn routes(routes: Router<Control>, prefix: &str) -> Router<Control> {
    routes.route(&format!("{prefix}/clock"), get(read).post(steer))
}

/// A step, as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(tag = "operation", rename_all = "lowercase", deny_unknown_fields)]
enum Asked {
    Freeze { time: Option<Moment> },
    Advance { milliseconds: u64 },
    Resume {},
}

/// Milliseconds since 1970, or what RFC 3339 makes of them.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a time is a text as 2026-01-31T12:00:00Z or milliseconds since 1970"
)]
enum Moment {
    Milliseconds(u64),
    Text(String),
}

impl Moment {
    fn timestamp(&self) -> Result<Timestamp, Fault> {
        match self {
            Self::Milliseconds(millis) => Ok(Timestamp(*millis)),
            Self::Text(text) => {
                let wrong =
                    || Fault::bad(format!("{text:?} is not a time as 2026-01-31T12:00:00Z"));
                let time = humantime::parse_rfc3339(text).map_err(|_| wrong())?;
                let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
                u64::try_from(since.as_millis()).map(Timestamp).map_err(|_| wrong())
            }
        }
    }
}

async fn read(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check(&head)?;
    let reading = control.http.settings.clock.reading()?;
    Ok(shown(reading))
}

/// Answered when all is done that the step has made due.
async fn steer(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, rest) = request.into_parts();
    control.check(&head)?;
    let clock = &control.http.settings.clock;
    clock.reading()?;
    let asked = serde_json::from_slice(&body(rest).await?);
    let asked = asked.map_err(|error| Fault::bad(format!("no operation: {error}")))?;
    let step = match asked {
        Asked::Freeze { time } => {
            Step::Freeze { at: time.as_ref().map(Moment::timestamp).transpose()? }
        }
        Asked::Advance { milliseconds } => Step::Advance(Span(milliseconds)),
        Asked::Resume {} => Step::Resume,
    };
    let reading = clock.steer(step)?;
    info!(time = %reading.time, frozen = reading.frozen, "the clock was steered");
    let caught_up = control.http.gateway.catch_up().await;
    caught_up.map_err(|error| Fault::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok(shown(reading))
}

fn shown(reading: Reading) -> Response {
    let moment = UNIX_EPOCH + Span(reading.time.0).as_duration();
    let body = json!({
        "time": humantime::format_rfc3339_millis(moment).to_string(),
        "milliseconds": reading.time.0,
        "state": if reading.frozen { "frozen" } else { "running" },
    });
    answer(StatusCode::OK, &body)
}

impl From<SteerError> for Fault {
    fn from(error: SteerError) -> Self {
        Self::bad(error.to_string())
    }
}
