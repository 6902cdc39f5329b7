//! HTTP/1.1 on the ports of AMQP: what all handlers share, the table of routes, and one connection.
//!
//! Each kind of page has a file or folder of its own. Handlers ask the core through
//! [`HttpContext::shard`] and allow nothing by themselves: see [`crate::auth::authorize`].

pub(crate) mod atom;
mod audit;
pub(crate) mod authorize;
pub(crate) mod body;
pub(crate) mod control;
#[cfg(test)]
mod fuzzing;
pub(crate) mod gateway;
mod health;
mod metrics;
mod presence;
mod rest;
mod websocket;

use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, CONTENT_SECURITY_POLICY, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use peeklock_core::time::Timestamp;
use peeklock_storage::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tower_service::Service;
use tracing::{debug, info};

use self::audit::Asked;
use self::control::Control;
use self::gateway::Gateway;
use self::presence::{Presence, Watched};
use crate::amqp::EndpointSettings;
use crate::config::AllowedOrigins;
use crate::driver::ShardHandle;
use crate::life::Life;
use crate::metrics::{Metrics, Route};
use crate::namespaces::Namespaces;
use crate::probe::Probe;

/// The head of a request: its first line and all its headers. Tokens of identity providers have some
/// kilobytes, and there may be three of them.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Headers of a request. Proxies add some to the dozen that SDKs send.
const HEADERS_MAX: usize = 100;

/// How long a stopping broker waits for requests that it works on.
const LINGER: Duration = Duration::from_secs(2);

/// What every handler needs.
#[derive(Clone)]
pub(crate) struct HttpContext {
    /// The way to the core.
    pub(crate) shard: ShardHandle,
    /// The clock, the authority, and how AMQP is spoken.
    pub(crate) settings: Arc<EndpointSettings>,
    pub(crate) store: Arc<dyn Store>,
    /// Of which web pages the scripts may connect.
    pub(crate) origins: Arc<AllowedOrigins>,
    /// Commands to the core, with their answers.
    pub(crate) gateway: Gateway,
    /// Finds out whether a send and a receive succeed.
    pub(crate) probe: Probe,
    /// What is up with the whole process.
    pub(crate) life: Life,
    /// When the broker began to serve.
    pub(crate) started_at: Timestamp,
}

impl HttpContext {
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.settings.metrics
    }
}

/// Who is at the other end of a connection. Each request has it as an extension.
#[derive(Clone, Debug, Default)]
pub(crate) struct HttpPeer {
    /// Whether it came by TLS.
    secure: bool,
    /// Where it is.
    address: Option<IpAddr>,
    /// Turns true when the broker stops.
    stop: Option<watch::Receiver<bool>>,
    presence: Presence,
    /// Where a handler leaves what the connection is to become when its answer is out, and the host
    /// that was asked for it.
    upgrade: Arc<Mutex<Option<(OnUpgrade, String)>>>,
}

impl HttpPeer {
    pub(crate) fn new(secure: bool, address: IpAddr, stop: watch::Receiver<bool>) -> Self {
        Self { secure, address: Some(address), stop: Some(stop), ..Self::default() }
    }

    /// Waits until the broker stops.
    async fn stopping(&self) {
        if let Some(mut stop) = self.stop.clone()
            && stop.wait_for(|stop| *stop).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }

    fn become_of(&self, upgrade: OnUpgrade, host: String) {
        *self.upgrade.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, host));
    }

    fn upgrade(&self) -> Option<(OnUpgrade, String)> {
        self.upgrade.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// All routes. What none of them takes is the path of an entity, or of nothing.
pub(crate) fn router(control: Control) -> Router {
    let context = control.http.clone();
    Router::new()
        .merge(health::router())
        .merge(websocket::router())
        .fallback(answer)
        .with_state(context)
        .merge(control::router(control))
}

/// Answers whatever no other route takes: all paths are those of entities and their messages, or might
/// be.
async fn answer(State(context): State<HttpContext>, request: Request) -> Response {
    match rest::Target::of(request.method(), request.uri().path()) {
        Some(target) => rest::answer(&context, &target, request).await,
        None => atom::answer(State(context), request).await,
    }
}

/// Who answers a request, for those who count.
fn route_of(request: &Request) -> Route {
    let path = request.uri().path();
    if metrics::is_asked(request) {
        Route::Metrics
    } else if health::PATHS.contains(&path) {
        Route::Health
    } else if websocket::is_asked(path) {
        Route::Websocket
    } else if control::is_asked(path) {
        Route::Control
    } else if rest::Target::of(request.method(), path).is_some() {
        Route::Rest
    } else {
        Route::Atom
    }
}

/// Says that an answer is data: no browser is to take it for a page, nor run what is in it.
fn no_page(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let nothing = "default-src 'none'; sandbox";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(nothing));
}

/// Serves the requests of one connection to its end, or until it becomes something else, and for which
/// host. The head of each must come within a time, which counts from the end of the one before it.
pub(crate) async fn serve<S>(
    stream: S,
    routes: Routes,
    peer: HttpPeer,
    head_within: Duration,
    mut stop: watch::Receiver<bool>,
) -> Option<(Upgraded, String)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    debug!("connected by HTTP");
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(head_within)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let service = WithPeer { routes, peer: peer.clone() };
    let stream = Watched::new(stream, peer.presence.clone());
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = pin!(connection.with_upgrades());
    let ended = tokio::select! {
        result = &mut connection => Some(result),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    let ended = if let Some(result) = ended {
        Ok(result)
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(LINGER, connection).await
    };
    match ended {
        Ok(Ok(())) => debug!("disconnected"),
        Ok(Err(error)) => debug!(%error, "the connection was lost"),
        Err(_) => info!("a request took too long for a broker that stops, it is cut off"),
    }
    let (upgrade, host) = peer.upgrade()?;
    match upgrade.await {
        Ok(upgraded) => Some((upgraded, host)),
        Err(error) => {
            debug!(%error, "the connection was lost before it became a WebSocket");
            None
        }
    }
}

/// Why a whole connection is refused.
pub(crate) type Refused = (StatusCode, &'static str);

/// There is room for no more.
pub(crate) const TOO_MANY_CONNECTIONS: Refused = (
    StatusCode::SERVICE_UNAVAILABLE,
    "The maximum number of connections to this broker is reached.\n",
);

/// Keys and messages would be readable on the way.
pub(crate) const NO_PLAIN_TEXT: Refused =
    (StatusCode::FORBIDDEN, "This broker is to be reached by https from other machines.\n");

/// What a refused connection gets, once.
pub(crate) fn refusing((status, text): Refused) -> Routes {
    Routes::One(Router::new().fallback(async move || (status, [(CONNECTION, "close")], text)))
}

/// Who answers the requests of a connection.
#[derive(Clone)]
pub(crate) enum Routes {
    /// Whatever namespace each of them is for.
    Of(Namespaces),
    /// The same for all.
    One(Router),
}

/// The routes for one peer.
#[derive(Clone)]
struct WithPeer {
    routes: Routes,
    peer: HttpPeer,
}

impl Service<hyper::Request<hyper::body::Incoming>> for WithPeer {
    type Response = Response;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Self::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        // A router always is.
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: hyper::Request<hyper::body::Incoming>) -> Self::Future {
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(self.peer.clone());
        // There may have been a length as well, which a proxy before us may have gone by. What comes
        // behind such a body is then not what somebody meant to ask (RFC 9112 §6.1).
        let is_last = request.headers().contains_key(TRANSFER_ENCODING);
        let (routes, peer) = (self.routes.clone(), self.peer.clone());
        let counted = match &routes {
            Routes::Of(namespaces) => {
                let metrics = Arc::clone(namespaces.default().context().metrics());
                Some((metrics, route_of(&request)))
            }
            Routes::One(_) => None,
        };
        Box::pin(async move {
            let mut answer = match routes {
                Routes::Of(namespaces) if metrics::is_asked(&request) => {
                    metrics::answer(&namespaces, &peer, request).await
                }
                Routes::Of(namespaces) => {
                    let namespace = namespaces.of_request(&request);
                    let asked = Asked::of(&request);
                    let answer = namespace.routes().call(request).await?;
                    asked.answered(namespace.context(), &peer, answer.status());
                    answer
                }
                Routes::One(mut routes) => routes.call(request).await?,
            };
            if let Some((metrics, route)) = counted {
                metrics.answered(route, answer.status());
            }
            if is_last {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    }
}
