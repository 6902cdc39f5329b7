//! `peeklock purge`, and removing dead letters.

use std::time::{Duration, UNIX_EPOCH};

use clap::Args;
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::value::{Map, Value};
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::messaging::{Messaging, Receiving};
use super::node::NodeArguments;
use super::output;
use super::peek::Browser;
use super::selection::{Found, SelectionArguments};
use super::show::Received;
use crate::clock;

/// Messages that one request may remove, as in the Premium tier.
const BATCH: u32 = 4000;

/// Messages received at once by those who select.
const CREDIT: u32 = 200;

/// How long a queue has to bring nothing more to count as done with.
const QUIET: Duration = Duration::from_secs(2);

/// Removes messages.
#[derive(Args, Debug)]
pub struct PurgeArguments {
    #[command(flatten)]
    node: NodeArguments,
    /// Only of this message session
    #[arg(long, short, value_name = "ID", conflicts_with_all = ["filter", "reason"])]
    session: Option<String>,
    #[command(flatten)]
    removal: RemovalArguments,
}

/// Which messages, and how surely.
#[derive(Args, Debug)]
pub(super) struct RemovalArguments {
    #[command(flatten)]
    selection: SelectionArguments,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) async fn run(arguments: &PurgeArguments) -> Result<(), Failure> {
    let server = arguments.removal.common.connection.server()?;
    let address = arguments.node.address(&server)?;
    let mut messaging = Messaging::open(&server).await?;
    remove(&mut messaging, &address, arguments.session.as_deref(), &arguments.removal).await?;
    messaging.close().await
}

/// Removes what is meant from a queue, or says how much that would be.
pub(super) async fn remove(
    messaging: &mut Messaging<'_>,
    address: &str,
    session: Option<&str>,
    arguments: &RemovalArguments,
) -> Result<(), Failure> {
    let selection = &arguments.selection;
    let session = session.map(str::to_owned);
    if arguments.dry_run {
        let removable = selection.look(messaging, address, session).await?.count;
        return report("would_remove", "would remove", removable, address, arguments);
    }
    let what = match selection.selector() {
        Some(condition) => format!("messages from {address} with {condition}"),
        None => format!("messages from {address}"),
    };
    let all = selection.count.map_or("all".to_owned(), |count| format!("up to {count}"));
    output::confirm(&format!("Remove {all} {what}?"), arguments.yes)?;
    let removed = match selection.selector() {
        None => remove_batches(messaging, address, session, selection.count).await?,
        Some(selector) => remove_selected(messaging, address, selector, selection).await?,
    };
    report("removed", "removed", removed, address, arguments)
}

fn report(
    key: &str,
    done: &str,
    count: u64,
    address: &str,
    arguments: &RemovalArguments,
) -> Result<(), Failure> {
    if arguments.common.json {
        return output::print_json(&json!({ key: count }));
    }
    output::print(&format!("{done} {count} from {address}\n"))
}

async fn remove_batches(
    messaging: &mut Messaging<'_>,
    address: &str,
    session: Option<String>,
    most: Option<u64>,
) -> Result<u64, Failure> {
    let before = now_at(messaging, address, session.as_deref()).await?;
    let bar = output::progress(most, "removed");
    let mut removed = 0;
    while let left = most.map_or(u64::MAX, |most| most.saturating_sub(removed))
        && 0 < left
    {
        let count = u32::try_from(left).unwrap_or(BATCH).min(BATCH);
        let mut body = Map::new()
            .with("message-count", i32::try_from(count).unwrap_or(i32::MAX))
            .with("enqueued-time-utc", Value::Timestamp(before));
        if let Some(session) = &session {
            body.insert("session-id", session.as_str());
        }
        let answer = messaging.manage(address, "batch-delete-messages", body).await?;
        let gone = answer.body.get("message-count").and_then(Value::as_u64).unwrap_or(0);
        removed += gone;
        bar.set_position(removed);
        // Less than was asked for is what a busy broker removes as well.
        if gone == 0 {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(removed)
}

/// The moment, in milliseconds since 1970, before which all has come that is there now. Whoever removes
/// until a queue is empty goes on for ever while others send.
///
/// The broker's clock may stand still or be ahead of ours: what has come last tells.
async fn now_at(
    messaging: &mut Messaging<'_>,
    address: &str,
    session: Option<&str>,
) -> Result<i64, Failure> {
    let ours = clock::time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ours = i64::try_from(ours.as_millis()).unwrap_or(i64::MAX - 1);
    let came_at = |received: &Received| {
        // Of those that are yet to come, it is the time at which they will.
        let is_there = received.state() == "active";
        received.annotation("x-opt-enqueued-time").filter(|_| is_there)?.as_timestamp()
    };
    let session = session.map(str::to_owned);
    let first_from = |from| Browser::new(address.to_owned(), session.clone(), from);
    // The last message is found by halves: none has a number of `above` or more.
    let (mut last, mut below, mut above) = (None, 0_i64, i64::MAX);
    while below < above {
        // Numbers are small as a rule.
        let doubled = below.saturating_mul(2).saturating_add(1);
        let from = doubled.min(below + (above - below) / 2);
        match first_from(from).next(messaging, 1).await? {
            Some(received) => {
                below = received.sequence().unwrap_or(from).saturating_add(1);
                last = Some(received);
            }
            None => above = from,
        }
    }
    let mut latest = last.as_ref().map(came_at);
    if latest == Some(None) {
        // It is scheduled or deferred, so one before it has come last.
        let mut browser = first_from(0);
        while let Some(received) = browser.next(messaging, u64::MAX).await? {
            latest = latest.max(Some(came_at(&received)));
        }
    }
    Ok(latest.flatten().map_or(ours, |latest| latest.max(ours)).saturating_add(1))
}

async fn remove_selected(
    messaging: &mut Messaging<'_>,
    address: &str,
    selector: String,
    selection: &SelectionArguments,
) -> Result<u64, Failure> {
    let found = selection.look(messaging, address, None).await?;
    let selector = Some(selector);
    let receiving = Receiving { address: address.to_owned(), selector, ..Receiving::default() };
    let link = messaging.receiver(&receiving).await?.link;
    let removed = receive_found(messaging, link, found).await;
    let released = messaging.release_arrived(link).await;
    let removed = removed?;
    released.map(|()| removed)
}

async fn receive_found(
    messaging: &mut Messaging<'_>,
    link: LinkId,
    found: Found,
) -> Result<u64, Failure> {
    let total = found.count;
    let bar = output::progress(Some(total), "removed");
    let mut removed = 0_u64;
    while removed < total {
        let batch = u32::try_from(total - removed).unwrap_or(CREDIT).min(CREDIT);
        messaging.credit(link, batch)?;
        let mut batch_ids = Vec::new();
        while batch_ids.len() < batch as usize
            && let Some(delivery) = messaging.receive(link, QUIET).await?
        {
            if found.is_before(&Received::of(&delivery.payload)) {
                messaging.arrived.push_front(delivery);
                break;
            }
            messaging.settle(link, delivery.id, DeliveryState::Accepted)?;
            batch_ids.push(delivery.id);
        }
        let is_last = batch_ids.len() < batch as usize;
        for id in batch_ids {
            messaging.settled(link, id).await?;
            removed += 1;
            bar.set_position(removed);
        }
        if is_last {
            break;
        }
    }
    bar.finish_and_clear();
    Ok(removed)
}
