//! What can be wrong with the text of a filter, and what can go wrong when it runs.

use thiserror::Error;

use super::limits;

/// A text that is no filter, action or selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{problem} at character {position}")]
pub struct SyntaxError {
    /// Where, in characters from 1.
    pub position: usize,
    /// What is wrong there.
    pub problem: Problem,
}

impl SyntaxError {
    /// From a place in octets, which is what the lexer counts.
    pub(crate) fn new(text: &str, start: usize, problem: Problem) -> Self {
        let before = text.get(..start).unwrap_or(text);
        SyntaxError { position: before.chars().count() + 1, problem }
    }
}

/// What is wrong at a place in a text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// The text itself is too long.
    #[error("more than {max} characters", max = limits::TEXT_CHARS_MAX)]
    TooLong,
    /// A character that begins nothing.
    #[error("stray {0:?}")]
    StrayCharacter(char),
    /// A quote or bracket that is not closed.
    #[error("no closing {0}")]
    Unclosed(char),
    /// `[]`, `""`, or `@` without a name.
    #[error("a name without characters")]
    EmptyName,
    /// Digits that run into letters.
    #[error("not a number")]
    NotANumber,
    /// A number that neither 64 bits nor a double can hold.
    #[error("a number out of range")]
    NumberOutOfRange,
    /// Something else should stand here.
    #[error("{found} where {wanted} should be")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What could.
        wanted: &'static str,
    },
    /// Parentheses, `NOT`, signs or calls too deep within one another.
    #[error("more than {max} levels", max = limits::NESTING_MAX)]
    TooDeep,
    /// A condition where a value belongs, as in `(a = 1) + 2`.
    #[error("a condition where a value should be")]
    ConditionAsValue,
    /// A value that is never true or false, as in `a + 1 AND b = 2`.
    #[error("a value that is no condition")]
    ValueAsCondition,
    /// `x.name` where `x` is neither `sys` nor `user`.
    #[error("no scope named {0:?}")]
    NoSuchScope(String),
    /// A call of something that is no function.
    #[error("no function named {0:?}")]
    NoSuchFunction(String),
    /// A parameter that was not given with the text.
    #[error("no parameter named {0:?}")]
    NoSuchParameter(String),
    /// A `LIKE` that could only ever fail.
    #[error(transparent)]
    Like(#[from] LikeError),
    /// `SET` on what is the broker's to say.
    #[error("{0:?} cannot be set")]
    CannotBeSet(String),
    /// `REMOVE` on a system property.
    #[error("{0:?} cannot be removed, only set to NULL")]
    CannotBeRemoved(String),
    /// An action of too many statements.
    #[error("more than {max} statements", max = limits::STATEMENTS_MAX)]
    TooManyStatements,
}

/// What is wrong with the operands of a `LIKE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LikeError {
    /// One of them is no text.
    #[error("LIKE on something other than text")]
    NotText,
    /// What follows `ESCAPE` is not one character.
    #[error("an escape that is not one character")]
    BadEscape,
    /// The escape character ends the pattern.
    #[error("a pattern that ends with its escape character")]
    NothingEscaped,
    /// The pattern is too long.
    #[error("a pattern of more than {max} characters", max = limits::PATTERN_CHARS_MAX)]
    TooLong,
}

/// Why a filter or action has no result for a message: what Service Bus calls a filter exception.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EvaluationError {
    /// `sys.` and a name that no system property has.
    #[error("no system property named {0:?}")]
    NoSuchSystemProperty(String),
    /// An integer divided by zero.
    #[error("division by zero")]
    DivisionByZero,
    /// An integer that 64 bits cannot hold.
    #[error("an integer out of range")]
    Overflow,
    /// A `LIKE` whose operands do not fit.
    #[error(transparent)]
    Like(#[from] LikeError),
    /// `+` builds too long a text.
    #[error("a text of more than {max} octets", max = limits::BUILT_TEXT_MAX)]
    TextTooLong,
    /// The filter costs too much on this message.
    #[error("more than {max} steps", max = limits::STEPS_MAX)]
    TooManySteps,
    /// The filters of the topic together cost too much on this message.
    #[error("more than {max} steps of all filters together", max = limits::MESSAGE_STEPS_MAX)]
    TooMuchTogether,
    /// A value that a system property cannot have.
    #[error("{property:?} cannot be {found}")]
    WrongType {
        /// The system property that was to be set.
        property: &'static str,
        /// The type of the value.
        found: &'static str,
    },
}
