//! Rules over `$management`: add-rule, remove-rule and enumerate-rules in the encodings of the Azure
//! SDKs, and their errors.

use peeklock_protocol::condition;
use peeklock_protocol::value::{Map, Value};
use peeklock_tests::message::Message;
use peeklock_tests::requests::Requests;
use peeklock_tests::topics::{Listed, code, correlation, of, sql};
use peeklock_tests::{Peer, TestBroker};

const ADD: &str = "com.microsoft:add-rule";
const LIST: &str = "com.microsoft:enumerate-rules";

fn broker() -> TestBroker {
    TestBroker::with().topic("t", "").subscription("a", "").queue("q", "").start()
}

/// A subscription without rules, and its node.
#[track_caller]
fn without_rules(broker: &TestBroker) -> (Peer, Requests) {
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    assert_eq!(peer.remove_rule(&mut management, "$Default").status, 200);
    (peer, management)
}

fn action(expression: &str) -> Map {
    Map::new().with("expression", expression)
}

fn names(rules: &[Listed]) -> Vec<&str> {
    rules.iter().map(|rule| rule.name.as_str()).collect()
}

/// A subscription begins with a rule that lets everything through. The harness reads the list as .NET
/// and JS do: numbers as descriptors, an action that is never null, the time.
#[test]
fn a_new_subscription_has_the_default_rule() {
    let broker = TestBroker::with().topic("t", "").subscription("a", "").virtual_time().start();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    let [rule] = &peer.list_rules(&mut management, 0, 100)[..] else { panic!("one rule") };
    assert_eq!(rule.name, "$Default");
    assert_eq!(rule.filter, (code::TRUE_FILTER, vec![]));
    assert_eq!(rule.action, (code::EMPTY_ACTION, vec![]));
    assert!((1_577_836_800_000..4_102_444_800_000).contains(&rule.created_at), "{rule:?}");
}

/// Without its last rule a subscription gets nothing any more; what it has it keeps.
#[test]
fn a_subscription_without_rules_gets_nothing() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    peer.send_texts("t", &["before"]);
    assert_eq!(peer.remove_rule(&mut management, "$Default").status, 200);
    peer.send_texts("t", &["without"]);
    assert!(peer.list_rules(&mut management, 0, 100).is_empty());
    peer.add_rule(&mut management, "again", sql("1=1"));
    peer.send_texts("t", &["after"]);
    assert_eq!(peer.drain_texts(&of("a")), ["before", "after"]);
}

/// .NET repeats the name, JS writes null for what it leaves out, Rust an empty map, Java leaves it out.
/// All mean the same rule.
#[test]
fn every_sdk_adds_the_same_rule() {
    let broker = broker();
    let (mut peer, mut management) = without_rules(&broker);
    let dot_net = sql("size > 3").with("sql-rule-action", Value::Null).with("rule-name", "1");
    let js = sql("size > 3")
        .with("correlation-filter", Value::Null)
        .with("sql-rule-action", Map::new().with("expression", Value::Null));
    let js_others = sql("size > 3").with("sql-rule-action", Value::Null);
    let rust = sql("size > 3").with("sql-rule-action", Map::new());
    let level = Map::new().with("expression", "size > 3").with("compatibility-level", 20_i32);
    let java = Map::new().with("sql-filter", level);
    for (name, description) in
        [("1", dot_net), ("2", js), ("3", js_others), ("4", rust), ("5", java)]
    {
        peer.add_rule(&mut management, name, description);
    }
    let rules = peer.list_rules(&mut management, 0, 100);
    assert_eq!(names(&rules), ["1", "2", "3", "4", "5"]);
    for rule in rules {
        let text = Value::from("size > 3");
        assert_eq!(rule.filter, (code::SQL_FILTER, vec![text, Value::Int(20)]));
        assert_eq!(rule.action, (code::EMPTY_ACTION, vec![]));
    }
    peer.send_messages("t", &[Message::data("1").with_property("size", 4_i32)]);
    assert_eq!(peer.drain_texts(&of("a")), ["1"], "five plain rules, one copy");
}

/// .NET and Java write the filters for everything and nothing as SQL.
#[test]
fn true_and_false_come_as_sql() {
    let broker = broker();
    let (mut peer, mut management) = without_rules(&broker);
    peer.add_rule(&mut management, "nothing", sql("1=0"));
    peer.send_texts("t", &["1"]);
    peer.add_rule(&mut management, "everything", sql("1=1"));
    peer.send_texts("t", &["2"]);
    assert_eq!(peer.drain_texts(&of("a")), ["2"]);
    let rules = peer.list_rules(&mut management, 0, 100);
    let kinds: Vec<_> = rules.iter().map(|rule| rule.filter.0).collect();
    assert_eq!(kinds, [code::SQL_FILTER; 2]);
}

/// Filters that the configuration declares are listed with descriptors of their own.
#[test]
fn declared_rules_are_listed() {
    let broker = TestBroker::with()
        .topic("t", "")
        .subscription("a", "")
        .filter("everything", "")
        .filter("some", "sql_filter = \"a = 1\"\nsql_action = \"SET b = 2\"")
        .filter("those", "correlation_filter = { label = \"x\", properties = { n = 1 } }")
        .start();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    let rules = peer.list_rules(&mut management, 0, 100);
    assert_eq!(names(&rules), ["everything", "some", "those"]);
    let kinds: Vec<_> = rules.iter().map(|rule| (rule.filter.0, rule.action.0)).collect();
    assert_eq!(
        kinds,
        [
            (code::TRUE_FILTER, code::EMPTY_ACTION),
            (code::SQL_FILTER, code::SQL_ACTION),
            (code::CORRELATION_FILTER, code::EMPTY_ACTION),
        ]
    );
    assert_eq!(rules[1].action.1, ["SET b = 2".into(), Value::Int(20)]);
}

/// All fields of a correlation filter come back at their places, those that are not asked for null.
#[test]
fn a_correlation_filter_is_listed_field_by_field() {
    let broker = broker();
    let (mut peer, mut management) = without_rules(&broker);
    let keys = [
        "correlation-id",
        "message-id",
        "to",
        "reply-to",
        "label",
        "session-id",
        "reply-to-session-id",
        "content-type",
    ];
    let all =
        keys.iter().fold(Map::new(), |map, key| map.with(*key, format!("the {key}").as_str()));
    let properties =
        Map::new().with("int", 1_i32).with("text", "x").with("at", Value::Timestamp(5));
    peer.add_rule(&mut management, "all", correlation(all.with("properties", properties.clone())));
    let only = keys.iter().fold(Map::new(), |map, key| map.with(*key, Value::Null));
    let only = only.with("label", "x").with("properties", Value::Null);
    peer.add_rule(&mut management, "only", correlation(only));
    let [all, only] = &peer.list_rules(&mut management, 0, 100)[..] else { panic!("two rules") };
    assert_eq!((all.filter.0, only.filter.0), (code::CORRELATION_FILTER, code::CORRELATION_FILTER));
    let mut wanted: Vec<Value> =
        keys.iter().map(|key| format!("the {key}").as_str().into()).collect();
    wanted.push(Value::Map(properties));
    assert_eq!(all.filter.1, wanted);
    let mut wanted = vec![Value::Null; 8];
    wanted[4] = "x".into();
    wanted.push(Value::Map(Map::new()));
    assert_eq!(only.filter.1, wanted);
}

/// An action comes back with its text.
#[test]
fn an_action_is_listed() {
    let broker = broker();
    let (mut peer, mut management) = without_rules(&broker);
    let expression = "SET sys.Label = 'x'; REMOVE size";
    let description = sql("1=1").with("sql-rule-action", action(expression));
    peer.add_rule(&mut management, "acts", description);
    let [rule] = &peer.list_rules(&mut management, 0, 100)[..] else { panic!("one rule") };
    assert_eq!(rule.action, (code::SQL_ACTION, vec![expression.into(), Value::Int(20)]));
}

/// A name is taken in whatever case. What was there stays as it was.
#[test]
fn a_second_rule_of_a_name_is_refused() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    let before = peer.list_rules(&mut management, 0, 100);
    for name in ["$Default", "$default"] {
        let answer = peer.ask_for_rule(&mut management, name, sql("1=0"));
        assert_eq!((answer.status, answer.condition()), (409, condition::ENTITY_ALREADY_EXISTS));
        let text = answer.message.text_property("statusDescription").expect("a description");
        assert!(text.contains(name) && text.contains("already exists"), "{text}");
    }
    assert_eq!(peer.list_rules(&mut management, 0, 100), before);
}

/// A rule that is not there cannot be removed; one that is can, in whatever case it is written.
#[test]
fn a_missing_rule_is_not_removed() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    peer.add_rule(&mut management, "Mixed", sql("1=0"));
    for name in ["none", ""] {
        let answer = peer.remove_rule(&mut management, name);
        assert_eq!((answer.status, answer.condition()), (404, condition::NOT_FOUND), "{name:?}");
    }
    assert_eq!(peer.remove_rule(&mut management, "mIXED").status, 200);
    let again = peer.remove_rule(&mut management, "Mixed");
    assert_eq!((again.status, again.condition()), (404, condition::NOT_FOUND));
    assert_eq!(names(&peer.list_rules(&mut management, 0, 100)), ["$Default"]);
}

/// Whoever writes an expression is told what is wrong with it and where.
#[test]
fn an_expression_that_is_none_is_refused_with_its_place() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    for (filter, act, place) in [
        ("size >", None, "at character 7"),
        ("size > 3 AND", None, "at character 13"),
        ("a = 'open", None, "at character 5"),
        ("a BETWEEN 1 AND 2", None, "at character 3"),
        ("größe = #", None, "at character 9"),
        ("x.size = 1", None, "at character 1"),
        ("a = @unset", None, "at character 5"),
        ("", None, "at character 1"),
        ("1=1", Some("SET"), "at character 4"),
        ("1=1", Some("SET a = 1; DROP b"), "at character 12"),
        ("1=1", Some("REMOVE sys.Label"), "at character 8"),
    ] {
        let mut description = sql(filter);
        if let Some(act) = act {
            description = description.with("sql-rule-action", action(act));
        }
        let answer = peer.ask_for_rule(&mut management, "r", description);
        let wanted = (400, condition::ARGUMENT_ERROR);
        assert_eq!((answer.status, answer.condition()), wanted, "{filter} {act:?}");
        let text = answer.message.text_property("statusDescription").expect("a description");
        assert!(text.contains(place), "{filter} {act:?}: {text}");
    }
    assert_eq!(names(&peer.list_rules(&mut management, 0, 100)), ["$Default"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Service Bus documents 1,024 characters for an expression, 32 statements and 50 characters for a
/// name. What is as long as that is taken.
#[test]
fn a_rule_has_limits() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    let of_length = |length: usize| format!("a = '{}'", "ü".repeat(length - 6));
    let statements = |count: usize| "SET a=1;".repeat(count);
    let acting = |count: usize| sql("1=1").with("sql-rule-action", action(&statements(count)));
    let too_much = [
        ("long", sql(&of_length(1025))),
        ("act", acting(33)),
        (&"n".repeat(51)[..], sql("1=1")),
        ("", sql("1=1")),
        ("a/b", sql("1=1")),
        ("a b", sql("1=1")),
    ];
    for (name, description) in too_much {
        let answer = peer.ask_for_rule(&mut management, name, description);
        let wanted = (400, condition::ARGUMENT_ERROR);
        assert_eq!((answer.status, answer.condition()), wanted, "{name:?}");
    }
    let as_much =
        [("long", sql(&of_length(1024))), ("act", acting(32)), (&"n".repeat(50)[..], sql("1=1"))];
    for (name, description) in as_much {
        peer.add_rule(&mut management, name, description);
    }
    assert_eq!(peer.list_rules(&mut management, 0, 100).len(), 4);
}

/// A request that says too little, too much or something else is the client's mistake.
#[test]
fn a_request_that_describes_no_rule_is_answered_400() {
    let broker = broker();
    let mut peer = broker.peer();
    let mut management = peer.open_management(&of("a"));
    let rule = |description: Value| {
        Map::new().with("rule-name", "r").with("rule-description", description)
    };
    let map = |map: Map| Value::Map(map);
    let both = sql("1=1").with("correlation-filter", Map::new().with("label", "x"));
    for body in [
        Map::new(),
        Map::new().with("rule-name", "r"),
        Map::new().with("rule-description", sql("1=1")),
        Map::new().with("rule-name", 7_i32).with("rule-description", sql("1=1")),
        rule("1=1".into()),
        rule(map(Map::new())),
        rule(map(both)),
        rule(map(Map::new().with("sql-filter", "1=1"))),
        rule(map(Map::new().with("sql-filter", Map::new()))),
        rule(map(Map::new().with("sql-filter", Map::new().with("expression", 1_i32)))),
        rule(map(correlation(Map::new().with("label", 1_i32)))),
        rule(map(correlation(Map::new().with("properties", "x")))),
        rule(map(sql("1=1").with("sql-rule-action", "SET a = 1"))),
    ] {
        let answer = peer.manage(&mut management, ADD, body.clone());
        assert_eq!(answer.status, 400, "{body:?}");
        assert!(answer.condition().starts_with("com.microsoft:argument-"), "{body:?}");
    }
    let answer = peer.manage(&mut management, "com.microsoft:remove-rule", Map::new());
    assert_eq!((answer.status, answer.condition()), (400, condition::ARGUMENT_ERROR));
    assert_eq!(names(&peer.list_rules(&mut management, 0, 100)), ["$Default"]);
    broker.assert_nothing_above_info_was_logged();
}

/// SDKs ask for the rules a page at a time until one comes that is not full. Numbers come in every
/// width. Behind the last rule the list is empty, with the status of success: Rust takes no other.
#[test]
fn rules_are_listed_in_pages() {
    let broker = broker();
    let (mut peer, mut management) = without_rules(&broker);
    let all: Vec<String> = (0..7).map(|number| format!("rule-{number}")).collect();
    for name in all.iter().rev() {
        peer.add_rule(&mut management, name, sql("1=0"));
    }
    let (mut found, mut skip) = (Vec::new(), 0);
    loop {
        let page = peer.list_rules(&mut management, skip, 3);
        assert!(page.len() <= 3);
        if page.is_empty() {
            break;
        }
        skip += i32::try_from(page.len()).expect("three at most");
        found.extend(page);
    }
    assert_eq!(names(&found), all);
    assert!(peer.list_rules(&mut management, 7, 100).is_empty());
    assert!(peer.list_rules(&mut management, i32::MAX, i32::MAX).is_empty());
    assert!(peer.list_rules(&mut management, 0, 0).is_empty());
    let mut count = |body: Map| {
        let answer = peer.manage(&mut management, LIST, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.entry("rules").items().len()
    };
    assert_eq!(count(Map::new()), 7);
    assert_eq!(count(Map::new().with("top", 2_i64).with("skip", 6_u64)), 1);
    assert_eq!(count(Map::new().with("top", 2_u32).with("skip", Value::Null)), 2);
    for body in [Map::new().with("skip", -1_i32), Map::new().with("top", "ten")] {
        let answer = peer.manage(&mut management, LIST, body);
        assert_eq!((answer.status, answer.condition()), (400, condition::ARGUMENT_ERROR));
    }
}

/// Queues, topics and dead letters have no rules.
#[test]
fn only_subscriptions_have_rules() {
    let broker = broker();
    let mut peer = broker.peer();
    for address in ["q", "t", "t/Subscriptions/a/$DeadLetterQueue"] {
        let mut management = peer.open_management(address);
        let add = peer.ask_for_rule(&mut management, "r", sql("1=1"));
        let remove = peer.remove_rule(&mut management, "$Default");
        let list = peer.manage(&mut management, LIST, Map::new());
        for answer in [add, remove, list] {
            assert!(400 <= answer.status && answer.status < 500, "{address}: {answer:?}");
            assert!(!answer.condition().is_empty());
        }
    }
    let mut management = peer.open_management(&of("a"));
    assert_eq!(names(&peer.list_rules(&mut management, 0, 100)), ["$Default"]);
    broker.assert_nothing_above_info_was_logged();
}

/// Service Bus documents 2,000 SQL filters a topic, all its subscriptions together. When one goes
/// there is room again.
#[test]
fn a_topic_has_so_many_sql_filters() {
    let broker =
        TestBroker::with().topic("t", "").subscription("a", "").subscription("b", "").start();
    let (mut first, mut second) = (broker.peer(), broker.peer());
    let mut a = first.open_management(&of("a"));
    let mut b = second.open_management(&of("b"));
    for number in 0..1000 {
        first.add_rule(&mut a, &format!("r{number}"), sql(&format!("n = {number}")));
        second.add_rule(&mut b, &format!("r{number}"), sql(&format!("n = {number}")));
    }
    let answer = second.ask_for_rule(&mut b, "more", sql("n = 1"));
    assert_eq!((answer.status, answer.condition()), (403, condition::RESOURCE_LIMIT_EXCEEDED));
    second.add_rule(&mut b, "other", correlation(Map::new().with("label", "x")));
    assert_eq!(first.remove_rule(&mut a, "r0").status, 200);
    second.add_rule(&mut b, "more", sql("n = 1"));
    broker.assert_nothing_above_info_was_logged();
}

/// A rule is in force from the answer on, for what comes later and in either direction.
#[test]
fn a_rule_is_in_force_at_once() {
    let broker = broker();
    let (mut peer, mut management) = without_rules(&broker);
    let red = |text: &str| Message::data(text.to_owned()).with_property("colour", "red");
    let mut publisher = broker.peer();
    for round in 0..5 {
        publisher.send_messages("t", &[red("missed")]);
        let name = format!("r{round}");
        peer.add_rule(&mut management, &name, correlation(colour("red")));
        publisher.send_messages("t", &[red("got")]);
        assert_eq!(peer.remove_rule(&mut management, &name).status, 200);
    }
    assert_eq!(peer.drain_texts(&of("a")), ["got"; 5]);
}

fn colour(colour: &str) -> Map {
    Map::new().with("properties", Map::new().with("colour", colour))
}
