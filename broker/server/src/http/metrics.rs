//! `/metrics`: what the broker counts, for Prometheus. The same for every host and on every port.

use axum::extract::Request;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tracing::info;

use super::{HttpPeer, no_page};
use crate::metrics::{self, CONTENT_TYPE as TEXT, Refused};
use crate::namespaces::Namespaces;

/// Where it is.
pub(super) const PATH: &str = "/metrics";

/// Seconds after which a scraper may come again that found another one at work.
const RETRY_AFTER_SECONDS: &str = "5";

/// Whether a request is for this page. A queue may have the same name: administration clients ask for
/// that with the version of their API, and with other methods.
pub(super) fn is_asked(request: &Request) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let has_version = |query: &str| query.split('&').any(|pair| pair.starts_with("api-version="));
    is_read && request.uri().path() == PATH && !request.uri().query().is_some_and(has_version)
}

pub(super) async fn answer(namespaces: &Namespaces, peer: &HttpPeer, request: Request) -> Response {
    let default = namespaces.default().context();
    let metrics = default.metrics();
    if !metrics.is_enabled() {
        return words(StatusCode::NOT_FOUND, "Metrics are switched off.\n".to_owned(), None);
    }
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let allowed = metrics.allow(peer.address, headers, &default.settings.authority, host);
    if let Err(refused) = allowed {
        info!(why = %refused, "somebody who may not wanted to see metrics");
        return refuse(&refused);
    }
    let Some(_turn) = metrics.turn().await else {
        let text = "Somebody else is being answered.\n".to_owned();
        let later = HeaderValue::from_static(RETRY_AFTER_SECONDS);
        return words(StatusCode::SERVICE_UNAVAILABLE, text, Some((RETRY_AFTER, later)));
    };
    let pieces = metrics::scrape(namespaces).await;
    let length = pieces.len();
    let mut answer = Response::new(pieces.into_body());
    let headers: &mut HeaderMap = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    no_page(headers);
    answer
}

fn refuse(refused: &Refused) -> Response {
    let status = refused.status();
    let bearer = HeaderValue::from_static("Bearer realm=\"metrics\"");
    let asks = (status == StatusCode::UNAUTHORIZED).then_some((WWW_AUTHENTICATE, bearer));
    words(status, format!("{refused}\n"), asks)
}

fn words(status: StatusCode, text: String, more: Option<(HeaderName, HeaderValue)>) -> Response {
    let mut answer = (status, [(CACHE_CONTROL, "no-store")], text).into_response();
    answer.headers_mut().extend(more);
    answer
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_queue_may_be_called_metrics() {
        let is_asked = |method, uri: &str| {
            is_asked(&Request::builder().method(method).uri(uri).body(Body::empty()).unwrap())
        };
        assert!(is_asked(Method::GET, "/metrics") && is_asked(Method::HEAD, "/metrics?x=y"));
        assert!(!is_asked(Method::GET, "/metrics?enrich=false&api-version=2021-05"));
        assert!(!is_asked(Method::PUT, "/metrics") && !is_asked(Method::POST, "/metrics/messages"));
        assert!(!is_asked(Method::GET, "/metrics/"));
    }
}
