//! Spans about the life of messages, for those who collect them by OpenTelemetry: accepted, delivered,
//! settled.
//!
//! Only a message is traced that carries the context of a trace which was sampled by whoever began it, in
//! the application property `traceparent` or `Diagnostic-Id` (W3C Trace Context). The property is read and
//! never written: it goes out as it came. Whoever reports a span never waits; what finds no room is
//! counted.

mod context;
mod export;
mod unsettled;

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peeklock_core::{EntityPath, IncomingMessage, LockToken, Settlement, StoredMessage, Timestamp};
use peeklock_protocol::message::Sections;
use tokio::sync::{Mutex, Notify, mpsc};
use tokio::task::JoinHandle;

pub(crate) use self::context::TraceContext;
use self::export::Exporter;
pub(crate) use self::unsettled::Unsettled;
use crate::clock::time_of_day;
use crate::config::TracingSettings;
use crate::metrics::{Limit, Metrics};

/// Spans that wait for the collector: a second of what a busy broker does.
const WAITING_MAX: usize = 8192;

/// How long a stopping broker tries to get rid of its spans.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// What is known of a span's value under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Attribute {
    Text(String),
    Number(u64),
}

/// Whether the broker was asked, or did something by itself; numbers as OTLP has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Internal = 1,
    Server = 2,
}

/// Something that has happened to a message.
#[derive(Clone, Debug)]
struct Span {
    context: TraceContext,
    id: u64,
    name: String,
    kind: Kind,
    start: SystemTime,
    end: SystemTime,
    attributes: Vec<(&'static str, Attribute)>,
    error: Option<String>,
}

/// A delivery whose settlement is to be told, too.
#[derive(Debug)]
pub(crate) struct Given {
    context: TraceContext,
    at: SystemTime,
    /// What the receiver makes of it.
    how: &'static str,
}

impl Given {
    /// Somebody settles what was not seen when it was delivered.
    pub(crate) fn asked_for(context: TraceContext) -> Self {
        Self { context, at: time_of_day(), how: "none" }
    }

    /// The receiver has said what it wants.
    pub(crate) fn settling(self, settlement: &Settlement) -> Self {
        let how = match settlement {
            Settlement::Complete => "complete",
            Settlement::Abandon { .. } => "abandon",
            Settlement::Defer { .. } => "defer",
            Settlement::DeadLetter { .. } => "dead_letter",
            Settlement::Release => "release",
        };
        Self { how, ..self }
    }
}

/// Messages of one delivery of a sender that are traced.
#[derive(Debug)]
pub(crate) struct Taken {
    contexts: Vec<TraceContext>,
    at: SystemTime,
}

/// See the module. Clones share it.
#[derive(Clone)]
pub(crate) struct Tracer(Arc<Desk>);

struct Desk {
    spans: mpsc::Sender<Span>,
    ratio: f64,
    metrics: Arc<Metrics>,
    end: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
    /// What was delivered without a link, or by a connection that is gone: whoever settles it comes by
    /// another way.
    unsettled: std::sync::Mutex<Unsettled>,
}

impl Tracer {
    /// Sends spans to a collector from now on.
    pub(crate) fn start(settings: &TracingSettings, metrics: Arc<Metrics>) -> anyhow::Result<Self> {
        let (spans, waiting) = mpsc::channel(WAITING_MAX);
        let end = Arc::new(Notify::new());
        let exporter = Exporter::new(settings, Arc::clone(&metrics))?;
        let task = tokio::spawn(exporter.run(waiting, Arc::clone(&end)));
        let (ratio, task) = (settings.sample_ratio, Mutex::new(Some(task)));
        let unsettled = std::sync::Mutex::default();
        Ok(Self(Arc::new(Desk { spans, ratio, metrics, end, task, unsettled })))
    }

    /// The context that a request names, if it is told of.
    pub(crate) fn read(&self, text: &str) -> Option<TraceContext> {
        TraceContext::of_text(text).filter(|context| context.is_among(self.0.ratio))
    }

    /// The messages among these that are traced, if there are any. Those without a context have that of the
    /// request they came with, if it has one.
    pub(crate) fn taken<'a>(
        &self,
        messages: impl Iterator<Item = &'a IncomingMessage>,
        parent: Option<&TraceContext>,
    ) -> Option<Box<Taken>> {
        let contexts: Vec<_> = messages
            .filter_map(|message| self.context(message.bytes(), message.sections(), parent))
            .collect();
        (!contexts.is_empty()).then(|| Box::new(Taken { contexts, at: time_of_day() }))
    }

    /// The answer to a send is out.
    pub(crate) fn accepted(&self, taken: Taken, path: Option<&EntityPath>, error: Option<&str>) {
        let (start, end) = (taken.at, time_of_day());
        for context in taken.contexts {
            let attributes = attributes("accept", "send", path, &context);
            self.report(context, ("accept", path), Kind::Server, (start, end), attributes, error);
        }
    }

    /// A message is on its way to a receiver. From the moment when it could have been.
    pub(crate) fn delivered(
        &self,
        message: &StoredMessage,
        path: &EntityPath,
        attempts: u32,
        parent: Option<&TraceContext>,
    ) -> Option<Given> {
        let context = self.context(message.bytes(), message.sections(), parent)?;
        let now = time_of_day();
        let enqueued = UNIX_EPOCH + Duration::from_millis(message.enqueued_at().0);
        let mut all = attributes("deliver", "receive", Some(path), &context);
        let count = Attribute::Number(u64::from(attempts));
        all.push(("messaging.servicebus.message.delivery_count", count));
        let seconds = Attribute::Number(seconds(message.enqueued_at()));
        all.push(("messaging.servicebus.message.enqueued_time", seconds));
        // With a clock that tests have moved it may be enqueued later than now.
        let span = (enqueued.min(now), now);
        self.report(context.clone(), ("deliver", Some(path)), Kind::Internal, span, all, None);
        Some(Given { context, at: now, how: "none" })
    }

    /// A receiver has said what became of a message, and that is done.
    pub(crate) fn settled(&self, given: Given, path: &EntityPath, error: Option<&str>) {
        let mut all = attributes("settle", "settle", Some(path), &given.context);
        all.push((
            "messaging.servicebus.disposition_status",
            Attribute::Text(given.how.to_owned()),
        ));
        let span = (given.at, time_of_day());
        self.report(given.context, ("settle", Some(path)), Kind::Server, span, all, error);
    }

    /// Remembers a delivery that may be settled by any way.
    pub(crate) fn keep(&self, token: LockToken, given: Given) {
        self.unsettled().insert(token, given);
    }

    /// The same for what a connection has left.
    pub(crate) fn keep_all(&self, left: Unsettled) {
        if !left.is_empty() {
            self.unsettled().take_over(left);
        }
    }

    /// What is remembered of a delivery, for the last time.
    pub(crate) fn find(&self, token: LockToken) -> Option<Given> {
        self.unsettled().remove(token)
    }

    fn unsettled(&self) -> MutexGuard<'_, Unsettled> {
        self.0.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn context(
        &self,
        message: &[u8],
        sections: &Sections,
        parent: Option<&TraceContext>,
    ) -> Option<TraceContext> {
        let own = TraceContext::of(message, sections);
        let own = own.filter(|context| context.is_among(self.0.ratio));
        own.or_else(|| Some(parent?.about(message, sections)))
    }

    fn report(
        &self,
        context: TraceContext,
        (operation, path): (&str, Option<&EntityPath>),
        kind: Kind,
        (start, end): (SystemTime, SystemTime),
        attributes: Vec<(&'static str, Attribute)>,
        error: Option<&str>,
    ) {
        let name = path.map_or_else(|| operation.to_owned(), |path| format!("{operation} {path}"));
        // No id is zero.
        let id = rand::random::<u64>().max(1);
        let error = error.map(str::to_owned);
        let span = Span { context, id, name, kind, start, end, attributes, error };
        if self.0.spans.try_send(span).is_err() {
            self.0.metrics.limit_hit(Limit::TraceSpans);
        }
    }

    /// Gets rid of what waits, if the collector takes it in time.
    pub(crate) async fn finish(&self) {
        self.0.end.notify_one();
        if let Some(task) = self.0.task.lock().await.take() {
            let abort = task.abort_handle();
            if tokio::time::timeout(FINISH_WITHIN, task).await.is_err() {
                abort.abort();
            }
        }
    }
}

/// What all spans say, by the conventions for messaging.
fn attributes(
    name: &str,
    kind: &str,
    path: Option<&EntityPath>,
    context: &TraceContext,
) -> Vec<(&'static str, Attribute)> {
    let text = |text: &str| Attribute::Text(text.to_owned());
    let mut all = vec![
        ("messaging.system", text("servicebus")),
        ("messaging.operation.name", text(name)),
        ("messaging.operation.type", text(kind)),
    ];
    if let Some(path) = path {
        if let Some((topic, subscription)) = path.subscription() {
            all.push(("messaging.destination.name", Attribute::Text(topic.to_string())));
            all.push(("messaging.destination.subscription.name", text(subscription)));
        } else {
            all.push(("messaging.destination.name", Attribute::Text(path.to_string())));
        }
    }
    if let Some(id) = &context.message_id {
        all.push(("messaging.message.id", text(id)));
    }
    all
}

fn seconds(at: Timestamp) -> u64 {
    at.0 / 1000
}
