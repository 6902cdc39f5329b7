//! What a text says, before it is made ready to run; and how it is written down again.

use std::fmt;

use super::lexer::is_regular_name;
use super::name::Name;
use super::system::SystemProperty;

/// What is true, false or unknown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Predicate {
    /// Two or more, by one level of parentheses.
    Or(Vec<Predicate>),
    /// Two or more, by one level of parentheses.
    And(Vec<Predicate>),
    Not(Box<Predicate>),
    Compare {
        operator: Comparison,
        left: Expr,
        right: Expr,
    },
    In {
        value: Expr,
        list: Vec<Expr>,
        negated: bool,
    },
    Like {
        value: Expr,
        pattern: Expr,
        escape: Option<Expr>,
        negated: bool,
    },
    IsNull {
        value: Expr,
        negated: bool,
    },
    Exists(Property),
    /// A value that may be a boolean.
    Holds(Expr),
}

/// What has a value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expr {
    Null,
    Bool(bool),
    Integer(u64),
    /// Finite and not negative.
    Double(f64),
    Text(Box<str>),
    Property(Property),
    Parameter(Name),
    /// `newid()`
    NewId,
    /// `property(…)`: a user property whose name is a value.
    Named(Box<Expr>),
    Plus(Box<Expr>),
    Minus(Box<Expr>),
    /// Operators of one precedence, carried out from left to right; at least one.
    Chain {
        first: Box<Expr>,
        rest: Vec<(Arithmetic, Expr)>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Property {
    User(Name),
    System(SystemProperty),
    /// `sys.` and a name that means nothing: an error, but not before it is evaluated.
    UnknownSystem(Name),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// One statement of an action.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Statement {
    Set { target: Property, value: Expr },
    Remove(Property),
}

impl Expr {
    /// Whether it can come out as true or false at all.
    pub(crate) fn may_be_boolean(&self) -> bool {
        match self {
            Expr::Null
            | Expr::Bool(_)
            | Expr::Property(_)
            | Expr::Parameter(_)
            | Expr::Named(_) => true,
            Expr::Integer(_)
            | Expr::Double(_)
            | Expr::Text(_)
            | Expr::NewId
            | Expr::Plus(_)
            | Expr::Minus(_)
            | Expr::Chain { .. } => false,
        }
    }
}

impl Arithmetic {
    /// Whether it binds as `*` does, rather than as `+` does.
    fn is_product(self) -> bool {
        match self {
            Arithmetic::Add | Arithmetic::Subtract => false,
            Arithmetic::Multiply | Arithmetic::Divide | Arithmetic::Remainder => true,
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Predicate::Or(items) => {
                joined(f, items, " OR ", |item| matches!(item, Predicate::Or(_)))
            }
            Predicate::And(items) => joined(f, items, " AND ", is_joined),
            Predicate::Not(item) => {
                f.write_str("NOT ")?;
                parenthesised(f, item, is_joined(item))
            }
            Predicate::Compare { operator, left, right } => write!(f, "{left} {operator} {right}"),
            Predicate::In { value, list, negated } => {
                write!(f, "{value}{} IN (", not(*negated))?;
                for (index, item) in list.iter().enumerate() {
                    write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Predicate::Like { value, pattern, escape, negated } => {
                write!(f, "{value}{} LIKE {pattern}", not(*negated))?;
                escape.as_ref().map_or(Ok(()), |escape| write!(f, " ESCAPE {escape}"))
            }
            Predicate::IsNull { value, negated } => write!(f, "{value} IS{} NULL", not(*negated)),
            Predicate::Exists(property) => write!(f, "EXISTS({property})"),
            Predicate::Holds(value) => value.fmt(f),
        }
    }
}

fn not(negated: bool) -> &'static str {
    if negated { " NOT" } else { "" }
}

fn is_joined(item: &Predicate) -> bool {
    matches!(item, Predicate::Or(_) | Predicate::And(_))
}

fn joined(
    f: &mut fmt::Formatter<'_>,
    items: &[Predicate],
    between: &str,
    needs_parentheses: fn(&Predicate) -> bool,
) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        f.write_str(if index == 0 { "" } else { between })?;
        parenthesised(f, item, needs_parentheses(item))?;
    }
    Ok(())
}

fn parenthesised(
    f: &mut fmt::Formatter<'_>,
    item: &impl fmt::Display,
    wanted: bool,
) -> fmt::Result {
    if wanted { write!(f, "({item})") } else { item.fmt(f) }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Null => f.write_str("NULL"),
            Expr::Bool(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Expr::Integer(value) => value.fmt(f),
            // With a point or an exponent, so that it is read as a double again.
            Expr::Double(value) => write!(f, "{value:?}"),
            Expr::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Expr::Property(property) => property.fmt(f),
            Expr::Parameter(name) => write!(f, "@{}", name.as_str()),
            Expr::NewId => f.write_str("newid()"),
            Expr::Named(name) => write!(f, "property({name})"),
            Expr::Plus(value) => signed(f, "+", value),
            Expr::Minus(value) => signed(f, "-", value),
            Expr::Chain { first, rest } => {
                let is_product = rest.first().is_some_and(|(operator, _)| operator.is_product());
                operand(f, first, is_product)?;
                for (operator, value) in rest {
                    write!(f, " {operator} ")?;
                    operand(f, value, is_product)?;
                }
                Ok(())
            }
        }
    }
}

fn signed(f: &mut fmt::Formatter<'_>, sign: &str, value: &Expr) -> fmt::Result {
    f.write_str(sign)?;
    parenthesised(f, value, matches!(value, Expr::Chain { .. }))
}

/// A product within a sum is the only chain within a chain that needs no parentheses.
fn operand(f: &mut fmt::Formatter<'_>, value: &Expr, in_product: bool) -> fmt::Result {
    let binds_closer = |rest: &[(Arithmetic, Expr)]| {
        !in_product && rest.first().is_some_and(|(operator, _)| operator.is_product())
    };
    let wanted = matches!(value, Expr::Chain { rest, .. } if !binds_closer(rest));
    parenthesised(f, value, wanted)
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Property::User(name) => write_name(f, name.as_str()),
            Property::System(property) => write!(f, "sys.{}", property.name()),
            Property::UnknownSystem(name) => {
                f.write_str("sys.")?;
                write_name(f, name.as_str())
            }
        }
    }
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if is_regular_name(name) {
        f.write_str(name)
    } else {
        write!(f, "[{}]", name.replace(']', "]]"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "<>",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        })
    }
}

impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        })
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Set { target, value } => write!(f, "SET {target} = {value}"),
            Statement::Remove(target) => write!(f, "REMOVE {target}"),
        }
    }
}
