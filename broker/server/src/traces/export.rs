//! Spans on their way to a collector: OTLP over HTTP, as JSON.
//!
//! The libraries of OpenTelemetry would bring ten crates, protobuf among them, and still want a client of
//! ours; a batch is one document of a few lines.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::rustls::ClientConfig;
use tracing::{info, warn};

use super::{Attribute, Span};
use crate::auth::{FetchError, Url, post, tls_client};
use crate::config::TracingSettings;
use crate::metrics::{Limit, Metrics};

/// Spans of one request.
const BATCH_MAX: usize = 512;

/// How long a span waits for others.
const GATHER_FOR: Duration = Duration::from_secs(1);

/// Before a collector that was busy is asked once more.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Exporter {
    url: Url,
    tls: Arc<ClientConfig>,
    service: String,
    metrics: Arc<Metrics>,
    /// Whether the collector took the last batch.
    is_well: bool,
}

impl Exporter {
    pub(super) fn new(settings: &TracingSettings, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let url = settings.endpoint.join("/v1/traces");
        let tls = tls_client(settings.ca_file.as_deref())?;
        let service = settings.service_name.clone();
        Ok(Self { url, tls, service, metrics, is_well: true })
    }

    /// Sends what comes, until the end is asked for and nothing is left.
    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Span>, end: Arc<Notify>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let room = BATCH_MAX - batch.len();
            let is_over = tokio::select! {
                biased;
                () = end.notified() => true,
                count = waiting.recv_many(&mut batch, room) => count == 0,
            };
            if is_over {
                while let Ok(span) = waiting.try_recv() {
                    batch.push(span);
                    if batch.len() == BATCH_MAX {
                        self.send(&mut batch).await;
                    }
                }
                self.send(&mut batch).await;
                return;
            }
            // Others join, for as long as there is room.
            let gather = async {
                while batch.len() < BATCH_MAX {
                    let room = BATCH_MAX - batch.len();
                    if waiting.recv_many(&mut batch, room).await == 0 {
                        return;
                    }
                }
            };
            let ended = tokio::select! {
                _ = tokio::time::timeout(GATHER_FOR, gather) => false,
                () = end.notified() => true,
            };
            if ended {
                // To be found again above.
                end.notify_one();
            } else {
                self.send(&mut batch).await;
            }
            if batch.len() == BATCH_MAX {
                self.send(&mut batch).await;
            }
        }
    }

    async fn send(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let body = document(batch, &self.service).to_string();
        let mut sent = post(&self.url, &self.tls, body.clone().into()).await;
        if matches!(&sent, Err(FetchError::Status(status)) if is_for_later(status.as_u16())) {
            tokio::time::sleep(RETRY_AFTER).await;
            sent = post(&self.url, &self.tls, body.into()).await;
        }
        match sent {
            Ok(()) if !self.is_well => info!("spans are exported again"),
            Ok(()) => {}
            Err(error) => {
                if self.is_well {
                    warn!(collector = %self.url, %error, "spans cannot be exported and are dropped");
                }
                for _ in batch.drain(..) {
                    self.metrics.limit_hit(Limit::TraceSpans);
                }
                self.is_well = false;
                return;
            }
        }
        self.is_well = true;
        batch.clear();
    }
}

/// Those after which OTLP has clients try again.
fn is_for_later(status: u16) -> bool {
    matches!(status, 429 | 502..=504)
}

fn document(spans: &[Span], service: &str) -> Value {
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let resource = json!([
        attribute("service.name", &json!({ "stringValue": service })),
        attribute("service.version", &json!({ "stringValue": env!("CARGO_PKG_VERSION") })),
    ]);
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "peeklock" }, "spans": spans }],
    }] })
}

fn span(span: &Span) -> Value {
    let attributes: Vec<Value> = span
        .attributes
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Attribute::Text(text) => json!({ "stringValue": text }),
                // 64 bits are text in JSON of protobuf.
                Attribute::Number(number) => json!({ "intValue": number.to_string() }),
            };
            attribute(key, &value)
        })
        .collect();
    let status = match &span.error {
        Some(error) => json!({ "code": 2, "message": error }),
        None => json!({}),
    };
    json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.id),
        "parentSpanId": format!("{:016x}", span.context.parent),
        "flags": 1,
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": nanoseconds(span.start),
        "endTimeUnixNano": nanoseconds(span.end),
        "attributes": attributes,
        "status": status,
    })
}

fn attribute(key: &str, value: &Value) -> Value {
    json!({ "key": key, "value": value })
}

fn nanoseconds(at: SystemTime) -> String {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}
