//! Topics: declaring them, and asking a subscription about its rules.

use peeklock_protocol::value::{Map, Value};

use crate::broker::Setup;
use crate::message::Message;
use crate::peer::Peer;
use crate::requests::{Answer, Requests};

/// The codes of what a subscription says about its rules. JS compares the numbers.
pub mod code {
    /// A rule: filter, action, name, since when.
    pub const RULE: u64 = 0x137_0000_0004;
    /// No action.
    pub const EMPTY_ACTION: u64 = 0x137_0000_0005;
    /// An action in SQL.
    pub const SQL_ACTION: u64 = 0x137_0000_0006;
    /// A filter in SQL.
    pub const SQL_FILTER: u64 = 0x13_7000_0006;
    /// A filter that lets everything through.
    pub const TRUE_FILTER: u64 = 0x13_7000_0007;
    /// A filter that lets nothing through.
    pub const FALSE_FILTER: u64 = 0x13_7000_0008;
    /// A filter by properties.
    pub const CORRELATION_FILTER: u64 = 0x13_7000_0009;
}

impl Setup {
    /// Declares a topic with settings, one `key = value` a line.
    #[must_use]
    pub fn topic(self, name: &str, settings: &str) -> Self {
        self.config(&format!("[[topic]]\nname = \"{name}\"\n{settings}\n"))
    }

    /// Declares a subscription of the topic that was declared last.
    #[must_use]
    pub fn subscription(self, name: &str, settings: &str) -> Self {
        self.config(&format!("[[topic.subscription]]\nname = \"{name}\"\n{settings}\n"))
    }

    /// Declares a rule of the subscription that was declared last.
    #[must_use]
    pub fn filter(self, name: &str, settings: &str) -> Self {
        self.config(&format!("[[topic.subscription.rule]]\nname = \"{name}\"\n{settings}\n"))
    }
}

/// The address of a subscription of the topic `t`.
pub fn of(subscription: &str) -> String {
    format!("t/Subscriptions/{subscription}")
}

/// A filter in SQL, as a request has it.
pub fn sql(expression: &str) -> Map {
    Map::new().with("sql-filter", Map::new().with("expression", expression))
}

/// A filter by properties, as a request has it.
pub fn correlation(fields: Map) -> Map {
    Map::new().with("correlation-filter", fields)
}

/// A rule as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// The code of its filter, and what the filter says.
    pub filter: (u64, Vec<Value>),
    /// The code of its action, and what the action says.
    pub action: (u64, Vec<Value>),
    /// Since when there is the rule, in milliseconds since 1970.
    pub created_at: i64,
}

impl Listed {
    /// Reads an entry of a list of rules as strictly as .NET and JS do.
    #[track_caller]
    fn read(entry: &Value) -> Self {
        let rule = entry.get("rule-description").expect("a map with a description");
        let (descriptor, fields) = described(rule);
        assert_eq!(descriptor, code::RULE);
        let [filter, action, Value::String(name), Value::Timestamp(created_at)] = &fields[..]
        else {
            panic!("filter, action, name and time: {fields:?}")
        };
        let (filter, action) = (described(filter), described(action));
        Self { name: name.to_string(), filter, action, created_at: *created_at }
    }
}

#[track_caller]
fn described(value: &Value) -> (u64, Vec<Value>) {
    match value.as_described() {
        Some((Value::Ulong(code), Value::List(fields))) => (*code, fields.clone()),
        other => panic!("a list under a number: {other:?}"),
    }
}

impl Peer {
    /// Asks for a rule. `description` is the filter, and perhaps the action.
    #[track_caller]
    pub fn ask_for_rule(&mut self, pair: &mut Requests, name: &str, description: Map) -> Answer {
        let body = Map::new().with("rule-name", name).with("rule-description", description);
        self.manage(pair, "com.microsoft:add-rule", body)
    }

    /// Adds a rule.
    #[track_caller]
    pub fn add_rule(&mut self, pair: &mut Requests, name: &str, description: Map) {
        let answer = self.ask_for_rule(pair, name, description);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Asks to remove a rule.
    #[track_caller]
    pub fn remove_rule(&mut self, pair: &mut Requests, name: &str) -> Answer {
        let body = Map::new().with("rule-name", name);
        self.manage(pair, "com.microsoft:remove-rule", body)
    }

    /// Lists rules.
    #[track_caller]
    pub fn list_rules(&mut self, pair: &mut Requests, skip: i32, top: i32) -> Vec<Listed> {
        let body = Map::new().with("skip", skip).with("top", top);
        let answer = self.manage(pair, "com.microsoft:enumerate-rules", body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let Value::List(rules) = answer.entry("rules") else { panic!("{answer:?}") };
        rules.iter().map(Listed::read).collect()
    }

    /// The first messages that browsing shows.
    #[track_caller]
    pub fn browse(&mut self, pair: &mut Requests) -> Vec<Message> {
        self.browse_from(pair, 0)
    }

    /// All messages that browsing shows.
    #[track_caller]
    pub fn browse_all(&mut self, address: &str) -> Vec<Message> {
        let mut pair = self.open_management(address);
        let mut all: Vec<Message> = Vec::new();
        loop {
            let from = all.last().map_or(0, |last| last.sequence_number() + 1);
            let page = self.browse_from(&mut pair, from);
            if page.is_empty() {
                // Whoever asks the same node again has links of the same name.
                self.detach(&pair.requests);
                self.detach(&pair.answers);
                return all;
            }
            all.extend(page);
        }
    }

    #[track_caller]
    fn browse_from(&mut self, pair: &mut Requests, from: i64) -> Vec<Message> {
        let body = Map::new().with("from-sequence-number", from).with("message-count", 100_i32);
        let answer = self.manage(pair, "com.microsoft:peek-message", body);
        if answer.status == 204 {
            return Vec::new();
        }
        assert_eq!(answer.status, 200, "{answer:?}");
        let Value::List(list) = answer.entry("messages") else { panic!("{answer:?}") };
        let octets = |entry: &Value| entry.get("message").and_then(Value::as_binary).cloned();
        list.iter().map(|entry| Message::decode(&octets(entry).expect("a message"))).collect()
    }

    /// Sends these messages and waits until all are accepted.
    #[track_caller]
    pub fn send_messages(&mut self, address: &str, messages: &[Message]) {
        let mut link = self.attach_sender(address);
        for message in messages {
            self.send_accepted(&mut link, &message.encode());
        }
        self.detach(&link);
    }

    /// Receives and completes everything there is.
    #[track_caller]
    pub fn drain_messages(&mut self, address: &str) -> Vec<Message> {
        let mut link = self.attach_receiver(address);
        let mut messages = Vec::new();
        loop {
            let batch = self.drain(&mut link, 100);
            for received in &batch {
                messages.push(received.message());
                self.complete(received);
            }
            if batch.is_empty() {
                self.detach(&link);
                return messages;
            }
        }
    }
}
