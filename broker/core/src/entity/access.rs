//! Access rules of an entity: who may do what there. The broker keeps them with the entity and hands them
//! to the shell, which knows what a token is.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::time::Timestamp;

/// Rules of one entity, as in Service Bus.
pub const RULES_MAX: usize = 12;

/// Characters of a rule's name, as in Service Bus.
pub const NAME_LEN_MAX: usize = 256;

/// Octets of a key. Those of Service Bus have 44; longer ones are of no more use to SHA-256.
pub const KEY_LEN_MAX: usize = 256;

/// A name, two keys, and what whoever holds one of them may do at an entity and below it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRule {
    /// Unlike that of the other rules of the entity, in whatever case.
    pub name: Arc<str>,
    /// What it allows.
    pub rights: AccessRights,
    /// One key.
    pub primary_key: AccessKey,
    /// The other, so that each can be changed while clients use the other one.
    pub secondary_key: AccessKey,
    /// When it was added. The broker sets it.
    pub created_at: Timestamp,
    /// When anything of it was last changed. The broker sets it.
    pub modified_at: Timestamp,
}

/// What a rule allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AccessRights {
    /// Everything. It comes with the other two.
    pub manage: bool,
    /// Put messages in.
    pub send: bool,
    /// Take messages out.
    pub listen: bool,
}

/// What a rule is to be like from now on. Who asks for that need not know what it was: whatever another
/// request has taken away in the meantime does not come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccessRuleChange {
    /// Which, in whatever case. There need not be one yet.
    pub name: Arc<str>,
    /// What it allows.
    pub rights: AccessRights,
    /// One key.
    pub primary_key: KeyChange,
    /// The other.
    pub secondary_key: KeyChange,
}

/// What becomes of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyChange {
    /// It is this one.
    Set(AccessKey),
    /// It stays as it is when the change is made.
    Keep {
        /// The key if the rule is new.
        or: AccessKey,
    },
}

/// A key. It has no `Display`, and its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey(Arc<str>);

impl AccessKey {
    /// Takes a key.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The key itself: for whoever compares, writes or shows it to its owner.
    pub const fn expose(&self) -> &Arc<str> {
        &self.0
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl AccessRuleChange {
    /// The rule among those there are.
    pub fn apply_to(self, before: &[AccessRule]) -> AccessRule {
        let AccessRuleChange { name, rights, primary_key, secondary_key } = self;
        let old = before.iter().find(|old| is_name_of(old, &name));
        AccessRule {
            primary_key: primary_key.apply_to(old.map(|old| &old.primary_key)),
            secondary_key: secondary_key.apply_to(old.map(|old| &old.secondary_key)),
            name,
            rights,
            // Set when the entity is.
            created_at: Timestamp(0),
            modified_at: Timestamp(0),
        }
    }
}

impl KeyChange {
    fn apply_to(self, old: Option<&AccessKey>) -> AccessKey {
        match self {
            KeyChange::Set(key) => key,
            KeyChange::Keep { or } => old.cloned().unwrap_or(or),
        }
    }
}

impl AccessRule {
    fn validate(&self) -> Result<(), Error> {
        let name_len = self.name.chars().count();
        if name_len == 0 || NAME_LEN_MAX < name_len || self.name.contains(char::is_control) {
            return Err(Error::InvalidArgument(
                "The name of an authorization rule has 1 to 256 characters, none of them controls.",
            ));
        }
        let AccessRights { manage, send, listen } = self.rights;
        if !send && !listen && !manage {
            return Err(Error::InvalidArgument("An authorization rule needs a right."));
        }
        if manage && !(send && listen) {
            return Err(Error::InvalidArgument(
                "The right Manage of an authorization rule comes with Send and Listen.",
            ));
        }
        for key in [&self.primary_key, &self.secondary_key] {
            let len = key.expose().len();
            if len == 0
                || KEY_LEN_MAX < len
                || !key.expose().bytes().all(|octet| octet.is_ascii_graphic())
            {
                return Err(Error::InvalidArgument(
                    "A key of an authorization rule has 1 to 256 ASCII characters without spaces.",
                ));
            }
        }
        Ok(())
    }

    /// Whether two rules are the same but for their times.
    fn says_the_same(&self, other: &AccessRule) -> bool {
        let AccessRule { name, rights, primary_key, secondary_key, created_at: _, modified_at: _ } =
            self;
        *name == other.name
            && *rights == other.rights
            && *primary_key == other.primary_key
            && *secondary_key == other.secondary_key
    }
}

/// Says what is wrong with the rules of one entity, if anything is.
pub(crate) fn validate(rules: &[AccessRule]) -> Result<(), Error> {
    if RULES_MAX < rules.len() {
        return Err(Error::InvalidArgument("An entity has up to 12 authorization rules."));
    }
    for (index, rule) in rules.iter().enumerate() {
        rule.validate()?;
        if rules.iter().take(index).any(|other| is_name_of(other, &rule.name)) {
            return Err(Error::InvalidArgument(
                "The names of the authorization rules of an entity differ, not in case alone.",
            ));
        }
    }
    Ok(())
}

/// Sets the times of rules that take the place of others.
pub(crate) fn stamp(rules: &mut [AccessRule], before: &[AccessRule], now: Timestamp) {
    for rule in rules {
        let old = before.iter().find(|old| is_name_of(old, &rule.name));
        rule.created_at = old.map_or(now, |old| old.created_at);
        let unchanged = old.filter(|old| old.says_the_same(rule));
        rule.modified_at = unchanged.map_or(now, |old| old.modified_at);
    }
}

fn is_name_of(rule: &AccessRule, name: &str) -> bool {
    rule.name.eq_ignore_ascii_case(name)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A rule to send, of which only the first key matters.
    pub(crate) fn rule(name: &str, key: &str) -> AccessRule {
        AccessRule {
            name: name.into(),
            rights: AccessRights { send: true, ..AccessRights::default() },
            primary_key: AccessKey::new(key),
            secondary_key: AccessKey::new("second"),
            created_at: Timestamp(0),
            modified_at: Timestamp(0),
        }
    }

    #[track_caller]
    fn check(rules: &[AccessRule], is_valid: bool) {
        assert_eq!(validate(rules).is_ok(), is_valid, "{rules:?}");
    }

    #[test]
    fn rules_have_bounds() {
        let good = rule("a", "k");
        check(&[], true);
        check(&[good.clone(), rule("b", "k")], true);
        check(&[good.clone(), rule("A", "k")], false);
        let many = |count: usize| (0..count).map(|n| rule(&n.to_string(), "k")).collect::<Vec<_>>();
        check(&many(12), true);
        check(&many(13), false);
        check(&[rule(&"é".repeat(256), &"k".repeat(256))], true);
        for (name, key) in [
            (String::new(), "k".to_owned()),
            ("n".repeat(257), "k".to_owned()),
            ("n\n".to_owned(), "k".to_owned()),
            ("n".to_owned(), String::new()),
            ("n".to_owned(), "k".repeat(257)),
            ("n".to_owned(), "k k".to_owned()),
            ("n".to_owned(), "é".to_owned()),
        ] {
            check(&[rule(&name, &key)], false);
        }
        check(&[AccessRule { secondary_key: AccessKey::new(""), ..good.clone() }], false);
        let rights = |manage, send, listen| {
            [AccessRule { rights: AccessRights { manage, send, listen }, ..good.clone() }]
        };
        check(&rights(true, true, true), true);
        check(&rights(false, true, true), true);
        check(&rights(false, false, true), true);
        check(&rights(true, true, false), false);
        check(&rights(true, false, true), false);
        check(&rights(false, false, false), false);
    }

    #[test]
    fn times_tell_when_a_rule_came_and_when_it_changed() {
        let mut first = [rule("a", "1"), rule("b", "1")];
        stamp(&mut first, &[], Timestamp(5));
        assert_eq!((first[0].created_at, first[0].modified_at), (Timestamp(5), Timestamp(5)));
        let mut second = [rule("b", "2"), rule("A", "1"), rule("a2", "1")];
        stamp(&mut second, &first, Timestamp(9));
        let times = second.each_ref().map(|rule| (rule.created_at.0, rule.modified_at.0));
        assert_eq!(times, [(5, 9), (5, 9), (9, 9)]);
        let mut third = second.clone();
        stamp(&mut third, &second, Timestamp(20));
        assert_eq!(third, second);
    }

    #[test]
    fn a_change_keeps_the_keys_that_there_are() {
        let keep = |key| KeyChange::Keep { or: AccessKey::new(key) };
        let change = |name: &str, primary_key| AccessRuleChange {
            name: name.into(),
            rights: AccessRights { listen: true, ..AccessRights::default() },
            primary_key,
            secondary_key: keep("fresh"),
        };
        let before = [rule("a", "1"), rule("b", "2")];
        let keys = |rule: AccessRule| [rule.primary_key, rule.secondary_key];
        let expected = |keys: [&str; 2]| keys.map(AccessKey::new);
        let kept = change("B", keep("new")).apply_to(&before);
        assert_eq!((&*kept.name, kept.rights.listen, kept.rights.send), ("B", true, false));
        assert_eq!(keys(kept), expected(["2", "second"]));
        let set = change("b", KeyChange::Set(AccessKey::new("3"))).apply_to(&before);
        assert_eq!(keys(set), expected(["3", "second"]));
        assert_eq!(keys(change("c", keep("new")).apply_to(&before)), expected(["new", "fresh"]));
    }

    #[test]
    fn keys_are_not_shown() {
        assert!(!format!("{:?}", rule("a", "canary")).contains("canary"));
        let change = KeyChange::Keep { or: AccessKey::new("canary") };
        assert!(!format!("{change:?}").contains("canary"));
    }
}
