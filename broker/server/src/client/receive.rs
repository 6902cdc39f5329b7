//! `peeklock receive`.

use std::collections::HashSet;
use std::time::{Duration, Instant, UNIX_EPOCH};

use clap::Args;
use peeklock_protocol::connection::LinkId;
use peeklock_protocol::delivery::{Delivery, DeliveryId};
use peeklock_protocol::delivery_state::DeliveryState;

use super::Common;
use super::failure::Failure;
use super::messaging::{Messaging, Receiving, Wanted};
use super::node::NodeArguments;
use super::output;
use super::properties::duration;
use super::show::Received;
use crate::clock;

/// Messages asked for at once by those who want all.
const BATCH: u32 = 100;

/// The longest lock that an entity may have.
const LOCK_MAX: Duration = Duration::from_mins(5);

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
    /// Lock and show, then give back before the first lock ends: the messages stay in the queue, each
    /// with one attempt more
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
    if let (true, Some(session)) = (arguments.next_session, &receiver.session) {
        output::note(&format!("message session {session}"));
    }
    let left = if arguments.all { u64::MAX } else { arguments.count };
    let link = receiver.link;
    let mut reception =
        Reception { arguments, link, left, shown: Vec::new(), seen: HashSet::new(), until: None };
    match reception.take_all(&mut messaging).await {
        Ok(()) => reception.end(&mut messaging).await?,
        Err(failure) => {
            // What was not shown goes back as it was; a broker that is gone does that by itself.
            if !matches!(failure, Failure::Unreachable(_)) {
                let _ = reception.give_back(&mut messaging).await;
            }
            return Err(failure);
        }
    }
    messaging.close().await
}

/// Messages on their way to a person.
struct Reception<'a> {
    arguments: &'a ReceiveArguments,
    link: LinkId,
    left: u64,
    /// Those to be left in the queue, which are locked until the end: given back earlier, they would
    /// come again.
    shown: Vec<DeliveryId>,
    /// Their sequence numbers.
    seen: HashSet<i64>,
    /// When the first of their locks comes near its end, after which they would come again as well.
    until: Option<Instant>,
}

impl Reception<'_> {
    async fn take_all(&mut self, messaging: &mut Messaging<'_>) -> Result<(), Failure> {
        let link = self.link;
        let is_late = |until: Option<Instant>| until.is_some_and(|until| until <= Instant::now());
        while 0 < self.left {
            let wait = match self.until {
                Some(until) => {
                    until.saturating_duration_since(Instant::now()).min(self.arguments.wait)
                }
                None => self.arguments.wait,
            };
            if messaging.client.connection().credit(link) == 0 && messaging.held(link) == 0 {
                // No more than will be taken: what comes is locked, or gone.
                let batch = if self.arguments.delete { 1 } else { BATCH };
                messaging.credit(link, u32::try_from(self.left).unwrap_or(batch).min(batch))?;
            }
            let mut next = messaging.receive(link, wait).await?;
            if next.is_none() {
                // The broker says that there is nothing, however short the wait was.
                messaging.drain(link).await?;
                next = messaging.receive(link, Duration::ZERO).await?;
            }
            let received = next.as_ref().map(|delivery| Received::of(&delivery.payload));
            let number = received.as_ref().and_then(Received::sequence);
            if is_late(self.until) || number.is_some_and(|number| self.seen.contains(&number)) {
                messaging.arrived.extend(next);
                output::note("stopped early: locks of messages that were shown come to their end");
                break;
            }
            let (Some(delivery), Some(received)) = (next, received) else { break };
            self.take(messaging, delivery, &received).await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        messaging: &mut Messaging<'_>,
        delivery: Delivery,
        received: &Received,
    ) -> Result<(), Failure> {
        if let Err(failure) = self.print(received) {
            // Nobody has seen it.
            messaging.arrived.push_front(delivery);
            return Err(failure);
        }
        self.left -= 1;
        if delivery.settled {
            return Ok(());
        }
        if self.arguments.leave {
            self.shown.push(delivery.id);
            self.seen.extend(received.sequence());
            self.until = self.until.into_iter().chain(near_end(received)).min();
            return Ok(());
        }
        messaging.settle(self.link, delivery.id, DeliveryState::Accepted)?;
        messaging.settled(self.link, delivery.id).await
    }

    async fn end(&mut self, messaging: &mut Messaging<'_>) -> Result<(), Failure> {
        messaging.drain(self.link).await?;
        while self.arguments.delete
            && let Some(delivery) = messaging.receive(self.link, Duration::ZERO).await?
        {
            // It came in the last moment, and nobody else has it.
            self.print(&Received::of(&delivery.payload))?;
        }
        self.give_back(messaging).await
    }

    /// Gives back what was not shown as it was, and what was shown with one attempt more.
    async fn give_back(&mut self, messaging: &mut Messaging<'_>) -> Result<(), Failure> {
        messaging.release_arrived(self.link).await?;
        for id in &self.shown {
            let state = DeliveryState::Modified {
                delivery_failed: Some(true),
                undeliverable_here: None,
                message_annotations: None,
            };
            messaging.settle(self.link, *id, state)?;
        }
        for id in std::mem::take(&mut self.shown) {
            match messaging.settled(self.link, id).await {
                // Its lock has ended meanwhile, so it is back in the queue by itself.
                Ok(()) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    fn print(&self, received: &Received) -> Result<(), Failure> {
        if self.arguments.body {
            return output::write(&received.body());
        }
        received.print(self.arguments.common.json)
    }
}

/// When most of the time of a message's lock is over. Nothing is known if the broker's clock is not
/// ours: then a message that comes again tells.
fn near_end(received: &Received) -> Option<Instant> {
    let end = received.annotation("x-opt-locked-until")?.as_timestamp()?;
    let end = UNIX_EPOCH + Duration::from_millis(u64::try_from(end).ok()?);
    let left = end.duration_since(clock::time_of_day()).ok()?;
    (left <= LOCK_MAX).then(|| Instant::now() + left * 3 / 4)
}
