//! Names of properties, which are the same whatever the case of their letters.

use std::borrow::Cow;

/// A property's name, ready to be looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    folded: Box<str>,
    shown: Box<str>,
    /// Whether the case of the letters counts: it does in JMS selectors.
    exact: bool,
}

impl Name {
    /// A name as SQL filters, actions and correlation filters mean it: in any case.
    pub fn new(text: &str) -> Self {
        Name { folded: fold(text).into(), shown: text.into(), exact: false }
    }

    /// A name as JMS selectors mean it.
    pub fn exact(text: &str) -> Self {
        Name { exact: true, ..Name::new(text) }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.shown
    }

    /// The form that all spellings of the name share.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// Whether only this very spelling is meant.
    pub const fn is_exact(&self) -> bool {
        self.exact
    }

    /// Whether the other one names the same property.
    pub fn is_same(&self, other: &Name) -> bool {
        self.folded == other.folded
    }
}

/// The form that all spellings share, by the simple rule: every letter in lower case.
pub(crate) fn fold(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|octet| octet.is_ascii() && !octet.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else if text.is_ascii() {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        // Letter by letter: a final sigma is a sigma, wherever it stands.
        Cow::Owned(text.chars().flat_map(char::to_lowercase).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_case_of_letters_makes_no_difference() {
        assert!(Name::new("Color").is_same(&Name::new("cOLOR")));
        assert!(Name::new("ÅNGSTRÖM").is_same(&Name::new("ångström")));
        assert!(Name::new("ΟΔΟΣ").is_same(&Name::new("οδοσ")));
        assert!(!Name::new("color").is_same(&Name::new("colour")));
        assert_eq!(Name::new("Color").as_str(), "Color");
        assert!(Name::exact("Color").is_exact() && !Name::new("Color").is_exact());
    }
}
