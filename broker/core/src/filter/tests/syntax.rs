//! What is no filter and no action, and where.

use super::*;

#[track_caller]
fn refused(text: &str, position: usize, problem: &str) {
    let error = SqlFilter::parse(text).expect_err(text);
    assert_eq!((error.position, error.problem.to_string()), (position, problem.into()), "{text}");
}

#[track_caller]
fn refused_action(text: &str, position: usize, problem: &str) {
    let error = Action::parse(text).expect_err(text);
    assert_eq!((error.position, error.problem.to_string()), (position, problem.into()), "{text}");
}

#[test]
fn an_error_says_what_it_is_about() {
    let error = SqlFilter::parse("color = 'red' AND").unwrap_err();
    assert_eq!(error.to_string(), "the end where a value should be at character 18");
    let error = SqlFilter::parse("a = 1e999").unwrap_err();
    assert_eq!(error.to_string(), "a number out of range at character 5");
}

#[test]
fn something_else_should_stand_there() {
    refused("", 1, "the end where a value should be");
    refused("   ", 4, "the end where a value should be");
    refused("a =", 4, "the end where a value should be");
    refused("= 1", 1, "\"=\" where a value should be");
    refused("a = = 1", 5, "\"=\" where a value should be");
    refused("a = 1 b", 7, "\"b\" where an operator or the end should be");
    refused("a = b = c", 7, "\"=\" where an operator or the end should be");
    refused("a = 1)", 6, "\")\" where an operator or the end should be");
    refused("a = 1;", 6, "\";\" where an operator or the end should be");
    refused("(a = 1", 7, "the end where an operator or ')' should be");
    refused("a IS 1", 6, "\"1\" where NULL should be");
    refused("a IS NOT", 9, "the end where NULL should be");
    refused("a IN 1", 6, "\"1\" where '(' should be");
    refused("a IN ()", 7, "\")\" where a value should be");
    refused("a IN (1 2)", 9, "\"2\" where ',' or ')' should be");
    refused("a IN (1,)", 9, "\")\" where a value should be");
    refused("a NOT 1", 3, "\"NOT\" where an operator or the end should be");
    refused("a LIKE", 7, "the end where a value should be");
    refused("a LIKE 'x' ESCAPE", 18, "the end where a value should be");
    refused("EXISTS a", 8, "\"a\" where '(' should be");
    refused("EXISTS(1)", 8, "\"1\" where a property should be");
    refused("EXISTS('a')", 8, "\"'a'\" where a property should be");
    refused("EXISTS(a", 9, "the end where ')' should be");
    refused("newid(1) = a", 7, "\"1\" where ')' should be");
    refused("property() = 1", 10, "\")\" where a value should be");
    refused("a + * 2 = 1", 5, "\"*\" where a value should be");
    refused("like = 1", 1, "\"like\" where a property should be");
    refused("user.in = 1", 6, "\"in\" where a property should be");
    refused("sys. = 1", 6, "\"=\" where a property should be");
    refused("größe > 'ü' AND AND", 17, "\"AND\" where a property should be");
    refused("a BETWEEN 1 AND 2", 3, "\"BETWEEN\" where an operator or the end should be");
    refused("a = 1 OR", 9, "the end where a value should be");
}

#[test]
fn names_that_mean_nothing() {
    refused("a.b = 1", 1, "no scope named \"a\"");
    refused("1 = x AND system.Label = 'a'", 11, "no scope named \"system\"");
    refused("a = upper('x')", 5, "no function named \"upper\"");
    refused("a = @x", 5, "no parameter named \"x\"");
    refused("[sys].Label = 1", 6, "\".\" where an operator or the end should be");
}

#[test]
fn values_and_conditions_are_not_the_same() {
    refused("1", 1, "a value that is no condition");
    refused("'abc'", 1, "a value that is no condition");
    refused("a = 1 AND 2", 11, "a value that is no condition");
    refused("NOT 5", 5, "a value that is no condition");
    refused("a + 1", 1, "a value that is no condition");
    refused("newid()", 1, "a value that is no condition");
    refused("(a = 1) = TRUE", 1, "a condition where a value should be");
    refused("1 + (a = 1) = 2", 5, "a condition where a value should be");
    refused("-(a = 1) = 2", 2, "a condition where a value should be");
    refused("(a AND b) IS NULL", 1, "a condition where a value should be");
    refused("a IN ((b OR c))", 7, "a condition where a value should be");
    refused("EXISTS(a) LIKE 'x'", 1, "a condition where a value should be");
}

#[test]
fn a_like_that_can_only_fail() {
    refused("a LIKE 5", 8, "LIKE on something other than text");
    refused("a LIKE 'x' ESCAPE 5", 19, "an escape that is not one character");
    refused("a LIKE 'x' ESCAPE ''", 19, "an escape that is not one character");
    refused("a LIKE 'x' ESCAPE '!!'", 19, "an escape that is not one character");
    refused("a LIKE 'x!' ESCAPE '!'", 8, "a pattern that ends with its escape character");
}

#[test]
fn limits_hold_where_they_say() {
    let nested = |levels| format!("{}a{}", "(".repeat(levels), ")".repeat(levels));
    assert!(SqlFilter::parse(&nested(limits::NESTING_MAX)).is_ok());
    refused(&nested(33), 33, "more than 32 levels");
    refused(&format!("{}a", "NOT ".repeat(33)), 129, "more than 32 levels");
    refused(&format!("{}1 = 1", "-".repeat(33)), 33, "more than 32 levels");
    let calls = format!("{}'a'{} = 1", "p(".repeat(33), ")".repeat(33));
    refused(&calls, 65, "more than 32 levels");
    // Not a matter of depth: operators in a row are one level.
    assert!(SqlFilter::parse(&format!("1{} = 1", "+1".repeat(500))).is_ok());
    assert!(SqlFilter::parse(&format!("a{}", " OR a".repeat(200))).is_ok());
    let long = format!("a = '{}'", "ü".repeat(1_018));
    assert!(SqlFilter::parse(&long).is_ok());
    refused(&format!("{long} "), 1_025, "more than 1024 characters");
}

#[test]
fn actions_that_are_none() {
    refused_action("", 1, "the end where SET or REMOVE should be");
    refused_action("a = 1", 1, "\"a\" where SET or REMOVE should be");
    refused_action("SET", 4, "the end where a property should be");
    refused_action("SET a", 6, "the end where '=' should be");
    refused_action("SET a 1", 7, "\"1\" where '=' should be");
    refused_action("SET a = ", 9, "the end where a value should be");
    refused_action("SET a = b = c", 11, "\"=\" where an operator, ';' or the end should be");
    refused_action(
        "SET a = 1 SET b = 2",
        11,
        "\"SET\" where an operator, ';' or the end should be",
    );
    refused_action("SET a = 1;;", 11, "\";\" where SET or REMOVE should be");
    refused_action("; SET a = 1", 1, "\";\" where SET or REMOVE should be");
    refused_action("SET a = (b = c)", 9, "a condition where a value should be");
    refused_action("SET sys.SequenceNumber = 1", 5, "\"sys.SequenceNumber\" cannot be set");
    refused_action("SET sys.Colour = 1", 5, "\"sys.Colour\" cannot be set");
    let label = "\"sys.Label\" cannot be removed, only set to NULL";
    refused_action("SET a = 1; REMOVE sys.label", 19, label);
    refused_action("REMOVE 'a'", 8, "\"'a'\" where a property should be");
    let many = |count| "SET a = 1;".repeat(count);
    assert!(Action::parse(&many(limits::STATEMENTS_MAX)).is_ok());
    refused_action(&many(33), 321, "more than 32 statements");
}
