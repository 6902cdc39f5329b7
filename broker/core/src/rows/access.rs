//! The access rules of an entity, in the row of its definition.

use bytes::{BufMut, BytesMut};

use super::{Fields, put_text};
use crate::entity::access::{AccessKey, AccessRights, AccessRule, RULES_MAX};
use crate::time::Timestamp;

const MANAGE: u8 = 1;
const SEND: u8 = 2;
const LISTEN: u8 = 4;

pub(super) fn put_rules(rules: &[AccessRule], row: &mut BytesMut) {
    row.put_u8(u8::try_from(rules.len()).expect("there are few rules"));
    for AccessRule { name, rights, primary_key, secondary_key, created_at, modified_at } in rules {
        put_text(name, row);
        let AccessRights { manage, send, listen } = *rights;
        let bits = [(manage, MANAGE), (send, SEND), (listen, LISTEN)];
        row.put_u8(bits.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum());
        put_text(primary_key.expose(), row);
        put_text(secondary_key.expose(), row);
        row.put_u64(created_at.0);
        row.put_u64(modified_at.0);
    }
}

/// Rows of earlier releases end before them.
pub(super) fn read_rules(fields: &mut Fields<'_>) -> Option<Vec<AccessRule>> {
    if fields.0.is_empty() {
        return Some(Vec::new());
    }
    let count = usize::from(fields.u8()?);
    if RULES_MAX < count {
        return None;
    }
    (0..count).map(|_| read_rule(fields)).collect()
}

fn read_rule(fields: &mut Fields<'_>) -> Option<AccessRule> {
    let name = fields.text()?.into();
    let bits = fields.u8()?;
    if bits & !(MANAGE | SEND | LISTEN) != 0 {
        return None;
    }
    let rights = AccessRights {
        manage: bits & MANAGE != 0,
        send: bits & SEND != 0,
        listen: bits & LISTEN != 0,
    };
    Some(AccessRule {
        name,
        rights,
        primary_key: AccessKey::new(fields.text()?),
        secondary_key: AccessKey::new(fields.text()?),
        created_at: Timestamp(fields.u64()?),
        modified_at: Timestamp(fields.u64()?),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::rows) fn rules() -> Vec<AccessRule> {
        let rule = |name: &str, rights, at| AccessRule {
            name: name.into(),
            rights,
            primary_key: AccessKey::new(format!("{name}-1")),
            secondary_key: AccessKey::new(format!("{name}-2")),
            created_at: Timestamp(at),
            modified_at: Timestamp(at + 1),
        };
        let none = AccessRights::default();
        vec![
            rule("all", AccessRights { manage: true, send: true, listen: true }, 5),
            rule("sénd", AccessRights { send: true, ..none }, 6),
            rule("listen", AccessRights { listen: true, ..none }, u64::MAX - 1),
        ]
    }

    #[test]
    fn rules_that_are_cut_off_or_unknown_are_not_read() {
        let mut row = BytesMut::new();
        put_rules(&rules(), &mut row);
        assert_eq!(read_rules(&mut Fields(&row)), Some(rules()));
        for end in 1..row.len() {
            assert_eq!(read_rules(&mut Fields(&row[..end])), None, "{end} octets");
        }
        row[0] = 13;
        assert_eq!(read_rules(&mut Fields(&row)), None);
        row[0] = 1;
        // Behind the number of rules, the length of the first name, and the name.
        row[6] = 8;
        assert_eq!(read_rules(&mut Fields(&row)), None);
    }
}
