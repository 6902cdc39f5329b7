//! What filters ask of a message.

use peeklock_protocol::value::Value;

use super::name::Name;
use super::system::SystemProperty;

/// The properties of a message, looked up one by one when a filter comes to them.
pub trait Properties {
    /// A property of the message itself; none if it is not set.
    fn system(&self, property: SystemProperty) -> Option<&Value>;

    /// A property that the sender chose; none if there is none of this name. Of several whose names
    /// differ in case only, the one that is spelled like `name` comes first.
    fn user(&self, name: &Name) -> Option<&Value>;
}

/// A message without properties: what constants are evaluated over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoProperties;

impl Properties for NoProperties {
    fn system(&self, _: SystemProperty) -> Option<&Value> {
        None
    }

    fn user(&self, _: &Name) -> Option<&Value> {
        None
    }
}
