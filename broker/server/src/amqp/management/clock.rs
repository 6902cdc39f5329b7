//! `io.peeklock:*-clock`: reading and steering the clock of a broker with virtual time, at the node
//! of the namespace. `docs/VIRTUAL-TIME.md` describes them for those who call them.

use peeklock_core::time::{Span, Timestamp};
use peeklock_protocol::value::{Map, Value};
use tracing::info;

use super::super::condition::Refusal;
use super::request::{Request, wrong};
use crate::auth;
use crate::clock::{Clock, Reading, SteerError, Step};

/// One operation: what it is to those who allow it, and the step that a request asks for. Reading is no step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    pub(super) what: auth::Operation,
    step: fn(Request<'_>) -> Result<Option<Step>, Refusal>,
}

/// All there are.
pub(super) static OPERATIONS: [Operation; 4] = [
    Operation { what: auth::Operation::ReadClock, step: |_| Ok(None) },
    Operation {
        what: auth::Operation::FreezeClock,
        step: |request| Ok(Some(Step::Freeze { at: moment(request)? })),
    },
    Operation {
        what: auth::Operation::AdvanceClock,
        step: |request| Ok(Some(Step::Advance(span(request)?))),
    },
    Operation { what: auth::Operation::ResumeClock, step: |_| Ok(Some(Step::Resume)) },
];

/// What was done.
#[derive(Debug)]
pub(super) struct Done {
    /// The body of the response.
    pub(super) body: Map,
    /// The clock was steered: there may be much that is due now.
    pub(super) steered: bool,
}

/// Does it.
pub(super) fn carry_out(
    operation: Operation,
    request: Request<'_>,
    clock: &Clock,
) -> Result<Done, Refusal> {
    let reading = clock.reading().map_err(|error| refusal(&error))?;
    let Some(step) = (operation.step)(request)? else {
        return Ok(Done { body: shown(reading), steered: false });
    };
    let reading = clock.steer(step).map_err(|error| refusal(&error))?;
    let Reading { time, frozen } = reading;
    info!(operation = operation.what.name(), %time, frozen, "the clock was steered");
    Ok(Done { body: shown(reading), steered: true })
}

fn moment(request: Request<'_>) -> Result<Option<Timestamp>, Refusal> {
    let key = "time";
    let moment = |value: &Value| u64::try_from(value.as_timestamp()?).ok().map(Timestamp);
    request
        .field(key)
        .map(|value| moment(value).ok_or_else(|| wrong(key, "a timestamp since 1970")))
        .transpose()
}

fn span(request: Request<'_>) -> Result<Span, Refusal> {
    let key = "milliseconds";
    let millis = request.integer(key)?.and_then(|millis| u64::try_from(millis).ok());
    millis.map(Span).ok_or_else(|| wrong(key, "an integer that is not negative"))
}

fn shown(reading: Reading) -> Map {
    let state = if reading.frozen { "frozen" } else { "running" };
    Map::new().with("time", Value::Timestamp(reading.time.as_amqp())).with("state", state)
}

fn refusal(error: &SteerError) -> Refusal {
    match error {
        SteerError::Real => Refusal::not_allowed(error.to_string()),
        SteerError::Backwards { .. } | SteerError::TooFar => Refusal::argument(error.to_string()),
    }
}
