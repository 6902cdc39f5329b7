//! The driver over stores that wait, fail and fill up when the test says so.
//!
//! Nothing is timed. That something has not come yet is known by what comes behind it: the driver
//! hears a connection in its order, and answers an attach without writing.

use std::sync::atomic::{AtomicBool, Ordering};

use peeklock_core::{
    BrokerSettings, EntityId, EntityPath, IncomingMessage, QueueSettings, ReceiveMode, ReceiverId,
    Reply, SeededIds, SequenceNumber, Span,
};
use peeklock_protocol::message::Message;
use peeklock_storage::fault::{FaultStore, Faults};
use peeklock_storage::{MemStore, Table};

use super::*;
use crate::clock::Step;
use crate::config::MetricsSettings;

/// What every fault is set to that is to happen.
const ALWAYS: u32 = 10_000;

fn path() -> EntityPath {
    EntityPath::parse("orders").unwrap().path
}

fn message(body: &[u8]) -> IncomingMessage {
    IncomingMessage::from_wire(&Message::data(body.to_vec()).to_bytes()).unwrap()
}

/// Loads the core from a store, and declares a queue.
fn open_with(broker: BrokerSettings, queue: QueueSettings) -> OpenShard {
    Box::new(move |store| {
        let rows = store.scan(Table::State, &Broker::load_range(), usize::MAX, usize::MAX)?;
        let mut core = Broker::load(broker, Box::new(SeededIds::new(1)), rows)?;
        let command = Command::EnsureQueue { origin: None, path: path(), settings: queue.clone() };
        // Before any time a test's clock shows: what the core has seen once never goes back.
        core.handle(Timestamp(0), command);
        Ok(core)
    })
}

fn open() -> OpenShard {
    open_with(BrokerSettings::default(), QueueSettings::default())
}

fn start(store: Arc<dyn Store>, clock: Clock, open: OpenShard) -> anyhow::Result<ShardHandle> {
    let authority = Arc::new(Authority::new(Vec::new(), None, false));
    super::start(store, clock, authority, open, Metrics::new(MetricsSettings::default()))
}

/// A connection, as the driver sees one.
struct Peer {
    id: u64,
    caller: Caller,
    mailbox: Mailbox,
    letters: Vec<Letter>,
}

impl Peer {
    fn join(shard: &ShardHandle, id: u64) -> Self {
        let mailbox = Mailbox::default();
        let caller = shard.join(id, mailbox.clone()).unwrap();
        Self { id, caller, mailbox, letters: Vec::new() }
    }

    fn origin(&self, delivery: u32) -> Origin {
        Origin { connection: self.id, link: 1, delivery }
    }

    fn receiver(&self) -> ReceiverId {
        ReceiverId { connection: self.id, link: 2 }
    }

    async fn ask(&self, commands: Vec<Command>) {
        self.caller.ask(commands).await.unwrap();
    }

    fn send(&self, delivery: u32, entity: EntityId, body: &[u8]) -> Command {
        let messages = [message(body)].into_iter().collect();
        Command::Send { origin: self.origin(delivery), entity, messages, transaction: None }
    }

    async fn next(&mut self) -> Letter {
        while self.letters.is_empty() {
            self.mailbox.arrived().await;
            self.mailbox.take(&mut self.letters);
        }
        self.letters.remove(0)
    }

    async fn reply(&mut self, delivery: u32) -> Result<Reply, Error> {
        match self.next().await {
            Letter::Effect(EffectKind::Reply { to, result }) if to.delivery == delivery => result,
            other => panic!("no answer to {delivery}: {other:?}"),
        }
    }

    async fn delivery(&mut self) -> peeklock_core::Delivery {
        match self.next().await {
            Letter::Effect(EffectKind::Deliver { delivery, .. }) => delivery,
            other => panic!("no delivery: {other:?}"),
        }
    }

    /// Everything asked before this has been worked on once it returns.
    async fn entity(&mut self) -> EntityId {
        let origin = self.origin(0);
        self.ask(vec![Command::OpenSender { origin, path: path() }]).await;
        match self.reply(0).await.unwrap() {
            Reply::SenderOpened { entity, .. } => entity,
            other => panic!("{other:?}"),
        }
    }

    /// Receives up to `limit` messages.
    async fn receive(&mut self, limit: u64) {
        let (origin, receiver) = (self.origin(0), self.receiver());
        let mode = ReceiveMode::PeekLock;
        let opened = Command::OpenReceiver { origin, receiver, path: path(), mode, session: None };
        self.ask(vec![opened, Command::Demand { receiver, limit }]).await;
        assert!(matches!(self.reply(0).await, Ok(Reply::ReceiverOpened { .. })));
    }

    fn browse(&self, delivery: u32, entity: EntityId) -> Command {
        Command::Browse {
            origin: self.origin(delivery),
            entity,
            from: SequenceNumber::FIRST,
            count_max: 100,
            bytes_max: 1 << 20,
            session: None,
        }
    }

    async fn bodies(&mut self, entity: EntityId) -> usize {
        self.ask(vec![self.browse(0, entity)]).await;
        match self.reply(0).await.unwrap() {
            Reply::Browsed { messages } => messages.len(),
            other => panic!("{other:?}"),
        }
    }
}

/// A store that syncs when told, with the queue in it.
async fn manual() -> (Arc<MemStore>, ShardHandle, Peer, EntityId) {
    let store = Arc::new(MemStore::manual());
    let shard = start(Arc::clone(&store) as Arc<dyn Store>, Clock::real(), open()).unwrap();
    let mut peer = Peer::join(&shard, 1);
    let entity = peer.entity().await;
    store.sync_all();
    (store, shard, peer, entity)
}

/// Lets the driver work on everything it has: the test runs on the same thread.
async fn let_work() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn accepted_and_delivered_only_when_on_disk() {
    let (store, _shard, mut peer, entity) = manual().await;
    peer.receive(10).await;
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    // The answers to these come first, so what was sent is neither answered nor delivered.
    peer.entity().await;
    assert!(peer.letters.is_empty());
    assert_eq!(store.sync_all(), 1);
    let mut names = Vec::new();
    for _ in 0..2 {
        names.push(match peer.next().await {
            Letter::Effect(EffectKind::Reply { to, result: Ok(Reply::Accepted) }) => to.delivery,
            Letter::Effect(EffectKind::Deliver { .. }) => 100,
            other => panic!("{other:?}"),
        });
    }
    names.sort_unstable();
    assert_eq!(names, [1, 100]);
}

#[tokio::test]
async fn a_settlement_is_answered_only_when_on_disk() {
    let (store, _shard, mut peer, entity) = manual().await;
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    peer.entity().await;
    store.sync_all();
    assert!(matches!(peer.reply(1).await, Ok(Reply::Accepted)));
    peer.receive(1).await;
    let token = peer.delivery().await.lock.unwrap().token;
    let settlement = Settlement::Complete;
    let origin = Some(peer.origin(2));
    peer.ask(vec![Command::Settle { origin, entity, token, settlement, transaction: None }]).await;
    peer.entity().await;
    assert_eq!(store.sync_all(), 1);
    assert!(matches!(peer.reply(2).await, Ok(Reply::Settled)));
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_answered_and_what_is_durable_is_there() {
    let lost = Faults { lost: ALWAYS, ..Faults::NONE };
    let kept = Faults { kept: ALWAYS, ..Faults::NONE };
    let refused = Faults { refused: ALWAYS, ..Faults::NONE };
    for (faults, found) in [(lost, 1), (kept, 2), (refused, 1)] {
        let store = Arc::new(FaultStore::new(MemStore::new(), 1, Faults::NONE));
        let shard = start(Arc::clone(&store) as Arc<dyn Store>, Clock::real(), open()).unwrap();
        let mut peer = Peer::join(&shard, 1);
        let mut other = Peer::join(&shard, 2);
        let entity = peer.entity().await;
        peer.ask(vec![peer.send(1, entity, b"safe")]).await;
        assert!(matches!(peer.reply(1).await, Ok(Reply::Accepted)));

        store.set_faults(faults);
        peer.ask(vec![peer.send(2, entity, b"unknown")]).await;
        assert!(matches!(peer.next().await, Letter::StoreLost), "{faults:?}");
        assert!(matches!(other.next().await, Letter::StoreLost), "{faults:?}");
        store.set_faults(Faults::NONE);

        let mut again = Peer::join(&shard, 3);
        let entity = again.entity().await;
        assert_eq!(again.bodies(entity).await, found, "{faults:?}");
        again.ask(vec![again.send(3, entity, b"after")]).await;
        assert!(matches!(again.reply(3).await, Ok(Reply::Accepted)), "{faults:?}");
        assert_eq!(again.bodies(entity).await, found + 1, "{faults:?}");
    }
}

#[tokio::test]
async fn while_the_store_cannot_be_reopened_peers_are_turned_away_and_a_stop_is_heard() {
    let store = Arc::new(FaultStore::new(MemStore::new(), 1, Faults::NONE));
    let broken = Arc::new(AtomicBool::new(false));
    let (works, is_broken) = (open(), Arc::clone(&broken));
    let open: OpenShard = Box::new(move |store| {
        anyhow::ensure!(!is_broken.load(Ordering::Relaxed), "the disk is gone");
        works(store)
    });
    let shard = start(Arc::clone(&store) as Arc<dyn Store>, Clock::real(), open).unwrap();
    let mut peer = Peer::join(&shard, 1);
    let entity = peer.entity().await;
    broken.store(true, Ordering::Relaxed);
    store.set_faults(Faults { lost: ALWAYS, ..Faults::NONE });
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    assert!(matches!(peer.next().await, Letter::StoreLost));
    let mut late = Peer::join(&shard, 2);
    assert!(matches!(late.next().await, Letter::StoreLost));
    // More than the inbox holds: commands are taken and dropped, so nobody gets stuck.
    for _ in 0..2 * INPUTS_MAX {
        late.ask(vec![Command::Tick]).await;
    }
    assert!(matches!(shard.stop().await, Ok(Err(StoreError::Unknown(_)))));
}

#[tokio::test]
async fn on_a_full_disk_sends_are_refused_and_settlements_go_on() {
    let store = Arc::new(FaultStore::new(MemStore::new(), 1, Faults::NONE));
    let shard = start(Arc::clone(&store) as Arc<dyn Store>, Clock::real(), open()).unwrap();
    let mut peer = Peer::join(&shard, 1);
    let entity = peer.entity().await;
    store.set_faults(Faults { disk_full: ALWAYS, ..Faults::NONE });
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    assert!(matches!(peer.reply(1).await, Ok(Reply::Accepted)));
    peer.ask(vec![peer.send(2, entity, b"b")]).await;
    assert_eq!(peer.reply(2).await.unwrap_err(), Error::ServerBusy(DISK_FULL));
    peer.receive(1).await;
    let token = peer.delivery().await.lock.unwrap().token;
    let origin = Some(peer.origin(3));
    let settlement = Settlement::Complete;
    peer.ask(vec![Command::Settle { origin, entity, token, settlement, transaction: None }]).await;
    assert!(matches!(peer.reply(3).await, Ok(Reply::Settled)));
    store.set_faults(Faults::NONE);
    peer.ask(vec![peer.send(4, entity, b"c")]).await;
    assert!(matches!(peer.reply(4).await, Ok(Reply::Accepted)));
}

#[tokio::test]
async fn a_stop_makes_durable_what_was_taken() {
    let (store, shard, peer, entity) = manual().await;
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    assert_eq!(shard.stop().await.unwrap(), Ok(()));
    assert!(shard.send(Input::Commands(Vec::new())).is_err());
    store.reopen().unwrap();
    let core = open()(&*store).unwrap();
    let stats = core.queue_stats().find(|stats| stats.path == path()).unwrap();
    assert_eq!(stats.active_count, 1);
}

#[tokio::test]
async fn the_store_is_never_asked_for_more_than_its_queue_holds() {
    let (store, shard, mut peer, entity) = manual().await;
    let body = vec![0; 100_000];
    let batch = |delivery, count| {
        let messages = std::iter::repeat_with(|| message(&body)).take(count).collect();
        Command::Send { origin: peer.origin(delivery), entity, messages, transaction: None }
    };
    let (first, second) = (batch(1, 1), batch(2, 700));
    peer.ask(vec![first]).await;
    let_work().await;
    assert_eq!(store.pending_count(), 1);
    peer.ask(vec![second]).await;
    let_work().await;
    assert_eq!(store.pending_count(), 1, "the second batch waits for room");
    for delivery in 1..=2 {
        assert_eq!(store.sync_all(), 1);
        assert!(matches!(peer.reply(delivery).await, Ok(Reply::Accepted)));
        let_work().await;
    }
    assert_eq!(shard.stop().await.unwrap(), Ok(()));
}

#[tokio::test]
async fn what_a_connection_has_not_looked_at_goes_to_the_next() {
    let store = Arc::new(MemStore::new());
    let shard = start(store, Clock::real(), open()).unwrap();
    let mut peer = Peer::join(&shard, 1);
    let entity = peer.entity().await;
    let mut gone = Peer::join(&shard, 2);
    gone.receive(2).await;
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    assert!(matches!(peer.reply(1).await, Ok(Reply::Accepted)));
    // Its letter lies there. Another message is on its way when it leaves.
    let receiver = gone.receiver();
    let last = vec![peer.send(2, entity, b"b"), Command::CloseReceiver { receiver }];
    gone.ask(last).await;
    gone.caller.leave().unwrap();
    assert!(matches!(peer.reply(2).await, Ok(Reply::Accepted)));
    peer.receive(2).await;
    for _ in 0..2 {
        let delivery = peer.delivery().await;
        assert_eq!(delivery.attempts, 0);
    }
}

/// A receiver of five messages that it has locked and holds, and how long its locks last.
async fn with_five_locked(clock: &Clock, broker: BrokerSettings) -> (Peer, Span) {
    let queue = QueueSettings::default();
    let shard =
        start(Arc::new(MemStore::new()), clock.clone(), open_with(broker, queue.clone())).unwrap();
    let mut peer = Peer::join(&shard, 1);
    let entity = peer.entity().await;
    peer.ask((1..6).map(|delivery| peer.send(delivery, entity, b"a")).collect()).await;
    for delivery in 1..6 {
        assert!(matches!(peer.reply(delivery).await, Ok(Reply::Accepted)));
    }
    peer.receive(10).await;
    for _ in 0..5 {
        assert_eq!(peer.delivery().await.attempts, 0);
    }
    (peer, queue.lock_duration)
}

#[tokio::test]
async fn a_driver_that_sleeps_wakes_up_when_a_running_clock_is_moved() {
    let clock = Clock::steerable();
    let (mut peer, lock_duration) = with_five_locked(&clock, BrokerSettings::default()).await;
    let_work().await;
    clock.steer(Step::Advance(lock_duration)).unwrap();
    for _ in 0..5 {
        assert_eq!(peer.delivery().await.attempts, 1);
    }
}

#[tokio::test]
async fn nothing_ends_while_the_clock_is_frozen_before_its_end() {
    let clock = Clock::steerable();
    clock.steer(Step::Freeze { at: None }).unwrap();
    let (mut peer, lock_duration) = with_five_locked(&clock, BrokerSettings::default()).await;
    clock.steer(Step::Advance(Span(lock_duration.0 - 1))).unwrap();
    peer.caller.catch_up(peer.origin(7)).unwrap();
    assert!(matches!(peer.next().await, Letter::CaughtUp { to } if to.delivery == 7));
    clock.steer(Step::Advance(Span(1))).unwrap();
    for _ in 0..5 {
        assert_eq!(peer.delivery().await.attempts, 1);
    }
}

#[tokio::test]
async fn locks_that_end_together_have_all_ended_when_the_driver_has_caught_up() {
    let clock = Clock::steerable();
    clock.steer(Step::Freeze { at: None }).unwrap();
    // A turn ends one lock.
    let broker = BrokerSettings { expiries_max: 1, ..BrokerSettings::default() };
    let (mut peer, lock_duration) = with_five_locked(&clock, broker).await;
    clock.steer(Step::Advance(lock_duration)).unwrap();
    peer.caller.catch_up(peer.origin(7)).unwrap();
    for _ in 0..5 {
        assert_eq!(peer.delivery().await.attempts, 1);
    }
    assert!(matches!(peer.next().await, Letter::CaughtUp { to } if to.delivery == 7));
}

#[tokio::test]
async fn the_driver_has_not_caught_up_while_something_is_read() {
    let (store, shard, peer, entity) = manual().await;
    peer.ask(vec![peer.send(1, entity, b"a")]).await;
    shard.stop().await.unwrap().unwrap();
    store.reopen().unwrap();
    // The message is known by its row alone.
    let shard = start(store, Clock::real(), open()).unwrap();
    let mut peer = Peer::join(&shard, 1);
    peer.ask(vec![peer.browse(2, entity)]).await;
    peer.caller.catch_up(peer.origin(3)).unwrap();
    let found = peer.reply(2).await.unwrap();
    assert!(matches!(&found, Reply::Browsed { messages } if messages.len() == 1), "{found:?}");
    assert!(matches!(peer.next().await, Letter::CaughtUp { to } if to.delivery == 3));
}
