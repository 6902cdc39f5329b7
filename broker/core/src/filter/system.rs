//! The properties of a message that have a name of their own: `sys.Label` and its like.

use super::name;

/// A property of the message itself, by the name Service Bus gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say what there is to say")]
pub enum SystemProperty {
    MessageId,
    CorrelationId,
    To,
    ReplyTo,
    /// What AMQP calls subject, and newer SDKs too.
    Label,
    SessionId,
    ReplyToSessionId,
    ContentType,
    PartitionKey,
    ViaPartitionKey,
    TimeToLive,
    ScheduledEnqueueTimeUtc,
    EnqueuedTimeUtc,
    SequenceNumber,
    EnqueuedSequenceNumber,
    DeliveryCount,
    ExpiresAtUtc,
    ForcePersistence,
    Size,
    State,
    DeadLetterSource,
    /// Only JMS selectors ask for this one and those that follow.
    Priority,
    DeliveryMode,
    CreationTime,
    UserId,
    GroupSequence,
}

/// Which values a system property can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemType {
    Text,
    Moment,
    Span,
    /// The broker's to say.
    ReadOnly,
}

impl SystemProperty {
    /// How many there are.
    pub(crate) const COUNT: usize = SystemProperty::GroupSequence as usize + 1;

    /// Those that SQL filters and actions know.
    pub const ALL: [SystemProperty; 21] = [
        Self::MessageId,
        Self::CorrelationId,
        Self::To,
        Self::ReplyTo,
        Self::Label,
        Self::SessionId,
        Self::ReplyToSessionId,
        Self::ContentType,
        Self::PartitionKey,
        Self::ViaPartitionKey,
        Self::TimeToLive,
        Self::ScheduledEnqueueTimeUtc,
        Self::EnqueuedTimeUtc,
        Self::SequenceNumber,
        Self::EnqueuedSequenceNumber,
        Self::DeliveryCount,
        Self::ExpiresAtUtc,
        Self::ForcePersistence,
        Self::Size,
        Self::State,
        Self::DeadLetterSource,
    ];

    /// Finds a property by what follows `sys.`, in any case.
    pub fn named(text: &str) -> Option<Self> {
        let folded = name::fold(text);
        if folded == "subject" {
            return Some(Self::Label);
        }
        Self::ALL.into_iter().find(|property| property.name().eq_ignore_ascii_case(&folded))
    }

    /// What follows `sys.`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MessageId => "MessageId",
            Self::CorrelationId => "CorrelationId",
            Self::To => "To",
            Self::ReplyTo => "ReplyTo",
            Self::Label => "Label",
            Self::SessionId => "SessionId",
            Self::ReplyToSessionId => "ReplyToSessionId",
            Self::ContentType => "ContentType",
            Self::PartitionKey => "PartitionKey",
            Self::ViaPartitionKey => "ViaPartitionKey",
            Self::TimeToLive => "TimeToLive",
            Self::ScheduledEnqueueTimeUtc => "ScheduledEnqueueTimeUtc",
            Self::EnqueuedTimeUtc => "EnqueuedTimeUtc",
            Self::SequenceNumber => "SequenceNumber",
            Self::EnqueuedSequenceNumber => "EnqueuedSequenceNumber",
            Self::DeliveryCount => "DeliveryCount",
            Self::ExpiresAtUtc => "ExpiresAtUtc",
            Self::ForcePersistence => "ForcePersistence",
            Self::Size => "Size",
            Self::State => "State",
            Self::DeadLetterSource => "DeadLetterSource",
            Self::Priority => "Priority",
            Self::DeliveryMode => "DeliveryMode",
            Self::CreationTime => "CreationTime",
            Self::UserId => "UserId",
            Self::GroupSequence => "GroupSequence",
        }
    }

    /// What an action may make of it.
    pub(crate) const fn settable(self) -> SystemType {
        match self {
            Self::MessageId
            | Self::CorrelationId
            | Self::To
            | Self::ReplyTo
            | Self::Label
            | Self::SessionId
            | Self::ReplyToSessionId
            | Self::ContentType
            | Self::PartitionKey
            | Self::ViaPartitionKey => SystemType::Text,
            Self::ScheduledEnqueueTimeUtc => SystemType::Moment,
            Self::TimeToLive => SystemType::Span,
            Self::EnqueuedTimeUtc
            | Self::SequenceNumber
            | Self::EnqueuedSequenceNumber
            | Self::DeliveryCount
            | Self::ExpiresAtUtc
            | Self::ForcePersistence
            | Self::Size
            | Self::State
            | Self::DeadLetterSource
            | Self::Priority
            | Self::DeliveryMode
            | Self::CreationTime
            | Self::UserId
            | Self::GroupSequence => SystemType::ReadOnly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_found_by_its_name_in_any_case() {
        for property in SystemProperty::ALL {
            assert_eq!(SystemProperty::named(property.name()), Some(property));
            assert_eq!(SystemProperty::named(&property.name().to_uppercase()), Some(property));
        }
        assert_eq!(SystemProperty::named("Subject"), Some(SystemProperty::Label));
        for unknown in ["", "Labels", "Body", "Priority", "LABEL "] {
            assert_eq!(SystemProperty::named(unknown), None, "{unknown}");
        }
    }
}
