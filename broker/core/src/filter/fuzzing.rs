//! What the fuzz target in `broker/core/fuzz` runs on arbitrary bytes. A plain test replays its
//! corpus through the same function, which panics when a promise is broken.

use super::evaluate::Evaluation;
use super::lexer::Dialect;
use super::limits::{STATEMENTS_MAX, STEPS_MAX};
use super::message_properties::{Arrival, MessageProperties};
use super::{Action, Allowance, compile, parser, rewrite};
use crate::id::SequenceNumber;
use crate::message::IncomingMessage;
use crate::time::Timestamp;

/// A text up to the first zero, then a message: as a filter, as a selector and as an action.
pub fn filter(data: &[u8]) {
    let (text, message) = data.split_at(data.iter().position(|b| *b == 0).unwrap_or(data.len()));
    let text = String::from_utf8_lossy(text);
    let message = message.get(1..).and_then(|bytes| IncomingMessage::from_wire(bytes).ok());
    let message = message.or_else(|| IncomingMessage::from_wire(&[]).ok());
    let message = message.expect("a message may have no sections at all");
    let properties =
        MessageProperties::of_incoming(&message, Arrival::new(Timestamp(1), SequenceNumber(1)));
    for dialect in [Dialect::Sql, Dialect::Selector] {
        let predicate = match parser::predicate(&text, dialect, &[]) {
            Ok(predicate) => predicate,
            Err(error) => {
                assert!((1..=text.chars().count() + 1).contains(&error.position), "{error}");
                continue;
            }
        };
        let printed = predicate.to_string();
        // What is printed may be longer than what was written, and so too long.
        if dialect == Dialect::Sql
            && let Ok(again) = parser::predicate(&printed, dialect, &[])
        {
            assert_eq!(again, predicate, "read back from {printed}");
        }
        let condition = compile::condition(&predicate, &[]);
        let mut new_id = || [7; 16];
        let mut evaluation = Evaluation::new(&properties, &mut new_id);
        let outcome = evaluation.condition(&condition);
        assert!(evaluation.steps() <= STEPS_MAX);
        drop(outcome);
    }
    let Ok(action) = Action::parse(&text) else { return };
    let mut allowance = Allowance::default();
    let Ok(changes) = action.run(&properties, &mut || [7; 16], &mut allowance) else { return };
    assert!(changes.len() <= STATEMENTS_MAX);
    if let Ok(wire) = rewrite(message.bytes(), message.sections(), &changes) {
        IncomingMessage::from_wire(&wire).expect("what was rewritten is a message");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Whatever a fuzzer once found interesting, and what people write.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test may read files")]
    fn the_corpus_replays() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/filter");
        let mut replayed = 0;
        for file in std::fs::read_dir(folder).unwrap() {
            super::filter(&std::fs::read(file.unwrap().path()).unwrap());
            replayed += 1;
        }
        assert!(replayed >= 8, "the corpus holds {replayed} files");
    }
}
