//! Everything that can be asked of the broker, and the right that it takes: the one list, from which all
//! doors take it. What is not in it cannot be asked for: a door has to name an operation to have anything
//! allowed. `docs/SECURITY.md` shows the list, and a test keeps it true.

use std::fmt;

use super::Action;

/// The rights of which one is needed; none at all for what is open to everybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs(&'static [Action]);

impl Needs {
    const NOTHING: Needs = Needs(&[]);
    const SEND: Needs = Needs(&[Action::Send]);
    const LISTEN: Needs = Needs(&[Action::Listen]);
    const MANAGE: Needs = Needs(&[Action::Manage]);
    const SEND_OR_LISTEN: Needs = Needs(&[Action::Send, Action::Listen]);
    const ANY: Needs = Needs(&Action::ALL);

    /// The rights, of which each is enough.
    pub const fn actions(self) -> &'static [Action] {
        self.0
    }
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (index, action) in self.0.iter().enumerate() {
            let between = if index == 0 { "" } else { " or " };
            write!(f, "{between}{action}")?;
        }
        Ok(())
    }
}

impl From<Operation> for Needs {
    fn from(operation: Operation) -> Self {
        operation.needs()
    }
}

/// Only tests ask for a right by itself.
#[cfg(test)]
impl From<Action> for Needs {
    fn from(action: Action) -> Self {
        match action {
            Action::Send => Needs::SEND,
            Action::Listen => Needs::LISTEN,
            Action::Manage => Needs::MANAGE,
        }
    }
}

/// By which way something is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Door {
    /// Attaching an AMQP link; asked again whenever rights change.
    Link,
    /// A request to `{entity}/$management`.
    Management,
    /// A request to `$management` of the namespace.
    NamespaceNode,
    /// A request to the management API over HTTP.
    Administration,
    /// A request for messages over HTTP.
    Messages,
    /// A request to `/$peeklock`.
    Control,
    /// A request to `/metrics`.
    Metrics,
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Door::Link => "AMQP link",
            Door::Management => "`{entity}/$management`",
            Door::NamespaceNode => "`$management`",
            Door::Administration => "HTTP, administration",
            Door::Messages => "HTTP, messages",
            Door::Control => "HTTP, control",
            Door::Metrics => "HTTP, metrics",
        })
    }
}

macro_rules! operations {
    ($($door:ident { $($operation:ident = $name:literal, $needs:ident;)+ })+) => {
        /// One thing that can be asked for: see the table below, and [`Operation::name`].
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Operation {
            $($(#[doc = concat!("`", stringify!($operation), "`")] $operation,)+)+
        }

        impl Operation {
            /// All there are, door by door.
            pub const ALL: &'static [Operation] = &[$($(Operation::$operation,)+)+];

            /// By which way it is asked for.
            pub const fn door(self) -> Door {
                match self { $($(Operation::$operation => Door::$door,)+)+ }
            }

            /// What it is called: of requests to a management node, on the wire.
            pub const fn name(self) -> &'static str {
                match self { $($(Operation::$operation => $name,)+)+ }
            }

            /// The right that it takes.
            pub const fn needs(self) -> Needs {
                match self { $($(Operation::$operation => Needs::$needs,)+)+ }
            }
        }
    };
}

operations! {
    Link {
        LinkToCbs = "to or from `$cbs`", NOTHING;
        LinkToCoordinator = "to the coordinator of transactions", NOTHING;
        LinkToSend = "to an entity, and to the one by way of which it goes", SEND;
        LinkToReceive = "from an entity", LISTEN;
        LinkToMake = "from a topic, which makes a subscription of JMS", MANAGE;
        LinkToFind = "that is to be shown a subscription of JMS", LISTEN;
        LinkToUnsubscribe = "that deletes a subscription of JMS by its end", MANAGE;
        LinkToDynamic = "that has a queue or topic made for it", MANAGE;
        RelayTo = "to no entity: each message, for where it goes", SEND;
        LinkToManagement = "to or from `{entity}/$management`", SEND_OR_LISTEN;
        LinkToNamespaceNode = "to or from `$management`", SEND_OR_LISTEN;
    }
    Management {
        RenewLock = "com.microsoft:renew-lock", LISTEN;
        RenewSessionLock = "com.microsoft:renew-session-lock", LISTEN;
        PeekMessage = "com.microsoft:peek-message", LISTEN;
        ReceiveBySequenceNumber = "com.microsoft:receive-by-sequence-number", LISTEN;
        UpdateDisposition = "com.microsoft:update-disposition", LISTEN;
        ScheduleMessage = "com.microsoft:schedule-message", SEND;
        CancelScheduledMessage = "com.microsoft:cancel-scheduled-message", SEND;
        SetSessionState = "com.microsoft:set-session-state", LISTEN;
        GetSessionState = "com.microsoft:get-session-state", LISTEN;
        GetMessageSessions = "com.microsoft:get-message-sessions", LISTEN;
        BatchDeleteMessages = "com.microsoft:batch-delete-messages", LISTEN;
        AddRule = "com.microsoft:add-rule", LISTEN;
        RemoveRule = "com.microsoft:remove-rule", LISTEN;
        EnumerateRules = "com.microsoft:enumerate-rules", LISTEN;
    }
    NamespaceNode {
        ReadClock = "io.peeklock:read-clock", MANAGE;
        FreezeClock = "io.peeklock:freeze-clock", MANAGE;
        AdvanceClock = "io.peeklock:advance-clock", MANAGE;
        ResumeClock = "io.peeklock:resume-clock", MANAGE;
    }
    Administration {
        GetNamespaceInfo = "GET /$namespaceinfo", ANY;
        ListQueues = "GET /$Resources/queues", MANAGE;
        ListTopics = "GET /$Resources/topics", MANAGE;
        GetEntity = "GET /{entity}", MANAGE;
        PutEntity = "PUT /{entity}", MANAGE;
        DeleteEntity = "DELETE /{entity}", MANAGE;
        ForwardTo = "PUT with ForwardTo or ForwardDeadLetteredMessagesTo, at their target", SEND;
        ListSubscriptions = "GET /{topic}/subscriptions", MANAGE;
        GetSubscription = "GET /{topic}/subscriptions/{subscription}", MANAGE;
        PutSubscription = "PUT /{topic}/subscriptions/{subscription}", MANAGE;
        DeleteSubscription = "DELETE /{topic}/subscriptions/{subscription}", MANAGE;
        ListRules = "GET /{topic}/subscriptions/{subscription}/rules", MANAGE;
        GetRule = "GET /{topic}/subscriptions/{subscription}/rules/{rule}", MANAGE;
        PutRule = "PUT /{topic}/subscriptions/{subscription}/rules/{rule}", MANAGE;
        DeleteRule = "DELETE /{topic}/subscriptions/{subscription}/rules/{rule}", MANAGE;
        OtherVerb = "PATCH /{entity}, and whatever else is no operation", MANAGE;
    }
    Messages {
        SendMessages = "POST /{entity}/messages", SEND;
        PeekLock = "POST /{entity}/messages/head", LISTEN;
        ReceiveAndDelete = "DELETE /{entity}/messages/head", LISTEN;
        Complete = "DELETE /{entity}/messages/{message}/{lock}", LISTEN;
        Unlock = "PUT /{entity}/messages/{message}/{lock}", LISTEN;
        Renew = "POST /{entity}/messages/{message}/{lock}", LISTEN;
    }
    Control {
        Control = "any request to /$peeklock", MANAGE;
    }
    Metrics {
        ReadMetrics = "GET /metrics, from outside of its networks", MANAGE;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fmt::Write;

    use peeklock_core::time::Timestamp;

    use super::super::{Claims, Credential, Grant, Resource, ResourcePath, Rights, authorize};
    use super::*;

    #[test]
    fn every_operation_is_there_once() {
        let names: HashSet<_> =
            Operation::ALL.iter().map(|one| (one.door().to_string(), one.name())).collect();
        assert_eq!(names.len(), Operation::ALL.len());
    }

    /// What every door comes down to: each operation with each kind of claims.
    #[test]
    fn an_operation_takes_its_right_at_its_place_in_time() {
        let end = Timestamp(1000);
        let claims = |rights, place: &str| {
            let (audience, source) = (ResourcePath::pattern(place), Credential::well_known());
            let grant = Grant { audience, rights, valid_until: end, source };
            let mut claims = Claims::default();
            claims.grant(grant, Timestamp(0)).unwrap();
            claims
        };
        let [send, listen] =
            [true, false].map(|send| Rights { send, listen: !send, manage: false });
        for operation in Operation::ALL {
            let needs = operation.needs().actions();
            let open = needs.is_empty();
            let by = |claims: &Claims, now| {
                authorize(claims, *operation, Resource::Path("orders/x"), Timestamp(now)).is_ok()
            };
            let enough = |action| open || needs.contains(&action);
            assert_eq!(by(&Claims::default(), 0), open, "{operation:?} without claims");
            for place in ["", "orders", "orders/x"] {
                assert_eq!(by(&claims(send, place), 0), enough(Action::Send), "{operation:?}");
                assert_eq!(by(&claims(listen, place), 0), enough(Action::Listen), "{operation:?}");
                assert!(by(&claims(Rights::MANAGE, place), 999), "{operation:?}");
                assert_eq!(by(&claims(Rights::MANAGE, place), 1000), open, "{operation:?} late");
            }
            for place in ["other", "orders/x/y", "orders/xy", "order"] {
                assert_eq!(by(&claims(Rights::MANAGE, place), 0), open, "{operation:?} elsewhere");
            }
        }
    }

    #[test]
    fn the_security_page_shows_the_list() {
        let mut table = "| Door | Operation | Right |\n|---|---|---|\n".to_owned();
        for operation in Operation::ALL {
            let (door, name, needs) = (operation.door(), operation.name(), operation.needs());
            let is_code = !matches!(operation.door(), Door::Link);
            let quote = if is_code { "`" } else { "" };
            writeln!(table, "| {door} | {quote}{name}{quote} | {needs} |").unwrap();
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SECURITY.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains(&table), "docs/SECURITY.md is to have this table:\n{table}");
    }
}
