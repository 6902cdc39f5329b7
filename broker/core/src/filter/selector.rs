//! JMS message selectors: another grammar in front of the same engine.
//!
//! Where it differs from SQL filters: names are case-sensitive and may begin with `_` or `$`, there
//! is `BETWEEN`, there are no scopes, functions, parameters or `EXISTS`, and what begins with `JMS`
//! is a property of the message itself.

use super::ast::Property;
use super::name::Name;
use super::system::SystemProperty;

/// What a name in a selector stands for.
pub(crate) fn property(name: &str) -> Property {
    let system = match name {
        "JMSMessageID" => SystemProperty::MessageId,
        "JMSCorrelationID" => SystemProperty::CorrelationId,
        "JMSType" => SystemProperty::Label,
        "JMSDestination" => SystemProperty::To,
        "JMSReplyTo" => SystemProperty::ReplyTo,
        "JMSPriority" => SystemProperty::Priority,
        "JMSDeliveryMode" => SystemProperty::DeliveryMode,
        "JMSTimestamp" => SystemProperty::CreationTime,
        "JMSXGroupID" => SystemProperty::SessionId,
        "JMSXGroupSeq" => SystemProperty::GroupSequence,
        "JMSXUserID" => SystemProperty::UserId,
        "JMSXDeliveryCount" => SystemProperty::DeliveryCount,
        _ => return Property::User(Name::exact(name)),
    };
    Property::System(system)
}
