//! The way from HTTP to the core: a command, and its answer.
//!
//! To the driver all requests are of one connection, which never leaves. A request that waits for a
//! message has a receiver of its own with a credit of one, for as long as it waits: see [`receive`].

mod bodies;
mod receive;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peeklock_core::{Command, EffectKind, Error, Origin, Reply};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::warn;

use self::bodies::Bodies;
pub(crate) use self::bodies::{Room, Turn};
pub(crate) use self::receive::NotReceived;
use self::receive::Seats;
use crate::driver::{Input, ShardHandle, Stopped};
use crate::mailbox::{Letter, Mailbox};

/// The connection of all requests. Others are numbered from one.
const CONNECTION: u64 = u64::MAX;

/// How long an answer may take. Commands are lost when the store fails and is opened again; whoever
/// asked is then told that the outcome is unknown.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

type Answer = Result<Reply, Error>;

/// See the module. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Gateway {
    shard: ShardHandle,
    waiting: Arc<Waiting>,
    seats: Arc<Seats>,
    bodies: Bodies,
    _hand: Arc<Hand>,
}

/// The task that hands out answers. It ends with the last of those who could ask.
struct Hand(AbortHandle);

impl Drop for Hand {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Who waits for an answer, by the number of the question.
#[derive(Default)]
struct Waiting {
    next: AtomicU64,
    askers: Mutex<HashMap<u64, oneshot::Sender<Answer>>>,
}

impl Gateway {
    /// Makes itself known to the driver.
    /// Bodies of requests have so many octets of memory.
    pub(crate) fn start(shard: ShardHandle, bodies: u64) -> Result<Self, Stopped> {
        let mailbox = Mailbox::default();
        shard.send(Input::Joined { connection: CONNECTION, mailbox: mailbox.clone() })?;
        let waiting = Arc::new(Waiting::default());
        let (returns, returned) = mpsc::unbounded_channel();
        let seats = Arc::new(Seats::new(returns));
        let hand = tokio::spawn(pass_on(mailbox, Arc::clone(&waiting), Arc::clone(&seats)));
        tokio::spawn(give_back(shard.clone(), returned));
        let hand = Arc::new(Hand(hand.abort_handle()));
        Ok(Self { shard, waiting, seats, bodies: Bodies::new(bodies), _hand: hand })
    }

    /// For a body that is about to come, none yet.
    pub(crate) fn room(&self) -> Room {
        self.bodies.room()
    }

    /// Waits for the turn to understand a large body.
    pub(crate) async fn turn(&self) -> Turn {
        self.bodies.turn().await
    }

    /// How many wait, for an answer or for a message.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.askers().len() + self.seats.len()
    }

    /// KiB that bodies take.
    #[cfg(test)]
    pub(crate) fn kib_taken(&self) -> usize {
        self.bodies.kib_taken()
    }

    /// Asks the core. A good answer to a change means that it is on disk.
    pub(crate) async fn ask(&self, command: impl FnOnce(Origin) -> Command) -> Answer {
        self.ask_with(|origin| vec![command(origin)]).await
    }

    /// The same, and keeps the room of what is sent until then: also when whoever asked is gone, as it
    /// is in the inbox of the driver all the same.
    pub(crate) async fn ask_in<C>(&self, room: Room, command: C) -> Answer
    where
        C: FnOnce(Origin) -> Command + Send + 'static,
    {
        let gateway = self.clone();
        let asked = tokio::spawn(async move {
            let answer = gateway.ask(command).await;
            drop(room);
            answer
        });
        asked.await.unwrap_or(Err(Error::StoreUnavailable))
    }

    /// The same with commands behind it that have no answer.
    async fn ask_with(&self, commands: impl FnOnce(Origin) -> Vec<Command>) -> Answer {
        let (question, answered) = self.waiting.enter();
        let origin = Origin { connection: CONNECTION, link: question.number, delivery: 0 };
        let commands = commands(origin);
        if let Err(Stopped) = self.shard.send(Input::Commands(commands)) {
            return Err(Error::ServerBusy("The broker is stopping."));
        }
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::StoreUnavailable),
        }
    }
}

impl Gateway {
    /// Waits until the driver has done all that is due by now.
    pub(crate) async fn catch_up(&self) -> Result<(), Error> {
        let (question, answered) = self.waiting.enter();
        let to = Origin { connection: CONNECTION, link: question.number, delivery: 0 };
        if let Err(Stopped) = self.shard.send(Input::CatchUp { to }) {
            return Err(Error::ServerBusy("The broker is stopping."));
        }
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer.map(|_| ()),
            Ok(Err(_)) | Err(_) => Err(Error::StoreUnavailable),
        }
    }
}

/// Hands out answers.
async fn pass_on(mailbox: Mailbox, waiting: Arc<Waiting>, seats: Arc<Seats>) {
    let mut letters = Vec::new();
    loop {
        mailbox.arrived().await;
        mailbox.take(&mut letters);
        for letter in letters.drain(..) {
            match letter {
                Letter::Effect(EffectKind::Reply { to, result }) => waiting.answer(to.link, result),
                // There is nothing more to say of it.
                Letter::CaughtUp { to } => waiting.answer(to.link, Ok(Reply::Settled)),
                // What was asked has an unknown outcome. Dropping tells so.
                Letter::StoreLost => {
                    waiting.askers().clear();
                    seats.clear();
                }
                // For those who have links.
                Letter::Effect(EffectKind::EntityClosed { .. }) | Letter::Fault(_) => {}
                Letter::Effect(EffectKind::Deliver { receiver, delivery }) => {
                    seats.deliver(receiver, delivery);
                }
                Letter::Effect(EffectKind::Drained { receiver }) => seats.drained(receiver),
                Letter::Effect(EffectKind::ReceiverClosed { receiver, error }) => {
                    seats.closed(receiver, error);
                }
                Letter::Effect(EffectKind::Read { .. } | EffectKind::AccessChanged { .. }) => {
                    warn!("something came that HTTP did not ask for");
                }
            }
        }
    }
}

/// Passes on what requests leave behind when they end, for as long as the broker runs.
async fn give_back(shard: ShardHandle, mut returned: mpsc::UnboundedReceiver<Command>) {
    while let Some(command) = returned.recv().await {
        if let Err(Stopped) = shard.send(Input::Commands(vec![command])) {
            return;
        }
    }
}

impl Waiting {
    fn enter(&self) -> (Question<'_>, oneshot::Receiver<Answer>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (asker, answered) = oneshot::channel();
        self.askers().insert(number, asker);
        (Question { waiting: self, number }, answered)
    }

    fn answer(&self, number: u64, answer: Answer) {
        if let Some(asker) = self.askers().remove(&number) {
            // Whoever asked may have given up just now.
            let _ = asker.send(answer);
        }
    }

    fn askers(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Answer>>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the question when nobody waits for it any more.
struct Question<'a> {
    waiting: &'a Waiting,
    number: u64,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.waiting.askers().remove(&self.number);
    }
}
