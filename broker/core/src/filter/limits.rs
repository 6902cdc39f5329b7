//! What a filter or an action may cost, to write and to run.

/// Characters in the text of a filter, an action or a selector: what Service Bus documents. It
/// bounds everything that is built from the text.
pub const TEXT_CHARS_MAX: usize = 1_024;

/// Statements in an action: what Service Bus documents. Each may change one property.
pub const STATEMENTS_MAX: usize = 32;

/// Levels of parentheses, `NOT`, signs and function calls within one another. The parser and the
/// evaluation call themselves once a level; people write three or four, programs perhaps a dozen.
pub const NESTING_MAX: usize = 32;

/// Steps of one evaluation. A step is a node visited, or some 64 octets of text looked through, and
/// takes some 50 ns at most: the most expensive filter holds the broker up for about a millisecond.
pub const STEPS_MAX: u32 = 16_384;

/// Steps of all filters and actions that run for one message together: what the sixteen most expensive
/// take, or more than a hundred for each SQL filter that a topic may have. Some 13 ms at most.
pub const MESSAGE_STEPS_MAX: u32 = 16 * STEPS_MAX;

/// Intervals that an index keeps of one filter. A longer `IN` list is found by fewer, wider ones.
pub const INTERVALS_MAX: usize = 64;

/// Octets of text that `+` may build. Service Bus keeps no property longer than 32 KiB, so longer
/// text could neither be stored nor be equal to anything.
pub const BUILT_TEXT_MAX: usize = 32 * 1_024;

/// Characters of a `LIKE` pattern that comes from a message and not from the filter's own text,
/// which could not hold a longer one.
pub const PATTERN_CHARS_MAX: usize = TEXT_CHARS_MAX;

/// Characters of a message id, a session id or a partition key: what Service Bus documents. An
/// action may not make longer ones than a sender may.
pub const ID_CHARS_MAX: usize = 128;
