//! Which messages a command is about: an entity, or one of its subqueues.

use clap::Args;

use super::failure::Failure;
use super::server::Server;

/// Where messages are.
#[derive(Args, Clone, Debug)]
pub(super) struct NodeArguments {
    /// Queue, or topic/subscriptions/name [default: the entity of the connection string]
    entity: Option<String>,
    /// Its dead-letter queue
    #[arg(long)]
    dlq: bool,
    /// Its transfer dead-letter queue: what could not be forwarded
    #[arg(long, conflicts_with = "dlq")]
    transfer_dlq: bool,
}

pub(super) const DEAD_LETTERS: &str = "$DeadLetterQueue";
const TRANSFER_DEAD_LETTERS: &str = "$Transfer/$DeadLetterQueue";

impl NodeArguments {
    /// Its address on the broker.
    pub(super) fn address(&self, server: &Server) -> Result<String, Failure> {
        let entity = server.entity(self.entity.as_deref())?;
        Ok(match (self.dlq, self.transfer_dlq) {
            (true, _) => format!("{entity}/{DEAD_LETTERS}"),
            (_, true) => format!("{entity}/{TRANSFER_DEAD_LETTERS}"),
            (false, false) => entity,
        })
    }
}
