//! Correlation filters, one by one and by the index.

use super::*;
use crate::testing::Dice;

fn filter(system: &[(SystemProperty, &str)], user: &[(&str, Value)]) -> CorrelationFilter {
    CorrelationFilter::new(
        system.iter().map(|(property, text)| (*property, (*text).into())),
        user.iter().map(|(name, value)| ((*name).into(), value.clone())),
    )
}

#[track_caller]
fn check(filter: &CorrelationFilter, expected: bool) {
    let message = incoming(&message());
    let properties = properties(&message);
    assert_eq!(filter.matches(&properties), expected, "{filter:?}");
    let mut index = CorrelationIndex::new();
    index.insert(filter, 1);
    assert_eq!(index.matches(&properties) == [1], expected, "{filter:?}");
}

#[test]
fn every_criterion_has_to_hold() {
    use SystemProperty as S;
    check(&filter(&[], &[]), true);
    check(&filter(&[(S::Label, "hello")], &[]), true);
    check(&filter(&[(S::Label, "hello"), (S::To, "queue")], &[]), true);
    check(&filter(&[(S::Label, "hello"), (S::To, "other")], &[]), false);
    check(&filter(&[(S::Label, "hello")], &[("color", "red".into())]), true);
    check(&filter(&[(S::Label, "hello")], &[("color", "blue".into())]), false);
    let all = [
        (S::CorrelationId, "17"),
        (S::MessageId, "m-1"),
        (S::To, "queue"),
        (S::Label, "hello"),
        (S::SessionId, "s1"),
        (S::ReplyToSessionId, "s2"),
        (S::ContentType, "text/plain"),
    ];
    check(&filter(&all, &[("color", "red".into()), ("quantity", 5_i64.into())]), true);
    check(&filter(&[(S::ReplyTo, "x")], &[]), false);
    check(&filter(&[], &[("missing", "x".into())]), false);
}

#[test]
fn text_is_compared_with_its_case_and_names_without() {
    check(&filter(&[(SystemProperty::Label, "Hello")], &[]), false);
    check(&filter(&[], &[("color", "Red".into())]), false);
    check(&filter(&[], &[("COLOR", "red".into())]), true);
    check(&filter(&[], &[("Case", "upper".into())]), true);
    check(&filter(&[], &[("case", "lower".into())]), true);
    check(&filter(&[], &[("symbol", "red".into())]), true);
}

#[test]
fn numbers_are_equal_across_types_and_nothing_else_is() {
    for five in [
        Value::Ubyte(5),
        Value::Ushort(5),
        Value::Uint(5),
        Value::Ulong(5),
        Value::Byte(5),
        Value::Short(5),
        Value::Int(5),
        Value::Long(5),
        Value::from(5.0_f32),
        Value::from(5.0_f64),
        Value::Decimal32([0x32, 0x80, 0, 5]),
    ] {
        check(&filter(&[], &[("quantity", five.clone())]), true);
        check(&filter(&[], &[("whole", five)]), true);
    }
    check(&filter(&[], &[("quantity", "5".into())]), false);
    check(&filter(&[], &[("quantity", Value::Bool(true))]), false);
    check(&filter(&[], &[("price", 7.5_f64.into())]), true);
    check(&filter(&[], &[("price", 7.5_f32.into())]), true);
    check(&filter(&[], &[("price64", decimal128(0, 75))]), true);
    check(&filter(&[], &[("debt", (-7.5_f64).into())]), true);
    check(&filter(&[], &[("ulong", u64::MAX.into())]), true);
    check(&filter(&[], &[("long", i64::MIN.into())]), true);
    check(&filter(&[], &[("long", (-9_223_372_036_854_775_808.0_f64).into())]), true);
    check(&filter(&[], &[("big", 9_007_199_254_740_992.0_f64.into())]), false);
    check(&filter(&[], &[("nan", f64::NAN.into())]), false);
    check(&filter(&[], &[("endless", f64::INFINITY.into())]), true);
    check(&filter(&[], &[("flag", true.into())]), true);
    check(&filter(&[], &[("flag", 1.into())]), false);
    check(&filter(&[], &[("moment", Value::Timestamp(1_000))]), true);
    check(&filter(&[], &[("moment", 1_000.into())]), false);
    check(&filter(&[], &[("id", Value::Uuid(ID))]), true);
    check(&filter(&[], &[("bytes", Bytes::from_static(b"abc").into())]), true);
    check(&filter(&[], &[("list", Value::List(vec![Value::Int(1)]))]), false);
}

#[test]
fn a_null_asks_for_nothing() {
    check(&filter(&[], &[("missing", Value::Null)]), true);
    check(&filter(&[], &[("color", Value::Null)]), true);
    check(&filter(&[], &[("nothing", "x".into())]), false);
}

#[test]
fn the_order_of_criteria_makes_no_difference() {
    let one = filter(&[], &[("a", 1.into()), ("b", 2.into())]);
    let other = filter(&[], &[("b", 2_u64.into()), ("a", 1.0.into())]);
    assert_eq!(one, other);
}

/// Filters come and go at random; the index says what asking each of them would.
#[test]
fn the_index_agrees_with_its_filters() {
    let mut dice = Dice::new(3);
    let mut index = CorrelationIndex::new();
    let mut filters: Vec<(u32, CorrelationFilter)> = Vec::new();
    let message = incoming(&message());
    let properties = properties(&message);
    let mut matched = 0;
    for id in 0..2_000 {
        if dice.percent(40) && !filters.is_empty() {
            let (id, filter) = filters.swap_remove(dice.below(filters.len()));
            assert!(index.remove(&filter, &id));
            assert!(!index.remove(&filter, &id));
        } else {
            let system = [(SystemProperty::Label, ["hello", "bye"][dice.below(2)])];
            let color = ("color", ["red", "blue"][dice.below(2)].into());
            let user = [color, ("quantity", Value::Uint([5, 6][dice.below(2)]))];
            let filter = filter(&system[..dice.below(2)], &user[..dice.below(3)]);
            index.insert(&filter, id);
            filters.push((id, filter));
        }
        let mut expected: Vec<u32> = filters
            .iter()
            .filter(|(_, filter)| filter.matches(&properties))
            .map(|(id, _)| *id)
            .collect();
        expected.sort_unstable();
        assert_eq!(index.matches(&properties), expected);
        assert!(index.field_sets() <= 6);
        matched += expected.len();
    }
    assert!(matched > 10_000, "only {matched} matches");
    for (id, filter) in filters {
        assert!(index.remove(&filter, &id));
    }
    assert!(index.is_empty());
}
