//! The form that runs: names are folded, parameters are their values, constant patterns are
//! prepared, and what depends on no message is known already.

use peeklock_protocol::value::Value;

use super::ast::{Arithmetic, Comparison, Expr, Predicate, Property};
use super::datum::{Datum, Text};
use super::evaluate::Evaluation;
use super::like::{Pattern, escape_character};
use super::name::Name;
use super::properties::NoProperties;
use super::truth::Truth;

/// A condition, ready to run.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Known(Truth),
    Any(Box<[Condition]>),
    All(Box<[Condition]>),
    Not(Box<Condition>),
    Compare { operator: Comparison, left: Operand, right: Operand },
    In { value: Operand, list: Box<[Operand]>, negated: bool },
    Like { value: Operand, pattern: LikePattern, negated: bool },
    IsNull { value: Operand, negated: bool },
    Exists(Property),
    Holds(Operand),
}

/// A value, ready to be computed.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Constant(Value),
    Property(Property),
    Named(Box<Operand>),
    NewId,
    Plus(Box<Operand>),
    Minus(Box<Operand>),
    Chain { first: Box<Operand>, rest: Box<[(Arithmetic, Operand)]> },
}

/// What stands behind `LIKE`.
#[derive(Clone, Debug)]
pub(crate) enum LikePattern {
    Ready(Pattern),
    /// It depends on the message.
    Computed {
        pattern: Operand,
        escape: Option<Operand>,
    },
}

/// The values of a filter's parameters. Every one that its text names is there: the parser saw to it.
pub(crate) type Parameters<'p> = &'p [(Name, Value)];

pub(crate) fn condition(predicate: &Predicate, parameters: Parameters<'_>) -> Condition {
    let operand = |expr: &Expr| operand(expr, parameters);
    let all = |items: &[Predicate]| items.iter().map(|item| condition(item, parameters)).collect();
    let condition = match predicate {
        Predicate::Or(items) => Condition::Any(all(items)),
        Predicate::And(items) => Condition::All(all(items)),
        Predicate::Not(item) => Condition::Not(Box::new(condition(item, parameters))),
        Predicate::Compare { operator, left, right } => {
            Condition::Compare { operator: *operator, left: operand(left), right: operand(right) }
        }
        Predicate::In { value, list, negated } => Condition::In {
            value: operand(value),
            list: list.iter().map(operand).collect(),
            negated: *negated,
        },
        Predicate::Like { value, pattern, escape, negated } => Condition::Like {
            value: operand(value),
            pattern: like_pattern(operand(pattern), escape.as_ref().map(operand)),
            negated: *negated,
        },
        Predicate::IsNull { value, negated } => {
            Condition::IsNull { value: operand(value), negated: *negated }
        }
        Predicate::Exists(property) => Condition::Exists(property.clone()),
        Predicate::Holds(value) => Condition::Holds(operand(value)),
    };
    known(condition)
}

pub(crate) fn operand(expr: &Expr, parameters: Parameters<'_>) -> Operand {
    let boxed = |expr: &Expr| Box::new(operand(expr, parameters));
    let operand = match expr {
        Expr::Null => Operand::Constant(Value::Null),
        Expr::Bool(value) => Operand::Constant(Value::Bool(*value)),
        Expr::Integer(value) => Operand::Constant(Value::Ulong(*value)),
        Expr::Double(value) => Operand::Constant(Value::from(*value)),
        Expr::Text(text) => Operand::Constant(Value::from(&**text)),
        Expr::Property(property) => Operand::Property(property.clone()),
        Expr::Parameter(name) => Operand::Constant(parameter(name, parameters)),
        Expr::NewId => Operand::NewId,
        Expr::Named(name) => Operand::Named(boxed(name)),
        Expr::Plus(value) => Operand::Plus(boxed(value)),
        Expr::Minus(value) => Operand::Minus(boxed(value)),
        Expr::Chain { first, rest } => {
            let rest =
                rest.iter().map(|(operator, expr)| (*operator, self::operand(expr, parameters)));
            Operand::Chain { first: boxed(first), rest: rest.collect() }
        }
    };
    folded(operand)
}

fn parameter(name: &Name, parameters: Parameters<'_>) -> Value {
    let found = parameters.iter().find(|(given, _)| given.is_same(name));
    found.expect("the parser knows the parameters").1.clone()
}

/// What fails here will fail in the same way when it runs.
fn like_pattern(pattern: Operand, escape: Option<Operand>) -> LikePattern {
    match prepared(&pattern, escape.as_ref()) {
        Some(pattern) => LikePattern::Ready(pattern),
        None => LikePattern::Computed { pattern, escape },
    }
}

/// None if it depends on the message.
fn prepared(pattern: &Operand, escape: Option<&Operand>) -> Option<Pattern> {
    let pattern = constant_text(pattern)?;
    let escape = match escape {
        Some(escape) => Some(escape_character(constant_text(escape)?.as_str()).ok()?),
        None => None,
    };
    Pattern::new(pattern.as_str(), escape).ok()
}

fn constant_text(operand: &Operand) -> Option<Text<'_>> {
    let Operand::Constant(value) = operand else { return None };
    let Datum::Text(text) = Datum::from(value) else { return None };
    Some(text)
}

/// Looks whether the outcome depends on the message at all: `1 = 1` does not, and many a rule is
/// just that.
fn known(condition: Condition) -> Condition {
    let is_constant = |operand: &Operand| matches!(operand, Operand::Constant(_));
    let is_known = match &condition {
        Condition::Compare { left, right, .. } => is_constant(left) && is_constant(right),
        Condition::Holds(value) | Condition::IsNull { value, .. } => is_constant(value),
        Condition::Not(item) => matches!(**item, Condition::Known(_)),
        Condition::Known(_)
        | Condition::Any(_)
        | Condition::All(_)
        | Condition::In { .. }
        | Condition::Like { .. }
        | Condition::Exists(_) => false,
    };
    if !is_known {
        return condition;
    }
    let truth = Evaluation::new(&NoProperties, &mut no_id).condition(&condition);
    truth.map_or(condition, Condition::Known)
}

/// Computes a sign or a chain of constants, unless that fails: it may never be asked for.
fn folded(operand: Operand) -> Operand {
    let is_constant = |operand: &Operand| matches!(operand, Operand::Constant(_));
    let foldable = match &operand {
        Operand::Plus(value) | Operand::Minus(value) => is_constant(value),
        Operand::Chain { first, rest } => {
            is_constant(first) && rest.iter().all(|(_, value)| is_constant(value))
        }
        Operand::Constant(_) | Operand::Property(_) | Operand::Named(_) | Operand::NewId => false,
    };
    if !foldable {
        return operand;
    }
    let value = match Evaluation::new(&NoProperties, &mut no_id).operand(&operand) {
        Ok(datum @ (Datum::Text(_) | Datum::Integer(_) | Datum::Double(_))) => datum.to_value(),
        // Null and unknown are told apart by nobody who gets to see the outcome.
        Ok(Datum::Unknown) => Value::Null,
        _ => return operand,
    };
    Operand::Constant(value)
}

/// Constants draw no ids.
fn no_id() -> [u8; 16] {
    [0; 16]
}
