//! Credit as those see it who watch the broker.

use super::*;

/// That of senders and that of receivers.
fn told(world: &World) -> [i64; 2] {
    world.endpoint.settings.metrics.credit()
}

#[test]
fn credit_of_senders_is_told_as_it_is_given_used_and_taken_away() {
    let mut world = World::new();
    assert_eq!(told(&world), [0, 0]);
    let (first, second) = (world.sender(), world.sender());
    assert_eq!(told(&world), [2000, 0]);
    for _ in 0..10 {
        world.send(first, &Message::data("x"), false);
    }
    world.exchange();
    assert_eq!(told(&world), [1990, 0], "also before anything is on disk");
    world.run();
    assert_eq!(told(&world), [1990, 0]);
    world.send_wire(first, &Bytes::from_static(b"what no message is"), false);
    world.run();
    assert_eq!(told(&world), [1989, 0]);
    for _ in 0..600 {
        world.send(first, &Message::data("x"), true);
    }
    world.run();
    let given = |world: &World, link| i64::from(world.client.link_credit(link));
    assert_eq!(told(&world), [given(&world, first) + 1000, 0], "and what was given again");
    world.client.detach(second, true, None).unwrap();
    world.run();
    assert_eq!(told(&world), [given(&world, first), 0]);
}

#[test]
fn credit_of_receivers_is_told_as_it_is_given_used_drained_and_taken_away() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    world.client.set_credit(receiver, 5).unwrap();
    world.run();
    assert_eq!(told(&world), [1000, 5]);
    for _ in 0..2 {
        world.send(sender, &Message::data("x"), false);
    }
    world.run();
    assert_eq!(told(&world), [998, 3]);
    let left = world.client.credit(receiver);
    world.client.set_credit_drain(receiver, left).unwrap();
    world.run();
    assert_eq!(told(&world), [998, 0]);
    world.client.set_credit(receiver, 7).unwrap();
    world.run();
    let other = world.receiver();
    world.client.set_credit(other, 100).unwrap();
    world.run();
    assert_eq!(told(&world), [998, 107]);
    world.client.detach(receiver, true, None).unwrap();
    world.run();
    assert_eq!(told(&world), [998, 100]);
    world.client.set_credit(other, 0).unwrap();
    world.run();
    assert_eq!(told(&world), [998, 0]);
}

#[test]
fn credit_goes_with_its_connection() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    world.client.set_credit(receiver, 5).unwrap();
    world.send(sender, &Message::data("x"), false);
    world.run();
    assert_eq!(told(&world), [999, 4]);
    let metrics = Arc::clone(&world.endpoint.settings.metrics);
    world.endpoint.leave();
    assert_eq!(metrics.credit(), [0, 0]);
}
