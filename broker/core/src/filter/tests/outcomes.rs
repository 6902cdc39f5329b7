//! The table of outcomes.

use super::*;
use crate::message::RowHeader;

const TABLE: &str = include_str!("outcomes.txt");

fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split_once(": ").expect("an outcome, a colon, a filter"))
}

fn outcome(filter: &SqlFilter, properties: &dyn Properties) -> String {
    match filter.evaluate(properties, &mut new_ids()) {
        Ok(truth) => format!("{truth:?}").to_lowercase(),
        Err(error) => format!("error {error}"),
    }
}

#[test]
fn every_filter_comes_to_what_the_table_says() {
    let message = incoming(&message());
    let properties = properties(&message);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (expected, text) in cases() {
        count += 1;
        let found = match SqlFilter::parse(text) {
            Ok(filter) => outcome(&filter, &properties),
            Err(error) => format!("no filter: {error}"),
        };
        if found != expected {
            wrong.push(format!("{text}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 300, "only {count} cases");
}

/// The message decides nothing that the text has decided: a filter over it is a function of the
/// properties, so evaluating twice gives the same, and so does the canonical text.
#[test]
fn the_canonical_text_comes_to_the_same() {
    let message = incoming(&message());
    let properties = properties(&message);
    for (expected, text) in cases() {
        let filter = SqlFilter::parse(text).unwrap();
        let printed = filter.canonical().strip_prefix("Sql ").expect("the dialect comes first");
        let again = SqlFilter::parse(printed).unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again.canonical(), filter.canonical(), "{text}");
        assert_eq!(outcome(&again, &properties), expected, "{text} as {printed}");
    }
}

#[test]
fn parameters_are_values_of_any_type() {
    let message = incoming(&message());
    let properties = properties(&message);
    let parameters = [
        ("min".into(), Value::Ubyte(4)),
        ("When".into(), Value::Timestamp(1_000)),
        ("id".into(), Value::Uuid(ID)),
        ("none".into(), Value::Null),
        ("pattern".into(), "r!_d".into()),
        ("escape".into(), "!".into()),
        ("on".into(), Value::Bool(true)),
    ];
    for (text, expected) in [
        ("quantity > @min", Truth::True),
        ("quantity > @min + 1", Truth::False),
        ("moment = @when", Truth::True),
        ("id = @ID AND @on", Truth::True),
        ("quantity = @none", Truth::Unknown),
        ("color LIKE @pattern", Truth::False),
        ("color LIKE @pattern ESCAPE @escape", Truth::False),
        ("'r_d' LIKE @pattern ESCAPE @escape", Truth::True),
        ("quantity IN (@min, @min + 1)", Truth::True),
    ] {
        let filter = SqlFilter::with_parameters(text, &parameters).unwrap();
        assert_eq!(filter.evaluate(&properties, &mut new_ids()), Ok(expected), "{text}");
    }
    let with_sign = SqlFilter::with_parameters("a = @X", &[("@x".into(), Value::from(1))]);
    let bare = SqlFilter::with_parameters("a = @X", &[("x".into(), Value::from(1))]);
    assert_eq!(with_sign.unwrap().canonical(), bare.unwrap().canonical());
    let of = |value| SqlFilter::with_parameters("a = @x", &[("x".into(), value)]).unwrap();
    assert_ne!(of(Value::Int(1)).canonical(), of(Value::Int(2)).canonical());
    assert_eq!(of(Value::Int(1)).canonical(), of(Value::Int(1)).canonical());
}

/// Comparing values as they are is a short cut, not another rule.
#[test]
fn plain_values_compare_as_computed_ones_do() {
    use super::super::ast::Comparison;
    use super::super::datum::{Datum, compare, compare_values};

    let values: Vec<Value> = application_properties().into_iter().map(|(_, value)| value).collect();
    for left in &values {
        for right in &values {
            for operator in [
                Comparison::Equal,
                Comparison::NotEqual,
                Comparison::Less,
                Comparison::LessOrEqual,
                Comparison::Greater,
                Comparison::GreaterOrEqual,
            ] {
                let computed = compare(operator, &Datum::from(left), &Datum::from(right));
                let plain = compare_values(operator, left, right);
                assert_eq!(plain, computed, "{left:?} {operator} {right:?}");
            }
        }
    }
}

#[test]
fn a_stored_message_says_what_its_entity_knows() {
    let header = RowHeader::new(SequenceNumber(6), Timestamp(1_000));
    let stored = incoming(&message()).into_stored(header);
    let arrival = Arrival {
        enqueued_at: stored.enqueued_at(),
        expires_at: Some(Timestamp(2_000)),
        sequence: SequenceNumber(7),
        enqueue_sequence: stored.enqueue_sequence(),
        attempts: 2,
    };
    let properties = MessageProperties::of_stored(&stored, arrival);
    for text in [
        "sys.SequenceNumber = 7 AND sys.EnqueuedSequenceNumber = 6 AND sys.DeliveryCount = 2",
        "sys.EnqueuedTimeUtc = moment AND sys.ExpiresAtUtc = later",
        "sys.Label = 'hello' AND color = 'red'",
    ] {
        let filter = SqlFilter::parse(text).unwrap();
        assert_eq!(filter.matches(&properties, &mut new_ids()), Ok(true), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_as_good_as_missing() {
    // Application properties: a key that is no UTF-8; a value that is none; a good one.
    let wire = [0, 0x53, 0x74, 0xc1, 0x12, 6]
        .into_iter()
        .chain([0xa1, 1, 0xff, 0x41])
        .chain([0xa1, 1, b'a', 0xa1, 1, 0xff])
        .chain([0xa1, 1, b'b', 0xa1, 2, b'o', b'k'])
        .collect::<Vec<u8>>();
    let message = IncomingMessage::from_wire(&wire).unwrap();
    let properties = properties(&message);
    let holds = |text| SqlFilter::parse(text).unwrap().matches(&properties, &mut new_ids());
    assert_eq!(holds("b = 'ok'"), Ok(true));
    assert_eq!(holds("a IS NULL AND NOT EXISTS(a)"), Ok(true));
    assert_eq!(holds("sys.Label IS NULL AND sys.MessageId IS NULL"), Ok(true));
}
