//! `peeklock receive`.

use std::time::Duration;

use clap::Args;
use peeklock_protocol::delivery::Delivery;
use peeklock_protocol::delivery_state::DeliveryState;

use super::Common;
use super::failure::Failure;
use super::messaging::{Messaging, Receiving, Wanted};
use super::node::NodeArguments;
use super::output;
use super::properties::duration;
use super::show::Received;

/// Messages asked for at once by those who want all.
const BATCH: u32 = 100;

/// Receives messages. Each is settled once it has been written out.
#[derive(Args, Debug)]
pub struct ReceiveArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// How many
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, conflicts_with = "all")]
    count: u64,
    /// All there are
    #[arg(long)]
    all: bool,
    /// How long to wait for a message
    #[arg(long, short, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    wait: Duration,
    /// Of this message session
    #[arg(long, short, value_name = "ID", conflicts_with = "next_session")]
    session: Option<String>,
    /// Of the next message session that is free
    #[arg(long)]
    next_session: bool,
    /// Only what this condition holds for, as in "color = 'red'"
    #[arg(long, value_name = "CONDITION", conflicts_with_all = ["session", "next_session"])]
    filter: Option<String>,
    /// Lock and show, then give back: the messages stay in the queue, each with one attempt more
    #[arg(long)]
    leave: bool,
    /// Receive and delete: what is lost on the way is gone
    #[arg(long, conflicts_with = "leave")]
    delete: bool,
    /// Write the bodies alone, as they are
    #[arg(long, conflicts_with = "json")]
    body: bool,
    #[command(flatten)]
    common: Common,
}

pub(super) async fn run(arguments: &ReceiveArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let session = match (&arguments.session, arguments.next_session) {
        (Some(id), _) => Some(Wanted::Named(id.clone())),
        (None, true) => Some(Wanted::Next),
        (None, false) => None,
    };
    let wanted = Receiving {
        address: arguments.node.address(&server)?,
        session,
        selector: arguments.filter.clone(),
        delete: arguments.delete,
        wait: arguments.wait,
    };
    let mut messaging = Messaging::open(&server).await?;
    let receiver = messaging.receiver(&wanted).await?;
    let link = receiver.link;
    if let (true, Some(session)) = (arguments.next_session, &receiver.session) {
        output::note(&format!("message session {session}"));
    }
    let mut left = if arguments.all { u64::MAX } else { arguments.count };
    let mut left_behind = Vec::new();
    while 0 < left {
        let open = messaging.client.connection().credit(link);
        if open == 0 {
            // No more than will be taken: what comes is locked, or gone.
            let batch = if arguments.delete { 1 } else { BATCH };
            messaging.credit(link, u32::try_from(left).unwrap_or(batch).min(batch))?;
        }
        let Some(delivery) = messaging.receive(link, arguments.wait).await? else { break };
        left -= 1;
        print(&delivery, arguments)?;
        if delivery.settled {
            continue;
        }
        if arguments.leave {
            // All of them stay locked to the end: given back earlier, they would come again.
            left_behind.push(delivery.id);
        } else {
            messaging.settle(link, delivery.id, DeliveryState::Accepted)?;
            messaging.settled(link, delivery.id).await?;
        }
    }
    for id in left_behind {
        let state = DeliveryState::Modified {
            delivery_failed: Some(true),
            undeliverable_here: None,
            message_annotations: None,
        };
        messaging.settle(link, id, state)?;
        match messaging.settled(link, id).await {
            // Its lock has ended meanwhile, so it is back in the queue by itself.
            Ok(()) | Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    messaging.drain(link).await?;
    while arguments.delete
        && let Some(delivery) = messaging.receive(link, Duration::ZERO).await?
    {
        // It came in the last moment, and nobody else has it.
        print(&delivery, arguments)?;
    }
    messaging.release_arrived(link).await?;
    messaging.close().await
}

fn print(delivery: &Delivery, arguments: &ReceiveArguments) -> Result<(), Failure> {
    let received = Received::decode(&delivery.payload)?;
    if arguments.body {
        return output::write(&received.body());
    }
    received.print(arguments.common.json)
}
