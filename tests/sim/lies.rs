//! A lie is noticed: the model is told what did not happen, and must complain.

use crate::model::{End, Ends, Sent, Shelf, State};
use crate::workload::Workload;
use crate::world::{Faults, World};
use crate::{STEPS, finish};

/// A world in the middle of its work.
fn world_at_work(faults: Faults, workload: &Workload) -> World {
    let mut world = World::new(1, faults, workload);
    for _ in 0..STEPS {
        world.step(workload);
    }
    world
}

/// Tells the model something untrue about the first message for which the lie says yes.
fn after_a_lie(workload: &Workload, lie: impl Fn(&mut State) -> bool) {
    let mut world = world_at_work(Faults::NONE, workload);
    let mut tries = 0;
    while !world.model.pretend(&lie) {
        world.step(workload);
        tries += 1;
        assert!(tries < STEPS, "there was nothing to lie about");
    }
    finish(&mut world);
}

#[test]
#[should_panic(expected = "came back after it was Completed")]
fn a_completion_that_never_happened_is_noticed() {
    after_a_lie(&Workload::mixed(), |state| {
        state.shelf = Shelf::Gone(End::Completed);
        true
    });
}

#[test]
#[should_panic(expected = "was accepted and is lost")]
fn a_lost_message_is_noticed() {
    let mut world = world_at_work(Faults::NONE, &Workload::mixed());
    world.next_body += 1;
    let body = world.next_body;
    world.model.sent(&[(body, Sent::default())]);
    world.model.accepted(&[body]);
    finish(&mut world);
}

#[test]
#[should_panic(expected = "was told of message")]
fn an_answer_before_its_write_is_durable_is_noticed() {
    let faults = Faults { store_lies: true, read: 0, slow_read: 0, ..Faults::CRASHES };
    finish(&mut world_at_work(faults, &Workload::mixed()));
}

fn a_lock_lasts(state: &mut State) -> bool {
    state.lock.as_mut().map(|lock| lock.ends = Ends::At(u64::MAX)).is_some()
}

#[test]
#[should_panic(expected = "holds it")]
fn a_message_that_two_clients_hold_is_noticed() {
    let workload = Workload::mixed();
    let mut world = world_at_work(Faults::NONE, &workload);
    while !world.model.pretend(a_lock_lasts) {
        world.step(&workload);
    }
    finish(&mut world);
}

#[test]
#[should_panic(expected = "is there, and was not taken in")]
fn a_transaction_that_was_half_done_is_noticed() {
    after_a_lie(&Workload::transactions(), |state| {
        // It came with others that were taken in.
        state.shelf = Shelf::Nowhere;
        state.lock.is_none()
    });
}
