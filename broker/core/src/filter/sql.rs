//! Filters as text: those of rules, and selectors.

use std::fmt::Write as _;

use peeklock_protocol::value::{Str, Value};

use super::compile::{self, Condition};
use super::error::{EvaluationError, SyntaxError};
use super::evaluate::{Allowance, Evaluation};
use super::lexer::Dialect;
use super::name::Name;
use super::parser;
use super::properties::Properties;
use super::truth::Truth;

/// A filter, ready to run.
#[derive(Clone, Debug)]
pub struct SqlFilter {
    text: Box<str>,
    canonical: Box<str>,
    condition: Condition,
}

impl SqlFilter {
    /// A filter without parameters.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        Self::with_parameters(text, &[])
    }

    /// A filter whose text may name parameters, as `@name`.
    pub fn with_parameters(text: &str, parameters: &[(Str, Value)]) -> Result<Self, SyntaxError> {
        Self::new(text, Dialect::Sql, &named(parameters))
    }

    /// A JMS message selector.
    pub fn selector(text: &str) -> Result<Self, SyntaxError> {
        Self::new(text, Dialect::Selector, &[])
    }

    fn new(
        text: &str,
        dialect: Dialect,
        parameters: &[(Name, Value)],
    ) -> Result<Self, SyntaxError> {
        let names: Vec<Name> = parameters.iter().map(|(name, _)| name.clone()).collect();
        let predicate = parser::predicate(text, dialect, &names)?;
        let mut canonical = format!("{dialect:?} {predicate}");
        for (name, value) in parameters {
            write!(canonical, " @{} {value:?}", name.folded()).expect("a string takes it");
        }
        let condition = compile::condition(&predicate, parameters);
        Ok(SqlFilter { text: text.into(), canonical: canonical.into(), condition })
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Filters with the same canonical form let the same messages through: spaces, needless
    /// parentheses and the case of keywords are gone.
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// The outcome for a message. `newid()` draws from `new_id`.
    pub fn evaluate(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<Truth, EvaluationError> {
        Evaluation::new(properties, new_id).condition(&self.condition)
    }

    /// Whether it lets a message through, as one of several filters that share an allowance.
    pub fn matches_within(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
        allowance: &mut Allowance,
    ) -> Result<bool, EvaluationError> {
        allowance
            .run(properties, new_id, |evaluation| evaluation.condition(&self.condition))
            .map(Truth::is_true)
    }

    pub(crate) const fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Whether it lets a message through.
    pub fn matches(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<bool, EvaluationError> {
        self.evaluate(properties, new_id).map(Truth::is_true)
    }
}

pub(crate) fn named(parameters: &[(Str, Value)]) -> Vec<(Name, Value)> {
    // Clients write them as the text does, and without the sign.
    let bare = |name: &Str| Name::new(name.strip_prefix('@').unwrap_or(name));
    parameters.iter().map(|(name, value)| (bare(name), value.clone())).collect()
}
