//! What a filter asks of one property before all else, so that it need not be run for a message whose
//! property is something else.

use super::ast::{Comparison, Property};
use super::compile::{Condition, LikePattern, Operand};
use super::correlation::Field;
use super::intervals::{Interval, Key, Kind};
use super::like::Pattern;
use super::limits::INTERVALS_MAX;

/// A property, and where its value has to lie: in one of these intervals, else the filter does not let
/// the message through. If they are all of the value's kind, nothing that may fail is run before that
/// shows: the filter is false. If not, what is asked may be unknown, and the rest of the filter may fail.
#[derive(Clone, Debug)]
pub(crate) struct Anchor {
    pub(crate) field: Field,
    pub(crate) intervals: Vec<Interval>,
}

impl Anchor {
    /// The narrowest there is.
    pub(crate) fn of(condition: &Condition) -> Option<Self> {
        match condition {
            Condition::All(items) => Self::of_all(items),
            Condition::Any(items) => Self::of_any(items),
            Condition::Compare { operator, left, right } => match (field(left), field(right)) {
                (Some(field), None) => Self::comparison(field, *operator, right),
                (None, Some(field)) => Self::comparison(field, mirrored(*operator), left),
                (Some(_), Some(_)) | (None, None) => None,
            },
            Condition::In { value, list, negated: false } => {
                let keys = list.iter().map(|item| Some(Interval::point(constant(item)?)));
                Some(Anchor { field: field(value)?, intervals: keys.collect::<Option<_>>()? })
            }
            Condition::Like { value, pattern: LikePattern::Ready(pattern), negated: false } => {
                let interval = match pattern {
                    Pattern::Exact(text) => Interval::point(Key::Text(text.to_string().into())),
                    Pattern::Runs { first, .. } if !first.is_empty() => Interval::prefix(first),
                    Pattern::Runs { .. } | Pattern::Machine(_) => return None,
                };
                Some(Anchor { field: field(value)?, intervals: vec![interval] })
            }
            Condition::Holds(value) => {
                let interval = Interval::point(Key::Bool(true));
                Some(Anchor { field: field(value)?, intervals: vec![interval] })
            }
            Condition::Known(_)
            | Condition::Not(_)
            | Condition::In { .. }
            | Condition::Like { .. }
            | Condition::IsNull { .. }
            | Condition::Exists(_) => None,
        }
    }

    /// What stands behind a condition that may fail comes too late: that one is run first.
    fn of_all(items: &[Condition]) -> Option<Self> {
        let in_time = items.iter().position(may_fail).map_or(items.len(), |at| at + 1);
        let mut anchors: Vec<Anchor> = Vec::new();
        for anchor in items[..in_time].iter().filter_map(Anchor::of) {
            match anchors.iter_mut().find(|other| other.field == anchor.field) {
                Some(other) => other.narrow(anchor),
                None => anchors.push(anchor),
            }
        }
        anchors.into_iter().min_by_key(Anchor::width)
    }

    /// Only if all are about the same property.
    fn of_any(items: &[Condition]) -> Option<Self> {
        let parts = |anchor: Anchor| (anchor.field, anchor.intervals);
        let (fields, intervals): (Vec<_>, Vec<_>) =
            items.iter().map(|item| Anchor::of(item).map(parts)).collect::<Option<_>>()?;
        let field = fields.first().filter(|first| fields.iter().all(|field| field == *first))?;
        Some(Anchor { field: field.clone(), intervals: intervals.concat() })
    }

    fn comparison(field: Field, operator: Comparison, with: &Operand) -> Option<Self> {
        let key = constant(with)?;
        let all = Interval::all(key.kind());
        let interval = match operator {
            Comparison::Equal => Interval::point(key),
            // Booleans have no order.
            _ if key.kind() == Kind::Bool => return None,
            Comparison::Less | Comparison::LessOrEqual => Interval { high: key, ..all },
            Comparison::Greater | Comparison::GreaterOrEqual => Interval { low: key, ..all },
            Comparison::NotEqual => return None,
        };
        Some(Anchor { field, intervals: vec![interval] })
    }

    /// To what another one about the same property leaves of it, if that is one interval again.
    fn narrow(&mut self, other: Anchor) {
        if let ([mine], [others]) = (&mut self.intervals[..], &other.intervals[..])
            && mine.kind() == others.kind()
        {
            mine.low = mine.low.clone().max(others.low.clone());
            mine.high = mine.high.clone().min(others.high.clone());
        } else if other.width() < self.width() {
            *self = other;
        }
    }

    /// Single values are better than what has two ends, and that is better than what has one.
    fn width(&self) -> usize {
        let open_ends = |interval: &Interval| {
            let all = Interval::all(interval.kind());
            usize::from(interval.low == all.low) + usize::from(interval.high == all.high)
        };
        let width = |interval: &Interval| {
            if interval.low == interval.high { 0 } else { 1 + open_ends(interval) }
        };
        self.intervals.iter().map(width).max().unwrap_or(0)
    }

    /// With so few intervals that a topic has room for those of all its filters.
    pub(crate) fn bounded(mut self) -> Self {
        self.intervals.sort();
        while INTERVALS_MAX < self.intervals.len() {
            // The last two of a kind become one. There are fewer kinds than there may be intervals.
            let at = (1..self.intervals.len())
                .rfind(|at| self.intervals[*at].kind() == self.intervals[at - 1].kind())
                .expect("more intervals than kinds");
            let last = self.intervals.remove(at);
            let before = &mut self.intervals[at - 1];
            before.high = before.high.clone().max(last.high);
        }
        self
    }
}

/// Whether there is a message for which it has no outcome.
pub(crate) fn may_fail(condition: &Condition) -> bool {
    let is_safe =
        |operand: &Operand| matches!(operand, Operand::Constant(_)) || field(operand).is_some();
    match condition {
        Condition::Known(_) => false,
        Condition::Any(items) | Condition::All(items) => items.iter().any(may_fail),
        Condition::Not(item) => may_fail(item),
        Condition::Compare { left, right, .. } => !is_safe(left) || !is_safe(right),
        Condition::In { value, list, .. } => !is_safe(value) || !list.iter().all(is_safe),
        // On something other than text.
        Condition::Like { .. } => true,
        Condition::IsNull { value, .. } | Condition::Holds(value) => !is_safe(value),
        Condition::Exists(property) => matches!(property, Property::UnknownSystem(_)),
    }
}

fn field(operand: &Operand) -> Option<Field> {
    match operand {
        Operand::Property(Property::User(name)) => Some(Field::User(name.clone())),
        Operand::Property(Property::System(property)) => Some(Field::System(*property)),
        Operand::Property(Property::UnknownSystem(_))
        | Operand::Constant(_)
        | Operand::Named(_)
        | Operand::NewId
        | Operand::Plus(_)
        | Operand::Minus(_)
        | Operand::Chain { .. } => None,
    }
}

fn constant(operand: &Operand) -> Option<Key> {
    if let Operand::Constant(value) = operand { Key::of(value) } else { None }
}

/// As it is read from the other side.
fn mirrored(operator: Comparison) -> Comparison {
    match operator {
        Comparison::Equal | Comparison::NotEqual => operator,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}
