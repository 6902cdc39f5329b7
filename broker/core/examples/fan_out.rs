//! What a publish costs in the core, with the work of the shell and the store left out: 1 KiB messages
//! and more and more subscriptions, or many rules of which ten match.
//! `cargo run --release -p peeklock-core --example fan_out`

#![expect(clippy::print_stdout, reason = "printing is what this program does")]

use std::time::Duration;

use peeklock_core::{
    Broker, BrokerSettings, Command, Correlation, EntityId, EntityPath, IncomingMessage, Origin,
    QueueSettings, ReceiveMode, ReceiverId, RuleDescription, RuleFilter, SeededIds, SqlText,
    Timestamp, TopicCommand, TopicSettings,
};
use peeklock_protocol::message::Message;
use peeklock_protocol::value::{Map, Value};
use smallvec::smallvec;

/// Messages in one turn of the shard's driver.
const PER_TURN: u64 = 64;
/// Copies made for each row, about.
const COPIES: u64 = 256_000;

fn main() {
    println!("{:>44}  copies  µs a publish  ns a copy", "");
    for subscriptions in [1, 10, 100, 1000] {
        for drained in [true, false] {
            let rules = (0..subscriptions).map(|n| (n, vec![rule("r", RuleFilter::True)]));
            let what = if drained { "received and deleted" } else { "kept" };
            let mut bench = Bench::new(rules, drained);
            bench.measure(&format!("{subscriptions} subscriptions, all {what}"), subscriptions);
        }
    }
    let texts: [(&str, Text); 3] = [
        ("one comparison", |n| format!("rank >= {n}")),
        ("two comparisons", |n| format!("size > {n} AND color = 'color-{}'", n / 10)),
        ("two, in 100 texts", |n| format!("size > 10 AND color = 'color-{}'", n / 10)),
    ];
    for (what, text) in texts {
        let sql = |n| rule("r", RuleFilter::Sql(SqlText::plain(&text(n))));
        let mut bench = Bench::new((0..1000).map(|n| (n, vec![sql(n)])), true);
        bench.measure(&format!("1000 SQL filters, {what}"), 10);
    }
    let rules = (0..1000).map(|n| (n, (0..10).map(|k| correlation(k * 1000 + n)).collect()));
    Bench::new(rules, true).measure("10000 correlation filters", 10);
}

/// Of the filter with a number.
type Text = fn(u64) -> String;

fn rule(name: &str, filter: RuleFilter) -> RuleDescription {
    RuleDescription { name: name.into(), filter, action: None }
}

/// Ten filters each ask for the same values.
fn correlation(n: u64) -> RuleDescription {
    let color = Value::from(format!("color-{}", n / 10).as_str());
    let user = vec![("color".into(), color), ("size".into(), Value::Int(5_000))];
    let filter = RuleFilter::Correlation(Correlation { system: Vec::new(), user });
    rule(&format!("r{n}"), filter)
}

/// Time spent on a processor, by Linux: what others do on the machine does not count.
fn cpu_time() -> Duration {
    let numbers = std::fs::read_to_string("/proc/self/schedstat").expect("Linux tells it here");
    let nanoseconds = numbers.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its first number is the time"))
}

struct Bench {
    broker: Broker,
    wire: Vec<u8>,
    now: u64,
}

const TOPIC: EntityId = EntityId(1);
const ORIGIN: Origin = Origin { connection: 1, link: 1, delivery: 1 };

impl Bench {
    fn new(
        subscriptions: impl IntoIterator<Item = (u64, Vec<RuleDescription>)>,
        drained: bool,
    ) -> Self {
        let mut broker = Broker::new(BrokerSettings::default(), Box::new(SeededIds::new(1)));
        let now = Timestamp(0);
        let topic = EntityPath::for_new_entity("t").expect("a name");
        let settings = TopicSettings::default();
        let declare = TopicCommand::EnsureTopic { origin: None, path: topic.clone(), settings };
        broker.handle(now, Command::OfTopic(Box::new(declare)));
        for (n, rules) in subscriptions {
            let path = EntityPath::for_new_subscription(&topic, &format!("s{n}")).expect("a name");
            let declare = TopicCommand::EnsureSubscription {
                origin: None,
                path: path.clone(),
                settings: QueueSettings::default(),
                rules: Some(rules),
            };
            broker.handle(now, Command::OfTopic(Box::new(declare)));
            if drained {
                let receiver = ReceiverId { connection: 1, link: n };
                let mode = ReceiveMode::ReceiveAndDelete;
                let origin = ORIGIN;
                let open = Command::OpenReceiver { origin, receiver, path, mode, session: None };
                broker.handle(now, open);
                broker.handle(now, Command::Demand { receiver, limit: u64::MAX });
            }
        }
        broker.take_turn();
        let properties = Map::new();
        let properties = properties.with("color", "color-50").with("size", 5_000).with("rank", 9);
        let message = Message::data(vec![0x5a; 900]).with_application_properties(properties);
        Bench { broker, wire: message.to_bytes().to_vec(), now: 0 }
    }

    fn measure(&mut self, what: &str, copies: u64) {
        let turns = (COPIES / copies / PER_TURN).clamp(4, 1000);
        self.publish(1);
        let (start, before) = (cpu_time(), self.broker.counters().copied);
        for _ in 0..turns {
            self.publish(PER_TURN);
        }
        let spent = cpu_time().saturating_sub(start).as_nanos();
        let made = self.broker.counters().copied - before;
        assert_eq!(made, turns * PER_TURN * copies, "{what}: as many match as should");
        let publish = spent / u128::from(turns * PER_TURN);
        let copy = spent / u128::from(made);
        let (micros, rest) = (publish / 1000, publish % 1000 / 100);
        println!("{what:>44}  {copies:>6}  {micros:>10}.{rest}  {copy:>9}");
    }

    fn publish(&mut self, count: u64) {
        self.now += 1;
        for _ in 0..count {
            let message = IncomingMessage::from_wire(&self.wire).expect("a message");
            let (messages, transaction) = (smallvec![message], None);
            let send = Command::Send { origin: ORIGIN, entity: TOPIC, messages, transaction };
            self.broker.handle(Timestamp(self.now), send);
        }
        std::hint::black_box(self.broker.take_turn());
    }
}
