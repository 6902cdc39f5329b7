//! The operations on rules.

use peeklock_core::filter::SystemProperty;
use peeklock_core::topic::command::{TopicCommand, TopicReply};
use peeklock_core::topic::rules::{Correlation, Rule, RuleDescription, RuleFilter, SqlText};

use super::*;

pub(super) fn rule(description: Map) -> Map {
    Map::new().with("rule-name", "r").with("rule-description", description)
}

pub(super) fn sql(text: &str) -> Map {
    Map::new().with("sql-filter", Map::new().with("expression", text))
}

#[track_caller]
fn asked_of_topic(operation: &str, body: Map) -> TopicCommand {
    let manager = claims(Rights::MANAGE, "orders");
    match handled(&request(operation, body), &manager) {
        Answer::Ask { command, .. } => match *command {
            Command::OfTopic(command) => *command,
            other => panic!("asked: {other:?}"),
        },
        Answer::Now(response) => panic!("refused: {response:?}"),
    }
}

#[track_caller]
fn added(description: Map) -> RuleDescription {
    let TopicCommand::AddRule { origin, path: of, rule } =
        asked_of_topic("com.microsoft:add-rule", rule(description))
    else {
        panic!("another command")
    };
    assert_eq!((origin, of, &*rule.name), (ORIGIN, path("orders"), "r"));
    rule
}

#[track_caller]
fn check_argument(body: Map) {
    let manager = claims(Rights::MANAGE, "orders");
    let Answer::Now(response) = handled(&request("com.microsoft:add-rule", body), &manager) else {
        panic!("taken")
    };
    check_response(&response, 400, Some("com.microsoft:argument-error"));
}

#[test]
fn rules_are_read_as_every_client_writes_them() {
    // .NET, which repeats the name.
    let found = added(sql("a = 1").with("sql-rule-action", Value::Null).with("rule-name", "r"));
    let filter = RuleFilter::Sql(SqlText::plain("a = 1"));
    assert_eq!(found, RuleDescription { name: "r".into(), filter: filter.clone(), action: None });
    // JavaScript, which writes null for what it leaves out.
    let action = Map::new().with("expression", "SET b = 2");
    let found =
        added(sql("a = 1").with("correlation-filter", Value::Null).with("sql-rule-action", action));
    let action = Some(SqlText::plain("SET b = 2"));
    assert_eq!(found, RuleDescription { name: "r".into(), filter, action });
    let no_expression = Map::new().with("expression", Value::Null);
    assert_eq!(added(sql("a = 1").with("sql-rule-action", no_expression)).action, None);

    let properties = Map::new().with("size", 7_u32).with("none", Value::Null);
    let fields = Map::new()
        .with("label", "red")
        .with("correlation-id", "c")
        .with("message-id", Value::Null)
        .with("properties", properties);
    let found = added(Map::new().with("correlation-filter", fields));
    let expected = Correlation {
        system: vec![
            (SystemProperty::CorrelationId, "c".into()),
            (SystemProperty::Label, "red".into()),
        ],
        user: vec![("size".into(), Value::Uint(7))],
    };
    assert_eq!(found.filter, RuleFilter::Correlation(expected));
    let empty = Map::new().with("correlation-filter", Map::new().with("properties", Value::Null));
    assert_eq!(added(empty).filter, RuleFilter::Correlation(Correlation::default()));
}

#[test]
fn what_is_no_rule_is_refused() {
    check_argument(Map::new());
    check_argument(Map::new().with("rule-name", "r"));
    check_argument(Map::new().with("rule-description", sql("a = 1")));
    check_argument(rule(Map::new()));
    check_argument(rule(Map::new().with("sql-filter", Map::new())));
    check_argument(rule(sql("a = 1").with("correlation-filter", Map::new())));
    check_argument(rule(Map::new().with("sql-filter", "a = 1")));
    check_argument(rule(Map::new().with("sql-filter", Map::new().with("expression", 1))));
    check_argument(rule(Map::new().with("correlation-filter", Map::new().with("label", 1))));
    let properties = Map::new().with(1_u32, "x");
    let fields = Map::new().with("properties", properties);
    check_argument(rule(Map::new().with("correlation-filter", fields)));
}

#[test]
fn rules_are_removed_by_name_and_listed_by_page() {
    let body = Map::new().with("rule-name", "$Default");
    let expected =
        TopicCommand::RemoveRule { origin: ORIGIN, path: path("orders"), name: "$Default".into() };
    assert_eq!(asked_of_topic("com.microsoft:remove-rule", body), expected);
    for (body, skip, count_max) in [
        (Map::new().with("top", 100).with("skip", 200), 200, 100),
        (Map::new().with("top", i32::MAX), 0, 1000),
        (Map::new(), 0, 1000),
    ] {
        let expected =
            TopicCommand::ListRules { origin: ORIGIN, path: path("orders"), skip, count_max };
        assert_eq!(asked_of_topic("com.microsoft:enumerate-rules", body), expected);
    }
}

/// A descriptor, as a number, and the list it describes.
#[track_caller]
fn described(value: &Value) -> (u64, Vec<Value>) {
    let Some((Value::Ulong(code), Value::List(fields))) = value.as_described() else {
        panic!("{value:?}")
    };
    (*code, fields.clone())
}

#[test]
fn listed_rules_are_described_lists_without_a_null_action() {
    let written = |name: &str, filter, action| Rule {
        description: RuleDescription { name: name.into(), filter, action },
        created_at: NOW,
    };
    let correlation = Correlation {
        system: vec![(SystemProperty::Label, "red".into())],
        user: vec![("size".into(), Value::Uint(7))],
    };
    let rules = vec![
        written("$Default", RuleFilter::True, None),
        written("no", RuleFilter::False, None),
        written("s", RuleFilter::Sql(SqlText::plain("a = 1")), Some(SqlText::plain("SET b = 2"))),
        written("c", RuleFilter::Correlation(correlation), None),
    ];
    let manager = claims(Rights::MANAGE, "orders");
    let message = request("com.microsoft:enumerate-rules", Map::new());
    let answer = |rules| {
        let Answer::Ask { pending, .. } = handled(&message, &manager) else { panic!("refused") };
        let response = pending.response(Ok(Reply::OfTopic(TopicReply::Rules { rules })), "broker");
        check_response(&response, 200, None);
        let response = Message::decode(&response.to_bytes()).unwrap();
        let rules = response.body.as_value().unwrap().get("rules").unwrap().clone();
        let Value::List(rules) = rules else { panic!("{rules:?}") };
        rules
    };
    let listed: Vec<_> = answer(rules)
        .iter()
        .map(|rule| {
            let (code, fields) = described(rule.get("rule-description").unwrap());
            let [filter, action, name, created_at] = &fields[..] else { panic!("{fields:?}") };
            assert_eq!((code, created_at), (1_335_734_829_060, &Value::Timestamp(NOW.as_amqp())));
            (name.as_str().unwrap().to_owned(), described(filter), described(action))
        })
        .collect();
    let none = || (1_335_734_829_061, vec![]);
    let text = |text: &str| vec![text.into(), Value::Int(20)];
    let null = Value::Null;
    let fields = vec![
        null.clone(),
        null.clone(),
        null.clone(),
        null.clone(),
        "red".into(),
        null.clone(),
        null.clone(),
        null,
        Value::Map(Map::new().with("size", 7_u32)),
    ];
    let expected = [
        ("$Default".to_owned(), (83_483_426_823, vec![]), none()),
        ("no".to_owned(), (83_483_426_824, vec![]), none()),
        ("s".to_owned(), (83_483_426_822, text("a = 1")), (1_335_734_829_062, text("SET b = 2"))),
        ("c".to_owned(), (83_483_426_825, fields), none()),
    ];
    assert_eq!(listed, expected);
    assert!(answer(Vec::new()).is_empty(), "there all the same, and 200");
}

#[test]
fn what_the_core_says_of_rules_is_passed_on() {
    let manager = claims(Rights::MANAGE, "orders");
    let message = request("com.microsoft:add-rule", rule(sql("a = 1")));
    for (result, status, condition) in [
        (Ok(Reply::OfTopic(TopicReply::RuleAdded)), 200, None),
        (Ok(Reply::OfTopic(TopicReply::RuleRemoved)), 200, None),
        (
            Err(Error::EntityExists("t/Subscriptions/s/Rules/r".into())),
            409,
            Some("com.microsoft:entity-already-exists"),
        ),
        (Err(Error::EntityNotFound("r".into())), 404, Some("amqp:not-found")),
        (Err(Error::InvalidRule("x".into())), 400, Some("com.microsoft:argument-error")),
        (Ok(Reply::OfTopic(TopicReply::Deleted)), 500, Some("amqp:internal-error")),
    ] {
        let Answer::Ask { pending, .. } = handled(&message, &manager) else { panic!("refused") };
        check_response(&pending.response(result, "broker"), status, condition);
    }
}
