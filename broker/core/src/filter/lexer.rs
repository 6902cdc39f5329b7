//! Text to tokens. Both dialects have the same ones, but for what a name may be made of.

use std::borrow::Cow;

use super::error::{Problem, SyntaxError};
use super::limits::TEXT_CHARS_MAX;

/// Which grammar a text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Rules of subscriptions.
    Sql,
    /// JMS message selectors.
    Selector,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'t> {
    /// Where it begins, in octets.
    pub(crate) start: usize,
    pub(crate) kind: TokenKind<'t>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum TokenKind<'t> {
    /// A keyword or a name.
    Word(&'t str),
    /// A name in brackets or double quotes, which is never a keyword.
    Delimited(Cow<'t, str>),
    Parameter(&'t str),
    Integer(u64),
    Double(f64),
    Text(Cow<'t, str>),
    Sign(Sign),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    Open,
    Close,
    Comma,
    Dot,
    Semicolon,
}

/// Longer ones first, so that `<=` is not read as `<` and `=`.
const SIGNS: [(&str, Sign); 17] = [
    ("<>", Sign::NotEqual),
    ("!=", Sign::NotEqual),
    ("<=", Sign::LessOrEqual),
    (">=", Sign::GreaterOrEqual),
    ("=", Sign::Equal),
    ("<", Sign::Less),
    (">", Sign::Greater),
    ("+", Sign::Plus),
    ("-", Sign::Minus),
    ("*", Sign::Star),
    ("/", Sign::Slash),
    ("%", Sign::Percent),
    ("(", Sign::Open),
    (")", Sign::Close),
    (",", Sign::Comma),
    (".", Sign::Dot),
    (";", Sign::Semicolon),
];

/// What no name may be without brackets, in either dialect.
const KEYWORDS: [&str; 11] =
    ["AND", "OR", "NOT", "IN", "LIKE", "ESCAPE", "IS", "NULL", "EXISTS", "TRUE", "FALSE"];

pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(word))
}

/// Whether a name can stand in a filter without brackets.
pub(crate) fn is_regular_name(name: &str) -> bool {
    name.starts_with(char::is_alphabetic)
        && name.chars().all(|c| continues_name(Dialect::Sql, c))
        && !is_keyword(name)
}

fn begins_name(dialect: Dialect, c: char) -> bool {
    c.is_alphabetic() || (dialect == Dialect::Selector && matches!(c, '_' | '$'))
}

fn continues_name(dialect: Dialect, c: char) -> bool {
    c.is_alphanumeric() || c == '_' || (dialect == Dialect::Selector && c == '$')
}

/// All tokens of a text, the end included.
pub(crate) fn tokens(text: &str, dialect: Dialect) -> Result<Vec<Token<'_>>, SyntaxError> {
    if let Some((start, _)) = text.char_indices().nth(TEXT_CHARS_MAX) {
        return Err(SyntaxError::new(text, start, Problem::TooLong));
    }
    let mut lexer = Lexer { text, rest: text, dialect };
    let mut tokens = Vec::new();
    loop {
        let token = lexer.next()?;
        let is_end = token.kind == TokenKind::End;
        tokens.push(token);
        if is_end {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    rest: &'t str,
    dialect: Dialect,
}

impl<'t> Lexer<'t> {
    fn next(&mut self) -> Result<Token<'t>, SyntaxError> {
        self.rest = self.rest.trim_start();
        let start = self.text.len() - self.rest.len();
        let kind = self.kind().map_err(|problem| SyntaxError::new(self.text, start, problem))?;
        Ok(Token { start, kind })
    }

    fn kind(&mut self) -> Result<TokenKind<'t>, Problem> {
        let Some(first) = self.rest.chars().next() else { return Ok(TokenKind::End) };
        if begins_name(self.dialect, first) {
            return Ok(TokenKind::Word(self.name()));
        }
        if first.is_ascii_digit() || (self.dialect == Dialect::Selector && self.begins_fraction()) {
            return self.number();
        }
        match (first, self.dialect) {
            ('\'', _) => self.quoted('\'', '\'').map(TokenKind::Text),
            ('"', Dialect::Sql) => self.delimited('"', '"'),
            ('[', Dialect::Sql) => self.delimited('[', ']'),
            ('@', Dialect::Sql) => {
                self.rest = &self.rest[1..];
                let name = self.name();
                if name.is_empty() {
                    Err(Problem::EmptyName)
                } else {
                    Ok(TokenKind::Parameter(name))
                }
            }
            _ => self.sign(first),
        }
    }

    fn name(&mut self) -> &'t str {
        let dialect = self.dialect;
        self.take_while(|c| continues_name(dialect, c))
    }

    fn sign(&mut self, first: char) -> Result<TokenKind<'t>, Problem> {
        let found =
            SIGNS.iter().find_map(|(text, sign)| Some((self.rest.strip_prefix(text)?, sign)));
        let (rest, sign) = found.ok_or(Problem::StrayCharacter(first))?;
        self.rest = rest;
        Ok(TokenKind::Sign(*sign))
    }

    fn delimited(&mut self, open: char, close: char) -> Result<TokenKind<'t>, Problem> {
        let name = self.quoted(open, close)?;
        if name.is_empty() { Err(Problem::EmptyName) } else { Ok(TokenKind::Delimited(name)) }
    }

    /// What stands between two quotes. The closing one, doubled, stands for itself.
    fn quoted(&mut self, open: char, close: char) -> Result<Cow<'t, str>, Problem> {
        let inside = &self.rest[open.len_utf8()..];
        let mut characters = inside.char_indices();
        let mut has_doubled = false;
        while let Some((at, c)) = characters.next() {
            if c != close {
                continue;
            }
            let after = &inside[at + close.len_utf8()..];
            if after.starts_with(close) {
                has_doubled = true;
                characters.next();
                continue;
            }
            self.rest = after;
            let content = &inside[..at];
            if !has_doubled {
                return Ok(Cow::Borrowed(content));
            }
            let doubled = [close, close].iter().collect::<String>();
            return Ok(Cow::Owned(content.replace(&doubled, &close.to_string())));
        }
        Err(Problem::Unclosed(close))
    }

    fn begins_fraction(&self) -> bool {
        let fraction = self.rest.strip_prefix('.');
        fraction.is_some_and(|digits| digits.starts_with(|c: char| c.is_ascii_digit()))
    }

    fn number(&mut self) -> Result<TokenKind<'t>, Problem> {
        let whole = self.rest;
        self.digits();
        let integer = consumed(whole, self.rest);
        let is_selector = self.dialect == Dialect::Selector;
        if self.begins_fraction() {
            self.rest = &self.rest[1..];
            self.digits();
        } else if is_selector && self.rest.starts_with('.') {
            self.rest = &self.rest[1..];
        }
        if self.begins_exponent() {
            self.rest = self.rest[1..].trim_start_matches(['+', '-']);
            self.digits();
        }
        let number = consumed(whole, self.rest);
        if is_selector {
            // Java's marks for types that the value has anyway.
            let marks = if number == integer { ['L', 'l'] } else { ['D', 'd'] };
            self.rest = self.rest.strip_prefix(marks).unwrap_or(self.rest);
        }
        if self.rest.starts_with(|c| continues_name(self.dialect, c)) {
            return Err(Problem::NotANumber);
        }
        if number == integer {
            return number.parse().map(TokenKind::Integer).map_err(|_| Problem::NumberOutOfRange);
        }
        match number.parse::<f64>() {
            Ok(double) if double.is_finite() => Ok(TokenKind::Double(double)),
            _ => Err(Problem::NumberOutOfRange),
        }
    }

    /// `e`, perhaps a sign, and a digit.
    fn begins_exponent(&self) -> bool {
        let Some(exponent) = self.rest.strip_prefix(['e', 'E']) else { return false };
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        digits.starts_with(|c: char| c.is_ascii_digit())
    }

    fn digits(&mut self) {
        self.take_while(|c| c.is_ascii_digit());
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

/// What of `before` was read when `after` is left.
fn consumed<'t>(before: &'t str, after: &str) -> &'t str {
    &before[..before.len() - after.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[TokenKind<'_>]) {
        let found: Vec<_> =
            tokens(text, Dialect::Sql).unwrap().into_iter().map(|t| t.kind).collect();
        assert_eq!(found.split_last(), Some((&TokenKind::End, expected)), "{text}");
    }

    #[track_caller]
    fn check_error(text: &str, position: usize, problem: Problem) {
        assert_eq!(tokens(text, Dialect::Sql), Err(SyntaxError { position, problem }), "{text}");
    }

    #[test]
    fn words_and_delimited_names() {
        check("", &[]);
        check(" \t\r\n", &[]);
        check("Color größe a_1 日本", &["Color", "größe", "a_1", "日本"].map(TokenKind::Word));
        let delimited = |name: &'static str| TokenKind::Delimited(name.into());
        check("[a b]\"a b\"", &[delimited("a b"), delimited("a b")]);
        check("[a]]b] \"say \"\"hi\"\"\"", &[delimited("a]b"), delimited("say \"hi\"")]);
        check("[']", &[delimited("'")]);
        check("@min", &[TokenKind::Parameter("min")]);
    }

    #[test]
    fn numbers_and_text() {
        check("0 007 18446744073709551615", &[0, 7, u64::MAX].map(TokenKind::Integer));
        check("1.5 2e3 2.5E-1 1e+2", &[1.5, 2000.0, 0.25, 100.0].map(TokenKind::Double));
        let text = |text: &'static str| TokenKind::Text(text.into());
        check("'' 'a''b' '''' 'ü\"['", &[text(""), text("a'b"), text("'"), text("ü\"[")]);
        check("1.a", &[TokenKind::Integer(1), TokenKind::Sign(Sign::Dot), TokenKind::Word("a")]);
    }

    #[test]
    fn signs_are_read_as_long_as_they_can_be() {
        use Sign::*;
        check("<><=>=!=", &[NotEqual, LessOrEqual, GreaterOrEqual, NotEqual].map(TokenKind::Sign));
        check("<>=", &[NotEqual, Equal].map(TokenKind::Sign));
        check(
            "+-*/%(),.;",
            &[Plus, Minus, Star, Slash, Percent]
                .map(TokenKind::Sign)
                .into_iter()
                .chain([Open, Close, Comma, Dot, Semicolon].map(TokenKind::Sign))
                .collect::<Vec<_>>(),
        );
    }

    #[test]
    fn errors_name_the_place_in_characters() {
        check_error("ü = 'abc", 5, Problem::Unclosed('\''));
        check_error("[abc]]", 1, Problem::Unclosed(']'));
        check_error("a \"b", 3, Problem::Unclosed('"'));
        check_error("a = []", 5, Problem::EmptyName);
        check_error("a = @", 5, Problem::EmptyName);
        check_error("日本 ! 1", 4, Problem::StrayCharacter('!'));
        check_error("a == 1 # b", 8, Problem::StrayCharacter('#'));
        check_error("_a = 1", 1, Problem::StrayCharacter('_'));
        check_error("a = 12b", 5, Problem::NotANumber);
        check_error("a = 1e", 5, Problem::NotANumber);
        check_error("a = 18446744073709551616", 5, Problem::NumberOutOfRange);
        check_error("a = 1e999", 5, Problem::NumberOutOfRange);
        assert!(tokens(&"ü".repeat(1_024), Dialect::Sql).is_ok());
        check_error(&"ü".repeat(1_025), 1_025, Problem::TooLong);
    }

    #[test]
    fn selectors_have_the_names_and_numbers_of_java() {
        let kinds = |text| -> Vec<_> {
            tokens(text, Dialect::Selector).unwrap().into_iter().map(|token| token.kind).collect()
        };
        let (word, double) = (TokenKind::Word, TokenKind::Double);
        assert_eq!(kinds("_a $b"), [word("_a"), word("$b"), TokenKind::End]);
        assert_eq!(kinds("5. .5 1.5D"), [double(5.0), double(0.5), double(1.5), TokenKind::End]);
        assert_eq!(kinds("12L"), [TokenKind::Integer(12), TokenKind::End]);
        assert!(tokens("[a]", Dialect::Selector).is_err());
        assert!(tokens("@a", Dialect::Selector).is_err());
    }
}
