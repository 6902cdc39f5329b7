//! The operations of scheduling, deferral, sessions and batch deletion.

use peeklock_core::command::ReceiveMode;
use peeklock_core::id::MessageSessionId;

use super::*;

pub(super) fn scheduled(bodies: &[&'static [u8]]) -> Map {
    let message = |body: &&'static [u8]| {
        let message =
            Message { body: Body::Data(vec![Bytes::from_static(body)]), ..Message::default() };
        Value::Map(Map::new().with("message-id", "m").with("message", message.to_bytes()))
    };
    Map::new().with("messages", bodies.iter().map(message).collect::<Vec<_>>())
}

pub(super) fn numbers(numbers: &[i64]) -> Map {
    Map::new().with("sequence-numbers", Array::longs(numbers.iter().copied()))
}

fn body(response: &Message) -> Map {
    let Body::Value(Value::Map(body)) = &response.body else { panic!("{response:?}") };
    body.clone()
}

#[test]
fn scheduling_names_the_numbers_of_its_messages() {
    let operation = "com.microsoft:schedule-message";
    let (command, pending) = asked(operation, scheduled(&[b"a", b"b"]));
    let Command::Schedule { origin: ORIGIN, entity: ENTITY, messages, transaction: None } = command
    else {
        panic!("{command:?}")
    };
    assert_eq!(messages.len(), 2);
    assert!(messages[1].bytes().ends_with(b"b"));
    let sequences = vec![SequenceNumber(7), SequenceNumber(8)];
    let response = pending.response(Ok(Reply::Scheduled { sequences }), "broker");
    check_response(&response, 200, None);
    assert_eq!(body(&response), numbers(&[7, 8]));

    let broken = Value::Map(Map::new().with("message", Bytes::from_static(b"no message")));
    check_refused(operation, Map::new(), 400, "com.microsoft:argument-error");
    let broken = Map::new().with("messages", vec![broken]);
    check_refused(operation, broken, 400, "amqp:decode-error");
    let empty = Map::new().with("messages", vec![Value::Map(Map::new())]);
    check_refused(operation, empty, 400, "com.microsoft:argument-error");
}

#[test]
fn numbers_to_cancel_come_in_any_form() {
    let operation = "com.microsoft:cancel-scheduled-message";
    let listed = Map::new().with("sequence-numbers", vec![Value::Int(3), Value::Ulong(4)]);
    for (body, wanted) in
        [(numbers(&[3, 4]), &[3, 4][..]), (listed, &[3, 4]), (numbers(&[-1]), &[0])]
    {
        let (command, pending) = asked(operation, body);
        let Command::CancelScheduled { origin: ORIGIN, entity: ENTITY, sequences } = command else {
            panic!("{command:?}")
        };
        assert_eq!(sequences.iter().map(|one| one.0).collect::<Vec<_>>(), wanted);
        check_response(&pending.clone().response(Ok(Reply::ScheduledCancelled), "h"), 200, None);
        let gone = pending.response(Err(Error::MessageNotFound(3)), "h");
        check_response(&gone, 404, Some("com.microsoft:message-not-found"));
    }
    check_refused(operation, numbers(&[]), 400, "com.microsoft:argument-error");
    let texts = Map::new().with("sequence-numbers", vec![Value::from("3")]);
    check_refused(operation, texts, 400, "com.microsoft:argument-error");
}

#[test]
fn deferred_messages_are_asked_for_by_number() {
    let operation = "com.microsoft:receive-by-sequence-number";
    for (mode, wanted) in [
        (Value::Null, ReceiveMode::PeekLock),
        (Value::Uint(1), ReceiveMode::PeekLock),
        (Value::Ubyte(0), ReceiveMode::ReceiveAndDelete),
    ] {
        let request = numbers(&[5]).with("receiver-settle-mode", mode).with("session-id", "");
        let (command, _) = asked(operation, request);
        let Command::ReceiveDeferred { entity: ENTITY, sequences, mode, session, .. } = command
        else {
            panic!("{command:?}")
        };
        assert_eq!((sequences, mode), (vec![SequenceNumber(5)], wanted));
        assert_eq!(session, MessageSessionId::new(""));
    }
    let request = numbers(&[5]).with("receiver-settle-mode", 2_u32);
    check_refused(operation, request, 400, "com.microsoft:argument-error");
}

#[test]
fn session_operations_name_their_session() {
    let session = || Map::new().with("session-id", "s-1");
    let (command, pending) = asked("com.microsoft:renew-session-lock", session());
    assert!(
        matches!(command, Command::RenewSessionLock { session, .. } if session.as_str() == "s-1")
    );
    let until = Timestamp(1_700_000_060_000);
    let response = pending.clone().response(Ok(Reply::SessionRenewed { until }), "h");
    check_response(&response, 200, None);
    let expiration = Value::Timestamp(1_700_000_060_000);
    assert_eq!(body(&response), Map::new().with("expiration", expiration));
    let lost = pending.response(Err(Error::SessionLockLost), "h");
    check_response(&lost, 410, Some("com.microsoft:session-lock-lost"));

    for (given, wanted) in [
        (Value::Null, None),
        (Value::Binary(Bytes::from_static(b"state")), Some(Bytes::from_static(b"state"))),
    ] {
        let request = session().with("session-state", given.clone());
        let (command, pending) = asked("com.microsoft:set-session-state", request);
        assert!(matches!(&command, Command::SetSessionState { state, .. } if *state == wanted));
        check_response(&pending.response(Ok(Reply::SessionStateSet), "h"), 200, None);
        let (_, pending) = asked("com.microsoft:get-session-state", session());
        let response = pending.response(Ok(Reply::SessionState { state: wanted }), "h");
        assert_eq!(body(&response), Map::new().with("session-state", given));
    }
    for operation in ["renew-session-lock", "set-session-state", "get-session-state"] {
        let operation = format!("com.microsoft:{operation}");
        check_refused(&operation, Map::new(), 400, "com.microsoft:argument-error");
        let long = Map::new().with("session-id", "x".repeat(129));
        check_refused(&operation, long, 400, "com.microsoft:argument-error");
    }
}

#[test]
fn the_last_moment_there_is_asks_for_all_sessions() {
    let operation = "com.microsoft:get-message-sessions";
    for (time, wanted) in [
        (Value::Null, None),
        (Value::Timestamp(253_402_300_800_000), None),
        (Value::Timestamp(253_402_300_799_999), None),
        (Value::Timestamp(1_000), Some(Timestamp(1_000))),
        (Value::Timestamp(-1), Some(Timestamp(0))),
    ] {
        let request = Map::new().with("last-updated-time", time).with("skip", 2).with("top", 100);
        let (command, _) = asked(operation, request);
        let Command::ListSessions { updated_after, skip: 2, count_max: 100, .. } = command else {
            panic!("{command:?}")
        };
        assert_eq!(updated_after, wanted);
    }
    let (_, pending) = asked(operation, Map::new());
    let sessions = vec![MessageSessionId::new("a").unwrap(), MessageSessionId::new("b").unwrap()];
    let response = pending.clone().response(Ok(Reply::Sessions { sessions, skip: 4 }), "h");
    check_response(&response, 200, None);
    let ids = body(&response).get("sessions-ids").cloned().unwrap();
    assert_eq!(ids.items(), [Value::from("a"), Value::from("b")]);
    assert_eq!(body(&response).get("skip"), Some(&Value::Int(4)));
    let response = pending.response(Ok(Reply::Sessions { sessions: vec![], skip: 0 }), "h");
    check_response(&response, 204, None);
}

#[test]
fn batch_deletion_says_how_many() {
    let operation = "com.microsoft:batch-delete-messages";
    let request = Map::new().with("message-count", 9_999).with("session-id", "s");
    let (command, pending) = asked(operation, request);
    let Command::DeleteBatch { count_max: 4_000, before: NOW, session: Some(_), .. } = command
    else {
        panic!("{command:?}")
    };
    let response = pending.clone().response(Ok(Reply::BatchDeleted { count: 3 }), "h");
    check_response(&response, 200, None);
    assert_eq!(body(&response), Map::new().with("message-count", 3));
    check_response(&pending.response(Ok(Reply::BatchDeleted { count: 0 }), "h"), 204, None);
    check_refused(
        operation,
        Map::new().with("message-count", 0),
        400,
        "com.microsoft:argument-error",
    );
}
