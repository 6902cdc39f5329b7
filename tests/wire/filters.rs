//! Which messages the filters of rules let through, and what actions make of the copies.

use bytes::Bytes;
use peeklock_protocol::value::{Map, Symbol, Value};
use peeklock_tests::message::Message;
use peeklock_tests::topics::{correlation, of, sql};
use peeklock_tests::{Peer, TestBroker};

fn text(text: &str) -> Message {
    Message::data(text.to_owned())
}

fn dead_letters(subscription: &str) -> String {
    format!("{}/$DeadLetterQueue", of(subscription))
}

/// What a filter lets through of these messages, as their texts. The subscription is emptied.
#[track_caller]
fn passing(broker: &TestBroker, peer: &mut Peer, filter: Map, messages: &[Message]) -> Vec<String> {
    let mut other = broker.peer();
    let mut management = other.open_management(&of("a"));
    other.add_rule(&mut management, "r", filter);
    peer.send_messages("t", messages);
    assert_eq!(other.remove_rule(&mut management, "r").status, 200);
    other.close();
    peer.drain_texts(&of("a"))
}

fn broker() -> TestBroker {
    TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .filter("nothing", "sql_filter = \"1=0\"")
        .start()
}

/// Each field by itself: equal, in the case it was written in.
#[test]
fn a_correlation_filter_compares_every_system_property() {
    let broker = broker();
    let mut peer = broker.peer();
    let symbol = |text: &str| Value::Symbol(Symbol::try_from(text.to_owned()).expect("ASCII"));
    for (key, place) in [
        ("correlation-id", 5),
        ("message-id", 0),
        ("to", 2),
        ("reply-to", 4),
        ("label", 3),
        ("session-id", 10),
        ("reply-to-session-id", 12),
        ("content-type", 6),
    ] {
        let with = |name: &str, value: &str| {
            let value = if place == 6 { symbol(value) } else { Value::from(value) };
            text(name).with_field(place, value)
        };
        let messages =
            [with("yes", "x/Y"), with("case", "x/y"), with("more", "x/Y "), text("none")];
        let filter = correlation(Map::new().with(key, "x/Y"));
        assert_eq!(passing(&broker, &mut peer, filter, &messages), ["yes"], "{key}");
    }
}

/// All that a correlation filter names has to be so, system properties and those of the sender.
#[test]
fn a_correlation_filter_wants_everything_it_names() {
    let broker = broker();
    let mut peer = broker.peer();
    let both = |name: &str, label: &str, region: &str| {
        text(name).with_field(3, label.into()).with_property("region", region)
    };
    let messages = [
        both("yes", "order", "eu"),
        both("region", "order", "us"),
        both("label", "invoice", "eu"),
        text("one").with_field(3, "order".into()),
        text("other").with_property("region", "eu"),
        both("more", "order", "eu").with_property("more", 1_i32),
    ];
    let properties = Map::new().with("region", "eu");
    let filter = correlation(Map::new().with("label", "order").with("properties", properties));
    assert_eq!(passing(&broker, &mut peer, filter, &messages), ["yes", "more"]);
}

/// A number is a number whatever its width: JS and Python choose their own. A text is none, and a
/// property's name may be written in any case.
#[test]
fn a_correlation_filter_compares_typed_properties() {
    let broker = broker();
    let mut peer = broker.peer();
    let numbers = [
        Value::Int(7),
        Value::Uint(7),
        Value::Long(7),
        Value::Ulong(7),
        Value::Ubyte(7),
        Value::from(7.0_f64),
    ];
    let messages = [
        text("int").with_property("n", 7_i32),
        text("uint").with_property("n", 7_u32),
        text("long").with_property("N", 7_i64),
        text("byte").with_property("n", Value::Byte(7)),
        text("double").with_property("n", 7.0_f64),
        text("text").with_property("n", "7"),
        text("other").with_property("n", 8_i32),
        text("null").with_property("n", Value::Null),
        text("none"),
    ];
    for number in numbers {
        let filter =
            correlation(Map::new().with("properties", Map::new().with("n", number.clone())));
        let passed = passing(&broker, &mut peer, filter, &messages);
        assert_eq!(passed, ["int", "uint", "long", "byte", "double"], "{number:?}");
    }
    let messages = [
        text("true").with_property("v", true),
        text("false").with_property("v", false),
        text("1").with_property("v", 1_i32),
        text("at").with_property("v", Value::Timestamp(1)),
        text("id").with_property("v", Value::Uuid([1; 16])),
        text("text").with_property("v", "true"),
    ];
    for (value, wanted) in [
        (Value::from(true), "true"),
        (Value::from(false), "false"),
        (Value::Int(1), "1"),
        (Value::Timestamp(1), "at"),
        (Value::Uuid([1; 16]), "id"),
        ("true".into(), "text"),
    ] {
        let filter = correlation(Map::new().with("properties", Map::new().with("v", value)));
        assert_eq!(passing(&broker, &mut peer, filter, &messages), [wanted]);
    }
}

/// True, false, unknown: only what is true comes through. A property that is not there is unknown, and
/// so is whatever is said about it but whether it is there.
#[test]
fn sql_has_three_truth_values() {
    let broker = broker();
    let mut peer = broker.peer();
    let messages = [
        text("small").with_property("size", 3_i32).with_property("name", "O'Neil_1"),
        text("large").with_property("Size", 30_u32).with_property("name", "neil%"),
        text("null").with_property("size", Value::Null).with_property("on", true),
        text("none").with_field(3, "label".into()).with_property("on", false),
    ];
    for (filter, wanted) in [
        ("1=1", &["small", "large", "null", "none"][..]),
        ("1=0", &[]),
        ("size > 3", &["large"]),
        ("SIZE >= 3 and size <= 30.0", &["small", "large"]),
        ("size <> 3", &["large"]),
        ("NOT size = 3", &["large"]),
        ("size = 3 OR size IS NULL", &["small", "null", "none"]),
        ("size = NULL", &[]),
        ("size IS NULL", &["null", "none"]),
        ("size IS NOT NULL", &["small", "large"]),
        ("EXISTS(size)", &["small", "large", "null"]),
        ("NOT EXISTS(user.size)", &["none"]),
        ("size = 3 AND missing = 1", &[]),
        ("NOT (size = 3 AND missing = 1)", &["large"]),
        ("size = 3 OR missing = 1", &["small"]),
        ("size IN (1, 3, 5)", &["small"]),
        ("size NOT IN (1, 3, 5)", &["large"]),
        ("size * 2 + 1 = 7", &["small"]),
        ("size % 4 = 3", &["small"]),
        ("size / 2 = 1", &["small"]),
        ("-size = -3", &["small"]),
        ("name LIKE '%neil%'", &["large"]),
        ("name LIKE '_''Neil%'", &["small"]),
        ("name LIKE '%!%' ESCAPE '!'", &["large"]),
        ("name LIKE '%!_1' ESCAPE '!'", &["small"]),
        ("name NOT LIKE 'O%'", &["large"]),
        ("name = 'O''Neil' + '_1'", &["small"]),
        ("size = '3'", &[]),
        ("on = TRUE", &["null"]),
        ("on", &["null"]),
        ("NOT on", &["none"]),
        ("[size] = 3 OR \"size\" = 30", &["small", "large"]),
        ("sys.Label = 'label'", &["none"]),
        ("sys.Label IS NULL AND on IS NULL", &["small", "large"]),
        ("property('size') = 3", &["small"]),
    ] {
        assert_eq!(passing(&broker, &mut peer, sql(filter), &messages), wanted, "{filter}");
    }
    assert_eq!(peer.drain_texts(&dead_letters("a")), [""; 0]);
    broker.assert_nothing_above_info_was_logged();
}

/// What the system knows of a message can be asked for with `sys.`, and is something else than a
/// property of the same name.
#[test]
fn sql_sees_system_properties() {
    let broker = broker();
    let mut peer = broker.peer();
    let message = text("all")
        .with_id("m")
        .with_field(2, "to".into())
        .with_field(3, "label".into())
        .with_field(4, "reply".into())
        .with_field(5, "c".into())
        .with_field(6, Value::Symbol(Symbol::from_static("text/plain")))
        .with_field(10, "session".into())
        .with_field(12, "answers".into())
        .with_annotation("x-opt-partition-key", "session")
        .with_property("To", "elsewhere");
    let message =
        Message { header: Some(vec![Value::Null, Value::Null, 90_000_u32.into()]), ..message };
    for filter in [
        "sys.MessageId = 'm'",
        "sys.To = 'to' AND To = 'elsewhere' AND user.to <> 'to'",
        "sys.label = 'label' AND sys.Subject = 'label'",
        "sys.ReplyTo = 'reply'",
        "sys.CorrelationId = 'c'",
        "sys.ContentType = 'text/plain'",
        "sys.SessionId = 'session'",
        "sys.ReplyToSessionId = 'answers'",
        "sys.PartitionKey = 'session'",
        "sys.SequenceNumber > 0 AND sys.EnqueuedTimeUtc IS NOT NULL",
    ] {
        let passed = passing(&broker, &mut peer, sql(filter), std::slice::from_ref(&message));
        assert_eq!(passed, ["all"], "{filter}");
    }
    assert_eq!(passing(&broker, &mut peer, sql("sys.SessionId = 'x'"), &[message]), [""; 0]);
}

/// All matching rules without an action make one copy, each with an action one more, which says whose
/// it is.
#[test]
fn rules_with_actions_make_copies_of_their_own() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .filter("plain-1", "sql_filter = \"size > 1\"")
        .filter("plain-2", "correlation_filter = { label = \"x\" }")
        .filter("plain-3", "sql_filter = \"size > 100\"")
        .filter("acts-1", "sql_filter = \"size > 2\"\nsql_action = \"SET colour = 'red'; SET size = size * 10\"")
        .filter("acts-2", "correlation_filter = { label = \"x\" }\nsql_action = \"REMOVE size; SET sys.Label = sys.Label + '!'\"")
        .filter("acts-3", "sql_filter = \"size > 100\"\nsql_action = \"SET colour = 'blue'\"")
        .start();
    let mut peer = broker.peer();
    peer.send_messages("t", &[text("1").with_field(3, "x".into()).with_property("size", 3_i64)]);
    let copies = peer.drain_messages(&of("a"));
    let mut seen: Vec<_> = copies
        .iter()
        .map(|copy| {
            assert_eq!(copy.text(), "1");
            let value = |key: &str| copy.property(key).cloned().unwrap_or(Value::Null);
            let rule = copy.text_property("RuleName").unwrap_or_default().to_owned();
            (rule, copy.field(3).clone(), value("colour"), value("size"))
        })
        .collect();
    seen.sort_by(|one, next| one.0.cmp(&next.0));
    let label = |label: &str| Value::from(label);
    assert_eq!(
        seen,
        [
            (String::new(), label("x"), Value::Null, Value::Long(3)),
            ("acts-1".to_owned(), label("x"), label("red"), Value::Long(30)),
            ("acts-2".to_owned(), label("x!"), Value::Null, Value::Null),
        ]
    );
    let numbers: Vec<_> = copies.iter().map(Message::sequence_number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

/// Body, annotations and what else an action does not touch are as they were sent.
#[test]
fn an_action_leaves_the_rest_alone() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .filter("r", "sql_action = \"SET sys.CorrelationId = sys.MessageId; SET [added] = 1.5\"")
        .start();
    let mut peer = broker.peer();
    let sent = Message::value(Map::new().with("key", 1_i32))
        .with_id("m")
        .with_field(9, Value::Timestamp(5))
        .with_property("uint", 7_u32)
        .with_property("id", Value::Uuid([7; 16]))
        .with_annotation("x-opt-mine", Bytes::from_static(b"octets"));
    peer.send_messages("t", std::slice::from_ref(&sent));
    let [copy] = &peer.drain_messages(&of("a"))[..] else { panic!("one copy") };
    assert_eq!((&copy.body, copy.id(), copy.field(9)), (&sent.body, sent.id(), sent.field(9)));
    assert_eq!(copy.annotation("x-opt-mine"), sent.annotation("x-opt-mine"));
    assert_eq!(copy.correlation_id(), &Value::from("m"));
    let wanted = [
        ("uint", Value::Uint(7)),
        ("id", Value::Uuid([7; 16])),
        ("added", Value::from(1.5_f64)),
        ("RuleName", Value::from("r")),
    ];
    assert_eq!(copy.application_properties.len(), wanted.len());
    for (key, value) in wanted {
        assert_eq!(copy.property(key), Some(&value));
    }
}

/// What an action sets counts where the copy goes on to: another topic's filters, a queue's sessions.
#[test]
fn an_action_counts_where_the_copy_is_forwarded() {
    let broker = TestBroker::with()
        .queue("sessions", "requires_session = true")
        .queue("red", "")
        .topic("second", "")
        .subscription("red", "forward_to = \"red\"")
        .filter("red", "correlation_filter = { properties = { colour = \"red\" } }")
        .topic("t", "")
        .subscription("a", "forward_to = \"sessions\"")
        .filter("r", "sql_action = \"SET sys.SessionId = customer\"")
        .subscription("b", "forward_to = \"second\"")
        .filter("r", "sql_action = \"SET colour = 'red'\"")
        .start();
    let mut peer = broker.peer();
    peer.send_messages(
        "t",
        &[text("1").with_property("customer", "anna").with_property("colour", "blue")],
    );
    assert_eq!(peer.drain_texts("red"), ["1"]);
    let mut management = peer.open_management("sessions");
    let [found] = &peer.browse(&mut management)[..] else { panic!("one message") };
    assert_eq!(found.field(10), &Value::from("anna"));
}

/// A filter that fails for a message makes it a dead letter of that subscription, if it is to, and is
/// otherwise as good as one that says no. The publisher and other subscriptions do not notice.
#[test]
fn a_failing_filter_dead_letters_where_it_should() {
    let failing = "sql_filter = \"10 / size > 1\"";
    let off = "dead_lettering_on_filter_evaluation_exceptions = false";
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("kept", "")
        .filter("r", failing)
        .subscription("dropped", off)
        .filter("r", failing)
        .subscription("both", off)
        .filter("r", failing)
        .filter("s", "sql_filter = \"sys.Label = 'x'\"")
        .subscription("all", "")
        .start();
    let mut peer = broker.peer();
    let sized = |name: &str, size: i32| text(name).with_property("size", size);
    let messages = [sized("five", 5), sized("zero", 0).with_field(3, "x".into()), sized("ten", 10)];
    peer.send_messages("t", &messages);
    assert_eq!(peer.drain_texts(&of("kept")), ["five"]);
    assert_eq!(peer.drain_texts(&of("dropped")), ["five"]);
    assert_eq!(peer.drain_texts(&of("both")), ["five", "zero"]);
    assert_eq!(peer.drain_texts(&of("all")), ["five", "zero", "ten"]);
    let [dead] = &peer.drain_messages(&dead_letters("kept"))[..] else { panic!("one dead letter") };
    assert_eq!(dead.text(), "zero");
    assert_eq!(dead.text_property("DeadLetterReason"), Some("FilterException"));
    let why = dead.text_property("DeadLetterErrorDescription").unwrap_or_default();
    assert!(why.contains("division by zero"), "{why}");
    for subscription in ["dropped", "both", "all"] {
        assert_eq!(peer.drain_texts(&dead_letters(subscription)), [""; 0], "{subscription}");
    }
    broker.assert_nothing_above_info_was_logged();
}

/// A system property that does not exist is an error when the filter runs, and so is an action that
/// fails.
#[test]
fn an_unknown_system_property_and_a_failing_action_are_filter_errors() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("unknown", "")
        .filter("r", "sql_filter = \"sys.Colour = 'red'\"")
        .subscription("acts", "")
        .filter("r", "sql_action = \"SET size = 1 / size\"")
        .start();
    let mut peer = broker.peer();
    peer.send_messages("t", &[text("1").with_property("size", 0_i32)]);
    for subscription in ["unknown", "acts"] {
        assert_eq!(peer.drain_texts(&of(subscription)), [""; 0]);
        let [dead] = &peer.drain_messages(&dead_letters(subscription))[..] else {
            panic!("one dead letter of {subscription}")
        };
        assert_eq!(dead.text_property("DeadLetterReason"), Some("FilterException"));
    }
}
