//! Tokens to a tree, by recursive descent. Precedence from the loosest: `OR`, `AND`, `NOT`,
//! comparisons, sums, products, signs.

use super::ast::{Arithmetic, Comparison, Expr, Predicate, Property, Statement};
use super::error::{LikeError, Problem, SyntaxError};
use super::lexer::{Dialect, Sign, Token, TokenKind, is_keyword, tokens};
use super::like::{Pattern, escape_character};
use super::limits::{NESTING_MAX, STATEMENTS_MAX};
use super::name::Name;
use super::selector;
use super::system::{SystemProperty, SystemType};

/// The condition that a text states.
pub(crate) fn predicate(
    text: &str,
    dialect: Dialect,
    parameters: &[Name],
) -> Result<Predicate, SyntaxError> {
    let mut parser = Parser::new(text, dialect, parameters)?;
    let parsed = parser.disjunction()?;
    let predicate = parser.condition(parsed)?;
    parser.expect_end("an operator or the end")?;
    Ok(predicate)
}

/// The statements of an action.
pub(crate) fn statements(text: &str, parameters: &[Name]) -> Result<Vec<Statement>, SyntaxError> {
    let mut parser = Parser::new(text, Dialect::Sql, parameters)?;
    let mut statements = vec![parser.statement()?];
    while parser.take_sign(Sign::Semicolon) && parser.peek() != &TokenKind::End {
        if statements.len() == STATEMENTS_MAX {
            return Err(parser.error(Problem::TooManyStatements));
        }
        statements.push(parser.statement()?);
    }
    parser.expect_end("an operator, ';' or the end")?;
    Ok(statements)
}

/// What was read, and where it began. A value in parentheses may turn out to be a condition, so
/// both are read by the same functions and told apart where it matters.
struct Parsed {
    start: usize,
    tree: Tree,
}

enum Tree {
    Condition(Predicate),
    Value(Expr),
}

type Parse<T> = Result<T, SyntaxError>;

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token<'t>>,
    /// Index of the next token; the last one, which is the end, is never passed.
    at: usize,
    depth: usize,
    dialect: Dialect,
    parameters: &'t [Name],
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, dialect: Dialect, parameters: &'t [Name]) -> Parse<Self> {
        let tokens = tokens(text, dialect)?;
        Ok(Parser { text, tokens, at: 0, depth: 0, dialect, parameters })
    }

    fn disjunction(&mut self) -> Parse<Parsed> {
        self.joined("OR", Self::conjunction, Predicate::Or)
    }

    fn conjunction(&mut self) -> Parse<Parsed> {
        self.joined("AND", Self::negation, Predicate::And)
    }

    fn joined(
        &mut self,
        keyword: &str,
        next: fn(&mut Self) -> Parse<Parsed>,
        join: fn(Vec<Predicate>) -> Predicate,
    ) -> Parse<Parsed> {
        let first = next(self)?;
        if !self.is_keyword(keyword) {
            return Ok(first);
        }
        let start = first.start;
        let mut items = vec![self.condition(first)?];
        while self.take_keyword(keyword) {
            let item = next(self)?;
            items.push(self.condition(item)?);
        }
        Ok(Parsed { start, tree: Tree::Condition(join(items)) })
    }

    fn negation(&mut self) -> Parse<Parsed> {
        let start = self.start();
        if !self.take_keyword("NOT") {
            return self.comparison();
        }
        let parsed = self.deeper(start, Self::negation)?;
        let predicate = Predicate::Not(Box::new(self.condition(parsed)?));
        Ok(Parsed { start, tree: Tree::Condition(predicate) })
    }

    fn comparison(&mut self) -> Parse<Parsed> {
        let left = self.sum()?;
        let start = left.start;
        let predicate = if let Some(operator) = self.take_comparison() {
            let left = self.value(left)?;
            Predicate::Compare { operator, left, right: self.sum_value()? }
        } else if self.take_keyword("IS") {
            let value = self.value(left)?;
            let negated = self.take_keyword("NOT");
            self.expect_keyword("NULL", "NULL")?;
            Predicate::IsNull { value, negated }
        } else {
            let negated = self.is_keyword("NOT");
            let operator = if negated { self.after_next() } else { self.peek() };
            let Some(read) = self.membership(operator) else { return Ok(left) };
            let value = self.value(left)?;
            self.at += if negated { 2 } else { 1 };
            read(self, value, negated)?
        };
        Ok(Parsed { start, tree: Tree::Condition(predicate) })
    }

    /// What reads the rest after `IN`, `LIKE` or `BETWEEN`.
    fn membership(&self, operator: &TokenKind<'_>) -> Option<ReadMembership<'t>> {
        let TokenKind::Word(word) = operator else { return None };
        if word.eq_ignore_ascii_case("IN") {
            Some(Self::list)
        } else if word.eq_ignore_ascii_case("LIKE") {
            Some(Self::like)
        } else if word.eq_ignore_ascii_case("BETWEEN") && self.dialect == Dialect::Selector {
            Some(Self::between)
        } else {
            None
        }
    }

    fn list(&mut self, value: Expr, negated: bool) -> Parse<Predicate> {
        self.expect_sign(Sign::Open, "'('")?;
        let mut list = vec![self.sum_value()?];
        while self.take_sign(Sign::Comma) {
            list.push(self.sum_value()?);
        }
        self.expect_sign(Sign::Close, "',' or ')'")?;
        Ok(Predicate::In { value, list, negated })
    }

    /// What can only fail is refused here, not message by message.
    fn like(&mut self, value: Expr, negated: bool) -> Parse<Predicate> {
        let start = self.start();
        let pattern = self.sum_value()?;
        if is_no_text(&pattern) {
            return Err(self.error_at(start, LikeError::NotText.into()));
        }
        let (mut escape, mut character) = (None, None);
        let mut is_known = true;
        if self.take_keyword("ESCAPE") {
            let start = self.start();
            let expr = self.sum_value()?;
            let bad = |error: LikeError| self.error_at(start, error.into());
            if is_no_text(&expr) {
                return Err(bad(LikeError::BadEscape));
            }
            is_known = matches!(expr, Expr::Text(_));
            if let Expr::Text(text) = &expr {
                character = Some(escape_character(text).map_err(bad)?);
            }
            escape = Some(expr);
        }
        if let (Expr::Text(text), true) = (&pattern, is_known) {
            Pattern::new(text, character).map_err(|error| self.error_at(start, error.into()))?;
        }
        Ok(Predicate::Like { value, pattern, escape, negated })
    }

    fn between(&mut self, value: Expr, negated: bool) -> Parse<Predicate> {
        let low = self.sum_value()?;
        self.expect_keyword("AND", "AND")?;
        let high = self.sum_value()?;
        let compare = |operator, left, right| Predicate::Compare { operator, left, right };
        let within = Predicate::And(vec![
            compare(Comparison::GreaterOrEqual, value.clone(), low),
            compare(Comparison::LessOrEqual, value, high),
        ]);
        Ok(if negated { Predicate::Not(Box::new(within)) } else { within })
    }

    fn sum(&mut self) -> Parse<Parsed> {
        self.chain(
            Self::product,
            &[(Sign::Plus, Arithmetic::Add), (Sign::Minus, Arithmetic::Subtract)],
        )
    }

    fn product(&mut self) -> Parse<Parsed> {
        let operators = [
            (Sign::Star, Arithmetic::Multiply),
            (Sign::Slash, Arithmetic::Divide),
            (Sign::Percent, Arithmetic::Remainder),
        ];
        let known = if self.dialect == Dialect::Sql { 3 } else { 2 };
        self.chain(Self::signed, &operators[..known])
    }

    fn chain(
        &mut self,
        next: fn(&mut Self) -> Parse<Parsed>,
        operators: &[(Sign, Arithmetic)],
    ) -> Parse<Parsed> {
        let first = next(self)?;
        let start = first.start;
        let mut first = Some(first);
        let mut chain = None;
        while let Some((_, operator)) = operators.iter().find(|(sign, _)| self.is_sign(*sign)) {
            self.at += 1;
            if let Some(first) = first.take() {
                chain = Some((self.value(first)?, Vec::new()));
            }
            let operand = next(self)?;
            let operand = self.value(operand)?;
            if let Some((_, rest)) = &mut chain {
                rest.push((*operator, operand));
            }
        }
        Ok(match (first, chain) {
            (Some(first), _) => first,
            (None, Some((first, rest))) => {
                Parsed { start, tree: Tree::Value(Expr::Chain { first: Box::new(first), rest }) }
            }
            (None, None) => unreachable!("the first operand is where it was, or in the chain"),
        })
    }

    fn signed(&mut self) -> Parse<Parsed> {
        let start = self.start();
        let make = if self.take_sign(Sign::Minus) {
            Expr::Minus
        } else if self.take_sign(Sign::Plus) {
            Expr::Plus
        } else {
            return self.primary();
        };
        let operand = self.deeper(start, Self::signed)?;
        let operand = self.value(operand)?;
        Ok(Parsed { start, tree: Tree::Value(make(Box::new(operand))) })
    }

    fn primary(&mut self) -> Parse<Parsed> {
        let start = self.start();
        if self.take_sign(Sign::Open) {
            let inside = self.deeper(start, Self::disjunction)?;
            self.expect_sign(Sign::Close, "an operator or ')'")?;
            return Ok(Parsed { start, tree: inside.tree });
        }
        if self.dialect == Dialect::Sql && self.take_keyword("EXISTS") {
            self.expect_sign(Sign::Open, "'('")?;
            let property = self.property()?;
            self.expect_sign(Sign::Close, "')'")?;
            return Ok(Parsed { start, tree: Tree::Condition(Predicate::Exists(property)) });
        }
        Ok(Parsed { start, tree: Tree::Value(self.operand()?) })
    }

    /// A constant, a parameter, a function or a property.
    fn operand(&mut self) -> Parse<Expr> {
        let start = self.start();
        let expr = match self.peek().clone() {
            TokenKind::Integer(value) => Expr::Integer(value),
            TokenKind::Double(value) => Expr::Double(value),
            TokenKind::Text(text) => Expr::Text(text.into()),
            TokenKind::Parameter(name) => {
                let name = Name::new(name);
                if !self.parameters.iter().any(|given| given.is_same(&name)) {
                    let problem = Problem::NoSuchParameter(name.as_str().to_owned());
                    return Err(self.error_at(start, problem));
                }
                Expr::Parameter(name)
            }
            TokenKind::Word(word) if word.eq_ignore_ascii_case("NULL") => Expr::Null,
            TokenKind::Word(word) if word.eq_ignore_ascii_case("TRUE") => Expr::Bool(true),
            TokenKind::Word(word) if word.eq_ignore_ascii_case("FALSE") => Expr::Bool(false),
            TokenKind::Word(word) if self.dialect == Dialect::Sql && self.begins_call() => {
                return self.call(word);
            }
            TokenKind::Word(_) | TokenKind::Delimited(_) => {
                return self.property().map(Expr::Property);
            }
            TokenKind::Sign(_) | TokenKind::End => return Err(self.unexpected("a value")),
        };
        self.at += 1;
        Ok(expr)
    }

    fn begins_call(&self) -> bool {
        matches!(self.peek(), TokenKind::Word(word) if !is_keyword(word))
            && *self.after_next() == TokenKind::Sign(Sign::Open)
    }

    fn call(&mut self, function: &str) -> Parse<Expr> {
        let start = self.start();
        let is = |name| function.eq_ignore_ascii_case(name);
        let expr = if is("newid") {
            self.at += 2;
            Expr::NewId
        } else if is("property") || is("p") {
            self.at += 2;
            let name = self.deeper(start, Self::sum)?;
            Expr::Named(Box::new(self.value(name)?))
        } else {
            return Err(self.error(Problem::NoSuchFunction(function.to_owned())));
        };
        self.expect_sign(Sign::Close, "')'")?;
        Ok(expr)
    }

    fn property(&mut self) -> Parse<Property> {
        if self.dialect == Dialect::Selector {
            return Ok(selector::property(&self.name()?));
        }
        let scope = match (self.peek(), self.after_next()) {
            (TokenKind::Word(scope), TokenKind::Sign(Sign::Dot)) => *scope,
            _ => return Ok(Property::User(Name::new(&self.name()?))),
        };
        let is_system = scope.eq_ignore_ascii_case("sys");
        if !is_system && !scope.eq_ignore_ascii_case("user") {
            return Err(self.error(Problem::NoSuchScope(scope.to_owned())));
        }
        self.at += 2;
        let name = self.name()?;
        if !is_system {
            return Ok(Property::User(Name::new(&name)));
        }
        Ok(SystemProperty::named(&name)
            .map_or_else(|| Property::UnknownSystem(Name::new(&name)), Property::System))
    }

    fn name(&mut self) -> Parse<String> {
        let name = if let TokenKind::Delimited(name) = self.peek() {
            name.to_string()
        } else if let TokenKind::Word(word) = self.peek()
            && !is_keyword(word)
        {
            String::from(*word)
        } else {
            return Err(self.unexpected("a property"));
        };
        self.at += 1;
        Ok(name)
    }

    fn statement(&mut self) -> Parse<Statement> {
        if self.take_keyword("SET") {
            let start = self.start();
            let target = self.property()?;
            let refused = match &target {
                Property::User(_) => None,
                Property::System(property) => {
                    (property.settable() == SystemType::ReadOnly).then(|| property.name())
                }
                Property::UnknownSystem(name) => Some(name.as_str()),
            };
            if let Some(name) = refused {
                return Err(self.error_at(start, Problem::CannotBeSet(format!("sys.{name}"))));
            }
            self.expect_sign(Sign::Equal, "'='")?;
            return Ok(Statement::Set { target, value: self.sum_value()? });
        }
        if !self.take_keyword("REMOVE") {
            return Err(self.unexpected("SET or REMOVE"));
        }
        let start = self.start();
        let target = self.property()?;
        if !matches!(target, Property::User(_)) {
            return Err(self.error_at(start, Problem::CannotBeRemoved(target.to_string())));
        }
        Ok(Statement::Remove(target))
    }

    fn sum_value(&mut self) -> Parse<Expr> {
        let parsed = self.sum()?;
        self.value(parsed)
    }

    fn value(&self, parsed: Parsed) -> Parse<Expr> {
        match parsed.tree {
            Tree::Value(expr) => Ok(expr),
            Tree::Condition(_) => Err(self.error_at(parsed.start, Problem::ConditionAsValue)),
        }
    }

    fn condition(&self, parsed: Parsed) -> Parse<Predicate> {
        match parsed.tree {
            Tree::Condition(predicate) => Ok(predicate),
            Tree::Value(expr) if expr.may_be_boolean() => Ok(Predicate::Holds(expr)),
            Tree::Value(_) => Err(self.error_at(parsed.start, Problem::ValueAsCondition)),
        }
    }

    fn deeper<T>(&mut self, start: usize, read: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth == NESTING_MAX {
            return Err(self.error_at(start, Problem::TooDeep));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn token(&self) -> &Token<'t> {
        self.tokens.get(self.at).or(self.tokens.last()).expect("the last token is the end")
    }

    fn peek(&self) -> &TokenKind<'t> {
        &self.token().kind
    }

    fn after_next(&self) -> &TokenKind<'t> {
        self.tokens.get(self.at + 1).map_or(&TokenKind::End, |token| &token.kind)
    }

    fn start(&self) -> usize {
        self.token().start
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_next = self.is_keyword(keyword);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect_keyword(&mut self, keyword: &str, wanted: &'static str) -> Parse<()> {
        if self.take_keyword(keyword) { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn is_sign(&self, sign: Sign) -> bool {
        *self.peek() == TokenKind::Sign(sign)
    }

    fn take_sign(&mut self, sign: Sign) -> bool {
        let is_next = self.is_sign(sign);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect_sign(&mut self, sign: Sign, wanted: &'static str) -> Parse<()> {
        if self.take_sign(sign) { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn expect_end(&self, wanted: &'static str) -> Parse<()> {
        if *self.peek() == TokenKind::End { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn take_comparison(&mut self) -> Option<Comparison> {
        let TokenKind::Sign(sign) = self.peek() else { return None };
        let (_, comparison) = COMPARISONS.iter().find(|(comparing, _)| comparing == sign)?;
        self.at += 1;
        Some(*comparison)
    }

    fn unexpected(&self, wanted: &'static str) -> SyntaxError {
        let token = self.token();
        let end = self.tokens.get(self.at + 1).map_or(self.text.len(), |next| next.start);
        let found = match self.text.get(token.start..end).map(str::trim_end) {
            None | Some("") => "the end".to_owned(),
            Some(text) => format!("{text:?}"),
        };
        self.error(Problem::Unexpected { found, wanted })
    }

    fn error(&self, problem: Problem) -> SyntaxError {
        self.error_at(self.start(), problem)
    }

    fn error_at(&self, start: usize, problem: Problem) -> SyntaxError {
        SyntaxError::new(self.text, start, problem)
    }
}

fn is_no_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Integer(_) | Expr::Double(_) | Expr::Bool(_) | Expr::NewId)
}

type ReadMembership<'t> = fn(&mut Parser<'t>, Expr, bool) -> Parse<Predicate>;

const COMPARISONS: [(Sign, Comparison); 6] = [
    (Sign::Equal, Comparison::Equal),
    (Sign::NotEqual, Comparison::NotEqual),
    (Sign::Less, Comparison::Less),
    (Sign::LessOrEqual, Comparison::LessOrEqual),
    (Sign::Greater, Comparison::Greater),
    (Sign::GreaterOrEqual, Comparison::GreaterOrEqual),
];
