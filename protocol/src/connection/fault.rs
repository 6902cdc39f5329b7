//! What a broken rule costs: a link, a session or the connection, and what the peer is told.

use std::borrow::Cow;

use crate::condition::ErrorInfo;
use crate::connection::{LinkId, SessionId};
use crate::value::Str;
use crate::violation::Violation;

/// How far the damage goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    Connection,
    Session(SessionId),
    Link(LinkId),
}

/// A rule the peer broke.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) scope: Scope,
    pub(crate) error: Box<ErrorInfo>,
}

impl Fault {
    pub(crate) fn connection(condition: &'static str, text: impl Into<Cow<'static, str>>) -> Self {
        Self { scope: Scope::Connection, error: Box::new(error(condition, text)) }
    }

    /// The octets themselves are wrong.
    #[expect(clippy::needless_pass_by_value, reason = "reads as a conversion")]
    pub(crate) fn violation(violation: Violation) -> Self {
        Self { scope: Scope::Connection, error: Box::new(violation.to_error()) }
    }

    pub(crate) fn session(
        session: SessionId,
        condition: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { scope: Scope::Session(session), error: Box::new(error(condition, text)) }
    }

    pub(crate) fn link(
        link: LinkId,
        condition: &'static str,
        text: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { scope: Scope::Link(link), error: Box::new(error(condition, text)) }
    }
}

pub(crate) fn error(condition: &'static str, text: impl Into<Cow<'static, str>>) -> ErrorInfo {
    let description = match text.into() {
        Cow::Borrowed(text) => Str::from_static(text),
        Cow::Owned(text) => Str::from(text),
    };
    ErrorInfo::new(condition, description)
}
