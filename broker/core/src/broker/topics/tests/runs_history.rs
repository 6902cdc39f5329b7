//! Random histories of subscriptions that hold messages of their topic without copies: whatever happens
//! to them, each message is there until it was dealt with, and then is not; and after all was dealt
//! with, nothing is left in the store.

use std::collections::{BTreeMap, BTreeSet};

use super::runs::{check_rows, is_clean};
use super::*;
use crate::command::Settlement;
use crate::effect::Browsed;
use crate::id::{ReceiverId, SequenceNumber};
use crate::testing::Dice;
use crate::time::Span;

const NAMES: [&str; 4] = ["all", "red", "acts", "expires"];

/// A message, and whether it is the copy of the rule with an action.
type Copy = (u64, bool);

/// What must be in one subscription.
#[derive(Default)]
struct Known {
    /// In it, or in its dead-letter subqueue.
    held: BTreeSet<Copy>,
    deferred: BTreeMap<SequenceNumber, Copy>,
    locked: Vec<(Delivery, Copy)>,
    /// A receiver that takes whatever comes.
    live: Option<ReceiverId>,
}

struct History {
    world: World,
    dice: Dice,
    known: BTreeMap<&'static str, Known>,
    next_body: u64,
    next_link: u64,
    done: Done,
}

/// What happened, so that we know it did.
#[derive(Default)]
struct Done {
    crashes: u64,
    gone: u64,
    deferred: u64,
    batch_deleted: u64,
    swept: u64,
}

fn copy_of(message: &crate::message::StoredMessage, section: Option<&[u8]>) -> Copy {
    let place = message.sections().body().unwrap();
    let body = std::str::from_utf8(&message.bytes()[place][5..]).unwrap();
    let section = section.or_else(|| message.application_properties()).unwrap();
    let acted = MapSection::parse(section).unwrap().get("acted").unwrap().is_some();
    (body.parse().unwrap(), acted)
}

fn delivered(delivery: &Delivery) -> Copy {
    copy_of(&delivery.message, delivery.application_properties.as_deref())
}

impl History {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let settings = BrokerSettings {
            cache_bytes_max: [0, 4_000, 1 << 20][dice.below(3)],
            window_count_max: [4, 1_000][dice.below(2)],
            page_rows_max: [1, 3, 100][dice.below(3)],
            page_bytes_max: [200, 1 << 20][dice.below(2)],
            ..BrokerSettings::default()
        };
        let mut world = World::seeded(settings, seed);
        world.reads_wait = dice.percent(70);
        world.reads_see_early = dice.percent(50);
        create_topic(&mut world, "t").unwrap();
        let known = BTreeMap::new();
        let done = Done::default();
        History { world, dice, known, next_body: 0, next_link: 0, done }
    }

    fn step(&mut self) {
        let name = NAMES[self.dice.below(NAMES.len())];
        match self.dice.below(100) {
            0..25 => self.publish(),
            25..40 => self.receive(name),
            40..60 => self.settle(name),
            60..65 => self.fetch(name),
            65..68 => self.take_dead(name),
            68..70 => self.delete_batch(name),
            70..76 => self.compare(name),
            76..80 => self.subscribe(name),
            80..81 => self.unsubscribe(name),
            81..84 => self.go_live(name),
            84..88 => self.all_at_once(name),
            88..90 => self.fail_reads(name),
            90..95 => self.crash(),
            _ => {
                let seconds = self.dice.below(15) as u64;
                self.pass(Span::from_secs(seconds));
            }
        }
        self.take_live();
        check_rows(&self.world);
    }

    fn address(name: &str) -> String {
        format!("t/Subscriptions/{name}")
    }

    fn entity(&self, name: &str) -> EntityId {
        entity(&self.world, &Self::address(name))
    }

    fn subscribe(&mut self, name: &'static str) {
        if self.known.contains_key(name) {
            return;
        }
        let mut settings = QueueSettings { attempts_max: 3, ..QueueSettings::default() };
        let mut rules = vec![all("plain")];
        match name {
            "red" => rules = vec![color("plain", "red")],
            "acts" => rules.push(with_action(color("acts", "red"), "SET acted = TRUE")),
            "expires" => settings.default_time_to_live = Some(Span::from_secs(1_000_000)),
            _ => {}
        }
        add_subscription(&mut self.world, name, settings, rules);
        self.known.insert(name, Known::default());
    }

    fn unsubscribe(&mut self, name: &'static str) {
        let path = path(&Self::address(name));
        let delete = |origin| TopicCommand::DeleteSubscription { origin, path };
        assert_eq!(ask(&mut self.world, delete).is_ok(), self.known.remove(name).is_some());
    }

    /// Hands in some messages, and says who must get them.
    fn hand_in(&mut self) -> Vec<(Origin, u64, bool)> {
        let topic = entity(&self.world, "t");
        let count = 1 + self.dice.below(4);
        let mut sent = Vec::new();
        for _ in 0..count {
            let is_red = self.dice.percent(50);
            let color = if is_red { "red" } else { "blue" };
            let body = self.next_body;
            self.next_body += 1;
            let origin = self.world.origin();
            let messages = [message(&body.to_string(), &[("color", color.into())])];
            let messages = messages.into_iter().collect();
            let send = Command::Send { origin, entity: topic, messages, transaction: None };
            self.world.handle(send);
            sent.push((origin, body, is_red));
            if self.dice.percent(20) {
                self.world.turn();
            }
        }
        sent
    }

    fn accepted(&mut self, sent: Vec<(Origin, u64, bool)>) {
        for (origin, body, is_red) in sent {
            self.world.take_reply(origin).unwrap().unwrap();
            for (name, known) in &mut self.known {
                if is_red || *name != "red" {
                    known.held.insert((body, false));
                }
                if is_red && *name == "acts" {
                    known.held.insert((body, true));
                }
            }
        }
    }

    fn publish(&mut self) {
        let sent = self.hand_in();
        self.world.turn();
        if self.dice.percent(90) {
            self.world.settle_down();
            self.accepted(sent);
        } else {
            self.crash();
        }
    }

    fn open(&mut self, name: &str, mode: ReceiveMode) -> ReceiverId {
        self.next_link += 1;
        self.world.open(self.next_link, &Self::address(name), mode)
    }

    fn receive(&mut self, name: &'static str) {
        if !self.known.contains_key(name) {
            return;
        }
        let deletes = self.dice.percent(25);
        let mode = if deletes { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
        let receiver = self.open(name, mode);
        let limit = 1 + self.dice.below(6) as u64;
        self.world.handle(Command::Demand { receiver, limit });
        self.world.settle_down();
        self.take(name, receiver);
        self.world.handle(Command::CloseReceiver { receiver });
    }

    /// Notes what a receiver got; what others got, they got.
    fn take(&mut self, name: &'static str, receiver: ReceiverId) {
        for (to, delivery) in self.world.take_deliveries() {
            if to == receiver {
                self.got(name, delivery);
            } else {
                let live = self.known.iter().find(|(_, known)| known.live == Some(to));
                let name = *live.expect("nobody else receives").0;
                self.got(name, delivery);
            }
        }
    }

    fn got(&mut self, name: &'static str, delivery: Delivery) {
        let copy = delivered(&delivery);
        let known = self.known.get_mut(name).unwrap();
        assert!(known.held.contains(&copy), "{name} should not hold {copy:?}");
        assert!(known.deferred.values().all(|other| *other != copy), "{copy:?} is deferred");
        assert!(known.locked.iter().all(|(_, other)| *other != copy), "{copy:?} is locked");
        if delivery.lock.is_some() {
            known.locked.push((delivery, copy));
        } else {
            self.gone(name, copy);
        }
    }

    fn gone(&mut self, name: &str, copy: Copy) {
        let known = self.known.get_mut(name).unwrap();
        assert!(known.held.remove(&copy), "{name} should not hold {copy:?}");
        self.done.gone += 1;
    }

    fn settlement(&mut self) -> Settlement {
        let changes = Vec::new();
        match self.dice.below(10) {
            0..5 => Settlement::Complete,
            5 => Settlement::Release,
            6 => Settlement::Abandon { changes },
            7 => Settlement::Abandon { changes: vec![("tried".into(), true.into())] },
            8 => Settlement::Defer { changes },
            _ => Settlement::DeadLetter { reason: None, description: None, changes },
        }
    }

    fn settle(&mut self, name: &'static str) {
        let count = self.dice.below(5);
        for _ in 0..count {
            let Some(known) = self.known.get_mut(name).filter(|known| !known.locked.is_empty())
            else {
                return;
            };
            let at = self.dice.below(known.locked.len());
            let (delivery, copy) = known.locked.swap_remove(at);
            let settlement = self.settlement();
            if self.dice.percent(5) {
                // Lost before it was durable: it comes again.
                let (entity, token) = (delivery.entity, delivery.lock.unwrap().token);
                let origin = Some(self.world.origin());
                let transaction = None;
                let settle = Command::Settle { origin, entity, token, settlement, transaction };
                self.world.handle(settle);
                self.world.turn();
                return self.crash();
            }
            let answer = self.world.settle(&delivery, settlement.clone());
            self.settled(name, &delivery, copy, &settlement, answer.is_ok());
        }
    }

    fn settled(
        &mut self,
        name: &'static str,
        delivery: &Delivery,
        copy: Copy,
        settlement: &Settlement,
        is_ok: bool,
    ) {
        assert!(is_ok, "{name} did not settle {copy:?}");
        match settlement {
            Settlement::Complete => self.gone(name, copy),
            Settlement::Defer { .. } => {
                self.done.deferred += 1;
                let known = self.known.get_mut(name).unwrap();
                known.deferred.insert(delivery.sequence, copy);
            }
            Settlement::Release | Settlement::Abandon { .. } | Settlement::DeadLetter { .. } => {}
        }
    }

    fn fetch(&mut self, name: &'static str) {
        let Some(known) = self.known.get(name) else { return };
        let Some((sequence, copy)) = known.deferred.first_key_value() else { return };
        let (sequence, copy) = (*sequence, *copy);
        let entity = self.entity(name);
        let mode = ReceiveMode::ReceiveAndDelete;
        let ask = |origin| Command::ReceiveDeferred {
            origin,
            entity,
            sequences: vec![sequence],
            mode,
            session: None,
        };
        let reply = self.world.ask(ask);
        let Ok(Reply::DeferredReceived { deliveries }) = reply else { panic!("{reply:?}") };
        assert_eq!(delivered(&deliveries[0]), copy);
        self.known.get_mut(name).unwrap().deferred.remove(&sequence);
        self.gone(name, copy);
    }

    fn take_dead(&mut self, name: &'static str) {
        if self.known.contains_key(name) {
            for delivery in dead_from(&mut self.world, name) {
                self.gone(name, delivered(&delivery));
            }
        }
    }

    fn browse_all(&mut self, entity: EntityId) -> Vec<Browsed> {
        let (mut all, mut from) = (Vec::<Browsed>::new(), 0);
        let (count_max, bytes_max) = (1 + self.dice.below(5), [100, 1 << 20][self.dice.below(2)]);
        loop {
            let page =
                self.world.browse(entity, from, u32::try_from(count_max).unwrap(), bytes_max);
            let Some(last) = page.last() else { return all };
            from = last.sequence.0 + 1;
            all.extend(page);
            assert!(all.is_sorted_by_key(|browsed| browsed.sequence));
        }
    }

    /// All that is in a subscription and its dead-letter subqueue.
    fn see(&mut self, name: &str) -> BTreeSet<Copy> {
        let dead = entity(&self.world, &format!("{}/$DeadLetterQueue", Self::address(name)));
        let main = self.entity(name);
        let mut seen = BTreeSet::new();
        for entity in [main, dead] {
            for browsed in self.browse_all(entity) {
                let section = browsed.application_properties.as_deref();
                let copy = copy_of(&browsed.message, section);
                assert!(seen.insert(copy), "{name} holds {copy:?} twice");
            }
        }
        seen
    }

    fn compare(&mut self, name: &'static str) {
        if self.known.contains_key(name) {
            let seen = self.see(name);
            assert_eq!(seen, self.known[name].held, "what {name} holds");
        }
    }

    fn delete_batch(&mut self, name: &'static str) {
        let Some(known) = self.known.get(name) else { return };
        let before_count = known.held.len();
        let entity = self.entity(name);
        let before = self.world.now.plus(Span(1));
        let (count_max, session) = (1 + u32::try_from(self.dice.below(8)).unwrap(), None);
        let ask = |origin| Command::DeleteBatch { origin, entity, count_max, before, session };
        let reply = self.world.ask(ask);
        let Ok(Reply::BatchDeleted { count }) = reply else { panic!("{reply:?}") };
        self.take_live();
        let seen = self.see(name);
        let known = self.known.get_mut(name).unwrap();
        assert!(seen.is_subset(&known.held), "{name} holds more than it should");
        assert_eq!(seen.len() + count as usize, before_count, "{name} lost others");
        let is_there = |(_, copy): &(Delivery, Copy)| seen.contains(copy);
        assert!(known.locked.iter().all(is_there), "what is locked stays");
        assert!(
            known.deferred.values().all(|copy| seen.contains(copy)),
            "so does what is not active"
        );
        known.held = seen;
        self.done.batch_deleted += u64::from(count);
    }

    fn go_live(&mut self, name: &'static str) {
        let Some(known) = self.known.get_mut(name) else { return };
        if let Some(receiver) = known.live.take() {
            self.world.handle(Command::CloseReceiver { receiver });
            return;
        }
        let receiver = self.open(name, ReceiveMode::ReceiveAndDelete);
        self.known.get_mut(name).unwrap().live = Some(receiver);
        self.world.handle(Command::Demand { receiver, limit: 20 });
        self.world.settle_down();
    }

    fn take_live(&mut self) {
        let nobody = ReceiverId { connection: 0, link: 0 };
        self.take("", nobody);
    }

    /// Receives, settles and publishes while rows are being read.
    fn all_at_once(&mut self, name: &'static str) {
        if !self.known.contains_key(name) {
            return;
        }
        let receiver = self.open(name, ReceiveMode::PeekLock);
        let limit = 1 + self.dice.below(6) as u64;
        self.world.handle(Command::Demand { receiver, limit });
        self.world.turn();
        self.world.sync_one();
        let mut settling = Vec::new();
        for (delivery, copy) in std::mem::take(&mut self.known.get_mut(name).unwrap().locked) {
            let settlement = self.settlement();
            let (entity, token) = (delivery.entity, delivery.lock.unwrap().token);
            let origin = self.world.origin();
            self.world.handle(Command::Settle {
                origin: Some(origin),
                entity,
                token,
                settlement: settlement.clone(),
                transaction: None,
            });
            settling.push((origin, delivery, copy, settlement));
            if self.dice.percent(30) {
                self.world.turn();
            }
            if self.dice.percent(30) {
                self.world.sync_one();
                self.world.answer_read(0);
            }
        }
        let sent = self.hand_in();
        self.world.answer_read(1);
        self.world.settle_down();
        for (origin, delivery, copy, settlement) in settling {
            let answer = self.world.take_reply(origin).unwrap();
            match &settlement {
                // It may have been delivered again, and then is noted below.
                Settlement::Complete | Settlement::Defer { .. } => {
                    self.settled(name, &delivery, copy, &settlement, answer.is_ok());
                }
                Settlement::Release
                | Settlement::Abandon { .. }
                | Settlement::DeadLetter { .. } => {
                    assert!(answer.is_ok());
                }
            }
        }
        self.accepted(sent);
        self.take(name, receiver);
        self.world.handle(Command::CloseReceiver { receiver });
    }

    fn fail_reads(&mut self, name: &'static str) {
        self.world.reads_fail = true;
        self.receive(name);
        self.pass(Span::from_secs(12));
        self.world.reads_fail = false;
        self.pass(Span::from_secs(2));
    }

    fn pass(&mut self, span: Span) {
        self.world.pass(span);
        self.world.settle_down();
        let now = self.world.now;
        for known in self.known.values_mut() {
            known.locked.retain(|(delivery, _)| now < delivery.lock.unwrap().until);
        }
        self.take_live();
    }

    fn crash(&mut self) {
        self.take_live();
        self.done.crashes += 1;
        self.done.swept += self.world.broker.counters().swept;
        self.world.crash();
        for known in self.known.values_mut() {
            known.locked.clear();
            known.live = None;
        }
    }

    /// Takes out all there is: exactly what must be there. Then nothing is left.
    fn finish(mut self) -> Done {
        self.world.settle_down();
        self.pass(Span::from_secs(400));
        for name in NAMES {
            self.compare(name);
            while self.known.get(name).is_some_and(|known| !known.deferred.is_empty()) {
                self.fetch(name);
            }
            if self.known.contains_key(name) {
                for delivery in take_from(&mut self.world, name) {
                    self.gone(name, delivered(&delivery));
                }
                self.take_dead(name);
                let left = &self.known[name].held;
                assert!(left.is_empty(), "{name} lost {left:?}");
            }
        }
        check_rows(&self.world);
        self.pass(Span::from_secs(30));
        assert!(is_clean(&self.world), "something is left");
        self.done.swept += self.world.broker.counters().swept;
        self.done
    }
}

#[test]
fn histories_keep_every_message_until_it_was_dealt_with_and_nothing_longer() {
    let mut all = Done::default();
    for seed in 1..150 {
        let mut history = History::new(seed);
        let run = std::panic::AssertUnwindSafe(|| {
            for _ in 0..150 {
                history.step();
            }
            history.finish()
        });
        let done = std::panic::catch_unwind(run).unwrap_or_else(|_| panic!("seed {seed} failed"));
        all.crashes += done.crashes;
        all.gone += done.gone;
        all.deferred += done.deferred;
        all.batch_deleted += done.batch_deleted;
        all.swept += done.swept;
    }
    assert!(all.crashes > 500 && all.gone > 5_000, "{} crashes, {} gone", all.crashes, all.gone);
    let rare = (all.deferred, all.batch_deleted, all.swept);
    assert!(rare.0 > 50 && rare.1 > 300 && rare.2 > 1_000, "{rare:?}");
}
