//! What the roles in a token are worth: names that the configuration knows, and what each may do where.

use std::collections::{BTreeMap, HashSet};

use peeklock_core::time::Timestamp;

use super::super::{Credential, Grant, ResourcePath, Rights};

/// A role, and what whoever has it may do where.
#[derive(Clone, Debug)]
pub struct RoleRule {
    name: String,
    rights: Rights,
    place: ResourcePath,
}

impl RoleRule {
    /// A role, group or scope by its name in the token. The place is that of a path or of a pattern.
    pub fn new(name: impl Into<String>, rights: Rights, place: ResourcePath) -> Self {
        Self { name: name.into(), rights, place }
    }

    /// The names that Azure has for the roles of Service Bus, valid for the whole namespace.
    pub fn of_azure() -> Vec<Self> {
        let send = Rights { send: true, ..Rights::NONE };
        let listen = Rights { listen: true, ..Rights::NONE };
        [("Sender", send), ("Receiver", listen), ("Owner", Rights::MANAGE)]
            .map(|(name, rights)| {
                let name = format!("Azure Service Bus Data {name}");
                Self::new(name, rights, ResourcePath::default())
            })
            .into()
    }
}

/// What the roles grant together: one grant for each place.
pub(super) fn grants(
    rules: &[RoleRule],
    roles: &HashSet<&str>,
    valid_until: Timestamp,
    source: &Credential,
) -> Vec<Grant> {
    let mut places: BTreeMap<&ResourcePath, Rights> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| roles.contains(rule.name.as_str())) {
        let rights = places.entry(&rule.place).or_insert(Rights::NONE);
        *rights = rights.or(rule.rights);
    }
    let grant = |(place, rights): (&ResourcePath, Rights)| Grant {
        audience: place.clone(),
        rights,
        valid_until,
        source: source.clone(),
    };
    places.into_iter().map(grant).collect()
}
