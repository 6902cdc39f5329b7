//! The ways to a driver: for anybody, and for a connection, which is heard in its order.

use std::sync::Arc;

use peeklock_core::{Broker, Command, Origin};
use peeklock_storage::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::faults::Sudden;
use crate::mailbox::Mailbox;

/// Commands of one connection that go into one input: what it has read at once may be hundreds, and
/// whoever comes behind them would wait for all. Fewer are no fairer, and cost more.
pub(super) const COMMANDS_PER_INPUT: usize = 32;

/// Inputs of one connection that may wait for the driver. A connection that has as many waits too, and
/// so stops reading its socket.
const INPUTS_PER_CONNECTION: u32 = 4;

/// Inputs of all connections that may wait while those they are from read on. Where more do, each
/// connection waits until it has been heard: thousands of them cannot fill the memory with what they ask.
const INPUTS_AHEAD: usize = 256;

/// Whoever asked the driver to stop, waiting to hear how the store was closed.
pub(super) type StopRequest = oneshot::Sender<Result<(), StoreError>>;

/// What the driver is told.
pub(crate) enum Input {
    Commands(Vec<Command>),
    Joined {
        connection: u64,
        mailbox: Mailbox,
    },
    Left {
        connection: u64,
    },
    /// Asks for [`crate::mailbox::Letter::CaughtUp`] once all is done that is due by now.
    CatchUp {
        to: Origin,
    },
    /// Passes [`crate::mailbox::Letter::Fault`] on to all connections.
    Fault(Sudden),
    /// Looks at the state as it is between two turns. It runs in the driver, so it must be short.
    Query(Box<dyn FnOnce(&Broker) + Send>),
    Stop {
        done: StopRequest,
    },
}

/// An input, and when it came: before it waited for a place.
pub(super) struct Arrived {
    pub(super) at: Option<Instant>,
    /// The connection that is to be heard in its order.
    pub(super) caller: Option<u64>,
    pub(super) input: Input,
    pub(super) _places: Places,
}

/// What an input takes while it waits: a place of its connection's, and one of all's.
#[derive(Default)]
pub(super) struct Places {
    _own: Option<OwnedSemaphorePermit>,
    _ahead: Option<OwnedSemaphorePermit>,
}

/// The driver is gone, which happens only when the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker is stopping")]
pub(crate) struct Stopped;

/// The driver could not look: the store has failed and is being reopened, or the process stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker cannot answer now")]
pub(crate) struct Unanswered;

/// The way to a shard's driver.
#[derive(Clone)]
pub(crate) struct ShardHandle {
    inputs: mpsc::UnboundedSender<Arrived>,
    /// Places of those who read on meanwhile.
    ahead: Arc<Semaphore>,
    /// Whether anybody wants to know when inputs arrived.
    is_timed: bool,
}

impl ShardHandle {
    pub(super) fn new(inputs: mpsc::UnboundedSender<Arrived>, is_timed: bool) -> Self {
        Self { inputs, ahead: Arc::new(Semaphore::new(INPUTS_AHEAD)), is_timed }
    }

    /// Reads the state of the core. What is read may not be on disk yet.
    pub(crate) async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Broker) -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let (answer, answered) = oneshot::channel();
        let query = Input::Query(Box::new(move |core| {
            // Whoever asked has given up when this fails.
            let _ = answer.send(look(core));
        }));
        self.send(query).map_err(|_| Unanswered)?;
        answered.await.map_err(|_| Unanswered)
    }

    /// For those who wait for the answer before they send more. Inputs about different entities are not
    /// always heard in their order.
    pub(crate) fn send(&self, input: Input) -> Result<(), Stopped> {
        let at = self.arrival(&input);
        self.pass(Arrived { at, caller: None, input, _places: Places::default() })
    }

    /// Makes a connection known.
    pub(crate) fn join(&self, connection: u64, mailbox: Mailbox) -> Result<Caller, Stopped> {
        let places = Arc::new(Semaphore::new(INPUTS_PER_CONNECTION as usize));
        let caller = Caller { shard: self.clone(), connection, places };
        caller.say(None, Input::Joined { connection, mailbox }, Places::default())?;
        Ok(caller)
    }

    /// Stops the driver after what it has taken is durable, and closes the store.
    pub(crate) async fn stop(&self) -> Result<Result<(), StoreError>, Stopped> {
        let (done, stopped) = oneshot::channel();
        self.send(Input::Stop { done })?;
        stopped.await.map_err(|_| Stopped)
    }

    fn arrival(&self, input: &Input) -> Option<Instant> {
        (self.is_timed && matches!(input, Input::Commands(_))).then(Instant::now)
    }

    fn pass(&self, arrived: Arrived) -> Result<(), Stopped> {
        self.inputs.send(arrived).map_err(|_| Stopped)
    }
}

/// The way of one connection: what it says is heard in its order.
pub(crate) struct Caller {
    shard: ShardHandle,
    connection: u64,
    places: Arc<Semaphore>,
}

impl Caller {
    /// Hands over what the connection asks for, by parts: others have their turn between two of them.
    pub(crate) async fn ask(&self, commands: Vec<Command>) -> Result<(), Stopped> {
        if commands.len() <= COMMANDS_PER_INPUT {
            return if commands.is_empty() { Ok(()) } else { self.ask_part(commands).await };
        }
        let mut rest = commands.into_iter();
        while rest.len() != 0 {
            self.ask_part(rest.by_ref().take(COMMANDS_PER_INPUT).collect()).await?;
        }
        Ok(())
    }

    async fn ask_part(&self, commands: Vec<Command>) -> Result<(), Stopped> {
        let input = Input::Commands(commands);
        let at = self.shard.arrival(&input);
        let own = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Stopped)?;
        let ahead = Arc::clone(&self.shard.ahead).try_acquire_owned().ok();
        let reads_on = ahead.is_some();
        self.say(at, input, Places { _own: Some(own), _ahead: ahead })?;
        if !reads_on {
            // It has all its places again once it has been heard.
            let heard = self.places.acquire_many(INPUTS_PER_CONNECTION).await;
            drop(heard.map_err(|_| Stopped)?);
        }
        Ok(())
    }

    /// Asks for [`crate::mailbox::Letter::CaughtUp`] behind all it has asked for.
    pub(crate) fn catch_up(&self, to: Origin) -> Result<(), Stopped> {
        self.say(None, Input::CatchUp { to }, Places::default())
    }

    /// The connection is gone.
    pub(crate) fn leave(self) -> Result<(), Stopped> {
        self.say(None, Input::Left { connection: self.connection }, Places::default())
    }

    fn say(&self, at: Option<Instant>, input: Input, places: Places) -> Result<(), Stopped> {
        self.shard.pass(Arrived { at, caller: Some(self.connection), input, _places: places })
    }
}

#[cfg(test)]
mod tests {
    use peeklock_core::ReceiverId;

    use super::*;

    const IN_LINE: usize = INPUTS_PER_CONNECTION as usize;

    #[tokio::test]
    async fn a_connection_hands_over_a_few_parts_and_waits() {
        let (inputs, mut arrived) = mpsc::unbounded_channel();
        let shard = ShardHandle::new(inputs, false);
        let caller = shard.join(1, Mailbox::default()).unwrap();
        assert!(matches!(arrived.try_recv().unwrap().input, Input::Joined { connection: 1, .. }));
        let receiver = ReceiverId { connection: 1, link: 0 };
        let asked = (0..250).map(|limit| Command::Drain { receiver, limit }).collect();
        let asking = tokio::spawn(async move { caller.ask(asked).await });
        let mut limits = Vec::new();
        let mut held = Vec::new();
        for part in 1..=8 {
            tokio::task::yield_now().await;
            assert_eq!(arrived.len(), IN_LINE.min(9 - part));
            let next = arrived.recv().await.unwrap();
            let Input::Commands(commands) = &next.input else { panic!("no commands") };
            assert_eq!(commands.len(), if part == 8 { 26 } else { COMMANDS_PER_INPUT });
            limits.extend(commands.iter().map(|command| match command {
                Command::Drain { limit, .. } => *limit,
                other => panic!("{other:?}"),
            }));
            if part == 1 {
                // What is being worked on keeps its place.
                held.push(next);
                tokio::task::yield_now().await;
                assert_eq!(arrived.len(), IN_LINE - 1);
                held.clear();
            }
        }
        assert_eq!(asking.await.unwrap(), Ok(()));
        assert!(limits.into_iter().eq(0..250), "in their order");
    }
    #[tokio::test]
    async fn where_many_wait_each_waits_until_it_is_heard() {
        let (inputs, mut arrived) = mpsc::unbounded_channel();
        let shard = ShardHandle::new(inputs, false);
        let ask = |connection| {
            let caller = shard.join(connection, Mailbox::default()).unwrap();
            let receiver = ReceiverId { connection, link: 0 };
            let asked = move || vec![Command::Drain { receiver, limit: 1 }];
            tokio::spawn(async move {
                caller.ask(asked()).await.unwrap();
                caller.ask(asked()).await.unwrap();
            });
        };
        (0..1000).for_each(ask);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        // Half as many have two in line as there are places, the others one.
        assert_eq!(arrived.len(), 1000 + 1000 + INPUTS_AHEAD / 2);
        let mut commands = 0;
        while commands < 2000 {
            let next = arrived.recv().await.unwrap();
            commands += usize::from(matches!(next.input, Input::Commands(_)));
        }
    }
}
