//! All rules of a topic, put so that a message finds those that let it through.

use std::collections::BTreeMap;

use peeklock_protocol::value::{Str, Value};

use super::rules::{Compiled, RuleDescription};
use crate::filter::{
    Action, Allowance, CorrelationIndex, EvaluationError, Matches, Name, Properties,
    PropertyChange, SqlIndex, SyntaxError,
};
use crate::id::EntityId;

/// The application property that names the rule of a copy that its action made.
const RULE_NAME: &str = "RuleName";

/// A rule's place. Rules without an action share the number zero: they make one copy together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Target {
    subscription: EntityId,
    number: u32,
}

/// Which subscriptions get a message. A message costs one look-up for each set of fields that
/// correlation filters ask about, one for each property that SQL filters ask about, and one run of
/// each distinct SQL filter that comes into question.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// Filters that let everything through.
    everything: Vec<Target>,
    correlation: CorrelationIndex<Target>,
    sql: SqlIndex<Target>,
    /// By number.
    actions: BTreeMap<u32, NamedAction>,
    last_number: u32,
    counts: FilterCounts,
}

/// How many filters of each kind there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FilterCounts {
    pub(crate) constant: usize,
    pub(crate) sql: usize,
    pub(crate) correlation: usize,
}

#[derive(Debug)]
struct NamedAction {
    rule: Str,
    action: Action,
}

/// A subscription that gets something of a message.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Route {
    pub(crate) subscription: EntityId,
    pub(crate) copy: Copy,
}

/// What a subscription gets.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Copy {
    /// The message.
    Plain,
    /// The message with changes.
    Changed(Vec<PropertyChange>),
    /// A rule of it could not be evaluated.
    Failed(EvaluationError),
}

impl Routes {
    pub(crate) const fn counts(&self) -> FilterCounts {
        self.counts
    }

    /// Adds a rule, and says under which number.
    pub(crate) fn insert(
        &mut self,
        subscription: EntityId,
        rule: &RuleDescription,
    ) -> Result<u32, SyntaxError> {
        let (filter, action) = rule.compile()?;
        let number = match action {
            None => 0,
            Some(action) => {
                self.last_number += 1;
                let named = NamedAction { rule: (*rule.name).into(), action };
                self.actions.insert(self.last_number, named);
                self.last_number
            }
        };
        let target = Target { subscription, number };
        match filter {
            Compiled::Everything => {
                let at = self.everything.partition_point(|other| *other < target);
                self.everything.insert(at, target);
                self.counts.constant += 1;
            }
            Compiled::Nothing => self.counts.constant += 1,
            Compiled::Correlation(filter) => {
                self.correlation.insert(&filter, target);
                self.counts.correlation += 1;
            }
            Compiled::Sql(filter) => {
                self.sql.insert(filter, target);
                self.counts.sql += 1;
            }
        }
        Ok(number)
    }

    /// Takes away a rule that was added under this number.
    pub(crate) fn remove(&mut self, subscription: EntityId, rule: &RuleDescription, number: u32) {
        let (filter, _) = rule.compile().expect("a rule in force was compiled before");
        self.actions.remove(&number);
        let target = Target { subscription, number };
        match filter {
            Compiled::Everything => {
                let at = self.everything.iter().position(|known| *known == target);
                self.everything.remove(at.expect("a rule in force has its place"));
                self.counts.constant -= 1;
            }
            Compiled::Nothing => self.counts.constant -= 1,
            Compiled::Correlation(filter) => {
                let is_there = self.correlation.remove(&filter, &target);
                assert!(is_there, "a rule in force has its place");
                self.counts.correlation -= 1;
            }
            Compiled::Sql(filter) => {
                assert!(self.sql.remove(&filter, &target), "a rule in force has its place");
                self.counts.sql -= 1;
            }
        }
    }

    /// Who gets what of a message: in the order of subscriptions, the message itself first, then what
    /// actions made of it, in the order in which their rules were added, then what failed. `newid()`
    /// draws from `new_id`.
    pub(crate) fn find(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
    ) -> Vec<Route> {
        let mut targets = self.everything.clone();
        if !self.correlation.is_empty() {
            targets.extend(self.correlation.matches(properties));
        }
        let mut allowance = Allowance::default();
        let Matches { through, failed } = self.sql.matches(properties, new_id, &mut allowance);
        targets.extend(through);
        let mut failures: Vec<_> =
            failed.into_iter().map(|(target, error)| (target.subscription, error)).collect();
        // Each kind is in order already, which makes this cheap.
        targets.sort();
        targets.dedup();
        let mut routes = Vec::with_capacity(targets.len() + failures.len());
        for Target { subscription, number } in targets {
            let copy = match self.actions.get(&number) {
                None => Copy::Plain,
                Some(named) => match named.run(properties, new_id, &mut allowance) {
                    Ok(changes) => Copy::Changed(changes),
                    Err(error) => {
                        failures.push((subscription, error));
                        continue;
                    }
                },
            };
            routes.push(Route { subscription, copy });
        }
        if !failures.is_empty() {
            // A subscription hears of the first failure only: it is about the same message.
            failures.sort_by_key(|(subscription, _)| *subscription);
            failures.dedup_by_key(|(subscription, _)| *subscription);
            routes.extend(
                failures
                    .into_iter()
                    .map(|(subscription, error)| Route { subscription, copy: Copy::Failed(error) }),
            );
            routes.sort_by_key(|route| route.subscription);
        }
        routes
    }

    /// Says what does not fit together.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.sql.len() != self.counts.sql || self.counts.constant < self.everything.len() {
            return Err(format!("{:?} are not the filters there are", self.counts));
        }
        if self.correlation.is_empty() != (self.counts.correlation == 0) {
            return Err("correlation filters are counted wrong".into());
        }
        Ok(())
    }

    /// How many rules have an action.
    pub(super) fn action_count(&self) -> usize {
        self.actions.len()
    }
}

impl NamedAction {
    fn run(
        &self,
        properties: &dyn Properties,
        new_id: &mut dyn FnMut() -> [u8; 16],
        allowance: &mut Allowance,
    ) -> Result<Vec<PropertyChange>, EvaluationError> {
        let mut changes = self.action.run(properties, new_id, allowance)?;
        let name = Name::new(RULE_NAME);
        let is_other = |change: &PropertyChange| match change {
            PropertyChange::User { name: changed, .. } => !changed.is_same(&name),
            PropertyChange::System { .. } => true,
        };
        changes.retain(is_other);
        let value = Some(Value::String(self.rule.clone()));
        changes.push(PropertyChange::User { name, value });
        Ok(changes)
    }
}
