//! Running a compiled filter over the properties of one message.

use peeklock_protocol::value::Value;

use super::ast::{Comparison, Property};
use super::compile::{Condition, LikePattern, Operand};
use super::datum::{self, Datum, Text};
use super::error::{EvaluationError, LikeError};
use super::like::{self, Pattern};
use super::limits::{MESSAGE_STEPS_MAX, STEPS_MAX};
use super::name::Name;
use super::properties::Properties;
use super::truth::Truth;

/// One run. Conditions and values call one another no deeper than the text was nested.
pub(crate) struct Evaluation<'a, 'i> {
    properties: &'a dyn Properties,
    new_id: &'i mut dyn FnMut() -> [u8; 16],
    steps_left: u32,
}

/// Steps that all runs for one message may still take together. Each has a bound of its own besides.
#[derive(Debug)]
pub struct Allowance {
    steps_left: u32,
}

impl Allowance {
    /// Of so many steps.
    pub const fn of(steps: u32) -> Self {
        Allowance { steps_left: steps }
    }

    /// One run.
    pub(crate) fn run<'a, R>(
        &mut self,
        properties: &'a dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
        run: impl FnOnce(&mut Evaluation<'a, '_>) -> Result<R, EvaluationError>,
    ) -> Result<R, EvaluationError> {
        let granted = STEPS_MAX.min(self.steps_left);
        let mut evaluation = Evaluation { properties, new_id, steps_left: granted };
        let outcome = run(&mut evaluation);
        self.steps_left -= granted - evaluation.steps_left;
        if granted < STEPS_MAX && matches!(outcome, Err(EvaluationError::TooManySteps)) {
            return Err(EvaluationError::TooMuchTogether);
        }
        outcome
    }
}

impl Default for Allowance {
    /// For one message.
    fn default() -> Self {
        Allowance::of(MESSAGE_STEPS_MAX)
    }
}

impl<'a, 'i> Evaluation<'a, 'i> {
    /// Over these properties. `new_id` is what `newid()` draws from.
    pub(crate) fn new(
        properties: &'a dyn Properties,
        new_id: &'i mut dyn FnMut() -> [u8; 16],
    ) -> Self {
        Evaluation { properties, new_id, steps_left: STEPS_MAX }
    }

    /// What was spent so far.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn steps(&self) -> u32 {
        STEPS_MAX - self.steps_left
    }

    pub(crate) fn condition(&mut self, condition: &'a Condition) -> Result<Truth, EvaluationError> {
        self.spend(1)?;
        match condition {
            Condition::Known(truth) => Ok(*truth),
            Condition::Any(items) => self.until(items, Truth::True),
            Condition::All(items) => self.until(items, Truth::False),
            Condition::Not(item) => self.condition(item).map(Truth::not),
            Condition::Compare { operator, left, right } => {
                if let (Some(left), Some(right)) = (self.plain(left)?, self.plain(right)?) {
                    return Ok(datum::compare_values(*operator, left, right));
                }
                let left = self.operand(left)?;
                let right = self.operand(right)?;
                Ok(datum::compare(*operator, &left, &right))
            }
            Condition::In { value, list, negated } => {
                self.is_in(value, list).map(|truth| truth.negated_if(*negated))
            }
            Condition::Like { value, pattern, negated } => {
                self.is_like(value, pattern).map(|truth| truth.negated_if(*negated))
            }
            Condition::IsNull { value, negated } => {
                let is_null = self.operand(value)?.is_absent();
                Ok(Truth::from(is_null).negated_if(*negated))
            }
            Condition::Exists(property) => self.property(property).map(|v| v.is_some().into()),
            Condition::Holds(value) => Ok(self.operand(value)?.truth()),
        }
    }

    /// `OR` ends at the first that is true, `AND` at the first that is false. Short of that, one
    /// that is unknown makes the whole so.
    fn until(&mut self, items: &'a [Condition], end: Truth) -> Result<Truth, EvaluationError> {
        let mut outcome = end.not();
        for item in items {
            let truth = self.condition(item)?;
            if truth == end {
                return Ok(end);
            }
            if truth == Truth::Unknown {
                outcome = Truth::Unknown;
            }
        }
        Ok(outcome)
    }

    /// Only the value before `IN` makes the outcome unknown: one of the list that is unknown, or of
    /// another type, is no match.
    fn is_in(&mut self, value: &'a Operand, list: &'a [Operand]) -> Result<Truth, EvaluationError> {
        let plain = self.plain(value)?;
        let value = self.operand(value)?;
        if value.is_absent() {
            return Ok(Truth::Unknown);
        }
        for item in list {
            self.spend(1)?;
            let truth = match (plain, self.plain(item)?) {
                (Some(value), Some(item)) => datum::compare_values(Comparison::Equal, value, item),
                _ => datum::compare(Comparison::Equal, &value, &self.operand(item)?),
            };
            if truth.is_true() {
                return Ok(Truth::True);
            }
        }
        Ok(Truth::False)
    }

    fn is_like(
        &mut self,
        value: &'a Operand,
        pattern: &'a LikePattern,
    ) -> Result<Truth, EvaluationError> {
        let (pattern, escape) = match pattern {
            LikePattern::Ready(pattern) => {
                if let Some(Value::String(text)) = self.plain(value)? {
                    return self.covers(pattern, text);
                }
                return match text_of(&self.operand(value)?)? {
                    Some(text) => self.covers(pattern, text),
                    None => Ok(Truth::Unknown),
                };
            }
            LikePattern::Computed { pattern, escape } => (pattern, escape),
        };
        let value = self.operand(value)?;
        match (self.pattern(pattern, escape.as_ref())?, text_of(&value)?) {
            (Some(pattern), Some(text)) => self.covers(&pattern, text),
            _ => Ok(Truth::Unknown),
        }
    }

    fn covers(&mut self, pattern: &Pattern, text: &str) -> Result<Truth, EvaluationError> {
        self.spend(pattern.steps(text))?;
        Ok(pattern.matches(text).into())
    }

    /// None if the pattern or its escape character is unknown.
    fn pattern(
        &mut self,
        pattern: &'a Operand,
        escape: Option<&'a Operand>,
    ) -> Result<Option<Pattern>, EvaluationError> {
        let pattern = self.operand(pattern)?;
        let Some(text) = text_of(&pattern)? else { return Ok(None) };
        let mut escape_character = None;
        if let Some(operand) = escape {
            let escape = self.operand(operand)?;
            let Some(text) = text_of(&escape).map_err(|_| LikeError::BadEscape)? else {
                return Ok(None);
            };
            escape_character = Some(like::escape_character(text)?);
        }
        // To prepare a pattern is more work than to match it once.
        self.spend(u32::try_from(text.len()).unwrap_or(u32::MAX))?;
        Ok(Some(Pattern::new(text, escape_character)?))
    }

    pub(crate) fn operand(&mut self, operand: &'a Operand) -> Result<Datum<'a>, EvaluationError> {
        self.spend(1)?;
        match operand {
            Operand::Constant(value) => Ok(Datum::from(value)),
            Operand::Property(_) | Operand::Named(_) => {
                Ok(self.lookup(operand)?.map_or(Datum::Unknown, Datum::from))
            }
            Operand::NewId => Ok(Datum::Uuid((self.new_id)())),
            Operand::Plus(value) => self.operand(value).map(datum::plus),
            Operand::Minus(value) => datum::negate(&self.operand(value)?),
            Operand::Chain { first, rest } => {
                let mut result = self.operand(first)?;
                for (operator, value) in rest {
                    let value = self.operand(value)?;
                    result = datum::calculate(*operator, &result, &value)?;
                    if let Datum::Text(Text::Built(text)) = &result {
                        self.spend(u32::try_from(text.len() / 64).unwrap_or(u32::MAX))?;
                    }
                }
                Ok(result)
            }
        }
    }

    /// The value that an operand names, as it is in the message; none if it is missing, or names
    /// no property.
    pub(crate) fn lookup(
        &mut self,
        operand: &'a Operand,
    ) -> Result<Option<&'a Value>, EvaluationError> {
        match operand {
            Operand::Property(property) => self.property(property),
            Operand::Named(name) => {
                let name = self.operand(name)?;
                let Datum::Text(name) = name else { return Ok(None) };
                self.spend(u32::try_from(name.as_bytes().len() / 64).unwrap_or(u32::MAX))?;
                Ok(self.properties.user(&Name::new(name.as_str())))
            }
            Operand::Constant(_)
            | Operand::NewId
            | Operand::Plus(_)
            | Operand::Minus(_)
            | Operand::Chain { .. } => Ok(None),
        }
    }

    /// The value of a constant, or of a property that is there: what most comparisons are about.
    fn plain(&self, operand: &'a Operand) -> Result<Option<&'a Value>, EvaluationError> {
        match operand {
            Operand::Constant(value) => Ok(Some(value)),
            Operand::Property(property) => self.property(property),
            Operand::Named(_)
            | Operand::NewId
            | Operand::Plus(_)
            | Operand::Minus(_)
            | Operand::Chain { .. } => Ok(None),
        }
    }

    fn property(&self, property: &Property) -> Result<Option<&'a Value>, EvaluationError> {
        match property {
            Property::User(name) => Ok(self.properties.user(name)),
            Property::System(property) => Ok(self.properties.system(*property)),
            Property::UnknownSystem(name) => {
                Err(EvaluationError::NoSuchSystemProperty(name.as_str().to_owned()))
            }
        }
    }

    fn spend(&mut self, steps: u32) -> Result<(), EvaluationError> {
        self.steps_left =
            self.steps_left.checked_sub(steps).ok_or(EvaluationError::TooManySteps)?;
        Ok(())
    }
}

/// None if it is absent.
fn text_of<'d>(value: &'d Datum<'_>) -> Result<Option<&'d str>, LikeError> {
    if let Datum::Text(text) = value {
        return Ok(Some(text.as_str()));
    }
    if value.is_absent() { Ok(None) } else { Err(LikeError::NotText) }
}
