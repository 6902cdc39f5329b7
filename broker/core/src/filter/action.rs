//! What a rule changes in the copies it lets through: `SET` and `REMOVE`.

use peeklock_protocol::message::MessageId;
use peeklock_protocol::value::{F32, F64, Str, Value};

use super::ast::{Property, Statement};
use super::compile::{self, Operand};
use super::datum::{Datum, to_double};
use super::decimal::Decimal;
use super::error::{EvaluationError, SyntaxError};
use super::evaluate::{Allowance, Evaluation};
use super::limits::ID_CHARS_MAX;
use super::name::Name;
use super::parser;
use super::properties::Properties;
use super::sql::named;
use super::system::{SystemProperty, SystemType};

/// An action, ready to run.
#[derive(Clone, Debug)]
pub struct Action {
    text: Box<str>,
    steps: Box<[Step]>,
}

/// A statement, ready to run.
#[derive(Clone, Debug)]
enum Step {
    SetUser(Name, Operand),
    SetSystem(SystemProperty, Operand),
    Remove(Name),
}

/// What becomes of one property. None means that it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyChange {
    /// Of a property that the sender chose.
    User {
        /// Its name, which may be spelled otherwise in the message.
        name: Name,
        /// Its new value.
        value: Option<Value>,
    },
    /// Of a property of the message itself.
    System {
        /// Which one.
        property: SystemProperty,
        /// Its new value: a string, a timestamp, or a timespan.
        value: Option<Value>,
    },
}

impl Action {
    /// An action without parameters.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Self::with_parameters(text, &[])
    }

    /// An action whose text may name parameters, as `@name`.
    pub fn with_parameters(text: &str, parameters: &[(Str, Value)]) -> Result<Self, SyntaxError> {
        let parameters = named(parameters);
        let names: Vec<Name> = parameters.iter().map(|(name, _)| name.clone()).collect();
        let statements = parser::statements(text, &names)?;
        let steps = statements.into_iter().map(|statement| match statement {
            Statement::Set { target, value } => {
                let value = compile::operand(&value, &parameters);
                match target {
                    Property::User(name) => Step::SetUser(name, value),
                    Property::System(property) => Step::SetSystem(property, value),
                    Property::UnknownSystem(_) => unreachable!("the parser refuses it"),
                }
            }
            Statement::Remove(Property::User(name)) => Step::Remove(name),
            Statement::Remove(_) => unreachable!("the parser refuses it"),
        });
        Ok(Action { text: text.into(), steps: steps.collect() })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it changes in a message: one change for each property, in the order in which they were
    /// first named. Statements see what earlier ones did. `newid()` draws from `new_id`; all filters and
    /// actions for the message share the allowance.
    pub fn run(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
        allowance: &mut Allowance,
    ) -> Result<Vec<PropertyChange>, EvaluationError> {
        let mut changed = Changed { properties, changes: Vec::new() };
        for step in &self.steps {
            let change =
                allowance.run(&changed, new_id, |evaluation| changed.change(step, evaluation))?;
            changed.note(change);
        }
        Ok(changed.changes)
    }
}

/// A message as it will be.
struct Changed<'p> {
    properties: &'p dyn Properties,
    changes: Vec<PropertyChange>,
}

impl Changed<'_> {
    fn change<'a>(
        &'a self,
        step: &'a Step,
        evaluation: &mut Evaluation<'a, '_>,
    ) -> Result<PropertyChange, EvaluationError> {
        Ok(match step {
            Step::Remove(name) => PropertyChange::User { name: name.clone(), value: None },
            Step::SetUser(name, operand) => {
                // A property that is passed on keeps its type.
                let value = match evaluation.lookup(operand)? {
                    Some(value) => value.clone(),
                    None => evaluation.operand(operand)?.to_value(),
                };
                let value = self.user(name).map_or(value.clone(), |old| converted(&value, old));
                PropertyChange::User { name: name.clone(), value: Some(value) }
            }
            Step::SetSystem(property, operand) => {
                let value = system_value(*property, &evaluation.operand(operand)?)?;
                PropertyChange::System { property: *property, value }
            }
        })
    }

    fn note(&mut self, change: PropertyChange) {
        let earlier = self.changes.iter_mut().find(|earlier| match (&**earlier, &change) {
            (PropertyChange::User { name, .. }, PropertyChange::User { name: other, .. }) => {
                name.is_same(other)
            }
            (
                PropertyChange::System { property, .. },
                PropertyChange::System { property: other, .. },
            ) => property == other,
            _ => false,
        });
        match earlier {
            Some(earlier) => *earlier = change,
            None => self.changes.push(change),
        }
    }
}

impl Properties for Changed<'_> {
    fn system(&self, property: SystemProperty) -> Option<&Value> {
        let change = self.changes.iter().find_map(|change| match change {
            PropertyChange::System { property: changed, value } if *changed == property => {
                Some(value.as_ref())
            }
            PropertyChange::System { .. } | PropertyChange::User { .. } => None,
        });
        change.unwrap_or_else(|| self.properties.system(property))
    }

    fn user(&self, name: &Name) -> Option<&Value> {
        let change = self.changes.iter().find_map(|change| match change {
            PropertyChange::User { name: changed, value } if changed.is_same(name) => {
                Some(value.as_ref())
            }
            PropertyChange::System { .. } | PropertyChange::User { .. } => None,
        });
        change.unwrap_or_else(|| self.properties.user(name))
    }
}

/// The new value of a user property: in the type of the old one, where C# turns a long into that
/// type by itself.
fn converted(value: &Value, old: &Value) -> Value {
    let Some(number) = value.as_i64() else { return value.clone() };
    let double = to_double(number.into());
    if matches!(old, Value::Double(_)) {
        Value::Double(F64::from(double))
    } else if matches!(old, Value::Float(_)) {
        Value::Float(F32::from(to_single(double)))
    } else if matches!(old, Value::Decimal32(_) | Value::Decimal64(_) | Value::Decimal128(_)) {
        Value::Decimal128(Decimal::whole_as_decimal128(number))
    } else {
        value.clone()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "C# rounds to the nearest float, too")]
fn to_single(double: f64) -> f32 {
    double as f32
}

/// None if the property is to be cleared.
fn system_value(
    property: SystemProperty,
    value: &Datum<'_>,
) -> Result<Option<Value>, EvaluationError> {
    if value.is_absent() {
        return Ok(None);
    }
    let wrong = |found| EvaluationError::WrongType { property: property.name(), found };
    match (property.settable(), value) {
        (SystemType::Text, Datum::Text(text)) => {
            text_fits(property, text.as_str()).map_err(wrong)?;
            Ok(Some(value.to_value()))
        }
        // `SET sys.MessageId = newid()`
        (SystemType::Text, Datum::Uuid(octets)) => {
            Ok(Some((&*MessageId::Uuid(*octets).text()).into()))
        }
        (SystemType::Moment, Datum::Moment(_)) | (SystemType::Span, Datum::Span(_)) => {
            Ok(Some(value.to_value()))
        }
        _ => Err(wrong(value.type_name())),
    }
}

fn text_fits(property: SystemProperty, text: &str) -> Result<(), &'static str> {
    let is_id = matches!(
        property,
        SystemProperty::MessageId
            | SystemProperty::SessionId
            | SystemProperty::ReplyToSessionId
            | SystemProperty::PartitionKey
            | SystemProperty::ViaPartitionKey
    );
    if is_id && ID_CHARS_MAX < text.chars().count() {
        return Err("text of more than 128 characters");
    }
    if property == SystemProperty::ContentType && !text.is_ascii() {
        return Err("text that is not ASCII");
    }
    Ok(())
}
