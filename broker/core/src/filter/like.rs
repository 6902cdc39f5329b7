//! `LIKE` in time linear in the text, whatever the pattern: nothing is ever tried again.

use smallvec::{SmallVec, smallvec};

use super::error::LikeError;
use super::limits::PATTERN_CHARS_MAX;

/// A pattern, ready to be matched. It has to cover the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// No wildcard.
    Exact(Box<str>),
    /// Runs of characters with `%` between them.
    Runs { first: Box<str>, middle: Box<[Box<str>]>, last: Box<str> },
    /// There is a `_` in it.
    Machine(Machine),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Character(char),
    /// `_`
    One,
    /// `%`
    Many,
}

impl Pattern {
    /// Reads a pattern. What follows the escape character stands for itself.
    pub(crate) fn new(text: &str, escape: Option<char>) -> Result<Self, LikeError> {
        let symbols = symbols(text, escape)?;
        if symbols.contains(&Symbol::One) {
            return Ok(Pattern::Machine(Machine::new(&symbols)));
        }
        let mut runs: Vec<Box<str>> =
            symbols.split(|symbol| *symbol == Symbol::Many).map(run).collect();
        let last = runs.pop().unwrap_or_default();
        if runs.is_empty() {
            return Ok(Pattern::Exact(last));
        }
        let first = runs.remove(0);
        runs.retain(|run| !run.is_empty());
        Ok(Pattern::Runs { first, middle: runs.into(), last })
    }

    /// Whether it covers `text`.
    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Pattern::Exact(exact) => **exact == *text,
            Pattern::Runs { first, middle, last } => {
                let inside =
                    text.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last));
                // The earliest place of a run leaves the most to those behind it.
                let rest = middle.iter().try_fold(inside, |rest, run| {
                    let (_, rest) = rest?.split_once(&**run)?;
                    Some(Some(rest))
                });
                rest.flatten().is_some()
            }
            Pattern::Machine(machine) => machine.matches(text),
        }
    }

    /// What a match with `text` costs, in steps of an evaluation.
    pub(crate) fn steps(&self, text: &str) -> u32 {
        let steps = match self {
            Pattern::Exact(_) => 1,
            Pattern::Runs { first, .. } if !text.starts_with(&**first) => 1,
            Pattern::Runs { .. } => 1 + text.len() / 64,
            Pattern::Machine(machine) => 1 + text.len() * machine.words / 16,
        };
        u32::try_from(steps).unwrap_or(u32::MAX)
    }
}

/// What follows `ESCAPE`.
pub(crate) fn escape_character(text: &str) -> Result<char, LikeError> {
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(escape), None) => Ok(escape),
        _ => Err(LikeError::BadEscape),
    }
}

fn symbols(text: &str, escape: Option<char>) -> Result<Vec<Symbol>, LikeError> {
    let mut symbols = Vec::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if symbols.len() == PATTERN_CHARS_MAX {
            return Err(LikeError::TooLong);
        }
        symbols.push(match c {
            c if Some(c) == escape => {
                Symbol::Character(characters.next().ok_or(LikeError::NothingEscaped)?)
            }
            '%' => Symbol::Many,
            '_' => Symbol::One,
            c => Symbol::Character(c),
        });
    }
    Ok(symbols)
}

fn run(symbols: &[Symbol]) -> Box<str> {
    let character = |symbol: &Symbol| match symbol {
        Symbol::Character(c) => Some(*c),
        Symbol::One | Symbol::Many => None,
    };
    symbols.iter().filter_map(character).collect::<String>().into()
}

/// All ways to match at once, a bit each: bit `i` says that what was read so far may be the first
/// `i` symbols, `%` not counted. A character moves every bit up by one where the next symbol is that
/// character or `_`, and leaves it where a `%` stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Octets of state, by eights.
    words: usize,
    /// Symbols, `%` not counted.
    len: usize,
    /// The characters of the pattern in order.
    alphabet: Box<[char]>,
    /// For each of them, and at last for every other character: which bits move up.
    moves: Box<[u64]>,
    /// Which bits stay.
    stays: Box<[u64]>,
}

impl Machine {
    fn new(symbols: &[Symbol]) -> Self {
        let mut alphabet: Vec<char> = run(symbols).chars().collect();
        alphabet.sort_unstable();
        alphabet.dedup();
        let len = symbols.iter().filter(|symbol| **symbol != Symbol::Many).count();
        let words = len / 64 + 1;
        let mut moves = vec![0_u64; words * (alphabet.len() + 1)];
        let mut stays = vec![0_u64; words];
        let mut at = 0;
        for symbol in symbols {
            let (word, bit) = (at / 64, 1 << (at % 64));
            match symbol {
                Symbol::Many => stays[word] |= bit,
                Symbol::One => moves.chunks_exact_mut(words).for_each(|row| row[word] |= bit),
                Symbol::Character(c) => {
                    let row = alphabet.binary_search(c).expect("made of these characters");
                    moves[row * words + word] |= bit;
                }
            }
            at += usize::from(*symbol != Symbol::Many);
        }
        let (alphabet, moves, stays) = (alphabet.into(), moves.into(), stays.into());
        Machine { words, len, alphabet, moves, stays }
    }

    fn matches(&self, text: &str) -> bool {
        let mut state: SmallVec<[u64; 4]> = smallvec![0; self.words];
        state[0] = 1;
        for c in text.chars() {
            let row = self.alphabet.binary_search(&c).unwrap_or(self.alphabet.len());
            let moves = &self.moves[row * self.words..][..self.words];
            let mut carry = 0;
            for ((word, moves), stays) in state.iter_mut().zip(moves).zip(&self.stays) {
                let moving = *word & moves;
                *word = (*word & stays) | (moving << 1) | carry;
                carry = moving >> 63;
            }
        }
        state[self.len / 64] >> (self.len % 64) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Dice;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        let pattern = Pattern::new(pattern, None).unwrap();
        for text in matching {
            assert!(pattern.matches(text), "{text:?}");
        }
        for text in other {
            assert!(!pattern.matches(text), "{text:?}");
        }
    }

    #[test]
    fn both_ends_are_fixed() {
        check("", &[""], &["a"]);
        check("abc", &["abc"], &["", "ab", "abcd", "ABC"]);
        check("a%", &["a", "ab", "a%"], &["", "ba"]);
        check("%c", &["c", "bc"], &["", "ca"]);
        check("%b%", &["b", "abc"], &["", "ac"]);
        check("a%c", &["ac", "abc", "acc"], &["a", "c", "acb"]);
        check("%", &["", "a", "ü\n"], &[]);
        check("%%", &["", "a"], &[]);
        check("aba%aba", &["abaaba", "abaXaba"], &["aba", "ababa"]);
        check("%ab%ab%", &["abab", "xabyabz"], &["ab", "aab"]);
    }

    #[test]
    fn an_underscore_is_one_character_of_any_width() {
        check("_", &["a", "ü", "日", "😀"], &["", "ab"]);
        check("a_c", &["abc", "aüc", "a_c"], &["ac", "abbc"]);
        check("_%", &["a", "ab"], &[""]);
        check("%_", &["a", "ab"], &[""]);
        check("a%_c%d_", &["axcde", "aXXcYYdZ"], &["acde", "axcd"]);
    }

    #[test]
    fn an_escaped_character_stands_for_itself() {
        let escaped = |pattern, text| Pattern::new(pattern, Some('!')).unwrap().matches(text);
        assert!(escaped("100!%", "100%") && !escaped("100!%", "1000"));
        assert!(escaped("a!_b_", "a_bc") && !escaped("a!_b_", "axbc"));
        assert!(escaped("!!%", "!x") && escaped("!a", "a"));
        assert_eq!(Pattern::new("abc!", Some('!')), Err(LikeError::NothingEscaped));
        // A wildcard as the escape character is none any more.
        assert!(Pattern::new("%%a", Some('%')).unwrap().matches("%a"));
    }

    #[test]
    fn patterns_longer_than_a_word_of_state() {
        for len in [62, 63, 64, 65, 127, 128, 129, 1_000] {
            let pattern = Pattern::new(&format!("{}%b", "_".repeat(len)), None).unwrap();
            let text = "a".repeat(len);
            assert!(pattern.matches(&format!("{text}b")), "{len}");
            assert!(pattern.matches(&format!("{text}ab")), "{len}");
            assert!(!pattern.matches(&text), "{len}");
            assert!(!pattern.matches(&format!("{}b", &text[1..])), "{len}");
        }
        assert_eq!(Pattern::new(&"a".repeat(1_025), None), Err(LikeError::TooLong));
    }

    /// What blows up where a `%` is tried again and again takes its few steps here.
    #[test]
    fn no_pattern_is_slow() {
        let text = "a".repeat(30_000);
        for pattern in ["%a%a%a%a%a%a%a%a%a%b", "%_a%_a%_a%_a%_a%_a%b", "%aaaaaaaaaaaaaaaab%"] {
            let pattern = Pattern::new(pattern, None).unwrap();
            assert!(!pattern.matches(&text));
            assert!(pattern.steps(&text) < 2_000);
        }
        let longest = Pattern::new(&format!("%{}b", "_".repeat(1_000)), None).unwrap();
        assert!(longest.steps(&text) > 16_384, "refused, not run");
    }

    /// By definition, and with all the time in the world.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('%', rest)) => (0..=text.len()).any(|skipped| naive(rest, &text[skipped..])),
            Some((c, rest)) => text
                .split_first()
                .is_some_and(|(t, text)| (*c == '_' || c == t) && naive(rest, text)),
        }
    }

    #[test]
    fn every_way_to_match_agrees_with_the_definition() {
        let mut dice = Dice::new(12);
        let mut matched = 0;
        for _ in 0..20_000 {
            let mut draw = |letters: &[char], len| -> Vec<char> {
                (0..dice.below(len)).map(|_| letters[dice.below(letters.len())]).collect()
            };
            let pattern = draw(&['a', 'b', '%', '_', 'ü'], 7);
            let text = draw(&['a', 'b', 'ü'], 9);
            let joined: String = text.iter().collect();
            let expected = naive(&pattern, &text);
            let pattern = Pattern::new(&pattern.iter().collect::<String>(), None).unwrap();
            assert_eq!(pattern.matches(&joined), expected, "{pattern:?} on {joined:?}");
            matched += usize::from(expected);
        }
        assert!(matched > 1_000, "only {matched} matched");
    }
}
