//! Random histories of topics: whatever happens in between, with crashes, each subscription gets each
//! accepted message once for its plain rules and once for each rule with an action.

use std::collections::BTreeMap;

use super::*;
use crate::command::Settlement;
use crate::testing::Dice;
use crate::time::Span;

const COLORS: [&str; 3] = ["red", "green", "blue"];
const SUBSCRIPTIONS: [&str; 4] = ["a", "b", "c", "d"];

/// A message, and in which rule's copy.
type Copy = (u64, Option<String>);

/// What a client knows of one subscription: its rules, by name, and the copies it must hold.
#[derive(Clone, Default, Debug)]
struct Known {
    rules: BTreeMap<String, Wants>,
    held: BTreeMap<Copy, u64>,
}

/// What a rule lets through, and whether it has an action.
#[derive(Clone, Debug)]
struct Wants {
    color: Option<&'static str>,
    size_above: Option<u64>,
    acts: bool,
}

impl Wants {
    fn matches(&self, color: &str, size: u64) -> bool {
        self.color.is_none_or(|wanted| wanted == color)
            && self.size_above.is_none_or(|above| above < size)
    }

    fn rule(&self, name: &str) -> RuleDescription {
        let rule = match (self.color, self.size_above) {
            (None, None) => all(name),
            (Some(wanted), None) => color(name, wanted),
            (None, Some(above)) => sql(name, &format!("size > {above}")),
            (Some(wanted), Some(above)) => {
                sql(name, &format!("color = '{wanted}' AND size > {above}"))
            }
        };
        if self.acts { with_action(rule, "SET acted = TRUE") } else { rule }
    }
}

struct History {
    world: World,
    dice: Dice,
    known: BTreeMap<&'static str, Known>,
    next_body: u64,
    next_link: u64,
    crashes: u64,
    taken: u64,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let settings = BrokerSettings {
            cache_bytes_max: [0, 4_000, 1 << 20][dice.below(3)],
            window_count_max: [4, 1_000][dice.below(2)],
            page_rows_max: [1, 3, 100][dice.below(3)],
            ..BrokerSettings::default()
        };
        let mut world = World::seeded(settings, seed);
        create_topic(&mut world, "t").unwrap();
        let known = BTreeMap::new();
        History { world, dice, known, next_body: 0, next_link: 0, crashes: 0, taken: 0 }
    }

    fn step(&mut self) {
        let name = SUBSCRIPTIONS[self.dice.below(SUBSCRIPTIONS.len())];
        super::runs::check_rows(&self.world);
        match self.dice.below(100) {
            0..40 => self.publish(),
            40..60 => self.take(name),
            60..75 => self.change_rules(name),
            75..80 => self.subscribe(name),
            80..83 => self.unsubscribe(name),
            83..90 => self.crash(),
            _ => {
                self.world.pass(Span(self.dice.below(500) as u64));
                self.world.settle_down();
            }
        }
    }

    /// Several messages in one or more turns. Those whose answer was not awaited are lost by a crash
    /// with all their copies, or kept with all.
    fn publish(&mut self) {
        let (color, size) = (COLORS[self.dice.below(3)], self.dice.below(10) as u64);
        let properties = [("color", color.into()), ("size", size.into())];
        let body = self.next_body;
        self.next_body += 1;
        let topic = entity(&self.world, "t");
        let origin = self.world.origin();
        let messages = [message(&body.to_string(), &properties)].into_iter().collect();
        self.world.handle(Command::Send { origin, entity: topic, messages, transaction: None });
        self.world.turn();
        let survives = self.dice.percent(90);
        if survives {
            self.world.settle_down();
        } else {
            self.crash();
        }
        let answer = self.world.take_reply(origin);
        assert_eq!(answer.is_some_and(|answer| answer.is_ok()), survives);
        if !survives {
            return;
        }
        for known in self.known.values_mut() {
            let rules = known.rules.iter().filter(|(_, wants)| wants.matches(color, size));
            let (acting, plain): (Vec<_>, Vec<_>) = rules.partition(|(_, wants)| wants.acts);
            let plain = (!plain.is_empty()).then_some(None);
            let copies = acting.into_iter().map(|(name, _)| Some(name.clone())).chain(plain);
            let copies: Vec<_> = copies.collect();
            for copy in copies {
                *known.held.entry((body, copy)).or_default() += 1;
            }
        }
    }

    fn subscribe(&mut self, name: &'static str) {
        if !self.known.contains_key(name) {
            add_subscription(&mut self.world, name, QueueSettings::default(), vec![]);
            self.known.insert(name, Known::default());
        }
    }

    fn unsubscribe(&mut self, name: &'static str) {
        let path = path(&format!("t/Subscriptions/{name}"));
        let delete = |origin| TopicCommand::DeleteSubscription { origin, path };
        let reply = ask(&mut self.world, delete);
        assert_eq!(reply.is_ok(), self.known.remove(name).is_some());
    }

    fn change_rules(&mut self, name: &'static str) {
        let rule = ["r1", "r2", "r3", "r4"][self.dice.below(4)];
        let Some(known) = self.known.get_mut(name) else { return };
        if self.dice.percent(30) {
            let reply = remove_rule(&mut self.world, name, rule);
            assert_eq!(reply.is_ok(), known.rules.remove(rule).is_some());
            return;
        }
        let wants = Wants {
            color: self.dice.percent(50).then(|| COLORS[self.dice.below(3)]),
            size_above: self.dice.percent(50).then(|| self.dice.below(10) as u64),
            acts: self.dice.percent(40),
        };
        let reply = add_rule(&mut self.world, name, wants.rule(rule));
        assert_eq!(reply.is_err(), known.rules.contains_key(rule));
        known.rules.entry(rule.into()).or_insert(wants);
    }

    /// Receives some messages and settles them.
    fn take(&mut self, name: &'static str) {
        if !self.known.contains_key(name) {
            return;
        }
        self.next_link += 1;
        let address = format!("t/Subscriptions/{name}");
        let receiver = self.world.open(self.next_link, &address, ReceiveMode::PeekLock);
        let limit = self.dice.below(6) as u64;
        let deliveries = self.world.receive(receiver, limit);
        // What is given back is for whoever comes next.
        self.world.handle(Command::CloseReceiver { receiver });
        for delivery in deliveries {
            if self.dice.percent(80) {
                self.world.settle(&delivery, Settlement::Complete).unwrap();
                self.gone(name, &delivery);
            } else {
                self.world.settle(&delivery, Settlement::Release).unwrap();
            }
        }
    }

    fn gone(&mut self, name: &str, delivery: &Delivery) {
        let place = delivery.message.sections().body().unwrap();
        let body = std::str::from_utf8(&delivery.message.bytes()[place][5..]).unwrap();
        let acted = property(delivery, "acted").is_some();
        let rule = property(delivery, "RuleName").map(|name| name.as_str().unwrap().to_owned());
        assert_eq!(acted, rule.is_some());
        let copy = (body.parse().unwrap(), rule);
        let held = self.known.get_mut(name).and_then(|known| known.held.remove(&copy));
        assert_eq!(held, Some(1), "{name} should not hold {copy:?}");
        self.taken += 1;
    }

    fn crash(&mut self) {
        self.crashes += 1;
        self.world.crash();
    }

    /// Takes out all there is: exactly what must be there.
    fn finish(mut self) -> (u64, u64) {
        self.world.settle_down();
        for name in SUBSCRIPTIONS {
            if self.known.contains_key(name) {
                for delivery in take_from(&mut self.world, name) {
                    self.gone(name, &delivery);
                }
                assert!(dead_from(&mut self.world, name).is_empty());
            }
        }
        for (name, known) in &self.known {
            assert!(known.held.is_empty(), "{name} lost {:?}", known.held);
        }
        self.world.pass(Span::from_secs(30));
        assert!(super::runs::is_clean(&self.world), "something is left");
        (self.crashes, self.taken)
    }
}

#[test]
fn histories_give_each_subscription_exactly_its_copies() {
    let (mut crashes, mut taken) = (0, 0);
    for seed in 1..200 {
        let mut history = History::new(seed);
        let run = std::panic::AssertUnwindSafe(|| {
            for _ in 0..150 {
                history.step();
            }
            history.finish()
        });
        let seen = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} failed"));
        crashes += seen.0;
        taken += seen.1;
    }
    assert!(crashes > 1000 && taken > 5000, "{crashes} crashes, {taken} copies taken");
}
