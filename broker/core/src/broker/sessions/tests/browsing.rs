//! What is shown of sessions to those who only look.

use super::*;

#[test]
fn browsing_sees_one_session_or_all() {
    for (mut world, entity) in [world(), small_world(settings())] {
        world.put(entity, &["a:1", "b:2", "a:3", "a:4", "b:5"]);
        let receiver = world.accept(1, named("a"));
        let locked = world.receive(receiver, 1);
        let browse = |world: &mut World, session: Option<&str>, from, count_max| {
            let (session, from) = (session.map(id), SequenceNumber(from));
            let bytes_max = usize::MAX;
            let ask =
                |origin| Command::Browse { origin, entity, from, count_max, bytes_max, session };
            match world.ask(ask) {
                Ok(Reply::Browsed { messages }) => messages
                    .iter()
                    .map(|browsed| body_text(&browsed.message).to_owned())
                    .collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(browse(&mut world, Some("a"), 0, 10), ["1", "3", "4"]);
        assert_eq!(browse(&mut world, Some("a"), 2, 1), ["3"]);
        assert_eq!(browse(&mut world, Some("c"), 0, 1), [""; 0]);
        assert_eq!(browse(&mut world, None, 0, 10), ["1", "2", "3", "4", "5"]);
        assert_eq!(browse(&mut world, None, 3, 2), ["3", "4"]);
        world.settle(&locked[0], Settlement::Complete).unwrap();
        assert_eq!(browse(&mut world, Some("a"), 0, 2), ["3", "4"]);
    }
}

#[test]
fn browsing_a_session_shows_what_is_set_aside_in_its_place() {
    for (mut world, entity) in [world(), small_world(settings())] {
        let due = world.now.plus(Span::from_secs(600));
        let schedule = |world: &mut World, session: &str, body: &str| {
            let messages = vec![due_message(session, body, due)];
            let schedule =
                |origin| Command::Schedule { origin, entity, messages, transaction: None };
            let Ok(Reply::Scheduled { sequences }) = world.ask(schedule) else { panic!() };
            sequences[0]
        };
        let browse = |world: &mut World, session: &str, count_max, bytes_max| {
            let (mut found, mut from) = (Vec::new(), SequenceNumber::FIRST);
            loop {
                let session = Some(id(session));
                let ask = |origin| Command::Browse {
                    origin,
                    entity,
                    from,
                    count_max,
                    bytes_max,
                    session,
                };
                let Ok(Reply::Browsed { messages }) = world.ask(ask) else { panic!() };
                let Some(last) = messages.last() else { return found };
                from = last.sequence.next();
                let seen = messages.iter().map(|browsed| {
                    let state = match browsed.state {
                        MessageState::Active => "active",
                        MessageState::Scheduled => "scheduled",
                        MessageState::Deferred => "deferred",
                    };
                    format!("{} {state}", body_text(&browsed.message))
                });
                found.extend(seen);
            }
        };
        world.put(entity, &["a:1", "b:2", "a:3"]);
        schedule(&mut world, "a", "4");
        let unwanted = schedule(&mut world, "a", "5");
        schedule(&mut world, "b", "6");
        world.put(entity, &["a:7", "a:8"]);
        let receiver = world.accept(1, named("a"));
        for delivery in world.receive(receiver, 3) {
            if text(&delivery) != "3" {
                world.settle(&delivery, Settlement::Defer { changes: Vec::new() }).unwrap();
            }
        }
        let expected = ["1 deferred", "3 active", "4 scheduled", "5 scheduled", "7 deferred"];
        for (count_max, bytes_max) in [(1, usize::MAX), (2, 1), (3, 50), (100, usize::MAX)] {
            let found = browse(&mut world, "a", count_max, bytes_max);
            assert_eq!(found, [&expected[..], &["8 active"]].concat());
        }
        // Whatever takes a message off its shelf takes it out of sight.
        let sequences = vec![unwanted];
        let cancel = |origin| Command::CancelScheduled { origin, entity, sequences };
        assert!(world.ask(cancel).is_ok());
        let delivery = ask_for_deferred(&mut world, entity, Some("a")).unwrap().remove(0);
        let expected = ["1 deferred", "3 active", "4 scheduled", "7 deferred", "8 active"];
        assert_eq!(browse(&mut world, "a", 100, usize::MAX), expected);
        world.settle(&delivery, Settlement::Complete).unwrap();
        world.crash();
        assert_eq!(browse(&mut world, "a", 100, usize::MAX), expected[1..]);
        world.pass(Span::from_secs(600));
        assert_eq!(
            browse(&mut world, "a", 100, usize::MAX),
            ["3 active", "7 deferred", "8 active", "4 active"]
        );
        assert_eq!(browse(&mut world, "b", 100, usize::MAX), ["2 active", "6 active"]);
    }
}

#[test]
fn what_left_a_session_does_not_hide_what_is_behind_it() {
    let (mut world, entity) = small_world(settings());
    world.put(entity, &["a:1", "a:2", "b:3", "a:4"]);
    let (receiver, accepted) = world.start_accept_in(ReceiveMode::ReceiveAndDelete, 1, named("a"));
    world.accepted(accepted).unwrap().unwrap();
    world.reads_wait = true;
    let (origin, from) = (world.origin(), SequenceNumber(0));
    let (count_max, bytes_max, session) = (2, usize::MAX, Some(id("a")));
    world.handle(Command::Browse { origin, entity, from, count_max, bytes_max, session });
    while world.turn() || world.sync_one() {}
    assert!(world.answer_read(0), "the index");
    while world.turn() || world.sync_one() {}
    world.handle(Command::Demand { receiver, limit: 2 });
    while world.turn() || world.sync_one() {}
    while world.answer_read(1) {
        while world.turn() || world.sync_one() {}
    }
    assert_eq!(world.take_deliveries().len(), 2);
    world.settle_down();
    let Some(Ok(Reply::Browsed { messages })) = world.take_reply(origin) else { panic!() };
    let bodies: Vec<_> = messages.iter().map(|browsed| body_text(&browsed.message)).collect();
    assert_eq!(bodies, ["4"]);
}
