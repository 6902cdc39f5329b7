//! The coordinator: whom it serves, and what is left of it when a connection goes.

use peeklock_protocol::terminus::Coordinator;
use peeklock_protocol::transaction::Coordination;

use super::*;

fn coordinator(world: &mut World) -> LinkId {
    let session = world.session();
    let target = Some(Coordinator::default().into());
    world.attach(session, Attach { target, ..to_node("c", "ignored") })
}

fn ask(world: &mut World, link: LinkId, request: &Coordination) -> DeliveryState {
    world.send_wire(link, &request.to_bytes(), false);
    world.run();
    let states = world.take_events().into_iter().filter_map(|event| match event {
        Event::Settled { link: found, state, .. } if found == link => state,
        _ => None,
    });
    states.last().expect("an answer")
}

fn declare(world: &mut World, link: LinkId) -> DeliveryState {
    ask(world, link, &Coordination::Declare { global_id: None })
}

/// .NET declares before it sends a token, so it may; but not without end.
#[test]
fn a_peer_without_rights_declares_a_few() {
    let mut world = World::with(ClientSasl::Anonymous, Config::default(), QueueSettings::default());
    let link = coordinator(&mut world);
    for _ in 0..16 {
        let state = declare(&mut world, link);
        assert!(matches!(state, DeliveryState::Declared { .. }), "{state:?}");
    }
    let DeliveryState::Rejected(Some(error)) = declare(&mut world, link) else {
        panic!("not one more")
    };
    assert_eq!(error.condition.as_str(), "amqp:unauthorized-access");
}

#[test]
fn credit_is_renewed_with_the_answers() {
    let mut world = World::new();
    let link = coordinator(&mut world);
    assert_eq!(world.client.link_credit(link), 100);
    for _ in 0..300 {
        declare(&mut world, link);
    }
    assert_eq!(world.client.link_credit(link), 100);
    let request = Coordination::Declare { global_id: None }.to_bytes();
    for _ in 0..100 {
        world.send_wire(link, &request, false);
    }
    world.exchange();
    assert_eq!(world.client.link_credit(link), 0, "none is answered yet");
    world.run();
    assert_eq!(world.client.link_credit(link), 100);
}

#[test]
fn a_connection_that_is_lost_rolls_back() {
    let mut world = World::new();
    let link = coordinator(&mut world);
    declare(&mut world, link);
    let World { mut endpoint, mut core, clock, .. } = world;
    endpoint.handle_eof();
    for command in endpoint.leave() {
        core.handle(clock.now(), command);
    }
    assert_eq!(core.counters().transactions_rolled_back, 1);
}
