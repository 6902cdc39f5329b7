//! A lie is noticed: the model is told what did not happen, and must complain.

use peeklock_core::{
    Command, EntityPath, QueueSettings, RuleDescription, RuleFilter, SqlText, TopicCommand,
};

use crate::model::{End, Ends, Part, Sent, Shelf, State};
use crate::workload::{Action, Workload};
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
        let is_waiting = is_waiting(state);
        state.shelf = Shelf::Gone(End::Completed);
        is_waiting
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
        // As if it had been rolled back.
        let is_waiting = is_waiting(state);
        state.shelf = Shelf::Nowhere;
        is_waiting
    });
}

#[test]
#[should_panic(expected = "before its time")]
fn a_scheduled_message_that_comes_early_is_noticed() {
    after_a_lie(&Workload::scheduling(), |state| {
        // So that it would be due after everything else.
        state.enqueued = (u64::MAX / 2, u64::MAX / 2);
        state.shelf == Shelf::Scheduled
    });
}

#[test]
#[should_panic(expected = "came back after it was Cancelled")]
fn a_cancelled_message_that_comes_is_noticed() {
    after_a_lie(&Workload::scheduling(), |state| {
        let is_scheduled = state.shelf == Shelf::Scheduled;
        state.shelf = Shelf::Gone(End::Cancelled);
        is_scheduled
    });
}

#[test]
#[should_panic(expected = "after it expired")]
fn an_expired_message_that_comes_is_noticed() {
    after_a_lie(&Workload::mixed(), |state| {
        state.time_to_live = Some(1);
        is_waiting(state)
    });
}

#[test]
#[should_panic(expected = "came back after it was DuplicateOf")]
fn a_duplicate_that_comes_is_noticed() {
    after_a_lie(&Workload::duplicates(), |state| {
        let is_waiting = is_waiting(state);
        state.shelf = Shelf::Gone(End::DuplicateOf(0));
        is_waiting
    });
}

#[test]
#[should_panic(expected = "Active")]
fn a_deferred_message_that_comes_by_itself_is_noticed() {
    after_a_lie(&Workload::deferral(), |state| {
        let is_waiting = is_waiting(state);
        state.shelf = Shelf::Deferred;
        is_waiting
    });
}

#[test]
#[should_panic(expected = "came before message")]
fn a_session_out_of_order_is_noticed() {
    after_a_lie(&Workload::sessions(), |state| {
        // A message that was completed is said to be waiting still.
        let is_completed = state.shelf == Shelf::Gone(End::Completed) && state.number.is_some();
        if is_completed {
            state.shelf = Shelf::Active;
        }
        is_completed
    });
}

#[test]
#[should_panic(expected = "was accepted and is lost")]
fn a_forwarded_message_that_is_lost_is_noticed() {
    after_a_lie(&Workload::forwarding(), |state| {
        let is_completed = state.shelf == Shelf::Gone(End::Completed) && state.hops != 0;
        if is_completed {
            state.shelf = Shelf::Active;
        }
        is_completed
    });
}

#[test]
#[should_panic(expected = "it can only be one of")]
fn a_message_forwarded_to_another_queue_is_noticed() {
    after_a_lie(&Workload::forwarding(), |state| {
        let is_elsewhere = is_waiting(state) && state.at.0 != 6;
        state.at.0 = 6;
        is_elsewhere
    });
}

/// Whether it is to be delivered for certain.
fn is_waiting(state: &State) -> bool {
    let is_active = state.shelf == Shelf::Active && state.at.1 == Part::Main;
    is_active && state.lock.is_none() && state.attempts == (0, 0)
}

/// Gives a subscription these rules, of which the model knows nothing, while messages are published.
fn after_a_secret(name: &str, settings: QueueSettings, filters: &[RuleFilter]) {
    let mut workload = Workload::topics();
    // They would notice sooner, and say less.
    let counts = |action| matches!(action, Action::Describe | Action::Drain | Action::Browse);
    workload.weights.retain(|(action, _)| !counts(*action));
    let mut world = World::new(1, Faults::NONE, &workload);
    let path = EntityPath::parse(name).expect("a well-formed address").path;
    let rules = filters.iter().map(|filter| RuleDescription {
        name: "secret".into(),
        filter: filter.clone(),
        action: None,
    });
    let rules = Some(rules.collect());
    let command = TopicCommand::EnsureSubscription { origin: None, path, settings, rules };
    world.handle(Command::OfTopic(Box::new(command)));
    for _ in 0..STEPS {
        world.step(&workload);
    }
    finish(&mut world);
}

#[test]
#[should_panic(expected = "was accepted and is lost")]
fn a_copy_that_is_lost_is_noticed() {
    after_a_secret("topic-1/Subscriptions/sub-6", QueueSettings::default(), &[]);
}

#[test]
#[should_panic(expected = "nobody gave (11, Main) such a copy")]
fn a_copy_that_no_rule_asks_for_is_noticed() {
    let all = &[RuleFilter::True];
    after_a_secret("topic-1/Subscriptions/sub-11", QueueSettings::default(), all);
}

#[test]
#[should_panic(expected = "is there twice")]
fn a_copy_that_is_doubled_is_noticed() {
    // Where one subscription forwards to already.
    let queue = EntityPath::parse("queue-5").expect("a well-formed address").path;
    let settings = QueueSettings { forward_to: Some(queue), ..QueueSettings::default() };
    let filter = RuleFilter::Sql(SqlText::plain("color <> 'color-0'"));
    after_a_secret("topic-2/Subscriptions/secret", settings, &[filter]);
}

#[test]
#[should_panic(expected = "came back after it was Completed")]
fn a_copy_that_comes_back_is_noticed() {
    after_a_lie(&Workload::topics(), |state| {
        let is_waiting = is_waiting(state) && state.at.0 == 7 && state.time_to_live.is_none();
        state.shelf = Shelf::Gone(End::Completed);
        is_waiting
    });
}

#[test]
#[should_panic(expected = "and it was not published")]
fn a_copy_of_what_stayed_where_it_was_is_noticed() {
    after_a_lie(&Workload::topics(), |state| {
        let is_scheduled = state.shelf == Shelf::Scheduled && state.at.0 == 1;
        state.shelf = Shelf::Gone(End::Cancelled);
        is_scheduled
    });
}
