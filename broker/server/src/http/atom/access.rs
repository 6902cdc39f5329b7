//! Access rules of an entity: `AuthorizationRules`. They hold keys, so whoever reads or sets them must
//! have the right Manage, as for the rest of an entity.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use peeklock_core::entity::access::{
    AccessKey, AccessRights, AccessRule, AccessRuleChange, KeyChange,
};

use super::error::Fault;
use super::time;
use super::xml::{Element, Space, Writer};

const LIST: &str = "AuthorizationRules";
const ITEM: &str = "AuthorizationRule";
/// The only kind there is: a rule with two keys.
const KIND: &str = "SharedAccessAuthorizationRule";
const CLAIM: &str = "SharedAccessKey";
/// What the service wants a key to be, and SDKs make.
const KEY_OCTETS: usize = 32;

/// Where a right is kept.
type Flag = fn(&mut AccessRights) -> &mut bool;

const RIGHTS: [(&str, Flag); 3] = [
    ("Manage", |rights| &mut rights.manage),
    ("Send", |rights| &mut rights.send),
    ("Listen", |rights| &mut rights.listen),
];

/// Reads the rules that a description sets; nothing if it does not speak of them. A tool that knows
/// nothing of rules then takes away nobody's. What stays is for the core to find: what was read before
/// may be gone by then.
pub(super) fn read(description: &Element) -> Result<Option<Vec<AccessRuleChange>>, Fault> {
    let list = description.child(Space::ServiceBus, LIST);
    list.map(|list| list.children.iter().map(read_rule).collect()).transpose()
}

/// The rules of an entity that is new.
pub(super) fn first(changes: Option<Vec<AccessRuleChange>>) -> Vec<AccessRule> {
    changes.into_iter().flatten().map(|change| change.apply_to(&[])).collect()
}

/// Refuses rules where there can be none.
pub(super) fn refuse(description: &Element, why: &str) -> Result<(), Fault> {
    let list = description.child(Space::ServiceBus, LIST);
    if list.is_some_and(|list| !list.children.is_empty()) {
        return Err(Fault::property(LIST, why));
    }
    Ok(())
}

fn read_rule(item: &Element) -> Result<AccessRuleChange, Fault> {
    let wrong = |why: &str| Fault::property(LIST, why);
    let is_rule = item.space == Space::ServiceBus && item.name == ITEM;
    let is_known = item.kind.as_deref().is_none_or(|kind| kind == KIND);
    let claim = item.text_of("ClaimType").map_or(CLAIM, str::trim);
    if !is_rule || !is_known || !claim.eq_ignore_ascii_case(CLAIM) {
        return Err(wrong("a rule is a SharedAccessAuthorizationRule"));
    }
    let name = item.text_of("KeyName").ok_or_else(|| wrong("a rule lacks its KeyName"))?;
    Ok(AccessRuleChange {
        name: name.into(),
        rights: read_rights(item)?,
        primary_key: read_key(item, "PrimaryKey")?,
        secondary_key: read_key(item, "SecondaryKey")?,
    })
}

fn read_rights(item: &Element) -> Result<AccessRights, Fault> {
    let mut rights = AccessRights::default();
    let given = item.child(Space::ServiceBus, "Rights").map(|rights| rights.children.as_slice());
    for right in given.unwrap_or_default() {
        let known = RIGHTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(right.text.trim()));
        let Some((_, flag)) = known.filter(|_| right.name == "AccessRights") else {
            return Err(Fault::property(LIST, "a right is Manage, Send or Listen"));
        };
        *flag(&mut rights) = true;
    }
    Ok(rights)
}

/// A key that is left out stays as it is; a new rule gets a new one.
fn read_key(item: &Element, name: &str) -> Result<KeyChange, Fault> {
    let Some(text) = item.text_of(name).map(str::trim) else {
        let new = STANDARD.encode(rand::random::<[u8; KEY_OCTETS]>());
        return Ok(KeyChange::Keep { or: AccessKey::new(new) });
    };
    // Never in the text of a fault: that is shown, and may be logged.
    if STANDARD.decode(text).is_ok_and(|octets| octets.len() == KEY_OCTETS) {
        Ok(KeyChange::Set(AccessKey::new(text)))
    } else {
        Err(Fault::property(LIST, &format!("{name} has to be the base64 of 32 octets")))
    }
}

pub(super) fn write(writer: &mut Writer, rules: &[AccessRule]) {
    if rules.is_empty() {
        writer.leaf(LIST, "");
        return;
    }
    writer.open(LIST, &[]);
    for rule in rules {
        writer.open(ITEM, &[("i:type", KIND)]);
        writer.leaf("ClaimType", CLAIM);
        writer.leaf("ClaimValue", "None");
        writer.open("Rights", &[]);
        let mut rights = rule.rights;
        for (name, flag) in RIGHTS {
            if *flag(&mut rights) {
                writer.leaf("AccessRights", name);
            }
        }
        writer.close("Rights");
        writer.leaf("CreatedTime", &time::show_moment(rule.created_at));
        writer.leaf("ModifiedTime", &time::show_moment(rule.modified_at));
        writer.leaf("KeyName", &rule.name);
        writer.leaf("PrimaryKey", rule.primary_key.expose());
        writer.leaf("SecondaryKey", rule.secondary_key.expose());
        writer.close(ITEM);
    }
    writer.close(LIST);
}
