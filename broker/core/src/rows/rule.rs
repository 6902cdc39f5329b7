//! Rows of the rules of subscriptions. They lie with those of the entities, so that loading finds them.
//!
//! | table | key | row | written |
//! |---|---|---|---|
//! | state | `[0][04][subscription][name in lower case]` | the rule | when it is added |

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use peeklock_protocol::message::MapSection;
use peeklock_protocol::value::{Str, Value};
use peeklock_storage::{Batch, Key, Table};

use super::{FORM, Fields, NO_ENTITY, put_text};
use crate::filter::SystemProperty;
use crate::id::EntityId;
use crate::time::Timestamp;
use crate::topic::rules::{Correlation, Rule, RuleDescription, RuleFilter, SqlText, encoded};
use crate::topic::subscription::{RuleKey, rule_key};

pub(super) const KIND_RULE: u8 = 4;

/// From so many rules on they are removed as a range: that makes later reads a little slower.
const RANGE_MIN: usize = 1000;

fn key(subscription: EntityId, name: &str) -> Key {
    prefix(subscription).with_bytes(rule_key(name).as_bytes())
}

fn prefix(subscription: EntityId) -> Key {
    Key::new().with_u32(NO_ENTITY).with_u8(KIND_RULE).with_u32(subscription.0)
}

/// All rules of a subscription.
fn range(subscription: EntityId) -> Range<Key> {
    prefix(subscription).prefix_range()
}

pub(super) fn put_rule(subscription: EntityId, rule: &Rule, batch: &mut Batch) {
    let RuleDescription { name, filter, action } = &rule.description;
    let mut row = BytesMut::with_capacity(128);
    row.put_u8(FORM);
    row.put_u64(rule.created_at.0);
    put_text(name, &mut row);
    match filter {
        RuleFilter::True => row.put_u8(0),
        RuleFilter::False => row.put_u8(1),
        RuleFilter::Sql(sql) => {
            row.put_u8(2);
            put_sql(sql, &mut row);
        }
        RuleFilter::Selector(text) => {
            row.put_u8(4);
            put_text(text, &mut row);
        }
        RuleFilter::Correlation(Correlation { system, user }) => {
            row.put_u8(3);
            row.put_u16(u16::try_from(system.len()).expect("there are few such properties"));
            for (property, text) in system {
                put_text(property.name(), &mut row);
                put_text(text, &mut row);
            }
            put_values(user, &mut row);
        }
    }
    row.put_u8(u8::from(action.is_some()));
    if let Some(action) = action {
        put_sql(action, &mut row);
    }
    batch.put(Table::State, key(subscription, name), row.freeze());
}

pub(super) fn remove_rule(subscription: EntityId, name: &str, batch: &mut Batch) {
    batch.remove(Table::State, key(subscription, name));
}

/// Removes the rules of a subscription that is gone: these, and no others are there.
pub(crate) fn remove_rules(subscription: EntityId, keys: &[RuleKey], batch: &mut Batch) {
    if RANGE_MIN <= keys.len() {
        batch.remove_range(Table::State, range(subscription));
        return;
    }
    for name in keys {
        remove_rule(subscription, name, batch);
    }
}

fn put_sql(SqlText { text, parameters }: &SqlText, row: &mut BytesMut) {
    put_text(text, row);
    put_values(parameters, row);
}

fn put_values(values: &[(Str, Value)], row: &mut BytesMut) {
    let section = encoded(values);
    row.put_u32(u32::try_from(section.len()).expect("a rule is small"));
    row.put_slice(&section);
}

/// What [`put_rule`] wrote, behind the form.
pub(super) fn read_rule(fields: &mut Fields<'_>) -> Option<Rule> {
    let created_at = Timestamp(fields.u64()?);
    let name = fields.text()?.into();
    let filter = match fields.u8()? {
        0 => RuleFilter::True,
        1 => RuleFilter::False,
        2 => RuleFilter::Sql(read_sql(fields)?),
        3 => {
            let count = u16::from_be_bytes(fields.array()?);
            let mut property =
                || Some((SystemProperty::named(fields.text()?)?, Str::from(fields.text()?)));
            let system = (0..count).map(|_| property()).collect::<Option<_>>()?;
            RuleFilter::Correlation(Correlation { system, user: read_values(fields)? })
        }
        4 => RuleFilter::Selector(fields.text()?.into()),
        _ => return None,
    };
    let action = match fields.u8()? {
        0 => None,
        1 => Some(read_sql(fields)?),
        _ => return None,
    };
    let description = RuleDescription { name, filter, action };
    Some(Rule { description, created_at })
}

fn read_sql(fields: &mut Fields<'_>) -> Option<SqlText> {
    Some(SqlText { text: fields.text()?.into(), parameters: read_values(fields)? })
}

fn read_values(fields: &mut Fields<'_>) -> Option<Vec<(Str, Value)>> {
    let len = usize::try_from(fields.u32()?).ok()?;
    let (section, rest) = fields.0.split_at_checked(len)?;
    fields.0 = rest;
    if section.is_empty() {
        return Some(Vec::new());
    }
    let entry = |entry: peeklock_protocol::message::Entry<'_>| {
        Some((Str::from(entry.key().ok()??), entry.value().ok()?))
    };
    MapSection::parse(section).ok()?.entries().map(|found| entry(found.ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use peeklock_storage::{Epoch, Op};

    use super::*;
    use crate::rows::{StateRow, read_state_row, state_range};

    #[test]
    fn a_rule_reads_back_as_it_was_written() {
        let parameters = vec![("@p".into(), Value::from(7)), ("@q".into(), Value::Null)];
        let sql = SqlText { text: "a = @p".into(), parameters };
        let correlation = Correlation {
            system: vec![
                (SystemProperty::Label, "red".into()),
                (SystemProperty::CorrelationId, "".into()),
            ],
            user: vec![("n".into(), Value::Ulong(9)), ("t".into(), "x".into())],
        };
        let filters = [
            RuleFilter::True,
            RuleFilter::False,
            RuleFilter::Sql(sql.clone()),
            RuleFilter::Selector("a BETWEEN 1 AND 2".into()),
            RuleFilter::Correlation(correlation),
            RuleFilter::Correlation(Correlation::default()),
        ];
        for filter in filters {
            for action in [None, Some(SqlText::plain("SET a = 1")), Some(sql.clone())] {
                let name = "$Default".into();
                let description = RuleDescription { name, filter: filter.clone(), action };
                let rule = Rule { description, created_at: Timestamp(77) };
                let mut batch = Batch::new(Epoch(0));
                put_rule(EntityId(5), &rule, &mut batch);
                remove_rule(EntityId(5), "$DEFAULT", &mut batch);
                let ops = batch.into_ops();
                let [Op::Put { key, value, .. }, Op::Remove { key: removed, .. }] = &ops[..] else {
                    panic!("{ops:?}")
                };
                assert_eq!(key, removed);
                assert!(state_range().contains(key) && range(EntityId(5)).contains(key));
                let StateRow::Rule(subscription, read) = read_state_row(key, value).unwrap() else {
                    panic!("not a rule")
                };
                assert_eq!((subscription, read), (EntityId(5), rule));
                for end in 0..value.len() {
                    assert!(read_state_row(key, &value.slice(..end)).is_err());
                }
            }
        }
    }
}
