//! Topics, their subscriptions and rules.

use peeklock_core::filter::SystemProperty;
use peeklock_core::topic::rules::{RuleDescription, RuleFilter, SqlText};
use peeklock_core::topic::settings::TopicSettings;
use peeklock_protocol::value::Value;

use super::*;

#[test]
fn topics_have_subscriptions_and_those_have_rules() {
    let text = r#"
        [[topic]]
        name = "news"
        max_size = "1 GiB"
        default_message_time_to_live = "1h"

        [[topic.subscription]]
        name = "all"

        [[topic.subscription]]
        name = "some"
        lock_duration = "30s"
        dead_lettering_on_filter_evaluation_exceptions = false
        forward_to = "orders"

        [[topic.subscription.rule]]
        name = "large"
        sql_filter = "size > 10"
        sql_action = "SET large = TRUE"

        [[topic.subscription.rule]]
        name = "red"
        correlation_filter = { label = "red", properties = { size = 5, heavy = true } }

        [[topic.subscription.rule]]
        name = "$Default"

        [[topic]]
        name = "other"
    "#;
    let settings = from_file(text).unwrap();
    let [news, other] = settings.topics.as_slice() else { panic!("{:?}", settings.topics) };
    assert_eq!((other.path.name(), &other.settings), ("other", &TopicSettings::default()));
    assert_eq!(news.settings.default_time_to_live, Some(Span::from_secs(3600)));
    assert_eq!(news.settings.entity_bytes_max, 1 << 30);
    let [all, some] = news.subscriptions.as_slice() else { panic!("{:?}", news.subscriptions) };
    assert_eq!(all.path.name(), "news/Subscriptions/all");
    assert_eq!((&all.settings, &all.rules), (&QueueSettings::default(), &None));
    assert_eq!(some.settings.lock_duration, Span::from_secs(30));
    assert!(!some.settings.dead_letter_on_filter_error && some.settings.forward_to.is_some());
    let Some([large, red, default]) = some.rules.as_deref() else { panic!("{:?}", some.rules) };
    assert_eq!(large.filter, RuleFilter::Sql(SqlText::plain("size > 10")));
    assert_eq!(large.action, Some(SqlText::plain("SET large = TRUE")));
    let RuleFilter::Correlation(filter) = &red.filter else { panic!("{red:?}") };
    assert_eq!(filter.system, [(SystemProperty::Label, "red".into())]);
    let user = [("heavy".into(), Value::Bool(true)), ("size".into(), Value::Int(5))];
    assert_eq!(filter.user, user);
    assert_eq!(*default, RuleDescription::default_rule());
}

#[test]
fn what_cannot_be_a_topic_is_refused() {
    let refused = |text: &str| from_file(text).unwrap_err();
    let topic = "[[topic]]\nname = 't'\n";
    let of_queue = refused("[[queue]]\nname = 'T'\n[[topic]]\nname = 't'");
    assert_eq!(of_queue, "FILE:4: topic[0].name: t is declared twice");
    let subscription = format!("{topic}[[topic.subscription]]\nname = 's'\n");
    let name = refused(&format!("{topic}[[topic.subscription]]\nname = 'a/b'"));
    assert!(name.starts_with("FILE:4: topic[0].subscription[0].name: \"a/b\" cannot"), "{name}");
    let twice = refused(&format!("{subscription}[[topic.subscription]]\nname = 'S'"));
    assert!(twice.ends_with("t/Subscriptions/S is declared twice"), "{twice}");
    let bound = refused(&format!("{subscription}lock_duration = '1s'"));
    let expected = "FILE:5: topic[0].subscription[0].lock_duration: 1s is not between 5s and 5m";
    assert_eq!(bound, expected);
    let rule = format!("{subscription}[[topic.subscription.rule]]\nname = 'r'\n");
    let syntax = refused(&format!("{rule}sql_filter = 'size >'"));
    assert!(syntax.contains("subscription[0].rule[0]: The rule is not valid"), "{syntax}");
    let both = refused(&format!("{rule}sql_filter = 'a = 1'\ncorrelation_filter = {{}}"));
    assert!(both.contains("one is enough"), "{both}");
    let list = refused(&format!("{rule}correlation_filter = {{ properties = {{ a = [1] }} }}"));
    assert!(list.contains("must be a string, a number"), "{list}");
    let unknown = refused(&format!("{subscription}max_size = '1 GiB'"));
    assert!(unknown.contains("unknown field"), "{unknown}");
}
