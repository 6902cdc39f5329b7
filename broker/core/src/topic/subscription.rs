//! A subscription: the rules by which it gets messages. What it holds is a queue's.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rules::Rule;

/// A rule's name as it is compared.
pub(crate) type RuleKey = Arc<str>;

/// The rules of one subscription, by name.
#[derive(Debug, Default)]
pub(crate) struct Subscription {
    rules: BTreeMap<RuleKey, KnownRule>,
}

/// A rule, and what it is called among all rules of the topic.
#[derive(Debug)]
pub(crate) struct KnownRule {
    pub(crate) rule: Rule,
    /// Zero if it has no action: such rules make one copy together.
    pub(crate) number: u32,
}

/// The form in which names of rules are compared.
pub(crate) fn rule_key(name: &str) -> RuleKey {
    name.to_ascii_lowercase().into()
}

impl Subscription {
    pub(crate) fn rule(&self, name: &str) -> Option<&KnownRule> {
        self.rules.get(&rule_key(name))
    }

    /// In the order of their names.
    pub(crate) fn rules(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.values().map(|known| &known.rule)
    }

    pub(super) fn insert(&mut self, rule: Rule, number: u32) {
        let key = rule_key(&rule.description.name);
        let before = self.rules.insert(key, KnownRule { rule, number });
        assert!(before.is_none(), "a rule's name is given to one rule");
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<KnownRule> {
        self.rules.remove(&rule_key(name))
    }

    pub(super) fn into_rules(self) -> impl Iterator<Item = (RuleKey, KnownRule)> {
        self.rules.into_iter()
    }
}
