//! Filters and actions at random, by seed: printing and parsing are each other's inverse, and no
//! evaluation panics or costs more than it may.

use super::super::ast::{Arithmetic, Comparison, Expr, Predicate, Property, Statement};
use super::super::evaluate::Evaluation;
use super::super::lexer::Dialect;
use super::super::{compile, parser};
use super::*;
use crate::testing::Dice;

const ROUNDS: u64 = 4_000;

/// Names of the message, and some that need brackets or do not exist.
const NAMES: [&str; 14] = [
    "color",
    "quantity",
    "price",
    "nothing",
    "flag",
    "long_text",
    "ulong",
    "nan",
    "missing",
    "a b",
    "a]b",
    "like",
    "1st",
    "größe",
];

pub(super) struct Generator(pub(super) Dice);

impl Generator {
    pub(super) fn predicate(&mut self, depth: usize) -> Predicate {
        if depth == 0 || self.0.percent(20) {
            return Predicate::Holds(self.boolean());
        }
        let deeper = depth - 1;
        match self.0.below(8) {
            0 => Predicate::Or(self.several(|g| g.predicate(deeper))),
            1 => Predicate::And(self.several(|g| g.predicate(deeper))),
            2 => Predicate::Not(Box::new(self.predicate(deeper))),
            3 => Predicate::In {
                value: self.expr(deeper),
                list: self.several(|g| g.expr(deeper)),
                negated: self.0.percent(50),
            },
            4 => Predicate::Like {
                value: self.expr(deeper),
                pattern: self.pattern(deeper),
                escape: self.0.percent(30).then(|| Expr::Text("!".into())),
                negated: self.0.percent(50),
            },
            5 => Predicate::IsNull { value: self.expr(deeper), negated: self.0.percent(50) },
            6 => Predicate::Exists(self.property()),
            _ => Predicate::Compare {
                operator: self.one_of(&[
                    Comparison::Equal,
                    Comparison::NotEqual,
                    Comparison::Less,
                    Comparison::LessOrEqual,
                    Comparison::Greater,
                    Comparison::GreaterOrEqual,
                ]),
                left: self.expr(deeper),
                right: self.expr(deeper),
            },
        }
    }

    fn boolean(&mut self) -> Expr {
        match self.0.below(4) {
            0 => Expr::Bool(self.0.percent(50)),
            1 => Expr::Null,
            _ => Expr::Property(self.property()),
        }
    }

    fn pattern(&mut self, depth: usize) -> Expr {
        match self.0.below(3) {
            0 => Expr::Property(self.property()),
            1 if depth > 0 => {
                let first = Box::new(Expr::Property(self.property()));
                Expr::Chain { first, rest: vec![(Arithmetic::Add, Expr::Text("%".into()))] }
            }
            _ => Expr::Text(self.one_of(&["%", "r%", "_e_", "%a%a%_a%", "!%%", "it's"]).into()),
        }
    }

    fn expr(&mut self, depth: usize) -> Expr {
        if depth == 0 || self.0.percent(40) {
            return match self.0.below(6) {
                0 => Expr::Integer(self.one_of(&[0, 1, 5, u64::MAX, 1 << 63])),
                1 => Expr::Double(self.one_of(&[0.0, 2.5, 1e300, 1e-300, 0.1, 1e16, 123_456.789])),
                2 => Expr::Text(self.one_of(&["", "red", "it's", "''", "größe"]).into()),
                3 => self.boolean(),
                _ => Expr::Property(self.property()),
            };
        }
        let deeper = depth - 1;
        match self.0.below(8) {
            0 => Expr::Plus(Box::new(self.expr(deeper))),
            1 => Expr::Minus(Box::new(self.expr(deeper))),
            2 => Expr::Named(Box::new(self.expr(deeper))),
            3 => Expr::NewId,
            4 | 5 => self.chain(deeper, &[Arithmetic::Add, Arithmetic::Subtract]),
            _ => {
                let products = [Arithmetic::Multiply, Arithmetic::Divide, Arithmetic::Remainder];
                self.chain(deeper, &products)
            }
        }
    }

    fn chain(&mut self, depth: usize, operators: &[Arithmetic]) -> Expr {
        let first = Box::new(self.expr(depth));
        let count = 1 + self.0.below(3);
        let rest = (0..count).map(|_| (self.one_of(operators), self.expr(depth))).collect();
        Expr::Chain { first, rest }
    }

    fn property(&mut self) -> Property {
        match self.0.below(6) {
            0 => Property::System(self.one_of(&SystemProperty::ALL)),
            1 if self.0.percent(10) => Property::UnknownSystem(Name::new("Body")),
            _ => Property::User(Name::new(self.one_of(&NAMES))),
        }
    }

    fn statement(&mut self) -> Statement {
        let name = Name::new(self.one_of(&NAMES));
        match self.0.below(4) {
            0 => Statement::Remove(Property::User(name)),
            1 => {
                let settable = [SystemProperty::Label, SystemProperty::TimeToLive];
                let target = Property::System(self.one_of(&settable));
                Statement::Set { target, value: self.expr(2) }
            }
            _ => Statement::Set { target: Property::User(name), value: self.expr(2) },
        }
    }

    fn several<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..2 + self.0.below(2)).map(|_| make(self)).collect()
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.0.below(choices.len())]
    }
}

#[test]
fn what_is_printed_is_read_back_as_it_was() {
    let mut depths = [0_u64; 2];
    for seed in 0..ROUNDS {
        let predicate = Generator(Dice::new(seed)).predicate(4);
        let text = predicate.to_string();
        if text.chars().count() > limits::TEXT_CHARS_MAX {
            depths[1] += 1;
            continue;
        }
        let again = parser::predicate(&text, Dialect::Sql, &[]);
        assert_eq!(again.as_ref(), Ok(&predicate), "seed {seed}: {text}");
        assert_eq!(again.unwrap().to_string(), text, "seed {seed}");
        depths[0] += 1;
    }
    assert!(depths[0] > ROUNDS / 2, "most are short enough: {depths:?}");
}

#[test]
fn actions_are_read_back_as_they_were() {
    for seed in 0..ROUNDS / 4 {
        let mut generator = Generator(Dice::new(seed));
        let statements: Vec<_> =
            (0..=generator.0.below(3)).map(|_| generator.statement()).collect();
        let text = statements.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        assert_eq!(parser::statements(&text, &[]).as_ref(), Ok(&statements), "seed {seed}: {text}");
    }
}

#[test]
fn no_evaluation_panics_or_costs_more_than_it_may() {
    let message = incoming(&message());
    let properties = properties(&message);
    let mut outcomes = [0_u64; 4];
    for seed in 0..ROUNDS {
        let predicate = Generator(Dice::new(seed)).predicate(5);
        let condition = compile::condition(&predicate, &[]);
        let mut ids = new_ids();
        let mut evaluation = Evaluation::new(&properties, &mut ids);
        let outcome = evaluation.condition(&condition);
        assert!(evaluation.steps() <= limits::STEPS_MAX);
        outcomes[match outcome {
            Ok(Truth::True) => 0,
            Ok(Truth::False) => 1,
            Ok(Truth::Unknown) => 2,
            Err(_) => 3,
        }] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > ROUNDS / 50), "all kinds come up: {outcomes:?}");
}

/// Texts that are nearly filters: a filter with some of it gone, doubled or replaced.
#[test]
fn no_text_makes_the_parser_panic() {
    let mut dice = Dice::new(7);
    let mut accepted = 0_u64;
    for seed in 0..ROUNDS {
        let text = Generator(Dice::new(seed)).predicate(3).to_string();
        let mut characters: Vec<char> = text.chars().take(300).collect();
        for _ in 0..=dice.below(3) {
            let at = dice.below(characters.len());
            match dice.below(3) {
                0 => drop(characters.remove(at)),
                1 => characters.insert(at, ['\'', '(', '[', '"', '@', '日', ')'][dice.below(7)]),
                _ => characters.truncate(at + 1),
            }
            if characters.is_empty() {
                break;
            }
        }
        let text: String = characters.iter().collect();
        match SqlFilter::parse(&text) {
            Ok(_) => accepted += 1,
            Err(error) => assert!(error.position <= characters.len() + 1, "{text}: {error}"),
        }
        drop(SqlFilter::selector(&text));
        drop(Action::parse(&text));
    }
    assert!(0 < accepted && accepted < ROUNDS, "{accepted} accepted");
}

#[test]
fn what_costs_too_much_is_stopped() {
    let message = incoming(&message());
    let properties = properties(&message);
    // Each pattern alone is within bounds, and misses at the very end of a long text.
    let text = ["long_text LIKE '%_a_a_a_a_a_b'"; 30].join(" OR ");
    let outcome = SqlFilter::parse(&text).unwrap().evaluate(&properties, &mut new_ids());
    assert_eq!(outcome, Err(EvaluationError::TooManySteps));
    let once = SqlFilter::parse("long_text LIKE '%_a_a_a_a_a_b'").unwrap();
    assert_eq!(once.evaluate(&properties, &mut new_ids()), Ok(Truth::False));
    let pattern = SqlFilter::parse("color LIKE long_text").unwrap();
    let outcome = pattern.evaluate(&properties, &mut new_ids());
    assert_eq!(outcome, Err(EvaluationError::TooManySteps));
}
