//! What receivers of sessions see, rule by rule.

mod browsing;

use bytes::Bytes;
use peeklock_protocol::message::{Header, Message, Properties};
use peeklock_protocol::value::{Map, Symbol, Value};
use smallvec::SmallVec;

use super::super::tests::timed::message_with;
use crate::command::{Command, ReceiveMode, SessionRequest, Settlement};
use crate::effect::{Delivery, EffectKind, MessageState, Reply, SessionLock};
use crate::entity::path::EntityPath;
use crate::entity::settings::{BrokerSettings, QueueSettings};
use crate::error::{Error, WaitTime};
use crate::id::{EntityId, MessageSessionId, Origin, ReceiverId, SequenceNumber};
use crate::message::IncomingMessage;
use crate::testing::{World, wire_message};
use crate::time::{Span, Timestamp};

const PEEK: ReceiveMode = ReceiveMode::PeekLock;
const LOCK: Span = Span::from_secs(60);

pub(super) fn id(session: &str) -> MessageSessionId {
    MessageSessionId::new(session).unwrap()
}

fn named(session: &str) -> SessionRequest {
    SessionRequest::Named(id(session))
}

fn next(millis: u64) -> SessionRequest {
    SessionRequest::NextAvailable { wait: Span(millis) }
}

pub(super) fn session_message(session: &str, body: &str) -> IncomingMessage {
    timed_message(session, body, None)
}

/// A message that is of use for so many milliseconds.
pub(super) fn timed_message(session: &str, body: &str, ttl: Option<u32>) -> IncomingMessage {
    let header = ttl.map(|_| Header { ttl, ..Header::default() });
    let properties = Some(Properties { group_id: Some(session.into()), ..Properties::default() });
    let head = Message { header, properties, ..Message::default() }.to_bytes();
    let wire = [&head[..], &wire_message(body.as_bytes())].concat();
    IncomingMessage::from_wire(&wire).unwrap()
}

/// A message that is to become active then.
pub(super) fn due_message(session: &str, body: &str, due: Timestamp) -> IncomingMessage {
    let properties = Some(Properties { group_id: Some(session.into()), ..Properties::default() });
    let key = Symbol::from("x-opt-scheduled-enqueue-time");
    let annotations = Map::new().with(key, Value::Timestamp(due.as_amqp()));
    let sections = Message { properties, ..Message::default() };
    message_with(&sections.with_message_annotations(annotations), body)
}

fn text(delivery: &Delivery) -> &str {
    body_text(&delivery.message)
}

pub(super) fn body_text(message: &crate::message::StoredMessage) -> &str {
    let body = message.sections().body().unwrap();
    std::str::from_utf8(&message.bytes()[body][8..]).unwrap()
}

fn texts(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(text).collect()
}

fn settings() -> QueueSettings {
    QueueSettings { requires_session: true, lock_duration: LOCK, ..QueueSettings::default() }
}

fn world() -> (World, EntityId) {
    World::with_queue(BrokerSettings::default(), settings())
}

/// A broker that keeps next to nothing in memory.
fn small_world(settings: QueueSettings) -> (World, EntityId) {
    let small = BrokerSettings {
        cache_bytes_max: 0,
        window_bytes_max: 0,
        page_rows_max: 2,
        sessions_known_max: 2,
        ..BrokerSettings::default()
    };
    World::with_queue(small, settings)
}

impl World {
    /// Sends messages, each `session:body`.
    fn put(&mut self, entity: EntityId, messages: &[&str]) {
        for message in messages {
            let (session, body) = message.split_once(':').unwrap();
            let messages = SmallVec::from_iter([session_message(session, body)]);
            let send = |origin| Command::Send { origin, entity, messages, transaction: None };
            assert!(matches!(self.ask(send), Ok(Reply::Accepted)));
        }
    }

    fn start_accept(&mut self, link: u64, request: SessionRequest) -> (ReceiverId, Origin) {
        self.start_accept_in(PEEK, link, request)
    }

    fn start_accept_in(
        &mut self,
        mode: ReceiveMode,
        link: u64,
        request: SessionRequest,
    ) -> (ReceiverId, Origin) {
        let receiver = ReceiverId { connection: 1, link };
        let origin = self.origin();
        let path = EntityPath::for_new_entity("q").unwrap();
        let session = Some(request);
        self.handle(Command::OpenReceiver { origin, receiver, path, mode, session });
        self.settle_down();
        (receiver, origin)
    }

    fn accepted(&mut self, origin: Origin) -> Option<Result<SessionLock, Error>> {
        let reply = self.take_reply(origin)?;
        Some(reply.map(|reply| {
            let Reply::ReceiverOpened { session: Some(lock), .. } = reply else {
                panic!("{reply:?}")
            };
            lock
        }))
    }

    fn try_accept(&mut self, link: u64, request: SessionRequest) -> Result<SessionLock, Error> {
        let (_, origin) = self.start_accept(link, request);
        self.accepted(origin).expect("an answer at once")
    }

    #[track_caller]
    fn accept(&mut self, link: u64, request: SessionRequest) -> ReceiverId {
        self.try_accept(link, request).unwrap();
        ReceiverId { connection: 1, link }
    }

    fn close(&mut self, receiver: ReceiverId) {
        self.handle(Command::CloseReceiver { receiver });
        self.settle_down();
    }

    fn state(&mut self, entity: EntityId, session: &str) -> Result<Option<Bytes>, Error> {
        let session = id(session);
        self.ask(|origin| Command::GetSessionState { origin, entity, session }).map(|reply| {
            let Reply::SessionState { state } = reply else { panic!("{reply:?}") };
            state
        })
    }

    fn set_state(
        &mut self,
        entity: EntityId,
        session: &str,
        state: Option<&'static [u8]>,
    ) -> Result<(), Error> {
        let (session, state) = (id(session), state.map(Bytes::from_static));
        self.ask(|origin| Command::SetSessionState { origin, entity, session, state }).map(drop)
    }

    fn list(
        &mut self,
        entity: EntityId,
        updated_after: Option<Timestamp>,
        skip: u32,
        count_max: u32,
    ) -> (Vec<String>, u32) {
        let list =
            |origin| Command::ListSessions { origin, entity, updated_after, skip, count_max };
        match self.ask(list) {
            Ok(Reply::Sessions { sessions, skip }) => {
                (sessions.iter().map(ToString::to_string).collect(), skip)
            }
            other => panic!("{other:?}"),
        }
    }

    fn lost_receivers(&mut self) -> Vec<(ReceiverId, Error)> {
        let mut lost = Vec::new();
        for kind in std::mem::take(&mut self.released) {
            if let EffectKind::ReceiverClosed { receiver, error } = kind {
                lost.push((receiver, error));
            } else {
                self.released.push(kind);
            }
        }
        lost
    }
}

#[test]
fn a_session_has_one_holder_and_is_free_when_it_leaves() {
    let (mut world, _) = world();
    let lock = world.try_accept(1, named("a")).unwrap();
    assert_eq!(lock, SessionLock { session: id("a"), until: world.now.plus(LOCK) });
    let refused = world.try_accept(2, named("a")).unwrap_err();
    assert_eq!(refused, Error::SessionCannotBeLocked("a".into()));
    world.accept(3, named(""));
    world.close(ReceiverId { connection: 1, link: 1 });
    world.accept(4, named("a"));
}

#[test]
fn a_lock_that_is_over_does_not_keep_others_out() {
    let (mut world, _) = world();
    world.accept(1, named("a"));
    world.now = world.now.plus(LOCK);
    // The timer has not fired yet.
    world.accept(2, named("a"));
    let lost = world.lost_receivers();
    assert_eq!(lost, [(ReceiverId { connection: 1, link: 1 }, Error::SessionLockLost)]);
}

#[test]
fn the_next_session_is_the_one_with_the_oldest_message_that_nobody_holds() {
    let (mut world, entity) = world();
    world.put(entity, &["b:1", "a:2", "c:3", "b:4"]);
    let sessions = (1..4).map(|link| world.try_accept(link, next(1_000)).unwrap().session);
    assert_eq!(sessions.collect::<Vec<_>>(), [id("b"), id("a"), id("c")]);
}

#[test]
fn who_waits_for_a_session_is_served_in_order_or_told_that_there_is_none() {
    let (mut world, entity) = world();
    let (_, first) = world.start_accept(1, next(1_000));
    let (second_receiver, second) = world.start_accept(2, next(2_500));
    assert!(world.accepted(first).is_none());
    world.pass(Span(999));
    assert!(world.accepted(first).is_none());
    world.pass(Span(1));
    let timeout = Error::Timeout(WaitTime(Span(1_000)));
    assert_eq!(world.accepted(first), Some(Err(timeout)));
    let (_, third) = world.start_accept(3, next(60_000));
    world.put(entity, &["a:1", "a:2"]);
    assert_eq!(world.accepted(second).unwrap().unwrap().session, id("a"));
    assert!(world.accepted(third).is_none());
    world.close(second_receiver);
    assert_eq!(world.accepted(third).unwrap().unwrap().session, id("a"));
}

#[test]
fn who_leaves_while_waiting_holds_nothing() {
    let (mut world, entity) = world();
    let (receiver, origin) = world.start_accept(1, next(1_000));
    world.close(receiver);
    world.put(entity, &["a:1"]);
    world.pass(Span(5_000));
    assert!(world.accepted(origin).is_none());
    world.accept(2, named("a"));
}

#[test]
fn demand_of_one_that_waits_counts_when_it_has_a_session() {
    let (mut world, entity) = world();
    let (receiver, _) = world.start_accept(1, next(1_000));
    world.handle(Command::Demand { receiver, limit: 2 });
    world.put(entity, &["a:1", "a:2", "a:3"]);
    let deliveries = world.take_deliveries();
    assert_eq!(
        deliveries.iter().map(|(_, delivery)| text(delivery)).collect::<Vec<_>>(),
        ["1", "2"]
    );
}

#[test]
fn a_session_is_delivered_in_order_beside_the_others() {
    let (mut world, entity) = world();
    world.put(entity, &["a:1", "b:2", "a:3", "b:4", "a:5"]);
    let (a, b) = (world.accept(1, named("a")), world.accept(2, named("b")));
    let first = world.receive(a, 2);
    assert_eq!(texts(&first), ["1", "3"]);
    assert_eq!(texts(&world.receive(b, 10)), ["2", "4"]);
    let again = Settlement::Abandon { changes: Vec::new() };
    world.settle(&first[0], again).unwrap();
    let second = world.receive(a, 4);
    assert_eq!(texts(&second), ["1", "5"]);
    assert_eq!(second[0].attempts, 1);
    world.put(entity, &["a:6"]);
    assert_eq!(texts(&world.receive(a, 5)), ["6"]);
}

#[test]
fn leaving_counts_no_delivery_and_losing_the_lock_does() {
    let (mut world, entity) = world();
    world.put(entity, &["a:1", "a:2"]);
    let receiver = world.accept(1, named("a"));
    let deliveries = world.receive(receiver, 2);
    assert_eq!(deliveries[0].lock.unwrap().until, world.now.plus(LOCK));
    world.close(receiver);
    let late = world.settle(&deliveries[0], Settlement::Complete);
    assert_eq!(late.unwrap_err(), Error::SessionLockLost);
    let receiver = world.accept(2, named("a"));
    let deliveries = world.receive(receiver, 1);
    assert_eq!((text(&deliveries[0]), deliveries[0].attempts), ("1", 0));
    world.pass(LOCK);
    assert_eq!(world.lost_receivers(), [(receiver, Error::SessionLockLost)]);
    let late = world.settle(&deliveries[0], Settlement::Complete);
    assert_eq!(late.unwrap_err(), Error::SessionLockLost);
    let receiver = world.accept(3, next(0));
    let deliveries = world.receive(receiver, 2);
    let attempts: Vec<_> = deliveries.iter().map(|delivery| delivery.attempts).collect();
    assert_eq!((texts(&deliveries), attempts), (vec!["1", "2"], vec![1, 0]));
}

#[test]
fn a_renewed_session_lock_lasts_longer_with_its_messages() {
    let (mut world, entity) = world();
    world.put(entity, &["a:1"]);
    let receiver = world.accept(1, named("a"));
    let delivery = world.receive_one(receiver, 1);
    world.pass(Span(40_000));
    let renew = |origin| Command::RenewSessionLock { origin, entity, session: id("a") };
    let Ok(Reply::SessionRenewed { until }) = world.ask(renew) else { panic!("not renewed") };
    assert_eq!(until, world.now.plus(LOCK));
    let token = delivery.lock.unwrap().token;
    let of_message =
        world.ask(|origin| Command::RenewLocks { origin, entity, tokens: vec![token] });
    assert!(matches!(of_message, Err(Error::NotAllowed(_))));
    world.pass(Span(59_999));
    world.settle(&delivery, Settlement::Complete).unwrap();
    world.pass(Span(1));
    assert_eq!(world.ask(renew).unwrap_err(), Error::SessionLockLost);
}

#[test]
fn receivers_are_of_the_kind_of_their_entity() {
    let (mut world, entity) = world();
    world.ensure_queue("plain", QueueSettings::default());
    let mut open = |address: &str, session| {
        let receiver = ReceiverId { connection: 1, link: 1 };
        let path = EntityPath::parse(address).unwrap().path;
        let mode = PEEK;
        world.ask(|origin| Command::OpenReceiver { origin, receiver, path, mode, session })
    };
    let refusals = [
        ("q", None, "It is not possible for an entity that requires sessions"),
        ("plain", Some(named("a")), "A sessionful message receiver cannot be created"),
        ("q/$DeadLetterQueue", Some(next(1)), "A sessionful message receiver cannot be created"),
    ];
    for (address, session, text) in refusals {
        match open(address, session) {
            Err(Error::NotAllowed(shown)) => assert!(shown.starts_with(text), "{shown}"),
            other => panic!("{address}: {other:?}"),
        }
    }
    assert!(open("q/$DeadLetterQueue", None).is_ok());
    let bare = world.send(entity, "no session").unwrap_err();
    assert!(matches!(bare, Error::NotAllowed(text) if text.starts_with("The SessionId was not")));
    let changed = world.ask(|origin| Command::EnsureQueue {
        origin: Some(origin),
        path: EntityPath::for_new_entity("q").unwrap(),
        settings: QueueSettings::default(),
    });
    assert!(matches!(changed, Err(Error::InvalidArgument(_))));
}

#[test]
fn dead_letters_leave_their_session() {
    let (mut world, entity) = World::with_queue(
        BrokerSettings::default(),
        QueueSettings { attempts_max: 2, ..settings() },
    );
    world.put(entity, &["a:1", "a:2"]);
    let receiver = world.accept(1, named("a"));
    let abandon = || Settlement::Abandon { changes: Vec::new() };
    let first = world.receive_one(receiver, 1);
    world.settle(&first, abandon()).unwrap();
    let second = world.receive_one(receiver, 2);
    assert_eq!(text(&second), "1");
    world.settle(&second, abandon()).unwrap();
    let third = world.receive_one(receiver, 3);
    assert_eq!(text(&third), "2");
    let dead = Settlement::DeadLetter { reason: None, description: None, changes: Vec::new() };
    world.settle(&third, dead).unwrap();
    assert_eq!(world.list(entity, None, 0, 10).0, [""; 0]);
    world.crash();
    let dead_letters = world.open(2, "q/$DeadLetterQueue", PEEK);
    assert_eq!(texts(&world.receive(dead_letters, 5)), ["1", "2"]);
}

#[test]
fn a_drain_is_answered_when_the_session_has_nothing_more() {
    for (mut world, entity) in [world(), small_world(settings())] {
        world.put(entity, &["a:1", "b:2", "a:3", "a:4"]);
        let receiver = world.accept(1, named("a"));
        world.handle(Command::Drain { receiver, limit: 10 });
        world.settle_down();
        let is_drained = |kind: &EffectKind| matches!(kind, EffectKind::Drained { receiver: r } if *r == receiver);
        assert!(is_drained(world.released.last().unwrap()));
        let deliveries = world.take_deliveries();
        let got: Vec<_> = deliveries.iter().map(|(_, delivery)| text(delivery)).collect();
        assert_eq!(got, ["1", "3", "4"]);
        world.put(entity, &["a:5"]);
        assert_eq!(world.take_deliveries().len(), 0, "demand has ended");
    }
}

#[test]
fn receiving_and_deleting_a_session_leaves_nothing() {
    for (mut world, entity) in [world(), small_world(settings())] {
        world.put(entity, &["a:1", "a:2", "b:3"]);
        let (receiver, origin) =
            world.start_accept_in(ReceiveMode::ReceiveAndDelete, 1, named("a"));
        world.accepted(origin).unwrap().unwrap();
        let deliveries = world.receive(receiver, 10);
        assert_eq!(texts(&deliveries), ["1", "2"]);
        assert!(deliveries.iter().all(|delivery| delivery.lock.is_none()));
        assert_eq!((world.message_rows(), world.trace_rows()), (1, 1), "one message, its index");
    }
}

#[test]
fn after_a_crash_all_sessions_are_free_and_whole() {
    for (mut world, entity) in [world(), small_world(settings())] {
        world.put(entity, &["a:1", "b:2", "a:3", "c:4", "d:5"]);
        let receiver = world.accept(1, named("a"));
        let deliveries = world.receive(receiver, 2);
        world.settle(&deliveries[0], Settlement::Complete).unwrap();
        world.crash();
        world.put(entity, &["c:6"]);
        let receiver = world.accept(1, named("c"));
        assert_eq!(texts(&world.receive(receiver, 5)), ["4", "6"]);
        let mut found = Vec::new();
        for link in 2..5 {
            let receiver = world.accept(link, next(1_000));
            found.extend(world.receive(receiver, 5).iter().map(|it| text(it).to_owned()));
        }
        found.sort();
        assert_eq!(found, ["2", "3", "5"]);
        let (_, origin) = world.start_accept(9, next(1_000));
        assert!(world.accepted(origin).is_none(), "all are held");
    }
}

#[test]
fn every_session_has_its_turn_when_not_all_are_known() {
    let (mut world, entity) = small_world(settings());
    let sessions: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    for session in &sessions {
        world.put(entity, &[&format!("{session}:1"), &format!("{session}:2")]);
    }
    let mut seen = std::collections::BTreeSet::new();
    // Nobody completes anything: what is given back must not keep the others from their turn.
    for link in 0..60 {
        let (receiver, origin) = world.start_accept(link, next(1_000));
        let lock = world.accepted(origin).unwrap().unwrap();
        assert_eq!(texts(&world.receive(receiver, 2)), ["1", "2"]);
        seen.insert(lock.session.to_string());
        world.close(receiver);
    }
    assert_eq!(seen.len(), sessions.len());
}

#[test]
fn a_state_is_kept_with_the_session_whether_it_has_messages_or_not() {
    let (mut world, entity) = world();
    assert_eq!(world.state(entity, "a"), Err(Error::SessionLockLost));
    assert_eq!(world.set_state(entity, "a", None), Err(Error::SessionLockLost));
    let receiver = world.accept(1, named("a"));
    assert_eq!(world.state(entity, "a"), Ok(None));
    world.set_state(entity, "a", None).unwrap();
    world.set_state(entity, "a", Some(b"one")).unwrap();
    assert_eq!(world.state(entity, "a"), Ok(Some(Bytes::from_static(b"one"))));
    assert_eq!(world.stats("q").bytes, 3);
    world.set_state(entity, "a", Some(b"longer")).unwrap();
    assert_eq!(world.stats("q").bytes, 6);
    world.close(receiver);
    world.crash();
    world.accept(1, named("a"));
    assert_eq!(world.state(entity, "a"), Ok(Some(Bytes::from_static(b"longer"))));
    world.set_state(entity, "a", Some(b"")).unwrap();
    assert_eq!(world.state(entity, "a"), Ok(Some(Bytes::new())));
    world.set_state(entity, "a", None).unwrap();
    assert_eq!(world.state(entity, "a"), Ok(None));
    assert_eq!((world.stats("q").bytes, world.trace_rows()), (0, 0));
}

#[test]
fn states_are_set_in_the_order_of_the_wishes() {
    let (mut world, entity) = world();
    world.accept(1, named("a"));
    world.reads_wait = true;
    let mut origins = Vec::new();
    for state in [&b"1"[..], b"22", b"333"] {
        let origin = world.origin();
        origins.push(origin);
        let (session, state) = (id("a"), Some(Bytes::from_static(state)));
        world.handle(Command::SetSessionState { origin, entity, session, state });
        world.turn();
    }
    world.reads_wait = false;
    world.settle_down();
    for origin in origins {
        assert!(matches!(world.take_reply(origin), Some(Ok(Reply::SessionStateSet))));
    }
    assert_eq!(world.state(entity, "a"), Ok(Some(Bytes::from_static(b"333"))));
    assert_eq!(world.stats("q").bytes, 3);
}

#[test]
fn a_state_counts_for_the_size_of_the_entity() {
    let (mut world, entity) = World::with_queue(
        BrokerSettings::default(),
        QueueSettings { entity_bytes_max: 50, message_bytes_max: 20, ..settings() },
    );
    for session in ["a", "b", "c"] {
        world.accept(u64::from(session.as_bytes()[0]), named(session));
    }
    let too_large = world.set_state(entity, "a", Some(&[0; 21])).unwrap_err();
    assert!(matches!(too_large, Error::MessageTooLarge { size: 21, limit: 20, .. }));
    world.set_state(entity, "a", Some(&[0; 20])).unwrap();
    world.set_state(entity, "b", Some(&[0; 20])).unwrap();
    let full = world.set_state(entity, "c", Some(&[0; 11])).unwrap_err();
    assert!(matches!(full, Error::EntityFull { size: 40, limit: 50, .. }));
    world.set_state(entity, "a", Some(&[0; 19])).unwrap();
    world.set_state(entity, "c", Some(&[0; 11])).unwrap();
}

#[test]
fn sessions_are_listed_with_messages_or_a_state() {
    for (mut world, entity) in [world(), small_world(settings())] {
        world.put(entity, &["b:1", "a:2", "b:3", "dd:4"]);
        let receiver = world.accept(1, named("c"));
        world.set_state(entity, "c", Some(b"state")).unwrap();
        world.close(receiver);
        let before = world.now;
        assert_eq!(world.list(entity, None, 0, 10).0, ["a", "b", "c", "dd"]);
        // A moment selects by state alone.
        let earlier = Timestamp(before.0 - 1);
        assert_eq!(world.list(entity, Some(earlier), 0, 10).0, ["c"]);
        assert_eq!(world.list(entity, Some(before), 0, 10).0, [""; 0]);
        world.pass(Span(10));
        world.accept(2, named("b"));
        world.set_state(entity, "b", Some(b"new")).unwrap();
        assert_eq!(world.list(entity, Some(before), 0, 10).0, ["b"]);
    }
}

#[test]
fn lists_of_sessions_come_in_pages() {
    for (mut world, entity) in [world(), small_world(settings())] {
        for number in 0..12 {
            world.put(entity, &[&format!("s{number:02}:x"), &format!("s{number:02}:y")]);
        }
        let names = |range: std::ops::Range<u32>| {
            range.map(|number| format!("s{number:02}")).collect::<Vec<_>>()
        };
        // Somewhere in the middle, without the part before it.
        assert_eq!(world.list(entity, None, 7, 3), (names(7..10), 10));
        assert_eq!(world.list(entity, None, 0, 5), (names(0..5), 5));
        assert_eq!(world.list(entity, None, 5, 5), (names(5..10), 10));
        assert_eq!(world.list(entity, None, 10, 5), (names(10..12), 12));
        assert_eq!(world.list(entity, None, 12, 5), (Vec::new(), 12));
        assert_eq!(world.list(entity, None, 1_000, 5), (Vec::new(), 1_000));
        world.pass(Span::from_secs(60));
        assert_eq!(world.list(entity, None, 5, 5), (names(5..10), 10));
    }
}

#[test]
fn settling_by_token_may_name_the_session_that_has_to_be_held() {
    let (mut world, entity) = world();
    world.put(entity, &["a:1", "a:2"]);
    let receiver = world.accept(1, named("a"));
    let deliveries = world.receive(receiver, 2);
    let mut update = |delivery: &Delivery, session: &str| {
        let (tokens, session) = (vec![delivery.lock.unwrap().token], Some(id(session)));
        let settlement = Settlement::Complete;
        world.ask(|origin| Command::UpdateDisposition {
            origin,
            entity,
            tokens,
            settlement,
            session,
            transaction: None,
        })
    };
    assert_eq!(update(&deliveries[0], "b").unwrap_err(), Error::SessionLockLost);
    assert!(matches!(update(&deliveries[0], "a"), Ok(Reply::Settled)));
    assert_eq!(update(&deliveries[0], "a").unwrap_err(), Error::SessionLockLost);
    assert!(matches!(update(&deliveries[1], "a"), Ok(Reply::Settled)));
}

#[test]
fn a_store_that_does_not_answer_delays_sessions_and_loses_none() {
    let (mut world, entity) = small_world(settings());
    world.put(entity, &["a:1", "b:2", "c:3", "d:4"]);
    world.crash();
    world.reads_fail = true;
    let (receiver, origin) = world.start_accept(1, next(10_000));
    assert!(world.accepted(origin).is_none());
    world.reads_fail = false;
    world.pass(Span::from_secs(1));
    assert!(world.accepted(origin).unwrap().is_ok());
    world.reads_fail = true;
    assert_eq!(world.receive(receiver, 1).len(), 0);
    world.reads_fail = false;
    world.pass(Span::from_secs(1));
    assert_eq!(world.take_deliveries().len(), 1);
}

#[test]
fn a_session_that_may_have_messages_is_given_to_nobody_before_it_is_known_to() {
    let (mut world, entity) = world();
    world.put(entity, &["b:1"]);
    world.crash();
    world.reads_fail = true;
    let holder = world.accept(1, named("empty"));
    let (_, waiting) = world.start_accept(2, next(10_000));
    world.close(holder);
    assert!(world.accepted(waiting).is_none(), "nobody knows that it has messages");
    world.reads_fail = false;
    world.pass(Span::from_secs(1));
    assert_eq!(world.accepted(waiting).unwrap().unwrap().session, id("b"));
}

#[test]
fn closing_an_entity_takes_its_sessions_away() {
    let (mut world, entity) = world();
    world.put(entity, &["a:1"]);
    let holder = world.accept(1, named("a"));
    world.receive(holder, 1);
    let (_, waiting) = world.start_accept(2, next(1_000));
    let error = Error::EntityDisabled("q".into());
    world.broker.close_session_receivers(entity, &error);
    world.handle(Command::Tick);
    world.settle_down();
    assert_eq!(world.accepted(waiting), Some(Err(error.clone())));
    assert_eq!(world.lost_receivers(), [(holder, error)]);
    let receiver = world.accept(3, next(1_000));
    assert_eq!(world.receive_one(receiver, 1).attempts, 0);
}

fn ask_for_deferred(
    world: &mut World,
    entity: EntityId,
    session: Option<&str>,
) -> Result<Vec<Delivery>, Error> {
    let (sequences, mode, session) = (vec![SequenceNumber(1)], PEEK, session.map(id));
    let ask = |origin| Command::ReceiveDeferred { origin, entity, sequences, mode, session };
    world.ask(ask).map(|reply| {
        let Reply::DeferredReceived { deliveries } = reply else { panic!("{reply:?}") };
        deliveries
    })
}

#[test]
fn deferred_messages_of_a_session_are_for_those_who_hold_it() {
    let (mut world, entity) = world();
    world.put(entity, &["s:a", "t:b"]);
    let receiver = world.accept(1, SessionRequest::Named(id("s")));
    world.accept(2, SessionRequest::Named(id("t")));
    let delivery = world.receive_one(receiver, 1);
    world.settle(&delivery, Settlement::Defer { changes: Vec::new() }).unwrap();
    assert_eq!(ask_for_deferred(&mut world, entity, None).unwrap_err(), Error::SessionLockLost);
    let error = ask_for_deferred(&mut world, entity, Some("t")).unwrap_err();
    assert_eq!(error, Error::MessageNotFound(1));
    let delivery = ask_for_deferred(&mut world, entity, Some("s")).unwrap().remove(0);
    assert_eq!(text(&delivery), "a");
    // Who leaves gives it back, uncounted; and it stays deferred.
    world.close(receiver);
    assert_eq!(
        ask_for_deferred(&mut world, entity, Some("s")).unwrap_err(),
        Error::SessionLockLost
    );
    let receiver = world.accept(3, SessionRequest::Named(id("s")));
    assert_eq!(world.receive(receiver, 10).len(), 0);
    let delivery = ask_for_deferred(&mut world, entity, Some("s")).unwrap().remove(0);
    assert_eq!(delivery.attempts, 0);
    // It is held as long as the session is.
    world.pass(Span::from_secs(60));
    let late = world.settle(&delivery, Settlement::Complete);
    assert_eq!(late.unwrap_err(), Error::SessionLockLost);
    let receiver = world.accept(4, SessionRequest::Named(id("s")));
    let delivery = ask_for_deferred(&mut world, entity, Some("s")).unwrap().remove(0);
    assert_eq!(delivery.attempts, 1);
    world.settle(&delivery, Settlement::Complete).unwrap();
    world.close(receiver);
    assert_eq!(world.message_rows(), 1);
}

#[test]
fn a_turn_expires_no_more_of_its_sessions_than_it_may() {
    let settings = QueueSettings { default_time_to_live: Some(Span(10_000)), ..settings() };
    let broker = BrokerSettings { expiries_max: 10, ..BrokerSettings::default() };
    let (mut world, entity) = World::with_queue(broker, settings);
    let receivers = ["a", "b", "c"].map(|session| {
        world.put(entity, &[[session, "1"].join(":").as_str(); 30]);
        world.accept(1 + u64::from(session.as_bytes()[0]), named(session))
    });
    world.now = world.now.plus(Span(10_000));
    for receiver in receivers {
        world.handle(Command::Drain { receiver, limit: 1 });
        assert_eq!(world.broker.counters().expired, 10);
    }
    for ticks in 1.. {
        let expired = world.broker.counters().expired;
        if expired == 90 {
            break;
        }
        assert_eq!(world.broker.next_deadline(), Some(world.now), "the rest is due at once");
        world.handle(Command::Tick);
        // By being given out, and by being due.
        assert!(ticks < 10 && world.broker.counters().expired - expired <= 20);
    }
    world.settle_down();
    let is_drained = |kind: &&EffectKind| matches!(kind, EffectKind::Drained { .. });
    assert_eq!(world.released.iter().filter(is_drained).count(), 3);
}

#[test]
fn octets_bound_what_the_holder_of_a_session_is_given() {
    let (mut world, entity) = world();
    world.put(entity, &["a:1", "a:2", "a:3"]);
    let (receiver, _) = world.start_accept(1, named("a"));
    world.handle(Command::DemandBytes { receiver, limit: 1 });
    assert_eq!(texts(&world.receive(receiver, 3)), ["1"]);
    world.handle(Command::DemandBytes { receiver, limit: u64::MAX });
    assert_eq!(texts(&world.receive(receiver, 3)), ["2", "3"]);
}
