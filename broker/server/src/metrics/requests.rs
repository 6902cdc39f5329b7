//! Requests over HTTP, by what answered them and how.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

use super::{Metrics, Page, families};

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

/// A place for each status there can be.
const STATUSES: std::ops::Range<u16> = 100..600;

type Statuses = Box<[AtomicU64]>;

/// See the module.
pub(super) struct Requests([Statuses; Route::ALL.len()]);

impl Requests {
    pub(super) fn new() -> Self {
        Self(Route::ALL.map(|_| STATUSES.map(|_| AtomicU64::new(0)).collect()))
    }

    pub(super) fn write(&self, page: &mut Page) {
        let mut samples = page.family(&families::HTTP_REQUESTS);
        for ((_, name), statuses) in Route::ALL.into_iter().zip(&self.0) {
            for (status, count) in STATUSES.zip(statuses) {
                let count = count.load(Ordering::Relaxed);
                if count != 0 {
                    samples.add(&[name, &status.to_string()], count);
                }
            }
        }
    }
}

impl Metrics {
    /// A request was answered.
    pub(crate) fn answered(&self, route: Route, status: StatusCode) {
        let place = status.as_u16().checked_sub(STATUSES.start).map(usize::from);
        if let Some(count) = place.and_then(|place| self.requests.0[route as usize].get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MetricsSettings;

    #[test]
    fn answers_are_counted_by_route_and_status() {
        let metrics = Metrics::new(MetricsSettings::default());
        for (route, _) in Route::ALL {
            metrics.answered(route, StatusCode::OK);
        }
        for status in [404, 404, 100, 599, 600, 999] {
            metrics.answered(Route::Rest, StatusCode::from_u16(status).unwrap());
        }
        let mut page = Page::default();
        metrics.requests.write(&mut page);
        let text = page.into_text();
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
        assert_eq!(text.lines().count(), 2 + 6 + 3, "{text}");
    }
}
