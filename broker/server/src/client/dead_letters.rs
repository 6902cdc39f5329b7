//! `peeklock dlq`: look at dead letters, send them again, move them elsewhere, remove them.

use clap::{Args, Subcommand};
use peeklock_core::filter::SqlFilter;

use super::Common;
use super::failure::Failure;
use super::messaging::Messaging;
use super::node::DEAD_LETTERS;
use super::output;
use super::peek::{Browser, lets_through};
use super::purge::{self, RemovalArguments};
use super::replay::{self, ReplayArguments};
use super::selection::SelectionArguments;
use super::server::Server;
use super::show::{DESCRIPTION, REASON};

/// Rows of a table: of a long list there are several.
const ROWS_MAX: usize = 1000;

/// What can be done with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLetterCommand {
    /// List them, with why they are dead
    List(ListArguments),
    /// Send them again to where they came from, or elsewhere, as they were sent at first
    Replay(Replay),
    /// Move them to another queue or topic, with what is said about why they are dead
    Move(Move),
    /// Remove them
    Drop(Drop),
}

/// Lists dead letters.
#[derive(Args, Debug)]
pub struct ListArguments {
    /// Queue, or topic/subscriptions/name [default: the entity of the connection string]
    entity: Option<String>,
    #[command(flatten)]
    selection: SelectionArguments,
    #[command(flatten)]
    common: Common,
}

/// Sends dead letters again.
#[derive(Args, Debug)]
pub struct Replay {
    /// Queue, or topic/subscriptions/name [default: the entity of the connection string]
    entity: Option<String>,
    /// Queue or topic to send them to [default: the queue, or the topic of the subscription, whose
    /// other subscriptions then get them as well]
    #[arg(long, value_name = "ENTITY")]
    target: Option<String>,
    #[command(flatten)]
    how: ReplayArguments,
}

/// Moves dead letters.
#[derive(Args, Debug)]
pub struct Move {
    /// Queue, or topic/subscriptions/name
    entity: String,
    /// Queue or topic to move them to
    target: String,
    #[command(flatten)]
    how: ReplayArguments,
}

/// Removes dead letters.
#[derive(Args, Debug)]
pub struct Drop {
    /// Queue, or topic/subscriptions/name [default: the entity of the connection string]
    entity: Option<String>,
    #[command(flatten)]
    removal: RemovalArguments,
}

pub(super) async fn run(command: &DeadLetterCommand) -> Result<(), Failure> {
    match command {
        DeadLetterCommand::List(arguments) => list(arguments).await,
        DeadLetterCommand::Replay(arguments) => {
            let server = arguments.how.common.connection.server()?;
            let (entity, address) = address(&server, arguments.entity.as_deref())?;
            let target = arguments.target.as_deref().unwrap_or_else(|| home(&entity));
            replay::run(&server, &address, target, true, &arguments.how).await
        }
        DeadLetterCommand::Move(arguments) => {
            let server = arguments.how.common.connection.server()?;
            let (_, address) = address(&server, Some(&arguments.entity))?;
            replay::run(&server, &address, &arguments.target, false, &arguments.how).await
        }
        DeadLetterCommand::Drop(arguments) => {
            let server = arguments.removal.common.connection.server()?;
            let (_, address) = address(&server, arguments.entity.as_deref())?;
            let mut messaging = Messaging::open(&server).await?;
            purge::remove(&mut messaging, &address, None, &arguments.removal).await?;
            messaging.close().await
        }
    }
}

/// The entity, and the address of its dead letters.
fn address(server: &Server, entity: Option<&str>) -> Result<(String, String), Failure> {
    let entity = server.entity(entity)?;
    let address = format!("{entity}/{DEAD_LETTERS}");
    Ok((entity, address))
}

/// Where messages are sent to that an entity gets.
fn home(entity: &str) -> &str {
    let is_subscriptions = |part: &str| part.eq_ignore_ascii_case("subscriptions");
    match entity.rsplit_once('/').map(|(before, _)| before.rsplit_once('/')) {
        Some(Some((topic, part))) if is_subscriptions(part) => topic,
        _ => entity,
    }
}

async fn list(arguments: &ListArguments) -> Result<(), Failure> {
    let server = arguments.common.connection.server()?;
    let (_, address) = address(&server, arguments.entity.as_deref())?;
    let mut messaging = Messaging::open(&server).await?;
    let filter = arguments.selection.filter()?;
    let wanted = |filter: &Option<Box<SqlFilter>>, received: &_| {
        filter.as_ref().is_none_or(|filter| lets_through(filter, received))
    };
    let mut left = arguments.selection.count.unwrap_or(u64::MAX);
    let mut browser = Browser::new(address, None, 0);
    let headings = ["SEQUENCE", "ENQUEUED", "ATTEMPTS", "ID", "REASON", "DESCRIPTION"];
    let mut rows = Vec::new();
    let mut is_listed = arguments.common.json;
    // Of those that are looked through, few may be meant.
    let page = |left| if filter.is_some() { u64::MAX } else { left };
    while 0 < left
        && let Some(received) = browser.next(&mut messaging, page(left)).await?
    {
        if !wanted(&filter, &received) {
            continue;
        }
        left -= 1;
        if arguments.common.json {
            received.print(true)?;
            continue;
        }
        rows.push(vec![
            received.sequence().unwrap_or(0).to_string(),
            received.time("x-opt-enqueued-time"),
            received.attempts().to_string(),
            received.id().unwrap_or_default(),
            received.property(REASON),
            received.property(DESCRIPTION),
        ]);
        if ROWS_MAX <= rows.len() {
            output::print(&output::table(&headings, &rows))?;
            rows.clear();
            is_listed = true;
        }
    }
    messaging.close().await?;
    if is_listed && rows.is_empty() {
        return Ok(());
    }
    output::print(&output::table(&headings, &rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dead_letters_of_a_subscription_go_back_to_its_topic() {
        for (entity, target) in [
            ("orders", "orders"),
            ("a/b", "a/b"),
            ("t/Subscriptions/s", "t"),
            ("a/b/subscriptions/s", "a/b"),
        ] {
            assert_eq!(home(entity), target);
        }
    }
}
