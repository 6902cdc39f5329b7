//! A broker that is short of memory, and peers that take more than their part.

use peeklock_core::EffectKind;

use super::*;
use crate::pressure::Memory;

/// Lets the process have more memory than it may, or less.
fn fill(world: &World, is_full: bool) {
    let memory: &Memory = &world.endpoint.settings.memory;
    memory.note_resident(if is_full { u64::MAX } else { 0 });
}

/// What became of the messages sent: the conditions of those that were refused.
fn refused(world: &mut World) -> Vec<Option<String>> {
    let outcomes = world.take_events().into_iter().filter_map(|event| match event {
        Event::Settled { state: Some(DeliveryState::Accepted), .. } => Some(None),
        Event::Settled { state: Some(DeliveryState::Rejected(Some(error))), .. } => {
            Some(Some(error.condition.as_str().to_owned()))
        }
        _ => None,
    });
    outcomes.collect()
}

#[test]
fn without_memory_senders_are_told_to_try_again_and_receivers_go_on() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    for _ in 0..3 {
        world.send(sender, &Message::data("x"), false);
    }
    world.run();
    assert_eq!(refused(&mut world), [None, None, None]);
    fill(&world, true);
    world.send(sender, &Message::data("too much"), false);
    world.run();
    assert_eq!(refused(&mut world), [Some("com.microsoft:server-busy".to_owned())]);
    world.client.set_credit(receiver, 3).unwrap();
    world.run();
    let received = world.received();
    assert_eq!(received.len(), 3);
    for one in received {
        world.client.settle_incoming(receiver, one.id, DeliveryState::Accepted, false).unwrap();
    }
    world.run();
    assert_eq!(world.message_count(), 0, "what was refused is not there");
    fill(&world, false);
    world.send(sender, &Message::data("again"), false);
    world.run();
    assert_eq!(refused(&mut world), [None]);
}

#[test]
fn where_others_hold_it_all_small_messages_go_on_and_large_ones_do_not() {
    let mut world = World::new();
    let sender = world.sender();
    let memory = Arc::clone(&world.endpoint.settings.memory);
    let mut others: Vec<_> = (0..200_000).map(|_| memory.holding()).collect();
    others[0].set(usize::try_from(memory.shares().connections).unwrap());
    for (octets, expected) in [(1000, None), (200_000, Some("com.microsoft:server-busy"))] {
        world.send(sender, &Message::data(vec![0; octets]), false);
        world.run();
        assert_eq!(refused(&mut world), [expected.map(str::to_owned)], "{octets} octets, at once");
    }
    assert_eq!(world.message_count(), 1);
    drop(others);
    world.send(sender, &Message::data(vec![0; 200_000]), false);
    world.run();
    assert_eq!(refused(&mut world), [None]);
}

#[test]
fn without_memory_no_credit_is_given_until_there_is_some_again() {
    let mut world = World::new();
    let sender = world.sender();
    fill(&world, true);
    let other = world.sender();
    assert_eq!(world.client.link_credit(other), 0);
    let credit = world.client.link_credit(sender);
    world.later(Duration::from_secs(1));
    assert_eq!(world.client.link_credit(other), 0);
    assert!(world.endpoint.deadline().is_some_and(|due| due <= world.now + Duration::from_secs(1)));
    fill(&world, false);
    world.later(Duration::from_secs(1));
    assert_eq!(world.client.link_credit(other), credit);
}

#[test]
fn a_peer_is_given_some_octets_ahead_and_everything_in_the_end() {
    let mut world = World::new();
    let (sender, receiver) = (world.sender(), world.receiver());
    for _ in 0..20 {
        world.send(sender, &Message::data(vec![0; 200 << 10]), true);
        world.run();
    }
    world.client.set_credit(receiver, 20).unwrap();
    world.exchange();
    let letters = world.answers();
    let is_delivery =
        |letter: &&Letter| matches!(letter, Letter::Effect(EffectKind::Deliver { .. }));
    let ahead = letters.iter().filter(is_delivery).count();
    assert!((1..=4).contains(&ahead), "half a megabyte for each of two links: {ahead}");
    world.hand_in(letters);
    world.run();
    assert_eq!(world.received().len(), 20);
}
