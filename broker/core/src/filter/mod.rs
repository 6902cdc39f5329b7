//! Filters and actions of rules: which messages a subscription gets, and what it changes in them.
//!
//! - [`SqlFilter`] is a condition in the SQL dialect of Service Bus, or a JMS selector: `lexer` and
//!   `parser` make a tree (`ast`), `compile` makes it ready, `evaluate` runs it over [`Properties`].
//!   `datum` says what the values are and how they compare, `like` matches patterns.
//! - [`SqlIndex`] asks many SQL filters at once: `anchor` finds what a filter asks of one property, and
//!   `intervals` finds the filters whose property has the value of a message.
//! - [`CorrelationFilter`] asks for certain values, and [`CorrelationIndex`] asks many filters at once.
//! - [`Action`] computes what a rule changes, and [`rewrite`] writes the message that comes of it.
//! - [`MessageProperties`] are those of an encoded message.
//!
//! Nothing here knows topics or subscriptions. A text bounds what is built from it, and a run is
//! bounded in steps and depth (`limits`), whatever a message holds. Nothing is read of a message
//! but what a filter asks for.

mod action;
mod anchor;
mod ast;
mod compile;
mod correlation;
mod correlation_index;
mod datum;
mod decimal;
mod error;
mod evaluate;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod intervals;
mod lexer;
mod like;
pub mod limits;
mod message_properties;
mod name;
mod parser;
mod properties;
mod rewrite;
mod selector;
mod sql;
mod sql_index;
mod system;
mod truth;

pub use action::{Action, PropertyChange};
pub use correlation::CorrelationFilter;
pub use correlation_index::CorrelationIndex;
pub use error::{EvaluationError, LikeError, Problem, SyntaxError};
pub use evaluate::Allowance;
pub use message_properties::{Arrival, MessageProperties};
pub use name::Name;
pub use properties::Properties;
pub use rewrite::rewrite;
pub use sql::SqlFilter;
pub use sql_index::{Matches, SqlIndex};
pub use system::SystemProperty;
pub use truth::Truth;

#[cfg(test)]
mod tests;
