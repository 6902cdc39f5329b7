//! Sending dead letters again.
//!
//! Each batch is one transaction: what is sent to the target and what leaves the dead-letter queue
//! happen together, whatever becomes of this process, the connection or the broker.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery::{Delivery, DeliveryId};
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::message::{Message, MessageId, Properties};
use peeklock_protocol::value::{Array, Map, Str, Value};
use serde_json::json;

use super::Common;
use super::failure::Failure;
use super::management::Management;
use super::messaging::{Messaging, Receiving};
use super::properties::{Kind, Kindred, Queue, Topic};
use super::selection::{Found, SelectionArguments};
use super::server::Server;
use super::show::{DESCRIPTION, REASON, Received, as_sent};
use super::transaction::{Transactions, within};
use super::{output, typed};
use crate::clock;
use crate::http::atom::xml::Space;

/// Messages of a transaction: two operations each, of the hundred that one may have.
const BATCH: u64 = 40;

/// Octets of their messages; one alone may have more. A transaction may have twice as many.
const BATCH_BYTES: usize = 8 << 20;

/// Messages asked for at once. Each may be large.
const CREDIT: usize = 8;

/// Times that the broker forwards a message.
const HOPS_MAX: usize = 4;

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
    // What comes back from the target is not meant.
    let found = arguments.selection.look(&mut messaging, address, None).await?;
    let total = found.count;
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
    let mut replay = Ongoing {
        address,
        from,
        to,
        transactions,
        revive,
        new_ids: arguments.new_ids,
        found,
        done: 0,
        unreadable: Vec::new(),
        is_over: false,
        size: BATCH_BYTES / CREDIT,
    };
    let replayed = replay.all(&mut messaging, arguments.rate).await;
    let (done, unreadable) = (replay.done, replay.unreadable.len());
    if let Err(failure) = replayed {
        if !matches!(failure, Failure::Unreachable(_)) {
            // Nobody has to wait for the ends of locks. If this fails too, somebody has.
            let _ = replay.end(&mut messaging).await;
        }
        let state = format!("sent: {done} of {total}; the others are dead letters as before");
        return Err(failure.with(&state));
    }
    replay.end(&mut messaging).await?;
    messaging.close().await?;
    if done < total {
        let mut text = format!("sent {done} of {total} to {target}: the others are locked or gone");
        if 0 < unreadable {
            text = format!("{text}, or cannot be read as a whole: {unreadable}");
        }
        return Err(Failure::Other(text));
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

/// Refuses to send to a target that would drop what it has seen before, or forwards to one that would.
async fn check_duplicates(server: &Server, target: &str) -> Result<(), Failure> {
    let mut management = Management::new(server);
    let mut entity = target.to_owned();
    for hop in 0..=HOPS_MAX {
        let mut found = Ok(None);
        for kind in [Queue::DESCRIPTION, Topic::DESCRIPTION] {
            if !matches!(found, Ok(Some(_))) {
                found = management.find(&entity, kind).await;
            }
        }
        let why = match found {
            Ok(None) if hop == 0 => {
                return Err(Failure::NotFound(format!("there is no queue or topic {entity}")));
            }
            // The broker says what becomes of messages for what is not there.
            Ok(None) => return Ok(()),
            Ok(Some(found)) => {
                let text = |name| found.element.child(Space::ServiceBus, name).map(|c| &*c.text);
                if text("RequiresDuplicateDetection") != Some("true") {
                    match text("ForwardTo").filter(|next| !next.is_empty()) {
                        Some(next) => entity = Kind::Entity.show(next),
                        None => return Ok(()),
                    }
                    continue;
                }
                format!("{entity} drops messages with ids that it has seen lately")
            }
            Err(Failure::Refused(_)) => {
                format!("whether {entity} drops duplicates cannot be seen without the right Manage")
            }
            Err(failure) => return Err(failure),
        };
        return Err(Failure::Argument(format!("{why}: say --new-ids or --keep-ids")));
    }
    Ok(())
}

/// The links of a replay, and how far it has come.
struct Ongoing<'a> {
    address: &'a str,
    from: LinkId,
    to: LinkId,
    transactions: Transactions,
    revive: bool,
    new_ids: bool,
    found: Found,
    done: u64,
    /// Those that stay, locked so that they do not come again.
    unreadable: Vec<DeliveryId>,
    /// Nothing more of what is meant can be had.
    is_over: bool,
    /// The size of the largest message of the batch before.
    size: usize,
}

/// A dead letter, and its message.
type Dead = (Delivery, Message);

impl Ongoing<'_> {
    async fn all(
        &mut self,
        messaging: &mut Messaging<'_>,
        rate: Option<u32>,
    ) -> Result<(), Failure> {
        let total = self.found.count;
        let bar = output::progress(Some(total), "sent");
        let start = Instant::now();
        while let left = total.saturating_sub(self.done + self.unreadable.len() as u64)
            && 0 < left
            && !self.is_over
        {
            let most = rate.map_or(BATCH, |rate| u64::from(rate).min(BATCH)).min(left);
            self.batch(messaging, usize::try_from(most).unwrap_or(1)).await?;
            bar.set_position(self.done);
            if let Some(rate) = rate
                && self.done < total
            {
                let due =
                    start + Duration::from_secs(1).mul_f64(to_f64(self.done) / f64::from(rate));
                // The links are served meanwhile.
                messaging.idle(due.saturating_duration_since(Instant::now())).await?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Moves up to so many messages, all or none of them.
    async fn batch(&mut self, messaging: &mut Messaging<'_>, most: usize) -> Result<(), Failure> {
        let mut dead = Vec::new();
        let taken = self.take(messaging, most, &mut dead).await;
        // Those beyond the batch come again.
        let released = messaging.release_arrived(self.from).await;
        if let Err(failure) = taken.and(released) {
            return self.give_back(messaging, &dead, failure).await;
        }
        if dead.is_empty() {
            return Ok(());
        }
        let transaction = match self.transactions.declare(messaging).await {
            Ok(transaction) => transaction,
            Err(failure) => return self.give_back(messaging, &dead, failure).await,
        };
        // Most of what can be refused is refused here, when nothing is settled.
        if let Err(failure) = self.send(messaging, &transaction, &dead).await {
            // If this fails too, the broker rolls back by itself: the connection ends.
            let _ = self.transactions.discharge(messaging, transaction, true).await;
            return self.give_back(messaging, &dead, failure).await;
        }
        let mut completed = self.complete(messaging, &transaction, &dead).await;
        if completed.is_ok() {
            completed = self.transactions.discharge(messaging, transaction, false).await;
        } else {
            let _ = self.transactions.discharge(messaging, transaction, true).await;
        }
        if let Err(failure) = completed {
            self.abandon(messaging, &dead).await;
            return Err(failure);
        }
        self.done += dead.len() as u64;
        Ok(())
    }

    /// Receives what is for one transaction.
    async fn take(
        &mut self,
        messaging: &mut Messaging<'_>,
        most: usize,
        dead: &mut Vec<Dead>,
    ) -> Result<(), Failure> {
        let (mut bytes, mut largest) = (0_usize, 0_usize);
        let mut left = most;
        while 0 < left && bytes < BATCH_BYTES {
            let link = self.from;
            if messaging.client.connection().credit(link) == 0 && messaging.held(link) == 0 {
                let room = (BATCH_BYTES - bytes) / self.size.max(largest).max(1);
                let credit = room.clamp(1, CREDIT).min(left);
                messaging.credit(link, u32::try_from(credit).unwrap_or(1))?;
            }
            let Some(delivery) = messaging.receive(link, QUIET).await? else {
                self.is_over = true;
                break;
            };
            let received = Received::of(&delivery.payload);
            let size = delivery.payload.len();
            let is_new = self.found.is_before(&received);
            if is_new || (!dead.is_empty() && BATCH_BYTES < bytes.saturating_add(size)) {
                messaging.arrived.push_front(delivery);
                self.is_over = is_new;
                break;
            }
            left -= 1;
            if received.is_whole {
                bytes = bytes.saturating_add(size);
                largest = largest.max(size);
                dead.push((delivery, received.message));
            } else {
                self.unreadable.push(delivery.id);
            }
        }
        if 0 < largest {
            self.size = largest;
        }
        Ok(())
    }

    async fn send(
        &self,
        messaging: &mut Messaging<'_>,
        transaction: &Bytes,
        dead: &[Dead],
    ) -> Result<(), Failure> {
        let mut sent = Vec::new();
        for (_, message) in dead {
            let state = Some(within(transaction, None));
            sent.push(messaging.send(self.to, self.revived(message).to_bytes(), state).await?);
        }
        for id in sent {
            messaging.accepted(self.to, id).await?;
        }
        Ok(())
    }

    async fn complete(
        &self,
        messaging: &mut Messaging<'_>,
        transaction: &Bytes,
        dead: &[Dead],
    ) -> Result<(), Failure> {
        for (delivery, _) in dead {
            let state = within(transaction, Some(DeliveryState::Accepted));
            messaging.settle(self.from, delivery.id, state)?;
        }
        for (delivery, _) in dead {
            messaging.settled(self.from, delivery.id).await?;
        }
        Ok(())
    }

    /// Gives messages back that nothing was said of yet, and says what went wrong.
    async fn give_back(
        &self,
        messaging: &mut Messaging<'_>,
        dead: &[Dead],
        failure: Failure,
    ) -> Result<(), Failure> {
        if !matches!(failure, Failure::Unreachable(_)) {
            let ids: Vec<DeliveryId> = dead.iter().map(|(delivery, _)| delivery.id).collect();
            // What went wrong first is what people have to know.
            let _ = messaging.release(self.from, &ids).await;
        }
        Err(failure)
    }

    /// The same after they were settled in a transaction that is rolled back: their locks are there
    /// again, their deliveries are not.
    async fn abandon(&self, messaging: &mut Messaging<'_>, dead: &[Dead]) {
        for (delivery, _) in dead {
            let Some(token) = lock_token(&delivery.tag) else { continue };
            let body = Map::new()
                .with("disposition-status", "abandoned")
                .with("lock-tokens", Value::Array(Array::uuids([token])));
            let abandoned = messaging.manage(self.address, "update-disposition", body).await;
            if matches!(abandoned, Err(Failure::Unreachable(_))) {
                break;
            }
        }
    }

    /// Gives back what stays.
    async fn end(&mut self, messaging: &mut Messaging<'_>) -> Result<(), Failure> {
        messaging.release_arrived(self.from).await?;
        messaging.release(self.from, &std::mem::take(&mut self.unreadable)).await
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

/// The lock token of a delivery: its tag has the layout of a .NET Guid.
fn lock_token(tag: &[u8]) -> Option<[u8; 16]> {
    let mut token = <[u8; 16]>::try_from(tag).ok()?;
    token[..4].reverse();
    token[4..6].reverse();
    token[6..8].reverse();
    Some(token)
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
