//! Three-valued logic.

/// The outcome of a condition. Only what is true lets a message through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be said: a property is missing, or two values do not compare.
    Unknown,
}

impl Truth {
    /// Whether it holds.
    pub const fn is_true(self) -> bool {
        matches!(self, Truth::True)
    }

    /// The opposite; that of unknown is unknown.
    #[must_use]
    pub const fn not(self) -> Self {
        match self {
            Truth::True => Truth::False,
            Truth::False => Truth::True,
            Truth::Unknown => Truth::Unknown,
        }
    }

    /// The opposite, if `negated`.
    #[must_use]
    pub(crate) const fn negated_if(self, negated: bool) -> Self {
        if negated { self.not() } else { self }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Truth::True } else { Truth::False }
    }
}
