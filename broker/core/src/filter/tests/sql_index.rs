//! Many SQL filters by their index: what comes of a message is what running each of them would come to.

use super::super::ast::Predicate;
use super::random::Generator;
use super::*;
use crate::testing::Dice;

/// Properties that filters ask for at random, and values that messages have of them at random: of kinds
/// that compare, that do not, and that make filters fail.
fn random_message(dice: &mut Dice) -> IncomingMessage {
    let values: [Value; 16] = [
        "red".into(),
        "re".into(),
        "".into(),
        "it's".into(),
        Symbol::from_static("red").into(),
        Value::Int(5),
        Value::Ulong(u64::MAX),
        Value::Ulong(1 << 63),
        Value::Long(-1),
        0.1_f64.into(),
        1e300_f64.into(),
        f64::NAN.into(),
        decimal128(0, 75),
        true.into(),
        Value::Uuid(ID),
        Value::Null,
    ];
    let names = ["color", "quantity", "price", "flag", "nothing", "missing"];
    let mut map = Map::new();
    for name in names {
        if dice.percent(80) {
            map = map.with(name, values[dice.below(values.len())].clone());
        }
    }
    incoming(&Message::data("body").with_application_properties(map))
}

/// Most filters that people write: comparisons of properties with constants, joined by AND.
fn ordinary(generator: &mut Generator) -> String {
    let conditions = [
        "color = 'red'",
        "color = 'blue'",
        "'red' = color",
        "color IN ('red', 5, 'it''s')",
        "color IN ('red', NULL)",
        "color LIKE 're%'",
        "color LIKE 'red'",
        "color LIKE '%d'",
        "color > 'ra'",
        "(color = 're' OR color = 5)",
        "(color LIKE 'r%' OR color = 5)",
        "(color LIKE 'b%' OR color LIKE 'i%')",
        "quantity = 5",
        "quantity >= 5",
        "5 > quantity",
        "quantity > 0",
        "quantity < 18446744073709551615",
        "quantity = 9223372036854775808",
        "price = 7.5",
        "price < 1e300",
        "price > -1",
        "flag",
        "flag = TRUE",
        "flag > FALSE",
        "flag > TRUE",
        "NOT flag",
        "missing IS NULL",
        "nothing <> 3",
        "10 / quantity > 1",
        "EXISTS(price)",
        "sys.Body = 1",
    ];
    let count = generator.0.below(3);
    let chosen: Vec<_> = (0..=count).map(|_| generator.one_of(&conditions)).collect();
    chosen.join(" AND ")
}

fn filter(generator: &mut Generator) -> Option<SqlFilter> {
    let text = if generator.0.percent(20) {
        Predicate::to_string(&generator.predicate(3))
    } else {
        ordinary(generator)
    };
    SqlFilter::parse(&text).ok()
}

#[test]
fn the_index_agrees_with_its_filters() {
    let mut generator = Generator(Dice::new(31));
    let mut index = SqlIndex::new();
    let mut filters: Vec<(u32, SqlFilter)> = Vec::new();
    let (mut through, mut failed, mut asked, mut run) = (0, 0, 0, 0);
    for id in 0..3_000 {
        if generator.0.percent(45) && !filters.is_empty() {
            let (id, filter) = filters.swap_remove(generator.0.below(filters.len()));
            assert!(index.remove(&filter, &id));
            assert!(!index.remove(&filter, &id));
        } else if let Some(filter) = filter(&mut generator) {
            index.insert(filter.clone(), id);
            filters.push((id, filter));
        }
        assert_eq!(index.len(), filters.len());
        let message = random_message(&mut generator.0);
        let properties = properties(&message);
        let mut expected = Matches { through: Vec::new(), failed: Vec::new() };
        filters.sort_by_key(|(id, _)| *id);
        for (id, filter) in &filters {
            match filter.matches(&properties, &mut || [1; 16]) {
                Ok(true) => expected.through.push(*id),
                Ok(false) => {}
                Err(error) => expected.failed.push((*id, error)),
            }
        }
        let mut allowance = Allowance::of(u32::MAX);
        let found = index.matches(&properties, &mut || [1; 16], &mut allowance);
        assert_eq!(found, expected);
        through += found.through.len();
        failed += found.failed.len();
        asked += filters.len();
        run += index.in_question(&properties).len();
    }
    assert!(through > 10_000 && failed > 10_000, "{through} matches, {failed} failures");
    assert!(run < asked * 3 / 4, "of {asked} filters {run} were run");
    for (id, filter) in filters {
        assert!(index.remove(&filter, &id));
    }
    assert!(index.is_empty());
}

/// How many of these a message with a red color and five of quantity would run.
#[track_caller]
fn check_run(filters: &[&str], expected: usize) {
    let mut index = SqlIndex::new();
    for (id, text) in filters.iter().enumerate() {
        index.insert(SqlFilter::parse(text).unwrap(), id);
    }
    let message = incoming(&message());
    assert_eq!(index.in_question(&properties(&message)).len(), expected, "{filters:?}");
}

#[test]
fn what_asks_for_another_value_is_not_run() {
    check_run(&["color = 'blue'", "color = 'red'", "'green' = color", "color = 5"], 1);
    check_run(&["COLOR = 'blue' AND quantity > 3", "quantity > 3 AND color = 'blue'"], 0);
    check_run(&["color IN ('a', 'b')", "color IN ('red', 'b')", "color = 'a' OR color = 'b'"], 1);
    check_run(&["sys.Label LIKE 'bye%'", "sys.Label LIKE 'hel%o'", "color LIKE 'blue'"], 1);
    check_run(
        &["quantity > 5.5", "quantity >= 5", "quantity < 4e0 AND sys.Label > 'a'", "6 < quantity"],
        1,
    );
    check_run(&["quantity >= 1 AND quantity < 3", "quantity > 1 AND quantity < 30"], 1);
    check_run(&["off", "flag", "off = TRUE AND quantity = 5"], 1);
    check_run(&["missing = 1", "missing LIKE 'a%'"], 1);
    // What may fail is run before it is known to be false.
    check_run(&["1 / quantity = 1 AND color = 'blue'", "color = 'blue' AND 1 / quantity = 1"], 1);
    check_run(&["color = 5 AND 1 / quantity = 1"], 1);
    let long_list: Vec<String> = (0..180).map(|n| (n * 4).to_string()).collect();
    check_run(&[&format!("quantity IN ({})", long_list.join(", "))], 0);
}

#[test]
fn all_filters_together_have_an_allowance() {
    let message = incoming(&message());
    let properties = properties(&message);
    let mut index = SqlIndex::new();
    // Each takes more than a thousand steps.
    for id in 0..250 {
        let text = format!("long_text LIKE '%_a_a_a_a_a_b' AND {id} = quantity");
        index.insert(SqlFilter::parse(&text).unwrap(), id);
    }
    index.insert(SqlFilter::parse("1 = 1").unwrap(), 250);
    let mut allowance = Allowance::default();
    let found = index.matches(&properties, &mut new_ids(), &mut allowance);
    assert_eq!(found.through, [250], "what still fits is run");
    assert!((20..100).contains(&found.failed.len()), "{} failed", found.failed.len());
    assert!(found.failed.iter().all(|(_, error)| *error == EvaluationError::TooMuchTogether));
}
