//! Rules: which messages a subscription gets, and what it changes in its copies.

use std::sync::Arc;

use peeklock_protocol::message::{MapSectionKind, MapSectionWriter};
use peeklock_protocol::value::{Str, Value};

use super::limits::RULE_NAME_CHARS_MAX;
use crate::error::Error;
use crate::filter::{Action, CorrelationFilter, SqlFilter, SyntaxError, SystemProperty};
use crate::time::Timestamp;

/// The rule of a subscription that was created without one.
pub const DEFAULT_RULE: &str = "$Default";

/// A rule, as its owner wrote it.
#[derive(Clone, PartialEq, Debug)]
pub struct RuleDescription {
    /// What it is called. Names of one subscription compare without regard to case.
    pub name: Arc<str>,
    /// Which messages it lets through.
    pub filter: RuleFilter,
    /// What it changes in them. The subscription then gets a copy of their own for this rule.
    pub action: Option<SqlText>,
}

/// Which messages a rule lets through.
#[derive(Clone, PartialEq, Debug)]
pub enum RuleFilter {
    /// All.
    True,
    /// None.
    False,
    /// Those for which an expression is true.
    Sql(SqlText),
    /// Those for which a JMS selector is true. Clients of Service Bus are shown it as an expression.
    Selector(Str),
    /// Those that have certain properties.
    Correlation(Correlation),
}

/// A filter or an action as text.
#[derive(Clone, PartialEq, Debug)]
pub struct SqlText {
    /// The text.
    pub text: Str,
    /// The parameters it may name.
    pub parameters: Vec<(Str, Value)>,
}

/// What a message must have, all of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Correlation {
    /// Properties of the message itself.
    pub system: Vec<(SystemProperty, Str)>,
    /// Properties that the sender chose. Null asks for nothing.
    pub user: Vec<(Str, Value)>,
}

/// A rule in force.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// What it says.
    pub description: RuleDescription,
    /// Since when.
    pub created_at: Timestamp,
}

/// A filter, ready to run.
pub(crate) enum Compiled {
    Everything,
    Nothing,
    Sql(SqlFilter),
    Correlation(CorrelationFilter),
}

impl RuleDescription {
    /// The rule of a subscription that was created without one.
    pub fn default_rule() -> Self {
        RuleDescription { name: DEFAULT_RULE.into(), filter: RuleFilter::True, action: None }
    }

    /// Says what is wrong with it, if anything is.
    pub fn validate(&self, bytes_max: usize) -> Result<(), Error> {
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '$');
        if self.name.is_empty() || !self.name.chars().all(is_known) {
            return Err(Error::InvalidArgument("The name of the rule is not valid."));
        }
        if RULE_NAME_CHARS_MAX < self.name.len() {
            return Err(Error::InvalidArgument(
                "The name of the rule is longer than 50 characters.",
            ));
        }
        if bytes_max < self.bytes() {
            return Err(Error::InvalidArgument("The rule is too large."));
        }
        self.compile().map(drop).map_err(|error| Error::InvalidRule(error.to_string()))
    }

    /// Makes it ready to run.
    pub(crate) fn compile(&self) -> Result<(Compiled, Option<Action>), SyntaxError> {
        let filter = match &self.filter {
            RuleFilter::True => Compiled::Everything,
            RuleFilter::False => Compiled::Nothing,
            RuleFilter::Sql(SqlText { text, parameters }) => {
                Compiled::Sql(SqlFilter::with_parameters(text, parameters)?)
            }
            RuleFilter::Selector(text) => Compiled::Sql(SqlFilter::selector(text)?),
            RuleFilter::Correlation(Correlation { system, user }) => {
                let system = system.iter().cloned();
                Compiled::Correlation(CorrelationFilter::new(system, user.iter().cloned()))
            }
        };
        let action = self.action.as_ref();
        let action =
            action.map(|SqlText { text, parameters }| Action::with_parameters(text, parameters));
        Ok((filter, action.transpose()?))
    }

    /// How much it is: its texts and values, encoded.
    fn bytes(&self) -> usize {
        let filter = match &self.filter {
            RuleFilter::True | RuleFilter::False => 0,
            RuleFilter::Sql(text) => text.bytes(),
            RuleFilter::Selector(text) => text.len(),
            RuleFilter::Correlation(Correlation { system, user }) => {
                let texts: usize = system.iter().map(|(_, text)| text.len() + 4).sum();
                texts + encoded(user).len()
            }
        };
        filter + self.action.as_ref().map_or(0, SqlText::bytes)
    }
}

impl SqlText {
    /// A text without parameters.
    pub fn plain(text: &str) -> Self {
        SqlText { text: text.into(), parameters: Vec::new() }
    }

    fn bytes(&self) -> usize {
        self.text.len() + encoded(&self.parameters).len()
    }
}

/// Names and values as a section of a message has them.
pub(crate) fn encoded(values: &[(Str, Value)]) -> bytes::BytesMut {
    let mut out = bytes::BytesMut::new();
    if values.is_empty() {
        return out;
    }
    let mut writer = MapSectionWriter::new(&mut out, MapSectionKind::ApplicationProperties);
    for (name, value) in values {
        writer.entry(name, value);
    }
    writer.finish();
    out
}
