mod queues;
mod rules;

use bytes::Bytes;
use peeklock_core::command::Settlement;
use peeklock_core::id::{LockToken, SequenceNumber};
use peeklock_protocol::message::{Body, MessageId};
use peeklock_protocol::value::{Array, Map, Str, Symbol, Value};

use super::clock::OPERATIONS as CLOCK_OPERATIONS;
use super::*;
use crate::auth::{AccessRule, Action, Authority, Claims, Door, Rights, Secret, sasl};
use crate::config::MetricsSettings;

const NOW: Timestamp = Timestamp(1_700_000_000_000);
const ORIGIN: Origin = Origin { connection: 1, link: 2, delivery: 3 };
const ENTITY: EntityId = EntityId(4);
const NONE: Rights = Rights::NONE;
const SEND: Rights = Rights { send: true, ..NONE };
const LISTEN: Rights = Rights { listen: true, ..NONE };

fn path(text: &str) -> EntityPath {
    EntityPath::parse(text).unwrap().path
}

/// Claims with rights at an entity, as a rule of that entity grants them.
fn claims(rights: Rights, entity: &str) -> Claims {
    let mut claims = Claims::default();
    if rights != NONE {
        let rule = AccessRule::new("r".into(), Secret::new("k"), None, rights, Some(&path(entity)));
        let authority = Authority::new(vec![rule], None, false);
        claims.grant_connection(sasl(&authority, "PLAIN", Some(b"\0r\0k")).unwrap().unwrap());
    }
    claims
}

fn request(operation: &str, body: Map) -> Message {
    let properties =
        Properties { message_id: Some(MessageId::Uuid([9; 16])), ..Properties::default() };
    Message::value(Value::Map(body))
        .with_properties(properties)
        .with_application_properties(Map::new().with("operation", operation))
}

fn handled(message: &Message, claims: &Claims) -> Answer {
    let metrics = Metrics::new(MetricsSettings::default());
    let path = path("orders");
    let context = Context {
        origin: ORIGIN,
        entity: ENTITY,
        path: &path,
        claims,
        now: NOW,
        holders: &[],
        transaction: None,
        host: "broker",
        metrics: &metrics,
    };
    // As it comes from the wire, so that what is tested is what can arrive.
    handle(&Message::decode(&message.to_bytes()).unwrap(), &context)
}

#[track_caller]
fn asked(operation: &str, body: Map) -> (Command, Pending) {
    let both = Rights { listen: true, ..SEND };
    match handled(&request(operation, body), &claims(both, "orders")) {
        Answer::Ask { command, pending } => (*command, pending),
        Answer::Now(response) => panic!("refused: {response:?}"),
    }
}

#[track_caller]
fn check_response(response: &Message, status: i32, condition: Option<&'static str>) {
    let response = Message::decode(&response.to_bytes()).unwrap();
    let property = |key| response.application_property(key);
    assert_eq!(property("statusCode"), Some(&Value::Int(status)), "{response:?}");
    assert!(matches!(property("statusDescription"), Some(Value::String(_))));
    let expected = condition.map(|condition| Value::Symbol(Symbol::from_static(condition)));
    assert_eq!(property("errorCondition"), expected.as_ref());
    let correlation = response.properties.as_ref().unwrap().correlation_id.as_ref();
    assert_eq!(correlation, Some(&MessageId::Uuid([9; 16])));
    assert!(matches!(response.body, Body::Value(Value::Map(_))));
}

#[track_caller]
fn check_refused(operation: &str, body: Map, status: i32, condition: &'static str) {
    let both = Rights { listen: true, ..SEND };
    match handled(&request(operation, body), &claims(both, "orders")) {
        Answer::Now(response) => check_response(&response, status, Some(condition)),
        Answer::Ask { command, .. } => panic!("asked: {command:?}"),
    }
}

fn tokens(count: u8) -> Map {
    Map::new().with("lock-tokens", Array::uuids((0..count).map(|number| [number; 16])))
}

/// Every operation with a sound body. One that is not listed here fails the test below.
fn sound_body(operation: &str) -> Map {
    match operation {
        "com.microsoft:renew-lock" => tokens(1),
        "com.microsoft:peek-message" | "com.microsoft:get-message-sessions" => Map::new(),
        "com.microsoft:update-disposition" => tokens(1).with("disposition-status", "completed"),
        "com.microsoft:schedule-message" => queues::scheduled(&[b"soon"]),
        "com.microsoft:cancel-scheduled-message" | "com.microsoft:receive-by-sequence-number" => {
            queues::numbers(&[1])
        }
        "com.microsoft:renew-session-lock"
        | "com.microsoft:set-session-state"
        | "com.microsoft:get-session-state" => Map::new().with("session-id", "s"),
        "com.microsoft:batch-delete-messages" => Map::new().with("message-count", 1),
        "com.microsoft:add-rule" => rules::rule(rules::sql("a = 1")),
        "com.microsoft:remove-rule" => Map::new().with("rule-name", "r"),
        "com.microsoft:enumerate-rules" => Map::new().with("skip", 0).with("top", 100),
        other => panic!("no sound body is known for {other}"),
    }
}

/// Which right an operation needs, written down a second time on purpose.
fn needed(operation: &str) -> Rights {
    match operation {
        "com.microsoft:renew-lock"
        | "com.microsoft:peek-message"
        | "com.microsoft:update-disposition"
        | "com.microsoft:receive-by-sequence-number"
        | "com.microsoft:renew-session-lock"
        | "com.microsoft:set-session-state"
        | "com.microsoft:get-session-state"
        | "com.microsoft:get-message-sessions"
        | "com.microsoft:batch-delete-messages"
        | "com.microsoft:add-rule"
        | "com.microsoft:remove-rule"
        | "com.microsoft:enumerate-rules" => LISTEN,
        "com.microsoft:schedule-message" | "com.microsoft:cancel-scheduled-message" => SEND,
        other => panic!("nobody has said which right {other} needs"),
    }
}

#[test]
fn every_operation_with_every_set_of_claims() {
    let mut exercised = 0;
    for operation in &OPERATIONS {
        for rights in [NONE, SEND, LISTEN, Rights { listen: true, ..SEND }, Rights::MANAGE] {
            for (entity, covered) in
                [("orders", true), ("Orders", true), ("orders2", false), ("orders/sub", false)]
            {
                let message = request(operation.what.name(), sound_body(operation.what.name()));
                let answer = handled(&message, &claims(rights, entity));
                let needed = needed(operation.what.name());
                let sufficient = (!needed.send || rights.allow(Action::Send))
                    && (!needed.listen || rights.allow(Action::Listen));
                let expected = covered && sufficient;
                match answer {
                    Answer::Ask { .. } => {
                        assert!(expected, "{} by {rights:?} at {entity}", operation.what.name());
                    }
                    Answer::Now(response) => {
                        assert!(!expected, "{} by {rights:?} at {entity}", operation.what.name());
                        check_response(&response, 401, Some("amqp:unauthorized-access"));
                    }
                }
                exercised += 1;
            }
        }
    }
    assert_eq!(exercised, OPERATIONS.len() * 20);
}

/// What the list of rights has for these nodes is what the nodes have.
#[test]
fn the_list_of_rights_has_every_operation_and_no_other() {
    let listed = |door| {
        let all = auth::Operation::ALL.iter().copied();
        all.filter(move |operation| operation.door() == door).collect::<Vec<_>>()
    };
    let own: Vec<_> = OPERATIONS.iter().map(|operation| operation.what).collect();
    assert_eq!(own, listed(Door::Management));
    let own: Vec<_> = CLOCK_OPERATIONS.iter().map(|operation| operation.what).collect();
    assert_eq!(own, listed(Door::NamespaceNode));
}

/// A right that has ended is none.
#[test]
fn no_operation_outlives_its_claims() {
    let mut claims = Claims::default();
    let (audience, source) = (auth::ResourcePath::default(), auth::Credential::well_known());
    let grant = auth::Grant { audience, rights: Rights::MANAGE, valid_until: NOW, source };
    claims.grant(grant, Timestamp(0)).unwrap();
    for operation in &OPERATIONS {
        let name = operation.what.name();
        let Answer::Now(response) = handled(&request(name, sound_body(name)), &claims) else {
            panic!("{name} after the end of its claims")
        };
        check_response(&response, 401, Some("amqp:unauthorized-access"));
    }
}

/// The operations of Service Bus that the broker does not have yet, and what never was one.
#[test]
fn what_is_not_listed_is_not_implemented_for_anybody() {
    for operation in ["com.microsoft:defer-message", "READ", ""] {
        check_refused(operation, tokens(1), 501, "amqp:not-implemented");
    }
}

#[test]
fn a_request_without_operation_is_refused() {
    let message = Message::decode(&Message::default().to_bytes()).unwrap();
    let Answer::Now(response) = handled(&message, &claims(LISTEN, "orders")) else {
        panic!("taken")
    };
    assert_eq!(response.application_property("statusCode"), Some(&Value::Int(400)));
}

#[test]
fn a_right_for_the_management_node_alone_is_enough() {
    let token = "SharedAccessSignature sr=sb%3A%2F%2Flocalhost%2Forders&\
        sig=AcsLFPvYmMHJ1V8fv8kh19uR7GtcEi7a8p1%2FDwjsbrk%3D&se=1893456000&\
        skn=RootManageSharedAccessKey";
    let authority = Authority::new(Vec::new(), None, true);
    let grant = authority.verify(token, "sb://localhost/orders/$management", NOW).unwrap();
    let mut claims = Claims::default();
    claims.grant(grant, NOW).unwrap();
    let answer = handled(&request("com.microsoft:peek-message", Map::new()), &claims);
    assert!(matches!(answer, Answer::Ask { .. }), "{answer:?}");
}

#[test]
fn the_time_a_client_waits_is_read_in_any_width() {
    for (key, value) in [
        ("com.microsoft:server-timeout", Value::Uint(1500)),
        ("com.microsoft:server-timeout", Value::Long(1500)),
        ("com.microsoft:server-timeout", Value::Ulong(1500)),
        ("server-timeout", Value::Ulong(1500)),
        ("server-timeout", Value::Ushort(1500)),
    ] {
        let mut message = request("com.microsoft:peek-message", Map::new());
        message.application_properties.as_mut().unwrap().insert(key, value);
        let Answer::Ask { pending, .. } = handled(&message, &claims(LISTEN, "orders")) else {
            panic!("refused");
        };
        assert_eq!(pending.timeout(), Some(Duration::from_millis(1500)));
        check_response(&pending.timed_out("broker"), 408, Some("com.microsoft:timeout"));
    }
    for value in [Value::Null, Value::Long(-1), "1500".into()] {
        let mut message = request("com.microsoft:peek-message", Map::new());
        message.application_properties.as_mut().unwrap().insert("server-timeout", value);
        let Answer::Ask { pending, .. } = handled(&message, &claims(LISTEN, "orders")) else {
            panic!("refused");
        };
        assert_eq!(pending.timeout(), None);
    }
}

#[test]
fn renewing_locks() {
    let (command, pending) = asked("com.microsoft:renew-lock", tokens(2));
    let Command::RenewLocks { origin: ORIGIN, entity: ENTITY, tokens: found } = command else {
        panic!("{command:?}");
    };
    assert_eq!(found, [LockToken([0; 16]), LockToken([1; 16])]);
    let until = vec![Timestamp(5), Timestamp(6)];
    let response = pending.clone().response(Ok(Reply::Renewed { until }), "broker");
    check_response(&response, 200, None);
    let expirations = response.body.as_value().unwrap().get("expirations").unwrap();
    let array = expirations.as_array().unwrap();
    assert_eq!(array.items(), [Value::Timestamp(5), Value::Timestamp(6)]);

    let lost = pending.response(Err(Error::MessageLockLost), "broker");
    check_response(&lost, 410, Some("com.microsoft:message-lock-lost"));
}

#[test]
fn lock_tokens_are_uuids() {
    for operation in ["com.microsoft:renew-lock", "com.microsoft:update-disposition"] {
        let with = |tokens: Value| {
            Map::new().with("disposition-status", "completed").with("lock-tokens", tokens)
        };
        let refused = |body| check_refused(operation, body, 400, "com.microsoft:argument-error");
        refused(Map::new().with("disposition-status", "completed"));
        refused(with(Value::Null));
        refused(with(Value::List(Vec::new())));
        refused(with(Array::uuids([]).into()));
        refused(with(Array::longs([5]).into()));
        refused(with("text".into()));
        let (_, pending) = asked(operation, with(Value::List(vec![Value::Uuid([1; 16])])));
        assert_eq!(pending.operation(), operation);
    }
}

#[test]
fn peeking() {
    #[track_caller]
    fn check(body: Map, expected_from: u64, expected_count: u32) {
        let (command, _) = asked("com.microsoft:peek-message", body);
        let Command::Browse {
            origin: ORIGIN,
            entity: ENTITY,
            from,
            count_max,
            bytes_max,
            session: None,
        } = command
        else {
            panic!("{command:?}");
        };
        assert_eq!((from, count_max), (SequenceNumber(expected_from), expected_count));
        assert_ne!(bytes_max, 0);
    }
    let body = |from: Value, count: Value| {
        Map::new().with("from-sequence-number", from).with("message-count", count)
    };
    check(body(Value::Long(7), Value::Int(10)), 7, 10);
    check(body(Value::Int(7), Value::Ulong(10)), 7, 10);
    check(body(Value::Long(-5), Value::Int(1)), 0, 1);
    check(body(Value::Long(0), Value::Int(i32::MAX)), 0, 250);
    check(body(Value::Long(0), Value::Long(i64::MAX)), 0, 250);
    check(body(Value::Null, Value::Null), 0, 1);
    check(body(Value::Null, Value::Null).with("session-id", Value::Null), 0, 1);
    let refused = |body: Map, status, condition| {
        check_refused("com.microsoft:peek-message", body, status, condition);
    };
    refused(body(0_i64.into(), 0_i32.into()), 400, "com.microsoft:argument-error");
    refused(body(0_i64.into(), (-1_i32).into()), 400, "com.microsoft:argument-error");
    refused(body("x".into(), 1_i32.into()), 400, "com.microsoft:argument-error");
    refused(body(Value::Ulong(u64::MAX), 1_i32.into()), 400, "com.microsoft:argument-error");
}

#[test]
fn what_peeking_finds() {
    let (_, pending) = asked("com.microsoft:peek-message", Map::new());
    let nothing = Ok(Reply::Browsed { messages: Vec::new() });
    let response = pending.clone().response(nothing, "broker");
    check_response(&response, 204, None);

    let found = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    let response = peek_message::response(pending.properties, found.into_iter());
    check_response(&response, 200, None);
    let Some(Value::List(messages)) = response.body.as_value().unwrap().get("messages") else {
        panic!("{response:?}");
    };
    let messages: Vec<_> = messages.iter().map(|message| message.get("message").unwrap()).collect();
    assert_eq!(messages, [&Value::from(Bytes::from("one")), &Value::from(Bytes::from("two"))]);
}

#[test]
fn settling_by_token() {
    #[track_caller]
    fn check(body: Map, expected: &Settlement) {
        let (command, pending) = asked("com.microsoft:update-disposition", body);
        let Command::UpdateDisposition {
            origin: ORIGIN,
            entity: ENTITY,
            tokens,
            settlement,
            session: None,
            transaction: None,
        } = command
        else {
            panic!("{command:?}");
        };
        assert_eq!((tokens.len(), &settlement), (1, expected));
        let response = pending.response(Ok(Reply::Settled), "broker");
        check_response(&response, 200, None);
    }
    let status = |status: &str| tokens(1).with("disposition-status", status);
    let properties = Map::new().with("a", 1_i32).with(Symbol::from_static("b"), Value::Null);
    let changes = vec![(Str::from("a"), Value::Int(1)), (Str::from("b"), Value::Null)];
    check(status("completed"), &Settlement::Complete);
    check(status("abandoned"), &Settlement::Abandon { changes: Vec::new() });
    check(
        status("abandoned").with("properties-to-modify", properties.clone()),
        &Settlement::Abandon { changes: changes.clone() },
    );
    for spelling in ["defered", "deferred"] {
        check(
            status(spelling).with("properties-to-modify", properties.clone()),
            &Settlement::Defer { changes: changes.clone() },
        );
    }
    check(
        status("suspended"),
        &Settlement::DeadLetter { reason: None, description: None, changes: Vec::new() },
    );
    let long = "é".repeat(5000);
    check(
        status("suspended")
            .with("deadletter-reason", "why")
            .with("deadletter-description", long.as_str())
            .with("properties-to-modify", properties),
        &Settlement::DeadLetter {
            reason: Some("why".into()),
            description: Some("é".repeat(4096).into()),
            changes,
        },
    );
}

#[test]
fn settlements_that_make_no_sense_are_refused() {
    let refused = |body| {
        let operation = "com.microsoft:update-disposition";
        check_refused(operation, body, 400, "com.microsoft:argument-error");
    };
    let abandoned = || tokens(1).with("disposition-status", "abandoned");
    refused(tokens(1));
    refused(tokens(1).with("disposition-status", "renewed"));
    refused(tokens(1).with("disposition-status", 5_i32));
    refused(Map::new().with("disposition-status", "completed"));
    refused(abandoned().with("properties-to-modify", "x"));
    refused(abandoned().with("properties-to-modify", Map::new().with(5_i32, 5_i32)));
    refused(abandoned().with("properties-to-modify", Map::new().with("k", Map::new())));
    refused(tokens(1).with("disposition-status", "suspended").with("deadletter-reason", 5_i32));
}

#[test]
fn a_reply_to_another_question_is_our_fault() {
    let (_, pending) = asked("com.microsoft:peek-message", Map::new());
    let response = pending.response(Ok(Reply::Accepted), "broker");
    check_response(&response, 500, Some("amqp:internal-error"));
}

/// What the node of the namespace says to a request, and whether the driver has to catch up first.
fn told(message: &Message, rights: Rights, clock: &Clock) -> (Message, bool) {
    let mut claims = Claims::default();
    if rights != NONE {
        let rule = AccessRule::new("r".into(), Secret::new("k"), None, rights, None);
        let authority = Authority::new(vec![rule], None, false);
        claims.grant_connection(sasl(&authority, "PLAIN", Some(b"\0r\0k")).unwrap().unwrap());
    }
    let metrics = Metrics::new(MetricsSettings::default());
    let context = NamespaceContext { claims: &claims, clock, host: "broker", metrics: &metrics };
    match handle_namespace(&Message::decode(&message.to_bytes()).unwrap(), &context) {
        NamespaceAnswer::Now(response) => (response, false),
        NamespaceAnswer::CaughtUp(response) => (response, true),
    }
}

fn sound_step(operation: &str) -> Message {
    request(operation, Map::new().with("milliseconds", 1_i32))
}

#[test]
fn steering_the_clock_needs_the_right_to_manage_the_namespace() {
    let clock = Clock::steerable();
    for operation in &CLOCK_OPERATIONS {
        let message = sound_step(operation.what.name());
        for rights in [NONE, SEND, LISTEN, Rights { listen: true, ..SEND }] {
            let (response, _) = told(&message, rights, &clock);
            check_response(&response, 401, Some("amqp:unauthorized-access"));
        }
        let entity_rights = claims(Rights::MANAGE, "orders");
        let metrics = Metrics::new(MetricsSettings::default());
        let context = NamespaceContext {
            claims: &entity_rights,
            clock: &clock,
            host: "broker",
            metrics: &metrics,
        };
        let NamespaceAnswer::Now(response) = handle_namespace(&message, &context) else {
            panic!("{} with rights on an entity", operation.what.name());
        };
        check_response(&response, 401, Some("amqp:unauthorized-access"));
        let (response, steered) = told(&message, Rights::MANAGE, &clock);
        check_response(&response, 200, None);
        assert_eq!(steered, operation.what.name() != "io.peeklock:read-clock");
    }
}

#[test]
fn a_real_clock_is_not_for_clients() {
    for operation in &CLOCK_OPERATIONS {
        let (response, _) =
            told(&sound_step(operation.what.name()), Rights::MANAGE, &Clock::real());
        check_response(&response, 400, Some("amqp:not-allowed"));
    }
}

#[test]
fn what_belongs_to_an_entity_is_not_done_by_the_namespace_nor_the_other_way_round() {
    let message = request("com.microsoft:renew-lock", tokens(1));
    let (response, _) = told(&message, Rights::MANAGE, &Clock::steerable());
    check_response(&response, 501, Some("amqp:not-implemented"));
    for operation in &CLOCK_OPERATIONS {
        check_refused(operation.what.name(), Map::new(), 501, "amqp:not-implemented");
    }
}

#[test]
fn the_clock_is_steered_in_the_types_of_any_client() {
    #[track_caller]
    fn check(response: &Message, time: Timestamp, state: &str) {
        check_response(response, 200, None);
        let body = response.body.as_value().unwrap();
        assert_eq!(body.get("time"), Some(&Value::Timestamp(time.as_amqp())));
        assert_eq!(body.get("state"), Some(&Value::from(state)));
    }
    let clock = Clock::steerable();
    let step = |operation: &str, body: Map| told(&request(operation, body), Rights::MANAGE, &clock);
    let mut time = clock.now().plus(peeklock_core::Span(1000));
    let at = Value::Timestamp(time.as_amqp());
    let (response, _) = step("io.peeklock:freeze-clock", Map::new().with("time", at));
    check(&response, time, "frozen");
    for by in [Value::Int(5), Value::Long(5), Value::Uint(5), Value::Ulong(5), Value::Ubyte(5)] {
        time = Timestamp(time.0 + 5);
        let (response, _) = step("io.peeklock:advance-clock", Map::new().with("milliseconds", by));
        check(&response, time, "frozen");
    }
    let (response, _) = step("IO.peeklock:Freeze-Clock", Map::new().with("time", Value::Null));
    check(&response, time, "frozen");
    assert_eq!(clock.now(), time);

    for (operation, key, value) in [
        ("io.peeklock:freeze-clock", "time", Value::Long(5)),
        ("io.peeklock:freeze-clock", "time", Value::Timestamp(-1)),
        ("io.peeklock:freeze-clock", "time", Value::Timestamp(time.as_amqp() - 1)),
        ("io.peeklock:freeze-clock", "time", Value::Timestamp(i64::MAX)),
        ("io.peeklock:advance-clock", "milliseconds", Value::Null),
        ("io.peeklock:advance-clock", "milliseconds", Value::Int(-1)),
        ("io.peeklock:advance-clock", "milliseconds", Value::Ulong(u64::MAX)),
        ("io.peeklock:advance-clock", "milliseconds", Value::Long(i64::MAX)),
        ("io.peeklock:advance-clock", "milliseconds", "5".into()),
    ] {
        let (response, _) = step(operation, Map::new().with(key, value.clone()));
        check_response(&response, 400, Some("com.microsoft:argument-error"));
        assert_eq!(clock.now(), time, "{value:?}");
    }
    let (response, _) = step("io.peeklock:resume-clock", Map::new());
    check(&response, time, "running");
}
