//! Faults: something goes wrong for the links of a namespace, now or the next so many times.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use peeklock_core::{EntityPath, MessageSessionId};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;

use super::{Control, Fault, answer, body};
use crate::driver::{Input, Stopped};
use crate::faults::{Armed, Faults, Kind, Moment, Sudden, SuddenKind};

/// Longer than any client waits for an answer.
const DELAY_MAX: Duration = Duration::from_mins(10);

/// More than any test counts.
const TIMES_MAX: u32 = 1_000_000;

pub(super) fn routes(routes: Router<Control>, prefix: &str) -> Router<Control> {
    routes.route(&format!("{prefix}/faults"), post(add).get(list).delete(clear))
}

/// A fault, as it is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    fault: Name,
    entity: Option<String>,
    on: Option<On>,
    times: Option<u32>,
    milliseconds: Option<u64>,
    session: Option<String>,
    #[serde(default)]
    now: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    DropConnection,
    DropLink,
    Delay,
    ServerBusy,
    LockLost,
    SessionLockLost,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum On {
    Attach,
    Send,
    Receive,
    Settle,
}

impl From<On> for Moment {
    fn from(on: On) -> Self {
        match on {
            On::Attach => Self::Attach,
            On::Send => Self::Send,
            On::Receive => Self::Receive,
            On::Settle => Self::Settle,
        }
    }
}

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Later(Armed),
    Now(Sudden),
}

impl Asked {
    fn wanted(self) -> Result<Wanted, Fault> {
        let entity = self.entity.as_deref().map(entity).transpose()?;
        let name = self.fault;
        if self.session.is_some() && name != Name::SessionLockLost {
            return Err(Fault::bad("A session is for \"session-lock-lost\" alone."));
        }
        if self.milliseconds.is_some() != (name == Name::Delay) {
            return Err(Fault::bad("\"delay\" has milliseconds, and nothing else has."));
        }
        if self.now || name == Name::SessionLockLost {
            let kind = match name {
                Name::DropConnection => SuddenKind::DropConnection,
                Name::DropLink => SuddenKind::DropLink,
                Name::SessionLockLost => {
                    SuddenKind::SessionLockLost(self.session.as_deref().map(session).transpose()?)
                }
                Name::Delay | Name::ServerBusy | Name::LockLost => {
                    return Err(Fault::bad("That cannot happen now: it waits for its moment."));
                }
            };
            if self.on.is_some() || self.times.is_some() {
                return Err(Fault::bad("What happens now has no moment and no times."));
            }
            return Ok(Wanted::Now(Sudden { kind, entity }));
        }
        let kind = match name {
            Name::DropConnection => Kind::DropConnection,
            Name::DropLink => Kind::DropLink,
            Name::ServerBusy => Kind::ServerBusy,
            Name::Delay => Kind::Delay(Duration::from_millis(self.milliseconds.unwrap_or(0))),
            Name::LockLost | Name::SessionLockLost => Kind::LockLost,
        };
        if matches!(kind, Kind::Delay(time) if DELAY_MAX < time) {
            return Err(Fault::bad("A delay is ten minutes at the most."));
        }
        let usual = if kind == Kind::LockLost { Moment::Settle } else { Moment::Send };
        let on = self.on.map_or(usual, Moment::from);
        if !kind.fits(on) {
            return Err(Fault::bad(format!("{kind} cannot happen on {on}.")));
        }
        let left = self.times.unwrap_or(1);
        if left == 0 || TIMES_MAX < left {
            return Err(Fault::bad(format!("times is between 1 and {TIMES_MAX}.")));
        }
        Ok(Wanted::Later(Armed { kind, on, entity, left }))
    }
}

fn entity(text: &str) -> Result<EntityPath, Fault> {
    let parsed = EntityPath::parse(text)
        .map_err(|error| Fault::bad(format!("{text:?} is no entity: {error}")))?;
    Ok(parsed.path)
}

fn session(text: &str) -> Result<MessageSessionId, Fault> {
    MessageSessionId::new(text).ok_or_else(|| Fault::bad("The id of the session is too long."))
}

async fn add(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, rest) = request.into_parts();
    control.check(&head)?;
    let faults = control.faults()?;
    let asked: Result<Asked, _> = serde_json::from_slice(&body(rest).await?);
    let asked = asked.map_err(|error| Fault::bad(format!("no fault: {error}")))?;
    match asked.wanted()? {
        Wanted::Later(fault) => {
            info!(fault = %fault.kind, on = %fault.on, times = fault.left, "a fault waits");
            let shown = shown(&fault);
            let id = faults
                .arm(fault)
                .map_err(|error| Fault::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()))?;
            let mut body = shown;
            body["id"] = json!(id);
            Ok(answer(StatusCode::CREATED, &body))
        }
        Wanted::Now(fault) => {
            info!(fault = ?fault.kind, "a fault is injected");
            let told = control.http.shard.send(Input::Fault(fault));
            told.map_err(|error @ Stopped| {
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            })?;
            Ok(answer(StatusCode::OK, &json!({})))
        }
    }
}

async fn list(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check(&head)?;
    let all: Vec<Value> = control
        .faults()?
        .list()
        .into_iter()
        .map(|(id, fault)| {
            let mut shown = shown(&fault);
            shown["id"] = json!(id);
            shown
        })
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "faults": all })))
}

async fn clear(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check(&head)?;
    control.faults()?.clear();
    Ok(answer(StatusCode::OK, &json!({})))
}

fn shown(fault: &Armed) -> Value {
    let mut shown = json!({
        "fault": fault.kind.to_string(),
        "on": fault.on.to_string(),
        "entity": fault.entity.as_ref().map(ToString::to_string),
        "times": fault.left,
    });
    if let Kind::Delay(time) = fault.kind {
        shown["milliseconds"] = json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }
    shown
}

impl Control {
    fn faults(&self) -> Result<&Arc<Faults>, Fault> {
        let text = "This broker was started without --test-control.";
        self.faults.as_ref().ok_or_else(|| Fault::new(StatusCode::FORBIDDEN, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(json: &str) -> Result<Wanted, String> {
        let asked: Asked = serde_json::from_str(json).map_err(|error| error.to_string())?;
        asked.wanted().map_err(|fault| fault.text)
    }

    #[track_caller]
    fn check_later(json: &str, kind: Kind, on: Moment, left: u32) {
        let Wanted::Later(fault) = wanted(json).unwrap() else { panic!("{json} happens now") };
        assert_eq!((fault.kind, fault.on, fault.left), (kind, on, left), "{json}");
    }

    #[test]
    fn what_is_left_out_is_what_is_usual() {
        check_later(r#"{"fault": "server-busy"}"#, Kind::ServerBusy, Moment::Send, 1);
        check_later(r#"{"fault": "lock-lost", "times": 3}"#, Kind::LockLost, Moment::Settle, 3);
        let drop = r#"{"fault": "drop-link", "on": "receive"}"#;
        check_later(drop, Kind::DropLink, Moment::Receive, 1);
        let delay = r#"{"fault": "delay", "milliseconds": 250, "on": "settle"}"#;
        check_later(delay, Kind::Delay(Duration::from_millis(250)), Moment::Settle, 1);
        let now = wanted(r#"{"fault": "drop-link", "now": true, "entity": "q"}"#).unwrap();
        let expected = Sudden { kind: SuddenKind::DropLink, entity: entity("q").ok() };
        assert_eq!(now, Wanted::Now(expected));
        let session = wanted(r#"{"fault": "session-lock-lost", "session": "s"}"#).unwrap();
        let kind = SuddenKind::SessionLockLost(MessageSessionId::new("s"));
        assert_eq!(session, Wanted::Now(Sudden { kind, entity: None }));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for json in [
            r"{}",
            r#"{"fault": "fire"}"#,
            r#"{"fault": "delay"}"#,
            r#"{"fault": "delay", "milliseconds": 700000}"#,
            r#"{"fault": "drop-link", "milliseconds": 1}"#,
            r#"{"fault": "server-busy", "on": "settle"}"#,
            r#"{"fault": "lock-lost", "on": "send"}"#,
            r#"{"fault": "lock-lost", "now": true}"#,
            r#"{"fault": "drop-link", "now": true, "times": 2}"#,
            r#"{"fault": "drop-link", "times": 0}"#,
            r#"{"fault": "drop-link", "times": 1000001}"#,
            r#"{"fault": "drop-link", "session": "s"}"#,
            r#"{"fault": "drop-link", "entity": ""}"#,
            r#"{"fault": "drop-link", "whatever": 1}"#,
        ] {
            assert!(wanted(json).is_err(), "{json}");
        }
    }
}
