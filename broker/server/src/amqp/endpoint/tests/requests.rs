//! Where responses go, and what becomes of requests that wait.

use peeklock_protocol::message::Properties;
use peeklock_protocol::value::{Array, Map, Value};

use super::*;

/// To `$cbs`. It is malformed: it is answered all the same, and grants nothing.
fn request(reply_to: Option<&'static str>) -> Message {
    let reply_to = reply_to.map(Into::into);
    Message::value("").with_properties(Properties { reply_to, ..Properties::default() })
}

/// To a management node, by a client that waits for a second.
fn renewal() -> Message {
    let body = Map::new().with("lock-tokens", Array::uuids(std::iter::once([1; 16])));
    Message::value(Value::Map(body)).with_application_properties(
        Map::new()
            .with("operation", "com.microsoft:renew-lock")
            .with("com.microsoft:server-timeout", Value::Uint(1000)),
    )
}

/// Responses that have come: on which link, with which status.
fn responses(world: &mut World) -> Vec<(LinkId, i32)> {
    let status = |delivery: peeklock_protocol::delivery::Delivery| {
        assert!(delivery.settled);
        let message = Message::decode(&delivery.payload).unwrap();
        let property = |key| message.application_property(key);
        match property("status-code").or(property("statusCode")) {
            Some(Value::Int(status)) => (delivery.link, *status),
            other => panic!("{other:?}"),
        }
    };
    world.received().into_iter().map(status).collect()
}

fn response_link(
    world: &mut World,
    session: SessionId,
    node: &str,
    name: &str,
    address: &str,
) -> LinkId {
    let link = world.attach(session, from_node(name, node, address));
    world.client.set_credit(link, 1000).unwrap();
    world.run();
    link
}

#[test]
fn a_response_goes_to_the_address_then_the_name_then_the_only_link() {
    let mut world = World::new();
    let (one, two) = (world.session(), world.session());
    let asks_one = world.attach(one, to_node("asks", "$cbs"));
    let asks_two = world.attach(two, to_node("asks", "$cbs"));
    let address = response_link(&mut world, one, "$cbs", "name", "address");
    let other = response_link(&mut world, one, "$cbs", "address", "elsewhere");
    let alone = response_link(&mut world, two, "$cbs", "name", "address");
    // Of another node, so never meant.
    response_link(&mut world, one, "orders/$management", "m", "mgmt");
    for (asks, reply_to, expected) in [
        (asks_one, Some("address"), Some(address)),
        (asks_one, Some("name"), Some(address)),
        (asks_one, Some("elsewhere"), Some(other)),
        (asks_one, Some("mgmt"), None),
        (asks_two, Some("address"), Some(alone)),
        (asks_two, None, Some(alone)),
        (asks_two, Some("unheard-of"), Some(alone)),
    ] {
        world.send(asks, &request(reply_to), true);
        world.run();
        let found = responses(&mut world).pop().map(|(link, _)| link);
        assert_eq!(found, expected, "{reply_to:?}");
    }
}

#[test]
fn a_response_crosses_sessions_only_when_its_own_has_no_link() {
    let mut world = World::new();
    let (one, two) = (world.session(), world.session());
    let asks = world.attach(one, to_node("asks", "$cbs"));
    let first = response_link(&mut world, two, "$cbs", "first", "a");
    world.send(asks, &request(None), true);
    world.run();
    assert_eq!(responses(&mut world), [(first, 400)]);
    let second = response_link(&mut world, two, "$cbs", "second", "b");
    world.send(asks, &request(Some("b")), true);
    world.run();
    assert_eq!(responses(&mut world), [(second, 400)]);
    world.send(asks, &request(None), true);
    world.run();
    assert_eq!(responses(&mut world), [], "either would be a guess");
}

#[test]
fn an_unsettled_request_is_settled_besides_its_response() {
    let mut world = World::new();
    let session = world.session();
    let asks = world.attach(session, to_node("asks", "$cbs"));
    world.take_events();
    world.send(asks, &request(None), false);
    world.run();
    let state = world.take_events().into_iter().find_map(|event| match event {
        Event::Settled { state, settled: true, .. } => state,
        _ => None,
    });
    assert_eq!(state, Some(DeliveryState::Accepted));
}

#[test]
fn responses_held_up_by_the_output_go_on_when_it_is_written() {
    let engine = Config { output_bytes_max: 1, ..Config::default() };
    let mut world = World::with(everything(), engine, QueueSettings::default());
    let session = world.session();
    let asks = world.attach(session, to_node("asks", "$cbs"));
    response_link(&mut world, session, "$cbs", "answers", "a");
    for _ in 0..3 {
        world.send(asks, &request(None), true);
    }
    world.exchange();
    // Each turn writes what the one before it left.
    for _ in 0..3 {
        world.hand_in(Vec::new());
    }
    assert_eq!(responses(&mut world).len(), 3);
}

#[test]
fn a_peer_that_asks_and_never_reads_loses_its_link() {
    let mut world = World::new();
    let session = world.session();
    let asks = world.attach(session, to_node("asks", "$cbs"));
    let answers = world.attach(session, from_node("answers", "$cbs", "a"));
    for _ in 0..101 {
        assert!(0 < world.client.link_credit(asks));
        world.send(asks, &request(None), true);
        world.run();
    }
    assert_eq!(world.detached(answers).as_deref(), Some("amqp:resource-limit-exceeded"));
}

/// A pair of links to the management node: requests, responses.
fn management(world: &mut World) -> (LinkId, LinkId) {
    let session = world.session();
    let asks = world.attach(session, to_node("asks", "orders/$management"));
    let answers = response_link(world, session, "orders/$management", "answers", "a");
    (asks, answers)
}

#[test]
fn a_request_is_given_up_at_the_time_the_client_named() {
    let mut world = World::new();
    let (asks, answers) = management(&mut world);
    world.send(asks, &renewal(), true);
    world.exchange();
    let letters = world.answers();
    assert_eq!(responses(&mut world), []);
    assert!(world.endpoint.deadline().unwrap() <= world.now + Duration::from_secs(1));
    world.later(Duration::from_secs(1));
    assert_eq!(responses(&mut world), [(answers, 408)]);
    // The answer comes too late, and is not one to any other request.
    world.hand_in(letters);
    assert_eq!(responses(&mut world), []);
    world.send(asks, &renewal(), true);
    world.run();
    assert_eq!(responses(&mut world), [(answers, 410)]);
}

#[test]
fn requests_that_wait_for_the_core_use_up_the_credit() {
    let mut world = World::new();
    let (asks, _) = management(&mut world);
    let mut sent = 0;
    while 0 < world.client.link_credit(asks) {
        world.send(asks, &renewal(), true);
        world.exchange();
        sent += 1;
        assert!(sent < 1000, "there is no end to it");
    }
    assert_eq!(world.endpoint.requests.len(), sent);
    world.run();
    assert_eq!(responses(&mut world).len(), sent);
    assert_eq!(world.client.link_credit(asks), 100);
}

#[test]
fn a_management_node_of_nothing_is_refused() {
    let mut world = World::new();
    let session = world.session();
    let link = world.client.attach(session, to_node("asks", "orders/$management")).unwrap();
    world.exchange();
    let commands = world.endpoint.take_commands();
    let [Command::OpenManagement { origin: to, .. }] = commands[..] else { panic!("{commands:?}") };
    world.hand_in(vec![reply(to, Err(Error::EntityNotFound("orders".into())))]);
    assert_eq!(world.detached(link).as_deref(), Some("amqp:not-found"));
    // An answer that comes after its link is nobody's.
    world.hand_in(vec![reply(to, Ok(Reply::Accepted))]);
    assert_eq!(world.take_events(), []);
}

fn steering(operation: &'static str) -> Message {
    let body = Map::new().with("milliseconds", 5_i32);
    Message::value(Value::Map(body))
        .with_application_properties(Map::new().with("operation", operation))
}

#[test]
fn the_node_of_the_namespace_has_no_entity_before_its_name() {
    for (address, is_open) in [
        ("$management", true),
        ("/$Management/", true),
        ("amqps://broker:5671/$management", true),
        ("amqps://$management", false),
        ("nothing/$management", false),
        ("amqps://broker/nothing/$management", false),
    ] {
        let mut world = World::new();
        let session = world.session();
        for attach in [to_node("asks", address), from_node("answers", address, "a")] {
            let link = world.attach(session, attach);
            assert_eq!(world.detached(link).is_none(), is_open, "{address}");
        }
    }
}

#[test]
fn a_step_of_the_clock_is_answered_when_the_driver_has_caught_up() {
    let mut world = World::new();
    let session = world.session();
    let asks = world.attach(session, to_node("asks", "$management"));
    let answers = response_link(&mut world, session, "$management", "answers", "a");
    world.send(asks, &steering("io.peeklock:freeze-clock"), true);
    world.send(asks, &steering("io.peeklock:advance-clock"), true);
    world.run();
    assert_eq!(responses(&mut world), []);
    let waiting = world.endpoint.take_catch_ups();
    let [one, other] = waiting[..] else { panic!("{waiting:?}") };
    // Reading is no step, and waits for nobody.
    world.send(asks, &steering("io.peeklock:read-clock"), true);
    world.run();
    assert_eq!(responses(&mut world), [(answers, 200)]);
    world.hand_in(vec![Letter::CaughtUp { to: one }]);
    assert_eq!(responses(&mut world), [(answers, 200)]);
    // Nor is one answered that has lost its link.
    world.client.detach(asks, true, None).unwrap();
    world.run();
    world.hand_in(vec![Letter::CaughtUp { to: one }, Letter::CaughtUp { to: other }]);
    assert_eq!(responses(&mut world), []);
    assert!(world.endpoint.requests.is_empty() && world.endpoint.take_catch_ups().is_empty());
}
