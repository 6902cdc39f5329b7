//! Why a command has not done what it was asked for, and the exit code that says so.

use std::io;

use peeklock_protocol::condition::{self, ErrorInfo};

use super::amqp::{AmqpError, describe};
use crate::cli::exit;

/// See the module. Each has one line for a person.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Argument(String),
    /// The entity, rule or message is not there.
    #[error("{0}")]
    NotFound(String),
    /// The broker does not want to, or the person did not.
    #[error("{0}")]
    Refused(String),
    /// There is no broker, or no more.
    #[error("{0}")]
    Unreachable(String),
    /// Files, or the broker's words.
    #[error("{0}")]
    Other(String),
    /// A store has all messages, and something beside them does not fit.
    #[error("{0}")]
    Repairable(String),
    /// A store has lost something.
    #[error("{0}")]
    Damaged(String),
    /// Whoever read the output has gone.
    #[error("nobody reads the output")]
    OutputClosed,
}

impl Failure {
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Self::Argument(_) => exit::CONFIGURATION,
            Self::NotFound(_) => exit::NOT_FOUND,
            Self::Refused(_) => exit::REFUSED,
            Self::Unreachable(_) => exit::UNREACHABLE,
            Self::Repairable(_) => exit::REPAIRABLE,
            Self::Damaged(_) => exit::DAMAGED,
            Self::Other(_) | Self::OutputClosed => exit::FAILED,
        }
    }

    /// The same with more to say about it.
    pub(super) fn with(self, more: &str) -> Self {
        let say = |text: String| format!("{text} ({more})");
        match self {
            Self::Argument(text) => Self::Argument(say(text)),
            Self::NotFound(text) => Self::NotFound(say(text)),
            Self::Refused(text) => Self::Refused(say(text)),
            Self::Unreachable(text) => Self::Unreachable(say(text)),
            Self::Other(text) => Self::Other(say(text)),
            Self::Repairable(text) => Self::Repairable(say(text)),
            Self::Damaged(text) => Self::Damaged(say(text)),
            Self::OutputClosed => Self::OutputClosed,
        }
    }

    /// A file, or what is in it.
    pub(super) fn file(path: &std::path::Path, error: impl std::fmt::Display) -> Self {
        Self::Other(format!("{}: {error}", path.display()))
    }

    /// Of what is written to standard output.
    pub(super) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Other(format!("the output cannot be written: {error}")),
        }
    }

    /// What the broker says of a link, a delivery or a connection.
    pub(super) fn of_peer(error: Option<&ErrorInfo>) -> Self {
        let text = for_people(&describe(error));
        match error.map(|error| error.condition.as_str()) {
            Some(condition::NOT_FOUND) => Self::NotFound(text),
            Some("com.microsoft:message-not-found" | "com.microsoft:session-not-found") => {
                Self::NotFound(text)
            }
            // What the broker says when no message session is free in time.
            Some("com.microsoft:timeout") => {
                Self::NotFound("no message session is free".to_owned())
            }
            Some(_) => Self::Refused(text),
            None => Self::Unreachable(format!("the broker hung up: {text}")),
        }
    }
}

/// Without what is for those who look into logs.
pub(super) fn for_people(text: &str) -> String {
    let mut text = text;
    for tail in [" TrackingId:", " To know more visit "] {
        text = text.split(tail).next().unwrap_or(text);
    }
    let text = match text.split_once("SubCode=") {
        Some(("", rest)) => rest.split_once(". ").map_or(rest, |(_, rest)| rest),
        _ => text,
    };
    text.trim_end_matches("..").to_owned()
}

impl From<AmqpError> for Failure {
    fn from(error: AmqpError) -> Self {
        let text = error.to_string();
        match error {
            AmqpError::Socket(_) | AmqpError::EndOfStream | AmqpError::Silence(..) => {
                Self::Unreachable(text)
            }
            AmqpError::Login(_) => Self::Refused(text),
            AmqpError::Closed(error)
            | AmqpError::SessionEnded(error)
            | AmqpError::Detached(error) => Self::of_peer(error.as_ref()),
            AmqpError::Violation(_) => Self::Other(text),
        }
    }
}
