//! A namespace for each test: made, listed and dropped. They are in memory, and gone with the broker.

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, put};
use serde_json::{Value, json};

use super::super::HttpPeer;
use super::{Control, Fault, answer, body, host};
use crate::config::Wanted;
use crate::namespaces::{MakeError, NamespaceName, Namespaces, WeakNamespaces};

pub(super) fn routes(routes: Router<Control>, prefix: &str) -> Router<Control> {
    routes
        .route(&format!("{prefix}/namespaces"), get(list))
        .route(&format!("{prefix}/namespaces/{{name}}"), put(make).delete(remove))
}

async fn list(State(control): State<Control>, request: Request) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check(&head)?;
    let all: Vec<Value> = control
        .namespaces()?
        .list()
        .into_iter()
        .map(|one| {
            json!({
                "name": one.name.as_str(),
                "made": one.made,
                "connections": one.connections,
            })
        })
        .collect();
    Ok(answer(StatusCode::OK, &json!({ "namespaces": all })))
}

async fn make(
    State(control): State<Control>,
    Path(name): Path<String>,
    Extension(peer): Extension<HttpPeer>,
    request: Request,
) -> Result<Response, Fault> {
    let (head, rest) = request.into_parts();
    control.check(&head)?;
    let namespaces = control.namespaces()?;
    let name: NamespaceName = name.parse().map_err(Fault::bad)?;
    let wanted = Wanted::read(&body(rest).await?).map_err(Fault::bad)?;
    let made = namespaces.make(name, wanted).await?;
    let (rule, key, host) = (made.rule, made.key, host(&head));
    // With this word SDKs do without TLS.
    let plain = if peer.secure { "" } else { "UseDevelopmentEmulator=true;" };
    let connection =
        format!("Endpoint=sb://{host};SharedAccessKeyName={rule};SharedAccessKey={key};{plain}");
    let body = json!({
        "name": rule,
        "connectionString": connection,
        "rule": rule,
        "key": key,
        "virtualTime": made.virtual_time,
    });
    Ok(answer(StatusCode::CREATED, &body))
}

/// Answered when nothing is left of it.
async fn remove(
    State(control): State<Control>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Fault> {
    let (head, _) = request.into_parts();
    control.check(&head)?;
    let name = name.to_ascii_lowercase();
    control.namespaces()?.drop_made(&name).await?;
    Ok(answer(StatusCode::OK, &json!({ "name": name })))
}

impl Control {
    fn namespaces(&self) -> Result<Namespaces, Fault> {
        let all = self.namespaces.get().and_then(WeakNamespaces::upgrade);
        let text = "Namespaces are made and listed in the default one.";
        all.ok_or_else(|| Fault::new(StatusCode::NOT_FOUND, text))
    }
}

impl From<MakeError> for Fault {
    fn from(error: MakeError) -> Self {
        let status = match error {
            MakeError::Off => StatusCode::FORBIDDEN,
            MakeError::Exists => StatusCode::CONFLICT,
            MakeError::TooMany => StatusCode::TOO_MANY_REQUESTS,
            MakeError::NotMade => StatusCode::NOT_FOUND,
            MakeError::Failed(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}
