//! Names of properties, which are the same whatever the case of their letters.

use std::borrow::Cow;

/// A property's name, ready to be looked up.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Of the folded form: most names that differ are told apart by it.
    hash: u64,
    folded: Box<str>,
    shown: Box<str>,
    /// Whether the case of the letters counts: it does in JMS selectors.
    exact: bool,
}

impl Name {
    /// A name as SQL filters, actions and correlation filters mean it: in any case.
    pub fn new(text: &str) -> Self {
        let folded = fold(text);
        let hash = hash(&folded);
        Name { hash, folded: folded.into(), shown: text.into(), exact: false }
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

    /// What names are found by; equal names have the same.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
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

/// FNV-1a, of a folded name. Peers may choose names with the same hash, and gain nothing: tables are
/// sorted by hash and name.
pub(crate) fn hash(folded: &str) -> u64 {
    folded.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, octet| {
        (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3)
    })
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
