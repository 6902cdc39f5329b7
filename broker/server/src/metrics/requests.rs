//! Requests over HTTP, by what answered them and how.

use axum::http::StatusCode;
use prometheus::{IntCounterVec, Registry};

use super::{Metrics, families};

/// What answers a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Route {
    Atom,
    Rest,
    Health,
    Metrics,
    Control,
    Websocket,
}

impl Route {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Atom, "atom"),
        (Self::Rest, "rest"),
        (Self::Health, "health"),
        (Self::Metrics, "metrics"),
        (Self::Control, "control"),
        (Self::Websocket, "websocket"),
    ];
}

/// Of which all have three digits. What is none of them is not counted.
const STATUSES: std::ops::Range<u16> = 100..600;

/// See the module.
pub(super) struct Requests(IntCounterVec);

impl Requests {
    pub(super) fn new(registry: &Registry) -> Self {
        Self(families::HTTP_REQUESTS.counters(registry))
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, route: Route, status: StatusCode) {
        if STATUSES.contains(&status.as_u16()) {
            let (_, route) = Route::ALL[route as usize];
            self.requests.0.with_label_values(&[route, status.as_str()]).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsSettings;
    use crate::metrics::Page;

    #[test]
    fn answers_are_counted_by_route_and_status() {
        let metrics = Metrics::new(MetricsSettings::default());
        for (route, _) in Route::ALL {
            metrics.answered(route, StatusCode::OK);
        }
        for status in [404, 404, 100, 599, 600, 999] {
            metrics.answered(Route::Rest, StatusCode::from_u16(status).unwrap());
        }
        let text = Page::of(metrics.registry()).into_text();
        let line = |route, status, count| {
            format!(
                "peeklock_http_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n"
            )
        };
        for (_, route) in Route::ALL {
            assert!(text.contains(&line(route, 200, 1)), "{text}");
        }
        for (status, count) in [(404, 2), (100, 1), (599, 1)] {
            assert!(text.contains(&line("rest", status, count)), "{text}");
        }
        let count = text.lines().filter(|line| line.starts_with("peeklock_http_requests")).count();
        assert_eq!(count, 6 + 3, "{text}");
    }
}
