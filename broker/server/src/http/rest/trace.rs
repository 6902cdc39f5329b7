//! What a request about messages tells a collector of traces. The parent of a span is whoever has sent the
//! message; for a message that is part of no trace, the `traceparent` of the request.

use axum::http::HeaderMap;
use peeklock_core::command::Settlement;
use peeklock_core::effect::Reply;
use peeklock_core::entity::path::EntityPath;
use peeklock_core::error::Error;
use peeklock_core::id::LockToken;
use peeklock_core::{Delivery, IncomingMessage};

use super::super::HttpContext;
use crate::traces::{Given, Taken, TraceContext, Tracer};

/// Headers that have the context of a trace, the one that counts first.
const HEADERS: [&str; 2] = ["traceparent", "diagnostic-id"];

/// One request, if somebody collects that.
pub(super) struct Traced<'a> {
    tracer: &'a Tracer,
    entity: &'a EntityPath,
    /// As the request has it.
    parent: Option<TraceContext>,
}

impl<'a> Traced<'a> {
    pub(super) fn new(
        context: &'a HttpContext,
        headers: &HeaderMap,
        entity: &'a EntityPath,
    ) -> Option<Self> {
        let tracer = context.settings.tracer.as_ref()?;
        let mut texts = HEADERS.iter().filter_map(|name| headers.get(*name)?.to_str().ok());
        let parent = texts.find_map(|text| tracer.read(text));
        Some(Self { tracer, entity, parent })
    }

    /// Messages have come.
    pub(super) fn taken(&self, messages: &[IncomingMessage]) -> Option<Box<Taken>> {
        self.tracer.taken(messages.iter(), self.parent.as_ref())
    }

    /// They were answered.
    pub(super) fn accepted(&self, taken: Taken, answer: &Result<Reply, Error>) {
        let error = answer.as_ref().err().map(ToString::to_string);
        self.tracer.accepted(taken, Some(self.entity), error.as_deref());
    }

    /// A message goes out, and its lock, if it has one, may come back by whatever way.
    pub(super) fn delivered(&self, delivery: &Delivery) {
        let Delivery { message, attempts, lock, .. } = delivery;
        let given = self.tracer.delivered(message, self.entity, *attempts, self.parent.as_ref());
        if let (Some(given), Some(lock)) = (given, lock) {
            self.tracer.keep(lock.token, given);
        }
    }

    /// A lock comes back.
    pub(super) fn settling(&self, token: LockToken, settlement: &Settlement) -> Option<Given> {
        let asked = || self.parent.clone().map(Given::asked_for);
        Some(self.tracer.find(token).or_else(asked)?.settling(settlement))
    }

    /// That was answered.
    pub(super) fn settled(&self, given: Given, answer: &Result<Reply, Error>) {
        let error = answer.as_ref().err().map(ToString::to_string);
        self.tracer.settled(given, self.entity, error.as_deref());
    }
}
