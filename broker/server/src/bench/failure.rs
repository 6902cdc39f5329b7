//! What can end a run early. Everything here is reported and makes the exit code non-zero; what a
//! finished run finds wrong about its own counts is in the report instead.

use std::io;
use std::time::Duration;

use peeklock_protocol::condition::ErrorInfo;

/// Why a run, or one connection of it, could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Argument(String),
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
    #[error("the broker closed the connection without a word")]
    EndOfStream,
    #[error("the broker refused the login: SASL outcome {0}")]
    Login(String),
    #[error("the broker closed the connection: {0}")]
    Closed(String),
    #[error("the broker ended the AMQP session: {0}")]
    SessionEnded(String),
    #[error("the broker detached the link: {0}")]
    Detached(String),
    #[error("the broker broke the protocol: {0}")]
    Violation(String),
    #[error("nothing was heard for {0:?} while {1}")]
    Silence(Duration, &'static str),
    #[error("nothing moved for {0:?}")]
    Stalled(Duration),
    #[error("a connection ended before the run did")]
    EndedEarly,
    #[error("process {pid}: {source}")]
    Process { pid: u32, source: io::Error },
}

/// What an error on the wire says, in one line.
pub(super) fn describe(error: Option<&ErrorInfo>) -> String {
    match error {
        None => "no reason given".to_owned(),
        Some(ErrorInfo { condition, description: None, .. }) => condition.as_str().to_owned(),
        Some(ErrorInfo { condition, description: Some(text), .. }) => {
            format!("{}: {}", condition.as_str(), &**text)
        }
    }
}
