//! What a namespace is called.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use super::limits::NAME_LEN_MAX;

/// Lower-case letters, digits and hyphens: a label of a host's name, and a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceName(String);

impl NamespaceName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NamespaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
        let ends = [text.bytes().next(), text.bytes().next_back()];
        if NAME_LEN_MAX < text.len()
            || !text.bytes().all(fits)
            || !ends.into_iter().all(|end| end.is_some_and(|c| c.is_ascii_alphanumeric()))
        {
            return Err(format!(
                "{text:?} cannot name a namespace: letters, digits and '-' can, {NAME_LEN_MAX} at the \
                 most, with a letter or digit at both ends"
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl Borrow<str> for NamespaceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_label_of_a_host() {
        for (text, expected) in
            [("orders", Some("orders")), ("Shop-2", Some("shop-2")), ("7", Some("7"))]
        {
            let name = text.parse::<NamespaceName>().ok();
            assert_eq!(name.as_ref().map(NamespaceName::as_str), expected);
        }
        let long = "x".repeat(NAME_LEN_MAX + 1);
        for text in ["", "-a", "a-", "a.b", "a_b", "..", "a/b", "ä", long.as_str()] {
            assert!(text.parse::<NamespaceName>().is_err(), "{text:?}");
        }
    }
}
