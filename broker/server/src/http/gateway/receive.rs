//! Requests that wait for a message: a receiver each, with a credit of one, and nothing left behind.
//!
//! Whatever becomes of a request, its receiver is closed, and a message that was on its way to it goes
//! back uncounted: what waits is a value, and dropping it gives back. A message is always locked first,
//! also for those who want it gone, so that none is lost to a peer that has left meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peeklock_core::{Command, Delivery, EntityPath, Error, ReceiveMode, ReceiverId, Settlement};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::rest::limits::WAITING_MAX;
use super::{ANSWER_WITHIN, CONNECTION, Gateway};
use crate::driver::{Input, Stopped};

/// What comes for a receiver: each at most once.
enum Event {
    Delivered(Held),
    Drained,
    Closed(Error),
}

/// Why there is no message.
pub(crate) enum NotReceived {
    /// The entity does not do that, or nobody may wait now.
    Refused(Error),
    /// It did, and does not any more.
    Ended(Error),
}

impl From<Error> for NotReceived {
    fn from(error: Error) -> Self {
        NotReceived::Refused(error)
    }
}

/// Where those wait who have taken a seat, by its number.
type Taken = HashMap<u64, mpsc::UnboundedSender<Event>>;

/// All receivers there are.
pub(super) struct Seats {
    next: AtomicU64,
    taken: Mutex<Taken>,
    /// What is left to do when a request ends: two commands for a receiver at most.
    returns: mpsc::UnboundedSender<Command>,
}

impl Seats {
    pub(super) fn new(returns: mpsc::UnboundedSender<Command>) -> Self {
        Self { next: AtomicU64::new(0), taken: Mutex::default(), returns }
    }

    fn take(self: &Arc<Self>) -> Result<Seat, Error> {
        let taken = self.taken();
        if WAITING_MAX <= taken.len() {
            return Err(Error::ServerBusy("Too many requests wait for messages."));
        }
        Ok(self.take_in(taken))
    }

    /// One more than there may be for peers, for the broker itself.
    fn take_anyway(self: &Arc<Self>) -> Seat {
        self.take_in(self.taken())
    }

    fn take_in(self: &Arc<Self>, mut taken: MutexGuard<'_, Taken>) -> Seat {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        taken.insert(number, sender);
        drop(taken);
        let receiver = ReceiverId { connection: CONNECTION, link: number };
        Seat { seats: Arc::clone(self), receiver, events }
    }

    pub(super) fn deliver(&self, receiver: ReceiverId, delivery: Delivery) {
        let returns = Some(self.returns.clone());
        self.tell(receiver, Event::Delivered(Held { delivery, returns }));
    }

    pub(super) fn drained(&self, receiver: ReceiverId) {
        self.tell(receiver, Event::Drained);
    }

    pub(super) fn closed(&self, receiver: ReceiverId, error: Error) {
        self.tell(receiver, Event::Closed(error));
    }

    /// No receiver is there any more, and no lock.
    pub(super) fn clear(&self) {
        self.taken().clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.taken().len()
    }

    /// An event that nobody takes is dropped, and then gives back what it brought.
    fn tell(&self, receiver: ReceiverId, event: Event) {
        if let Some(seat) = self.taken().get(&receiver.link).cloned() {
            let _ = seat.send(event);
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A receiver, for as long as somebody waits at it.
struct Seat {
    seats: Arc<Seats>,
    receiver: ReceiverId,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken().remove(&self.receiver.link);
        // Nobody listens when the broker stops; then there is nothing to close either.
        let _ = self.seats.returns.send(Command::CloseReceiver { receiver: self.receiver });
    }
}

/// A message that is locked for a request. It goes back unless it is kept.
pub(crate) struct Held {
    delivery: Delivery,
    returns: Option<mpsc::UnboundedSender<Command>>,
}

impl Held {
    /// The lock, or the message, is the peer's now.
    pub(crate) fn keep(mut self) -> Delivery {
        self.returns = None;
        self.delivery.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take()
            && let Some(lock) = &self.delivery.lock
        {
            let (entity, token) = (self.delivery.entity, lock.token);
            let settlement = Settlement::Release;
            let _ = returns.send(Command::Settle {
                origin: None,
                entity,
                token,
                settlement,
                transaction: None,
            });
        }
    }
}

impl Gateway {
    /// Locks the next message of an entity. Waits for one; with no time to wait, takes what is there.
    pub(crate) async fn receive(
        &self,
        path: EntityPath,
        wait: Duration,
    ) -> Result<Option<Held>, NotReceived> {
        self.receive_at(self.seats.take()?, path, wait).await
    }

    /// Takes what is there, however many peers wait: for the broker itself.
    pub(crate) async fn receive_own(&self, path: EntityPath) -> Result<Option<Held>, NotReceived> {
        self.receive_at(self.seats.take_anyway(), path, Duration::ZERO).await
    }

    async fn receive_at(
        &self,
        mut seat: Seat,
        path: EntityPath,
        wait: Duration,
    ) -> Result<Option<Held>, NotReceived> {
        let receiver = seat.receiver;
        let drain = Command::Drain { receiver, limit: 1 };
        self.ask_with(|origin| {
            let mode = ReceiveMode::PeekLock;
            let open = Command::OpenReceiver { origin, receiver, path, mode, session: None };
            let demand =
                if wait.is_zero() { drain } else { Command::Demand { receiver, limit: 1 } };
            vec![open, demand]
        })
        .await?;
        let event = if let Ok(event) = timeout(wait, seat.events.recv()).await {
            event
        } else {
            // A message may be on its way at this very moment. The answer to this comes behind it.
            if !wait.is_zero() {
                let drain = Input::Commands(vec![Command::Drain { receiver, limit: 1 }]);
                self.shard.send(drain).map_err(|Stopped| STOPPING)?;
            }
            timeout(ANSWER_WITHIN, seat.events.recv()).await.unwrap_or(None)
        };
        match event {
            Some(Event::Delivered(held)) => Ok(Some(held)),
            Some(Event::Drained) => Ok(None),
            Some(Event::Closed(error)) => Err(NotReceived::Ended(error)),
            None => Err(Error::StoreUnavailable.into()),
        }
    }

    /// Takes a message from its entity, for good.
    pub(crate) async fn complete(&self, held: Held) -> Result<Delivery, Error> {
        let entity = held.delivery.entity;
        if let Some(lock) = &held.delivery.lock {
            let (token, settlement) = (lock.token, Settlement::Complete);
            self.ask(|origin| Command::Settle {
                origin: Some(origin),
                entity,
                token,
                settlement,
                transaction: None,
            })
            .await?;
        }
        Ok(Delivery { lock: None, ..held.keep() })
    }
}

const STOPPING: Error = Error::ServerBusy("The broker is stopping.");
