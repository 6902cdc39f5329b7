//! JMS selectors: what they share with SQL filters is shown there.

use super::*;

#[track_caller]
fn check(text: &str, expected: Truth) {
    let message = incoming(&message());
    let selector = SqlFilter::selector(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(selector.evaluate(&properties(&message), &mut new_ids()), Ok(expected), "{text}");
}

#[test]
fn names_are_case_sensitive_and_may_look_like_those_of_java() {
    check("color = 'red'", Truth::True);
    check("Color = 'red'", Truth::Unknown);
    check("Case = 'upper' AND case = 'lower'", Truth::True);
    check("CASE IS NULL", Truth::True);
    check("escape_ = '!' and _x IS NULL and $y IS NULL", Truth::True);
}

#[test]
fn between_has_both_ends() {
    check("quantity BETWEEN 5 AND 6", Truth::True);
    check("quantity between 4 and 5", Truth::True);
    check("quantity BETWEEN 6 AND 7", Truth::False);
    check("quantity NOT BETWEEN 6 AND 7", Truth::True);
    check("quantity BETWEEN 1 AND 9 AND color = 'red'", Truth::True);
    check("quantity + 1 BETWEEN 2 * 3 AND 6 OR FALSE", Truth::True);
    check("missing BETWEEN 1 AND 2", Truth::Unknown);
    check("missing NOT BETWEEN 1 AND 2", Truth::Unknown);
}

#[test]
fn headers_are_properties_of_the_message_itself() {
    check("JMSMessageID = 'm-1'", Truth::True);
    check("JMSCorrelationID = '17'", Truth::True);
    check("JMSType = 'hello'", Truth::True);
    check("JMSPriority = 4", Truth::True);
    check("JMSDeliveryMode = 'PERSISTENT'", Truth::True);
    check("JMSTimestamp IS NULL", Truth::True);
    check("JMSXGroupID = 's1'", Truth::True);
    check("JMSXDeliveryCount = 2", Truth::True);
    check("jmstype = 'hello'", Truth::Unknown);
}

#[test]
fn numbers_and_operators_are_those_of_java() {
    check("quantity = 5L AND weight = 2.5D AND weight > .5 AND weight < 5.", Truth::True);
    check("color LIKE 'r!_d' ESCAPE '!' OR color IN ('blue', 'red')", Truth::True);
    for text in
        ["quantity % 2 = 1", "EXISTS(color)", "sys.Label = 'x'", "newid() = id", "@a", "[a] = 1"]
    {
        assert!(SqlFilter::selector(text).is_err(), "{text}");
    }
    let sql = SqlFilter::parse("color = 'red'").unwrap();
    let selector = SqlFilter::selector("color = 'red'").unwrap();
    assert_ne!(sql.canonical(), selector.canonical());
}
