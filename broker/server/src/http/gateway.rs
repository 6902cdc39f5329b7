//! The way from HTTP to the core: a command, and its answer.
//!
//! To the driver all requests are of one connection, which never leaves. It has no receivers, so that
//! nothing but answers comes for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peeklock_core::{Command, EffectKind, Error, Origin, Reply};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tracing::warn;

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
    pub(crate) async fn start(shard: ShardHandle) -> Result<Self, Stopped> {
        let mailbox = Mailbox::default();
        shard.send(Input::Joined { connection: CONNECTION, mailbox: mailbox.clone() }).await?;
        let waiting = Arc::new(Waiting::default());
        let hand = tokio::spawn(pass_on(mailbox, Arc::clone(&waiting)));
        Ok(Self { shard, waiting, _hand: Arc::new(Hand(hand.abort_handle())) })
    }

    /// Asks the core. A good answer to a change means that it is on disk.
    pub(crate) async fn ask(&self, command: impl FnOnce(Origin) -> Command) -> Answer {
        let (question, answered) = self.waiting.enter();
        let origin = Origin { connection: CONNECTION, link: question.number, delivery: 0 };
        let commands = vec![command(origin)];
        if let Err(Stopped) = self.shard.send(Input::Commands(commands)).await {
            return Err(Error::ServerBusy("The broker is stopping."));
        }
        match tokio::time::timeout(ANSWER_WITHIN, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::StoreUnavailable),
        }
    }
}

/// Hands out answers.
async fn pass_on(mailbox: Mailbox, waiting: Arc<Waiting>) {
    let mut letters = Vec::new();
    loop {
        mailbox.arrived().await;
        mailbox.take(&mut letters);
        for letter in letters.drain(..) {
            match letter {
                Letter::Effect(EffectKind::Reply { to, result }) => waiting.answer(to.link, result),
                // What was asked has an unknown outcome. Dropping tells so.
                Letter::StoreLost => waiting.askers().clear(),
                // For those who have links.
                Letter::Effect(EffectKind::EntityClosed { .. }) => {}
                Letter::Effect(
                    EffectKind::Deliver { .. }
                    | EffectKind::Drained { .. }
                    | EffectKind::ReceiverClosed { .. }
                    | EffectKind::Read { .. },
                )
                | Letter::CaughtUp { .. } => warn!("something came that HTTP did not ask for"),
            }
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
