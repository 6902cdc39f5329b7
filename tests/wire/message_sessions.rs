//! Message sessions: the filter that asks for one, its lock, its order and its state (the behaviour of
//! the Azure SDKs).

use std::time::Duration;

use bytes::Bytes;
use peeklock_protocol::condition;
use peeklock_protocol::delivery_state::DeliveryState;
use peeklock_protocol::performative::{Attach, Detach};
use peeklock_protocol::terminus::Source;
use peeklock_protocol::value::{Array, Map, Symbol, Value};
use peeklock_tests::link::{Link, receiver, rejection, sender};
use peeklock_tests::message::Message;
use peeklock_tests::raw::described;
use peeklock_tests::requests::{Answer, Requests};
use peeklock_tests::{Peer, TestBroker};

const FILTER: &str = "com.microsoft:session-filter";
/// The descriptor Go and Rust give the filter.
const FILTER_CODE: u64 = 0x0137_0000_000C;
const LOCK_DURATION: Duration = Duration::from_mins(1);
/// All sessions that have messages or a state.
const ALL_SESSIONS: i64 = 253_402_300_800_000;

fn broker() -> TestBroker {
    TestBroker::with().queue("s", "requires_session = true").queue("q", "").start()
}

fn steerable_broker() -> TestBroker {
    TestBroker::with().queue("s", "requires_session = true").virtual_time().start()
}

fn filtered(filter: impl Into<Value>) -> Attach {
    let filter = Map::new().with(Symbol::from_static(FILTER), filter.into());
    let source = Source::new("s").with_filter(filter);
    Attach { source: Some(source.into()), ..receiver("s") }
}

fn waiting(filter: impl Into<Value>, millis: u32) -> Attach {
    let timeout = Map::new().with(Symbol::from_static("com.microsoft:timeout"), millis);
    Attach { properties: Some(timeout), ..filtered(filter) }
}

pub(super) fn of_session(session: &str, text: &str) -> Bytes {
    Message::data(text.to_owned()).with_session(session).encode()
}

#[track_caller]
fn send(peer: &mut Peer, messages: &[(&str, &str)]) {
    let mut link = peer.attach_sender("s");
    for (session, text) in messages {
        peer.send_accepted(&mut link, &of_session(session, text));
    }
    peer.detach(&link);
}

#[track_caller]
pub(super) fn accept(peer: &mut Peer, session: &str) -> Link {
    peer.attach_for_receiving(filtered(session))
}

/// The session a link was given, from the filter of the reply.
#[track_caller]
fn given(link: &Link) -> Value {
    let source = link.reply.source.as_ref().expect("a source");
    source.view().filter.as_ref().and_then(|all| all.get(FILTER)).expect("a filter").clone()
}

#[track_caller]
fn manage(peer: &mut Peer, pair: &mut Requests, operation: &str, session: &str) -> Answer {
    let body = Map::new().with("session-id", session);
    peer.manage(pair, &format!("com.microsoft:{operation}"), body)
}

/// Each kind of receiver belongs to its kind of entity; the dead-letter queue has no sessions.
#[test]
fn sessions_are_taken_where_there_are_sessions() {
    let broker = broker();
    let mut peer = broker.peer();
    let error = peer.expect_refusal(receiver("s"), condition::NOT_ALLOWED);
    let text = error.description.expect("a description").to_string();
    assert!(text.starts_with("It is not possible for an entity that requires sessions"), "{text}");
    let plain = Source::new("q").with_filter(Map::new().with(Symbol::from_static(FILTER), "x"));
    let error = peer.expect_refusal(
        Attach { source: Some(plain.into()), ..receiver("q") },
        condition::NOT_ALLOWED,
    );
    let text = error.description.expect("a description").to_string();
    assert!(text.starts_with("A sessionful message receiver cannot be created"), "{text}");
    peer.attach_receiver("s/$DeadLetterQueue");
}

/// A message without a session cannot be kept where every message has one.
#[test]
fn a_message_without_a_session_id_is_refused() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut link = peer.attach_sender("s");
    let id = peer.transfer(&mut link, &Message::data("1").encode());
    peer.expect_rejected(id, condition::NOT_ALLOWED);
    let batch = [of_session("a", "1"), Message::data("2").encode()];
    let id = peer.transfer_batch(&mut link, &batch);
    peer.expect_rejected(id, condition::NOT_ALLOWED);
    let mut management = peer.open_management("s");
    let peek = Map::new().with("from-sequence-number", 0_i64).with("message-count", 9_i32);
    assert_eq!(peer.manage(&mut management, "com.microsoft:peek-message", peek).status, 204);
}

/// Go and Rust cannot read a plain filter, JS and Python cannot read a described one. The end of the
/// lock is a long of .NET's ticks, or JS throws.
#[test]
fn the_filter_comes_back_in_the_shape_it_was_sent_in() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("b", "1")]);
    for (filter, wanted) in [
        (Value::from("a"), Value::from("a")),
        (Value::Null, "b".into()),
        (described(FILTER_CODE, "a".into()), described(FILTER_CODE, "a".into())),
        (described(FILTER_CODE, Value::Null), described(FILTER_CODE, "b".into())),
        ("".into(), "".into()),
    ] {
        let link = peer.attach_for_receiving(filtered(filter));
        assert_eq!(given(&link), wanted);
        assert!(link.reply.target.is_some());
        let properties = link.reply.properties.as_ref().expect("link properties");
        let Some(Value::Long(ticks)) = properties.get("com.microsoft:locked-until-utc") else {
            panic!("{properties:?}")
        };
        let left = (ticks - 621_355_968_000_000_000) / 10_000 - sas_now_millis();
        // The test's clock counts whole seconds.
        assert!((0..=61_000).contains(&left), "{left} ms left");
        peer.detach(&link);
    }
}

fn sas_now_millis() -> i64 {
    i64::try_from(peeklock_tests::sas::now()).expect("a time that a test can mean") * 1000
}

/// A session that another receiver holds is refused at once; it is free as soon as that one leaves.
#[test]
fn a_session_has_one_receiver() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1"), ("b", "2")]);
    let holder = accept(&mut peer, "a");
    let mut other = broker.peer();
    let error = other.expect_refusal(filtered("a"), condition::SESSION_CANNOT_BE_LOCKED);
    let text = error.description.expect("a description").to_string();
    assert!(text.starts_with("The requested session 'a' cannot be accepted."), "{text}");
    // The next one that is free is the other.
    let next = other.attach_for_receiving(filtered(Value::Null));
    assert_eq!(given(&next), "b".into());
    peer.detach(&holder);
    accept(&mut other, "a");
}

/// Messages come in order, in parallel with those of other sessions; what is given back comes next.
#[test]
fn messages_of_a_session_come_in_order() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2"), ("a", "a3")]);
    let mut a = accept(&mut peer, "a");
    let mut b = accept(&mut peer, "b");
    let first = peer.receive_one(&mut a);
    assert_eq!((first.text().as_str(), first.message().delivery_count()), ("a1", 0));
    assert_eq!(peer.receive_one(&mut b).text(), "b1");
    peer.abandon(&first);
    let again = peer.receive_one(&mut a);
    assert_eq!((again.text().as_str(), again.message().delivery_count()), ("a1", 1));
    peer.complete(&again);
    let rest = peer.drain(&mut a, 10);
    assert_eq!(rest.iter().map(|one| one.text()).collect::<Vec<_>>(), ["a2", "a3"]);
    let drained = peer.drain(&mut b, 10);
    assert_eq!(drained.iter().map(|one| one.text()).collect::<Vec<_>>(), ["b2"]);
}

/// An attach for the next session is not answered before there is one.
#[test]
fn an_attach_for_the_next_session_waits_for_one() {
    let broker = broker();
    let mut peer = broker.peer();
    let attach = peer.send_attach(waiting(Value::Null, 60_000));
    let mut other = broker.peer();
    send(&mut other, &[("late", "1")]);
    let reply: Attach = peer.expect();
    assert_eq!(reply.name, attach.name);
    let filter = reply.source.expect("a source").view().filter.clone().expect("a filter");
    assert_eq!(filter.get(FILTER), Some(&Value::from("late")));
}

/// When the time is over the wait ends with a time-out, in one write with the null source.
#[test]
fn the_wait_for_a_session_ends_with_a_time_out() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let attach = peer.send_attach(waiting(Value::Null, 5_000));
    let mut management = broker.peer();
    management.open_management("s");
    clock.advance(Duration::from_millis(4_999));
    clock.advance(Duration::from_millis(1));
    let reply: Attach = peer.expect();
    assert_eq!((reply.name, reply.source), (attach.name, None));
    let detach: Detach = peer.expect();
    assert_eq!(detach.error.expect("an error").condition, *condition::TIMEOUT);
}

/// A client that leaves while it waits must not get a session that it never hears of.
#[test]
fn a_client_that_leaves_while_it_waits_holds_nothing() {
    let broker = broker();
    let mut peer = broker.peer();
    let attach = peer.send_attach(waiting(Value::Null, 60_000));
    peer.send(Detach { handle: attach.handle, closed: true, error: None });
    let reply: Attach = peer.expect();
    assert_eq!(reply.source, None);
    let _answer: Detach = peer.expect();
    let mut gone = broker.peer();
    gone.send_attach(waiting(Value::Null, 60_000));
    gone.cut();
    let mut other = broker.peer();
    send(&mut other, &[("a", "1")]);
    let next = other.attach_for_receiving(waiting(Value::Null, 60_000));
    assert_eq!(given(&next), "a".into());
}

/// Closing gives the session back without counting; a lock that ends counts, detaches the link, and
/// what is settled afterwards is refused.
#[test]
fn a_session_lock_ends() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1")]);
    let mut link = accept(&mut peer, "a");
    peer.receive_one(&mut link);
    peer.detach(&link);
    let mut link = accept(&mut peer, "a");
    let received = peer.receive_one(&mut link);
    assert_eq!(received.message().delivery_count(), 0, "closing does not count");

    clock.advance(LOCK_DURATION);
    let detach: Detach = peer.find();
    let error = detach.error.expect("an error");
    assert_eq!(error.condition, *condition::SESSION_LOCK_LOST);
    let mut link = accept(&mut peer, "a");
    let again = peer.receive_one(&mut link);
    assert_eq!(again.message().delivery_count(), 1, "an end of the lock counts");
    peer.complete(&again);
}

/// Renewing gives a full duration from now; a session that nobody holds cannot be renewed, nor the
/// lock of one of its messages.
#[test]
fn a_session_lock_is_renewed() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let start = clock.freeze().time;
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1")]);
    let mut management = peer.open_management("s");
    let lost = manage(&mut peer, &mut management, "renew-session-lock", "a");
    assert_eq!((lost.status, lost.condition()), (410, condition::SESSION_LOCK_LOST));

    let mut link = accept(&mut peer, "a");
    let received = peer.receive_one(&mut link);
    clock.advance(Duration::from_secs(50));
    let answer = manage(&mut peer, &mut management, "renew-session-lock", "a");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.entry("expiration"), &Value::Timestamp(start + 110_000));
    clock.advance(Duration::from_secs(50));
    peer.complete(&received);
}

/// A holder that renews keeps its session for as long as it likes, with nothing to receive, and gets
/// what comes in the end on the same link.
#[test]
fn an_idle_session_link_lasts() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    let mut link = accept(&mut peer, "a");
    peer.credit(&link, 1);
    let mut management = peer.open_management("s");
    for _ in 0..30 {
        clock.advance(Duration::from_secs(50));
        let answer = manage(&mut peer, &mut management, "renew-session-lock", "a");
        assert_eq!(answer.status, 200);
    }
    let mut other = broker.peer();
    send(&mut other, &[("a", "late")]);
    let received = peer.receive(&mut link);
    assert_eq!(received.text(), "late");
    peer.complete(&received);
}

/// A state is kept as it was set, also when the session has no message left; only the holder may.
#[test]
fn a_session_has_a_state() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management("s");
    let set = |peer: &mut Peer, management: &mut Requests, state: Value| {
        let body = Map::new().with("session-id", "a").with("session-state", state);
        peer.manage(management, "com.microsoft:set-session-state", body)
    };
    let refused = set(&mut peer, &mut management, Bytes::from_static(b"x").into());
    assert_eq!((refused.status, refused.condition()), (410, condition::SESSION_LOCK_LOST));
    let link = accept(&mut peer, "a");
    let get = |peer: &mut Peer, management: &mut Requests| {
        manage(peer, management, "get-session-state", "a").entry("session-state").clone()
    };
    assert_eq!(get(&mut peer, &mut management), Value::Null);
    let state = Value::from(Bytes::from_static(b"\x00state"));
    assert_eq!(set(&mut peer, &mut management, state.clone()).status, 200);
    assert_eq!(get(&mut peer, &mut management), state);
    peer.detach(&link);
    accept(&mut peer, "a");
    assert_eq!(get(&mut peer, &mut management), state);
    assert_eq!(set(&mut peer, &mut management, Value::Null).status, 200);
    assert_eq!(get(&mut peer, &mut management), Value::Null);
}

/// The first instant of the year 10000 asks for all sessions; another time for those whose state was
/// set since.
#[test]
fn sessions_are_listed() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let start = clock.freeze().time;
    let mut peer = broker.peer();
    let mut management = peer.open_management("s");
    let list = |peer: &mut Peer, management: &mut Requests, time: i64, skip: i32, top: i32| {
        let body = Map::new()
            .with("last-updated-time", Value::Timestamp(time))
            .with("skip", skip)
            .with("top", top);
        let answer = peer.manage(management, "com.microsoft:get-message-sessions", body);
        if answer.status == 204 {
            return (Vec::new(), 0);
        }
        assert_eq!(answer.status, 200);
        let ids = answer.entry("sessions-ids").items().iter();
        let ids: Vec<String> = ids.map(|id| id.as_str().expect("a text").to_owned()).collect();
        let Value::Int(skip) = answer.entry("skip") else { panic!("{answer:?}") };
        (ids, *skip)
    };
    assert_eq!(list(&mut peer, &mut management, ALL_SESSIONS, 0, 100), (vec![], 0));
    let sessions: Vec<String> = (0..120).map(|number| format!("s{number:03}")).collect();
    let messages: Vec<_> = sessions.iter().map(|id| (id.as_str(), "1")).collect();
    send(&mut peer, &messages);
    let (mut found, skip) = list(&mut peer, &mut management, ALL_SESSIONS, 0, 100);
    assert_eq!((found.len(), skip), (100, 100));
    let (rest, _) = list(&mut peer, &mut management, ALL_SESSIONS, skip, 100);
    found.extend(rest);
    found.sort();
    assert_eq!(found, sessions);

    accept(&mut peer, "empty");
    let body = Map::new().with("session-id", "empty");
    let body = body.with("session-state", Bytes::from_static(b"state"));
    clock.advance(Duration::from_secs(1));
    let set = peer.manage(&mut management, "com.microsoft:set-session-state", body);
    assert_eq!(set.status, 200);
    assert_eq!(list(&mut peer, &mut management, start, 0, 100).0, ["empty"]);
    assert_eq!(list(&mut peer, &mut management, start + 1_000, 0, 100).0, [""; 0]);
    let (all, _) = list(&mut peer, &mut management, ALL_SESSIONS, 0, 1000);
    assert!(all.contains(&"empty".to_owned()) && all.len() == 121, "{all:?}");
}

/// What browsing shows of a session, or of all.
#[track_caller]
fn peek(peer: &mut Peer, pair: &mut Requests, session: Option<&str>) -> Vec<Message> {
    let mut body = Map::new().with("from-sequence-number", 0_i64).with("message-count", 9_i32);
    if let Some(session) = session {
        body = body.with("session-id", session);
    }
    let answer = peer.manage(pair, "com.microsoft:peek-message", body);
    if answer.status == 204 {
        return Vec::new();
    }
    let Value::List(list) = answer.entry("messages") else { panic!("{answer:?}") };
    let octets = |entry: &Value| entry.get("message").and_then(Value::as_binary).cloned();
    list.iter().map(|entry| Message::decode(&octets(entry).expect("a message"))).collect()
}

/// Peeking into one session needs no lock.
#[test]
fn one_session_is_browsed() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "a1"), ("b", "b1"), ("a", "a2")]);
    let mut management = peer.open_management("s");
    let mut peek = |session| {
        let messages = peek(&mut peer, &mut management, session);
        messages.iter().map(|message| message.text().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(peek(Some("a")), ["a1", "a2"]);
    assert_eq!(peek(Some("b")), ["b1"]);
    assert_eq!(peek(Some("c")), [""; 0]);
    assert_eq!(peek(None), ["a1", "b1", "a2"]);
}

/// Peeking into a session shows deferred and scheduled messages among the others, in the order of
/// their numbers.
#[test]
fn what_is_set_aside_in_a_session_is_browsed() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    let now = clock.freeze().time;
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "deferred"), ("b", "other"), ("a", "active")]);
    let mut sender = peer.attach_sender("s");
    for (session, text) in [("a", "scheduled"), ("b", "other too")] {
        let later = Message::data(text.to_owned())
            .with_session(session)
            .with_annotation("x-opt-scheduled-enqueue-time", Value::Timestamp(now + 60_000));
        peer.send_accepted(&mut sender, &later.encode());
    }
    let mut link = accept(&mut peer, "a");
    let first = peer.receive_one(&mut link);
    let deferral = DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: Some(true),
        message_annotations: None,
    };
    peer.settle(&first, deferral);
    peer.detach(&link);
    let mut management = peer.open_management("s");
    let mut browse = |peer: &mut Peer| {
        let state = |message: &Message| match message.annotation("x-opt-message-state") {
            Some(Value::Int(state)) => *state,
            other => panic!("{other:?}"),
        };
        let messages = peek(peer, &mut management, Some("a"));
        messages.iter().map(|one| (one.text().to_owned(), state(one))).collect::<Vec<_>>()
    };
    let shown = |all: &[(&str, i32)]| {
        all.iter().map(|(text, state)| ((*text).to_owned(), *state)).collect::<Vec<_>>()
    };
    assert_eq!(browse(&mut peer), shown(&[("deferred", 1), ("active", 0), ("scheduled", 2)]));
    clock.advance(Duration::from_mins(1));
    assert_eq!(browse(&mut peer), shown(&[("deferred", 1), ("active", 0), ("scheduled", 0)]));
}

/// The dead letters of a session are read without it.
#[test]
fn dead_letters_of_a_session_have_no_session() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1")]);
    let mut link = accept(&mut peer, "a");
    let received = peer.receive_one(&mut link);
    assert_eq!(
        peer.settle(&received, DeliveryState::Rejected(None)),
        DeliveryState::Rejected(None)
    );
    assert_eq!(peer.drain_texts("s/$DeadLetterQueue"), ["1"]);
}

/// Completes a message of session `a`, which is refused because nobody holds the session.
#[track_caller]
fn expect_lost(peer: &mut Peer, pair: &mut Requests, token: [u8; 16]) {
    let body = Map::new()
        .with("disposition-status", "completed")
        .with("lock-tokens", peeklock_tests::link::tokens(&[token]))
        .with("session-id", "a");
    let answer = peer.manage(pair, "com.microsoft:update-disposition", body);
    assert_eq!((answer.status, answer.condition()), (410, condition::SESSION_LOCK_LOST));
}

/// A settlement through another link needs the session to be held.
#[test]
fn what_is_settled_by_token_needs_its_session() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1")]);
    let mut link = accept(&mut peer, "a");
    let received = peer.receive_one(&mut link);
    let token = received.message().lock_token();
    let mut management = peer.open_management("s");
    peer.detach(&link);
    expect_lost(&mut peer, &mut management, token);
    let mut link = accept(&mut peer, "a");
    let again = peer.receive_one(&mut link);
    peer.complete(&again);
}

/// A lost session is not a lost message: clients tell them apart.
#[test]
fn a_settlement_after_the_loss_of_the_session_says_so() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    clock.freeze();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1")]);
    let mut link = accept(&mut peer, "a");
    let received = peer.receive_one(&mut link);
    let token = received.message().lock_token();
    clock.advance(LOCK_DURATION);
    let _detach: Detach = peer.find();
    let mut management = peer.open_management("s");
    let renewed = manage(&mut peer, &mut management, "renew-session-lock", "a");
    assert_eq!((renewed.status, renewed.condition()), (410, condition::SESSION_LOCK_LOST));
    expect_lost(&mut peer, &mut management, token);
}

/// A client that has lost its session, and does not know it yet, cannot touch it in the hands of the
/// next one: it names the link it held it through.
#[test]
fn a_session_is_touched_by_its_holder_alone() {
    let broker = steerable_broker();
    let mut clock = broker.clock();
    clock.freeze();
    let mut stale = broker.peer();
    let lost = accept(&mut stale, "a");
    let mut stale_management = stale.open_management("s");
    clock.advance(LOCK_DURATION);
    let _detach: Detach = stale.find();
    let mut peer = broker.peer();
    let held = accept(&mut peer, "a");
    let mut management = peer.open_management("s");
    let ask = |peer: &mut Peer, pair: &mut Requests, link: &str, operation: &str| {
        let body = Map::new().with("session-id", "a").with("session-state", Value::Null);
        let request = Message::value(body)
            .with_id(1_u64)
            .with_property("operation", format!("com.microsoft:{operation}"))
            .with_property("associated-link-name", link);
        peer.ask(pair, &request).property("statusCode").cloned()
    };
    for operation in ["renew-session-lock", "set-session-state", "get-session-state"] {
        let refused = ask(&mut stale, &mut stale_management, &lost.name, operation);
        assert_eq!(refused, Some(Value::Int(410)), "{operation}");
        let done = ask(&mut peer, &mut management, &held.name, operation);
        assert_eq!(done, Some(Value::Int(200)), "{operation}");
    }
}

/// "receive-by-sequence-number without session-id, with associated-link-name", as the Go SDK asks: the
/// session is the link's.
#[test]
fn a_deferred_message_is_fetched_for_the_session_of_a_link() {
    let broker = broker();
    let mut peer = broker.peer();
    send(&mut peer, &[("a", "1"), ("b", "2")]);
    let mut link = accept(&mut peer, "a");
    let received = peer.receive_one(&mut link);
    let state = DeliveryState::Modified {
        delivery_failed: None,
        undeliverable_here: Some(true),
        message_annotations: None,
    };
    peer.settle(&received, state);
    let number = received.message().sequence_number();
    let other = accept(&mut peer, "b");
    let mut management = peer.open_management("s");
    let mut fetch = |link: &str| {
        let body = Map::new()
            .with("sequence-numbers", Array::longs([number]))
            .with("receiver-settle-mode", Value::Uint(1));
        let request = Message::value(body)
            .with_id(1_u64)
            .with_property("operation", "com.microsoft:receive-by-sequence-number")
            .with_property("associated-link-name", link);
        peer.ask(&mut management, &request).property("statusCode").cloned()
    };
    assert_eq!(fetch(&other.name), Some(Value::Int(404)), "of another session");
    assert_eq!(fetch("unknown"), Some(Value::Int(410)));
    assert_eq!(fetch(&link.name), Some(Value::Int(200)));
}

/// Who may send to a queue with sessions need not hold one.
#[test]
fn senders_have_no_session() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut link = peer.attach_for_sending(sender("s"));
    peer.send_accepted(&mut link, &of_session("a", "1"));
    let long = of_session(&"x".repeat(129), "2");
    let id = peer.transfer(&mut link, &long);
    let outcome = peer.expect_outcome(id);
    rejection(outcome, condition::NOT_ALLOWED);
}
