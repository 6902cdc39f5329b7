//! Sending dead letters again.
//!
//! Each batch is one transaction: what is sent to the target and what leaves the dead-letter queue
//! happen together, whatever becomes of this process, the connection or the broker.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery::Delivery;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::message::{Message, MessageId, Properties};
use peeklock_protocol::value::{Map, Str};
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::management::Management;
use super::messaging::{Messaging, Receiving};
use super::properties::{Kindred, Queue, Topic};
use super::selection::SelectionArguments;
use super::server::Server;
use super::show::{DESCRIPTION, REASON, Received, as_sent};
use super::transaction::{Transactions, within};
use super::{output, typed};
use crate::clock;
use crate::http::atom::xml::Space;

/// Messages of a transaction: two operations each, of the hundred that one may have.
const BATCH: u64 = 40;

/// How long a queue has to bring nothing more to count as done with.
const QUIET: Duration = Duration::from_secs(2);

/// How dead letters go.
#[derive(Args, Debug)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    selection: SelectionArguments,
    /// Not more than so many a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Give each message a new id, so that a target that looks for duplicates takes it
    #[arg(long, conflicts_with = "keep_ids")]
    new_ids: bool,
    /// Keep the ids, even where the target drops duplicates
    #[arg(long)]
    keep_ids: bool,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Sends what is meant to a target, as it was sent at first unless it is only moved.
pub(super) async fn run(
    server: &Server,
    address: &str,
    target: &str,
    revive: bool,
    arguments: &ReplayArguments,
) -> Result<(), Failure> {
    let mut messaging = Messaging::open(server).await?;
    // What is there now: what comes back from the target is not meant.
    let total = arguments.selection.look(&mut messaging, address, None, |_| Ok(())).await?;
    if arguments.dry_run {
        return report("would_send", "would send", total, target, arguments);
    }
    if !arguments.new_ids && !arguments.keep_ids {
        check_duplicates(server, target).await?;
    }
    let wanted = Receiving {
        address: address.to_owned(),
        selector: arguments.selection.selector(),
        ..Receiving::default()
    };
    let from = messaging.receiver(&wanted).await?.link;
    let to = messaging.sender(target).await?;
    let transactions = Transactions::open(&mut messaging).await?;
    let mut replay = Ongoing { from, to, transactions, revive, new_ids: arguments.new_ids };
    let bar = output::progress(Some(total), "sent");
    let (start, mut done) = (Instant::now(), 0_u64);
    while done < total {
        let batch = arguments.rate.map_or(BATCH, |rate| u64::from(rate).min(BATCH));
        let batch = batch.min(total - done);
        let moved = replay.batch(&mut messaging, batch).await;
        let moved = moved.map_err(|failure| stopped(done, total, failure))?;
        done += moved;
        bar.set_position(done);
        if moved < batch {
            break;
        }
        if let (Some(rate), true) = (arguments.rate, done < total) {
            let due = start + Duration::from_secs(1).mul_f64(to_f64(done) / f64::from(rate));
            // The links are served meanwhile.
            let left = due.saturating_duration_since(Instant::now());
            messaging.idle(left).await?;
        }
    }
    bar.finish_and_clear();
    messaging.close().await?;
    if done < total {
        // Somebody else has taken them, or holds them.
        output::note(&format!("{} of them could not be had any more", total - done));
    }
    report("sent", "sent", done, target, arguments)
}

#[expect(clippy::cast_precision_loss, reason = "a number of messages fits 53 bits")]
const fn to_f64(number: u64) -> f64 {
    number as f64
}

fn report(
    key: &str,
    done: &str,
    count: u64,
    target: &str,
    arguments: &ReplayArguments,
) -> Result<(), Failure> {
    if arguments.common.json {
        return output::print_json(&json!({ key: count, "target": target }));
    }
    output::print(&format!("{done} {count} to {target}\n"))
}

/// What is not done is where it was.
fn stopped(done: u64, total: u64, failure: Failure) -> Failure {
    let say = |text: String| {
        format!("{text} (sent: {done} of {total}; the others are dead letters as before)")
    };
    match failure {
        Failure::Refused(text) => Failure::Refused(say(text)),
        Failure::Unreachable(text) => Failure::Unreachable(say(text)),
        Failure::NotFound(text) => Failure::NotFound(say(text)),
        other => other,
    }
}

/// Refuses to send to a target that would drop what it has seen before.
async fn check_duplicates(server: &Server, target: &str) -> Result<(), Failure> {
    let mut management = Management::new(server);
    let mut found = Ok(None);
    for kind in [Queue::DESCRIPTION, Topic::DESCRIPTION] {
        if !matches!(found, Ok(Some(_))) {
            found = management.find(target, kind).await;
        }
    }
    let why = match found {
        Ok(None) => return Err(Failure::NotFound(format!("there is no queue or topic {target}"))),
        Ok(Some(found)) => {
            let flag = found.element.child(Space::ServiceBus, "RequiresDuplicateDetection");
            if flag.is_none_or(|flag| flag.text != "true") {
                return Ok(());
            }
            format!("{target} drops messages with ids that it has seen lately")
        }
        Err(Failure::Refused(_)) => {
            format!("whether {target} drops duplicates cannot be seen without the right Manage")
        }
        Err(failure) => return Err(failure),
    };
    Err(Failure::Argument(format!("{why}: say --new-ids or --keep-ids")))
}

/// The links of a replay.
struct Ongoing {
    from: LinkId,
    to: LinkId,
    transactions: Transactions,
    revive: bool,
    new_ids: bool,
}

impl Ongoing {
    /// Moves up to so many messages, all or none of them.
    async fn batch(&mut self, messaging: &mut Messaging<'_>, most: u64) -> Result<u64, Failure> {
        messaging.credit(self.from, u32::try_from(most).unwrap_or(1))?;
        let mut received = Vec::new();
        while (received.len() as u64) < most
            && let Some(delivery) = messaging.receive(self.from, QUIET).await?
        {
            received.push(delivery);
        }
        if received.is_empty() {
            return Ok(0);
        }
        let transaction = self.transactions.declare(messaging).await?;
        match self.fill(messaging, &transaction, &received).await {
            Ok(()) => {
                self.transactions.discharge(messaging, transaction, false).await?;
                Ok(received.len() as u64)
            }
            Err(failure) => {
                // If this fails too, the broker rolls back by itself: the connection ends.
                let _ = self.transactions.discharge(messaging, transaction, true).await;
                Err(failure)
            }
        }
    }

    async fn fill(
        &self,
        messaging: &mut Messaging<'_>,
        transaction: &Bytes,
        received: &[Delivery],
    ) -> Result<(), Failure> {
        let mut sent = Vec::new();
        for delivery in received {
            let message = self.revived(&Received::decode(&delivery.payload)?.message);
            let state = Some(within(transaction, None));
            sent.push(messaging.send(self.to, message.to_bytes(), state).await?);
            let state = within(transaction, Some(DeliveryState::Accepted));
            messaging.settle(self.from, delivery.id, state)?;
        }
        for id in sent {
            messaging.accepted(self.to, id).await?;
        }
        for delivery in received {
            messaging.settled(self.from, delivery.id).await?;
        }
        Ok(())
    }

    fn revived(&self, dead: &Message) -> Message {
        let mut message = as_sent(dead, false);
        if self.revive {
            let is_verdict = |key: &str| key == REASON || key == DESCRIPTION;
            let kept: Option<Map> = message.application_properties.map(|map| {
                map.into_iter().filter(|(key, _)| !key.as_str().is_some_and(is_verdict)).collect()
            });
            message.application_properties = kept.filter(|map| !map.is_empty());
        }
        if self.new_ids {
            let id = Str::from(typed::show_uuid(&rand::random()));
            let properties = message.properties.get_or_insert_with(Properties::default);
            properties.message_id = Some(MessageId::String(id));
        }
        unexpired(&mut message);
        message
    }
}

/// SDKs write the end of a message's life into it. Past that, a queue would drop it at once: its time
/// to live counts anew.
pub(super) fn unexpired(message: &mut Message) {
    let now = clock::time_of_day().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    if let Some(properties) = &mut message.properties
        && properties.absolute_expiry_time.is_some_and(|end| end.0 <= now)
    {
        properties.absolute_expiry_time = None;
        properties.creation_time = None;
    }
}
