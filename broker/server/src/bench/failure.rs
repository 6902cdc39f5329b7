//! What can end a run early. Everything here is reported and makes the exit code non-zero; what a
//! finished run finds wrong about its own counts is in the report instead.

use std::io;
use std::time::Duration;

use crate::client::amqp::AmqpError;

/// Why a run, or one connection of it, could not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Argument(String),
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Amqp(#[from] AmqpError),
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
