//! Adding, removing and listing rules, and what there may be of them.

use super::*;
use crate::time::Span;

#[test]
fn a_new_subscription_gets_everything_unless_it_says_otherwise() {
    let mut world = world(&[]);
    let make = |name: &str, rule| {
        let (path, settings) = (path(&format!("t/Subscriptions/{name}")), QueueSettings::default());
        move |origin| TopicCommand::CreateSubscription { origin, path, settings, rule }
    };
    ask(&mut world, make("all", None)).unwrap();
    ask(&mut world, make("red", Some(color("mine", "red")))).unwrap();
    let rules = list(&mut world, "all");
    assert_eq!(rules[0].description, RuleDescription::default_rule());
    assert_eq!(rules[0].created_at, world.now);
    assert_eq!(names(&list(&mut world, "red")), ["mine"]);
    publish(&mut world, message("x", &[]));
    assert_eq!(take_from(&mut world, "all").len(), 1);
    assert_eq!(take_from(&mut world, "red").len(), 0);
}

#[test]
fn rules_come_and_go() {
    let mut world = world(&[("s", vec![all("$Default")])]);
    let changed = with_action(sql("Sized", "size = 5"), "SET a = 1");
    assert_eq!(add_rule(&mut world, "s", changed.clone()), Ok(TopicReply::RuleAdded));
    add_rule(&mut world, "s", color("c", "red")).unwrap();
    world.crash();
    let rules = list(&mut world, "s");
    assert_eq!(names(&rules), ["$Default", "c", "Sized"]);
    assert_eq!(rules[2].description, changed);
    let again = add_rule(&mut world, "s", all("SIZED"));
    assert_eq!(again, Err(Error::EntityExists("t/Subscriptions/s/Rules/SIZED".into())));
    assert_eq!(remove_rule(&mut world, "s", "$default"), Ok(TopicReply::RuleRemoved));
    let missing = remove_rule(&mut world, "s", "$Default");
    let missing_rule = Error::EntityNotFound("t/Subscriptions/s/Rules/$Default".into());
    assert_eq!(missing, Err(missing_rule));
    publish(&mut world, message("x", &[("size", 5.into())]));
    publish(&mut world, message("y", &[]));
    assert_eq!(take_from(&mut world, "s").len(), 1);
    world.crash();
    assert_eq!(names(&list(&mut world, "s")), ["c", "Sized"]);
    remove_rule(&mut world, "s", "c").unwrap();
    remove_rule(&mut world, "s", "sized").unwrap();
    publish(&mut world, message("z", &[("size", 5.into()), ("color", "red".into())]));
    assert_eq!(take_from(&mut world, "s").len(), 0, "without rules nothing comes");
    world.crash();
    assert!(list(&mut world, "s").is_empty());
}

fn update_rule(world: &mut World, rule: RuleDescription) -> Result<TopicReply, Error> {
    let path = path("t/Subscriptions/s");
    ask(world, |origin| TopicCommand::UpdateRule { origin, path, rule })
}

fn describe_rule(world: &mut World, name: &str) -> Result<Rule, Error> {
    let (path, name) = (path("t/Subscriptions/s"), name.into());
    let reply = ask(world, |origin| TopicCommand::DescribeRule { origin, path, name })?;
    let TopicReply::Rules { rules } = reply else { panic!("{reply:?}") };
    let [rule] = <[Rule; 1]>::try_from(rules).unwrap();
    Ok(rule)
}

#[test]
fn a_rule_is_changed_at_one_time_and_keeps_its_age() {
    let mut world = world(&[("s", vec![sql("r", "size = 5")])]);
    let created_at = world.now;
    world.now = world.now.plus(Span(10));
    let missing = Error::EntityNotFound("t/Subscriptions/s/Rules/other".into());
    assert_eq!(update_rule(&mut world, all("other")), Err(missing.clone()));
    assert_eq!(describe_rule(&mut world, "other"), Err(missing));
    let wrong = update_rule(&mut world, sql("r", "size ="));
    assert!(matches!(wrong, Err(Error::InvalidRule(_))), "{wrong:?}");
    let description = with_action(color("R", "red"), "SET a = 1");
    assert_eq!(update_rule(&mut world, description.clone()), Ok(TopicReply::RuleAdded));
    world.crash();
    assert_eq!(describe_rule(&mut world, "r"), Ok(Rule { description, created_at }));
    publish(&mut world, message("x", &[("size", 5.into())]));
    publish(&mut world, message("y", &[("color", "red".into())]));
    let taken = take_from(&mut world, "s");
    assert_eq!(taken.len(), 1);
    assert_eq!(property(&taken[0], "a"), Some(1_i64.into()));
}

#[test]
fn a_full_topic_lets_rules_change_that_count_alike() {
    let settings = BrokerSettings { sql_filters_max: 1, ..BrokerSettings::default() };
    let mut world = World::new(settings);
    create_topic(&mut world, "t").unwrap();
    let rules = vec![sql("r", "size = 5"), all("a")];
    add_subscription(&mut world, "s", QueueSettings::default(), rules);
    update_rule(&mut world, sql("r", "size = 6")).unwrap();
    let refused = update_rule(&mut world, sql("a", "size = 7"));
    assert!(matches!(refused, Err(Error::QuotaExceeded(_))), "{refused:?}");
}

#[test]
fn rules_are_listed_page_by_page() {
    let rules = ["d", "B", "a", "c"].map(all).to_vec();
    let mut world = world(&[("s", rules)]);
    let mut page = |skip, count_max| {
        let path = path("t/Subscriptions/s");
        let list = |origin| TopicCommand::ListRules { origin, path, skip, count_max };
        let Ok(TopicReply::Rules { rules }) = ask(&mut world, list) else { panic!("not listed") };
        names(&rules).concat()
    };
    assert_eq!(page(0, 3), "aBc");
    assert_eq!(page(3, 3), "d");
    assert_eq!(page(4, 3), "");
}

#[test]
fn what_is_no_rule_is_refused() {
    let mut world = world(&[("s", vec![])]);
    let mut refusal = |rule| add_rule(&mut world, "s", rule).unwrap_err();
    let syntax = refusal(sql("a", "size ="));
    assert!(matches!(&syntax, Error::InvalidRule(text) if text.contains("character")), "{syntax}");
    assert!(matches!(refusal(with_action(all("a"), "SET")), Error::InvalidRule(_)));
    for name in ["", "a/b", "a b", "é", &"n".repeat(51)] {
        assert!(matches!(refusal(all(name)), Error::InvalidArgument(_)), "{name}");
    }
    let user = vec![("k".into(), Value::from("v".repeat(33_000).as_str()))];
    let large = RuleFilter::Correlation(Correlation { system: Vec::new(), user });
    assert!(matches!(refusal(rule("a", large)), Error::InvalidArgument("The rule is too large.")));
    assert!(list(&mut world, "s").is_empty());
    let missing = add_rule(&mut world, "missing", all("a"));
    assert!(matches!(missing, Err(Error::EntityNotFound(_))));
    let path = path("t");
    let of_topic = ask(&mut world, |origin| TopicCommand::AddRule { origin, path, rule: all("a") });
    assert!(matches!(of_topic, Err(Error::EntityNotFound(_))), "topics have none of their own");
}

#[test]
fn there_are_so_many_rules_and_no_more() {
    let settings = BrokerSettings {
        subscriptions_max: 2,
        sql_filters_max: 2,
        correlation_filters_max: 2,
        constant_filters_max: 2,
        ..BrokerSettings::default()
    };
    let mut world = World::new(settings);
    create_topic(&mut world, "t").unwrap();
    for name in ["a", "b"] {
        add_subscription(&mut world, name, QueueSettings::default(), vec![]);
    }
    let third = |origin| TopicCommand::CreateSubscription {
        origin,
        path: path("t/Subscriptions/c"),
        settings: QueueSettings::default(),
        rule: None,
    };
    let is_full =
        |result: Result<TopicReply, Error>| matches!(result, Err(Error::QuotaExceeded(_)));
    assert!(is_full(ask(&mut world, third)));
    let kinds: [fn(&str) -> RuleDescription; 3] =
        [all, |name| sql(name, "a = 1"), |name| color(name, "red")];
    for (kind, make) in kinds.iter().enumerate() {
        add_rule(&mut world, "a", make(&format!("{kind}-1"))).unwrap();
        add_rule(&mut world, "b", make(&format!("{kind}-2"))).unwrap();
        assert!(is_full(add_rule(&mut world, "a", make(&format!("{kind}-3")))));
        world.crash();
        assert!(is_full(add_rule(&mut world, "a", make(&format!("{kind}-3")))));
        remove_rule(&mut world, "b", &format!("{kind}-2")).unwrap();
        add_rule(&mut world, "a", make(&format!("{kind}-3"))).unwrap();
    }
    // Another topic has its own.
    create_topic(&mut world, "u").unwrap();
    let path = path("u/Subscriptions/c");
    let (settings, rule) = (QueueSettings::default(), Some(sql("r", "a = 1")));
    ask(&mut world, |origin| TopicCommand::CreateSubscription { origin, path, settings, rule })
        .unwrap();
}

#[test]
fn a_declared_subscription_gets_the_rules_declared() {
    let mut world = world(&[("s", vec![all("$Default"), color("c", "red"), sql("q", "a = 1")])]);
    world.now = world.now.plus(Span(5));
    let rules = vec![color("c", "red"), sql("Q", "a = 2"), all("new")];
    add_subscription(&mut world, "s", QueueSettings::default(), rules);
    let rules = list(&mut world, "s");
    assert_eq!(names(&rules), ["c", "new", "Q"]);
    assert!(rules[0].created_at < world.now, "what is as it should be stays");
    assert_eq!(rules[2].description, sql("Q", "a = 2"));
    let path = path("t/Subscriptions/s");
    let settings = QueueSettings { attempts_max: 3, ..QueueSettings::default() };
    let keep = |origin| TopicCommand::EnsureSubscription {
        origin: Some(origin),
        path,
        settings,
        rules: None,
    };
    ask(&mut world, keep).unwrap();
    assert_eq!(list(&mut world, "s"), rules);
}
