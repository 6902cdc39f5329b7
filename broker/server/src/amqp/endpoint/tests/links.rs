//! Attach and leave, send, receive, settle, drain.

use super::*;

#[test]
fn an_attach_waits_for_the_core() {
    let mut world = World::new();
    let session = world.session();
    world.client.attach(session, to_node("s", "orders")).unwrap();
    world.exchange();
    let is_reply = |event: &Event| matches!(event, Event::AttachReply { .. });
    assert!(!world.take_events().iter().any(is_reply));
    world.run();
    assert!(world.take_events().iter().any(is_reply));
}

#[test]
fn a_peer_may_leave_before_the_core_has_answered() {
    let mut world = World::new();
    let session = world.session();
    let link = world.client.attach(session, from_node("r", "orders", "here")).unwrap();
    world.exchange();
    let letters = world.answers();
    world.client.end(session, None).unwrap();
    world.exchange();
    world.hand_in(letters);
    assert_eq!(world.receiver_count(), 1);
    world.run();
    assert_eq!(world.receiver_count(), 0);
    assert_eq!(world.client.link_name(link), None);
}

#[test]
fn a_connection_that_is_lost_closes_its_receivers_answered_or_not() {
    let mut world = World::new();
    world.receiver();
    let session = world.session();
    world.client.attach(session, from_node("waits", "orders", "here")).unwrap();
    world.exchange();
    world.answers();
    assert_eq!(world.receiver_count(), 2);
    let World { mut endpoint, mut core, clock, .. } = world;
    endpoint.handle_eof();
    for command in endpoint.leave() {
        core.handle(clock.now(), command);
    }
    assert_eq!(core.queue_stats().map(|stats| stats.receiver_count).sum::<u64>(), 0);
}

#[test]
fn an_unknown_entity_is_refused_at_attach() {
    let mut world = World::new();
    let session = world.session();
    let link = world.attach(session, to_node("s", "nothing"));
    assert_eq!(world.detached(link).as_deref(), Some("amqp:not-found"));
    assert!(world.endpoint.links.is_empty());
}

#[test]
fn credit_is_renewed_once_messages_are_on_disk() {
    let mut world = World::new();
    let link = world.sender();
    assert_eq!(world.client.link_credit(link), 1000);
    for _ in 0..600 {
        world.send(link, &Message::data("x"), true);
    }
    world.exchange();
    assert_eq!(world.client.link_credit(link), 400, "none is answered yet");
    world.run();
    assert!(600 <= world.client.link_credit(link));
}

#[test]
fn bytes_on_their_way_to_disk_stop_reading() {
    let mut world = World::new();
    let link = world.sender();
    let message = Message::data(vec![0; 1_000_000]);
    for _ in 0..9 {
        assert!(world.endpoint.wants_input());
        world.send(link, &message, false);
        world.exchange();
    }
    assert!(!world.endpoint.wants_input());
    world.run();
    assert!(world.endpoint.wants_input());
    assert_eq!(world.endpoint.pending_bytes, 0);
    // An answer that comes after its link is gone is not counted again.
    world.send(link, &message, false);
    world.exchange();
    let letters = world.answers();
    world.client.detach(link, true, None).unwrap();
    world.exchange();
    assert_eq!(world.endpoint.pending_bytes, 0);
    world.hand_in(letters);
    assert_eq!(world.endpoint.pending_bytes, 0);
}

#[test]
fn a_message_sent_settled_is_kept_and_not_answered() {
    let mut world = World::new();
    let link = world.sender();
    world.take_events();
    world.send(link, &Message::data("x"), true);
    world.run();
    assert_eq!(world.take_events(), []);
    assert_eq!(world.message_count(), 1);
}

/// What the client is told of its last message.
fn outcome(world: &mut World) -> Option<DeliveryState> {
    world.take_events().into_iter().find_map(|event| match event {
        Event::Settled { state, settled: true, .. } => state,
        _ => None,
    })
}

/// What the client is told of its last settlement.
fn answer(world: &mut World) -> Option<DeliveryState> {
    world.take_events().into_iter().find_map(|event| match event {
        Event::SettledBySender { state, .. } => state,
        _ => None,
    })
}

#[track_caller]
fn check_rejected(state: Option<DeliveryState>, condition: &str) {
    let Some(DeliveryState::Rejected(Some(error))) = state else { panic!("{state:?}") };
    assert_eq!(error.condition.as_str(), condition);
}

#[test]
fn a_message_is_accepted_or_rejected_and_the_link_stays() {
    let queue = QueueSettings { message_bytes_max: 1000, ..QueueSettings::default() };
    let mut world = World::with(everything(), Config::default(), queue);
    let link = world.sender();
    for _ in 0..2 {
        world.send(link, &Message::data("x"), false);
        world.run();
        assert_eq!(outcome(&mut world), Some(DeliveryState::Accepted));
        world.send(link, &Message::data(vec![0; 1001]), false);
        world.run();
        check_rejected(outcome(&mut world), "amqp:link:message-size-exceeded");
        world.send_wire(link, &Bytes::from_static(b"no message"), false);
        world.run();
        check_rejected(outcome(&mut world), "amqp:decode-error");
    }
    assert_eq!(world.message_count(), 2);
}

/// Sends a message and receives it. The receiver, and the delivery there.
fn one_received(world: &mut World) -> (LinkId, DeliveryId) {
    let (sender, receiver) = (world.sender(), world.receiver());
    world.send(sender, &Message::data("x"), true);
    world.client.set_credit(receiver, 1).unwrap();
    world.run();
    let id = world.received().pop().unwrap().id;
    (receiver, id)
}

#[test]
fn a_settlement_is_answered_with_the_type_that_was_asked_for() {
    let modified = |delivery_failed| DeliveryState::Modified {
        delivery_failed,
        undeliverable_here: None,
        message_annotations: None,
    };
    let error = ErrorInfo::new("com.microsoft:dead-letter", "d");
    for (asked, expected) in [
        (DeliveryState::Accepted, DeliveryState::Accepted),
        (DeliveryState::Released, DeliveryState::Released),
        (modified(Some(true)), modified(None)),
        (DeliveryState::Rejected(Some(error)), DeliveryState::Rejected(None)),
    ] {
        let mut world = World::new();
        let (receiver, id) = one_received(&mut world);
        world.client.settle_incoming(receiver, id, asked, false).unwrap();
        world.run();
        assert_eq!(answer(&mut world), Some(expected));
    }
}

#[test]
fn a_settlement_sent_settled_is_done_and_not_answered() {
    let mut world = World::new();
    let (receiver, id) = one_received(&mut world);
    world.client.settle_incoming(receiver, id, DeliveryState::Accepted, true).unwrap();
    world.run();
    assert_eq!(world.take_events(), []);
    assert_eq!(world.message_count(), 0);
}

#[test]
fn a_settlement_after_the_lock_was_lost_is_rejected() {
    let mut world = World::new();
    let (receiver, id) = one_received(&mut world);
    world.client.settle_incoming(receiver, id, DeliveryState::Accepted, false).unwrap();
    world.exchange();
    let commands = world.endpoint.take_commands();
    let [Command::Settle { origin: Some(to), .. }] = commands[..] else { panic!("{commands:?}") };
    world.hand_in(vec![reply(to, Err(Error::MessageLockLost))]);
    check_rejected(answer(&mut world), "com.microsoft:message-lock-lost");
}

#[test]
fn a_delivery_that_finds_no_credit_goes_back() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    world.client.set_credit(receiver, 1).unwrap();
    world.run();
    world.send(sender, &Message::data("x"), true);
    world.exchange();
    let letters = world.answers();
    world.client.set_credit(receiver, 0).unwrap();
    world.exchange();
    world.hand_in(letters);
    let released = |command: &Command| {
        matches!(command, Command::Settle { settlement: Settlement::Release, origin: None, .. })
    };
    assert!(world.endpoint.commands.iter().any(released));
    world.client.set_credit(receiver, 1).unwrap();
    world.run();
    let message = Message::decode(&world.received().pop().unwrap().payload).unwrap();
    assert_eq!(message.header.unwrap().delivery_count, Some(0));
}

#[test]
fn a_drain_is_answered_after_the_last_message() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    world.send(sender, &Message::data("x"), true);
    world.client.set_credit_drain(receiver, 10).unwrap();
    world.run();
    let events = world.take_events();
    let position = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let message = position(|event| matches!(event, Event::Delivery(_)));
    assert!(message < position(|event| matches!(event, Event::Drained { .. })));
    // What comes later waits for new credit.
    world.send(sender, &Message::data("y"), true);
    world.run();
    assert!(world.received().is_empty());
    world.client.set_credit(receiver, 1).unwrap();
    world.run();
    assert_eq!(world.received().len(), 1);
}

#[test]
fn a_peer_may_think_better_of_a_drain() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    world.client.set_credit_drain(receiver, 10).unwrap();
    world.exchange();
    world.client.set_credit(receiver, 10).unwrap();
    world.run();
    world.send(sender, &Message::data("x"), true);
    world.run();
    assert_eq!(world.received().len(), 1);
}

#[test]
fn a_lost_store_closes_the_connection_with_an_error_to_try_again() {
    let mut world = World::new();
    let link = world.sender();
    world.send(link, &Message::data("x"), false);
    world.exchange();
    world.hand_in(vec![Letter::StoreLost]);
    assert_eq!(world.closed().as_deref(), Some("amqp:connection:forced"));
    assert!(world.endpoint.is_finished() && !world.endpoint.wants_input());
}

#[test]
fn a_closed_entity_detaches_its_receivers() {
    let mut world = World::new();
    let link = world.receiver();
    let Some(Link::Outgoing(found)) = world.endpoint.links.values().next() else { panic!() };
    let receiver = found.receiver;
    let error = Error::EntityNotFound("orders".into());
    world.hand_in(vec![Letter::Effect(EffectKind::ReceiverClosed { receiver, error })]);
    assert_eq!(world.detached(link).as_deref(), Some("amqp:not-found"));
}

#[test]
fn senders_learn_how_large_a_message_may_be() {
    let mut world = World::new();
    world.sender();
    let attach = world.take_events().into_iter().find_map(|event| match event {
        Event::AttachReply { attach, .. } => Some(attach),
        _ => None,
    });
    assert_eq!(attach.unwrap().max_message_size, Some(1024 * 1024));
}

/// "copy": what the browser did not get is there for it later, and nothing else twice.
#[test]
fn a_browser_sees_what_met_no_credit() {
    let mut world = World::new();
    let sender = world.sender();
    for text in ["a", "b", "c"] {
        world.send(sender, &Message::data(text), true);
    }
    world.run();
    let session = world.session();
    let source = Source { distribution_mode: Some("copy".into()), ..Source::new("orders") };
    let browser = Attach { source: Some(source.into()), ..from_node("b", "orders", "here") };
    let browser = world.attach(session, browser);
    world.client.set_credit(browser, 1).unwrap();
    world.run();
    let mut seen = world.received();
    world.client.set_credit(browser, 2).unwrap();
    world.exchange();
    let on_their_way = world.answers();
    world.client.set_credit(browser, 0).unwrap();
    world.exchange();
    world.hand_in(on_their_way);
    world.run();
    assert_eq!(world.received(), []);
    world.client.set_credit(browser, 10).unwrap();
    world.run();
    seen.extend(world.received());
    let mut tags: Vec<_> = seen.iter().map(|one| one.tag.as_ref().to_vec()).collect();
    assert!(tags.is_sorted());
    tags.dedup();
    assert_eq!((seen.len(), tags.len()), (3, 3));
}
