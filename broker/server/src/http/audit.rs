//! Requests that change something, and those that were refused, for the audit log.

use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{HeaderValue, Method, StatusCode, Uri};

use super::atom::{self, paths};
use super::authorize::SERVICE_BUS_AUTHORIZATION;
use super::{HttpContext, HttpPeer, rest};
use crate::audit::{Door, Event, Outcome};
use crate::clock::Clock;

/// Where what concerns the process is asked.
const CONTROL: &str = "$peeklock";

/// What is known of a request when it is answered.
pub(super) struct Asked {
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    token: Option<HeaderValue>,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        let headers = request.headers();
        let token = headers.get(AUTHORIZATION).or(headers.get(SERVICE_BUS_AUTHORIZATION));
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: headers.get(HOST).cloned(),
            token: token.cloned(),
        }
    }

    /// Remembers it, if it is worth that.
    pub(super) fn answered(self, context: &HttpContext, peer: &HttpPeer, status: StatusCode) {
        let audit = &context.settings.audit;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            audit.refused(|| self.event(context, peer, Outcome::Denied).because(status));
        } else if self.is_change() {
            audit.record(if status.is_success() {
                self.event(context, peer, Outcome::Allowed)
            } else {
                self.event(context, peer, Outcome::Failed).because(status)
            });
        }
    }

    fn is_change(&self) -> bool {
        let changes = [Method::PUT, Method::DELETE, Method::POST].contains(&self.method);
        changes && rest::Target::of(&self.method, self.uri.path()).is_none()
    }

    fn event(&self, context: &HttpContext, peer: &HttpPeer, outcome: Outcome) -> Event {
        let path = paths::decode(self.uri.path()).unwrap_or_default();
        let path = path.trim_matches('/');
        let (operation, entity) = match path.split_once('/') {
            Some((CONTROL, rest)) => {
                let (what, about) = rest.split_once('/').unwrap_or((rest, ""));
                (format!("{} /{CONTROL}/{what}", self.method), about)
            }
            _ if rest::Target::of(&self.method, self.uri.path()).is_some() => {
                (format!("{} messages", self.method), path)
            }
            _ => (atom::operation_name(path, &self.method).to_owned(), path),
        };
        let text = |header: &Option<HeaderValue>| {
            header.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let who = text(&self.token)
            .and_then(|token| context.settings.authority.who_shows(&token, Clock::real().now()));
        Event::new(Door::Http, operation, outcome)
            .who(who)
            .from(peer.address, &text(&self.host).unwrap_or_default())
            .about(entity)
    }
}
