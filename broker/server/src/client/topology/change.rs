//! What leads from one state to another.

use std::fmt;

use peeklock_core::filter::CorrelationFilter;
use peeklock_core::topic::rules::{Correlation, RuleDescription, RuleFilter, SqlText};
use serde_json::json;

use super::super::entities::{changed_description, new_description};
use super::super::failure::Failure;
use super::super::management::Management;
use super::super::properties::{Given, Kind as ValueKind, Property, Queue, Subscription, Topic};
use super::super::rules::{parts, show_filter};
use super::export::NOTHING;
use super::state::{Entity, Kind, State};
use crate::http::atom::rule;

/// A value that is to change: what it was, what it will be.
type Difference = (&'static Property, String, String);

/// One change.
enum Change<'a> {
    Create(&'a Entity),
    Update { entity: &'a Entity, differences: Vec<Difference> },
    Delete(&'a Entity),
    CreateRule { entity: &'a Entity, rule: &'a RuleDescription },
    UpdateRule { entity: &'a Entity, rule: &'a RuleDescription, before: &'a RuleDescription },
    DeleteRule { entity: &'a Entity, rule: &'a RuleDescription },
}

/// All changes in their order, and what stays although the file does not have it.
pub(super) struct Plan<'a> {
    changes: Vec<Change<'a>>,
    /// What is deleted once all else has worked.
    last: Vec<Change<'a>>,
    kept: Vec<String>,
}

impl<'a> Change<'a> {
    /// Where an entity is to forward to: entities of the same file, which have to be there before.
    fn forwards(&self) -> Vec<(&'static Property, String)> {
        match self {
            Change::Create(entity) => {
                let values = entity.values.iter();
                values.filter(|(property, value)| forwards(property, value)).cloned().collect()
            }
            Change::Update { differences, .. } => {
                let values = differences.iter().map(|(property, _, after)| (*property, after));
                let forwards = values.filter(|(property, after)| forwards(property, after));
                forwards.map(|(property, after)| (property, after.clone())).collect()
            }
            Change::Delete(_)
            | Change::CreateRule { .. }
            | Change::UpdateRule { .. }
            | Change::DeleteRule { .. } => Vec::new(),
        }
    }

    const fn entity(&self) -> &'a Entity {
        match self {
            Change::Create(entity)
            | Change::Delete(entity)
            | Change::Update { entity, .. }
            | Change::CreateRule { entity, .. }
            | Change::UpdateRule { entity, .. }
            | Change::DeleteRule { entity, .. } => entity,
        }
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(current: &'a State, wanted: &'a State, prune: bool) -> Self {
        let mut plan = Self { changes: Vec::new(), last: Vec::new(), kept: Vec::new() };
        plan.surplus(current, wanted, prune);
        for entity in &wanted.entities {
            match current.find(entity) {
                None => plan.changes.push(Change::Create(entity)),
                Some(before) => plan.compare(before, entity, prune),
            }
        }
        plan
    }

    /// What the file does not have. It goes last, unless its name is wanted for something else.
    fn surplus(&mut self, current: &'a State, wanted: &State, prune: bool) {
        for entity in &current.entities {
            if wanted.find(entity).is_some() {
                continue;
            }
            // Subscriptions go with their topic.
            let with_topic = |topic: &Entity| {
                topic.kind == Kind::Topic
                    && entity.kind == Kind::Subscription
                    && wanted.find(topic).is_none()
                    && entity.path.starts_with(&format!("{}/Subscriptions/", topic.path))
            };
            if current.entities.iter().any(with_topic) {
                continue;
            }
            if !prune {
                self.kept.push(format!("{} {}", entity.kind.noun(), entity.path));
            } else if wanted.entities.iter().any(|other| other.is(entity)) {
                self.changes.push(Change::Delete(entity));
            } else {
                self.last.push(Change::Delete(entity));
            }
        }
    }

    fn compare(&mut self, before: &'a Entity, after: &'a Entity, prune: bool) {
        let differs = |(property, value): &(&'static Property, String)| {
            let old = before.value(property).unwrap_or_default();
            let same = match property.kind {
                ValueKind::Entity => old.eq_ignore_ascii_case(value),
                // A file that looks for no duplicates says nothing of a window.
                ValueKind::Span if value.is_empty() => true,
                _ => old == value,
            };
            (!same).then(|| (*property, old.to_owned(), value.clone()))
        };
        let differences: Vec<Difference> = after.values.iter().filter_map(differs).collect();
        if !differences.is_empty() {
            self.changes.push(Change::Update { entity: after, differences });
        }
        let (Some(old), Some(new)) = (&before.rules, &after.rules) else { return };
        let find = |rules: &'a [RuleDescription], name: &str| {
            rules.iter().find(|rule| rule.name.eq_ignore_ascii_case(name))
        };
        for rule in new {
            match find(old, &rule.name) {
                None => self.changes.push(Change::CreateRule { entity: after, rule }),
                Some(known) if !is_alike(known, rule) => {
                    self.changes.push(Change::UpdateRule { entity: after, rule, before: known });
                }
                Some(_) => {}
            }
        }
        for rule in old.iter().filter(|rule| find(new, &rule.name).is_none()) {
            if prune {
                self.last.push(Change::DeleteRule { entity: after, rule });
            } else {
                self.kept.push(format!("rule {} of {}", rule.name, after.path));
            }
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.changes.len() + self.last.len()
    }

    fn all(&self) -> impl Iterator<Item = &Change<'a>> {
        self.changes.iter().chain(&self.last)
    }

    /// Does it. Stops at the first change that is refused; those before it stay.
    pub(super) async fn carry_out(
        &self,
        management: &mut Management<'_>,
        mut done: impl FnMut(),
    ) -> Result<(), Failure> {
        for change in &self.changes {
            carry_out(management, change).await?;
            if change.forwards().is_empty() {
                done();
            }
        }
        for change in &self.changes {
            let forwards = change.forwards();
            if !forwards.is_empty() {
                update(management, change.entity(), forwards).await?;
                done();
            }
        }
        for change in &self.last {
            carry_out(management, change).await?;
            done();
        }
        Ok(())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let change = |change: &Change<'_>| match change {
            Change::Create(entity) => {
                json!({ "action": "create", "kind": entity.kind.noun(), "path": entity.path })
            }
            Change::Delete(entity) => {
                json!({ "action": "delete", "kind": entity.kind.noun(), "path": entity.path })
            }
            Change::Update { entity, differences } => {
                let value = |(property, before, after): &Difference| {
                    let kind = property.kind;
                    let both = json!({ "before": kind.json(before), "after": kind.json(after) });
                    (property.key(), both)
                };
                let properties: serde_json::Map<_, _> = differences.iter().map(value).collect();
                json!({
                    "action": "update", "kind": entity.kind.noun(), "path": entity.path,
                    "properties": properties,
                })
            }
            Change::CreateRule { entity, rule } => of_rule("create", entity, rule),
            Change::UpdateRule { entity, rule, .. } => of_rule("update", entity, rule),
            Change::DeleteRule { entity, rule } => of_rule("delete", entity, rule),
        };
        self.all().map(change).collect()
    }
}

/// Whether two rules do the same, as far as a file can tell them apart: it has one kind of whole number,
/// no order of properties, and no word for nothing.
fn is_alike(one: &RuleDescription, other: &RuleDescription) -> bool {
    let criteria = |Correlation { system, user }: &Correlation| {
        CorrelationFilter::new(system.iter().cloned(), user.iter().cloned())
    };
    let is_nothing = |filter: &RuleFilter| match filter {
        RuleFilter::False => true,
        RuleFilter::Sql(sql) => *sql == SqlText::plain(NOTHING),
        RuleFilter::True | RuleFilter::Selector(_) | RuleFilter::Correlation(_) => false,
    };
    let same_filter = match (&one.filter, &other.filter) {
        (RuleFilter::Correlation(one), RuleFilter::Correlation(other)) => {
            criteria(one) == criteria(other)
        }
        (one, other) => one == other || (is_nothing(one) && is_nothing(other)),
    };
    same_filter && one.action == other.action
}

fn of_rule(action: &str, entity: &Entity, rule: &RuleDescription) -> serde_json::Value {
    let name = rule.name.to_string();
    json!({ "action": action, "kind": "rule", "path": entity.path, "rule": name })
}

fn forwards(property: &Property, value: &str) -> bool {
    property.kind == ValueKind::Entity && !value.is_empty()
}

async fn create(management: &mut Management<'_>, entity: &Entity) -> Result<(), Failure> {
    let values: Vec<_> = entity
        .values
        .iter()
        .filter(|(property, value)| !value.is_empty() && !forwards(property, value))
        .cloned()
        .collect();
    let rules = entity.rules.as_deref().unwrap_or_default();
    let description = match entity.kind {
        Kind::Queue => new_description(&Given::<Queue>::new(values), None)?,
        Kind::Topic => new_description(&Given::<Topic>::new(values), None)?,
        Kind::Subscription => {
            new_description(&Given::<Subscription>::new(values), rules.first().map(parts))?
        }
    };
    management.put(&entity.path, &description, false).await?;
    for rule in rules.iter().skip(1) {
        put_rule(management, entity, rule, false).await?;
    }
    if entity.rules.is_some() && rules.is_empty() {
        // A subscription is born with a rule that this one is not to have.
        management.delete(&format!("{}/Rules/$Default", entity.path)).await?;
    }
    Ok(())
}

/// Makes a change, but for where entities forward to.
async fn carry_out(management: &mut Management<'_>, change: &Change<'_>) -> Result<(), Failure> {
    match change {
        Change::Create(entity) => create(management, entity).await,
        Change::Update { entity, differences } => {
            let now = differences.iter().filter(|(property, _, after)| !forwards(property, after));
            let values: Vec<_> =
                now.map(|(property, _, after)| (*property, after.clone())).collect();
            if values.is_empty() {
                return Ok(());
            }
            update(management, entity, values).await
        }
        Change::Delete(entity) => management.delete(&entity.path).await,
        Change::CreateRule { entity, rule } => put_rule(management, entity, rule, false).await,
        Change::UpdateRule { entity, rule, .. } => put_rule(management, entity, rule, true).await,
        Change::DeleteRule { entity, rule } => {
            management.delete(&format!("{}/Rules/{}", entity.path, rule.name)).await
        }
    }
}

async fn update(
    management: &mut Management<'_>,
    entity: &Entity,
    values: Vec<(&'static Property, String)>,
) -> Result<(), Failure> {
    let before = management.need(&entity.path, entity.kind.description()).await?.element;
    let description = match entity.kind {
        Kind::Queue => changed_description(&before, &Given::<Queue>::new(values))?,
        Kind::Topic => changed_description(&before, &Given::<Topic>::new(values))?,
        Kind::Subscription => changed_description(&before, &Given::<Subscription>::new(values))?,
    };
    management.put(&entity.path, &description, true).await.map(drop)
}

async fn put_rule(
    management: &mut Management<'_>,
    entity: &Entity,
    description: &RuleDescription,
    update: bool,
) -> Result<(), Failure> {
    let path = format!("{}/Rules/{}", entity.path, description.name);
    management.put(&path, &rule::document(description, None), update).await.map(drop)
}

/// As people read it: what comes with `+`, goes with `-`, changes with `~`.
impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filter = |rule: &RuleDescription| {
            let action = rule.action.as_ref().map(|action| format!("; {}", action.text));
            format!("{}{}", show_filter(&rule.filter), action.unwrap_or_default())
        };
        for change in self.all() {
            match change {
                Change::Create(entity) => {
                    writeln!(f, "+ {} {}", entity.kind.noun(), entity.path)?;
                    let defaults = entity.kind.defaults();
                    for (property, value) in &entity.values {
                        let is_default = defaults.iter().any(|(known, default)| {
                            known.option == property.option && default == value
                        });
                        if !is_default && !value.is_empty() {
                            writeln!(f, "    {} = {value}", property.key())?;
                        }
                    }
                    for rule in entity.rules.iter().flatten() {
                        writeln!(f, "    rule {}: {}", rule.name, filter(rule))?;
                    }
                }
                Change::Update { entity, differences } => {
                    writeln!(f, "~ {} {}", entity.kind.noun(), entity.path)?;
                    for (property, before, after) in differences {
                        writeln!(f, "    {}: {before:?} -> {after:?}", property.key())?;
                    }
                }
                Change::Delete(entity) => {
                    writeln!(f, "- {} {}, with its messages", entity.kind.noun(), entity.path)?;
                }
                Change::CreateRule { entity, rule } => {
                    let name = &rule.name;
                    writeln!(f, "+ rule {name} of {}: {}", entity.path, filter(rule))?;
                }
                Change::UpdateRule { entity, rule, before } => {
                    let name = &rule.name;
                    let (before, after) = (filter(before), filter(rule));
                    writeln!(f, "~ rule {name} of {}: {before} -> {after}", entity.path)?;
                }
                Change::DeleteRule { entity, rule } => {
                    writeln!(f, "- rule {} of {}", rule.name, entity.path)?;
                }
            }
        }
        for kept in &self.kept {
            writeln!(f, "  {kept} is not in the file and stays (--prune deletes it)")?;
        }
        if self.is_empty() {
            writeln!(f, "nothing to change")?;
        }
        Ok(())
    }
}
